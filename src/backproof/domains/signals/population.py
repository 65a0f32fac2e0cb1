"""Maps that share their weights: the theory simulated by a population of draws.

What maps with the same weights put out is jointly Gaussian, with Cov(W x, W y) = E[w²] x·y over all calls (Yang 2019,
Tensor Programs I, and 2020, II: the same for Wᵀ on the way back, independent of the values there). In a recurrent layer all
times so depend on each other; taken to be independent, as calls of different weights are, the gradient through time comes
out several times too small. A part of the graph between such calls is therefore carried as draws: of each value so many
tensors, to which the operations are applied as they are, with W x in the place of each map drawn with the covariance that
the draws of x have with those of all earlier calls. With more draws than one network has units, this is the limit of
infinite width; what it leaves is the noise of an average over the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from ...graph import Graph, Node
from ..fields import Axis, Field, Known, Layout, Unpredictable, drawn, field_of
from ..numbers import widened
from .batched import each
from .layouts import layout_of, plain_layout, uncopied

__all__ = ["Population", "calls_of_one_weight", "populations"]

Value = Field | Known
COORDINATES, LARGEST = 24_000, 24_000_000
_TURNS = ("permute", "cast", "reshape", "identity")


# --- one weight matrix, met again and again -----------------------------------------------------------------------------
@dataclass
class Shared:
    """The products of one matrix W of independent N(0, 1) entries with draws that arrive one after the other.

    The draws are taken apart along an orthonormal basis q of all that came before, x = Σ c q; each W q is a vector of
    independent normal entries that is drawn once. So is the bias that all calls have in common.
    """

    generator: torch.Generator
    basis: _Rows = field(default_factory=lambda: _Rows())
    images: _Rows = field(default_factory=lambda: _Rows())
    bias: Tensor | None = None

    def times(self, x: Tensor, out: int) -> Tensor:
        """W x for draws x [count, P, D], the inner product averaged over the draws: [count, P, out]."""
        count, places, _ = x.shape
        rows = x.transpose(0, 1).reshape(places, -1) / math.sqrt(count)
        found = torch.zeros((places, count * out), dtype=rows.dtype)
        if self.basis.count:
            basis = self.basis.rows
            along = rows @ basis.T
            rows = rows - along @ basis
            left = rows @ basis.T  # a second time for what rounding left
            rows = rows - left @ basis
            found = (along + left) @ self.images.rows
        fresh, root = _orthonormal(rows, float((x**2).sum(2).mean()))
        images = torch.randn((len(fresh), count * out), generator=self.generator, dtype=rows.dtype)
        self.basis.add(fresh)
        self.images.add(images)
        found = found + root @ images
        return found.reshape(places, count, out).transpose(0, 1)


class _Rows:
    """A matrix that grows by rows, in a store that doubles."""

    def __init__(self) -> None:
        self.count, self.store = 0, torch.empty((0, 0), dtype=torch.float64)

    @property
    def rows(self) -> Tensor:
        """Those added so far."""
        return self.store[: self.count]

    def add(self, more: Tensor) -> None:
        """Put rows behind the last."""
        total = self.count + len(more)
        if total > len(self.store) or not self.count:
            store = torch.empty((2 * total, more.shape[1]), dtype=more.dtype)
            if self.count:
                store[: self.count] = self.rows
            self.store = store
        self.store[self.count : total] = more
        self.count = total


def _orthonormal(rows: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """(Q, R) with rows = R Q and orthonormal Q; directions without length are left out."""
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    kept = values > 1e-10 * max(size, 1e-300)
    root = vectors[:, kept] * values[kept].sqrt()
    return (vectors[:, kept] / values[kept].sqrt()).T @ rows, root


# --- which parts of a graph -----------------------------------------------------------------------------------------------
def _key_of(node: Node, place: int) -> tuple[Node, int, bool]:
    """What two maps have in common if they are the same map: the parameter, its side and whether it is turned."""
    leaf, turned = node.inputs[place], False
    while leaf.op.name in _TURNS:
        leaf, turned = leaf.inputs[0], turned != (leaf.op.name == "permute")
    return leaf, place, turned


def _regions(graph: Graph, maps: Mapping[Node, int]) -> list[list[Node]]:
    """The parts of a graph between maps that share their weights, each in order and without a way out and in again.

    Args:
        graph: what is read.
        maps: the linear maps, each with the place of its weight among its inputs.
    """
    groups: dict[tuple[Node, int, bool], set[Node]] = {}
    for node, place in maps.items():
        groups.setdefault(_key_of(node, place), set()).add(node)
    shared = (_between(graph, calls) for calls in groups.values() if len(calls) > 1)
    parts = [_with_what_feeds(graph, _with_what_follows(graph, part, set(maps)), maps) for part in shared]
    while True:
        pair = next(((a, b) for i, a in enumerate(parts) for b in parts[:i] if a & b), None)
        if pair is None:
            break
        parts = [p for p in parts if p is not pair[0] and p is not pair[1]] + [_between(graph, pair[0] | pair[1])]
    return [[n for n in graph.nodes if n in part] for part in parts]


def _weight_place(node: Node) -> int | None:
    """Which operand of a linear map is its weight."""
    places = {"linear": (1,), "matmul": (0, 1)}.get(node.op.name, ())
    held = [k for k in places if _is_weight(node.inputs[k])]
    return held[0] if len(held) == 1 and len(node.inputs[held[0]].shape) == 2 else None


def calls_of_one_weight(graph: Graph) -> list[tuple[Node, list[Node]]]:
    """Each parameter that one chain of maps applies again and again, with these maps in order."""
    groups: dict[tuple[Node, int, bool], list[Node]] = {}
    for node in graph.nodes:
        place = _weight_place(node)
        if place is not None:
            groups.setdefault(_key_of(node, place), []).append(node)
    return [
        (key[0], calls)
        for key, calls in groups.items()
        if len(calls) > 1 and len(_between(graph, set(calls))) > len(calls)
    ]


def _with_what_feeds(graph: Graph, part: set[Node], maps: Iterable[Node]) -> set[Node]:
    """What one value gives to several calls belongs to them, back to the map behind it; that too if it feeds nothing else."""
    ends = {*maps, *(n for n in graph.nodes if n.op.name == "embedding")}
    drawn_here = set(ends)
    for node in graph.nodes:
        if any(x in drawn_here for x in node.inputs):
            drawn_here.add(node)
    grown, waiting = set(part), [x for n in part for x in n.inputs]
    while waiting:
        x = waiting.pop()
        if x in drawn_here and x not in grown and x not in ends:
            grown.add(x)
            waiting += x.inputs
    grown = _between(graph, grown)
    return grown | {n for n in maps if n not in grown and graph.users[n] and all(u in grown for u in graph.users[n])}


def _between(graph: Graph, calls: set[Node]) -> set[Node]:
    """The nodes that come after one of the calls and before another, and the calls."""
    after: set[Node] = set()
    for node in graph.nodes:
        if node in calls or any(x in after for x in node.inputs):
            after.add(node)
    before = set(calls)
    for node in reversed(graph.nodes):
        if node in before:
            before.update(node.inputs)
    return after & before


def _with_what_follows(graph: Graph, part: set[Node], maps: set[Node]) -> set[Node]:
    """What puts values of different calls together belongs to them, up to the next map."""
    after, grown = set(part), set(part)
    for node in graph.nodes:
        inside = [x for x in node.inputs if x in grown]
        if inside and node not in grown and node not in maps and node.size > 1 and node.op.family != "loss":
            if not any(x in after and x not in grown for x in node.inputs):
                grown.add(node)
        if any(x in after for x in node.inputs):
            after.add(node)
    return grown


def populations(
    graph: Graph,
    value: Callable[[Node], Value | None],
    draws: Callable[[Node, int, torch.Generator], Tensor],
    seed: int,
) -> list[Population]:
    """The parts of a graph whose maps share weights, to be drawn.

    Args:
        graph: what is read.
        value: what is known of a node outside such a part.
        draws: so many draws of one.
        seed: of the draws inside.
    """
    maps = {n: place for n in graph.nodes if (place := _weight_place(n)) is not None}
    parts = [] if len(maps) == len({_key_of(n, p) for n, p in maps.items()}) else _regions(graph, maps)
    return [Population(part, {n: maps[n] for n in part if n in maps}, value, draws, seed) for part in parts]


# --- the draws ------------------------------------------------------------------------------------------------------------
@dataclass(eq=False)
class Population:
    """The draws of one part of a graph, forwards and backwards.

    Args:
        inside: its nodes in order.
        maps: which of them are maps, each with the place of its weight.
        value: what is known of a node outside.
        outside: so many draws of one.
        seed: of the draws.
    """

    inside: Sequence[Node]
    maps: Mapping[Node, int]
    value: Callable[[Node], Value | None]
    outside: Callable[[Node, int, torch.Generator], Tensor]
    seed: int
    draws: dict[Node, Tensor] = field(default_factory=dict)
    layouts: dict[Node, Layout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = set(self.inside)
        self.edge = list(dict.fromkeys(x for n in self.inside for x in self._inputs(n) if x not in own))
        self.generator = torch.Generator().manual_seed(self.seed)

    def _inputs(self, node: Node) -> Iterable[Node]:
        """What a node needs: of a map only what goes in."""
        return (self._source(node),) if node in self.maps else node.inputs

    def _source(self, node: Node) -> Node:
        return node.inputs[1 - self.maps[node]]

    def _given(self, node: Node, place: int) -> Known | None:
        """The weight or the bias of a map."""
        found = self.value(node.inputs[place]) if place < len(node.inputs) else None
        if found is not None and not isinstance(found, Known):
            raise Unpredictable("a weight that is random and computed")
        return found

    def _weights(self, node: Node) -> _Weights:
        place, out = self.maps[node], node.shape[_axis(node)]
        weight = self._given(node, place)
        assert weight is not None
        by_row = node.op.name == "linear" or place == 0
        return _weights(weight, self._given(node, 2), by_row, self._cuts.get(out, ()))

    @cached_property
    def _cuts(self) -> dict[int, set[int]]:
        """For each number of units where the slices of values of so many units begin."""
        found: dict[int, set[int]] = {}
        for node in self.inside:
            if node.op.name == "slice" and node.attrs["dim"] % len(node.shape) == len(node.shape) - 1:
                out = node.inputs[0].shape[-1]
                found.setdefault(out, set()).add(range(out)[slice(node.attrs["start"], None)].start)
        return found

    # --- forwards -----------------------------------------------------------------------------------------------------
    def forward(self) -> dict[Node, Field]:
        """Draw the part, node after node; the field of each."""
        self._start()
        products: dict[object, Shared] = {}
        for node in self.inside:
            if node in self.maps:
                x, key = self._source(node), _key_of(node, self.maps[node])
                shared = products.setdefault(key, Shared(self.generator))
                self.draws[node] = _mapped(node, self.draws[x], self._weights(node), shared)
                self.layouts[node] = _map_layout(node, self.layouts[x])
            else:
                self.draws[node] = each(node, [self.draws[x] for x in node.inputs])
                self.layouts[node] = layout_of(node, [self.layouts[x] for x in node.inputs])
        return {n: self._field(n, self.draws[n]) for n in self.inside}

    def _start(self) -> None:
        widths = sorted(self._source(n).size // max(n.size // n.shape[_axis(n)], 1) for n in self.maps)
        width = max(widths[len(widths) // 2], 1)
        size = sum(n.size for n in self.inside)
        self.count = max(2, min(COORDINATES // width + 1, LARGEST // max(size, 1)))
        for x in self.edge:
            v = self.value(x)
            if isinstance(v, Known):
                self.draws[x], self.layouts[x] = widened(v.values).expand(self.count, *v.values.shape), plain_layout(v)
            elif isinstance(v, Field):
                self.draws[x], self.layouts[x] = self.outside(x, self.count, self.generator), v.layout
            else:
                raise Unpredictable("what comes before it is not known")

    def _field(self, node: Node, draws: Tensor, back: bool = False) -> Field:
        layout = self.layouts[node]
        return field_of(draws, uncopied(layout) if back else layout, back or node in self.maps)

    # --- backwards ------------------------------------------------------------------------------------------------------
    def backward(self, arriving: Mapping[Node, Field]) -> dict[Node, Field]:
        """The error signals of all nodes inside and of what goes in, from those that arrive from outside."""
        found: dict[Node, Tensor] = {}
        for node, delta in arriving.items():
            _add(found, node, drawn(delta, self.count, self.generator))
        products: dict[object, Shared] = {}
        for node in reversed(self.inside):
            if node not in found:
                continue
            if node in self.maps:
                x, key = self._source(node), _key_of(node, self.maps[node])
                if self._varies(x):
                    shared = products.setdefault(key, Shared(self.generator))
                    _add(found, x, _mapped_back(node, x, found[node], self._weights(node), shared))
            else:
                for x, part in zip(node.inputs, self._slopes(node, found[node]), strict=True):
                    if part is not None:
                        _add(found, x, part)
        return {n: self._field(n, tensors, True) for n, tensors in found.items()}

    def _slopes(self, node: Node, delta: Tensor) -> list[Tensor | None]:
        """The products of each draw's error signal with the derivative at its values."""
        wanted = [self._varies(x) for x in node.inputs]
        leaves = [self.draws[x].detach() for x in node.inputs]
        leaves = [t.clone().requires_grad_() if w else t for t, w in zip(leaves, wanted, strict=True)]
        out, ends = each(node, leaves), [t for t, w in zip(leaves, wanted, strict=True) if w]
        cut = not (out.requires_grad and ends)
        grads = iter([] if cut else torch.autograd.grad(out, ends, delta.reshape(out.shape), allow_unused=True))
        return [next(grads, None) if w else None for w in wanted]

    def _varies(self, x: Node) -> bool:
        known = x in self.edge and isinstance(self.value(x), Known)
        return not known and self.draws[x].is_floating_point()


def _add(found: dict[Node, Tensor], node: Node, part: Tensor) -> None:
    shaped = part.reshape(len(part), *node.shape)
    found[node] = found[node] + shaped if node in found else shaped


# --- maps -----------------------------------------------------------------------------------------------------------------
def _axis(node: Node) -> int:
    """The axis of features that a map makes: the last; for W x the last but one."""
    left = node.op.name == "matmul" and len(node.inputs[0].shape) == 2 and _is_weight(node.inputs[0])
    return max(len(node.shape) - 2, 0) if left and len(node.inputs[1].shape) > 1 else len(node.shape) - 1


def _is_weight(node: Node) -> bool:
    while node.op.name in _TURNS:
        node = node.inputs[0]
    return node.role in ("parameter", "buffer")


def _rows(draws: Tensor, axis: int) -> tuple[Tensor, tuple[int, ...]]:
    """Draws as [count, places, features], and the sizes of the places."""
    moved = draws.movedim(1 + axis, -1)
    return moved.reshape(len(draws), -1, moved.shape[-1]), tuple(moved.shape[1:-1])


def _unrolled(rows: Tensor, places: tuple[int, ...], axis: int) -> Tensor:
    return rows.reshape(len(rows), *places, -1).movedim(-1, 1 + axis)


@dataclass(frozen=True)
class _Weights:
    """A weight matrix as its moments, for each block of units (the gates of a recurrent layer) its own; and the bias.

    Args:
        blocks: how many units each block has.
        mean: of all entries.
        spread: [out], the standard deviation, alike within a block.
        size: [out], the root mean square.
        bias: [out].
    """

    blocks: tuple[int, ...]
    mean: float
    spread: Tensor
    size: Tensor
    bias: Tensor | None

    def biases(self, count: int, generator: torch.Generator) -> Tensor:
        """[count, 1, out]: the bias, in each draw in another order within its blocks."""
        assert self.bias is not None
        parts = self.bias.split(self.blocks)
        rows = [torch.cat([p[torch.randperm(len(p), generator=generator)] for p in parts]) for _ in range(count)]
        return torch.stack(rows).unsqueeze(1)


def _weights(weight: Known, bias: Known | None, by_row: bool, cuts: Iterable[int]) -> _Weights:
    rows = weight.values.double() if by_row else weight.values.double().T
    blocks = tuple(b - a for a, b in pairwise(sorted({0, *cuts, len(rows)})))
    size = torch.cat([(p**2).mean().sqrt().expand(len(p)) for p in rows.split(blocks)])
    offset = None if bias is None else bias.values.double().expand(len(rows))
    return _Weights(blocks, weight.mean, (size**2 - weight.mean**2).clamp_min(0).sqrt(), size, offset)


def _mapped(node: Node, x: Tensor, w: _Weights, shared: Shared) -> Tensor:
    axis = _axis(node)
    rows, places = _rows(x, axis)
    out = shared.times(rows, node.shape[axis]) * w.spread
    if w.mean:
        out = out + w.mean * rows.sum(2, keepdim=True).mean(0)
    if w.bias is not None:
        shared.bias = w.biases(len(out), shared.generator) if shared.bias is None else shared.bias
        out = out + shared.bias
    return _unrolled(out, places, axis)


def _mapped_back(node: Node, x: Node, delta: Tensor, w: _Weights, shared: Shared) -> Tensor:
    axis = _axis(node)
    rows, places = _rows(delta, axis)
    return _unrolled(shared.times(rows * w.size, x.shape[axis]), places, axis)


def _map_layout(node: Node, x: Layout) -> Layout:
    axis, found = _axis(node), list(x)
    found[axis] = (Axis(node.shape[axis], "feature"),) if node.shape[axis] > 1 else ()
    return tuple(dim if d == axis else tuple(Axis(a.size, "position") for a in dim) for d, dim in enumerate(found))
