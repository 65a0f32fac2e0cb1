"""The way of several runs over lines of equal height, as a drawing with axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..document.drawing import Drawing, Ellipse, Label, Path, Rectangle, Shape
from ..document.math import Num

__all__ = ["Trail", "trails_drawing"]

Point = tuple[float, float]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, ROW = 480.0, 360.0, 58.0, 14.0, 26.0, 44.0, 20.0


@dataclass(frozen=True)
class Trail:
    """A run: its name, and its points in order."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class _Frame:
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, point: Point) -> Point:
        """A point in pixels; what lies outside is kept at the edge."""
        across = (min(max(point[0], self.x[0]), self.x[1]) - self.x[0]) / (self.x[1] - self.x[0])
        up = (min(max(point[1], self.y[0]), self.y[1]) - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def trails_drawing(
    x: tuple[float, float],
    y: tuple[float, float],
    lines: Sequence[Sequence[Point]],
    trails: Sequence[Trail],
    names: tuple[str, str],
) -> Drawing:
    """Draw runs over lines of equal height.

    Args:
        x, y: what the picture shows, from and to.
        lines: the lines of equal height.
        trails: the runs; in a page their paths can be followed step by step.
        names: of the two axes.
    """
    frame = _Frame(x, y)
    shapes: list[Shape] = [Path(tuple(map(frame.place, line)), role="grid", width=1) for line in lines if len(line) > 1]
    shapes += _axes(frame, names)
    for number, trail in enumerate(trails):
        role = f"series{number % 6}"
        points = tuple(map(frame.place, trail.points))
        shapes += [Path(points, role=f"trail {role}", width=1.8), _mark(points[-1], number)]
    if trails:
        start = frame.place(trails[0].points[0])
        shapes.append(Ellipse(*start, 4, 4, role="axis"))
    legend = list(_legend(trails))
    rows = round(max((s.y for s in legend if isinstance(s, Label)), default=HEIGHT) - HEIGHT)
    return Drawing(WIDTH, HEIGHT + rows + ROW / 2, (*shapes, *legend))


def _mark(point: Point, number: int) -> Shape:
    """Where a run ends: a circle, a square or a diamond, so that runs can be told apart without colour."""
    (x, y), role, kind = point, f"series{number % 6}", number % 3
    if kind == 0:
        return Ellipse(x, y, 3.6, 3.6, role=f"{role} solid")
    if kind == 1:
        return Rectangle(x - 3.4, y - 3.4, 6.8, 6.8, 0, role=f"{role} solid")
    corners = ((0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0), (0, -4.8))
    return Path(tuple((x + a, y + b) for a, b in corners), role=f"mark {role}", width=1.8)


def _axes(frame: _Frame, names: tuple[str, str]) -> Iterator[Shape]:
    base = HEIGHT - BOTTOM
    yield Path(((LEFT, base), (WIDTH - RIGHT, base)), role="axis", width=1)
    yield Path(((LEFT, base), (LEFT, TOP)), role="axis", width=1)
    for value in _ticks(*frame.x):
        at = frame.place((value, frame.y[0]))[0]
        yield Path(((at, base), (at, base + 5)), role="axis", width=1)
        yield Label(at, base + 16, Num(value), "middle", 12, role="axis")
    for value in _ticks(*frame.y):
        at = frame.place((frame.x[0], value))[1]
        yield Path(((LEFT - 5, at), (LEFT, at)), role="axis", width=1)
        yield Label(LEFT - 8, at, Num(value), "end", 12, role="axis")
    yield Label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, names[0], "middle", 13, role="axis")
    yield Label(4, 10, names[1], "start", 13, role="axis")


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(f * scale for f in (1, 2, 5, 10) if f * scale >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def _legend(trails: Sequence[Trail]) -> Iterator[Shape]:
    x, y = LEFT, HEIGHT + 8
    for number, trail in enumerate(trails):
        wide = 33 + 7.4 * len(trail.label) + 16
        if x > LEFT and x + wide > WIDTH:
            x, y = LEFT, y + ROW
        yield Path(((x, y), (x + 26, y)), role=f"series{number % 6}", width=2)
        yield _mark((x + 13, y), number)
        yield Label(x + 33, y, trail.label, "start", 13)
        x += wide
