"""A layered layout of a directed acyclic graph whose nodes have sizes; time flows to the right or down."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

from ..errors import BackproofError
from .ranks import Columns, Edge, columns, components, sided
from .routes import Box, Point, route
from .spread import Extent, spread

__all__ = ["Flow", "Layout", "layered"]

Flow = Literal["right", "down"]
Size = tuple[float, float]
Key = TypeVar("Key", bound=Hashable)

_LANE = 6.0
"""The room across the flow that an edge takes in a column that it passes."""


@dataclass(frozen=True)
class Layout:
    """Where everything lies, in a rectangle from (0, 0) to (width, height), y downwards.

    Args:
        centers: the centre of each node.
        routes: for each edge its points, from the centre of its start to the centre of its end.
    """

    width: float
    height: float
    centers: dict[Hashable, Point]
    routes: dict[Edge, tuple[Point, ...]]


def layered(
    sizes: Mapping[Key, Size],
    edges: Iterable[Edge],
    *,
    flow: Flow = "right",
    between: float = 40,
    beside: float = 18,
    spine: Sequence[Key] = (),
    aside: Mapping[Key, float] | None = None,
) -> Layout:
    """Lay out a graph in columns (or rows).

    Args:
        sizes: the width and height of each node.
        edges: pairs of nodes, without a cycle; a repeated pair counts once.
        flow: where time flows.
        between: the space between two columns.
        beside: the space between two nodes of a column.
        spine: a path of nodes that shall lie on one straight line.
        aside: more room that a node needs below it (to its right, where time flows down), for a caption.

    Raises:
        BackproofError: an edge names a node without a size, or the edges have a cycle.

    Example:
        >>> layered({"a": (20, 10), "b": (20, 10)}, [("a", "b")], between=30).centers
        {'a': (10.0, 5.0), 'b': (60.0, 5.0)}
    """
    pairs = list(dict.fromkeys(edges))
    if unknown := [node for pair in pairs for node in pair if node not in sizes]:
        raise BackproofError(f"an edge of the drawing names {unknown[0]!r}, which has no size")
    turned = flow == "down"
    extents: dict[Hashable, _Extents] = {
        node: _extents(size[::-1] if turned else size, (aside or {}).get(node, 0)) for node, size in sizes.items()
    }
    parts = [_part(part, extents, pairs, between, beside, spine) for part in components(extents, pairs)]
    return _stacked(parts, extents, beside, turned)


@dataclass(frozen=True)
class _Extents:
    """The length along the flow and how far a node reaches to both sides of its centre, across the flow."""

    along: float
    across: Extent


def _extents(size: Size, aside: float) -> _Extents:
    return _Extents(size[0], (size[1] / 2, size[1] / 2 + aside))


def _part(
    nodes: Sequence[Hashable], extents: Mapping[Hashable, _Extents], pairs: Sequence[Edge], between: float,
    beside: float, spine: Sequence[Hashable],
) -> _Part:  # fmt: skip
    inside = set(nodes)
    grid = columns(nodes, [pair for pair in pairs if pair[0] in inside])
    straight = _straight(grid, spine)
    grid = sided(grid, straight)
    lane = _extents((0.0, _LANE), 0)
    every = {step: extents.get(step, lane) for column in grid.columns for step in column}
    places = spread(grid, {step: extent.across for step, extent in every.items()}, beside, straight)
    return _Part(grid, _positions(grid, every, places, between), every)


def _straight(grid: Columns, spine: Sequence[Hashable]) -> frozenset[Hashable]:
    """The nodes of the spine and the dummies of the edges between them."""
    here = {step for column in grid.columns for step in column}
    inside = [node for node in spine if node in here]
    steps = (grid.paths.get(pair, ()) for pair in pairwise(inside))
    return frozenset(inside[:1]) | frozenset(step for path in steps for step in path)


def _positions(
    grid: Columns, extents: Mapping[Hashable, _Extents], across: Mapping[Hashable, float], between: float
) -> dict[Hashable, Point]:
    places, edge = {}, 0.0
    for column in grid.columns:
        thickness = max(extents[step].along for step in column)
        places.update({step: (edge + thickness / 2, across[step]) for step in column})
        edge += thickness + between
    return places


@dataclass(frozen=True)
class _Part:
    """A connected part with the positions of its nodes and dummies, time along the first axis."""

    grid: Columns
    places: dict[Hashable, Point]
    extents: dict[Hashable, _Extents]

    def moved(self, shift: float) -> _Part:
        places = {step: (x, y + shift) for step, (x, y) in self.places.items()}
        return _Part(self.grid, places, self.extents)

    def span(self) -> tuple[float, float]:
        """The least and the greatest coordinate across the flow."""
        low = min(y - self.extents[step].across[0] for step, (_, y) in self.places.items())
        return low, max(y + self.extents[step].across[1] for step, (_, y) in self.places.items())

    def routes(self, nodes: Collection[Hashable]) -> dict[Edge, tuple[Point, ...]]:
        boxes = [[self._box(step) for step in column if step in nodes] for column in self.grid.columns]
        halves = [max(self.extents[step].along for step in column) / 2 for column in self.grid.columns]
        place = {step: i for i, column in enumerate(self.grid.columns) for step in column}

        def points(path: Sequence[Hashable]) -> tuple[Point, ...]:
            passed = slice(place[path[0]], place[path[-1]] + 1)
            ends = self._box(path[0]), self._box(path[-1])
            others = [box for column in boxes[passed] for box in column if box not in ends]
            return route([self.places[step] for step in path], halves[passed], others)

        return {edge: points(path) for edge, path in self.grid.paths.items()}

    def _box(self, step: Hashable) -> Box:
        (x, y), extent = self.places[step], self.extents[step]
        low, high = extent.across
        return Box(x, y + (high - low) / 2, extent.along, low + high)


def _stacked(parts: Sequence[_Part], sizes: Collection[Hashable], beside: float, turned: bool) -> Layout:
    """The parts beside one another across the flow."""
    offset, placed = 0.0, []
    for part in parts:
        low, high = part.span()
        placed.append(part.moved(offset - low))
        offset += high - low + 2 * beside
    length = max(
        (x + part.extents[step].along / 2 for part in placed for step, (x, _) in part.places.items()),
        default=0,
    )
    turn = _turned if turned else _as_it_is
    centers = {node: turn(part.places[node]) for part in placed for node in part.places if node in sizes}
    routes = {edge: tuple(map(turn, way)) for part in placed for edge, way in part.routes(sizes).items()}
    width, height = turn((length, max(0.0, offset - 2 * beside)))
    return Layout(width, height, {node: centers[node] for node in sizes}, routes)


def _turned(point: Point) -> Point:
    return point[1], point[0]


def _as_it_is(point: Point) -> Point:
    return point
