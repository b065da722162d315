"""The release's `utils/loss.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== proj follows the prediction's device, in every loss class that decodes boxes with it =====
from ultralytics import instead_of
from ultralytics.pruning.training.losses import on_the_device_of_the_prediction

for _class in [c for c in globals().values() if isinstance(c, type) and "bbox_decode" in vars(c)]:
    instead_of(_class, "bbox_decode")(on_the_device_of_the_prediction)
# =====
