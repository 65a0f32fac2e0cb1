"""Columns for the nodes of a directed acyclic graph: which column, and in which order within it.

The ranks and the order with few crossings come from fast_sugiyama. An edge over several columns is cut into
pieces by dummies, one in each column that it passes, so that every piece joins two neighbouring columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import BackproofError

__all__ = ["Columns", "Edge", "columns", "components", "sided"]

Edge = tuple[Any, Any]


@dataclass(frozen=True)
class Columns:
    """A graph in columns.

    Args:
        columns: the nodes and dummies of each column, in order; a dummy is ``("dummy", edge, column)``.
        paths: for each edge the nodes and dummies that it goes through, both ends included.
    """

    columns: tuple[tuple[Hashable, ...], ...]
    paths: dict[Edge, tuple[Hashable, ...]]

    @property
    def links(self) -> list[Edge]:
        """The pieces of all edges, each between two neighbouring columns."""
        return [pair for path in self.paths.values() for pair in pairwise(path)]


def components(nodes: Iterable[Hashable], edges: Iterable[Edge]) -> list[list[Hashable]]:
    """Return the connected parts, in the order of their first nodes."""
    parent = {node: node for node in nodes}

    def root(node: Hashable) -> Hashable:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in edges:
        parent[root(b)] = root(a)
    parts: dict[Hashable, list[Hashable]] = {}
    for node in parent:
        parts.setdefault(root(node), []).append(node)
    return list(parts.values())


def columns(nodes: Sequence[Hashable], edges: Sequence[Edge]) -> Columns:
    """Put one connected part into columns.

    Args:
        nodes: its nodes.
        edges: its edges without repetition.
    """
    if not edges:
        return Columns((tuple(nodes),), {})
    rank = _ranks(nodes, edges)
    paths = {edge: _path(edge, rank) for edge in edges}
    placed = {step: column for path in paths.values() for column, step in enumerate(path, rank[path[0]])}
    pieces = [pair for path in paths.values() for pair in pairwise(path)]
    across = _across(list(placed), pieces)
    found: list[list[Hashable]] = [[] for _ in range(max(rank.values()) + 1)]
    for step in sorted(placed, key=lambda step: across[step]):
        found[placed[step]].append(step)
    return Columns(tuple(tuple(column) for column in found), paths)


def sided(grid: Columns, spine: frozenset[Hashable]) -> Columns:
    """Return the columns with long edges after the spine and its single operands before it.

    The captions stand after the nodes, so that operands that come from the other side leave them free.

    Args:
        grid: the columns.
        spine: nodes and dummies on one line, at most one in a column.
    """
    before, after = (_bends(grid, spine, side) for side in (False, True))
    if before > after:
        grid = Columns(tuple(column[::-1] for column in grid.columns), grid.paths)
    singles = _singles(grid, spine)
    return Columns(tuple(_one_sided(column, spine, singles) for column in grid.columns), grid.paths)


def _bends(grid: Columns, spine: frozenset[Hashable], after: bool) -> int:
    """The number of dummies on one side of the spine."""
    halves = (_halves(column, spine) for column in grid.columns)
    return sum(step[0] == "dummy" for half in halves for step in half[2 if after else 0] if isinstance(step, tuple))


def _halves(column: Sequence[Hashable], spine: frozenset[Hashable]) -> tuple[Sequence[Hashable], ...]:
    place = next((i for i, step in enumerate(column) if step in spine), len(column))
    return column[:place], column[place : place + 1], column[place + 1 :]


def _singles(grid: Columns, spine: frozenset[Hashable]) -> set[Hashable]:
    """The nodes without operands whose one user is on the spine, if nothing leaves the spine on their way."""
    place = {step: i for column in grid.columns for i, step in enumerate(column)}
    middle = [next((place[step] for step in column if step in spine), len(column)) for column in grid.columns]
    rank = {step: i for i, column in enumerate(grid.columns) for step in column}
    users: dict[Hashable, list[Hashable]] = {step: [] for step in rank}
    for a, b in grid.links:
        users[a].append(b)
    computed = {b for _, b in grid.links}
    rising = {rank[a] for a in spine for b in users[a] if place[b] < middle[rank[b]]}
    return {
        step
        for step, found in users.items()
        if step not in computed
        and step not in spine
        and len(found) == 1
        and found[0] in spine
        and rank[step] not in rising
    }


def _one_sided(
    column: tuple[Hashable, ...], spine: frozenset[Hashable], singles: set[Hashable]
) -> tuple[Hashable, ...]:
    before, middle, after = _halves(column, spine)
    moved = [step for step in reversed(after) if step in singles]
    return (*before, *moved, *middle, *(step for step in after if step not in singles))


def _path(edge: Edge, rank: dict[Hashable, int]) -> tuple[Hashable, ...]:
    start, end = edge
    passed = (("dummy", edge, column) for column in range(rank[start] + 1, rank[end]))
    return (start, *passed, end)


def _ranks(nodes: Sequence[Hashable], edges: Sequence[Edge]) -> dict[Hashable, int]:
    """The column of each node such that edges go forward and are short altogether."""
    _refuse_cycles(nodes, edges)
    places = _library(nodes, edges)
    last = max(y for _, y in places.values())
    return {node: round(last - y) for node, (_, y) in places.items()}


def _refuse_cycles(nodes: Sequence[Hashable], edges: Sequence[Edge]) -> None:
    following: dict[Hashable, list[Hashable]] = {node: [] for node in nodes}
    waiting = dict.fromkeys(nodes, 0)
    for a, b in edges:
        following[a].append(b)
        waiting[b] += 1
    ready = [node for node in nodes if not waiting[node]]
    for node in ready:
        for after in following[node]:
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    if len(ready) < len(nodes):
        raise BackproofError("a drawing in columns needs edges without a cycle")


def _across(steps: Sequence[Hashable], pieces: Sequence[Edge]) -> dict[Hashable, float]:
    """The library's coordinate of each node and dummy across the flow."""
    return {step: x for step, (x, _) in _library(steps, pieces).items()}


def _library(nodes: Sequence[Hashable], edges: Sequence[Edge]) -> dict[Hashable, tuple[float, float]]:
    """Coordinates of a connected graph, time flowing towards y = 0; the library sees plain numbers."""
    import fast_sugiyama

    number = {node: place for place, node in enumerate(nodes)}
    found = fast_sugiyama.from_edges(
        [(number[a], number[b]) for a, b in edges],
        vertex_spacing=1,
        dummy_vertices=False,
        ranking_type="minimize",
        crossing_minimization="barycenter",
        transpose=len(edges) < 200,
    )
    places = dict(found[0][0])
    return {node: places[place] for node, place in number.items()}
