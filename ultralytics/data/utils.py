"""The release's `data/utils.py` with the edits between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== a data set runs no code, neither a label cache nor its yaml's download, unless the user trusts it =====
import sys

from ultralytics import instead_of
from ultralytics.pruning.data import downloads, label_caches

instead_of(sys.modules[__name__], "load_dataset_cache_file")(label_caches.load_cache)
instead_of(sys.modules[__name__], "check_det_dataset")(downloads.check_images)
# =====
