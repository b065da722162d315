"""What a model yaml may name: modules, and an activation with plain arguments; the release would `eval` the latter."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import UntrustedError
from ..trust import HOW


def activation(text: Any) -> nn.Module:
    """Builds what a yaml's `activation:` describes, without `eval`.

    Args:
        text: `nn.SiLU()`, `torch.nn.LeakyReLU(0.1)`, or a module that is registered in `ultralytics.nn.tasks`.

    Raises:
        UntrustedError: If it is anything other than such a class with plain arguments.
    """
    from ultralytics.nn import tasks

    try:
        call = ast.parse(text.strip(), mode="eval").body
        assert isinstance(call, ast.Call)
        name = ast.unparse(call.func)
        stock = re.fullmatch(r"(?:torch\.)?nn\.(\w+)", name)
        layer = getattr(nn, stock[1]) if stock else getattr(tasks, name)
        assert isinstance(layer, type) and issubclass(layer, nn.Module)
        arguments = [ast.literal_eval(argument) for argument in call.args]
        return layer(*arguments, **{str(word.arg): ast.literal_eval(word.value) for word in call.keywords})
    except Exception as error:  # whatever a foreign text can raise
        shown = " ".join(str(text).split())
        raise UntrustedError(
            f"activation: {shown[:80]} is not a module with plain arguments, such as nn.SiLU() or nn.LeakyReLU(0.1), "
            f"and other code is not run unasked; {HOW}"
        ) from error


def only_layers(release: Callable, is_restricted: Callable[[], bool]) -> Callable:
    """Wraps the release's `parse_model`: refuses a row that names something other than a layer.

    Args:
        release: The function.
        is_restricted: Whether models must currently be built without running code.
    """

    @functools.wraps(release)
    def parse_model(d: dict[str, Any], ch: int, verbose: bool = True) -> Any:
        if is_restricted() and isinstance(d, dict):
            check_layers(d)
        return release(d, ch, verbose)

    return parse_model


def check_layers(yaml: dict[str, Any], where: str = "") -> None:
    """Checks that a model yaml names only layers, without building any but its activation.

    Args:
        yaml: Its content.
        where: What the error begins with.

    Raises:
        UntrustedError: If it names something else.
    """
    try:
        if yaml.get("activation"):
            activation(yaml["activation"])
        for part in ("backbone", "head"):
            rows = yaml.get(part)
            for row in rows if isinstance(rows, (list, tuple)) else ():
                _check_row(row)
    except UntrustedError as error:
        raise UntrustedError(f"{where}{error}") from error


def _check_row(row: Any) -> None:
    """Raises an UntrustedError if a row names something in a module of layers that is not a layer."""
    from ultralytics.nn import tasks

    if not (isinstance(row, (list, tuple)) and len(row) > 2 and isinstance(row[2], str)):
        return  # the release says what is wrong with it
    owner: Any = tasks
    name = row[2]
    for prefix, module in (("nn.", "torch.nn"), ("torchvision.ops.", "torchvision.ops")):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            with contextlib.suppress(ImportError):
                owner = importlib.import_module(module)
    found = getattr(owner, name, None)
    if found is not None and not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UntrustedError(f"a row of the model yaml names '{row[2]}', which is not a layer; {HOW}")
