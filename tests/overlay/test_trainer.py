"""The edits of the trainer: the pull on the gammas, and that a pruned network stays as it is."""

from pathlib import Path

import cv2
import pytest
import torch
import yaml
from torch import nn

from helpers.networks import small_yolo
from helpers.processes.python import run_python
from helpers.repository import REPOSITORY
from helpers.task_data import MODELS, write_data
from ultralytics import YOLO
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import PruningError, Scoring, load, plans_of, prune_network, save, trace
from ultralytics.pruning.networks.rebuild import differing_layer, is_pruned
from ultralytics.pruning.selection.zeros import share_at_zero
from ultralytics.pruning.sparsity import SparsityRun

NORMS = sum(isinstance(module, nn.BatchNorm2d) for module in small_yolo().modules())


@pytest.mark.parametrize("task", MODELS)
def test_one_step_moves_the_gammas_as_computed_by_hand(task, tmp_path, monkeypatch):
    """SGD with Nesterov momentum m, first step: gamma -= lr * (1 + m) * (gradient + s * sign(gamma))."""
    sr, lr, momentum = 0.5, 0.01, 0.8
    seen = {}

    def before_pull(self, optimizer):
        seen["strength"] = self.strength
        seen["loss_gradients"] = [gamma.grad.clone() for gamma in self.scales.gammas]
        seen["before"] = [gamma.detach().clone() for gamma in self.scales.gammas]
        seen["masks"] = self.scales.masks
        pull(self, optimizer)

    def after_step(trainer):
        seen["after"] = [gamma.detach().clone() for gamma in trainer.sparsity.scales.gammas]
        seen["trainer"] = trainer

    pull = SparsityRun.add_to_gradients
    monkeypatch.setattr(SparsityRun, "add_to_gradients", before_pull)
    model = YOLO(MODELS[task])
    for module in model.model.modules():
        if isinstance(module, nn.BatchNorm2d):  # signs of both kinds
            nn.init.uniform_(module.weight, -1, 1)
    save(model.model, tmp_path / "start.pt")
    model = YOLO(tmp_path / "start.pt")
    model.add_callback("on_train_batch_end", after_step)
    model.train(data=write_data(task, tmp_path / "data"), sr=sr, lr0=lr, momentum=momentum, optimizer="SGD", epochs=1,
                imgsz=64, batch=8, nbs=8, warmup_epochs=0, device="cpu", workers=0, plots=False, val=False,
                project=str(tmp_path), name="run")  # fmt: skip
    assert seen["strength"] == sr
    assert seen["trainer"].amp is False
    assert not seen["trainer"].scaler.is_enabled()
    moved = 0
    for before, after, gradient, mask in zip(
        seen["before"], seen["after"], seen["loss_gradients"], seen["masks"], strict=True
    ):
        expected = before - lr * (1 + momentum) * (gradient + sr * mask * before.sign())
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-7)
        moved += int(mask.sum())
    channel_map = trace(seen["trainer"].model)
    assert moved == sum(int(channel_map.free[layer.outputs].sum()) for layer in channel_map.norms())


@pytest.fixture(scope="module")
def pruned(small, tmp_path_factory) -> Path:
    """A pruned small detector of ten classes."""
    folder = tmp_path_factory.mktemp("pruned")
    model = DetectionModel(small, nc=10, verbose=False)
    model.names = {i: str(i) for i in range(10)}
    model.task = "detect"
    result = prune_network(model, prune_ratio=0.5, scoring=Scoring())
    save(result.model, folder / "pruned.pt")
    return folder / "pruned.pt"


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def test_finetune_keeps_the_network_also_on_resume(pruned, quick, tmp_path, caplog):
    wanted = shapes(load(pruned)[0])
    model = YOLO(pruned)
    stop = {"at": 1}

    def interrupt(trainer):
        if trainer.epoch + 1 == stop["at"]:
            raise KeyboardInterrupt

    model.add_callback("on_fit_epoch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.train(finetune=True, project=str(tmp_path), name="run", **{**quick, "epochs": 2})
    last = tmp_path / "run" / "weights" / "last.pt"
    network, content = load(last)
    assert shapes(network) == wanted
    assert "requires_grad" not in caplog.text  # the loaded network is frozen; not a warning for each parameter
    assert content["epoch"] == 0
    assert content["train_args"]["finetune"] is True

    resumed = YOLO(last)
    resumed.train(resume=True)
    network, content = load(last)
    assert shapes(network) == wanted
    assert content["epoch"] == -1
    assert len((tmp_path / "run" / "results.csv").read_text().splitlines()) == 3
    assert len(plans_of(network)) == 1
    assert content["train_args"]["finetune"] is True


@pytest.mark.parametrize(
    "arguments",
    [{}, {"pretrained": False}, {"pretrained": "yolov8n.pt"}, {"finetune": True, "pretrained": False}, {"sr": 0.01}],
)
def test_a_pruned_network_is_never_rebuilt(pruned, quick, tmp_path, arguments):
    with pytest.raises(PruningError, match=r"rebuil|replace"):
        YOLO(pruned).train(project=str(tmp_path), name="run", **quick, **arguments)
    assert not (tmp_path / "run" / "weights" / "last.pt").exists()


@pytest.mark.parametrize("pretrained", [True, False])
def test_the_trainer_alone_refuses_too(pruned, quick, tmp_path, pretrained):
    overrides = {**quick, "model": str(pruned), "project": str(tmp_path), "name": "run", "pretrained": pretrained}
    with pytest.raises(PruningError, match="pruned"):
        DetectionTrainer(overrides=overrides).train()


def test_finetune_needs_a_pt_of_the_same_classes(pruned, small, quick, tmp_path):
    with pytest.raises(PruningError, match=r"trains the network of a \.pt"):
        YOLO(small).train(finetune=True, project=str(tmp_path), **quick)
    other = yaml.safe_load(Path(quick["data"]).read_text())
    other |= {"names": {i: f"n{i}" for i in range(12)}, "nc": 12}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(PruningError, match="10 classes, but the data set has 12"):
        YOLO(pruned).train(finetune=True, project=str(tmp_path), **{**quick, "data": str(tmp_path / "other.yaml")})


def test_a_network_cut_in_memory_is_not_replaced_by_its_yaml(small, quick, tmp_path):
    model = YOLO(small)
    model.model = prune_network(model.model, prune_ratio=0.3, scoring=Scoring()).model
    with pytest.raises(PruningError, match=r"saved with ultralytics\.pruning\.save"):
        model.train(project=str(tmp_path), name="run", **quick)


def test_a_finetuned_student_keeps_its_widths(pruned, small, quick, tmp_path):
    wanted = shapes(load(pruned)[0])
    teacher = tmp_path / "teacher.pt"
    parent = DetectionModel(small, nc=10, verbose=False)
    parent.task = "detect"
    save(parent, teacher)
    YOLO(pruned).train(finetune=True, distill_model=str(teacher), project=str(tmp_path), name="run", **quick)
    assert shapes(load(tmp_path / "run" / "weights" / "last.pt")[0]) == wanted


def test_a_ddp_worker_has_the_edits_and_the_network(pruned, quick, tmp_path):
    """The worker file and the pickled state that the release writes, run in a process of its own."""
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

    overrides = {**quick, "model": str(pruned), "project": str(tmp_path), "name": "run", "finetune": True, "sr": 0.01}
    trainer = DetectionTrainer(overrides=overrides)
    trainer.model = trainer.get_model(weights=load(pruned)[0], cfg=None)
    file = generate_ddp_file(trainer)
    trainer.leave_folder()  # the worker is not started from this process's training, which would let it in
    try:
        done = run_python(file, cwd=tmp_path, YOLO_CONFIG_DIR=str(REPOSITORY / ".ultralytics"))
    finally:
        ddp_cleanup(trainer, file)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "prunable gammas" in done.stdout + done.stderr
    network, content = load(tmp_path / "run" / "weights" / "last.pt")
    assert shapes(network) == shapes(load(pruned)[0])
    assert content["train_args"]["sr"] == 0.01


@pytest.mark.parametrize("name", ["yolov8n", "yolov8n-seg", "yolov8n-cls", "yolo11n", "yolo12n", "yolo26n", "yolov5n"])
def test_networks_as_their_yaml_says_are_not_taken_for_pruned(name):
    assert not is_pruned(YOLO(f"{name}.yaml").model)


def test_the_class_branch_may_have_the_width_of_other_weights():
    """The release gives a new network the class branch of the weights it loads, whose width follows their classes."""
    model = DetectionModel("yolov8n.yaml", nc=10, verbose=False)
    model.load(DetectionModel("yolov8n.yaml", nc=80, verbose=False))
    assert model.model[-1].cv3[0][0].conv.out_channels == 80
    assert differing_layer(model) is None
    assert not is_pruned(model)


def test_sparsity_warns_under_adam_and_says_what_it_does(small, quick, tmp_path, caplog):
    caplog.set_level("INFO", logger="ultralytics")
    YOLO(small).train(sr=0.01, project=str(tmp_path), name="run", **{**quick, "optimizer": "AdamW"})
    text = caplog.text
    assert "sr=0.01 (linear)" in text and f"prunable gammas of {NORMS} batch norms" in text
    assert "Use optimizer=SGD" in text
    assert "amp: false" in (tmp_path / "run" / "args.yaml").read_text()


@pytest.mark.pictures
def test_a_person_sees_the_sparsity(small, quick, tmp_path, monkeypatch, caplog):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from ultralytics.engine import trainer as edited

    lines = []
    bar = edited.TQDM.__mro__[1]
    monkeypatch.setattr(bar, "set_description", lambda self, text: lines.append(text))
    caplog.set_level("INFO", logger="ultralytics")
    asked = {"sparsity": "proximal", "sr": 0.6, "sr_schedule": "constant", "optimizer": "AdamW"}
    asked |= {"epochs": 3, "plots": True, "nbs": 8}
    YOLO(small).train(project=str(tmp_path), name="run", **{**quick, **asked})
    run = tmp_path / "run"
    header, *rows = [line.split(",") for line in (run / "results.csv").read_text().splitlines()]
    shares = [float(row[header.index("metrics/sparsity")]) for row in rows]
    assert shares[0] == 0 and 0.9 < shares[1] <= shares[2] <= 1  # from 1 by 0.6 an epoch
    heading = next(record.getMessage() for record in caplog.records if "box_loss" in record.getMessage())
    assert heading.split()[-1] == "sparsity"
    assert len(lines[-1].split()) == len(heading.split())
    assert float(lines[-1].split()[-1]) == pytest.approx(shares[1], abs=1e-3)
    assert "amp: true" in (run / "args.yaml").read_text()
    for picture in ("gamma.png", "results.png"):
        assert cv2.imread(str(run / picture)) is not None
    events = EventAccumulator(str(run), size_guidance={"histograms": 0}).Reload()
    assert [event.value for event in events.Scalars("sparsity/faded")] == pytest.approx(shares, abs=1e-4)
    assert [event.value for event in events.Scalars("sparsity/strength")] == pytest.approx([0.6] * 3)
    histograms = events.Tags()["histograms"]
    assert "gamma" in histograms and "gamma/model.0.bn" in histograms and len(histograms) == 1 + NORMS
    assert not list((run / "weights").glob("resume-*"))


def test_trainings_in_one_process_do_not_see_each_others_column(small, quick, tmp_path, monkeypatch):
    """One for sparsity inside of one without, whose next lines are as wide as before, and as its heading."""
    from ultralytics.engine import trainer as edited

    lines = []
    monkeypatch.setattr(edited.TQDM.__mro__[1], "set_description", lambda self, text: lines.append(text.split()))
    common = {**quick, "model": small, "project": str(tmp_path), "fraction": 0.5, "val": False, "batch": 16}
    outer = DetectionTrainer(overrides={**common, "name": "outer", "epochs": 2})
    inner = DetectionTrainer(overrides={**common, "name": "inner", "sparsity": "proximal", "sr": 0.01})

    def train_inner(trainer):
        if trainer.epoch == 0:
            lines.append("inner")
            inner.train()
            lines.append("outer")

    outer.add_callback("on_train_epoch_end", train_inner)
    outer.train()
    begin, end = lines.index("inner"), lines.index("outer")
    before, inside, after = lines[:begin], lines[begin + 1 : end], lines[end + 1 :]
    assert before and inside and after
    columns = len(outer.progress_string().split())
    assert {len(line) for line in (*before, *after)} == {columns}
    assert {len(line) for line in inside} == {columns + 1}
    assert len(inner.progress_string().split()) == columns + 1


def test_a_run_in_which_nothing_fades_says_so_at_its_end(small, quick, tmp_path, caplog):
    YOLO(small).train(sr=1e-5, project=str(tmp_path), name="run", **quick)
    assert "SPARSITY: the pull was too weak" in caplog.text and "sparsity=steered" in caplog.text


def test_a_run_whose_gammas_have_faded_goes_on(small, quick, tmp_path):
    """Its strength would be refused at the start of a run."""
    asked = {"sparsity": "proximal", "sr": 0.5, "sr_schedule": "constant", "epochs": 4, "nbs": 8}
    model = YOLO(small)

    def interrupt(trainer):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    model.add_callback("on_fit_epoch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.train(project=str(tmp_path), name="run", **{**quick, **asked})
    last = tmp_path / "run" / "weights" / "last.pt"
    YOLO(last).train(resume=True)
    assert load(last)[1]["epoch"] == -1


def test_a_broken_tensorboard_is_none(small, quick, tmp_path, monkeypatch):
    import sys

    class Broken:
        @property
        def SummaryWriter(self):
            raise TypeError("Descriptors cannot be created directly.")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", Broken())
    YOLO(small).train(sr=0.01, project=str(tmp_path), name="run", **quick)
    assert (tmp_path / "run" / "gamma.png").is_file()


def test_the_automatic_optimizer_is_warned_of(small, quick, tmp_path, caplog):
    YOLO(small).train(sr=0.01, project=str(tmp_path), name="run", **{**quick, "optimizer": "auto"})
    assert "optimizer=auto ignores lr0" in caplog.text


def test_a_backbone_that_is_frozen_is_refused_before_the_first_epoch(tmp_path):
    settings = {"epochs": 1, "imgsz": 64, "device": "cpu", "project": str(tmp_path), "freeze": 9, "sr": 0.01}
    with pytest.raises(PruningError, match="frozen and cannot fade"):
        YOLO("yolov8n-cls.yaml").train(data=write_data("classify", tmp_path / "data"), optimizer="SGD", **settings)


MORE = [{"multi_scale": 0.5}, {"freeze": 3}, {"nbs": 64, "epochs": 4, "warmup_epochs": 1}]


@pytest.mark.parametrize("more", MORE, ids=str)
def test_zeros_come_about_with_other_settings_of_the_release(more, small, quick, tmp_path):
    """Several sizes of images, frozen layers, and steps of many batches, of which the warm-up takes fewer."""
    asked = {"sparsity": "group", "target_sparsity": 0.3, "round_to": 4, "epochs": 3, "batch": 4}
    YOLO(small).train(project=str(tmp_path), name="run", **{**quick, **asked, **more})
    network, _ = load(tmp_path / "run" / "weights" / "last.pt")
    at_zero = share_at_zero(trace(network), network)
    assert at_zero == pytest.approx(0.3, abs=0.02) or ("freeze" in more and 0.2 < at_zero <= 0.3)
    norms = [module for module in network.model[:3].modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight != 0).all() for norm in norms) or "freeze" not in more


def test_edits_stand_in_the_class_all_trainers_share():
    for name in ("optimizer_step", "_setup_train", "__init__", "setup_model", "save_model"):
        assert hasattr(getattr(BaseTrainer, name), "__wrapped__"), name
