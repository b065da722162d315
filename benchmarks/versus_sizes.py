"""Sizes that cuts leave of YOLOv8s, beside those that a source reports: a check of plausibility, for `versus.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from versus_ground import exported
from zoo_models import randomise

from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.cost import cost_of
from ultralytics.pruning.criteria.scoring import Scoring
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.report import say
from ultralytics.pruning.selection.limits import Limits
from ultralytics.pruning.tracing.trace import trace

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)
SOURCE = {  # parameters in millions, GFLOPs, mAP50, MB of the ONNX
    0.0: (11.13, 28.4, 0.964, 43.0),
    0.2: (7.47, 20.2, 0.969, 29.0),
    0.4: (4.75, 15.3, 0.972, 19.0),
    0.6: (3.04, 11.3, 0.964, 12.0),
    0.8: (None, None, None, 7.7),
}
WORDS = """\
## Sizes that a source reports

YOLOv8s of one class, shares of its channels cut by one threshold on the gammas of all layers, 640 pixels. The source
trained its network, left shortcut layers alone, and reports the sizes and mAP50 of the left columns. Ours is untrained,
with gammas that are spread evenly in 0..1, so the sizes say what the engine does, not what a training would choose; it
is cut by `slim` at the same ratios, without rounding, once with the shortcut layers left alone, and once with all.
"""
OTHERS = """
Others, which are not repeated here. YOLOv8n on VisDrone with 30 % of its training data: LAMP at 2.0x mAP50 0.225 ->
0.231 in one run and 0.197 in another, at 2.5x 0.225; 0.99 -> 0.73 ms at batch 32: one seed says little. YOLOv5s on
VOC07: dense 67.4 (SGD, 300 epochs), 66.3 (AdamW, 100), sparse at 1e-4 69.2, at 1e-3 65.7, cut by 55 % 64.1, fine-tuned
67.3; SGD at 1e-3 diverged.
"""


def sizes(known: Mapping[str, Any], *, tiny: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields what each cut leaves that is not known yet, by its name.

    Args:
        known: What is.
        tiny: Whether it is a YOLOv8n, for 64 pixels, which takes seconds.
    """
    from rivals import shortcuts

    from ultralytics.nn.tasks import DetectionModel

    imgsz = 64 if tiny else 640
    model: Any = DetectionModel("yolov8n.yaml" if tiny else "yolov8s.yaml", nc=1, verbose=False)
    randomise(model)
    alone = tuple(f"{name}.cv2.conv" for name in shortcuts(model))
    for ratio in RATIOS:
        for what, ignore in (("shortcuts left alone", alone), ("all layers", ())):
            name = f"{ratio:g}, {what}"
            if name in known:
                continue
            limits = Limits(floor=0, round_to=1, ignore=ignore)
            how: dict[str, Any] = {"scoring": Scoring("slim"), "limits": limits, "imgsz": imgsz}
            cut = prune_network(model, prune_ratio=ratio, **how).model if ratio else model
            cost = cost_of(trace(cut, imgsz=imgsz))
            with tempfile.TemporaryDirectory(prefix="sizes-") as folder:
                file = Path(folder) / "network.pt"
                checkpoint.save(cut, file)
                mb = exported(file, imgsz).stat().st_size / 1e6
            say(f"{name}: {cost.deployed:,} parameters")
            yield name, {"params": cost.deployed, "gflops": cost.gflops, "mb": mb}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Returns what was found beside what the source reports; nothing where nothing was."""
    if not found:
        return ""
    ways = list(dict.fromkeys(name.split(", ", 1)[1] for name in found))
    head = ["cut", "source: parameters, M", "GFLOPs", "ONNX, MB", "mAP50"]
    head += [title for way in ways for title in (f"{way}: parameters, M", "GFLOPs", "ONNX, MB")]
    lines = [WORDS, "| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for ratio, (params, gflops, score, mb) in SOURCE.items():
        row = [f"{ratio:.0%}", *("" if value is None else f"{value:g}" for value in (params, gflops, mb, score))]
        for way in ways:
            ours = found.get(f"{ratio:g}, {way}")
            row += [f"{ours['params'] / 1e6:.2f}", f"{ours['gflops']:.1f}", f"{ours['mb']:.1f}"] if ours else [""] * 3
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n" + OTHERS
