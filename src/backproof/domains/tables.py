"""A function of one variable as a table of rigorous bounds, for many arguments at once.

Arb encloses the function and its derivatives over the cells of a grid (once for each function); a lookup then costs a few
tensor operations, and stays rigorous: between the grid's points Taylor's theorem holds with the largest third derivative of
the cell. Where a derivative jumps, those behind it have no bound: an interval across a kink is not served by Taylor. Beyond
the grid there are no bounds but infinities. No lookup branches on a value, so that :func:`torch.func.vmap` can go through it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import flint
import sympy
import torch
from torch import Tensor

from .curves import X, curve
from .intervals import down, up
from .spans import Unbounded

__all__ = ["Table", "table"]

STEP, REACH, ORDERS = 16, 10, 4
"""Cells of 1/16 from -10 to 10, and one on each side of them to ±1,000."""

FAR = 1000.0


def _ends(one: Any, a: Any, b: Any) -> tuple[float, float]:
    """A curve's range as floats; without a bound, everything."""
    try:
        lo, hi = one.range(a, b)
    except Unbounded:
        return -math.inf, math.inf
    return down(lo), up(hi)


class Cells:
    """The cells that intervals meet, and what the lookup of a range needs; cell j is place 2 j, the edge before it 2 j - 1."""

    def __init__(self, lo: Tensor, hi: Tensor, last: int, torn: Tensor | None) -> None:
        lo_cell = (lo.nan_to_num(0.0) * STEP).floor() + (REACH * STEP + 1)  # exact: 16 x is no rounding
        hi_cell = (hi.nan_to_num(0.0) * STEP).ceil() + REACH * STEP
        self.first = lo_cell.clamp(0, last).long()
        self.last = torch.maximum(self.first, hi_cell.clamp(0, last).long())
        if torn is not None:  # the value on such an edge may belong to either side
            self.first = self.first - ((lo * STEP == lo_cell - REACH * STEP - 1) & torn[self.first]).long()
            self.last = self.last + ((hi * STEP == hi_cell - REACH * STEP) & torn[self.last + 1]).long()
        self.inside = (lo >= -FAR) & (hi <= FAR)

    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """The level of the largest power of two that fits, and the two places from which so many together cover all."""
        level = (2 * (self.last - self.first) + 1).double().log2().add(1e-9).floor().long()
        return level, 2 * self.first, 2 * self.last - 2**level + 1


class Table:
    """Bounds of f, f', f'', f''' on every cell, and of their values in its middle."""

    def __init__(self, expr: Any) -> None:
        cells = [(flint.fmpq(j, STEP), flint.fmpq(j + 1, STEP)) for j in range(-REACH * STEP, REACH * STEP)]
        cells = [(flint.fmpq(-int(FAR)), cells[0][0]), *cells, (cells[-1][1], flint.fmpq(int(FAR)))]
        self.edges = torch.tensor([float(int(a.p) / int(a.q)) for a, _ in cells] + [FAR], dtype=torch.float64)
        self.middle = (self.edges[1:] + self.edges[:-1]) / 2
        derivatives = [expr]
        for _ in range(ORDERS - 1):
            derivatives.append(sympy.diff(derivatives[-1], X).replace(sympy.DiracDelta, lambda *at: sympy.S.Zero))
        curves = [curve(e) for e in derivatives]
        self.low, self.high = (self._over(curves, cells, k) for k in range(2))
        middles = [[_ends(one, (a + b) / 2, (a + b) / 2) for a, b in cells] for one in curves[:-1]]
        ends = torch.tensor(middles, dtype=torch.float64)
        known = (ends[..., 1] - ends[..., 0]).isfinite()
        self.at = torch.where(known, (ends[..., 0] + ends[..., 1]) / 2, 0.0)
        self.at_error = (ends[..., 1] - ends[..., 0]) + self.at.abs() * 2e-16
        jumps = curves[0].jumps(ORDERS - 2)
        crossed = self._broken(jumps, cells)
        torn = torch.tensor([False, *(bool(jumps.get(a, 1) == 0) for a, _ in cells[1:]), False])
        self.torn = torn if bool(torn.any()) else None
        self.most = torch.maximum(self.low.abs(), self.high.abs())
        self._lows = _levels(_between(self.low, torch.where(crossed, -math.inf, math.inf)), torch.minimum)
        self._highs = _levels(_between(self.high, torch.where(crossed, math.inf, -math.inf)), torch.maximum)

    def _broken(self, jumps: dict[Any, int], cells: Any) -> Tensor:
        """Take away the bounds of what lies behind a jump: in the cell around it, or for whoever crosses the edge."""
        crossed = torch.zeros((ORDERS, len(cells) - 1), dtype=torch.bool)
        for place, order in jumps.items():
            around = [j for j, (a, b) in enumerate(cells) if a <= place <= b]
            if len(around) == 2:
                crossed[order + 1 :, around[0]] = True
            else:
                self.low[order + 1 :, around], self.high[order + 1 :, around] = -math.inf, math.inf
        return crossed

    @staticmethod
    def _over(curves: Any, cells: Any, which: int) -> Tensor:
        return torch.tensor([[_ends(one, a, b)[which] for a, b in cells] for one in curves], dtype=torch.float64)

    def cells(self, lo: Tensor, hi: Tensor) -> Cells:
        """The cells that intervals meet."""
        return Cells(lo, hi, len(self.middle) - 1, self.torn)

    def ranges(self, cells: Cells) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The smallest and the largest values of f, f', f'' and f''' over intervals; infinities beyond the table."""
        level, start, other = cells.places()
        low = torch.minimum(self._lows[level, start], self._lows[level, other])
        high = torch.maximum(self._highs[level, start], self._highs[level, other])
        inside = cells.inside[..., None]
        return torch.where(inside, low, -math.inf).unbind(-1), torch.where(inside, high, math.inf).unbind(-1)

    def range(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value over intervals."""
        low, high = self.ranges(self.cells(lo, hi))
        return low[0], high[0]

    def point(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The function at numbers, how far off that may be, and the same of its derivative."""
        cells = self.cells(x, x)
        cell = cells.first
        value, first, second = self.at[:, cell]
        errors, third = self.at_error[:, cell], self.most[3, cell]
        d = x - self.middle[cell]
        far = d.abs()
        slack = far * first.abs() + 1e-300
        value, slope = value + d * (first + d / 2 * second), first + d * second
        slope_error = errors[1] + far * errors[2]
        value_error = errors[0] + far * slope_error + third * far**3 / 6
        return (
            value,
            self._safe(value_error, value, slack, cells),
            slope,
            self._safe(slope_error + third * far**2 / 2, slope, slack, cells),
        )

    @staticmethod
    def _safe(error: Tensor, value: Tensor, slack: Tensor, cells: Cells) -> Tensor:
        error = error * (1 + 1e-14) + 4e-16 * (value.abs() + slack)
        sure = cells.inside & (cells.first == cells.last) & error.isfinite()
        return torch.where(sure, error, math.inf)

    def line(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each interval a, b, e with |f(x) - a x - b| <= e on it: the best of four lines; e is infinite without one.

        By Taylor (slope in the middle), by the mean value theorem (middle of the slopes), constant, and by the secant
        with the excess looked up cell by cell.
        """
        mid, rad = (lo + hi) / 2, (hi - lo) / 2 * (1 + 1e-15) + 1e-300
        cells = self.cells(lo, hi)
        values, errors, slopes, slope_errors = self.point(torch.stack([mid, lo, hi]))
        value, value_error = values[0], errors[0]
        (f_low, s_low, c_low, _), (f_high, s_high, c_high, _) = self.ranges(cells)
        slope = torch.minimum(torch.maximum(slopes[0], s_low), s_high)
        bend, middle = torch.maximum(c_low.abs(), c_high.abs()), (s_low + s_high) / 2
        secant = torch.where(rad > 1e-6, (values[2] - values[1]) / (2 * rad), 0.0)
        found = [
            (slope, value - slope * mid, bend * rad**2 / 2 + slope_errors[0] * rad + value_error),
            (middle, value - middle * mid, (s_high - s_low) / 2 * rad + value_error),
            (torch.zeros_like(mid), (f_low + f_high) / 2, (f_high - f_low) / 2),
            (secant, *self._beside(secant, lo, hi, cells)),
        ]
        a, b, e = (torch.stack(part) for part in zip(*found, strict=True))
        e = e * (1 + 1e-14) + 1e-15 * (a.abs() * (mid.abs() + rad) + b.abs())
        e = torch.where(e.isfinite(), e, math.inf)
        best = e.argmin(0, keepdim=True)
        a, b, e = (part.gather(0, best)[0] for part in (a, b, e))
        return torch.where(e.isfinite(), a, 0.0), torch.where(e.isfinite(), b, 0.0), e

    def _beside(self, a: Tensor, lo: Tensor, hi: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """The middle and the half of the range of f(x) - a x, cell by cell."""
        a, lo, hi = a[..., None], lo[..., None], hi[..., None]
        places = torch.arange(len(self.middle))
        inside = (places >= cells.first[..., None]) & (places <= cells.last[..., None])
        left, right = torch.maximum(self.edges[:-1], lo), torch.minimum(self.edges[1:], hi)
        reach = torch.maximum((left - self.middle).abs(), (right - self.middle).abs())
        slack = torch.maximum((self.low[1] - a).abs(), (self.high[1] - a).abs()) * reach + self.at_error[0]
        level = self.at[0] - a * self.middle
        high = torch.where(inside, level + slack, -math.inf).amax(-1)
        low = torch.where(inside, level - slack, math.inf).amin(-1)
        return (high + low) / 2, (high - low) / 2 + 1e-15 * (high.abs() + low.abs())


def _between(cells: Tensor, edges: Tensor) -> Tensor:
    """The bounds of the cells and of the edges between them, in turns."""
    pairs = torch.stack([cells[:, :-1], edges], dim=-1)
    return torch.cat([pairs.flatten(1), cells[:, -1:]], dim=1)


def _levels(values: Tensor, combine: Any) -> Tensor:
    """[levels, places, orders] For each power of two the extremes over so many from each on (the last of them repeat)."""
    found = [values]
    width = 1
    while 2 * width <= values.shape[-1]:
        before = found[-1]
        shifted = torch.cat([before[:, width:], before[:, -1:].expand(-1, width)], dim=1)
        found.append(combine(before, shifted))
        width *= 2
    return torch.stack(found).movedim(1, 2).contiguous()


@cache
def table(expr: Any) -> Table:
    """The table of a formula in ``curves.X``, made once."""
    return Table(expr)
