"""The ways of edges: straight between neighbouring columns, smooth through several, never across a node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Box", "Point", "clipped", "crosses", "route", "smooth"]

Point = tuple[float, float]

_BEND = 0.3
"""Where an edge bends between two columns, as a part of the space between them."""

_REACHES = math.inf, 16.0, 6.0
"""How far from a corner its rounding may begin; the first that crosses nothing is taken."""

_SAMPLES = 6
"""Points by which each bend of a smooth line is drawn."""


@dataclass(frozen=True)
class Box:
    """A rectangle by its centre and its whole width and height."""

    x: float
    y: float
    width: float
    height: float


def crosses(a: Point, b: Point, box: Box, margin: float = 0.0) -> bool:
    """Return whether the segment from a to b meets the inside of the box, made larger by the margin."""
    (x, y), (dx, dy) = a, (b[0] - a[0], b[1] - a[1])
    start, end = 0.0, 1.0
    for place, step, middle, size in ((x, dx, box.x, box.width), (y, dy, box.y, box.height)):
        low, high = middle - size / 2 - margin, middle + size / 2 + margin
        if step == 0:
            if not low < place < high:
                return False
            continue
        near, far = sorted(((low - place) / step, (high - place) / step))
        start, end = max(start, near), min(end, far)
    return start < end


def route(path: Sequence[Point], halves: Sequence[float], obstacles: Sequence[Box]) -> tuple[Point, ...]:
    """Return the points of an edge.

    Args:
        path: the centres of its ends and, between them, of the lanes that it uses, one in each column.
        halves: half the thickness of each of these columns.
        obstacles: the boxes that it must not cross.
    """
    straight = (path[0], path[-1])
    if not _blocked(straight, obstacles, 2):
        return straight
    points = [path[0]]
    for (ax, ay), (bx, by), half, next_half in zip(path, path[1:], halves, halves[1:], strict=False):
        leave, reach = ax + half, bx - next_half
        bend = _BEND * (reach - leave)
        points += [(leave + bend, ay), (reach - bend, by), (bx, by)]
    tries = (smooth(points, reach) for reach in _REACHES)
    return next((line for line in tries if not _blocked(line, obstacles)), tuple(points))


def _blocked(points: Sequence[Point], obstacles: Sequence[Box], margin: float = 0) -> bool:
    return any(crosses(a, b, box, margin) for a, b in pairwise(points) for box in obstacles)


def smooth(points: Sequence[Point], reach: float = math.inf) -> tuple[Point, ...]:
    """Return a polyline from the first point to the last that rounds every corner.

    Each corner becomes a parabola that begins and ends on its sides, at most ``reach`` from the corner and at
    most half a side.
    """
    apart = [point for i, point in enumerate(points) if i == 0 or math.dist(point, points[i - 1]) > 1e-9]
    corners = _without_straight(apart)
    found = [corners[0]]
    for a, corner, b in zip(corners, corners[1:], corners[2:], strict=False):
        start, end = _towards(corner, a, reach), _towards(corner, b, reach)
        found += [_parabola(start, corner, end, i / _SAMPLES) for i in range(_SAMPLES + 1)]
    return (*found, *corners[1:][-1:])


def _without_straight(points: Sequence[Point]) -> list[Point]:
    """The points without those where the line does not bend."""
    inner = [b for a, b, c in zip(points, points[1:], points[2:], strict=False) if abs(_turn(a, b, c)) > 1e-6]
    return [points[0], *inner, *points[1:][-1:]]


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


def _towards(corner: Point, end: Point, reach: float) -> Point:
    return _between(corner, end, min(0.5, reach / math.dist(corner, end)))


def _parabola(a: Point, corner: Point, b: Point, t: float) -> Point:
    weights = (1 - t) ** 2, 2 * t * (1 - t), t**2
    x, y = (sum(w * p[axis] for w, p in zip(weights, (a, corner, b), strict=True)) for axis in (0, 1))
    return x, y


def clipped(
    points: Sequence[Point],
    start: Box,
    end: Box,
    *,
    round_start: bool = False,
    round_end: bool = False,
    space: float = 2.0,
) -> tuple[Point, ...]:
    """Return a line from border to border instead of from centre to centre.

    Args:
        points: the line.
        start, end: the shapes at its ends.
        round_start, round_end: whether they are ellipses.
        space: left free before the end.
    """
    grown = Box(end.x, end.y, end.width + 2 * space, end.height + 2 * space)
    back = _cut(list(reversed(_cut(list(points), start, round_start))), grown, round_end)
    return tuple(reversed(back))


def _cut(points: list[Point], box: Box, is_round: bool) -> list[Point]:
    """The line from where it last leaves the shape around its first point."""
    inside = [i for i, point in enumerate(points) if _depth(point, box, is_round) < 1]
    if not inside or inside[-1] == len(points) - 1:
        return points
    a, b = points[inside[-1]], points[inside[-1] + 1]
    low, high = 0.0, 1.0
    for _ in range(30):
        t = (low + high) / 2
        if _depth(_between(a, b, t), box, is_round) < 1:
            low = t
        else:
            high = t
    return [_between(a, b, high), *points[inside[-1] + 1 :]]


def _between(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def _depth(point: Point, box: Box, is_round: bool) -> float:
    """Below 1 inside the shape, 1 on its border."""
    dx, dy = abs(point[0] - box.x) / (box.width / 2), abs(point[1] - box.y) / (box.height / 2)
    return math.hypot(dx, dy) if is_round else max(dx, dy)
