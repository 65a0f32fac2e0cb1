"""Coordinates across the flow: as near as possible to the neighbours, and never overlapping.

Each column in turn is a problem of least squares: the centres wish to be at the mean of their neighbours'
centres and keep their distances; "pool adjacent violators" solves it exactly.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

from .ranks import Columns

__all__ = ["Extent", "separated", "spread"]

_STRAIGHT = 4.0
"""How much more a piece of a long edge pulls than an edge between two nodes."""

_PINNED = 1e9
_SWEEPS = 10
Extent = tuple[float, float]
Pulls = list[tuple[Hashable, float]]
_Neighbours = dict[Hashable, Pulls]


def separated(wishes: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """Return the positions nearest to the wishes (least squares) whose distances are at least those given.

    Args:
        wishes: where each would like to be.
        weights: how strongly.
        distances: from each to the next, one fewer.

    Example:
        >>> separated([0.0, 0.0], [1.0, 1.0], [2.0])
        [-1.0, 1.0]
    """
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    pools: list[tuple[float, float, int]] = []
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        pool = (wish - offset, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            pool = _pooled(pools.pop(), pool)
        pools.append(pool)
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _pooled(a: tuple[float, float, int], b: tuple[float, float, int]) -> tuple[float, float, int]:
    weight = a[1] + b[1]
    return (a[0] * a[1] + b[0] * b[1]) / weight, weight, a[2] + b[2]


def spread(
    grid: Columns, sizes: Mapping[Hashable, Extent], gap: float, spine: frozenset[Hashable] = frozenset()
) -> dict[Hashable, float]:
    """Return the centre of each node and dummy across the flow.

    Args:
        grid: the columns.
        sizes: how far each reaches to both sides of its centre, across the flow.
        gap: the least space between two neighbours of a column.
        spine: nodes that lie on one straight line (at 0), at most one in a column.
    """
    places = {step: _start(column, i, sizes, gap) for column in grid.columns for i, step in enumerate(column)}
    before, after = _neighbours(grid)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        both = sweep >= _SWEEPS // 2
        for column in grid.columns if forward else reversed(grid.columns):
            pulls = {step: _pull(step, before, after, forward, both) for step in column}
            _settle(column, places, pulls, sizes, gap, spine)
    return {step: 0.0 if step in spine else place for step, place in places.items()}


def _start(column: Sequence[Hashable], place: int, sizes: Mapping[Hashable, Extent], gap: float) -> float:
    """The columns packed closely around the middle line."""
    ends = [sum(sizes[step]) + gap for step in column]
    return sum(ends[:place]) + sizes[column[place]][0] + gap / 2 - sum(ends) / 2


def _neighbours(grid: Columns) -> tuple[_Neighbours, _Neighbours]:
    steps = [step for column in grid.columns for step in column]
    before: _Neighbours = {step: [] for step in steps}
    after: _Neighbours = {step: [] for step in steps}
    for path in grid.paths.values():
        weight = 1.0 if len(path) == 2 else _STRAIGHT
        for a, b in pairwise(path):
            before[b].append((a, weight))
            after[a].append((b, weight))
    return before, after


def _pull(step: Hashable, before: _Neighbours, after: _Neighbours, forward: bool, both: bool) -> Pulls:
    if both:
        return before[step] + after[step]
    return (before if forward else after)[step]


def _settle(
    column: Sequence[Hashable], places: dict[Hashable, float], pulls: Mapping[Hashable, Pulls],
    sizes: Mapping[Hashable, Extent], gap: float, spine: frozenset[Hashable],
) -> None:  # fmt: skip
    wishes = [_wish(step, places, pulls[step], spine) for step in column]
    distances = [sizes[a][1] + sizes[b][0] + gap for a, b in pairwise(column)]
    found = separated([wish for wish, _ in wishes], [weight for _, weight in wishes], distances)
    places.update(zip(column, found, strict=True))


def _wish(
    step: Hashable, places: Mapping[Hashable, float], pulls: Pulls, spine: frozenset[Hashable]
) -> tuple[float, float]:  # fmt: skip
    if step in spine:
        return 0.0, _PINNED
    total = sum(weight for _, weight in pulls)
    if not total:
        return places[step], 0.1
    return sum(places[other] * weight for other, weight in pulls) / total, total
