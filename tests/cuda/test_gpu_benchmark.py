"""`benchmarks/gpu.py` on the CPU: it runs all stages and checks, and one that fails neither hides others nor passes."""

import pytest
import torch

from benchmarks import gpu, gpu_engine, gpu_stages
from benchmarks.gpu_scale import MODES
from ultralytics.pruning import PruningError
from ultralytics.pruning.sparsity import MODES as ALL_MODES

STAGES = ("train-normal.py", "vis-bn-weight.py", "prune.py", "finetune.py", "val.py", "export.py", "compress.py")


def test_every_stage_and_check_runs_on_the_cpu(runs, tmp_path, capsys, monkeypatch):
    user = runs / "train-norm" / "weights" / "best.pt"  # of the user: none of these runs is touched
    user.parent.mkdir(parents=True)
    user.write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    assert gpu.main(["--cpu", "--tiny", "--output", str(tmp_path / "gpu.md")]) == 0
    page = (tmp_path / "gpu.md").read_text()
    rows = dict(line.removeprefix("| ").split(" | ")[:2] for line in page.splitlines() if line.startswith("| "))
    assert "FAILED" not in page and "\n0 of 16 checks failed" in capsys.readouterr().out
    assert {*STAGES, "cut of tiny", "criteria", "latency table", "latency target", "two GPUs"} <= rows.keys()
    for mode in ("subgradient", "steered"):
        assert "mAP50-95" in rows[f"train_sparsity.py, {mode}"] and "without" in rows[f"step of {mode}"]
    assert rows["train_sparsity.py, steered"].split(", ")[1] != "0% of the prunable channels at zero"
    assert user.read_bytes() == b"mine" and {path.name for path in runs.iterdir()} - {"train-norm"} == {
        name if name == "gpu" else f"gpu-{name}"
        for name in ("gpu", "normal", "subgradient", "steered", "finetune", "val", "compress")
    }


def test_the_full_command_runs_every_mode():
    assert {*MODES} == {*ALL_MODES}


def test_a_check_that_fails_hides_no_other(runs, tmp_path, capsys, monkeypatch):
    def fails():
        raise PruningError("the first line\nthe second")

    def breaks():
        return str([][1])

    monkeypatch.setattr(gpu_engine, "checks", lambda scale: {"a": fails, "b": breaks})
    monkeypatch.setattr(gpu_stages, "checks", lambda scale: {"c": lambda: "well"})
    assert gpu.main(["--cpu", "--tiny", "--output", str(tmp_path / "gpu.md")]) == 1
    page = (tmp_path / "gpu.md").read_text()
    assert "| a | FAILED: PruningError: the first line |" in page and "| b | FAILED: IndexError: " in page
    assert "| c | well |" in page and "2 of 3 checks failed: a, b" in capsys.readouterr().out
    assert gpu.main(["--cpu", "--tiny", "--only", "c"]) == 0
    assert gpu.main(["--cpu", "--tiny", "--only", "d"]) == 1  # no check, so nothing is shown


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys):
    assert gpu.main([]) == 2
    said = capsys.readouterr()
    assert not said.out and len(said.err.strip().splitlines()) == 1 and "--cpu --tiny" in said.err


def test_a_wrong_cut_on_the_device_is_seen(runs, monkeypatch):
    def cut_wrong(model, plan):
        cut(model, plan)
        next(model.parameters()).data[0] += 1e-3

    cut = gpu_engine.cut
    monkeypatch.setattr(gpu_engine, "cut", cut_wrong)
    scale = gpu.Scale.of("cpu", tiny=True)
    with pytest.raises(PruningError, match="differs"):
        gpu_engine.exactness(scale, scale.networks[0])
