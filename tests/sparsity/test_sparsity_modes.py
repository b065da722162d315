"""A mode of sparsity training is one file and one line in the table: all else takes what it needs from there."""

import copy
import runpy
import sys

import pytest
import torch

from helpers.repository import REPOSITORY
from helpers.sparsity_runs import arguments, residual, run_of, set_gammas, train
from ultralytics.cfg import check_cfg
from ultralytics.pruning import PruningError
from ultralytics.pruning.sparsity import MODES, Settings
from ultralytics.pruning.sparsity.modes import Mode, Traits
from ultralytics.pruning.stages.sparsity import default_strengths, sparsity_settings


class Cutoff(Mode):
    """Sets gammas to zero that are below a level which rises by `sr` in an epoch."""

    def __init__(self, model, channel_map, scales, asked):
        self.faded, self.level, self._scales, self._asked = scales.gammas, 0.0, scales, asked

    def epoch_starts(self, epoch, epochs):
        self.strength = self._asked.strength(epoch, epochs)

    def after_step(self, share):
        self.level += self.strength * share
        values = self._scales.values()
        gone = self._scales.free & (values.abs() < self.level)
        self._scales.write(self._scales.gammas, values.masked_fill(gone, 0.0))

    def state(self):
        return {"cutoff": {"level": self.level}}

    def load(self, state):
        self.strength, self.level = state["strength"], state["cutoff"]["level"]

    def findings(self, ending):
        return () if ending.sparsity else (f"nothing is below {self.level:g}",)


CUTOFF = Traits(
    Cutoff,
    "sets to zero what is below a level that rises",
    default_strength=lambda epochs: 1 / epochs,
    default_said="1 / epochs",
    for_a_target="steered",
    least_epochs=2,
    cut_by=(("--zeros",), "It has made zeros."),
)
ASKED = {"sparsity": "cutoff", "sr": 0.1, "sr_schedule": "constant"}


@pytest.fixture(autouse=True)
def cutoff(monkeypatch):
    monkeypatch.setitem(MODES, "cutoff", CUTOFF)


def network():
    net = residual()
    set_gammas(net, a=[1.0] * 4, b=[0.9, 0.8, 0.3, 0.2, 0.1, 0.05], c=[1.0] * 4)
    return net


def test_a_new_mode_fades_and_goes_on_from_its_state(tmp_path):
    whole, halves = network(), network()
    run = run_of(whole, **ASKED)
    assert str(run).startswith("cutoff, sr=0.1 (constant)") and run.findings() == ("nothing is below 0",)
    train(whole, run, epochs=4)
    norm = whole.b[1].weight
    assert run.strength == 0.1 and run.mode.level == pytest.approx(0.4)
    assert (norm == 0).tolist() == [False, False, True, True, True, True] and run.findings() == ()
    average = copy.deepcopy(network())
    run.copy_zeros(average)
    assert torch.equal(average.b[1].weight == 0, norm == 0)
    first = run_of(halves, **ASKED)
    train(halves, first, 4, end=2)
    torch.save(first.state(), tmp_path / "state.pt")
    second = run_of(halves, **ASKED)
    second.load(torch.load(tmp_path / "state.pt", weights_only=True))
    train(halves, second, 4, start=2)
    assert second.mode.level == pytest.approx(0.4) and (halves.b[1].weight == 0).sum() == 4


def test_checks_defaults_and_messages_know_it(monkeypatch, capsys):
    with pytest.raises(PruningError, match="did you mean 'cutoff'"):
        Settings.of(arguments(sparsity="cutof", sr=0.1))
    with pytest.raises(PruningError, match="sparsity=cutoff takes a strength, sr; for a target use sparsity=steered"):
        Settings.of(arguments(sparsity="cutoff", target_sparsity=0.5))
    with pytest.raises(PruningError, match="sparsity=cutoff needs at least 2 epochs, these are 1"):
        run_of(network(), **ASKED).check(torch.optim.SGD(network().parameters(), lr=0.1), 1, epochs=1)
    with pytest.raises(ValueError, match=r"a mode: subgradient, .*, cutoff"):
        check_cfg({"sparsity": 3})
    assert sparsity_settings({"sparsity": "cutoff", "epochs": 20}) == {"sr": 1 / 20}
    assert default_strengths().endswith("all others: 1 / epochs")
    monkeypatch.setattr(sys, "argv", ["train_sparsity.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(REPOSITORY / "train_sparsity.py"), run_name="__main__")
    assert "steered,cutoff}" in capsys.readouterr().out
