"""Whether a graph is a chain of dense layers, found from its operations alone.

A layer is a product with a weight (``x @ W``, ``W @ x``, a linear layer, or a number times a number), then
biases and elementwise functions. After the last layer only the loss may follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..graph import Graph, Node
from .signs import sign

__all__ = ["Bias", "Chain", "Layer", "Weight", "chain"]

Index = tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """The weight of a layer.

    Args:
        node: the parameter.
        order: what each of its axes counts: inputs (i), outputs (j), or nothing (0); "ij" for ``x @ W``.
    """

    node: Node
    order: str

    def index(self, i: int, j: int) -> Index:
        """The place of the weight from input i to output j."""
        places = {"i": i, "j": j, "0": 0}
        return tuple(places[axis] for axis in self.order)


@dataclass(frozen=True)
class Bias:
    """A leaf that is added (or, with ``minus``, subtracted), after the function if ``late``."""

    node: Node
    minus: bool
    late: bool

    def index(self, j: int) -> Index:
        """The place of unit j's entry."""
        return tuple(0 if size == 1 else j for size in self.node.shape)


@dataclass
class Layer:
    """One layer.

    Args:
        weight: its weight.
        inputs, outputs: how many units it joins.
        before, after: the values before and after its functions; the same where it has none.
        functions: the signs of its functions.
        biases: what is added.
    """

    weight: Weight
    inputs: int
    outputs: int
    before: Node
    after: Node
    functions: list[str] = field(default_factory=list)
    biases: list[Bias] = field(default_factory=list)


@dataclass(frozen=True)
class Chain:
    """Layers in a row.

    Args:
        start: the input.
        layers: at least one.
        loss: the loss, if the graph has one beyond the output.
        targets: what the loss compares with.
        in_columns: whether the samples are columns rather than rows.
    """

    start: Node
    layers: tuple[Layer, ...]
    loss: Node | None
    targets: tuple[Node, ...]
    in_columns: bool

    def unit(self, node: Node, units: int, unit: int, sample: int) -> Index:
        """Return the place of a unit's value in a node's entries, for one sample of the batch."""
        if len(node.shape) == 2:
            return (unit, sample) if self.in_columns else (sample, unit)
        is_units = len(self.start.shape) == 1 and self.layers[0].inputs == self.start.shape[0]
        return (unit if is_units and units == node.size else sample,) if node.shape else ()


def chain(graph: Graph) -> Chain | None:
    """Return the chain of layers that the graph is, or None if it is anything else."""
    found = (_Walk(graph, start).chain() for start in graph.of_role("input"))
    return next((result for result in found if result), None)


class _Walk:
    """A walk along the only way from an input."""

    def __init__(self, graph: Graph, start: Node) -> None:
        self.graph, self.start, self.here = graph, start, start
        self.layers: list[Layer] = []
        self.used: set[Node] = {start}
        self.in_columns = False

    def chain(self) -> Chain | None:
        """The chain if the walk meets everything, else None."""
        while self._step():
            pass
        rest = _after(self.graph, self.here)
        leaves = {x for node in rest for x in node.inputs if x.is_leaf and x.role != "constant"}
        expected = {node for node in self.graph.nodes if node.is_leaf and node.role != "constant"}
        is_whole = expected == self.used | leaves and not any(x.role == "parameter" for x in leaves)
        if not self.layers or not is_whole or len(self.start.shape) > 2 or (rest and self.graph.loss not in rest):
            return None
        targets = tuple(node for node in self.graph.nodes if node in leaves)
        return Chain(self.start, tuple(self.layers), self.graph.loss if rest else None, targets, self.in_columns)

    def _step(self) -> bool:
        """Take the next operation into the chain, if it belongs there."""
        users = self.graph.users[self.here]
        is_output = self.here in self.graph.outputs and self.here is not self.graph.loss
        if len(users) != 1 or is_output or not self.here.is_float:
            return False
        user = users[0]
        taken = self._layer(user) or self._bias(user) or self._function(user)
        if taken:
            self.here = user
        return taken

    # --- a product ---
    def _layer(self, node: Node) -> bool:
        others = [x for x in node.inputs if x is not self.here]
        if len(node.shape) > 2 or not others or node.op.name not in ("linear", "matmul", "mul"):
            return False
        leaf, turned = _leaf(others[0])
        if leaf is None or leaf.role == "constant":
            return False
        order = self._order(node, others[0])
        if order is None:
            return False
        sizes = dict(zip(order, others[0].shape, strict=True))
        weight = Weight(leaf, order[::-1] if turned else order)
        self.in_columns |= node.op.name == "matmul" and node.inputs[0] is not self.here and len(self.here.shape) == 2
        layer = Layer(weight, sizes.get("i", 1), sizes.get("j", 1), node, node)
        if node.op.name == "linear" and len(node.inputs) == 3:
            layer.biases.append(Bias(node.inputs[2], minus=False, late=False))
        if layer.inputs != (self.layers[-1].outputs if self.layers else layer.inputs):
            return False
        self.used |= {leaf, *(bias.node for bias in layer.biases)}
        self.layers.append(layer)
        return True

    def _order(self, node: Node, weight: Node) -> str | None:
        """What each axis of the weight counts; None if the product is no layer."""
        axes = len(weight.shape)
        if node.op.name == "linear":
            return "ji"
        if node.op.name == "matmul":
            first = node.inputs[0] is self.here
            return {1: "i", 2: "ij" if first else "ji"}.get(axes)
        is_one = weight.size == 1 and (not self.layers or self.layers[-1].outputs == 1)
        return "0" * axes if is_one and weight.role == "parameter" else None

    # --- what follows a product ---
    def _bias(self, node: Node) -> bool:
        if not self.layers or node.op.name not in ("add", "sub") or node.inputs[0] is node.inputs[-1]:
            return False
        other = next(x for x in node.inputs if x is not self.here)
        leaf, layer = _leaf(other)[0], self.layers[-1]
        if leaf is not other or leaf.role in ("constant", "target") or not self._is_bias(node, leaf, layer):
            return False
        if node.op.name == "sub" and node.inputs[0] is other:
            return False
        layer.biases.append(Bias(leaf, node.op.name == "sub", bool(layer.functions)))
        self.used.add(leaf)
        self._extend(layer, node)
        return True

    def _is_bias(self, node: Node, leaf: Node, layer: Layer) -> bool:
        fits = leaf.size in (1, layer.outputs) and node.shape == self.here.shape
        return fits and (leaf.role == "parameter" or (node.role == "value" and node is not self.graph.loss))

    def _function(self, node: Node) -> bool:
        """An elementwise function of one value, a softmax, or another shape of the same units."""
        numbers = [x for x in node.inputs if x is not self.here]
        if not self.layers or any(x.role != "constant" or x.size > 1 for x in numbers) or self._is_loss_from(node):
            return False
        same = node.op.name in ("reshape", "identity", "cast") and node.size == self.here.size and len(node.shape) <= 2
        if not same and node.op.family not in ("elementwise", "arithmetic") and node.op.name != "softmax":
            return False
        if node.op.name not in ("reshape", "identity", "cast"):
            self.layers[-1].functions.append(sign(node))
        self._extend(self.layers[-1], node)
        return True

    def _is_loss_from(self, node: Node) -> bool:
        """Whether only steps of the loss come from here on: nothing with a name of its own."""
        rest = [node, *_after(self.graph, node)]
        return self.graph.loss in rest and all(x is self.graph.loss or x.role != "value" for x in rest)

    def _extend(self, layer: Layer, node: Node) -> None:
        layer.after = node
        if not layer.functions:
            layer.before = node


def _leaf(node: Node) -> tuple[Node | None, bool]:
    """The leaf that a node is, or the transpose of (then True)."""
    if node.is_leaf:
        return node, False
    turned = node.op.name == "permute" and len(node.shape) == 2 and node.inputs[0].is_leaf
    return (node.inputs[0], True) if turned else (None, False)


def _after(graph: Graph, node: Node) -> list[Node]:
    """Everything that depends on a node, in order."""
    return list(_dependents(graph, node))


def _dependents(graph: Graph, node: Node) -> Iterator[Node]:
    reached = {node}
    for other in graph.nodes:
        if any(x in reached for x in other.inputs):
            reached.add(other)
            yield other
