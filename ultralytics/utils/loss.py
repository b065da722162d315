"""The release's `utils/loss.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== proj follows the prediction's device, in every loss class that decodes boxes with it =====
from functools import wraps


def _proj_follows_prediction(decode):
    """Wraps a loss class's `bbox_decode(self, anchor_points, pred_dist, ...)`."""

    @wraps(decode)
    def bbox_decode(self, anchor_points, pred_dist, *args, **kwargs):
        if self.proj.device != pred_dist.device:  # made anew, not copied: a tensor on `meta` has no values to copy
            self.proj = torch.arange(len(self.proj), dtype=self.proj.dtype, device=pred_dist.device)
        return decode(self, anchor_points, pred_dist, *args, **kwargs)

    return bbox_decode


for _class in [c for c in globals().values() if isinstance(c, type) and "bbox_decode" in vars(c)]:
    _class.bbox_decode = _proj_follows_prediction(_class.bbox_decode)
# =====
