"""The export stage: a checkpoint in the format that is named, in integers, or in whatever is the fastest here."""

from __future__ import annotations

import argparse

from ..checkpoints import checkpoint
from ..command_line import own_labels
from ..deploy import exporting, viewer
from ..errors import PruningError
from ..files.places import located
from ..report import say
from .fastest import Fastest
from .int8 import Int8

OPTIONS = ("max_map_drop", "force", "threads")


def export_stage(options: argparse.Namespace) -> None:
    """Exports `options.weights`, in integers if that is wanted.

    Raises:
        PruningError: For what `exporting.export` and `Int8` raise.
    """
    if options.int8 and options.fastest:
        raise PruningError("--fastest tries int8 too: leave out --int8")
    said = [name for name in OPTIONS if name in getattr(options, "said", ())]
    if said and not (options.int8 or options.fastest):
        raise PruningError(f"--{said[0].replace('_', '-')} is read for --int8 and --fastest only")
    if options.force and options.fastest:
        raise PruningError("--force is read for --int8 only: something is always the fastest")
    finish = Int8(options) if options.int8 else Fastest(options) if options.fastest else None
    if options.netron:
        viewer.check({"format": options.format, **options.settings})
    if options.data:
        weights = located(options.weights)
        model, content = checkpoint.load(weights, trained_with_bn=False)
        if options.imgsz is None:
            options.imgsz = checkpoint.side_of_training(content)
        needed = ("train", "val") if finish else ()
        own_labels.label(options, model, weights, options.imgsz, needed=needed, original=True)
    product = exporting.export(options, finish)
    if options.netron and product.suffix != ".onnx":
        say(f"{product.name} is no ONNX: --netron shows none")
    elif options.netron:
        viewer.show(product)
        viewer.wait()
