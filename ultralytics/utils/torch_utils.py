"""The release's `utils/torch_utils.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== a checkpoint is shrunk beside itself and renamed, never in place: here, where everybody takes the function =====
import sys

from ultralytics import instead_of


@instead_of(sys.modules[__name__], "strip_optimizer")
def strip_optimizer(release, f="best.pt", s="", updates=None):
    from ultralytics.pruning.training import checkpoints  # not before the release is there

    return checkpoints.stripped_whole(release, f, s, updates)


# =====
