"""An ONNX in integers by ONNX Runtime's quantizer: some blocks stay in float, and so does what follows the last one.

Activations are uint8 with a scale for each tensor, weights int8 with a scale for each output channel.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PruningError, first_line
from .blocks import blocks_of, tail_of, up_to

METHODS = ("minmax", "percentile")  # how the range of an activation is taken from what calibration images give
PERCENTILE = 99.999
# What stands between convolutions too, so that values stay integers from one to the next.
TYPES = ["Conv", "ConvTranspose", "Gemm", "Sigmoid", "Mul", "Add", "Concat", "MaxPool", "Resize", "Split"]


@dataclass(frozen=True)
class Choice:
    """What is taken to integers, and how.

    Attributes:
        method: One of `METHODS`.
        begin: How many blocks from the first on stay in float; what lies between them does, too.
        floats: Numbers of other blocks that stay in float.
        reduced: Whether weights have 7 bits, for processors whose sums of products of 8 bits overflow.
    """

    method: str = METHODS[0]
    begin: int = 0
    floats: frozenset[int] = frozenset()
    reduced: bool = False


class Integers:
    """Writes a network in integers, in as many ways as are asked for.

    Args:
        onnx: The network in float.
        images: Images for calibration, float32 of shape (1, C, H, W) in 0..1.
        folder: Where products and what is between go.
    """

    def __init__(self, onnx: Path, images: Sequence[np.ndarray], folder: Path) -> None:
        import onnx as package
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._images, self._folder = images, folder
        self._base = folder / "prepared.onnx"
        with _quiet():
            quant_pre_process(str(onnx), str(self._base), skip_symbolic_shape=True)
        self._graph = package.load(self._base).graph
        self.blocks = blocks_of(self._graph)
        self._tail = tail_of(self._graph)
        self._count = 0

    def write(self, choice: Choice) -> Path:
        """Returns a new file with the network as it is chosen.

        Raises:
            PruningError: If there are no ranges by that method, e.g. where an activation has a single value.
        """
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        methods = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
        self._count += 1
        product = self._folder / f"integers-{self._count}.onnx"
        with _quiet(), _in_words(choice.method):
            quantize_static(
                str(self._base),
                str(product),
                _reader(self._images, self._graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=TYPES,
                per_channel=True,
                reduce_range=choice.reduced,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=sorted(self._floats(choice)),
                calibrate_method=methods[choice.method],
                calibration_cache_path=self._folder / f"{choice.method}.json",
                extra_options={"CalibPercentile": PERCENTILE},
            )
        return product

    def _floats(self, choice: Choice) -> set[str]:
        """Returns the names of the nodes that stay in float."""
        names = {name for number in choice.floats for name in self.blocks[number]} | self._tail
        if choice.begin:
            names |= up_to(self._graph, self.blocks[choice.begin - 1])
        return names - {""}

    def alone(self, number: int, choice: Choice) -> Choice:
        """Returns the choice in which a single block is integers."""
        others = frozenset(range(len(self.blocks))) - {number}
        return replace(choice, begin=0, floats=others)


def _reader(images: Iterable[np.ndarray], name: str) -> Any:
    """Returns images as the quantizer reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Gives one image at a time."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> Any:
            image = next(self._left, None)
            return None if image is None else {name: image}

    return Reader()


@contextlib.contextmanager
def _in_words(method: str) -> Iterator[None]:
    """Says in one line what the quantizer cannot do with the values that it found."""
    try:
        yield
    except ValueError as error:
        raise PruningError(f"no ranges of activations by {method}: {first_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantizer's remarks to itself: it writes them to the root of the logging, and prints some."""
    import io

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().setLevel(level)
