"""Linear maps with independent weights: K_out = n E[w²] K forwards, G_in = n E[w²] G backwards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...graph import Node
from ..fields import Axis, Field, Known, Unpredictable, field_of
from . import errors, signals

__all__ = ["is_map", "operands_of"]

Value = Field | Known


def operands_of(node: Node, values: Sequence[Value | None]) -> tuple[Value | None, Known, Known | None] | None:
    """(what goes in, the weight, the bias) of a linear map with random weights; None if it is none."""
    kinds = [isinstance(v, Known) and v.random for v in values]
    name = node.op.name
    if name in ("linear", "conv", "conv_transpose") and kinds[1]:
        return values[0], values[1], (values[2] if len(values) > 2 else None)  # type: ignore[return-value]
    if name == "matmul" and sum(kinds) == 1:
        place = kinds.index(True)
        weight = values[place]
        assert isinstance(weight, Known)
        return (values[1 - place], weight, None) if weight.values.ndim == 2 else None
    return None


def is_map(node: Node, values: Sequence[Value | None]) -> bool:
    """Whether a node is a linear map with random weights."""
    table = node.op.name == "embedding" and isinstance(values[0], Known) and values[0].random
    return table or operands_of(node, values) is not None


def _squares(x: Field, d: int) -> Field:
    """Σ_i x_i x_i' over an axis: independent weights meet each entry with itself."""
    for k in reversed(range(len(x.layout[d]))):
        axis = x.layout[d][k]
        kernel, mean, n = x.kernel, x.mean, axis.size
        layout = (*x.layout[:d], (*x.layout[d][:k], *x.layout[d][k + 1 :]), *x.layout[d + 1 :])
        if axis.kind == "position":
            place = sum(a.kind == "position" for dim in x.layout[:d] for a in dim)
            place += sum(a.kind == "position" for a in x.layout[d][:k])
            sizes = x.sizes
            kernel = kernel.reshape(sizes + sizes).diagonal(0, place, len(sizes) + place).sum(-1)
            mean = mean.reshape(sizes).sum(place).reshape(-1)
            kernel = kernel.reshape(len(mean), -1)
        else:
            kernel, mean = kernel * n, mean * n
        x = replace(x, layout=layout, mean=mean, kernel=kernel)
    return x


def _fan(weight: Known, bias: Known | None, squares: Field, total: Field) -> tuple[Tensor, Tensor]:
    """The mean and the kernel behind a map: from Σ x x' (independent weights) and (Σ x)(Σ x)' (their mean)."""
    w, second = weight.mean, weight.second
    kernel, mean = (second - w * w) * squares.kernel, w * total.mean
    if w:
        kernel = kernel + w * w * total.kernel
    if bias is not None:
        cross = mean * bias.mean
        kernel = kernel + bias.second + cross + cross[:, None]
        mean = mean + bias.mean
    return mean, kernel


def _moved(x: Value, d: int) -> Field:
    """What goes in, as a field; an input's axis d counts as positions."""
    return x if isinstance(x, Field) else _by_rows(x, d)


def _by_rows(x: Known, d: int) -> Field:
    """An input whose entries along an axis are summed over: rows are the positions."""
    values = x.values.double()
    layout = tuple((Axis(n, "position"),) if n > 1 else () for n in values.shape)
    return field_of(values, tuple((Axis(a[0].size, "feature"),) if i == d and a else a for i, a in enumerate(layout)))


@signals.rule("linear", "matmul")
def _linear(node: Node, *operands: Value) -> Field:
    found = operands_of(node, operands)
    if found is None or found[0] is None:
        raise Unpredictable("a product of two random values")
    x, weight, bias = found
    d, out = _axis(node, operands), len(node.shape) - 1
    if isinstance(x, Known):
        squares = _of_rows(x, d)
        total = _of_rows(Known(x.values.sum(d, keepdim=True)), d)
    else:
        squares, total = _squares(x, d), x.summed([d])  # type: ignore[arg-type, union-attr]
    mean, kernel = _fan(weight, bias, squares, total)
    layout = list(squares.layout)
    if len(layout) > len(node.shape):
        del layout[d]
    else:
        layout[d if d < len(layout) else out] = (Axis(node.shape[d], "feature"),)
    return Field(tuple(layout), mean, kernel, True)


def _axis(node: Node, operands: Sequence[Value]) -> int:
    """Which axis of the input a linear map sums over: the last, or for W x the last but one."""
    first = operands[0]
    left = node.op.name == "matmul" and isinstance(first, Known) and first.random
    rank = len(node.inputs[1 if left else 0].shape)
    return max(rank - 2, 0) if left else rank - 1


def _of_rows(x: Known, d: int) -> Field:
    """Σ_i x_i x_i' over axis d of an input, the other axes as positions."""
    field = _by_rows(x, d)
    return _squares(field, d)


@errors.rule("linear", "matmul")
def _linear_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    found = operands_of(node, operands)
    assert found is not None
    x, weight, _ = found
    if not isinstance(x, Field):
        return tuple(None for _ in operands)
    d = _axis(node, operands)
    squares = _squares(delta, d) if len(node.shape) == len(x.layout) else delta
    inner = tuple(replace(a, kind="feature") for a in x.layout[d])
    layout = (*squares.layout[:d], inner, *squares.layout[d + 1 :]) if len(squares.layout) == len(x.layout) else (
        *squares.layout[:d], inner, *squares.layout[d:])  # fmt: skip
    back = Field(layout, torch.zeros_like(squares.mean), weight.second * squares.kernel, True)
    return tuple(back if v is x else None for v in operands)


# --- convolutions -----------------------------------------------------------------------------------------------------
def _spatial(x: Field) -> Field:
    """Every axis but the channels' as positions."""
    for d in range(len(x.layout)):
        if d != 1:
            for k in range(len(x.layout[d])):
                x = x.as_positions(d, k)
    return x


def _whole(x: Field, sizes: tuple[int, ...]) -> Tensor:
    """The kernel as [N, spatial..., N, spatial...], the sum over channels taken."""
    return x.kernel.reshape(sizes + sizes)


def _windows(kernel: Tensor, node: Node, taps: Sequence[int], out: Sequence[int]) -> Tensor:
    """Σ_d K[o s + d, o' s + d] over the taps d of a window."""
    a, axes = node.attrs, len(taps)
    for i in (*range(1, 1 + axes), *range(2 + axes, 2 + 2 * axes)):
        p = a["padding"][(i - 1) % (axes + 1)]
        kernel = _padded(kernel, i, p)
    total: Tensor | None = None
    for tap in itertools.product(*map(range, taps)):
        at = [
            slice(t * r, t * r + (o - 1) * s + 1, s)
            for t, r, o, s in zip(tap, a["dilation"], out, a["stride"], strict=True)
        ]
        piece = kernel[(slice(None), *at, slice(None), *at)]
        total = piece if total is None else total + piece
    assert total is not None
    return total


def _padded(kernel: Tensor, axis: int, p: int) -> Tensor:
    pad = [0, 0] * (kernel.ndim - axis - 1) + [p, p]
    return F.pad(kernel, pad) if p else kernel


def _spread(kernel: Tensor, node: Node, taps: Sequence[int], out: Sequence[int]) -> Tensor:
    """The adjoint of taking windows: each K[o, o'] added at o s + d, o' s + d for every tap d."""
    a, sizes = node.attrs, kernel.shape[1 : 1 + len(taps)]
    n = kernel.shape[0]
    wide = [
        o + 2 * p + r * (k - 1) + s
        for o, p, r, k, s in zip(out, a["padding"], a["dilation"], taps, a["stride"], strict=True)
    ]
    total = torch.zeros((n, *wide, n, *wide), dtype=kernel.dtype)
    for tap in itertools.product(*map(range, taps)):
        at = [
            slice(t * r, t * r + (o - 1) * s + 1, s)
            for t, r, o, s in zip(tap, a["dilation"], sizes, a["stride"], strict=True)
        ]
        total[(slice(None), *at, slice(None), *at)] += kernel
    cut = [slice(p, p + o) for p, o in zip(a["padding"], out, strict=True)]
    return total[(slice(None), *cut, slice(None), *cut)]


def _patches(x: Tensor, node: Node, taps: Sequence[int]) -> Tensor:
    """The windows of an input [N, C, spatial...]: [N × places, C × taps]."""
    a, axes = node.attrs, len(taps)
    x = F.pad(x, [p for q in reversed(a["padding"]) for p in (q, q)])
    for i, (k, s, r) in enumerate(zip(taps, a["stride"], a["dilation"], strict=True)):
        x = x.unfold(2 + i, r * (k - 1) + 1, s)[..., ::r]
    places = [0, *range(2, 2 + axes)]
    rest = [i for i in range(x.ndim) if i not in places]
    return x.permute(*places, *rest).reshape(math.prod(x.shape[i] for i in places), -1)


def _image(layout0: tuple[Axis, ...], channels: int, spatial: Sequence[int]) -> tuple[tuple[Axis, ...], ...]:
    return (layout0, (Axis(channels, "feature"),), *((Axis(n, "position"),) if n > 1 else () for n in spatial))


@signals.rule("conv")
def _conv(node: Node, *operands: Value) -> Field:
    found = operands_of(node, operands)
    if found is None or found[0] is None:
        raise Unpredictable("a convolution with a kernel that is no parameter")
    x, weight, bias = found
    taps, out, groups = weight.values.shape[2:], node.shape[2:], node.attrs["groups"]
    layout0: tuple[Axis, ...] = (Axis(node.shape[0], "position"),) if node.shape[0] > 1 else ()
    if isinstance(x, Known):
        _limit(node.shape[0] * math.prod(out))
        rows = _patches(x.values.double(), node, taps)
        kernel = rows @ rows.T / groups
        total = Field((), rows.sum(1) / groups, torch.outer(rows.sum(1), rows.sum(1)) / groups**2)
    else:
        x = _spatial(x)  # type: ignore[arg-type]
        layout0 = x.layout[0]
        sums = _squares(x, 1)
        kernel = _windows(_whole(sums, (node.shape[0], *x.shape[2:])), node, taps, out) / groups
        total = _mean_only(x, node, weight, math.prod(out) * node.shape[0])
    count = node.shape[0] * math.prod(out)
    kernel = kernel.reshape(count, count)
    mean, full = _fan(weight, bias, Field((), total.mean, kernel), total)
    return Field(_image(layout0, node.shape[1], out), mean, full, True)


def _limit(count: int) -> None:
    from ..fields import MOST

    if count > MOST:
        raise Unpredictable(f"{count:,} places are correlated with each other; {MOST:,} is the limit")


def _mean_only(x: Field, node: Node, weight: Known, count: int) -> Field:
    """The sum over a window where the weights have a mean (0 else): of the means."""
    size = weight.values[0].numel() * float(x.mean.mean()) if weight.mean else 0.0
    mean = torch.full((count,), size, dtype=torch.float64)
    return Field((), mean, torch.outer(mean, mean))


@errors.rule("conv")
def _conv_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    found = operands_of(node, operands)
    assert found is not None
    x, weight, _ = found
    if not isinstance(x, Field):
        return tuple(None for _ in operands)
    delta = _spatial(delta)
    taps, groups = weight.values.shape[2:], node.attrs["groups"]
    sums = _squares(delta, 1)
    kernel = _spread(_whole(sums, (node.shape[0], *node.shape[2:])), node, taps, x.shape[2:]) * weight.second / groups
    return (_back_image(kernel, delta.layout[0], x), *(None for _ in operands[1:]))


def _back_image(kernel: Tensor, layout0: tuple[Axis, ...], x: Field) -> Field:
    count = kernel.shape[0] * math.prod(x.shape[2:])
    flat = kernel.reshape(count, count)
    layout = _image(layout0, x.shape[1], x.shape[2:])
    return Field(layout, torch.zeros(count, dtype=torch.float64), flat, True)


@signals.rule("conv_transpose")
def _conv_transpose(node: Node, *operands: Value) -> Field:
    found = operands_of(node, operands)
    if found is None or not isinstance(found[0], Field):
        raise Unpredictable("a transposed convolution of an input")
    x, weight, bias = found
    assert isinstance(x, Field)
    x = _spatial(x)
    taps, out = weight.values.shape[2:], node.shape[2:]
    sums = _squares(x, 1)
    kernel = _spread(_whole(sums, (node.shape[0], *x.shape[2:])), node, taps, out) / node.attrs["groups"]
    count = node.shape[0] * math.prod(out)
    total = _mean_only(x, node, weight, count)
    mean, full = _fan(weight, bias, Field((), total.mean, kernel.reshape(count, count)), total)
    return Field(_image(x.layout[0], node.shape[1], out), mean, full, True)


@errors.rule("conv_transpose")
def _conv_transpose_back(
    node: Node, operands: tuple[Value, ...], result: Field, delta: Field
) -> tuple[Field | None, ...]:
    x, weight = operands[0], operands[1]
    assert isinstance(x, Field) and isinstance(weight, Known)
    delta = _spatial(delta)
    taps = weight.values.shape[2:]
    sums = _squares(delta, 1)
    kernel = _windows(_whole(sums, (node.shape[0], *node.shape[2:])), node, taps, x.shape[2:])
    kernel = kernel * weight.second / node.attrs["groups"]
    return (_back_image(kernel, delta.layout[0], x), *(None for _ in operands[1:]))


# --- embeddings -------------------------------------------------------------------------------------------------------
@signals.rule("embedding")
def _embedding(node: Node, *operands: Value) -> Field:
    """Rows of a table of independent entries: equal indices share a row."""
    weight, index = (v for v in operands[:2])
    if isinstance(weight, Known) and not weight.values.is_floating_point():
        weight, index = index, weight
    assert isinstance(weight, Known) and isinstance(index, Known)
    flat = index.values.reshape(-1)
    _limit(len(flat))
    same = (flat[:, None] == flat[None, :]).double()
    kernel = same * weight.second + (1 - same) * weight.mean**2
    layout = (
        *((Axis(n, "position"),) if n > 1 else () for n in index.values.shape),
        (Axis(node.shape[-1], "feature"),),
    )
    return Field(layout, torch.full((len(flat),), weight.mean, dtype=torch.float64), kernel, True)


@errors.rule("embedding")
def _embedding_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    return tuple(None for _ in operands)
