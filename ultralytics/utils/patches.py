"""The release's `utils/patches.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== no checkpoint runs code when it is loaded, unless the user trusts it (see pruning/trust.py) =====
from functools import wraps


def _restricted(release):
    """Wraps `torch_load`, which all of the release imports from here."""

    @wraps(release)
    def torch_load(*args, **kwargs):
        from ultralytics.pruning.checkpoints import loading  # not before the release is there

        return loading.torch_load(release, *args, **kwargs)

    return torch_load


torch_load = _restricted(torch_load)
# =====
