"""One call of a torch function, as a rule sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.overrides import resolve_name

from ..tape import Tape


@dataclass(frozen=True)
class Call:
    """A call of a torch function.

    Attributes:
        function: The function.
        args: Its arguments by place.
        kwargs: Its arguments by name.
        result: What it returned.
    """

    function: Any
    args: tuple
    kwargs: dict[str, Any]
    result: Any

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Returns an argument, given by place or by name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def tensor(self) -> Any:
        """The first argument, whatever its name."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)

    def numbers(self, start: int, *names: str) -> tuple:
        """Returns arguments that may be given as `f(x, 1, 2)`, `f(x, (1, 2))` or by name, as a tuple."""
        given: Any = self.args[start:] or next((self.kwargs[name] for name in names if name in self.kwargs), ())
        given = given if isinstance(given, (tuple, list)) else (given,)
        return tuple(given[0]) if given and isinstance(given[0], (tuple, list)) else tuple(given)

    @property
    def short_name(self) -> str:
        """The function's own name, e.g. `relu_`."""
        return getattr(self.function, "__name__", "")

    @property
    def name(self) -> str:
        """The function's full name, e.g. `torch.nn.functional.softmax`."""
        return resolve_name(self.function) or self.short_name or str(self.function)

    @property
    def in_place(self) -> bool:
        """Whether the function returned its first argument itself."""
        return self.result is self.tensor

    @property
    def writes(self) -> bool:
        """Whether the function changes the values of its first argument."""
        name = self.short_name
        named = name in ("__setitem__", "__set__") or name.startswith("__i") or (name[-1:] == "_" and name[-2:] != "__")
        return named or (
            self.in_place and (self.kwargs.get("inplace") is True or any(value is True for value in self.args[1:]))
        )


Rule = Callable[[Tape, Call], bool]


def takes_sizes(rule: Rule) -> Rule:
    """Marks a rule that reads the sizes among a call's arguments itself (see `sizes.py`)."""
    rule.takes_sizes = True  # type: ignore[attr-defined]
    return rule
