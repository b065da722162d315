"""Runs worker files of the release, one after the other, under `torch.distributed.run` on the CPU.

It sets up the group (gloo), the world size and the wrapper; all else is the release's path with the edits of this
repository. At the end each rank writes its gammas to `gammas-RANK.pt` in the run's folder.
"""

import os
import runpy
import sys

import torch
import torch.distributed as dist
from torch import nn

from ultralytics.engine.trainer import BaseTrainer

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


class WrapperOnCPU(nn.parallel.DistributedDataParallel):
    """The wrapper, without the device index that the release gives it."""

    def __init__(self, module, device_ids=None, **settings):
        super().__init__(module, **settings)


def of_the_world(init):
    """Lets the trainer know that it is not alone, which the release concludes from the devices."""

    def method(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.world_size = WORLD_SIZE

    return method


def write_gammas(final_eval):
    """Writes this rank's gammas before the run ends."""

    def method(self):
        torch.save(self.sparsity.scales.values(), self.save_dir / f"gammas-{RANK}.pt")
        self.best = self.best.with_name("none.pt")  # the release measures best.pt on a CUDA device in any worker
        final_eval(self)

    return method


if __name__ == "__main__":
    torch.set_num_threads(1)
    nn.parallel.DistributedDataParallel = WrapperOnCPU
    BaseTrainer.__init__ = of_the_world(BaseTrainer.__init__)
    BaseTrainer._setup_ddp = lambda self: dist.is_initialized() or dist.init_process_group("gloo")
    BaseTrainer.final_eval = write_gammas(BaseTrainer.final_eval)
    for file in sys.argv[1:]:
        runpy.run_path(file, run_name="__main__")
    dist.destroy_process_group()
