"""From ATen overloads to our operations: sums of products, running totals, norms, functions of a matrix, grids and windows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from string import ascii_letters
from typing import Any

import torch

from ..graph import Node
from .lower import Call, lowering
from .lower_indexing import diagonal_of, picked

__all__: list[str] = []


# --- sums of products -----------------------------------------------------------------------------------------------
def _plus(call: Call, product: Node) -> Node:
    """beta self + alpha product."""
    x, beta, alpha = call["self"], call["beta"], call["alpha"]
    scaled = product if alpha in (None, 1) else call.emit("mul", alpha, product)
    if beta == 0:
        return scaled
    return call.emit("add", x if beta in (None, 1) else call.emit("mul", beta, x), scaled)


@lowering("addmm.default", "baddbmm.default", "addmv.default", "addbmm.default", "addr.default")
def _addmm(call: Call) -> Node:
    operands = [x for name, x in call.args.items() if name != "self" and isinstance(x, Node)]
    if call.overload == "addr.default":
        return _plus(call, call.emit("outer", *operands))
    product = call.emit("matmul", *operands)
    return _plus(call, call.emit("sum", product, dim=(0,)) if call.overload == "addbmm.default" else product)


@lowering("addcmul.default", "addcdiv.default")
def _addcmul(call: Call) -> Node:
    term = call.emit("mul" if call.overload == "addcmul.default" else "div", call["tensor1"], call["tensor2"])
    return call.emit("add", call["self"], term if call["value"] == 1 else call.emit("mul", call["value"], term))


@lowering("tensordot.default")
def _tensordot(call: Call) -> Node:
    a, b = call["self"], call["other"]
    letters = iter(ascii_letters)
    left = [next(letters) for _ in a.shape]
    right = [next(letters) for _ in b.shape]
    summed = [d % len(a.shape) for d in call["dims_self"]]
    for i, j in zip(summed, call["dims_other"], strict=True):
        right[j % len(b.shape)] = left[i]
    both = {left[i] for i in summed}
    result = "".join(c for c in left + right if c not in both)
    return _summed(call, ["".join(left), "".join(right)], result, [a, b])


@lowering("einsum.default")
def _einsum(call: Call) -> Node:
    operands = list(call["tensors"])
    terms, result = _letters(call["equation"], [len(x.shape) for x in operands])
    for i, term in enumerate(terms):
        terms[i], operands[i] = _without_repeats(call, term, operands[i])
    sizes = {
        c: max(x.shape[t.index(c)] for t, x in zip(terms, operands, strict=True) if c in t) for c in "".join(terms)
    }
    for i, term in enumerate(terms):  # an axis of size 1 stretches: it needs no letter
        kept = [k for k, c in enumerate(term) if operands[i].shape[k] == sizes[c]]
        operands[i] = call.reshaped(operands[i], tuple(operands[i].shape[k] for k in kept))
        terms[i] = "".join(term[k] for k in kept)
    return _summed(call, terms, result, operands)


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of every operand and of the result, those that ``...`` stands for included."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    free = [c for c in ascii_letters if c not in equation]
    hidden = max((r - len(t) + 3 for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    batch = "".join(free[:hidden])
    whole = [t.replace("...", batch[hidden - (r - len(t) + 3) :]) for t, r in zip(terms, ranks, strict=True)]
    if not arrow:
        counts = Counter("".join(terms).replace(".", ""))
        result = "..." + "".join(sorted(c for c, k in counts.items() if k == 1))
    return whole, result.replace("...", batch)


def _without_repeats(call: Call, term: str, x: Node) -> tuple[str, Node]:
    """An operand with the diagonal in place of axes that share a letter."""
    while repeated := next((c for c in term if term.count(c) > 1), None):
        a = term.index(repeated)
        b = term.index(repeated, a + 1)
        x = diagonal_of(call, x, 0, a, b)
        term = "".join(c for i, c in enumerate(term) if i not in (a, b)) + repeated
    return term, x


def _summed(call: Call, terms: list[str], result: str, operands: list[Node]) -> Node:
    """A product of matrices where it is one, up to the order of the axes; else a sum over letters."""
    found = _as_matmul(call, terms, result, operands) if len(terms) == 2 else None
    return found or call.emit("einsum", *operands, equation=f"{','.join(terms)}->{result}")


def _as_matmul(call: Call, terms: list[str], result: str, operands: list[Node]) -> Node | None:
    a, b = terms
    batch = [c for c in result if c in a and c in b]
    summed = [c for c in a if c in b and c not in result]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    if [len(summed), len(rows), len(columns)] != [1, 1, 1] or not {*rows, *columns} <= set(result):
        return None
    if result.index(rows[0]) > result.index(columns[0]):
        return _as_matmul(call, [b, a], result, operands[::-1])
    if list(result) != [*batch, *rows, *columns]:
        return None
    left = _ordered(call, operands[0], a, [*batch, *rows, *summed])
    return call.emit("matmul", left, _ordered(call, operands[1], b, [*batch, *summed, *columns]))


def _ordered(call: Call, x: Node, letters: str, wanted: Sequence[str]) -> Node:
    order = tuple(letters.index(c) for c in wanted)
    return x if order == tuple(range(len(order))) else call.emit("permute", x, dims=order)


@lowering("linalg_cross.default", "cross.default")
def _cross(call: Call) -> Node:
    """a × b: each entry from the two others."""
    a, b = call["self"], call["other"]
    dim = call["dim"] if call["dim"] is not None else next(i for i, n in enumerate(call.shape) if n == 3)
    axis = dim % len(call.shape)
    one, two = torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1])
    first = call.emit("mul", picked(call, a, axis, one, "next"), picked(call, b, axis, two, "last"))
    return call.emit(
        "sub", first, call.emit("mul", picked(call, a, axis, two, "last"), picked(call, b, axis, one, "next"))
    )


# --- running totals and reductions ----------------------------------------------------------------------------------
@lowering("cumsum.default", "cumprod.default", "logcumsumexp.default", "_logcumsumexp.default")
def _running(call: Call) -> Node:
    name, x = call.overload.partition(".")[0].strip("_"), call["self"]
    x = x if x.dtype == call.dtype else call.emit("cast", x, dtype=call.dtype)
    return call.emit(name, x, dim=call["dim"])


@lowering("prod.default", "prod.dim_int")
def _prod(call: Call) -> Node:
    x = call["self"]
    x = x if x.dtype == call.dtype else call.emit("cast", x, dtype=call.dtype)
    return call.emit("prod", x, dim=call["dim"], keepdim=bool(call["keepdim"]))


@lowering("any.default", "any.dim", "any.dims", "all.default", "all.dim", "all.dims")
def _any(call: Call) -> Node:
    """Whether some (all) entries are true: their number is not 0 (not less than all)."""
    x, dim = call["self"], call["dim"]
    dims = tuple(dim) if isinstance(dim, (list, tuple)) else dim
    true = x if x.dtype == "bool" else call.emit("ne", x, 0)
    true = true if call.overload.startswith("any") else call.emit("logical_not", true)
    counted = call.emit("sum", call.emit("cast", true, dtype="int64"), dim=dims, keepdim=bool(call["keepdim"]))
    return call.emit("ne" if call.overload.startswith("any") else "eq", counted, 0)


@lowering("count_nonzero.default", "count_nonzero.dim_IntList")
def _count(call: Call) -> Node:
    dim = tuple(call["dim"]) if isinstance(call["dim"], (list, tuple)) else call["dim"]
    return call.emit("sum", call.emit("cast", call.emit("ne", call["self"], 0), dtype="int64"), dim=dim, keepdim=False)


@lowering("aminmax.default")
def _aminmax(call: Call) -> tuple[Node, Node]:
    attrs = {"dim": call["dim"], "keepdim": bool(call["keepdim"])}
    return call.emit("amin", call["self"], **attrs), call.emit("amax", call["self"], **attrs)


@lowering(
    "var_mean.correction", "std_mean.correction", "var_mean.dim", "std_mean.dim", "var_mean.default", "std_mean.default"
)
def _var_mean(call: Call) -> tuple[Node, Node]:
    x, dim = call["self"], call["dim"]
    attrs: dict[str, Any] = {
        "dim": tuple(dim) if isinstance(dim, (list, tuple)) else dim,
        "keepdim": bool(call["keepdim"]),
    }
    correction = call["correction"] if call["correction"] is not None else int(call["unbiased"] is not False)
    var = call.emit("var", x, **attrs, correction=correction)
    return (call.emit("root", var) if call.overload.startswith("std") else var), call.emit("mean", x, **attrs)


@lowering(
    "linalg_vector_norm.default", "norm.ScalarOpt_dim", "norm.Scalar", "frobenius_norm.dim", "norm.ScalarOpt_dim_dtype"
)
def _norm(call: Call) -> Node:
    dims = tuple(call["dim"]) if isinstance(call["dim"], (list, tuple)) else call["dim"]
    return norm(
        call, call["self"], call["ord"] if "ord" in call.args else call["p"], dims or None, bool(call["keepdim"])
    )


def norm(call: Call, x: Node, order: float | None, dim: Any, keepdim: bool) -> Node:
    """(sum |x|^p)^(1/p), and what it becomes at p = 0, 1 and infinity."""
    p = 2.0 if order is None else float(order)
    attrs: dict[str, Any] = {"dim": dim, "keepdim": keepdim}
    call.refuse_unless(p >= 1 or p in (0, -math.inf), f"an order of {p}")
    if math.isinf(p):
        return call.emit("amax" if p > 0 else "amin", call.emit("abs", x), **attrs)
    if p == 0:
        return call.emit("sum", call.emit("cast", call.emit("ne", x, 0), dtype=x.dtype), **attrs)
    if p == 1:
        return call.emit("sum", call.emit("abs", x), **attrs)
    return call.emit("vector_norm", x, ord=p, **attrs)


@lowering("cdist.default", "_cdist_forward.default")
def _cdist(call: Call) -> Node:
    """The norm of every difference between a row of one and a row of the other."""
    a, b = call["x1"], call["x2"]
    rows = call.reshaped(a, (*a.shape[:-1], 1, a.shape[-1]))
    columns = call.reshaped(b, (*b.shape[:-2], 1, *b.shape[-2:]))
    return norm(call, call.emit("sub", rows, columns), call["p"], (-1,), False)


@lowering("_weight_norm.default")
def _weight_norm(call: Call) -> Node:
    """g v / |v|, the length taken over all axes but one."""
    v, g = call["v"], call["g"]
    rank = len(v.shape)
    axes = None if call["dim"] == -1 else tuple(i for i in range(rank) if i != call["dim"] % rank)
    length = norm(call, v, 2, axes, axes is not None)
    return call.emit("mul", v, call.emit("div", g, length))


# --- functions of a matrix ------------------------------------------------------------------------------------------------
@lowering("linalg_inv.default", "inverse.default", "linalg_det.default", "det.default")
def _of_matrix(call: Call) -> Node:
    return call.emit("inverse" if "inv" in call.overload else "det", next(iter(call.args.values())))


@lowering("linalg_slogdet.default", "slogdet.default")
def _slogdet(call: Call) -> tuple[Node, Node]:
    x = next(iter(call.args.values()))
    return call.emit("sign", call.emit("det", x)), call.emit("logabsdet", x)


@lowering("linalg_solve.default")
def _solve(call: Call) -> Node:
    a, b = call["A"], call["B"]
    call.refuse_unless(bool(call["left"]), "left=False")
    vector = len(b.shape) == len(a.shape) - 1 and b.shape == a.shape[:-1]
    if vector:
        return call.reshaped(call.emit("solve", a, call.reshaped(b, (*b.shape, 1))), b.shape)
    batch = tuple(torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    wide = [x if x.shape[:-2] == batch else call.emit("expand", x, shape=(*batch, *x.shape[-2:])) for x in (a, b)]
    return call.emit("solve", *wide)


# --- entry by entry -------------------------------------------------------------------------------------------------------
@lowering("div.Tensor_mode", "div.Scalar_mode", "floor_divide.default", "floor_divide.Scalar")
def _div_mode(call: Call) -> Node:
    a, b, mode = call["self"], call["other"], call["rounding_mode"]
    if mode is None and not call.overload.startswith("floor"):
        return call.emit("div", a, b)
    if mode == "trunc":
        call.refuse_unless(call.dtype.startswith(("float", "bfloat")), "whole numbers, rounded towards 0")
        return call.emit("trunc", call.emit("div", a, b))
    return call.emit("floor_divide", a, b)


@lowering("isnan.default", "isinf.default", "isfinite.default")
def _is_number(call: Call) -> Node:
    x: Node = call["self"]
    if not x.is_float:
        value = call.overload == "isfinite.default"
        return call.builder.constant(torch.full(x.shape, value), x.shape, "bool", name="finite")
    size = call.emit("abs", x)
    return {
        "isnan.default": lambda: call.emit("ne", x, x),
        "isinf.default": lambda: call.emit("eq", size, math.inf),
        "isfinite.default": lambda: call.emit("lt", size, math.inf),
    }[call.overload]()


@lowering("logical_xor.default")
def _xor(call: Call) -> Node:
    return call.emit("ne", *(call.emit("cast", call[n], dtype="int64") for n in ("self", "other")))


# --- grids, repeats, windows ------------------------------------------------------------------------------------------
@lowering("meshgrid.default", "meshgrid.indexing")
def _meshgrid(call: Call) -> tuple[Node, ...]:
    tensors = list(call["tensors"])
    shape, found = tuple(int(n) for n in call.meta[0].shape), []
    swapped = call["indexing"] == "xy" and len(tensors) > 1
    for i, x in enumerate(tensors):
        axis = 1 - i if swapped and i < 2 else i
        line = call.reshaped(x, tuple(x.size if j == axis else 1 for j in range(len(shape))))
        found.append(line if line.shape == shape else call.emit("expand", line, shape=shape))
    return tuple(found)


@lowering("repeat_interleave.self_int")
def _repeat_interleave(call: Call) -> Node:
    x, repeats = call["self"], int(call["repeats"])
    if call["dim"] is None:
        x = call.reshaped(x, (x.size,))
    axis = (call["dim"] or 0) % len(x.shape)
    apart = call.reshaped(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    wide = call.emit("expand", apart, shape=(*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
    return call.reshaped(wide, call.shape)


@lowering("rot90.default")
def _rot90(call: Call) -> Node:
    x: Node = call["self"]
    a, b = (d % len(x.shape) for d in call["dims"])
    for _ in range(call["k"] % 4):
        order = list(range(len(x.shape)))
        order[a], order[b] = b, a
        turned = call.emit("permute", x, dims=tuple(order))
        x = picked(call, turned, a, torch.arange(turned.shape[a]).flip(0), "turned")
    return x


@lowering("movedim.intlist", "moveaxis.intlist")
def _movedim(call: Call) -> Node:
    rank = len(call["self"].shape)
    to = dict(zip((d % rank for d in call["destination"]), (s % rank for s in call["source"]), strict=True))
    rest = iter(i for i in range(rank) if i not in to.values())
    return call.emit("permute", call["self"], dims=tuple(to[i] if i in to else next(rest) for i in range(rank)))


@lowering("unfold.default")
def _unfold(call: Call) -> Node:
    """Windows along an axis; their entries make the last axis."""
    x = call["self"]
    axis, size, step = call["dimension"] % len(x.shape), call["size"], call["step"]
    starts = torch.arange((x.shape[axis] - size) // step + 1) * step
    windows = picked(call, x, axis, starts.unsqueeze(1) + torch.arange(size), "windows")
    order = (*range(axis + 1), *range(axis + 2, len(windows.shape)), axis + 1)
    return windows if order == tuple(range(len(order))) else call.emit("permute", windows, dims=order)


def _taps(call: Call, axis: int, size: int) -> torch.Tensor:
    """Which (padded) entry each tap of each window of an unfolded image reads, along one axis."""
    kernel, stride, padding, dilation = (call[k][axis] for k in ("kernel_size", "stride", "padding", "dilation"))
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    taps, places = torch.arange(kernel).unsqueeze(1), torch.arange(count)
    return taps * int(dilation) + places * int(stride)


@lowering("im2col.default")
def _im2col(call: Call) -> Node:
    """[N, C, H, W] to [N, C kH kW, windows]."""
    x = call["self"]
    batch = x if len(x.shape) == 4 else call.reshaped(x, (1, *x.shape))
    (pad_h, pad_w), (height, width) = call["padding"], batch.shape[2:]
    padded = call.emit("pad", batch, pad=(pad_w, pad_w, pad_h, pad_h)) if pad_h or pad_w else batch
    rows = picked(call, padded, 2, _taps(call, 0, height), "rows")
    both = picked(call, rows, 4, _taps(call, 1, width), "columns")
    return call.reshaped(call.emit("permute", both, dims=(0, 1, 2, 4, 3, 5)), call.shape)


@lowering("col2im.default")
def _col2im(call: Call) -> Node:
    """[N, C kH kW, windows] to [N, C, H, W]: what falls on one place is added up."""
    x, (height, width), (pad_h, pad_w) = call["self"], call["output_size"], call["padding"]
    rows, columns = _taps(call, 0, height), _taps(call, 1, width)
    n, channels = (x.shape[0] if len(x.shape) == 3 else 1), call.shape[-3]
    apart = call.reshaped(x, (n, channels, rows.shape[0], columns.shape[0], rows.shape[1], columns.shape[1]))
    front = call.emit("permute", apart, dims=(2, 4, 3, 5, 0, 1))
    high = _added(call, front, rows, height + 2 * pad_h)  # [H, kW, wW, N, C]
    wide = _added(call, call.emit("permute", high, dims=(1, 2, 0, 3, 4)), columns, width + 2 * pad_w)
    image = call.emit("permute", wide, dims=(2, 3, 1, 0))
    return call.reshaped(call.emit("pad", image, pad=(-pad_w, -pad_w, -pad_h, -pad_h)), call.shape)


def _added(call: Call, x: Node, index: torch.Tensor, size: int) -> Node:
    places = call.builder.constant(index, tuple(index.shape), "int64", name="places")
    return call.emit("embedding_grad", x, places, shape=(size, *x.shape[2:]))
