"""The release's `utils/patches.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== no checkpoint runs code when it is loaded, unless the user trusts it (see pruning/trust.py) =====
import sys

from ultralytics import instead_of


@instead_of(sys.modules[__name__], "torch_load")
def torch_load(release, *args, **kwargs):
    from ultralytics.pruning.checkpoints import loading  # not before the release is there

    return loading.torch_load(release, *args, **kwargs)


# =====
