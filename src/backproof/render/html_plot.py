"""What a page adds to a plot: the numbers under the pointer, and all of them as a table that folds away."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from backproof.document.blocks import Plot, Table
from backproof.document.math import Num

from .escape import xml
from .math_text import number_text
from .plot import frame, usable

__all__ = ["hits", "numbers"]

Row = tuple[str | Num | None, ...]
_MOST_HITS = 160
_MOST_ROWS = 100


def _by_x(plot: Plot) -> dict[float, list[float | None]]:
    """The values of all series at each place, in order."""
    found: dict[float, list[float | None]] = {}
    for number, series in enumerate(plot.series):
        for x, y in zip(series.x, series.y, strict=True):
            found.setdefault(float(x), [None] * len(plot.series))[number] = float(y)
    return dict(sorted(found.items(), key=lambda item: item[0]))


def _is_function(plot: Plot) -> bool:
    """Whether each series has one value at a place, so that places make rows."""
    return all(len(set(series.x)) == len(series.x) for series in plot.series)


def hits(plot: Plot) -> str:
    """Return invisible shapes over the data that say their numbers when they are pointed at."""
    place = frame(plot)
    if not _is_function(plot):
        shapes = _spots(plot)
        return f'<g class="hits">{"".join(shapes)}</g>'
    columns = [(place.x(x), x, values) for x, values in _by_x(plot).items() if x > 0 or not plot.log_x]
    columns = columns[:: max(1, -(-len(columns) // _MOST_HITS))]
    top, high = place.y.end, place.y.start - place.y.end
    edges = [place.left, *((a[0] + b[0]) / 2 for a, b in pairwise(columns)), place.right]
    shapes = (
        f'<rect class="hit" x="{left:.1f}" y="{top:g}" width="{max(right - left, 1):.1f}" height="{high:g}">'
        f"<title>{_said(plot, x, values)}</title></rect>"
        for (left, right), (_, x, values) in zip(pairwise(edges), columns, strict=False)
        if left == left and right == right
    )
    return f'<g class="hits">{"".join(shapes)}</g>'


def _spots(plot: Plot) -> Iterator[str]:
    place = frame(plot)
    for series in plot.series:
        points = [point for point in usable(plot, series) if point]
        for x, y in points[:: max(1, -(-len(points) // _MOST_HITS))]:
            said = xml(f"{series.label}: ({number_text(Num(x))}, {number_text(Num(y))})")
            yield f'<circle class="hit" cx="{place.x(x):.1f}" cy="{place.y(y):.1f}" r="8"><title>{said}</title></circle>'


def _said(plot: Plot, x: float, values: list[float | None]) -> str:
    lines = [f"{plot.x_label} {number_text(Num(x))}"]
    lines += [
        f"{series.label}: {number_text(Num(y))}" for series, y in zip(plot.series, values, strict=True) if y is not None
    ]
    return xml("\n".join(lines))


def numbers(plot: Plot) -> Table:
    """Return the data as a table: a row for each place, or of many for some, evenly chosen."""
    if _is_function(plot):
        rows: list[Row] = [
            (Num(x), *(None if y is None else Num(y) for y in values)) for x, values in _by_x(plot).items()
        ]
        heads = (plot.x_label, *(series.label for series in plot.series))
        kept, numeric = _some(rows), tuple(range(len(heads)))
        return Table(tuple((head,) for head in heads), kept, _caption(len(rows), len(kept)), numeric)
    pairs: list[Row] = [
        (s.label, Num(float(x)), Num(float(y))) for s in plot.series for x, y in zip(s.x, s.y, strict=True)
    ]
    shown = _some(pairs)
    return Table((("series",), (plot.x_label,), (plot.y_label,)), shown, _caption(len(pairs), len(shown)), (1, 2))


def _some(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(rows[:: max(1, -(-len(rows) // _MOST_ROWS))])


def _caption(count: int, shown: int) -> str:
    return "" if shown == count else f"{shown} of {count} rows, evenly chosen"
