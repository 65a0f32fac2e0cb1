"""Lines of equal height over a grid, by marching squares with linear interpolation along the edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["contours", "levels_of"]

Point = tuple[float, float]
_CASES: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((3, 0),), 2: ((0, 1),), 3: ((3, 1),), 4: ((1, 2),), 5: ((3, 0), (1, 2)), 6: ((0, 2),), 7: ((3, 2),), 8: ((2, 3),),
    9: ((2, 0),), 10: ((0, 1), (2, 3)), 11: ((2, 1),), 12: ((1, 3),), 13: ((1, 0),), 14: ((0, 3),),
}  # fmt: skip
"""Which edges (bottom, right, top, left) of a cell a line connects, by which of its corners lie above the level."""


def levels_of(heights: Sequence[Sequence[float]], count: int = 9) -> list[float]:
    """Levels with about as much room between them: quantiles of the heights."""
    every = sorted(h for row in heights for h in row if abs(h) < 1e300)
    found = [every[min(len(every) - 1, round(len(every) * (k / (count + 1)) ** 1.5))] for k in range(1, count + 1)]
    return sorted(set(found))


def contours(
    xs: Sequence[float], ys: Sequence[float], heights: Sequence[Sequence[float]], level: float
) -> list[list[Point]]:
    """The lines on which the height is a level: each a list of points.

    Args:
        xs, ys: the places of the columns and the rows.
        heights: row by row.
        level: the height.
    """
    pieces = [
        piece for j in range(len(ys) - 1) for i in range(len(xs) - 1) for piece in _cell(xs, ys, heights, level, i, j)
    ]
    return _joined(pieces)


def _cell(
    xs: Sequence[float], ys: Sequence[float], z: Sequence[Sequence[float]], level: float, i: int, j: int
) -> Iterator[tuple[Point, Point]]:
    corners = ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1))
    heights = [z[b][a] for a, b in corners]
    if not all(abs(h) < 1e300 for h in heights):
        return
    case = sum(1 << k for k, h in enumerate(heights) if h > level)
    for start, end in _CASES.get(case, ()):
        yield _crossing(xs, ys, corners, heights, level, start), _crossing(xs, ys, corners, heights, level, end)


def _crossing(
    xs: Sequence[float],
    ys: Sequence[float],
    corners: Sequence[tuple[int, int]],
    heights: Sequence[float],
    level: float,
    edge: int,
) -> Point:
    (a, b), (c, d) = corners[edge], corners[(edge + 1) % 4]
    one, two = heights[edge], heights[(edge + 1) % 4]
    share = (level - one) / (two - one)
    x, y = xs[a] + share * (xs[c] - xs[a]), ys[b] + share * (ys[d] - ys[b])
    return round(x, 9), round(y, 9)


def _joined(pieces: list[tuple[Point, Point]]) -> list[list[Point]]:
    """Pieces put together at their common ends."""
    by_start: dict[Point, list[tuple[Point, Point]]] = {}
    for piece in pieces:
        by_start.setdefault(piece[0], []).append(piece)
    ends = {end for _, end in pieces}
    lines: list[list[Point]] = []
    heads = [p for p in by_start if p not in ends] + list(by_start)
    for head in heads:
        while by_start.get(head):
            line = [head]
            while by_start.get(line[-1]):
                line.append(by_start[line[-1]].pop()[1])
            lines.append(line)
    return lines
