"""The computational graph: leaves in boxes, operations in circles, arrows in the direction of computation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..document.drawing import Drawing, Ellipse, Label, Path, Rectangle, Shape
from ..document.math import Expr, Ref, Sym
from ..graph import Graph, Node
from .folding import Group, apart, folded_by_module, links
from .frame import framed
from .layout import Flow, Layout, layered
from .routes import Box, Point, clipped
from .signs import (
    Symbols,
    default_symbol,
    fits,
    folded,
    has_own_name,
    reference,
    shape_text,
    shortened,
    sign,
    text_width,
)

__all__ = ["operations"]

_WIDEST = 720.0
_MARGIN = 10.0
_RADIUS = 17.0
_LINE = 17.0
_SIZE = 14.0
_SHAPES_FROM = 14
"""With so many operations or more, the picture says the shapes of the values too."""

_LEAVES = {
    "input": "given",
    "target": "given",
    "parameter": "parameter",
    "buffer": "given",
    "draw": "given",
    "constant": "muted",
}


def operations(
    graph: Graph, *, joint: Any = None, symbols: Symbols | None = None, max_nodes: int = 60, each: bool = False
) -> Drawing:
    """Draw the computational graph at the level of operations.

    Small constants stand inside the operation's sign: ( )², /2. Beyond ``max_nodes`` operations, those of one
    module share a box, and equal boxes in a row are drawn once with their number.

    Args:
        graph: the network.
        joint: the result of ``differentiate``; then a second arrow shows every gradient's way back.
        symbols: the symbol of a node; by default made from its name.
        max_nodes: the number of operations that are drawn one by one.
        each: whether equal modules in a row are drawn one by one too, where there are not too many.

    Returns:
        The drawing; each shape refers to the value that it shows.

    Example:
        >>> from backproof.formula import read_model
        >>> graph = read_model({"u": "w @ x", "y": "sin(u)"}, {"w": (2,), "x": (2,)}, roles={})
        >>> labels = [shape for shape in operations(graph).shapes if isinstance(shape, Label)]
        >>> [label.content for label in labels if isinstance(label.content, str)]
        ['·', 'sin']
    """
    groups = _groups(graph, max_nodes, each)
    style = _Style(graph, symbols or default_symbol, sum(group.operations for group in groups) >= _SHAPES_FROM)
    items = {group: style.item(group) for group in groups}
    edges = links(groups)
    spine = _longest(groups, edges)
    flow, plan = _fitting(items, edges, spine)
    shapes: list[Shape] = [*_arrows(items, edges, plan, getattr(joint, "gradients", {}))]
    for group, item in items.items():
        shapes += _drawn(item, plan.centers[group], flow)
    return framed(shapes, _MARGIN)


def _groups(graph: Graph, most: int, each: bool) -> list[Group]:
    inside = {x for node in graph.nodes for x in folded(node)}
    shown = [node for node in graph.nodes if node not in inside]
    count = sum(not node.is_leaf for node in shown)
    return apart(shown) if count <= most else folded_by_module(graph, shown, most, each)


# --- what each shape says ------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Item:
    """One shape with its text.

    Args:
        text: what stands inside, line by line.
        caption: what stands beside: the value's symbol, its shape.
    """

    text: tuple[str | Expr, ...]
    caption: tuple[str | Expr, ...]
    role: str
    ref: Ref
    round: bool = False
    times: int = 1

    @property
    def size(self) -> tuple[float, float]:
        """The size of the shape itself."""
        widths = [text_width(line, _SIZE if i == 0 else _SIZE - 3) for i, line in enumerate(self.text)]
        if self.round:
            return max(2 * _RADIUS, max(widths) + 18), 2 * _RADIUS
        return max(2 * _RADIUS, max(widths) + 16), 12 + _LINE * len(self.text)

    @property
    def caption_width(self) -> float:
        """The width of what stands beside."""
        return max((text_width(line, _caption_size(line)) for line in self.caption), default=0)

    def room(self, flow: Flow) -> tuple[float, float]:
        """The size of the shape, with the length of its caption along the flow."""
        width, height = self.size
        lines = _LINE * len(self.caption)
        return (max(width, self.caption_width), height) if flow == "right" else (width, max(height, lines))

    def aside(self, flow: Flow) -> float:
        """The room that the caption takes beside the shape."""
        if not self.caption:
            return 0
        return _LINE * len(self.caption) + 1 if flow == "right" else self.caption_width + 8


def _caption_size(line: str | Expr) -> float:
    return _SIZE - 3 if isinstance(line, str) else _SIZE


@dataclass(frozen=True)
class _Style:
    """How a graph's groups become items."""

    graph: Graph
    symbols: Symbols
    shapes: bool

    def item(self, group: Group) -> _Item:
        if group.title:
            return self._module(group)
        return self._leaf(group.last) if group.last.is_leaf else self._operation(group.last)

    def _leaf(self, node: Node) -> _Item:
        symbol = self.symbols(node)
        name: str | Expr = str(node.value)[:12] if node.role == "constant" else self._short(node, symbol)
        role = _LEAVES.get(node.role, "given")
        return _Item((name,), self._shape(node), role, reference(node, symbol))

    def _short(self, node: Node, symbol: Expr) -> Expr:
        """The symbol; without its module, where the operation beside it names that or it would be wide."""
        named = any(self._caption(user) == (shortened(node.module, 16),) for user in self.graph.users[node])
        if isinstance(symbol, Sym) and node.module and (named or not fits(symbol, _SIZE, 56)):
            return replace(symbol, sup=())
        return symbol

    def _operation(self, node: Node) -> _Item:
        role = "loss" if node is self.graph.loss else "forward"
        ref = reference(node, self.symbols(node))
        own = self.graph.surrogates.get(node)
        text = (sign(node),) if own is None else (shortened(own.name, 16), "own backward")
        return _Item(text, self._caption(node) + self._shape(node), role, ref, round=own is None)

    def _caption(self, node: Node) -> tuple[str | Expr, ...]:
        """The value's symbol where it has a name, else the module whose result it is."""
        symbol = self.symbols(node)
        if node is self.graph.loss and not (has_own_name(node) and fits(symbol, _SIZE, 56)):
            return (Sym("L", ref=reference(node, symbol)),)
        if has_own_name(node) or node is self.graph.loss:
            return (symbol,)
        shown = node.module and node.name.startswith(node.module)
        return (shortened(node.module, 16),) if shown else ()

    def _module(self, group: Group) -> _Item:
        role = "loss" if self.graph.loss in group.nodes else "forward"
        count = group.operations // group.times
        inside = f"{count} operations" if count > 1 else sign(group.last)
        lines = shortened(group.title, 34), inside if group.times == 1 else f"{group.times} × {inside}"
        ref = reference(group.last, self.symbols(group.last))
        return _Item(lines, self._shape(group.last), role, ref, times=group.times)

    def _shape(self, node: Node) -> tuple[str, ...]:
        return (shape_text(node.shape),) if self.shapes and node.shape else ()


# --- where everything lies -----------------------------------------------------------------------------
def _fitting(
    items: Mapping[Group, _Item], edges: Iterable[tuple[Group, Group]], spine: Sequence[Group]
) -> tuple[Flow, Layout]:
    """The layout in which time flows to the right, or down where that would be too wide."""
    pairs = list(edges)
    for between in (44.0, 34.0, 26.0):
        plan = _layout(items, pairs, "right", between, 12, spine)
        if plan.width + 2 * _MARGIN <= _WIDEST:
            return "right", plan
    for beside in (20.0, 10.0, 4.0):
        plan = _layout(items, pairs, "down", 26, beside, spine)
        if plan.width + 2 * _MARGIN <= _WIDEST:
            break
    return "down", plan


def _layout(
    items: Mapping[Group, _Item], pairs: Sequence[tuple[Group, Group]], flow: Flow,
    between: float, beside: float, spine: Sequence[Group],
) -> Layout:  # fmt: skip
    sizes = {group: item.room(flow) for group, item in items.items()}
    aside = {group: item.aside(flow) for group, item in items.items()}
    return layered(sizes, pairs, flow=flow, between=between, beside=beside, spine=spine, aside=aside)


def _longest(groups: Sequence[Group], edges: Iterable[tuple[Group, Group]]) -> list[Group]:
    """A longest path, from an input if there is a choice: the line that the eye follows."""
    before: dict[Group, list[Group]] = {group: [] for group in groups}
    waiting = dict.fromkeys(groups, 0)
    after: dict[Group, list[Group]] = {group: [] for group in groups}
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
        waiting[b] += 1
    ready = [group for group in groups if not waiting[group]]
    best: dict[Group, tuple[int, bool, list[Group]]] = {}
    for group in ready:
        start: tuple[int, bool, list[Group]] = (0, group.last.role == "input", [])
        ways = [best[x] for x in before[group]]
        length, given, way = max(ways, key=lambda found: found[:2], default=start)
        best[group] = (length + 1, given, [*way, group])
        for follower in after[group]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return max(best.values(), key=lambda found: found[:2], default=(0, False, []))[2]


# --- shapes --------------------------------------------------------------------------------------------
def _arrows(
    items: Mapping[Group, _Item], edges: Mapping[tuple[Group, Group], list[tuple[Node, Node]]], plan: Layout,
    gradients: Mapping[Node, Node | None],
) -> Iterator[Path]:  # fmt: skip
    for (a, b), carried in edges.items():
        ends = Box(*plan.centers[a], *items[a].size), Box(*plan.centers[b], *items[b].size)
        line = clipped(plan.routes[a, b], *ends, round_start=items[a].round, round_end=items[b].round)
        yield Path(line, "forward", arrow=True, width=1.4, ref=_carried(items[a], carried))
        back = [x for x, user in carried if gradients.get(x) is not None and gradients.get(user) is not None]
        if back:
            ref = replace(_carried(items[a], carried), kind="gradient")
            yield Path(_beside(tuple(reversed(line)), 6), "backward", arrow=True, width=1.2, ref=ref)


def _carried(item: _Item, carried: Sequence[tuple[Node, Node]]) -> Ref:
    return item.ref if len(carried) != 1 else replace(item.ref, name=carried[0][0].name)


def _beside(line: tuple[Point, ...], distance: float) -> tuple[Point, ...]:
    """The line moved to one side, as a whole."""
    (x, y), (to_x, to_y) = line[0], line[-1]
    length = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5 or 1.0
    dx, dy = -(to_y - y) / length * distance, (to_x - x) / length * distance
    return tuple((a + dx, b + dy) for a, b in line)


def _drawn(item: _Item, center: Point, flow: Flow) -> Iterator[Shape]:
    (x, y), (width, height) = center, item.size
    if item.round:
        yield Ellipse(x, y, width / 2, height / 2, item.role, item.ref)
    else:
        yield from _boxes(item, center)
    first = y - _LINE * (len(item.text) - 1) / 2
    for i, line in enumerate(item.text):
        is_symbol = isinstance(line, Sym)
        size, role = (_SIZE, "") if i == 0 else (_SIZE - 3, "muted")
        yield Label(x, first + i * _LINE, line, "middle", size, role, item.ref if is_symbol else None)
    yield from _captions(item, center, flow)


def _boxes(item: _Item, center: Point) -> Iterator[Rectangle]:
    """The box, with the edges of more boxes behind it where it stands for several."""
    (x, y), (width, height) = center, item.size
    for shift in (6, 3, 0) if item.times > 1 else (0,):
        yield Rectangle(x - width / 2 + shift, y - height / 2 - shift, width, height, 7, item.role, item.ref)


def _captions(item: _Item, center: Point, flow: Flow) -> Iterator[Label]:
    (x, y), (width, height) = center, item.size
    first = y - _LINE * (len(item.caption) - 1) / 2
    for i, line in enumerate(item.caption):
        size, role = _caption_size(line), "muted" if isinstance(line, str) else ""
        ref = item.ref if isinstance(line, Sym) else None
        if flow == "right":
            yield Label(x, y + height / 2 + _LINE * (i + 0.6), line, "middle", size, role, ref)
        else:
            yield Label(x + width / 2 + 8, first + i * _LINE, line, "start", size, role, ref)
