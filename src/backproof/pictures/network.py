"""The network of units: a column of circles for each layer, a line for each weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ..document.drawing import Drawing, Ellipse, Label, Path, Rectangle, Shape
from ..document.math import Expr, Neg, Num, Sym
from ..graph import Graph, Node
from .chain import Bias, Chain, Layer, chain
from .frame import framed, label_box
from .placing import Line, label_places
from .routes import Box, clipped
from .signs import Symbols, default_symbol, fits, reference, shortened, text_width

__all__ = ["units"]

_MOST_UNITS, _MOST_EDGES, _MOST_LABELS = 12, 120, 24
_WIDEST, _MARGIN = 700.0, 10.0
_RADIUS, _LARGEST = 20.0, 34.0
_SIZE, _SMALL = 13.0, 11.0
_BIAS = 20.0
"""The length of the arrow by which a bias comes in."""

_GAP = 165.0
"""The distance between the centres of two columns, where there is room."""


def units(
    graph: Graph,
    *,
    symbols: Symbols | None = None,
    weights: Mapping[str, Any] | None = None,
    sample: int = 0,
    room: float = 0.0,
) -> Drawing | None:
    """Draw the units of a small dense network, the input on the left and the loss on the right.

    Args:
        graph: the network.
        symbols: the symbol of a node; by default made from its name.
        weights: the parameters' numbers by name, as nested lists (or formulas); lines are as thick as their
            weight is large, negative ones dashed.
        sample: the sample of a batch whose values the units refer to.
        room: the least radius of a unit, where its numbers are to be written under its symbols.

    Returns:
        The drawing, or None if the graph is no chain of dense layers, or too large to be drawn unit by unit.

    Example:
        >>> from backproof.formula import read_model
        >>> graph = read_model({"y": "sin(w @ x)"}, {"w": (2,), "x": (2,)}, roles={"w": "parameter"})
        >>> [shape.ref.index for shape in units(graph).shapes if getattr(shape, "role", "") == "parameter"]
        [(0,), (1,)]
    """
    found = chain(graph)
    if found is None or not _is_small(found):
        return None
    return _Picture(found, symbols or default_symbol, weights or {}, sample, room).drawing()


def _is_small(found: Chain) -> bool:
    widest = max(max(layer.inputs, layer.outputs) for layer in found.layers)
    return widest <= _MOST_UNITS and sum(layer.inputs * layer.outputs for layer in found.layers) <= _MOST_EDGES


@dataclass(frozen=True)
class _Unit:
    """A unit: its place, radius and one or two values with their labels."""

    x: float
    y: float
    radius: float
    values: tuple[Label, ...]
    role: str

    @property
    def box(self) -> Box:
        return Box(self.x, self.y, 2 * self.radius, 2 * self.radius)


class _Picture:
    """The drawing under construction."""

    def __init__(self, found: Chain, symbols: Symbols, weights: Mapping[str, Any], sample: int, room: float) -> None:
        self.chain, self.symbols, self.weights, self.sample = found, symbols, weights, sample
        self.room = min(room, _LARGEST)
        self.edges = sum(layer.inputs * layer.outputs for layer in found.layers)
        self.largest = max((abs(x) for layer in found.layers for x in self._sizes(layer)), default=0) or 1.0

    def drawing(self) -> Drawing:
        counts = [self.chain.layers[0].inputs, *(layer.outputs for layer in self.chain.layers)]
        pitch = 2 * self._radius() + (_BIAS + 12 if any(layer.biases for layer in self.chain.layers) else 14)
        columns = [self._column(i, count, pitch) for i, count in enumerate(counts)]
        beside = [*self._biases(columns), *_headers(self.chain.layers, columns[1:])]
        boxes = [unit.box for column in columns for unit in column]
        boxes += [label_box(shape) for shape in beside if isinstance(shape, Label)]
        shapes = [
            *self._lines(columns, boxes),
            *(shape for column in columns for unit in column for shape in _circle(unit)),
        ]
        loss = self._loss(columns[-1], self.chain.loss) if self.chain.loss is not None else ()
        return framed([*shapes, *beside, *loss], _MARGIN)

    # --- units ---
    def _radius(self) -> float:
        halves = [text_width(label, _SIZE) for layer in self.chain.layers for label in self._named(layer)]
        return min(_LARGEST, max([_RADIUS, self.room, *(half + 7 for half in halves if half + 7 <= _LARGEST)]))

    def _named(self, layer: Layer) -> list[Expr]:
        nodes = dict.fromkeys((layer.before, layer.after))
        return [self._symbol(node, layer.outputs, 0) for node in nodes if node.role == "value"]

    def _x(self, column: int) -> float:
        count = len(self.chain.layers) + (self.chain.loss is not None)
        room = _WIDEST - 2 * _MARGIN - 2 * self._radius()
        return _MARGIN + self._radius() + column * min(_GAP, room / max(1, count))

    def _column(self, place: int, count: int, pitch: float) -> list[_Unit]:
        x, first = self._x(place), -pitch * (count - 1) / 2
        layer = self.chain.layers[place - 1] if place else None
        radius = self._radius() if layer else max(_RADIUS, 0.8 * self.room)
        return [
            _Unit(
                x,
                first + i * pitch,
                radius,
                tuple(self._values(layer, count, i)),
                "forward" if layer else "given",
            )
            for i in range(count)
        ]

    def _values(self, layer: Layer | None, count: int, unit: int) -> Iterator[Label]:
        """What stands in a unit: its values' symbols, or what it computes where they would not fit."""
        nodes = dict.fromkeys((layer.before, layer.after)) if layer else {self.chain.start: None}
        room = self._radius() - 6 if len(nodes) > 1 else 2 * self._radius() - 8
        symbols = [self._symbol(node, count, unit) for node in nodes if node.role != "helper"]
        if len(symbols) < len(nodes) or not all(fits(symbol, _SIZE, room) for symbol in symbols):
            yield self._short(layer, list(nodes)[-1], count, unit)
            return
        for node, symbol in zip(nodes, symbols, strict=True):
            yield Label(0, 0, symbol, "middle", _SIZE, "", self._ref(node, count, unit))

    def _short(self, layer: Layer | None, node: Node, count: int, unit: int) -> Label:
        ref, last = self._ref(node, count, unit), self._symbol(node, count, unit)
        if layer is None:
            return Label(0, 0, Sym("x", sub=(str(unit + 1),) if count > 1 else (), ref=ref), "middle", _SIZE, "", ref)
        if node.role == "value" and fits(last, _SIZE, 2 * self._radius() - 8):
            return Label(0, 0, last, "middle", _SIZE, "", ref)
        return Label(0, 0, layer.functions[0] if layer.functions else "Σ", "middle", _SMALL, "", ref)

    def _symbol(self, node: Node, count: int, unit: int) -> Expr:
        """The symbol of one unit's value: x₂ for the matrix X."""
        symbol, ref = self.symbols(node), self._ref(node, count, unit)
        if not isinstance(symbol, Sym):
            return symbol
        name = symbol.name.lower() if len(symbol.name) == 1 and len(node.shape) > 1 else symbol.name
        return replace(symbol, name=name, sub=(*symbol.sub, str(unit + 1)) if count > 1 else symbol.sub, ref=ref)

    def _ref(self, node: Node, count: int, unit: int) -> Any:
        return reference(node, self.symbols(node), self.chain.unit(node, count, unit, self.sample))

    # --- biases ---
    def _biases(self, columns: Sequence[Sequence[_Unit]]) -> Iterator[Shape]:
        for layer, column in zip(self.chain.layers, columns[1:], strict=True):
            for place, unit in enumerate(column):
                for bias in layer.biases:
                    yield from self._bias(bias, unit, place)

    def _bias(self, bias: Bias, unit: _Unit, place: int) -> Iterator[Shape]:
        """An arrow from above, into the half of the unit where the bias is added."""
        shift = 0.0 if len(unit.values) == 1 else unit.radius / 2 if bias.late else -unit.radius / 2
        x, y = unit.x + shift, unit.y - math.sqrt(unit.radius**2 - shift**2)
        ref = reference(bias.node, self.symbols(bias.node), bias.index(place))
        value = _entry(self.weights.get(bias.node.name), ref.index)
        role = "parameter" if value is None else _role(value)
        yield Path(((x, y - _BIAS), (x, y - 2)), role, arrow=True, width=1.2, ref=ref)
        content = self._entry_label(bias.node, value, ref)
        if content is not None and self.edges <= _MOST_LABELS:
            shown = Neg(content) if bias.minus else content
            yield Label(x + 6, y - _BIAS + 4, shown, "start", _SMALL, "", ref)

    # --- lines ---
    def _lines(self, columns: Sequence[Sequence[_Unit]], boxes: Sequence[Box]) -> Iterator[Shape]:
        paths: list[Path] = []
        labels: list[Expr | None] = []
        for layer, (left, right) in zip(self.chain.layers, pairwise(columns), strict=True):
            for i, start in enumerate(left):
                for j, end in enumerate(right):
                    path, label = self._line(layer, (i, j), start, end)
                    paths.append(path)
                    labels.append(label)
        yield from paths
        if self.edges <= _MOST_LABELS:
            yield from _weight_labels(paths, labels, boxes)

    def _line(self, layer: Layer, place: tuple[int, int], start: _Unit, end: _Unit) -> tuple[Path, Expr | None]:
        weight = layer.weight
        ref = reference(weight.node, self.symbols(weight.node), weight.index(*place))
        value = _entry(self.weights.get(weight.node.name), ref.index)
        points = clipped(
            ((start.x, start.y), (end.x, end.y)),
            start.box,
            end.box,
            round_start=True,
            round_end=True,
            space=0,
        )
        thickest = 3.2 if self.edges <= _MOST_LABELS else 1.8
        width = 1.3 if value is None else 0.8 + thickest * abs(_number(value)) / self.largest
        role = "parameter" if value is None else _role(value)
        return Path(points, role, width=width, ref=ref), self._entry_label(weight.node, value, ref)

    def _entry_label(self, node: Node, value: Any, ref: Any) -> Expr | None:
        """The number of an entry, or its symbol where the numbers are not given."""
        if value is not None:
            return replace(value, ref=ref) if isinstance(value, Num) else Num(_number(value), ref=ref)
        symbol = self.symbols(node)
        if not isinstance(symbol, Sym):
            return None
        name = symbol.name.lower() if len(symbol.name) == 1 and len(ref.index) > 1 else symbol.name
        sub = tuple(str(place + 1) for place in ref.index) if node.size > 1 else ()
        return Sym(name, (*symbol.sub, *sub), symbol.sup if fits(symbol, _SMALL, 40) else (), "", ref)

    def _sizes(self, layer: Layer) -> list[float]:
        given = self.weights.get(layer.weight.node.name)
        pairs = ((i, j) for i in range(layer.inputs) for j in range(layer.outputs))
        return [] if given is None else [_number(_entry(given, layer.weight.index(i, j))) for i, j in pairs]

    # --- the loss ---
    def _loss(self, outputs: Sequence[_Unit], loss: Node) -> Iterator[Shape]:
        x, radius = self._x(len(self.chain.layers) + 1), min(max(24.0, 0.8 * self.room), self._radius())
        box = Box(x, 0, 2 * radius, 2 * radius)
        for unit in outputs:
            line = clipped(((unit.x, unit.y), (x, 0)), unit.box, box, round_start=True, round_end=True)
            ref = unit.values[-1].ref
            yield Path(line, "forward", arrow=True, width=1.2, ref=ref)
        yield from self._targets(box)
        symbol = self.symbols(loss)
        shown = symbol if loss.role == "value" and fits(symbol, _SIZE, 2 * radius - 8) else Sym("L")
        ref = reference(loss, symbol)
        yield Ellipse(x, 0, radius, radius, "loss", ref)
        yield Label(x, 0, replace(shown, ref=ref) if isinstance(shown, Sym) else shown, "middle", _SIZE, "", ref)

    def _targets(self, loss: Box) -> Iterator[Shape]:
        for i, node in enumerate(self.chain.targets):
            symbol = self.symbols(node)
            symbol = symbol if fits(symbol, _SIZE, 56) else Sym("t", ref=reference(node, symbol))
            width = max(2 * _RADIUS - 6, text_width(symbol, _SIZE) + 14)
            x = loss.x + (i - (len(self.chain.targets) - 1) / 2) * (width + 8)
            box, ref = Box(x, loss.y + loss.height / 2 + 40, width, 26), reference(node, symbol)
            yield Path(
                clipped(((x, box.y), (loss.x, loss.y)), box, loss, round_end=True),
                "forward",
                True,
                1.2,
                ref=ref,
            )
            yield Rectangle(x - width / 2, box.y - 13, width, 26, 7, "given", ref)
            yield Label(x, box.y, symbol, "middle", _SIZE, "", ref)


def _circle(unit: _Unit) -> Iterator[Shape]:
    """The circle of a unit; two values share it, left and right of a line."""
    yield Ellipse(unit.x, unit.y, unit.radius, unit.radius, unit.role, unit.values[-1].ref)
    if len(unit.values) == 2:
        yield Path(((unit.x, unit.y - unit.radius), (unit.x, unit.y + unit.radius)), unit.role, width=1)
    shift = unit.radius / 2 if len(unit.values) == 2 else 0
    for label, side in zip(unit.values, (-1, 1), strict=False):
        yield replace(label, x=unit.x + side * shift, y=unit.y)


def _headers(layers: Sequence[Layer], columns: Sequence[Sequence[_Unit]]) -> Iterator[Label]:
    """Above each column its layer's module and functions in words."""
    for layer, column in zip(layers, columns, strict=True):
        words = [word for word in (shortened(layer.weight.node.module, 12), *layer.functions[:2]) if word]
        y = column[0].y - column[0].radius - (_BIAS + 12 if layer.biases else 12)
        if words:
            yield Label(column[0].x, y, " · ".join(words), "middle", _SMALL, "muted")


def _weight_labels(paths: Sequence[Path], labels: Sequence[Expr | None], boxes: Sequence[Box]) -> Iterator[Shape]:
    """Each weight near its line, on a patch of paper, where it covers no other."""
    lines = [Line(path.points[0], path.points[-1]) for path in paths]
    sizes = [(text_width(label, _SMALL) + 6, _SMALL + 4) if label is not None else None for label in labels]
    for path, label, box in zip(paths, labels, label_places(lines, sizes, boxes), strict=True):
        if label is not None and box is not None:
            corner = box.x - box.width / 2, box.y - box.height / 2
            yield Rectangle(*corner, box.width, box.height, 3, "paper solid", path.ref)
            yield Label(box.x, box.y, label, "middle", _SMALL, "", path.ref)


# --- numbers -------------------------------------------------------------------------------------------
def _entry(given: Any, index: tuple[int, ...]) -> Any:
    """One entry of nested lists, or None where no numbers are given."""
    for place in index if given is not None else ():
        given = given[place]
    return given


def _number(value: Any) -> float:
    return float(value.value if isinstance(value, Num) else value)


def _role(value: Any) -> str:
    number = _number(value)
    return "muted" if number == 0 else "positive" if number > 0 else "negative"
