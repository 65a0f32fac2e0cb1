"""Read a graph over fields, forwards and backwards; what has no formula is averaged over draws of Gaussian fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import TopologicalSorter

import torch
from torch import Tensor

from ...errors import BackproofError
from ...graph import Graph, Node
from ..fields import Field, Known, Layout, Unpredictable, aligned, drawn, field_of
from ..numbers import tensor_of, wide_numbers, widened
from . import errors, signals
from .batched import each
from .layouts import layout_of, plain_layout, uncopied
from .maps import is_map
from .norms import statistics_of
from .population import Population, populations

__all__ = ["Reading"]

Value = Field | Known
_DRAWS, _LARGEST, _DEEPEST = 6000, 4_000_000, 400
_PAIRS = ("add", "sub", "mul", "div")
_PLAIN = ("neg", "identity", "cast", "stop_gradient")


@dataclass
class Reading:
    """One network over fields.

    Args:
        graph: the network.
        given: the tensors of its leaves; a parameter's entries count as independent draws of one distribution.
        seed: of the draws with which an operation without a formula is averaged.
        reasons: for each node about which nothing is said, why.
    """

    graph: Graph
    given: Mapping[Node, Tensor]
    seed: int = 0
    values: dict[Node, Value | None] = field(default_factory=dict)
    deltas: dict[Node, Field | None] = field(default_factory=dict)
    reasons: dict[Node, str] = field(default_factory=dict)
    cones: dict[Node, tuple[list[Node], list[Node]]] = field(default_factory=dict)

    # --- forwards -----------------------------------------------------------------------------------------------------
    def forward(self, wanted: Iterable[Node]) -> None:
        """The fields of some nodes, and of what they need."""
        for node in sorted(wanted, key=self._place.__getitem__):
            self.value(node)

    @cached_property
    def _place(self) -> dict[Node, int]:
        return {n: i for i, n in enumerate(self.graph.nodes)}

    def value(self, node: Node) -> Value | None:
        """What is known about a node; None where the theory is silent."""
        if node not in self.values:
            try:
                self.values[node] = self._found(node)
            except (Unpredictable, BackproofError, NotImplementedError) as error:
                self.values[node] = None
                self.reasons[node] = str(error).splitlines()[0]
        return self.values[node]

    def _found(self, node: Node) -> Value:
        if node.is_leaf:
            tensor = self.given[node] if node in self.given else tensor_of(node, wide=True)
            return Known(tensor, node.role in ("parameter", "buffer") and tensor.numel() > 1)
        if node in self._shared:
            return self._together(node)
        if not self.is_map(node) and all(isinstance(self.value(x), Known) for x in self._needed(node)):
            return self._folded(node)
        if self.is_hard(node):
            return self._sampled(node)
        operands = [self._operand(node, i) for i in range(len(node.inputs))]
        found: Field = signals.apply(node, *operands)
        finite = bool(found.kernel.isfinite().all())
        return found if finite else self._sampled(node)  # a tail that is never reached, as the root of a mean square

    @cached_property
    def _shared(self) -> dict[Node, Population]:
        """The nodes of the parts whose maps share weights."""
        parts = populations(self.graph, self.value, self.draws_of, self.seed)
        return {n: part for part in parts for n in part.inside}

    def _together(self, node: Node) -> Value:
        """A node of such a part: all of it is drawn at once. Where that is not possible, its maps count as different ones."""
        part = self._shared[node]
        try:
            self.values.update(part.forward())
        except (Unpredictable, BackproofError, NotImplementedError) as error:
            self.reasons[node] = str(error).splitlines()[0]
            for n in part.inside:
                del self._shared[n]
            return self._found(node)
        return self.values[node]  # type: ignore[return-value]

    def draws_of(self, node: Node, count: int, generator: torch.Generator) -> Tensor:
        """Draws of a value: those that there are, else of a Gaussian field."""
        value = self.value(node)
        assert isinstance(value, Field)
        if node in self._shared:
            own = self._shared[node].draws[node]
            return own[torch.arange(count) % len(own)]
        return drawn(value, count, generator)

    def _folded(self, node: Node) -> Known:
        """Of given values: computed. It counts as random if parameters alone went in."""
        operands = [v for v in (self.value(x) for x in node.inputs) if isinstance(v, Known)]
        if len(operands) < len(node.inputs):
            raise Unpredictable("an operand of it is not known")
        wide = [v.random for x, v in zip(node.inputs, operands, strict=True) if x.size > 1 or v.random]
        return Known(wide_numbers.apply(node, *(v.values for v in operands)), bool(wide) and all(wide))

    @staticmethod
    def _needed(node: Node) -> tuple[Node, ...]:
        """The operands; of a normalisation by its own statistics, its input."""
        own = node.op.family == "normalisation" and statistics_of(node) is not None
        return node.inputs[:1] if own else node.inputs

    def _operand(self, node: Node, place: int) -> Value | None:
        """An operand's field; of statistics that a norm takes of its own input, nothing is needed."""
        if node.op.family == "normalisation" and place in (1, 2) and statistics_of(node) is not None:
            return None
        found = self.value(node.inputs[place])
        if found is None:
            raise Unpredictable(self.reasons.get(node.inputs[place], "what comes before it is not known"))
        return found

    # --- what has no formula --------------------------------------------------------------------------------------------
    def is_map(self, node: Node) -> bool:
        """Whether it is a linear map with random weights."""
        return not node.is_leaf and is_map(node, [self._kind(x) for x in node.inputs])

    def _kind(self, node: Node) -> Value | None:
        return self.value(node) if node.is_leaf or all(x.is_leaf for x in node.inputs) else self.values.get(node)

    def is_hard(self, node: Node) -> bool:
        """Whether an operation has no formula here, or its operands depend on each other, or are not Gaussian."""
        if self.is_map(node):
            return False
        if node.op.family == "normalisation":
            return not isinstance(self.value(node.inputs[0]), Field)
        if signals.lookup(node.op) is None or node.op.name in ("matmul", "linear", "conv", "conv_transpose"):
            return True
        if node.op.name in _PAIRS:
            return self._dependent(node)
        own = node.op.name in signals.rules
        if own or node.op.name in _PLAIN:
            return False
        x = self.value(node.inputs[0])
        return len(node.inputs) != 1 or not (isinstance(x, Field) and x.gaussian)

    def _dependent(self, node: Node) -> bool:
        a, b = node.inputs
        both = isinstance(self.value(a), Field) and isinstance(self.value(b), Field)
        divided = node.op.name == "div" and not isinstance(self.value(b), Known)
        return divided or (both and bool(self.roots(a) & self.roots(b)))

    def roots(self, node: Node) -> frozenset[Node]:
        """The random maps that a value depends on, up to the maps right before it."""
        if node not in self._roots:
            if isinstance(self.values.get(node), Known) or node.is_leaf:
                self._roots[node] = frozenset()
            elif node in self._shared:
                self._roots[node] = frozenset([self._shared[node].inside[0]])
            elif self.is_map(node):
                self._roots[node] = frozenset([node])
            else:
                self._roots[node] = frozenset().union(*(self.roots(x) for x in node.inputs))
        return self._roots[node]

    @cached_property
    def _roots(self) -> dict[Node, frozenset[Node]]:
        return {}

    def _cone(self, end: Node) -> tuple[list[Node], list[Node]]:
        """The nodes that are computed together, in order, and the independent Gaussian fields that they start from."""
        inside, edge, waiting = {end}, set[Node](), list(end.inputs)
        while True:
            while waiting:
                x = waiting.pop()
                if x in inside or x in edge:
                    continue
                if self._starts(x):
                    edge.add(x)
                    continue
                inside.add(x)
                waiting += x.inputs
                if len(inside) > _DEEPEST:
                    raise Unpredictable("too many dependent steps in a row")
            late = self._entangled(edge)
            if late is None:
                return sorted(inside, key=self._place.__getitem__), sorted(edge, key=self._place.__getitem__)
            edge.discard(late)
            inside.add(late)
            waiting += late.inputs

    def _starts(self, x: Node) -> bool:
        value = self.value(x) if x.is_leaf or self.is_map(x) else self.values.get(x)
        if isinstance(value, Known) or self.is_map(x) or x in self._shared:
            return True
        if self.is_hard(x):
            return False
        value = self.value(x)
        return isinstance(value, Known) or (isinstance(value, Field) and value.gaussian)

    def _entangled(self, edge: set[Node]) -> Node | None:
        """The last of two starts that depend on each other."""
        fields = [x for x in sorted(edge, key=self._place.__getitem__) if not isinstance(self.values.get(x), Known)]
        for i, late in reversed(list(enumerate(fields))):
            if not (self.is_map(late) or late in self._shared) and any(
                self.roots(late) & self.roots(x) for x in fields[:i] + fields[i + 1 :]
            ):
                return late
        return None

    def _sampled(self, node: Node) -> Field:
        """The moments of a node, averaged over draws of the Gaussian fields that it starts from."""
        inside, edge = self.cones[node] = self._cone(node)
        layout = self._layout(node, inside)
        with torch.no_grad():
            _, out = self._runs(node, inside, edge, layout)
        found = field_of(out, layout)
        if not bool(found.kernel.isfinite().all()):
            raise Unpredictable("its moments are not finite")
        return found

    def _layout(self, end: Node, inside: list[Node]) -> Layout:
        known: dict[Node, Layout] = {}

        def of(x: Node) -> Layout:
            if x in known:
                return known[x]
            value = self.value(x)
            if value is None:
                raise Unpredictable(self.reasons.get(x, "what comes before it is not known"))
            return value.layout if isinstance(value, Field) else plain_layout(value)

        for x in inside:
            known[x] = layout_of(x, [of(y) for y in x.inputs])
        return tuple(tuple(replace(a, kind="position") if a.kind == "copy" else a for a in d) for d in known[end])

    def _runs(
        self, node: Node, inside: list[Node], edge: list[Node], layout: Layout
    ) -> tuple[dict[Node, Tensor], Tensor]:
        """Draws of the starts, and what comes of them: [count, *shape] each."""
        generator = torch.Generator().manual_seed(self.seed + self._place[node])
        values = {x: self.value(x) for x in edge}
        if any(v is None for v in values.values()):
            raise Unpredictable("what comes before it is not known")
        starts = [x for x in edge if isinstance(values[x], Field)]
        count = _enough([*inside, *starts], layout)
        draws = {x: self.draws_of(x, count, generator).detach().clone().requires_grad_() for x in starts}
        known = {x: widened(v.values) for x, v in values.items() if isinstance(v, Known)}
        found: dict[Node, Tensor] = {**{x: t.expand(count, *t.shape) for x, t in known.items()}, **draws}
        for x in inside:
            found[x] = each(x, [found[y] for y in x.inputs])
        return draws, found[node]

    # --- backwards ------------------------------------------------------------------------------------------------------
    def backward(self, start: Node, delta: Field) -> None:
        """The error signals of all nodes before ``start``, from the one there."""
        self.deltas = {start: delta}
        for unit in self._backwards(start):
            if isinstance(unit, Population):
                self._back_together(unit)
            elif unit in self.deltas and not unit.is_leaf and not isinstance(self.values.get(unit), Known):
                self._back(unit, self.deltas[unit])

    def _backwards(self, start: Node) -> Iterable[Node | Population]:
        """The nodes from the start back, each after all that use it; what was drawn together counts as one."""
        if not self._shared:
            return reversed(self.graph.nodes[: self._place[start] + 1])
        order: TopologicalSorter[Node | Population] = TopologicalSorter()
        for node in self.graph.nodes:
            unit = self._shared.get(node, node)
            order.add(unit, *(u for x in node.inputs if (u := self._shared.get(x, x)) is not unit))
        return reversed(tuple(order.static_order()))

    def _back_together(self, part: Population) -> None:
        arriving = {n: self.deltas[n] for n in part.inside if n in self.deltas}
        if not arriving:
            return
        found: Mapping[Node, Field | None] = dict.fromkeys(part.edge)
        if all(d is not None for d in arriving.values()):
            found = part.backward(arriving)  # type: ignore[arg-type]
        for node, delta in found.items():
            if node in part.edge and delta is not None:
                self._give(node, delta)
            else:
                self.deltas[node] = delta

    def _back(self, node: Node, delta: Field | None) -> None:
        value = self.values.get(node)
        try:
            if delta is None or value is None:
                raise Unpredictable(self.reasons.get(node, "what comes behind it is not known"))
            cone = self.cones.get(node) or self._with_norms(node)
            if cone is not None:
                self._back_through(node, delta, *cone)
                return
            operands = tuple(self._operand(node, i) for i in range(len(node.inputs)))
            parts = errors.apply(node, operands, value, delta)
            for x, part in zip(node.inputs, parts, strict=True):
                if part is not None:
                    self._give(x, part)
        except (Unpredictable, BackproofError, NotImplementedError) as error:
            self.reasons.setdefault(node, str(error).splitlines()[0])
            for x in self.cones[node][1] if node in self.cones else node.inputs:
                if not isinstance(self.values.get(x), Known):
                    self.deltas[x] = None

    def _with_norms(self, node: Node) -> tuple[list[Node], list[Node]] | None:
        """A function behind a batch norm (perhaps a sum later), with it: its slope depends on what the norm projects out."""
        if node.op.family != "elementwise" or node.op.name in signals.rules:
            return None
        inside, waiting, found = {node}, list(node.inputs), False
        while waiting:
            x = waiting.pop()
            if x.op.name == "add" and isinstance(self.values.get(x), Field) and len(self.graph.users[x]) == 1:
                inside.add(x)
                waiting += x.inputs
            elif x.op.name == "batch_norm" and statistics_of(x) is not None:
                inside |= {x, *x.inputs[1:3]}
                found = True
        edge = {y for x in inside for y in x.inputs if y not in inside}
        order = self._place.__getitem__
        return (sorted(inside, key=order), sorted(edge, key=order)) if found else None

    def _give(self, node: Node, part: Field) -> None:
        """Add an error signal to those that arrived before: they are taken to be independent."""
        if node not in self.deltas:
            self.deltas[node] = part
            return
        before = self.deltas[node]
        if before is not None:
            a, b = aligned(before, part)
            cross = torch.outer(a.mean, b.mean)
            self.deltas[node] = Field(a.layout, a.mean + b.mean, a.kernel + b.kernel + cross + cross.T, True)

    def _back_through(self, node: Node, delta: Field, inside: list[Node], edge: list[Node]) -> None:
        generator = torch.Generator().manual_seed(self.seed + 7919 + self._place[node])
        layout = delta.layout if node not in self.cones else self._layout(node, inside)
        leaves, out = self._runs(node, inside, edge, layout)
        arriving = drawn(delta, len(out), generator)
        cut = not (out.requires_grad and leaves)  # an index of the largest, a comparison
        ends = tuple(leaves.values())
        grads = (
            (None,) * len(ends)
            if cut
            else torch.autograd.grad(out, ends, arriving.reshape(out.shape), allow_unused=True)
        )
        for (x, leaf), g in zip(leaves.items(), grads, strict=True):
            value = self.values[x]
            assert isinstance(value, Field)
            self._give(x, field_of(torch.zeros_like(leaf) if g is None else g, uncopied(value.layout), True))


def _enough(nodes: list[Node], layout: Layout) -> int:
    """How many draws of so many nodes: some thousand entries that differ, and no more memory than there is."""
    features = math.prod(a.size for d in layout for a in d if a.kind == "feature")
    size = max(sum(x.size for x in nodes), 1)
    return max(2, min(_DRAWS // max(features, 1) + 1, _LARGEST // size, 400))
