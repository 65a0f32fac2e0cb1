"""A tensor at a glance as SVG: a histogram of its entries, and for a matrix a heat map.

Positive cells are filled squares, negative ones are filled squares with a bar cut out, so that the sign can be
seen without colour; the size is the opacity, in eight levels.
"""

from __future__ import annotations

from collections.abc import Iterator

from backproof.document.blocks import Glance

__all__ = ["heat_map", "histogram"]

_WIDTH, _HEIGHT = 120, 34
_CELL, _LEVELS = 7, 8


def histogram(glance: Glance) -> str:
    """Return the histogram: bars, and a line at zero where zero is inside."""
    most = max(glance.counts, default=0) or 1
    wide = _WIDTH / max(len(glance.counts), 1)
    bars = "".join(_bar(place * wide, wide, count / most) for place, count in enumerate(glance.counts) if count)
    return (
        f'<svg class="glance-bars" width="{_WIDTH}" height="{_HEIGHT + 2}" viewBox="0 0 {_WIDTH} {_HEIGHT + 2}" '
        f'aria-hidden="true" fill="currentColor"><path d="{bars}"></path>{_zero(glance)}'
        f'<path class="base" d="M0 {_HEIGHT}h{_WIDTH}v1h-{_WIDTH}z"></path></svg>'
    )


def _bar(x: float, wide: float, share: float) -> str:
    high = max(1.0, share * _HEIGHT)
    return f"M{x:.4g} {_HEIGHT - high:.4g}h{max(wide - 1, 0.5):.3g}v{high:.4g}h-{max(wide - 1, 0.5):.3g}z"


def _zero(glance: Glance) -> str:
    if not glance.low < 0 < glance.high:
        return ""
    x = -glance.low / (glance.high - glance.low) * _WIDTH
    return f'<path class="zero" d="M{x:.4g} 0v{_HEIGHT}" fill="none" stroke="currentColor"></path>'


def heat_map(glance: Glance) -> str:
    """Return the heat map of a matrix, or nothing."""
    if not glance.cells:
        return ""
    height, width = len(glance.cells) * _CELL, max(map(len, glance.cells)) * _CELL
    layers = "".join(_layer(level, sign, glance) for level in range(1, _LEVELS + 1) for sign in (1, -1))
    return (
        f'<svg class="glance-heat" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'aria-hidden="true" fill="currentColor">{layers}</svg>'
    )


def _layer(level: int, sign: int, glance: Glance) -> str:
    """All cells of one sign and one of the levels as one path."""
    marks = "".join(_cell(x, y, sign) for y, x in _of_level(level, sign, glance))
    kind = "positive" if sign > 0 else "negative"
    return f'<path class="heat-{kind}" fill-opacity="{level / _LEVELS:g}" d="{marks}"></path>' if marks else ""


def _of_level(level: int, sign: int, glance: Glance) -> Iterator[tuple[int, int]]:
    for y, row in enumerate(glance.cells):
        for x, value in enumerate(row):
            if value * sign > 0 and max(1, round(abs(value) * _LEVELS)) == level:
                yield y, x


def _cell(x: int, y: int, sign: int) -> str:
    left, top, size = x * _CELL, y * _CELL, _CELL - 1
    if sign > 0:
        return f"M{left} {top}h{size}v{size}h-{size}z"
    return f"M{left} {top}h{size}v2h-{size}zM{left} {top + 4}h{size}v2h-{size}z"
