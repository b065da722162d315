"""The release's `utils/nms.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== NMS ends when it is done: by default no time limit, behind which the images of a slow machine stay empty =====
import inspect
import math

# In the function itself, so that whoever holds it, validator or predictor, has the new default. A limit that a caller
# names holds as before.
_defaults = {
    name: parameter.default
    for name, parameter in inspect.signature(non_max_suppression).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}
if "max_time_img" not in _defaults:
    raise ImportError("non_max_suppression has no max_time_img: this release limits the time of NMS in another way")
non_max_suppression.__defaults__ = tuple({**_defaults, "max_time_img": math.inf}.values())
# =====
