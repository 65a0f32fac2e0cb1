"""Comparisons of numbers collected by what was compared and with which oracle, over all steps."""

from __future__ import annotations

import math
from typing import Any

from ..verdicts import ALLOWED, ROUNDED, TOLERANCE, Evidence

__all__ = ["Tally"]


class Tally:
    """Collects comparisons by (what, oracle) over all steps; ``eps`` is the spacing of the record's own numbers near 1."""

    def __init__(self, eps: float = 0.0) -> None:
        self.rows: dict[tuple[str, str], list[Any]] = {}
        self.eps = eps

    def add(self, what: str, oracle: str, error: float, count: int, of: int | None = None) -> None:
        """Note the error of so many numbers, out of how many there are."""
        row = self.rows.setdefault((what, oracle), [0.0, 0, 0, ""])
        row[0] = max(row[0], error) if not math.isnan(error) else math.inf
        row[1] += count
        row[2] += count if of is None else of

    def kink(self, what: str, oracle: str, note: str) -> None:
        """Note a number at a kink, where the comparison does not apply."""
        row = self.rows.setdefault((what, oracle + " at kinks"), [None, 0, 0, note])
        row[1] += 1
        row[2] += 1

    def within(self, what: str, oracle: str, count: int, note: str) -> None:
        """Note numbers that rounding alone makes differ, where the comparison does not apply."""
        row = self.rows.setdefault((what, oracle + " within rounding"), [None, 0, 0, note])
        row[1] += count
        row[2] += count

    def results(self) -> tuple[Evidence, ...]:
        """One comparison for each row."""
        return tuple(_verdict(what, oracle, self.allowed(oracle), *row) for (what, oracle), row in self.rows.items())

    def allowed(self, oracle: str) -> float:
        """The error that an oracle allows; where the model's own dtype rounds, not less than 32 times its spacing."""
        least = 32 * self.eps if oracle in ROUNDED else 0.0
        return max(ALLOWED.get(oracle, TOLERANCE), least)


def _verdict(what: str, oracle: str, allowed: float, error: float | None, count: int, of: int, note: str) -> Evidence:
    agrees = None if error is None else error <= allowed
    return Evidence(what, oracle, agrees, error if error is None or math.isfinite(error) else 1e308, count, of, note)
