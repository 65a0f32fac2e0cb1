"""A plot of data as a drawing: axes with round ticks, lines, points and a legend; and as characters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backproof.document.blocks import Plot, Series
from backproof.document.drawing import Drawing, Ellipse, Label, Path, Rectangle, Shape
from backproof.document.math import Expr, Num, Pow

from .math_text import text_of

__all__ = ["ends", "mark_of", "plot_characters", "plot_drawing", "ticks"]

_WIDTH, _HEIGHT = 620.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 20.0, 22.0, 52.0
_LEGEND_ROW = 20.0
_LARGEST = 1e300
_MARKS = "●▲■◆○△"


@dataclass(frozen=True)
class Axis:
    """A map from data to pixels (or characters), linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.at(self.scale(value))

    def at(self, scaled: float) -> float:
        """Return the place of a value that is a logarithm already on a logarithmic axis."""
        return self.start + (scaled - self.low) / (self.high - self.low) * (self.end - self.start)

    def scale(self, value: float) -> float:
        """Return the value, or its decimal logarithm on a logarithmic axis."""
        return math.log10(value) if self.log else value


def ticks(low: float, high: float, log: bool = False) -> list[float]:
    """Return round values from about ``low`` to ``high`` (exponents of ten on a logarithmic axis).

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if log:
        first, last = math.floor(low), math.ceil(high)
        stride = max(1, math.ceil((last - first) / 6))
        return [float(power) for power in range(first, last + stride, stride)]
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _round_step(rough: float) -> float:
    scale: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough * 0.999)


def usable(plot: Plot, series: Series) -> Iterator[tuple[float, float] | None]:
    """Yield the points of a series; None stands where a value is not finite or has no logarithm."""
    for x, y in zip(series.x, series.y, strict=True):
        finite = abs(x) <= _LARGEST and abs(y) <= _LARGEST
        shown = finite and (x > 0 or not plot.log_x) and (y > 0 or not plot.log_y)
        yield (float(x), float(y)) if shown else None


def _span(plot: Plot, which: int, log: bool) -> tuple[float, float]:
    points = [point for series in plot.series for point in usable(plot, series) if point]
    values = [math.log10(point[which]) if log else point[which] for point in points] or [0.0, 1.0]
    low, high = min(values), max(values)
    pad = (abs(low) or 1.0) * 0.1 if high - low <= 1e-12 * max(abs(low), abs(high)) else 0.0
    return low - pad, high + pad


def _axis(plot: Plot, which: int, start: float, end: float) -> tuple[Axis, list[float]]:
    log = plot.log_y if which else plot.log_x
    low, high = _span(plot, which, log)
    marks = ticks(low, high, log)
    if which or log:
        return Axis(marks[0], marks[-1], start, end, log), marks
    slack = 1e-9 * (high - low)
    return Axis(low, high, start, end, log), [mark for mark in marks if low - slack <= mark <= high + slack]


def plot_drawing(plot: Plot) -> Drawing:
    """Return a plot as a drawing of 620 pixels' width."""
    height = _HEIGHT + _LEGEND_ROW * ((len(plot.series) + 2) // 3)
    x, x_ticks = _axis(plot, 0, _LEFT, _WIDTH - _RIGHT)
    y, y_ticks = _axis(plot, 1, _HEIGHT - _BOTTOM, _TOP)
    shapes: list[Shape] = [*_y_axis(y, y_ticks), *_x_axis(x, x_ticks), *_titles(plot)]
    for place, series in enumerate(plot.series):
        shapes += _drawn(plot, series, f"series{place % 6}", x, y)
        shapes += _legend(series, place)
    return Drawing(_WIDTH, height, tuple(shapes))


def _tick_label(axis: Axis, mark: float) -> Expr:
    if axis.log:
        return Pow(Num(10), Num(int(mark))) if abs(mark) > 2 else Num(float(f"{10.0**mark:.12g}"))
    return Num(mark)


def _y_axis(axis: Axis, marks: list[float]) -> Iterator[Shape]:
    for mark in marks:
        at = axis.at(mark)
        yield Path(((_LEFT, at), (_WIDTH - _RIGHT, at)), role="grid", width=0.75)
        yield Label(_LEFT - 8, at, _tick_label(axis, mark), "end", 12, role="axis")


def _x_axis(axis: Axis, marks: list[float]) -> Iterator[Shape]:
    base = _HEIGHT - _BOTTOM
    yield Path(((_LEFT, base), (_WIDTH - _RIGHT, base)), role="axis", width=1)
    for mark in marks:
        at = axis.at(mark)
        yield Path(((at, base), (at, base + 5)), role="axis", width=1)
        yield Label(at, base + 16, _tick_label(axis, mark), "middle", 12, role="axis")


def _titles(plot: Plot) -> Iterator[Shape]:
    yield Label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, plot.x_label, "middle", 13, role="axis")
    yield Label(_LEFT - 8, 9, plot.y_label, "start", 13, role="axis")


def _drawn(plot: Plot, series: Series, role: str, x: Axis, y: Axis) -> Iterator[Shape]:
    points = [(x(point[0]), y(point[1])) if point else None for point in usable(plot, series)]
    if series.style == "line":
        yield from (Path(tuple(run), role=role, width=2) for run in _runs(points) if len(run) > 1)
    if series.style == "points" or len(points) <= 40:
        yield from (_dot(point, role) for point in points if point)


def _dot(point: tuple[float, float], role: str) -> Shape:
    return Ellipse(point[0], point[1], 3, 3, role=f"{role} solid")


def _runs(points: list[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point:
            run.append(point)
        elif run:
            yield run
            run = []


def _legend(series: Series, place: int) -> Iterator[Shape]:
    x = _LEFT + (place % 3) * (_WIDTH - _LEFT - _RIGHT) / 3
    y = _HEIGHT + _LEGEND_ROW * (place // 3) + 6
    role = f"series{place % 6}"
    if series.style == "line":
        yield Path(((x, y), (x + 26, y)), role=role, width=2)
    else:
        yield Rectangle(x + 10, y - 3, 6, 6, 3, role=f"{role} solid")
    yield Label(x + 33, y, series.label, "start", 13)


# --- characters ------------------------------------------------------------------------------------------


def ends(plot: Plot) -> list[tuple[str, tuple[Num, Num], tuple[Num, Num]]]:
    """Return for each series its label, its first point and its last point."""
    return [
        (series.label, (Num(series.x[0]), Num(series.y[0])), (Num(series.x[-1]), Num(series.y[-1])))
        for series in plot.series
        if series.x
    ]


def plot_characters(plot: Plot, width: int, height: int = 11) -> list[str]:
    """Return a plot as lines of characters, each series with its own mark.

    Args:
        plot: the plot.
        width: of a line, in characters.
        height: the number of rows for the data.
    """
    y, y_marks = _axis(plot, 1, height - 1, 0)
    labels = [text_of(_tick_label(y, mark)) for mark in (y_marks[-1], y_marks[0])]
    gutter = max(len(label) for label in labels)
    x, x_marks = _axis(plot, 0, 0, width - gutter - 3)
    rows = _dotted(plot, x, y, width - gutter - 2, height)
    texts = {0: labels[0], height - 1: labels[1]}
    lines = [f"{texts.get(place, ''):>{gutter}} ┤{''.join(row).rstrip()}" for place, row in enumerate(rows)]
    low, high = (text_of(_tick_label(x, mark)) for mark in (x_marks[0], x_marks[-1]))
    base = f"{'':{gutter}} └" + "─" * (width - gutter - 2)
    space = width - gutter - 2 - len(low) - len(high)
    return [
        f"{'':{gutter}} {plot.y_label}",
        *lines,
        base,
        f"{'':{gutter}}  {low}{plot.x_label:^{max(space, 1)}}{high}",
    ]


def _dotted(plot: Plot, x: Axis, y: Axis, width: int, height: int) -> list[list[str]]:
    rows = [[" "] * width for _ in range(height)]
    put: Callable[[float], int] = round
    for place, series in enumerate(plot.series):
        for point in usable(plot, series):
            if point:
                rows[put(y(point[1]))][put(x(point[0]))] = _MARKS[place % len(_MARKS)]
    return rows


def mark_of(place: int) -> str:
    """Return the character that stands for a series in :func:`plot_characters`."""
    return _MARKS[place % len(_MARKS)]
