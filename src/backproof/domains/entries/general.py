"""The entries domain: every node is an array of scalars of some arithmetic.

One table of rules in terms of ``+ - * /`` and the operations' formulas, read over several arithmetics: exact
SymPy numbers (:mod:`..exact`), 50-digit floats, which are the independent witness of the numbers domain
(:mod:`..digits`), and formula trees, which write out what each entry is (:mod:`..symbols`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...graph import Graph, Node
from ...ops import Op
from ...ops.shapes import axes_of
from ..base import Domain

__all__ = ["Arithmetic", "Array", "Entries", "entries"]

Array = np.ndarray[Any, np.dtype[Any]]


class Arithmetic(Protocol):
    """What a kind of scalar must offer besides Python's operators."""

    def number(self, value: Any) -> Any:
        """The scalar for a number, a SymPy number or a truth value."""

    def apply(self, op: Op, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        """f(args) for an elementwise operation."""

    def largest(self, values: list[Any], sign: int) -> Any:
        """The largest (sign 1) or smallest (sign -1) of several scalars."""

    def where_largest(self, values: list[Any]) -> dict[int, Any]:
        """The place of the first of the largest with the factor 1; of formulas every place with its condition."""


@dataclass(frozen=True)
class Entries:
    """A reading of graphs over arrays of one arithmetic's scalars."""

    arithmetic: Arithmetic

    def array(self, value: Any, shape: tuple[int, ...] | None = None) -> Array:
        """Convert nested numbers, or a tensor's nested lists, into an array of scalars."""
        raw = np.array(value, dtype=object)
        flat = [self.arithmetic.number(v) for v in raw.reshape(-1)]
        return _filled(flat, raw.shape if shape is None else shape)

    def run(self, graph: Graph, leaves: Mapping[Node, Array]) -> dict[Node, Array]:
        """The array of every node; index tensors stay integers."""
        entries.require(graph)
        values = dict(leaves)
        for node in graph.of_role("constant"):
            if node not in values:
                values[node] = self.array(_nested(node.value), node.shape)
        for node in graph.nodes:
            if node not in values:
                values[node] = self.apply(node, [values[x] for x in node.inputs])
        return values

    def apply(self, node: Node, operands: Iterable[Array]) -> Array:
        """The array of one node from those of its operands."""
        return _array(entries.apply(node, self.arithmetic, *operands)).reshape(node.shape)


entries = Domain("entries", "arrays of scalars of an arithmetic: exact numbers, 50-digit floats, or formulas")


def _nested(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _filled(flat: list[Any], shape: tuple[int, ...]) -> Array:
    out = np.empty(len(flat), dtype=object)
    for i, item in enumerate(flat):
        out[i] = item
    return out.reshape(shape)


def _array(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    out = np.empty((), dtype=object)
    out[()] = value
    return out


def _each(function: Callable[..., Any], *arrays: Array) -> Array:
    """Apply a scalar function entry by entry with broadcasting."""
    wide = np.broadcast_arrays(*arrays)
    return _filled([function(*args) for args in zip(*(a.reshape(-1) for a in wide), strict=True)], wide[0].shape)


# --- entry by entry -----------------------------------------------------------------------------------------------
@entries.rule("elementwise", "arithmetic", "comparison", "loss")
def _elementwise(node: Node, arithmetic: Arithmetic, *x: Array) -> Array:
    return _each(lambda *args: arithmetic.apply(node.op, args, node.attrs), *x)


@entries.rule("add")
def _add(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    return _array(a + b)


@entries.rule("sub")
def _sub(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    return _array(a - b)


@entries.rule("mul")
def _mul(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    return _array(a * b)


@entries.rule("div")
def _div(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    return _array(a / b)


@entries.rule("neg")
def _neg(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _each(lambda v: -v, x)


@entries.rule("identity", "stop_gradient", "cast")
def _same(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return x


# --- products and reductions ----------------------------------------------------------------------------------------
@entries.rule("matmul")
def _matmul(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    return _array(np.matmul(a, b) if a.ndim > 1 or b.ndim > 1 else (a * b).sum())


@entries.rule("outer")
def _outer(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    return _array(a[:, None] * b[None, :])


@entries.rule("linear")
def _linear(node: Node, arithmetic: Arithmetic, x: Array, weight: Array, bias: Array | None = None) -> Array:
    product = np.matmul(x, weight.T)
    return _array(product if bias is None else product + bias)


def _folded(
    node: Node, x: Array, fold: Callable[[list[Any]], Any], dim: Any = None, keepdim: bool | None = None
) -> Array:
    """Reduce the axes of ``node`` by a function of the list of entries, in reading order."""
    axes = axes_of(node.attrs.get("dim") if dim is None else dim, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    flat = x.transpose([*rest, *axes]).reshape([x.shape[i] for i in rest] + [-1])
    shape = tuple(x.shape[i] for i in rest)
    out = _filled([fold(list(flat[index])) for index in np.ndindex(*shape)], shape)
    if keepdim if keepdim is not None else node.attrs.get("keepdim"):
        return out.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])
    return out


def _total(values: list[Any]) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


@entries.rule("sum")
def _sum(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _folded(node, x, _total)


@entries.rule("mean")
def _mean(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _folded(node, x, lambda values: _total(values) / arithmetic.number(len(values)))


@entries.rule("amax")
def _amax(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _folded(node, x, lambda values: arithmetic.largest(values, 1))


@entries.rule("amin")
def _amin(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _folded(node, x, lambda values: arithmetic.largest(values, -1))


def _function(arithmetic: Arithmetic, name: str, *args: Any) -> Any:
    from ...ops import OPS

    return arithmetic.apply(OPS[name], args, {})


@entries.rule("logsumexp")
def _logsumexp(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _folded(
        node, x, lambda v: _function(arithmetic, "log", _total([_function(arithmetic, "exp", e) for e in v]))
    )


@entries.rule("var")
def _var(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    def fold(values: list[Any]) -> Any:
        mean = _total(values) / arithmetic.number(len(values))
        squares = [(v - mean) * (v - mean) for v in values]
        return _total(squares) / arithmetic.number(len(values) - node.attrs["correction"])

    return _folded(node, x, fold)


@entries.rule("argmax", "argmin")
def _argmax(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    sign = 1 if node.op.name == "argmax" else -1
    return _folded(node, x, lambda values: values.index(arithmetic.largest(values, sign)))


# --- shapes and indices -----------------------------------------------------------------------------------------------
@entries.rule("reshape")
def _reshape(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return x.reshape(node.shape)


@entries.rule("permute")
def _permute(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return x.transpose(node.attrs["dims"])


@entries.rule("expand")
def _expand(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return np.broadcast_to(x, node.shape)


@entries.rule("sum_to")
def _sum_to(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    pad = x.ndim - len(node.shape)
    axes = [*range(pad), *(i + pad for i, n in enumerate(node.shape) if n == 1 and x.shape[i + pad] != 1)]
    return _folded(node, x, _total, dim=tuple(axes), keepdim=False).reshape(node.shape) if axes else x


def _placed(node: Node, arithmetic: Arithmetic, x: Array, place: tuple[Any, ...]) -> Array:
    zero = arithmetic.number(0)
    out = _filled([zero] * node.size, node.shape)
    out[place] = x if x.ndim else x[()]
    return out


def _at(node: Node, rank: int) -> tuple[Any, ...]:
    """The place that a slice or select (or its adjoint) means, as numpy indices."""
    dim = node.attrs["dim"] % rank
    attrs = node.attrs
    here = attrs["index"] if "index" in attrs else slice(attrs["start"], attrs["end"], attrs["step"])
    return (*(slice(None),) * dim, here)


@entries.rule("slice", "select")
def _slice(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _array(x[_at(node, x.ndim)])


@entries.rule("unslice", "unselect")
def _unslice(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _placed(node, arithmetic, x, _at(node, len(node.shape)))


@entries.rule("cat")
def _cat(node: Node, arithmetic: Arithmetic, *xs: Array) -> Array:
    return np.concatenate(xs, axis=node.attrs["dim"])


@entries.rule("stack")
def _stack(node: Node, arithmetic: Arithmetic, *xs: Array) -> Array:
    return np.stack(xs, axis=node.attrs["dim"])


def _along(dim: int, index: Array) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs (place in the index tensor, place along ``dim`` that it names)."""
    dim %= index.ndim
    for place in np.ndindex(*index.shape):
        yield place, (*place[:dim], int(index[place]), *place[dim + 1 :])


@entries.rule("positions")
def _positions(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    along = node.attrs["dim"] % len(node.shape)
    return _filled([arithmetic.number(place[along]) for place in np.ndindex(*node.shape)], node.shape)


@entries.rule("gather")
def _gather(node: Node, arithmetic: Arithmetic, x: Array, index: Array) -> Array:
    return _filled([x[there] for _, there in _along(node.attrs["dim"], index)], index.shape)


@entries.rule("scatter_add")
def _scatter_add(node: Node, arithmetic: Arithmetic, x: Array, index: Array) -> Array:
    out = _filled([arithmetic.number(0)] * node.size, node.shape)
    for here, there in _along(node.attrs["dim"], index):
        out[there] = out[there] + x[here]
    return out


@entries.rule("embedding")
def _embedding(node: Node, arithmetic: Arithmetic, weight: Array, index: Array) -> Array:
    return _array(weight[index.astype(int)])


@entries.rule("embedding_grad")
def _embedding_grad(node: Node, arithmetic: Arithmetic, x: Array, index: Array) -> Array:
    out = _filled([arithmetic.number(0)] * node.size, node.shape)
    for place in np.ndindex(*index.shape):
        out[int(index[place])] = out[int(index[place])] + x[place]
    return out


# --- softmax family ---------------------------------------------------------------------------------------------------
def _lines(node: Node, *arrays: Array) -> Iterable[tuple[tuple[Any, ...], list[list[Any]]]]:
    """The one-dimensional lines along ``dim``, with their places."""
    dim = node.attrs["dim"] % arrays[0].ndim
    others = [range(n) for i, n in enumerate(arrays[0].shape) if i != dim]
    for rest in itertools.product(*others):
        place: tuple[Any, ...] = (*rest[:dim], slice(None), *rest[dim:])
        yield place, [list(a[place]) for a in arrays]


def _by_line(node: Node, fold: Callable[..., list[Any]], *arrays: Array) -> Array:
    out = np.empty(arrays[0].shape, dtype=object)
    for place, lines in _lines(node, *arrays):
        out[place] = fold(*lines)
    return out


@entries.rule("softmax")
def _softmax(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    def fold(line: list[Any]) -> list[Any]:
        powers = [_function(arithmetic, "exp", v) for v in line]
        total = _total(powers)
        return [p / total for p in powers]

    return _by_line(node, fold, x)


@entries.rule("log_softmax")
def _log_softmax(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    def fold(line: list[Any]) -> list[Any]:
        total = _function(arithmetic, "log", _total([_function(arithmetic, "exp", v) for v in line]))
        return [v - total for v in line]

    return _by_line(node, fold, x)


@entries.rule("softmax_grad")
def _softmax_grad(node: Node, arithmetic: Arithmetic, delta: Array, p: Array) -> Array:
    def fold(ds: list[Any], ps: list[Any]) -> list[Any]:
        inner = _total([d * q for d, q in zip(ds, ps, strict=True)])
        return [q * (d - inner) for d, q in zip(ds, ps, strict=True)]

    return _by_line(node, fold, delta, p)


@entries.rule("log_softmax_grad")
def _log_softmax_grad(node: Node, arithmetic: Arithmetic, delta: Array, y: Array) -> Array:
    def fold(ds: list[Any], ys: list[Any]) -> list[Any]:
        total = _total(ds)
        return [d - _function(arithmetic, "exp", v) * total for d, v in zip(ds, ys, strict=True)]

    return _by_line(node, fold, delta, y)


def _shares(node: Node, arithmetic: Arithmetic, t: Array, weight: Array | None) -> dict[tuple[int, ...], Any]:
    """The weight of each sample that is not ignored, divided by their sum for a mean."""
    kept = [place for place in np.ndindex(*t.shape) if int(t[place]) != node.attrs["ignore_index"]]
    one = arithmetic.number(1)
    shares = {place: one if weight is None else weight[int(t[place])] for place in kept}
    if node.attrs["reduction"] != "mean" or not kept:
        return shares
    total = arithmetic.number(len(kept)) if weight is None else _total(list(shares.values()))
    return {place: share / total for place, share in shares.items()}


def _class_place(place: tuple[int, ...], t: Array) -> tuple[int, ...]:
    return (place[0], int(t[place]), *place[1:])


@entries.rule("nll")
def _nll(node: Node, arithmetic: Arithmetic, y: Array, t: Array, weight: Array | None = None) -> Array:
    terms = {p: -(s * y[_class_place(p, t)]) for p, s in _shares(node, arithmetic, t, weight).items()}
    if node.attrs["reduction"] == "none":
        return _filled([terms.get(p, arithmetic.number(0)) for p in np.ndindex(*t.shape)], t.shape)
    return _array(_total(list(terms.values())))


@entries.rule("nll_grad")
def _nll_grad(node: Node, arithmetic: Arithmetic, delta: Array, t: Array, weight: Array | None = None) -> Array:
    out = _filled([arithmetic.number(0)] * node.size, node.shape)
    for place, share in _shares(node, arithmetic, t, weight).items():
        out[_class_place(place, t)] = -(share * (delta[place] if delta.ndim else delta[()]))
    return out
