"""From ATen overloads to our operations: indexing and scattering in all their forms, and entries put in order.

An index over several axes becomes rows of one flat axis: the indexed axes go to the front and are joined, their index
tensors become one. Everything that is known beforehand (arange, a fixed table) is worked out here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..graph import Node
from .lower import Call, NotCaptured, lowering

__all__ = ["Rows", "diagonal_of", "picked"]


# --- index tensors -----------------------------------------------------------------------------------------------------
class Rows:
    """The entries of x that index tensors name, as rows of one flat axis.

    Args:
        call: the call.
        x: what is indexed.
        indices: one index tensor or None for each axis.
    """

    def __init__(self, call: Call, x: Node, indices: Sequence[Any]) -> None:
        self.call, self.x = call, x
        self.axes = [i for i, index in enumerate(indices) if index is not None]
        self.rest = [i for i in range(len(self.x.shape)) if i not in self.axes]
        self.sizes = [self.x.shape[i] for i in self.axes]
        self.tail = tuple(self.x.shape[i] for i in self.rest)
        found = [call.node(indices[i]) for i in self.axes]
        if any(not x.dtype.startswith("int") for x in found):
            raise NotCaptured(
                f"aten.{call.overload} with a mask, which picks a number of entries that only the run knows"
            )
        self.index = self._joined(found)

    def _joined(self, indices: list[Node]) -> Node:
        """One index into the joined axes."""
        if len(indices) == 1:
            return indices[0]
        known = [x.value for x in indices if isinstance(x.value, torch.Tensor)]
        strides = [math.prod(self.sizes[i + 1 :]) for i in range(len(self.sizes))]
        if len(known) == len(indices):
            parts = [(v % n) * s for v, n, s in zip(known, self.sizes, strides, strict=True)]
            total = torch.stack(torch.broadcast_tensors(*parts)).sum(0)
            return self.call.builder.constant(total, tuple(total.shape), "int64", name="index")
        terms = [self._scaled(x, n, s) for x, n, s in zip(indices, self.sizes, strides, strict=True)]
        joined = terms[0]
        for term in terms[1:]:
            joined = self.call.emit("add", joined, term)
        return joined

    def _scaled(self, index: Node, size: int, stride: int) -> Node:
        """An index in steps of ``stride``; a negative one counts from the end."""
        wrapped = self.call.emit("remainder", index, size)
        return wrapped if stride == 1 else self.call.emit("mul", wrapped, stride)

    @property
    def rows(self) -> Node:
        """x with the indexed axes joined in front."""
        order = (*self.axes, *self.rest)
        front = self.x if order == tuple(range(len(order))) else self.call.emit("permute", self.x, dims=order)
        return self.call.reshaped(front, (math.prod(self.sizes), *self.tail))

    @property
    def place(self) -> int:
        """Where the axes of the index stand in the result: where the indexed ones stood, or in front if apart."""
        together = self.axes == list(range(self.axes[0], self.axes[-1] + 1))
        return self.axes[0] if together else 0

    def placed(self, picked: Node) -> Node:
        """The picked rows with the axes of the index in their place."""
        k, r = len(self.index.shape), self.place
        if r == 0:
            return picked
        return self.call.emit("permute", picked, dims=(*range(k, k + r), *range(k), *range(k + r, len(picked.shape))))

    @property
    def picked(self) -> Node:
        """What the index picks."""
        return self.placed(self.call.emit("embedding", self.rows, self.index))

    def as_rows(self, values: Node) -> Node:
        """Values of the shape of the result (or one that broadcasts to it) as rows: the inverse of :meth:`placed`."""
        k, r = len(self.index.shape), self.place
        shape = (*self.tail[:r], *self.index.shape, *self.tail[r:])
        wide = values if values.shape == shape else self.call.emit("expand", values, shape=shape)
        if r == 0:
            return wide
        return self.call.emit("permute", wide, dims=(*range(r, r + k), *range(r), *range(r + k, len(shape))))

    def restored(self, rows: Node) -> Node:
        """Rows back in the shape of x."""
        order = (*self.axes, *self.rest)
        apart = self.call.reshaped(rows, tuple(self.x.shape[i] for i in order))
        back = tuple(order.index(i) for i in range(len(order)))
        return apart if back == order == tuple(range(len(order))) else self.call.emit("permute", apart, dims=back)


@lowering("index.Tensor", "_unsafe_index.Tensor")
def _index(call: Call) -> Node:
    rows = Rows(call, call["self"], _masks_counted(call, call["indices"]))
    return rows.picked


def _masks_counted(call: Call, indices: Sequence[Any]) -> list[Any]:
    """Index tensors with each mask that is known beforehand as the places where it is true."""
    found: list[Any] = []
    for index in indices:
        if isinstance(index, Node) and index.dtype == "bool" and isinstance(index.value, torch.Tensor):
            for places in index.value.nonzero(as_tuple=True):
                found.append(call.builder.constant(places, tuple(places.shape), "int64", name="places"))
        else:
            found.append(index)
    return found


def picked(call: Call, x: Node, axis: int, index: Any, name: str = "index") -> Node:
    """The entries of x at the places of an index along one axis; the index may be a tensor that is known beforehand."""
    if isinstance(index, torch.Tensor):
        index = call.builder.constant(index, tuple(index.shape), "int64", name=name)
    return Rows(call, x, [None] * axis + [index]).picked


@lowering("index_select.default")
def _index_select(call: Call) -> Node:
    return picked(call, call["self"], call["dim"] % max(len(call["self"].shape), 1), call["index"])


@lowering("take.default")
def _take(call: Call) -> Node:
    flat = call.reshaped(call["self"], (call["self"].size,))
    return call.emit("embedding", flat, call["index"])


@lowering("take_along_dim.default", "gather.default")
def _take_along(call: Call) -> Node:
    x, index = call["self"], call["index"] or call["indices"]
    if call["dim"] is None:
        x, index = call.reshaped(x, (x.size,)), call.reshaped(index, (index.size,))
        return call.emit("gather", x, index, dim=0)
    if call.overload.startswith("take"):
        dim, rank = call["dim"] % len(x.shape), len(x.shape)
        wide = [max(a, b) for a, b in zip(x.shape, index.shape, strict=True)]
        x = _wide(call, x, tuple(x.shape[i] if i == dim else wide[i] for i in range(rank)))
        index = _wide(call, index, tuple(index.shape[i] if i == dim else wide[i] for i in range(rank)))
    return call.emit("gather", x, index, dim=call["dim"])


def _wide(call: Call, x: Node, shape: tuple[int, ...]) -> Node:
    return x if x.shape == shape else call.emit("expand", x, shape=shape)


# --- entries put into places -----------------------------------------------------------------------------------------
@lowering("index_put.default", "_unsafe_index_put.default")
def _index_put(call: Call) -> Node:
    x, indices, values = call["self"], call["indices"], call["values"]
    if len(indices) == 1 and isinstance(indices[0], Node) and indices[0].dtype == "bool" and values.size == 1:
        mask = call.reshaped(indices[0], (*indices[0].shape, *(1,) * (len(x.shape) - len(indices[0].shape))))
        value = call.reshaped(values, ())
        return call.emit("where", mask, call.emit("add", x, value) if call["accumulate"] else value, x)
    rows = Rows(call, x, _masks_counted(call, indices))
    return _written(call, rows, rows.as_rows(values), bool(call["accumulate"]))


def _written(call: Call, rows: Rows, values: Node, accumulate: bool) -> Node:
    flat = rows.rows
    if not accumulate:
        return rows.restored(call.emit("put", flat, rows.index, values))
    added = call.emit("embedding_grad", values, rows.index, shape=flat.shape)
    return rows.restored(call.emit("add", flat, added))


@lowering("index_add.default", "index_copy.default", "index_fill.int_Scalar", "index_fill.int_Tensor")
def _index_add(call: Call) -> Node:
    axis = call["dim"] % max(len(call["self"].shape), 1)
    rows = Rows(call, call["self"], [None] * axis + [call["index"]])
    given = call.node(call["source"] if "source" in call.args else call["value"])
    if (alpha := call["alpha"]) not in (None, 1):
        given = call.emit("mul", alpha, given)
    if given.dtype != call.dtype:
        given = call.emit("cast", given, dtype=call.dtype)
    return _written(call, rows, rows.as_rows(given), call.overload.startswith("index_add"))


def _same_places(call: Call, index: Node, src: Any) -> Node:
    """The part of src that an index tensor of fewer entries uses; a number as a tensor of its shape."""
    if not isinstance(src, Node) or not src.shape:
        number = call.emit("cast", src, dtype=call.dtype) if isinstance(src, Node) else call.number(src)
        return call.emit("expand", number, shape=index.shape)
    part: Node = src
    for dim, n in enumerate(index.shape):
        if part.shape[dim] != n:
            part = call.emit("slice", part, dim=dim, start=0, end=n, step=1)
    return part


@lowering(
    "scatter.src",
    "scatter.value",
    "scatter_add.default",
    "scatter.reduce",
    "scatter.value_reduce",
    "scatter_reduce.two",
)
def _scatter(call: Call) -> Node:
    x, index, how = call.node(call["self"]), call["index"], call["reduce"]
    src = _same_places(call, index, call["src"] if "src" in call.args else call["value"])
    places = {"dim": call["dim"]}
    if call.overload.startswith("scatter_add") or how in ("add", "sum"):
        added = call.emit("scatter_add", src, index, **places, shape=x.shape)
        return call.emit("add", _kept(call, x, index), added)
    if how is None:
        return call.emit("scatter", x, index, src, **places)
    if how in ("amax", "amin"):
        least = -math.inf if how == "amax" else math.inf
        return call.emit("scatter_extreme", _kept(call, x, index, least), index, src, **places, largest=how == "amax")
    call.refuse_unless(how == "mean", f"reduce={how!r}")
    return _scattered_mean(call, x, index, src)


def _kept(call: Call, x: Node, index: Node, neutral: float = 0.0) -> Node:
    """x, without the entries that are written to where include_self says so."""
    if call["include_self"] is not False:
        return x
    nothing = call.emit("expand", call.number(neutral), shape=index.shape)
    return call.emit("scatter", x, index, nothing, dim=call["dim"])


def _scattered_mean(call: Call, x: Node, index: Node, src: Node) -> Node:
    one = call.emit("expand", call.number(1), shape=index.shape)
    places: dict[str, Any] = {"dim": call["dim"], "shape": x.shape}
    total = call.emit("add", _kept(call, x, index), call.emit("scatter_add", src, index, **places))
    count = call.emit("scatter_add", one, index, **places)
    counted = call.emit("add", count, 1) if call["include_self"] else call.emit("maximum", count, 1)
    return call.emit("div", total, counted)


@lowering("masked_scatter.default")
def _masked_scatter(call: Call) -> Node:
    """The k-th place where the mask is true takes the k-th entry of the source."""
    x, source = call["self"], call["source"]
    mask = _wide(call, call["mask"], x.shape)
    flat = call.reshaped(call.emit("cast", mask, dtype="int64"), (x.size,))
    number = call.emit("clamp", call.emit("sub", call.emit("cumsum", flat, dim=0), 1), min=0)
    taken = call.emit("embedding", call.reshaped(source, (source.size,)), call.reshaped(number, x.shape))
    return call.emit("where", mask, taken, x)


@lowering("slice_scatter.default", "select_scatter.default")
def _into_part(call: Call) -> Node:
    """x with a slice of it replaced."""
    x, src = call["self"], call["src"]
    dim = call["dim"] % len(x.shape)
    if call.overload.startswith("select"):
        places, attrs, adjoint = [call["index"] % x.shape[dim]], {"dim": dim, "index": call["index"]}, "unselect"
    else:
        start, end, step = slice(call["start"], call["end"], call["step"]).indices(x.shape[dim])
        places, attrs, adjoint = (
            list(range(start, end, step)),
            {"dim": dim, "start": start, "end": end, "step": step},
            "unslice",
        )
    hit = torch.zeros(x.shape[dim], dtype=torch.bool)
    hit[places] = True
    hit = hit.reshape(-1, *(1,) * (len(x.shape) - 1 - dim))
    mask = call.builder.constant(hit, tuple(hit.shape), "bool", name="part")
    return call.emit("where", mask, call.emit(adjoint, src, **attrs, shape=x.shape), x)


@lowering("one_hot.default")
def _one_hot(call: Call) -> Node:
    classes = torch.arange(call.shape[-1])
    known = call.builder.constant(classes, tuple(classes.shape), "int64", name="classes")
    return call.emit(
        "cast", call.emit("eq", call.reshaped(call["self"], (*call["self"].shape, 1)), known), dtype="int64"
    )


# --- entries in order --------------------------------------------------------------------------------------------------
def _by_index(call: Call, x: Node, index: Node, dim: int) -> tuple[Node, Node]:
    """The entries that stand at an index along an axis, and the index."""
    return call.emit("gather", x, index, dim=dim), index


@lowering("sort.default", "sort.stable", "msort.default")
def _sort(call: Call) -> Any:
    x, dim = call["self"], 0 if call.overload == "msort.default" else call["dim"]
    if not x.shape:
        return x, call.builder.constant(0, (), "int64")
    order = call.emit("argsort", x, dim=dim, descending=bool(call["descending"]), stable=bool(call["stable"]))
    pair = _by_index(call, x, order, dim)
    return pair[0] if call.overload == "msort.default" else pair


@lowering("argsort.default", "argsort.stable")
def _argsort(call: Call) -> Node:
    return call.emit(
        "argsort", call["self"], dim=call["dim"], descending=bool(call["descending"]), stable=bool(call["stable"])
    )


@lowering("topk.default")
def _topk(call: Call) -> tuple[Node, Node]:
    x, dim = call["self"], call["dim"]
    return _by_index(call, x, call.emit("topk_index", x, k=call["k"], dim=dim, largest=bool(call["largest"])), dim)


@lowering("kthvalue.default")
def _kthvalue(call: Call) -> tuple[Node, Node]:
    x, dim = call["self"], call["dim"]
    order = call.emit("argsort", x, dim=dim, descending=False, stable=True)
    index = call.emit("slice", order, dim=dim % len(x.shape), start=call["k"] - 1, end=call["k"], step=1)
    return _without_axis(call, *_by_index(call, x, index, dim))


def _without_axis(call: Call, value: Node, index: Node) -> tuple[Node, Node]:
    shape = tuple(int(n) for n in call.meta[0].shape)
    return call.reshaped(value, shape), call.reshaped(index, shape)


@lowering("median.dim")
def _median(call: Call) -> tuple[Node, Node]:
    x, dim = call["self"], call["dim"]
    index = call.emit("median_index", x, dim=dim, keepdim=True)
    return _without_axis(call, *_by_index(call, x, index, dim))


@lowering("median.default")
def _median_of_all(call: Call) -> Node:
    flat = call.reshaped(call["self"], (call["self"].size,))
    index = call.emit("median_index", flat, dim=0, keepdim=True)
    return call.reshaped(call.emit("gather", flat, index, dim=0), ())


@lowering("cummax.default", "cummin.default")
def _cummax(call: Call) -> tuple[Node, Node]:
    x, dim = call["self"], call["dim"]
    return _by_index(call, x, call.emit(f"{call.overload[:6]}_index", x, dim=dim), dim)


@lowering("bucketize.Tensor", "searchsorted.Tensor")
def _bucketize(call: Call) -> Node:
    edges = call["boundaries"] or call["sorted_sequence"]
    call.refuse_unless(len(edges.shape) == 1 and call["sorter"] is None, "rows of boundaries, or a sorter")
    found = call.emit("bucket", call["self"], edges, right=bool(call["right"]) or call["side"] == "right")
    return found if call.dtype == "int64" else call.emit("cast", found, dtype=call.dtype)


# --- diagonals and triangles -----------------------------------------------------------------------------------------
@lowering("tril.default", "triu.default")
def _triangle(call: Call) -> Node:
    x: Node = call["self"]
    side = getattr(torch, call.overload[:4])(torch.ones(x.shape[-2:], dtype=torch.bool), call["diagonal"])
    if x.dtype == "bool":
        return call.emit(
            "logical_and", x, call.builder.constant(side, tuple(side.shape), "bool", name=call.overload[:4])
        )
    mask = call.builder.constant(side, tuple(side.shape), "bool", name=call.overload[:4])
    return call.emit("where", mask, x, call.number(0))


@lowering("diagonal.default", "diag.default", "trace.default", "linalg_diagonal.default")
def _diagonal(call: Call) -> Node:
    x: Node = call["self"] or call["A"]
    if len(x.shape) == 1:
        return _embedded_diagonal(call, x, call["diagonal"] or 0, 0, 1)
    offset = call["offset"] if "offset" in call.args else call["diagonal"]
    a, b = (0, 1) if call["dim1"] is None else (call["dim1"] % len(x.shape), call["dim2"] % len(x.shape))
    found = diagonal_of(call, x, offset or 0, a, b)
    return call.emit("sum", found) if call.overload == "trace.default" else found


def diagonal_of(call: Call, x: Node, offset: int, a: int, b: int) -> Node:
    """The diagonal of two axes, as the last axis."""
    n, m = x.shape[a], x.shape[b]
    places = torch.arange(n * m).reshape(n, m).diagonal(offset)
    rest = [i for i in range(len(x.shape)) if i not in (a, b)]
    turned = call.emit("permute", x, dims=(*rest, a, b)) if (a, b) != (len(rest), len(rest) + 1) else x
    flat = call.reshaped(turned, (*(x.shape[i] for i in rest), n * m))
    return picked(call, flat, len(rest), places, "diagonal")


def _embedded_diagonal(call: Call, x: Node, offset: int, a: int, b: int) -> Node:
    """Entries on a diagonal, zeros elsewhere: each row holds its own entry where the column is right."""
    n, size = x.shape[-1], x.shape[-1] + abs(offset)
    eye = torch.zeros(size, size, dtype=torch.bool)
    rows, columns = torch.arange(n) + max(-offset, 0), torch.arange(n) + max(offset, 0)
    eye[rows, columns] = True
    mask = call.builder.constant(eye, (size, size), "bool", name="diagonal")
    wide = call.emit("pad", x, pad=(max(offset, 0), max(-offset, 0))) if offset else x
    row = call.reshaped(wide, (*wide.shape[:-1], 1, size))
    found = call.emit("where", mask, row, call.number(0))
    rank = len(found.shape)
    order = list(range(rank - 2))
    for axis, where in sorted(((a % rank, rank - 2), (b % rank, rank - 1))):
        order.insert(axis, where)
    return found if order == list(range(rank)) else call.emit("permute", found, dims=tuple(order))


@lowering("diag_embed.default")
def _diag_embed(call: Call) -> Node:
    return _embedded_diagonal(call, call["self"], call["offset"], call["dim1"], call["dim2"])
