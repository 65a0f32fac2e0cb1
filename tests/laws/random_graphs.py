"""Random well-formed graphs over every operation, for hypothesis: shared nodes, broadcasting, indexing, one loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

from backproof.domains.numbers import numbers, tensor_of
from backproof.graph import Builder, Graph, Node
from backproof.ops import OPS, Elementwise, Op
from backproof.ops.shapes import broadcast

from .samples import distinct

__all__ = ["RandomGraph", "random_graphs"]

Draw = Callable[[Any], Any]
COMPUTED = [op for op in OPS.values() if op.family not in ("leaf", "comparison", "complex")]
COMPARISONS = [
    op.name for op in OPS.values() if op.family == "comparison" and len(op.operands) == 2 and op.name[:2] != "lo"
]
MAX_SIZE = 60


class RandomGraph:
    """A graph with a loss, and tensors for its leaves (no dataclass: hypothesis would print every field)."""

    def __init__(self, graph: Graph, leaves: dict[Node, torch.Tensor]) -> None:
        self.graph, self.leaves = graph, leaves

    def __repr__(self) -> str:
        lines = [
            f"{n.name}{list(n.shape)} = {n.op.name}({', '.join(x.name for x in n.inputs)})" for n in self.graph.nodes
        ]
        return "\n".join(["a graph of", *lines])


class _Growing:
    """A graph under construction; every value is computed as it grows, to keep operands inside their regions."""

    def __init__(self, draw: Draw) -> None:
        self.draw, self.builder = draw, Builder()
        self.rng = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
        self.values: dict[Node, torch.Tensor] = {}
        self.leaves: dict[Node, torch.Tensor] = {}
        self.pool: list[Node] = []

    # --- choices -------------------------------------------------------------------------------------------------
    def pick(self, items: list[Any]) -> Any:
        return self.draw(st.sampled_from(items))

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        rank = self.number(0, 3) if rank is None else rank
        return tuple(self.number(1, 3) for _ in range(rank))

    # --- nodes -----------------------------------------------------------------------------------------------------
    def leaf(self, shape: tuple[int, ...]) -> Node:
        node = self.builder.leaf(f"x{len(self.leaves)}", "input", shape, "float64")
        self.leaves[node] = self.values[node] = torch.randn(shape, generator=self.rng, dtype=torch.float64)
        self.pool.append(node)
        return node

    def constant(self, value: torch.Tensor) -> Node:
        dtype = str(value.dtype).removeprefix("torch.")
        node = self.builder.constant(value, tuple(value.shape), dtype, name="c")
        self.values[node] = tensor_of(node)
        return node

    def scalar(self, value: float) -> Node:
        return self.constant(torch.tensor(value, dtype=torch.float64))

    def emit(self, op: str | Op, *inputs: Node, **attrs: Any) -> Node:
        node = self.builder.emit(op, *inputs, **attrs)
        with torch.no_grad():
            self.values[node] = numbers.apply(node, *(self.values[x] for x in inputs))
        return node

    def indices(self, shape: tuple[int, ...], below: int) -> Node:
        return self.constant(torch.randint(below, shape, generator=self.rng))

    # --- operands ----------------------------------------------------------------------------------------------------
    def any(self, rank: int = 0) -> Node:
        """Some node so far with at least so many axes."""
        found = [n for n in self.pool if len(n.shape) >= rank]
        return self.pick(found) if found else self.leaf(self.shape(max(rank, 1)))

    def fitted(self, shape: tuple[int, ...]) -> Node:
        """A node of exactly this shape: one that has it, or entries of another picked by index."""
        same = [n for n in self.pool if n.shape == shape]
        if same and self.number(0, 1):
            return self.pick(same)
        source = self.any()
        flat = self.emit("reshape", source, shape=(-1,))
        return self.emit("embedding", flat, self.indices(shape, source.size))

    def broadcastable(self, shape: tuple[int, ...]) -> Node:
        found = []
        for node in self.pool:
            try:
                wide = broadcast([shape, node.shape], {})
            except Exception:
                continue
            found += [node] if math.prod(wide) <= MAX_SIZE else []
        return self.pick(found) if found else self.leaf(())

    def inside(self, node: Node, low: float, high: float) -> Node:
        """The node if its values lie strictly between the bounds, else low + (high - low) sigmoid(node)."""
        value = self.values[node]
        if bool(((value > low) & (value < high)).all()):
            return node
        squashed = self.emit("mul", self.emit("sigmoid", node), self.scalar(high - low))
        return self.emit("add", squashed, self.scalar(low))

    def apart(self, node: Node, hit: Callable[[torch.Tensor], torch.Tensor]) -> Node:
        """The node, or the node plus fixed random numbers where it lies on a kink."""
        while bool(hit(self.values[node])):
            shift = torch.rand(node.shape, generator=self.rng, dtype=torch.float64) * 0.1
            node = self.emit("add", node, self.constant(shift))
        return node

    # --- operations by kind --------------------------------------------------------------------------------------------
    def grow(self) -> None:
        op = self.pick(COMPUTED)
        node = getattr(self, f"_{op.name}", None) or getattr(self, f"_{op.family}")
        made = node(op)
        if made.size <= MAX_SIZE:
            self.pool.append(made)

    def _elementwise(self, op: Op) -> Node:
        assert isinstance(op, Elementwise)
        attrs = dict(self.pick(list(op.examples)).attrs)
        kinds = op.examples[0].kinds or ("float",) * len(op.operands)
        operands: list[Node] = []
        shape: tuple[int, ...] = ()
        for kind in kinds:
            node = self.any() if not operands else self.broadcastable(shape)
            low, high = (0.05, 0.95) if kind == "unit" else op.region
            operands.append(self.inside(node, low, high))
            shape = broadcast([shape, node.shape], {})
        return self.emit(op, *self._off_kinks(op, operands, attrs), **attrs)

    _arithmetic = _loss = _elementwise

    def _off_kinks(self, op: Elementwise, operands: list[Node], attrs: dict[str, Any]) -> list[Node]:
        if op.kinks is None or not op.differentiable:
            return operands

        def hit(first: torch.Tensor) -> torch.Tensor:
            rest = [self.values[x] for x in operands[1:]]
            return torch.stack([(k.abs() < 1e-6).any() for k in op.kinks(first, *rest, **attrs)]).any()  # type: ignore[misc]

        return [self.apart(operands[0], hit), *operands[1:]]

    def _where(self, op: Op) -> Node:
        a = self.any()
        b = self.broadcastable(a.shape)
        shape = broadcast([a.shape, b.shape], {})
        c = self.emit(self.pick(COMPARISONS), self.fitted(shape), self.scalar(0.1))
        return self.emit(op, c, a, b)

    def _stop_gradient(self, op: Op) -> Node:
        return self.emit(op, self.any())

    def _cast(self, op: Op) -> Node:
        return self.emit(op, self.any(), dtype="float64")

    def _matmul(self, op: Op) -> Node:
        a = self.any(1)
        batch = a.shape[:-2] if self.number(0, 1) else ()
        b = self.fitted((*batch, a.shape[-1], self.number(1, 3)) if self.number(0, 2) else (a.shape[-1],))
        return self.emit(op, a, b)

    def _linear(self, op: Op) -> Node:
        x, out = self.any(1), self.number(1, 3)
        bias = [self.fitted((out,))] if self.number(0, 1) else []
        return self.emit(op, x, self.fitted((out, x.shape[-1])), *bias)

    def _outer(self, op: Op) -> Node:
        return self.emit(op, self.fitted(self.shape(1)), self.fitted(self.shape(1)))

    def _dims(self, node: Node) -> tuple[int, ...]:
        rank = len(node.shape)
        chosen = [i for i in range(rank) if self.number(0, 1)] or [self.number(0, rank - 1)]
        return tuple(i - rank if self.number(0, 1) else i for i in chosen)

    def _reduce(self, op: Op) -> Node:
        x = self.any(1)
        whole = self.number(0, 3) == 0
        attrs: dict[str, Any] = {
            "dim": None if whole else self._dims(x),
            "keepdim": bool(self.number(0, 1)) and not whole,
        }
        if op.name in ("amax", "amin"):
            x = self.apart(x, _has_ties)
        if op.name == "vector_norm":
            attrs["ord"] = self.pick([1.5, 2.0, 3.0])
            x = self.apart(self.inside(x, -3, 3), lambda v: (v.abs() < 1e-2).any())
        if op.name == "var":
            x = self.inside(self.emit("cat", x, self.fitted(x.shape), dim=0), -3, 3)
            attrs["dim"], attrs["correction"] = (0,), self.number(0, 1)
        if op.name == "logsumexp" and attrs["dim"] is None:
            attrs["dim"] = tuple(range(len(x.shape)))
        return self.emit(op, x, **attrs)

    def _argmax(self, op: Op) -> Node:
        """The largest entries along an axis, picked by their places."""
        x = self.any(1)
        dim = self.number(0, len(x.shape) - 1)
        return self.emit("gather", x, self.emit(op, x, dim=dim, keepdim=True), dim=dim)

    _argmin = _argmax

    def _positions(self, op: Op) -> Node:
        """Entries weighed by their places along an axis."""
        x = self.any(1)
        return self.emit("mul", x, self.emit(op, x, dim=self.number(0, len(x.shape) - 1)))

    def _reshape(self, op: Op) -> Node:
        x = self.any()
        divisors = [n for n in range(1, x.size + 1) if x.size % n == 0]
        first = self.pick(divisors)
        return self.emit(op, x, shape=(first, x.size // first) if self.number(0, 1) else (first, -1))

    def _permute(self, op: Op) -> Node:
        x = self.any(1)
        orders = list(itertools.permutations(range(len(x.shape))))
        return self.emit(op, x, dims=self.pick(orders))

    def _expand(self, op: Op) -> Node:
        x = self.any()
        wide = tuple(self.number(1, 3) if n == 1 else n for n in x.shape)
        return self.emit(op, x, shape=(*self.shape(self.number(0, 1)), *wide))

    def _sum_to(self, op: Op) -> Node:
        x = self.any()
        kept = tuple(n if self.number(0, 1) else 1 for n in x.shape)
        return self.emit(op, x, shape=kept[self.number(0, len(kept)) :])

    def _slice(self, op: Op) -> Node:
        x = self.any(1)
        dim = self.number(0, len(x.shape) - 1)
        start = self.number(0, x.shape[dim] - 1)
        return self.emit(op, x, dim=dim, start=start, end=self.number(start + 1, x.shape[dim]), step=self.number(1, 2))

    def _unslice(self, op: Op) -> Node:
        x = self.any(1)
        dim, start, step = self.number(0, len(x.shape) - 1), self.number(0, 1), self.number(1, 2)
        end = start + (x.shape[dim] - 1) * step + 1
        shape = tuple(end + self.number(0, 1) if i == dim else n for i, n in enumerate(x.shape))
        return self.emit(op, x, dim=dim, start=start, end=end, step=step, shape=shape)

    def _select(self, op: Op) -> Node:
        x = self.any(1)
        dim = self.number(0, len(x.shape) - 1)
        return self.emit(op, x, dim=dim, index=self.number(-x.shape[dim], x.shape[dim] - 1))

    def _unselect(self, op: Op) -> Node:
        x = self.any()
        dim, n = self.number(0, len(x.shape)), self.number(1, 3)
        return self.emit(op, x, dim=dim, index=self.number(0, n - 1), shape=(*x.shape[:dim], n, *x.shape[dim:]))

    def _cat(self, op: Op) -> Node:
        x = self.any(1)
        dim = self.number(-len(x.shape), len(x.shape) - 1)
        other = list(x.shape)
        other[dim] = self.number(1, 3)
        return self.emit(op, x, self.fitted(tuple(other)), dim=dim)

    def _stack(self, op: Op) -> Node:
        x = self.any()
        return self.emit(op, x, self.fitted(x.shape), dim=self.number(-1 - len(x.shape), len(x.shape)))

    def _gather(self, op: Op) -> Node:
        x = self.any(1)
        dim = self.number(0, len(x.shape) - 1)
        shape = tuple(self.number(1, 3) if i == dim else n for i, n in enumerate(x.shape))
        return self.emit(op, x, self.indices(shape, x.shape[dim]), dim=dim)

    def _scatter_add(self, op: Op) -> Node:
        x = self.any(1)
        dim, n = self.number(0, len(x.shape) - 1), self.number(1, 3)
        shape = tuple(n if i == dim else m for i, m in enumerate(x.shape))
        return self.emit(op, x, self.indices(x.shape, n), dim=dim, shape=shape)

    def _embedding(self, op: Op) -> Node:
        weight = self.any(1)
        return self.emit(op, weight, self.indices(self.shape(self.number(0, 2)), weight.shape[0]))

    def _embedding_grad(self, op: Op) -> Node:
        x, rows = self.any(1), self.number(1, 3)
        return self.emit(op, x, self.indices(x.shape[:1], rows), shape=(rows, *x.shape[1:]))

    def _softmax(self, op: Op) -> Node:
        x = self.any(1)
        others = [self.fitted(x.shape) for _ in op.operands[1:]]
        operands = [self.inside(n, -3, 3) for n in (x, *others)]
        return self.emit(op, *operands, dim=self.number(-len(x.shape), len(x.shape) - 1))

    def _nll(self, op: Op) -> Node:
        y = self.any(2)
        target = self.indices((y.shape[0], *y.shape[2:]), y.shape[1])
        reduction = self.pick(["mean", "sum", "none"])
        weight = [self.constant(torch.rand(y.shape[1], generator=self.rng, dtype=torch.float64) + 0.5)] * self.number(
            0, 1
        )
        return self.emit(op, y, target, *weight, reduction=reduction)

    def _nll_grad(self, op: Op) -> Node:
        shape, reduction = self.shape(2), self.pick(["mean", "sum", "none"])
        delta = self.fitted(shape[:1] if reduction == "none" else ())
        return self.emit(op, delta, self.indices(shape[:1], shape[1]), reduction=reduction, shape=shape)

    def _by_example(self, op: Op) -> Node:
        """The attributes of one of the operation's examples, on nodes of the shapes that it names."""
        example = self.pick(list(op.examples))
        kinds = (*example.kinds, *("float",) * (len(example.shapes) - len(example.kinds)))
        operands = [
            self.of_kind(kind, shape) for shape, kind in zip(example.shapes, kinds, strict=True) if kind != "none"
        ]
        if op.name.startswith("max_pool"):
            operands[-1] = self.apart(operands[-1], _has_ties)
        return self.emit(op, *operands, **example.attrs)

    def of_kind(self, kind: str, shape: tuple[int, ...]) -> Node:
        """A node such as an example asks for."""
        name, _, below = kind.partition(":")
        if name == "index":
            return self.indices(shape, int(below))
        if name == "distinct":
            return self.constant(distinct(shape, int(below), self.rng))
        if name == "ordered":
            return self.constant(torch.rand(shape, generator=self.rng, dtype=torch.float64).sort().values)
        node = self.inside(self.fitted(shape), -3, 3)
        return self.inside(node, 0.2, 2) if name == "positive" else node

    _convolution = _pooling = _normalisation = _pad = _put = _scatter = _scatter_extreme = _by_example

    # --- running totals, order, sums over letters, matrices ------------------------------------------------------------
    def _scan(self, op: Op) -> Node:
        x = self.any(1)
        attrs: dict[str, Any] = {"dim": self.number(-len(x.shape), len(x.shape) - 1)}
        if "reverse" in op.attrs:
            attrs["reverse"] = bool(self.number(0, 1))
        operands = [self.inside(n, -3, 3) for n in (x, *(self.fitted(x.shape) for _ in op.operands[1:]))]
        return self.emit(op, *operands, **attrs)

    def _ordered(self, op: Op) -> Node:
        """Entries picked by their places in order."""
        x = self.apart(self.any(1), _has_ties)
        dim = self.number(0, len(x.shape) - 1)
        more: dict[str, Any] = {"k": self.number(1, x.shape[dim])} if "k" in op.attrs else {}
        more |= {key: bool(self.number(0, 1)) for key in ("descending", "largest") if key in op.attrs}
        more |= {"keepdim": True} if "keepdim" in op.attrs else {}
        return self.emit("gather", x, self.emit(op, x, dim=dim, **more), dim=dim)

    _argsort = _topk_index = _median_index = _cummax_index = _cummin_index = _ordered

    def _bucket(self, op: Op) -> Node:
        x = self.any()
        edges = self.constant(torch.randn(self.number(1, 4), generator=self.rng, dtype=torch.float64).sort().values)
        return self.emit("mul", x, self.emit(op, x, edges, right=bool(self.number(0, 1))))

    def _prod(self, op: Op) -> Node:
        x = self.inside(self.any(1), -3, 3)
        whole = self.number(0, 3) == 0
        attrs = {
            "dim": None if whole else self.number(-len(x.shape), len(x.shape) - 1),
            "keepdim": not whole and bool(self.number(0, 1)),
        }
        return self.emit(op, x, **attrs)

    def _contraction(self, op: Op) -> Node:
        """Letters of sizes 1 to 3, two or three operands, a result of some of their letters in any order."""
        sizes = {letter: self.number(1, 3) for letter in "abcd"}
        terms = [
            "".join(self.draw(st.lists(st.sampled_from("abcd"), max_size=3, unique=True)))
            for _ in range(self.number(1, 3))
        ]
        letters = sorted(set("".join(terms)))
        result = "".join(self.draw(st.lists(st.sampled_from(letters), max_size=3, unique=True))) if letters else ""
        operands = [self.inside(self.fitted(tuple(sizes[c] for c in term)), -3, 3) for term in terms]
        return self.emit(op, *operands, equation=f"{','.join(terms)}->{result}")

    def _matrix(self, op: Op) -> Node:
        """Matrices far from singular: small entries and 4 on the diagonal."""
        batch, n = self.shape(self.number(0, 1)), self.number(1, 3)
        small = self.inside(self.fitted((*batch, n, n)), -1, 1)
        x = self.emit("add", small, self.constant(4 * torch.eye(n, dtype=torch.float64)))
        return self.emit(
            op, x, *(self.inside(self.fitted((*batch, n, self.number(1, 2))), -3, 3) for _ in op.operands[1:])
        )

    def _max_pool_index(self, op: Op) -> Node:
        """The largest entries of windows, read by their places."""
        index = self._by_example(op)
        flat = self.emit("reshape", index, shape=(*index.shape[:2], -1))
        source = self.emit("reshape", index.inputs[0], shape=(*index.shape[:2], -1))
        return self.emit("gather", source, flat, dim=2)

    # --- the loss ------------------------------------------------------------------------------------------------------
    def loss(self) -> Node:
        """Every result that nothing uses, weighed at random and added up."""
        used = {x for node in self.builder.nodes for x in node.inputs}
        total = self.scalar(1.0)
        for node in [n for n in self.pool if n not in used]:
            bounded = self.inside(node, -3, 3)
            weights = torch.randn(node.shape, generator=self.rng, dtype=torch.float64)
            total = self.emit("add", total, self.emit("mean", self.emit("mul", bounded, self.constant(weights))))
        return total


def _has_ties(x: torch.Tensor) -> torch.Tensor:
    ordered = x.reshape(-1).sort().values
    return (ordered.diff().abs() < 1e-6).any()


@st.composite
def random_graphs(draw: Draw, steps: int = 14) -> RandomGraph:
    """A random graph of up to so many operations (and the nodes that fit their operands)."""
    growing = _Growing(draw)
    for _ in range(growing.number(1, 3)):
        growing.leaf(growing.shape())
    for _ in range(growing.number(steps // 2, steps)):
        growing.grow()
    loss = growing.loss()
    return RandomGraph(Graph(tuple(growing.builder.nodes), (loss,), loss).check(), growing.leaves)
