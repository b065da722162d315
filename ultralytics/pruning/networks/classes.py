"""The layers of a network that hold a row for each class, and how they follow the classes of another data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

ONE_TO_MANY, ONE_TO_ONE = "cv3", "one2one_cv3"  # class branches of a Detect head, a sequence for each level


def reads_text(head: nn.Module) -> bool:
    """Whether a head is built to compare what it sees with embeddings of text (YOLO-World, YOLOE)."""
    from ultralytics.nn.modules import WorldDetect, YOLOEDetect

    return isinstance(head, (WorldDetect, YOLOEDetect))


def class_layers(head: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yields each layer of a head that has a row of weights for each class, with its name in the head.

    Args:
        head: The last layer of a network.
    """
    from ultralytics.nn.modules import Classify, Detect, RTDETRDecoder, SemanticSegment

    if reads_text(head) and not getattr(head, "is_fused", False):  # no layer has a row for a class, but the text has
        return
    owner: Any = head

    if isinstance(head, Detect):
        for branch in (ONE_TO_MANY, ONE_TO_ONE):
            for level, layers in enumerate(getattr(head, branch, None) or ()):
                yield f"{branch}.{level}.{len(layers) - 1}", layers[-1]
        semantic = getattr(getattr(head, "proto", None), "semseg", None)  # of Segment26
        if semantic is not None:
            yield f"proto.semseg.{len(semantic) - 1}", semantic[-1]
    elif isinstance(head, SemanticSegment):
        for branch in ("classifier", "aux_head"):
            if (layers := getattr(head, branch)) is not None:
                yield f"{branch}.{len(layers) - 1}", layers[-1]
    elif isinstance(head, RTDETRDecoder):
        yield "denoising_class_embed", owner.denoising_class_embed
        yield "enc_score_head", owner.enc_score_head
        for number, layer in enumerate(owner.dec_score_head):
            yield f"dec_score_head.{number}", layer
    elif isinstance(head, Classify):
        yield "linear", owner.linear
