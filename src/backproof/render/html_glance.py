"""A tensor at a glance as SVG: a histogram of its entries, and for a matrix a heat map.

Positive cells are filled squares, negative ones flat bars, so that the sign can be seen without colour; the size is
the opacity, in five levels. Pages hold hundreds of these, so the markup is short: the cells of one sign and level
are one stroke of a path, and what they look like is in the style sheet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby, pairwise

from backproof.document.blocks import Glance

__all__ = ["heat_map", "histogram"]

_WIDTH, _HEIGHT = 120, 34
_CELL, _LEVELS = 7, 5


def histogram(glance: Glance) -> str:
    """Return the histogram: an outline of bars, and a line at zero where zero is inside."""
    most, count = max(glance.counts, default=0) or 1, max(len(glance.counts), 1)
    tops = [max(1, round(n / most * _HEIGHT)) if n else 0 for n in glance.counts]
    outline = "".join(f"v{before - top}h1" if top != before else "h1" for before, top in pairwise([0, *tops]))
    return (
        f'<svg class="glance-bars" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {count} {_HEIGHT}" '
        f'preserveAspectRatio="none" aria-hidden="true"><path d="M0 {_HEIGHT}{_joined(outline)}V{_HEIGHT}z"/>'
        f"{_zero(glance, count)}</svg>"
    )


def _joined(outline: str) -> str:
    """The same path with level stretches drawn in one go."""
    return re.sub(r"(?:h1){2,}", lambda run: f"h{len(run[0]) // 2}", outline)


def _zero(glance: Glance, count: int) -> str:
    if not glance.low < 0 < glance.high:
        return ""
    return f'<path class="zero" d="M{-glance.low / (glance.high - glance.low) * count:.3g} 0v{_HEIGHT}"/>'


def heat_map(glance: Glance) -> str:
    """Return the heat map of a matrix, or nothing."""
    if not glance.cells:
        return ""
    rows, columns = len(glance.cells), max(map(len, glance.cells))
    layers = "".join(_layer(level, sign, glance) for level in range(1, _LEVELS + 1) for sign in (1, -1))
    return (
        f'<svg class="glance-heat" width="{columns * _CELL}" height="{rows * _CELL}" '
        f'viewBox="0 -.5 {columns} {rows}" aria-hidden="true">{layers}</svg>'
    )


def _layer(level: int, sign: int, glance: Glance) -> str:
    """All cells of one sign and one of the levels as strokes of one path."""
    marks, last = "", None
    for y, x, length in _runs(level, sign, glance):
        marks += f"M{x} {y}" if last is None else f"m{x - last[1]} {y - last[0]}"
        marks += f"h{length}"
        last = y, x + length
    return f'<path class="{"p" if sign > 0 else "n"}{level}" d="{marks}"/>' if marks else ""


def _runs(level: int, sign: int, glance: Glance) -> Iterator[tuple[int, int, int]]:
    """Row, first column and length of neighbouring cells of one sign and level."""
    for y, row in enumerate(glance.cells):
        found = [value * sign > 0 and max(1, round(abs(value) * _LEVELS)) == level for value in row]
        start = 0
        for same, cells in groupby(found):
            length = len(list(cells))
            if same:
                yield y, start, length
            start += length
