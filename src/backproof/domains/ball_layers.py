"""Layers over exact intervals: convolutions, pools, normalisation, the softmax family; rules of :mod:`.balls`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import flint
import numpy as np
import sympy

from ..graph import Node
from ..ops import OPS
from ..ops.shapes import axes_of
from .balls import _add, _neg, _sub, balls
from .curves import X, curve, outwards
from .intervals import Array, Box, contracted, each, seen, summed, times
from .spans import Span

__all__: list[str] = []

ZERO = flint.fmpq(0)
Slices = tuple[slice, ...]


# --- windows ----------------------------------------------------------------------------------------------------------
def _taps(node: Node, kernel: Sequence[int], out: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Slices]]:
    """Each place of a window, and where in the padded input the windows have it."""
    a = node.attrs
    dilation = a.get("dilation") or (1,) * len(kernel)
    for tap in itertools.product(*map(range, kernel)):
        axes = zip(tap, dilation, out, a["stride"], strict=True)
        yield tap, tuple(slice(t * r, t * r + (o - 1) * s + 1, s) for t, r, o, s in axes)


def _wide(node: Node, sizes: Sequence[int], kernel: Sequence[int], out: Sequence[int]) -> list[int]:
    """The sizes of the padded input, as far as windows reach."""
    a = node.attrs
    dilation = a.get("dilation") or (1,) * len(kernel)
    axes = zip(sizes, a["padding"], kernel, dilation, out, a["stride"], strict=True)
    return [max(n + 2 * p, r * (k - 1) + (o - 1) * s + 1) for n, p, k, r, o, s in axes]


def _padded(box: Box, pad: Sequence[int], wide: Sequence[int], value: Any = ZERO) -> Box:
    """The last axes put into wider ones filled with a value."""
    lead = box.shape[: len(box.shape) - len(wide)]
    cut = tuple(slice(p, p + n) for p, n in zip(pad, box.shape[len(lead) :], strict=True))
    ends = []
    for end in (box.lo, box.hi):
        out = np.full((*lead, *wide), value, dtype=object)
        out[(..., *cut)] = end  # type: ignore[index]
        ends.append(out)
    return Box(ends[0], ends[1])


def _cropped(ends: list[Array], pad: Sequence[int], sizes: Sequence[int]) -> Box:
    cut = tuple(slice(p, p + n) for p, n in zip(pad, sizes, strict=True))
    return Box(ends[0][(..., *cut)], ends[1][(..., *cut)])  # type: ignore[arg-type]


def _sum(parts: list[Box], node: Node) -> Box:
    total = parts[0]
    for part in parts[1:]:
        total = _add(node, total, part)
    return total


def _by_group(groups: int, *channels: int) -> Iterator[list[slice]]:
    for k in range(groups):
        yield [slice(k * n // groups, (k + 1) * n // groups) for n in channels]


def _beside(parts: list[Box], axis: int) -> Box:
    return parts[0] if len(parts) == 1 else Box(
        np.concatenate([p.lo for p in parts], axis), np.concatenate([p.hi for p in parts], axis))  # fmt: skip


def _product(rows: Box, columns: Box) -> Box:
    """[N, ..., C] times [F, C]: [N, ..., F]."""
    return contracted(seen(rows, lambda v: v[..., None, :]), columns)


@balls.rule("conv")
def _conv(node: Node, x: Box, weight: Box, bias: Box | None = None) -> Box:
    kernel, out = weight.shape[2:], node.shape[2:]
    wide = _padded(x, node.attrs["padding"], _wide(node, x.shape[2:], kernel, out))
    parts = []
    for cin, cout in _by_group(node.attrs["groups"], x.shape[1], weight.shape[0]):
        terms = []
        for tap, at in _taps(node, kernel, out):
            rows = seen(wide, lambda v, a=at, c=cin: np.moveaxis(v[(slice(None), c, *a)], 1, -1))  # type: ignore[misc]
            terms.append(_product(rows, seen(weight, lambda v, t=tap, c=cout: v[(c, slice(None), *t)])))  # type: ignore[misc]
        parts.append(seen(_sum(terms, node), lambda v: np.moveaxis(v, -1, 1)))
    product = _beside(parts, 1)
    return product if bias is None else _add(node, product, seen(bias, lambda v: v.reshape(-1, *(1,) * len(kernel))))


@balls.rule("conv_input_grad")
def _conv_input_grad(node: Node, delta: Box, weight: Box) -> Box:
    kernel, out, sizes = weight.shape[2:], delta.shape[2:], node.shape[2:]
    wide = _wide(node, sizes, kernel, out)
    parts = []
    for cin, cout in _by_group(node.attrs["groups"], node.shape[1], weight.shape[0]):
        rows = seen(delta, lambda v, c=cout: np.moveaxis(v[:, c], 1, -1))  # type: ignore[misc]
        ends = [np.full((node.shape[0], cin.stop - cin.start, *wide), ZERO, dtype=object) for _ in range(2)]
        for tap, at in _taps(node, kernel, out):
            product = _product(rows, seen(weight, lambda v, t=tap, c=cout: v[(c, slice(None), *t)].T))  # type: ignore[misc]
            for end, part in zip(ends, (product.lo, product.hi), strict=True):
                end[(slice(None), slice(None), *at)] += np.moveaxis(part, -1, 1)
        parts.append(_cropped(ends, node.attrs["padding"], sizes))
    return _beside(parts, 1)


@balls.rule("conv_weight_grad")
def _conv_weight_grad(node: Node, x: Box, delta: Box) -> Box:
    kernel, out = node.shape[2:], delta.shape[2:]
    wide = _padded(x, node.attrs["padding"], _wide(node, x.shape[2:], kernel, out))
    ends = [np.full(node.shape, ZERO, dtype=object) for _ in range(2)]
    for cin, cout in _by_group(node.attrs["groups"], x.shape[1], delta.shape[1]):
        columns = seen(delta, lambda v, c=cout: np.moveaxis(v[:, c], 1, 0).reshape(c.stop - c.start, -1))  # type: ignore[misc]
        for tap, at in _taps(node, kernel, out):
            rows = seen(
                wide,
                lambda v, a=at, c=cin: np.moveaxis(v[(slice(None), c, *a)], 1, 0).reshape(c.stop - c.start, -1),  # type: ignore[misc]
            )  # type: ignore[misc, unused-ignore]
            product = _product(rows, columns)
            for end, part in zip(ends, (product.lo, product.hi), strict=True):
                end[(cout, slice(None), *tap)] = part.T  # type: ignore[index]
    return Box(ends[0], ends[1])


# --- pools ------------------------------------------------------------------------------------------------------------
@balls.rule("avg_pool")
def _avg_pool(node: Node, x: Box) -> Box:
    kernel, out = node.attrs["kernel"], node.shape[2:]
    wide = _padded(x, node.attrs["padding"], _wide(node, x.shape[2:], kernel, out))
    total = _sum([seen(wide, lambda v, a=at: v[(..., *a)]) for _, at in _taps(node, kernel, out)], node)  # type: ignore[misc]
    return each(times, total, _shares(node, x.shape[2:]))


def _shares(node: Node, sizes: Sequence[int]) -> Box:
    """1 over the number of entries that count in each window, as torch counts them."""
    import torch

    from .numbers import numbers

    ones = torch.ones((1, 1, *sizes), dtype=torch.float64)
    means = numbers.apply(_alone(node, sizes), ones)
    wide = _padded(Box.exactly(ones.tolist(), tuple(ones.shape)), node.attrs["padding"],
                   _wide(node, sizes, node.attrs["kernel"], node.shape[2:]))  # fmt: skip
    parts = [seen(wide, lambda v, a=at: v[(..., *a)]) for _, at in _taps(node, node.attrs["kernel"], node.shape[2:])]  # type: ignore[misc]
    counts = _sum(parts, node)
    share = np.empty(counts.shape, dtype=object)
    for place in np.ndindex(*counts.shape):
        share[place] = 1 / flint.fmpq(round(int(counts.lo[place].p) / float(means[place])))  # type: ignore[attr-defined]
    return Box(share, share)


def _alone(node: Node, sizes: Sequence[int]) -> Node:
    wide = replace(node.inputs[0], shape=(1, 1, *sizes), dtype="float64")
    attrs = {key: value for key, value in node.attrs.items() if key != "shape"}
    return replace(
        node, op=OPS["avg_pool"], attrs=attrs, inputs=(wide,), shape=(1, 1, *node.shape[2:]), dtype="float64"
    )


@balls.rule("avg_pool_grad")
def _avg_pool_grad(node: Node, delta: Box) -> Box:
    kernel, out, sizes = node.attrs["kernel"], delta.shape[2:], node.shape[2:]
    forward = replace(node, shape=delta.shape)
    share = each(times, delta, _shares(forward, sizes))
    ends = [np.full((*node.shape[:2], *_wide(node, sizes, kernel, out)), ZERO, dtype=object) for _ in range(2)]
    for _, at in _taps(node, kernel, out):
        for end, part in zip(ends, (share.lo, share.hi), strict=True):
            end[(..., *at)] += part  # type: ignore[arg-type]
    return _cropped(ends, node.attrs["padding"], sizes)


def _bins(n: int, out: int) -> list[slice]:
    return [slice(o * n // out, -(-(o + 1) * n // out)) for o in range(out)]


@balls.rule("adaptive_avg_pool")
def _adaptive(node: Node, x: Box) -> Box:
    ends = [np.empty(node.shape, dtype=object) for _ in range(2)]
    for place, cut in _windows(node.shape[2:], x.shape[2:]):
        part = seen(x, lambda v, c=cut: v[(slice(None), slice(None), *c)])  # type: ignore[misc]
        count = math.prod(part.shape[2:])
        mean = summed(part, tuple(range(2, len(part.shape))), flint.fmpq(1, count))
        for end, value in zip(ends, (mean.lo, mean.hi), strict=True):
            end[(slice(None), slice(None), *place)] = value  # type: ignore[index]
    return Box(ends[0], ends[1])


def _windows(out: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Slices]]:
    for place in itertools.product(*map(range, out)):
        yield place, tuple(_bins(n, o)[i] for i, n, o in zip(place, sizes, out, strict=True))


@balls.rule("adaptive_avg_pool_grad")
def _adaptive_grad(node: Node, delta: Box) -> Box:
    ends = [np.full(node.shape, ZERO, dtype=object) for _ in range(2)]
    for place, cut in _windows(delta.shape[2:], node.shape[2:]):
        count = math.prod(c.stop - c.start for c in cut)
        for end, value in zip(ends, (delta.lo, delta.hi), strict=True):
            part = value[(slice(None), slice(None), *place)] * flint.fmpq(1, count)  # type: ignore[arg-type]
            end[(slice(None), slice(None), *cut)] += part.reshape(*part.shape, *(1,) * len(cut))
    return Box(ends[0], ends[1])


_LOWEST = flint.fmpq(-(10**200))


def _candidates(node: Node, x: Box, out: Sequence[int]) -> tuple[list[Slices], list[Box], list[int]]:
    kernel = node.attrs["kernel"]
    wide_sizes = _wide(node, x.shape[2:], kernel, out)
    wide = _padded(x, node.attrs["padding"], wide_sizes, _LOWEST)
    places = [at for _, at in _taps(node, kernel, out)]
    return places, [seen(wide, lambda v, a=at: v[(..., *a)]) for at in places], wide_sizes  # type: ignore[misc]


@balls.rule("max_pool")
def _max_pool(node: Node, x: Box) -> Box:
    _, parts, _ = _candidates(node, x, node.shape[2:])
    total = parts[0]
    for part in parts[1:]:
        total = each(lambda a, b, c, d: (max(a, c), max(b, d)), total, part)
    return total


@balls.rule("max_pool_grad")
def _max_pool_grad(node: Node, delta: Box, x: Box) -> Box:
    """Where an entry may be the largest of its window it may receive the error signal, and where it must, it does."""
    places, parts, wide = _candidates(node, x, delta.shape[2:])
    ends = [np.full((*node.shape[:2], *wide), ZERO, dtype=object) for _ in range(2)]
    for i, (at, part) in enumerate(zip(places, parts, strict=True)):
        others = [p for k, p in enumerate(parts) if k != i]
        sure = np.ones(part.shape, dtype=bool)
        never = np.zeros(part.shape, dtype=bool)
        for other in others:
            sure &= (part.lo > other.hi).astype(bool)
            never |= (part.hi < other.lo).astype(bool)
        low = np.where(never, ZERO, np.where(sure, delta.lo, np.minimum(delta.lo, ZERO)))  # type: ignore[call-overload]
        high = np.where(never, ZERO, np.where(sure, delta.hi, np.maximum(delta.hi, ZERO)))  # type: ignore[call-overload]
        for end, value in zip(ends, (low, high), strict=True):
            end[(..., *at)] += value  # type: ignore[arg-type]
    return _cropped(ends, node.attrs["padding"], node.shape[2:])


# --- normalisation ----------------------------------------------------------------------------------------------------
@balls.rule("var")
def _var(node: Node, x: Box) -> Box:
    """The mean square distance from the mean; at least 0."""
    axes = axes_of(node.attrs["dim"], len(x.shape))
    count = math.prod(x.shape[i] for i in axes)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    mean = seen(summed(x, axes, flint.fmpq(1, count)), lambda v: v.reshape(kept))
    squares = each(curve(X**2).range, _sub(node, x, mean))
    total = summed(squares, axes, flint.fmpq(1, max(count - node.attrs["correction"], 1)))
    return seen(total, lambda v: v.reshape(node.shape))


@balls.rule("batch_norm", "layer_norm")
def _norm(node: Node, x: Box, mean: Box, var: Box, weight: Box | None = None, bias: Box | None = None) -> Box:
    def wide(box: Box) -> Box:
        if node.op.name == "layer_norm":
            return box
        return seen(box, lambda v: v.reshape(-1, *(1,) * (len(x.shape) - 2)))

    eps = sympy.Rational(repr(float(node.attrs["eps"])))
    rate = each(curve(1 / sympy.sqrt(X + eps)).range, _from_zero(wide(var)))
    found = each(times, _sub(node, x, wide(mean)), rate)
    found = found if weight is None else each(times, found, wide(weight))
    return found if bias is None else _add(node, found, wide(bias))


def _from_zero(box: Box) -> Box:
    return each(lambda a, b: (max(a, ZERO), max(b, ZERO)), box)


# --- the softmax family -----------------------------------------------------------------------------------------------
def _along(node: Node, x: Box, function: Callable[[list[Any], list[Any], int], tuple[Any, Any]]) -> Box:
    """For each entry a function of all intervals along an axis and the entry's place there."""
    axis = node.attrs["dim"] % len(x.shape)
    lo, hi = (np.moveaxis(np.ascontiguousarray(v), axis, -1) for v in (x.lo, x.hi))
    ends = [np.empty(lo.shape, dtype=object) for _ in range(2)]
    with flint.ctx.workprec(128):
        for row in np.ndindex(*lo.shape[:-1]):
            for i in range(lo.shape[-1]):
                ends[0][(*row, i)], ends[1][(*row, i)] = function(list(lo[row]), list(hi[row]), i)
    return Box(np.moveaxis(ends[0], -1, axis), np.moveaxis(ends[1], -1, axis))


def _rest(own: Any, others: list[Any], i: int) -> Any:
    """1 + Σ_{j≠i} exp(x_j - x_i)."""
    total = flint.arb(1)
    for j, other in enumerate(others):
        if j != i:
            total += (flint.arb(other) - flint.arb(own)).exp()
    return total


@balls.rule("softmax")
def _softmax(node: Node, x: Box) -> Box:
    """p_i = 1/(1 + Σ_{j≠i} exp(x_j - x_i)): it grows with x_i and falls with every other, so its ends are exact."""

    def ends(lo: list[Any], hi: list[Any], i: int) -> tuple[Any, Any]:
        low, high = 1 / _rest(lo[i], hi, i), 1 / _rest(hi[i], lo, i)
        return outwards(Span(low, low))[0], outwards(Span(high, high))[1]

    return _along(node, x, ends)


@balls.rule("log_softmax")
def _log_softmax(node: Node, x: Box) -> Box:
    def ends(lo: list[Any], hi: list[Any], i: int) -> tuple[Any, Any]:
        low, high = -_rest(lo[i], hi, i).log(), -_rest(hi[i], lo, i).log()
        return outwards(Span(low, low))[0], outwards(Span(high, high))[1]

    return _along(node, x, ends)


def _spread(node: Node, box: Box) -> Box:
    """The sum along the axis, kept."""
    axis = node.attrs["dim"] % len(box.shape)
    kept = tuple(1 if i == axis else n for i, n in enumerate(box.shape))
    return seen(summed(box, (axis,)), lambda v: v.reshape(kept))


@balls.rule("softmax_grad")
def _softmax_grad(node: Node, delta: Box, p: Box) -> Box:
    return each(times, p, _sub(node, delta, _spread(node, each(times, delta, p))))


@balls.rule("log_softmax_grad")
def _log_softmax_grad(node: Node, delta: Box, y: Box) -> Box:
    grown = each(curve(sympy.exp(X)).range, y)
    return _sub(node, delta, each(times, grown, _spread(node, delta)))  # type: ignore[no-any-return]


def _target_shares(node: Node, t: Box, classes: int, weight: Box | None) -> Array:
    """[N, C, ...]: how much of each entry the loss takes (a mean over what counts, or a sum)."""
    if weight is not None:
        raise _refused()
    labels = np.vectorize(lambda v: int(v.p) // int(v.q), otypes=[int])(t.lo)
    keep = labels != node.attrs["ignore_index"]
    count = max(int(keep.sum()), 1) if node.attrs["reduction"] == "mean" else 1
    shares = np.full((labels.shape[0], classes, *labels.shape[1:]), ZERO, dtype=object)
    for place in np.ndindex(*labels.shape):
        if keep[place]:
            shares[(place[0], labels[place], *place[1:])] = flint.fmpq(1, count)
    return shares


def _refused() -> Exception:
    from ..errors import MissingRule

    return MissingRule("the balls domain has no rule for 'nll' with class weights")


@balls.rule("nll")
def _nll(node: Node, y: Box, t: Box, weight: Box | None = None) -> Box:
    shares = _target_shares(node, t, y.shape[1], weight)
    parts = _neg(node, each(times, y, Box(shares, shares)))
    if node.attrs["reduction"] == "none":
        return summed(parts, (1,))
    return summed(parts, tuple(range(len(y.shape))))


@balls.rule("nll_grad")
def _nll_grad(node: Node, delta: Box, t: Box, weight: Box | None = None) -> Box:
    shares = _target_shares(node, t, node.shape[1], weight)
    return _neg(node, each(times, delta, Box(shares, shares)))  # type: ignore[no-any-return]
