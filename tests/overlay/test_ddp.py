"""Sparsity training in two real processes: the replicas stay equal, and it is as sparse as in one."""

from pathlib import Path

import pytest
import torch

from helpers.processes.python import PROGRAMS, run_python
from helpers.repository import REPOSITORY
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.pruning import load, trace
from ultralytics.pruning.selection.zeros import share_at_zero
from ultralytics.pruning.sparsity import FADED
from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

EPOCHS = 4
ASKED = {
    "subgradient": {"sr": 2.0, "lr0": 0.01},
    "group": {"sr": 0.4},
    "proximal": {"target_sparsity": 0.4},
    "steered": {"target_speed_up": 1.5},
    "group_reg": {"target_sparsity": 0.4},
}


def settings(quick: dict, start: Path, folder: Path, mode: str, name: str) -> dict:
    own = {
        "epochs": EPOCHS,
        "batch": 8,
        "nbs": 8,
        "optimizer": "SGD",
        "warmup_epochs": 0,
        "sparsity": mode,
        "val": False,
    }
    return {**quick, **own, **ASKED[mode], "model": str(start), "project": str(folder), "name": name, "round_to": 4}


@pytest.fixture(scope="module")
def two_processes(small_weights, small, quick, tmp_path_factory) -> Path:
    """The folder with a run of each mode: the worker files that the release writes, in two processes."""
    folder = tmp_path_factory.mktemp("two")
    files = []
    try:
        for mode in ASKED:
            trainer = DetectionTrainer(overrides=settings(quick, small_weights, folder, mode, mode))
            trainer.model = trainer.get_model(weights=load(small_weights)[0], cfg=str(small))
            files.append((trainer, generate_ddp_file(trainer)))
        done = run_python(
            *("-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"),
            *(
                "--rdzv_endpoint",
                "localhost:0",
                PROGRAMS / "ddp_launcher.py",
                *(file for _, file in files),
            ),
            cwd=folder,
            PYTHONPATH=str(REPOSITORY),
            YOLO_CONFIG_DIR=str(REPOSITORY / ".ultralytics"),
            OMP_NUM_THREADS="1",
        )
    finally:
        for trainer, file in files:
            ddp_cleanup(trainer, file)
    assert done.returncode == 0, done.stderr[:6000]
    return folder


@pytest.mark.parametrize("mode", ASKED)
def test_two_processes_end_with_equal_gammas_and_the_sparsity_of_one(
    mode, small_weights, quick, two_processes, tmp_path
):
    ranks = [torch.load(two_processes / mode / f"gammas-{rank}.pt") for rank in (0, 1)]
    assert torch.equal(*ranks)
    alone = DetectionTrainer(overrides=settings(quick, small_weights, tmp_path, mode, "one"))
    alone.train()
    small = FADED if mode != "subgradient" else 0.1  # in 8 steps: it only swings around zero
    shares = [float((gammas.abs() < small).float().mean()) for gammas in (ranks[0], alone.sparsity.scales.values())]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)
    assert shares[0] > 0.2
    networks = [load(folder / "weights" / "last.pt")[0] for folder in (two_processes / mode, tmp_path / "one")]
    zeros = [share_at_zero(trace(network), network) for network in networks]
    assert zeros[0] == pytest.approx(zeros[1], abs=0.05)
    assert (zeros[0] > 0.1) == (mode != "subgradient")
