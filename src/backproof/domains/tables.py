"""A function of one variable as a table of rigorous bounds, for many arguments at once.

Arb encloses the function and its derivatives over the cells of a grid (once for each function); a lookup then costs a few
array operations, and stays rigorous: between the grid's points Taylor's theorem holds with the largest third derivative of
the cell.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import flint
import numpy as np
import sympy

from .curves import X, curve
from .spans import Unbounded

__all__ = ["Table", "table"]

Array = np.ndarray[Any, np.dtype[np.float64]]
STEP, REACH, ORDERS = 16, 10, 4
"""Cells of 1/16 from -10 to 10, and one on each side of them to ±1,000."""

FAR = 1000


def _down(value: Any) -> float:
    found = int(value.p) / int(value.q)
    return found if flint.fmpq(*found.as_integer_ratio()) <= value else math.nextafter(found, -math.inf)


def _up(value: Any) -> float:
    return -_down(-value)


def _ends(one: Any, a: Any, b: Any) -> tuple[float, float]:
    """A curve's range as floats; without a bound, everything."""
    try:
        lo, hi = one.range(a, b)
    except Unbounded:
        return -math.inf, math.inf
    return _down(lo), _up(hi)


class Table:
    """Bounds of f, f', f'', f''' on every cell, and of their values in its middle."""

    def __init__(self, expr: Any) -> None:
        cells = [(flint.fmpq(j, STEP), flint.fmpq(j + 1, STEP)) for j in range(-REACH * STEP, REACH * STEP)]
        cells = [(flint.fmpq(-FAR), cells[0][0]), *cells, (cells[-1][1], flint.fmpq(FAR))]
        self.edges = np.array([float(int(a.p) / int(a.q)) for a, _ in cells] + [float(FAR)])
        self.middle = (self.edges[1:] + self.edges[:-1]) / 2
        derivatives = [expr]
        for _ in range(ORDERS - 1):
            derivatives.append(sympy.diff(derivatives[-1], X).replace(sympy.DiracDelta, lambda *at: sympy.S.Zero))
        curves = [curve(e) for e in derivatives]
        self.low, self.high = (np.empty((ORDERS, len(cells))) for _ in range(2))
        self.at, self.at_error = np.empty((ORDERS - 1, len(cells))), np.empty((ORDERS - 1, len(cells)))
        for k, one in enumerate(curves):
            for j, (a, b) in enumerate(cells):
                self.low[k, j], self.high[k, j] = _ends(one, a, b)
                if k < ORDERS - 1:
                    low, high = _ends(one, (a + b) / 2, (a + b) / 2)
                    self.at[k, j] = (low + high) / 2 if math.isfinite(high - low) else 0.0
                    self.at_error[k, j] = (high - low) + abs(self.at[k, j]) * 2e-16
        self._lows, self._highs = _levels(self.low, np.minimum), _levels(self.high, np.maximum)

    def cells(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        """The first and the last cell that an interval meets.

        Raises:
            Unbounded: the interval goes beyond the table.
        """
        if not (lo >= -FAR).all() or not (hi <= FAR).all():
            raise Unbounded("values beyond ±1,000 reach a function")
        last = len(self.middle) - 1
        first = np.clip(np.searchsorted(self.edges, lo, side="right") - 1, 0, last)
        return first, np.clip(np.searchsorted(self.edges, hi, side="left") - 1, first, last)  # type: ignore[return-value]

    def range(self, lo: Array, hi: Array, order: int = 0) -> tuple[Array, Array]:
        """The smallest and largest value of a derivative over intervals."""
        first, last = self.cells(lo, hi)
        level = np.frexp((last - first + 1).astype(float))[1] - 1
        other = last - (1 << level) + 1
        low = np.minimum(self._lows[level, order, first], self._lows[level, order, other])
        high = np.maximum(self._highs[level, order, first], self._highs[level, order, other])
        return low, high

    def point(self, x: Array, order: int) -> tuple[Array, Array]:
        """A derivative (of order 0 or 1) at numbers, and how far off it may be."""
        cell, _ = self.cells(x, x)
        d = x - self.middle[cell]
        value, error = self.at[order, cell], self.at_error[order, cell]
        far = np.abs(d)
        rest = np.maximum(np.abs(self.low[order + 2, cell]), np.abs(self.high[order + 2, cell])) * far**2 / 2
        if order == 0:
            value = value + d * (self.at[1, cell] + d / 2 * self.at[2, cell])
            rest = np.maximum(np.abs(self.low[3, cell]), np.abs(self.high[3, cell])) * far**3 / 6
            error = error + far * self.at_error[1, cell] + far**2 * self.at_error[2, cell]
        else:
            value = value + d * self.at[2, cell]
            error = error + far * self.at_error[2, cell]
        return value, (error + rest) * (1 + 1e-14) + 4e-16 * (np.abs(value) + far * np.abs(self.at[1, cell]) + 1e-300)

    @np.errstate(all="ignore")
    def line(self, lo: Array, hi: Array) -> tuple[Array, Array, Array]:
        """For each interval a, b, e with |f(x) - a x - b| <= e on it: the best of four lines.

        By Taylor (slope in the middle), by the mean value theorem (middle of the slopes), constant, and by the secant
        with the excess looked up cell by cell.
        """
        mid, rad = (lo + hi) / 2, (hi - lo) / 2 * (1 + 1e-15) + 1e-300
        value, value_error = self.point(mid, 0)
        s_low, s_high = self.range(lo, hi, 1)
        c_low, c_high = self.range(lo, hi, 2)
        f_low, f_high = self.range(lo, hi, 0)
        slope = np.clip(self.point(mid, 1)[0], s_low, s_high)
        slope_error = self.point(mid, 1)[1]
        bend = np.maximum(np.abs(c_low), np.abs(c_high))
        found = [
            (slope, value - slope * mid, bend * rad**2 / 2 + slope_error * rad + value_error),
            ((s_low + s_high) / 2, value - (s_low + s_high) / 2 * mid, (s_high - s_low) / 2 * rad + value_error),
            (0 * mid, (f_low + f_high) / 2, (f_high - f_low) / 2),
            self._secant(lo, hi, mid, rad, f_low, f_high),
        ]
        errors = np.stack(
            [e * (1 + 1e-14) + 1e-15 * (np.abs(a) * (np.abs(mid) + rad) + np.abs(b)) for a, b, e in found]
        )
        errors = np.where(np.isnan(errors), np.inf, errors)
        if not np.isfinite(errors.min(0)).all():
            raise Unbounded("a function has no bound there")
        best = errors.argmin(0)
        pick = np.arange(errors.shape[1])
        return (
            np.stack([f[0] for f in found])[best, pick],
            np.stack([f[1] for f in found])[best, pick],
            errors[best, pick],
        )

    def _secant(
        self, lo: Array, hi: Array, mid: Array, rad: Array, f_low: Array, f_high: Array
    ) -> tuple[Array, Array, Array]:
        ends = [self.point(x, 0)[0] for x in (lo, hi)]
        a = np.where(rad > 1e-6, (ends[1] - ends[0]) / (2 * rad), 0.0)
        first, last = self.cells(lo, hi)
        cells = np.arange(len(self.middle))
        inside = (cells >= first[:, None]) & (cells <= last[:, None])
        left, right = np.maximum(self.edges[:-1], lo[:, None]), np.minimum(self.edges[1:], hi[:, None])
        centre = np.clip(self.middle, lo[:, None], hi[:, None])
        off = np.abs(centre - self.middle)
        half = np.maximum(centre - left, right - centre).clip(0)
        gap = np.maximum(np.abs(self.low[1] - a[:, None]), np.abs(self.high[1] - a[:, None]))
        slack = gap * (half + off) + self.at_error[0]
        level = self.at[0] - a[:, None] * self.middle
        high = np.where(inside, level + slack, -np.inf).max(1)
        low = np.where(inside, level - slack, np.inf).min(1)
        return a, (high + low) / 2, (high - low) / 2 + 1e-15 * (np.abs(high) + np.abs(low))


def _levels(values: Array, combine: Any) -> Array:
    """For each power of two the extremes over so many cells from each on (the last of them repeat)."""
    found = [values]
    width = 1
    while 2 * width <= values.shape[-1]:
        before = found[-1]
        shifted = np.concatenate([before[:, width:], np.repeat(before[:, -1:], width, axis=1)], axis=1)
        found.append(combine(before, shifted))
        width *= 2
    return np.stack(found)


@cache
def table(expr: Any) -> Table:
    """The table of a formula in ``curves.X``, made once."""
    return Table(expr)
