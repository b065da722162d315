"""A sparsity training that was saved and loaded anywhere goes on as if nothing had been."""

import copy

import pytest
import torch

from helpers.networks import csp_net, set_weights
from ultralytics.pruning.selection.limits import Limits
from ultralytics.pruning.selection.targets import Target
from ultralytics.pruning.sparsity import Settings, SparsityRun

EPOCHS, BATCHES, STEP = 10, 4, 2  # an optimizer step for every second batch
TARGET = {"target": Target("prune_ratio", 0.4), "limits": Limits(floor=0)}
MODES = {
    "subgradient": {"sr": 0.05, "sr_bias": 0.02},
    "proximal": {"sr": 0.1, "sr_bias": 0.02},
    "proximal to a target": {**TARGET, "sr_bias": 0.1},
    "group": {"sr": 0.1, "sr_bias": 0.02, "schedule": "cosine"},
    "group to a target": {**TARGET, "sr_bias": 0.1},
    "group_sl": {"sr": 0.5},
    "group_reg": TARGET,
    "steered": TARGET,
}
SAVED_BEHIND = [0, 1, 7, 21, 23, 24, 25, 27, 28, 29, 31, 35]  # batches; 24 ends 60 % of the run, 28 ends 70 %


class Training:
    """A network, its optimizer and its sparsity run, fed with gradients that depend on the batch's number alone."""

    def __init__(self, mode: str, model=None):
        self.mode = mode
        self.model = set_weights(csp_net().float()) if model is None else model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.run = SparsityRun(self.model, Settings(mode=mode.split()[0], **MODES[mode]))
        self.run.attach(self.optimizer)

    def batch(self, number: int) -> None:
        epoch, place = divmod(number, BATCHES)
        if not place:
            self.run.epoch_starts(epoch, EPOCHS)
        self.run.batch_starts(BATCHES)
        generator = torch.Generator().manual_seed(number)
        for parameter in self.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        if place % STEP == STEP - 1:
            if self.mode == "subgradient":
                self.run.add_to_gradients(self.optimizer)
            self.optimizer.step()

    def loaded_anew(self) -> "Training":
        """The same from what is saved."""
        other = Training(self.mode, copy.deepcopy(self.model))
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        other.run.load(copy.deepcopy(self.run.state()))
        return other


@pytest.mark.parametrize("mode", MODES)
def test_it_goes_on_as_if_it_had_not_been_interrupted(mode):
    training, others = Training(mode), []
    for number in range(EPOCHS * BATCHES):
        for other in others:
            other.batch(number)
        training.batch(number)
        for other in others:
            for (name, own), found in zip(training.model.named_parameters(), other.model.parameters(), strict=True):
                assert torch.equal(own, found), (number, name)
            assert other.run.strength == training.run.strength and other.run.mode.travel == training.run.mode.travel
        if number in SAVED_BEHIND:
            others.append(training.loaded_anew())
    state = training.run.state()
    if "target" in MODES[mode]:
        chosen = state["regulation"]["held"] if "regulation" in state else next(iter(state.values()))["removed"]
        assert chosen.any(), "nothing was chosen: the test shows nothing"


@pytest.mark.parametrize("mode", MODES)
def test_a_state_is_plain_data(mode, tmp_path):
    training = Training(mode)
    for number in range(3):
        training.batch(number)
    torch.save(training.run.state(), tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)
