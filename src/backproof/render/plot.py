"""A plot of data as a drawing: axes with round ticks, lines, points and a legend; and as characters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from backproof.document.blocks import Plot, Series
from backproof.document.drawing import Drawing, Ellipse, Label, Path, Rectangle, Shape
from backproof.document.math import Expr, Num, Pow

from .math_text import text_of

__all__ = ["Frame", "ends", "frame", "mark_of", "plot_characters", "plot_drawing", "ticks", "usable"]

_WIDTH, _HEIGHT = 480.0, 292.0
_RIGHT, _TOP, _BOTTOM = 18.0, 26.0, 48.0
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
        return _log_ticks(low, high)
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; where there are few of them, 2 and 5 times those too."""
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    if high - low > 2:
        stride = max(1, math.ceil((last - first) / 6))
        return [float(power) for power in range(first, last + stride, stride)]
    found = [power + math.log10(factor) for power in range(first, last + 1) for factor in (1, 2, 5)]
    start = max((i for i, mark in enumerate(found) if mark <= low + 1e-9), default=0)
    end = min((i for i, mark in enumerate(found) if mark >= high - 1e-9), default=len(found) - 1)
    return found[start : end + 1]


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
    whole = all(x == int(x) for series in plot.series for x in series.x if abs(x) < _LARGEST)
    inside = [mark for mark in marks if low - slack <= mark <= high + slack and (not whole or mark == int(mark))]
    return Axis(low, high, start, end, log), inside


@dataclass(frozen=True)
class Frame:
    """Where the data of a plot lie: its two axes with their marks, and whether lines are named at their ends."""

    x: Axis
    y: Axis
    x_marks: list[float]
    y_marks: list[float]
    named: tuple[float, ...] = ()

    @property
    def left(self) -> float:
        """The left end of the data."""
        return self.x.start

    @property
    def right(self) -> float:
        """The right end of the data."""
        return self.x.end


def frame(plot: Plot) -> Frame:
    """Return the axes of a plot as it is drawn."""
    y, y_marks = _axis(plot, 1, _HEIGHT - _BOTTOM, _TOP)
    left = min(96.0, 16 + max(_wide(text_of(_tick_label(y, mark))) for mark in y_marks))
    named = _ends_apart(plot, y)
    right = _WIDTH - (max(_wide(series.label) for series in plot.series) + 14 if named else _RIGHT)
    x, x_marks = _axis(plot, 0, left, right)
    return Frame(x, y, x_marks, y_marks, named)


def _wide(text: str) -> float:
    """About how wide a text of 12 or 13 pixels is."""
    return 7.6 * len(text)


def _ends_apart(plot: Plot, y: Axis) -> tuple[float, ...]:
    """The heights of labels at the ends of the lines; none where they have no room, and a legend is needed."""
    points = [[point for point in usable(plot, series) if point] for series in plot.series]
    if not 2 <= len(points) <= 6 or not all(points) or any(series.style == "points" for series in plot.series):
        return ()
    furthest = max(x for run in points for x, _ in run)
    if any(run[-1][0] != furthest for run in points) or any(_wide(s.label) > 120 for s in plot.series):
        return ()
    wanted = [y(run[-1][1]) for run in points]
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = list(wanted)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + 15)
    return tuple(placed) if max(abs(a - b) for a, b in zip(placed, wanted, strict=True)) < 22 else ()


def plot_drawing(plot: Plot) -> Drawing:
    """Return a plot as a drawing of 480 pixels' width."""
    place = frame(plot)
    shapes: list[Shape] = [*_areas(plot, place), *_y_axis(place), *_x_axis(place), *_titles(plot, place)]
    for number, series in enumerate(plot.series):
        shapes += _drawn(plot, series, number, place)
    if place.named:
        shapes += _names(plot, place)
        return Drawing(_WIDTH, _HEIGHT, tuple(shapes))
    legend = list(_legend(plot, place.left)) if len(plot.series) > 1 or _needs_name(plot) else []
    rows = round(
        max((shape.y for shape in legend if isinstance(shape, Label)), default=_HEIGHT - _LEGEND_ROW) - _HEIGHT
    )
    return Drawing(_WIDTH, _HEIGHT + rows + _LEGEND_ROW, (*shapes, *legend))


def _needs_name(plot: Plot) -> bool:
    return any(series.label and series.label != plot.y_label for series in plot.series)


def _tick_label(axis: Axis, mark: float) -> Expr:
    if axis.log and abs(mark) > 2 and float(mark).is_integer():
        return Pow(Num(10), Num(int(mark)))
    return Num(float(f"{10.0**mark:.6g}")) if axis.log else Num(mark)


def _y_axis(place: Frame) -> Iterator[Shape]:
    for mark in place.y_marks:
        at = place.y.at(mark)
        yield Path(((place.left, at), (place.right, at)), role="grid", width=0.75)
        yield Label(place.left - 8, at, _tick_label(place.y, mark), "end", 12, role="axis")


def _x_axis(place: Frame) -> Iterator[Shape]:
    base = _HEIGHT - _BOTTOM
    yield Path(((place.left, base), (place.right, base)), role="axis", width=1)
    for mark in place.x_marks:
        at = place.x.at(mark)
        yield Path(((at, base), (at, base + 5)), role="axis", width=1)
        yield Label(at, base + 16, _tick_label(place.x, mark), "middle", 12, role="axis")


def _titles(plot: Plot, place: Frame) -> Iterator[Shape]:
    yield Label((place.left + place.right) / 2, _HEIGHT - 12, plot.x_label, "middle", 13, role="axis")
    yield Label(4, 9, plot.y_label, "start", 13, role="axis")


# --- series ----------------------------------------------------------------------------------------------


def _areas(plot: Plot, place: Frame) -> Iterator[Shape]:
    """What lies between two ends, filled; where one of them cannot be shown, there is a gap."""
    for number in _pairs(plot):
        upper, lower = (usable(plot, plot.series[i]) for i in (number, number + 1))
        both = list(zip(upper, lower, strict=False))
        edges = ([(place.x(e[i][0]), place.y(e[i][1])) if all(e) else None for e in both] for i in (0, 1))  # type: ignore[index]
        for top, base in zip(*map(_runs, edges), strict=True):
            yield Path((*top, *reversed(base), top[0]), role=_area_role(plot, number), width=0)


def _area_role(plot: Plot, number: int) -> str:
    """The colour of the series that an area belongs to."""
    before = max(number - 1, 0)
    return f"area {_role(plot.series[before], before)}"


def _pairs(plot: Plot) -> list[int]:
    """The places of the first ends of areas."""
    found: list[int] = []
    for number, (a, b) in enumerate(pairwise(plot.series)):
        if a.style == b.style == "area" and number - 1 not in found:
            found.append(number)
    return found


def _drawn(plot: Plot, series: Series, number: int, place: Frame) -> Iterator[Shape]:
    if series.style == "area":
        return
    role = _role(series, number)
    points = [(place.x(point[0]), place.y(point[1])) if point else None for point in usable(plot, series)]
    if series.style != "points":
        yield from (Path(tuple(run), role=role, width=2) for run in _runs(points) if len(run) > 1)
    if series.style == "dotted":
        return
    every = 1 if series.style == "points" or len(points) <= 24 else len(points) // 8
    start = (number * every) // 3 % every if every > 1 else 0  # the marks of different lines apart
    for point in points[start::every]:
        if point:
            yield _mark(point, number)


def _role(series: Series, number: int) -> str:
    """The colour and the dashes of a series; a limit is grey and dotted."""
    return "muted" if series.style == "dotted" else f"series{number % 6}"


def _mark(point: tuple[float, float], number: int) -> Shape:
    """A circle, a square, a triangle or a diamond, so that series can be told apart without colour."""
    x, y = point
    role, kind = f"series{number % 6}", number % 4
    if kind == 0:
        return Ellipse(x, y, 3.2, 3.2, role=f"{role} solid")
    if kind == 1:
        return Rectangle(x - 3, y - 3, 6, 6, 0, role=f"{role} solid")
    corners = ((0, -4.6), (4.4, 3.2), (-4.4, 3.2)) if kind == 2 else ((0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0))
    return Path(tuple((x + a, y + b) for a, b in (*corners, corners[0])), role=f"mark {role}", width=1.8)


def _runs(points: list[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point:
            run.append(point)
        elif run:
            yield run
            run = []


def _names(plot: Plot, place: Frame) -> Iterator[Shape]:
    """The name of each line at its end."""
    for number, (series, at) in enumerate(zip(plot.series, place.named, strict=True)):
        yield Label(place.right + 8, at, series.label, "start", 12.5, role=_role(series, number))


def _legend(plot: Plot, left: float) -> Iterator[Shape]:
    """The names below the plot, as many in a row as have room."""
    x, y, areas = left, _HEIGHT + 8, _pairs(plot)
    for number, series in enumerate(plot.series):
        if series.style == "area" and number not in areas:
            continue
        label = series.label.partition(",")[0] if series.style == "area" else series.label
        wide = 33 + _wide(label) + 16
        if x > left and x + wide > _WIDTH:
            x, y = left, y + _LEGEND_ROW
        yield from _sample(plot, number, x, y)
        yield Label(x + 33, y, label, "start", 13)
        x += wide


def _sample(plot: Plot, number: int, x: float, y: float) -> Iterator[Shape]:
    """A piece of a series, before its name."""
    series = plot.series[number]
    if series.style == "area":
        corners = ((x, y - 6), (x + 26, y - 6), (x + 26, y + 6), (x, y + 6), (x, y - 6))
        yield Path(corners, role=_area_role(plot, number), width=0)
        return
    if series.style != "points":
        yield Path(((x, y), (x + 26, y)), role=_role(series, number), width=2)
    if series.style != "dotted":
        yield _mark((x + 13, y), number)


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
