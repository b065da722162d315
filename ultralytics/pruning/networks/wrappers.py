"""The network inside of what people hold in their hands."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from ..errors import PruningError


def unwrapped(model: Any) -> nn.Module:
    """Returns the network inside of DistributedDataParallel, `torch.compile`, and the release's `YOLO`.

    Raises:
        PruningError: If there is no network of PyTorch in it, as in a `YOLO` of an ONNX file.
    """
    while True:
        if type(model).__name__ == "OptimizedModule":  # its import takes seconds
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif _is_yolo(model):
            if not isinstance(model.model, nn.Module):
                raise PruningError(f"{type(model).__name__}({str(model.model)!r}) holds no network of PyTorch")
            model = model.model
        else:
            return model


def _is_yolo(model: Any) -> bool:
    """Whether something is the release's `YOLO` or one of its kin; not asked where that was never imported."""
    release = sys.modules.get("ultralytics.engine.model")
    return release is not None and isinstance(model, release.Model)
