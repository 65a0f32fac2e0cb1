"""What a search may try: for each setting a range, a logarithmic range, or a list of choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError

__all__ = ["LARGEST", "Choices", "Range", "Space", "space_of"]

LARGEST = 1_000_000
"""The largest whole number that a size may be tried at: beyond it a network fills the memory before it is refused."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, whole ones if both are; drawn evenly in the logarithm if ``log``."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def suggest(self, trial: Any, name: str) -> Any:
        """A value for an Optuna trial."""
        draw = trial.suggest_int if self.whole else trial.suggest_float
        return draw(name, self.low, self.high, log=self.log)

    def near(self, value: Any) -> Any:
        """The value of the range that is nearest to a number; None for what is no number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        kept = min(max(value, self.low), self.high)
        return round(kept) if self.whole else float(kept)

    def said(self) -> str:
        """The range in words."""
        kind = "whole numbers, " if self.whole else ""
        return f"{kind}{self.low:g} to {self.high:g}{', by the logarithm' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """Values to choose from."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """A value for an Optuna trial."""
        return trial.suggest_categorical(name, list(self.values))

    def near(self, value: Any) -> Any:
        """The value itself where it is a choice, else the first choice."""
        return value if value in self.values else self.values[0]

    def said(self) -> str:
        """The choices in words."""
        return ", ".join(map(str, self.values))


Space = dict[str, Range | Choices]


def space_of(given: Mapping[str, Any]) -> Space:
    """Read a search space: ``(low, high)``, ``(low, high, "log")`` or a list of choices, by setting.

    Raises:
        InputError: an entry is no range and no list, a range is reversed or not finite, or there is nothing to search.
    """
    if not isinstance(given, Mapping) or not given:
        raise InputError('there is nothing to search: give ranges, as in search={"lr": (1e-4, 1, "log")}')
    return {str(name): _entry(str(name), value) for name, value in given.items()}


def _entry(name: str, value: Any) -> Range | Choices:
    if isinstance(value, (Range, Choices)):
        return value
    if isinstance(value, list):
        return _choices(name, value)
    if isinstance(value, tuple) and len(value) in (2, 3) and value[2:] in ((), ("log",)):
        return _range(name, value[0], value[1], len(value) == 3)
    raise InputError(
        f"the search of '{name}' is {str(value)[:60]!r}; write (low, high), (low, high, \"log\") or a list of choices"
    )


def _choices(name: str, values: list[Any]) -> Choices:
    if not values or not all(v is None or isinstance(v, (bool, int, float, str)) for v in values):
        raise InputError(f"the search of '{name}' needs a list of at least one number or word, not {str(values)[:60]}")
    for value in values:
        if isinstance(value, (int, float)):
            _number(name, value)
    return Choices(tuple(dict.fromkeys(values)))


def _range(name: str, low: Any, high: Any, log: bool) -> Range:
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, (int, float)):
            raise InputError(f"the range of '{name}' goes from number to number, not from {low!r} to {high!r}")
        _number(name, end)
    if low >= high:
        raise InputError(f"the range of '{name}' goes from {low} to {high}: the first must be the smaller one")
    if log and low <= 0:
        raise InputError(f"the range of '{name}' starts at {low}, and a logarithmic range is of positive numbers")
    return Range(low, high, log)


def _number(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f"the search of '{name}' contains {value}; every value must be a finite number")
    if isinstance(value, int) and abs(value) > LARGEST and name != "seed":
        raise InputError(f"the search of '{name}' contains {value:,}; whole numbers up to {LARGEST:,} are tried")
