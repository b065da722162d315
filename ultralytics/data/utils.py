"""The release's `data/utils.py` with the edits between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== a data set runs no code, neither a label cache nor its yaml's download, unless the user trusts it =====
from functools import wraps


def _without_code(release, name):
    """Wraps a function by the one of this name in `pruning/`, which is imported once the release is there."""

    @wraps(release)
    def function(*args, **kwargs):
        from ultralytics.pruning.data import downloads, label_caches

        edit = {"cache": label_caches.load_cache, "download": downloads.check_images}[name]
        return edit(release, *args, **kwargs)

    return function


load_dataset_cache_file = _without_code(load_dataset_cache_file, "cache")
check_det_dataset = _without_code(check_det_dataset, "download")
# =====
