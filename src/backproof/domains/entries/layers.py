"""Convolutions, pools and normalisation entry by entry: rules of the entries domain, in terms of + - * / alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...graph import Node
from ...ops import OPS
from ...ops.windows import Window, adaptive_windows, pool_windows
from .general import Arithmetic, Array, entries

__all__: list[str] = []

Place = tuple[int, ...]


def _zeros(arithmetic: Arithmetic, shape: Sequence[int], value: Any = 0) -> Array:
    out = np.empty(tuple(shape), dtype=object)
    out[...] = arithmetic.number(value)
    return out


# --- convolutions --------------------------------------------------------------------------------------------------
def _met(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], places: Sequence[int]
) -> Iterable[tuple[Place, Place, Place]]:
    """All (place, kernel entry, input entry) that meet inside the input, in reading order of the kernel."""
    attrs = node.attrs
    for place in np.ndindex(*places):
        for k in np.ndindex(*kernel):
            axes = zip(place, k, attrs["stride"], attrs["padding"], attrs["dilation"], strict=True)
            there = tuple(i * s + j * d - p for i, j, s, p, d in axes)
            if all(0 <= t < n for t, n in zip(there, sizes, strict=True)):
                yield place, k, there


def _channels(node: Node, inputs: int, outputs: int) -> list[tuple[int, int, int]]:
    """All (input channel, output channel, channel of the kernel) that a convolution with groups connects."""
    groups = node.attrs["groups"]
    c, o = inputs // groups, outputs // groups
    return [(g * c + i, g * o + j, i) for g in range(groups) for j in range(o) for i in range(c)]


def _added(total: Any, term: Any) -> Any:
    return term if total is None else total + term


def _sums(arithmetic: Arithmetic, shape: Sequence[int], terms: Iterable[tuple[Place, Any]]) -> Array:
    """Terms added up by place, in order; 0 where there is none."""
    out = np.empty(tuple(shape), dtype=object)
    for place, term in terms:
        out[place] = _added(out[place], term)
    zero = arithmetic.number(0)
    for place in np.ndindex(*out.shape):
        out[place] = zero if out[place] is None else out[place]
    return out


def _convolved(node: Node, arithmetic: Arithmetic, x: Array, weight: Array, shape: Sequence[int]) -> Array:
    met = list(_met(node, x.shape[2:], weight.shape[2:], shape[2:]))
    terms = (
        ((n, o, *place), weight[(o, i, *k)] * x[(n, c, *there)])
        for n in range(x.shape[0])
        for c, o, i in _channels(node, x.shape[1], shape[1])
        for place, k, there in met
    )
    return _sums(arithmetic, shape, terms)


def _sent_back(node: Node, arithmetic: Arithmetic, delta: Array, weight: Array, shape: Sequence[int]) -> Array:
    met = list(_met(node, shape[2:], weight.shape[2:], delta.shape[2:]))
    terms = (
        ((n, c, *there), weight[(o, i, *k)] * delta[(n, o, *place)])
        for n in range(shape[0])
        for c, o, i in _channels(node, shape[1], delta.shape[1])
        for place, k, there in met
    )
    return _sums(arithmetic, shape, terms)


def _shifted(y: Array, bias: Array | None) -> Array:
    """One bias per channel added."""
    return y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2))


@entries.rule("conv")
def _conv(node: Node, arithmetic: Arithmetic, x: Array, weight: Array, bias: Array | None = None) -> Array:
    return _shifted(_convolved(node, arithmetic, x, weight, node.shape), bias)


@entries.rule("conv_input_grad")
def _conv_input_grad(node: Node, arithmetic: Arithmetic, delta: Array, weight: Array) -> Array:
    return _sent_back(node, arithmetic, delta, weight, node.shape)


@entries.rule("conv_transpose")
def _conv_transpose(node: Node, arithmetic: Arithmetic, x: Array, weight: Array, bias: Array | None = None) -> Array:
    return _shifted(_sent_back(node, arithmetic, x, weight, node.shape), bias)


@entries.rule("conv_weight_grad")
def _conv_weight_grad(node: Node, arithmetic: Arithmetic, x: Array, delta: Array) -> Array:
    met = list(_met(node, x.shape[2:], node.shape[2:], delta.shape[2:]))
    terms = (
        ((o, i, *k), delta[(n, o, *place)] * x[(n, c, *there)])
        for n in range(x.shape[0])
        for c, o, i in _channels(node, x.shape[1], delta.shape[1])
        for place, k, there in met
    )
    return _sums(arithmetic, node.shape, terms)


@entries.rule("pad")
def _pad(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    pairs = list(reversed([node.attrs["pad"][i : i + 2] for i in range(0, len(node.attrs["pad"]), 2)]))
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + [tuple(p) for p in pairs]
    out = _zeros(arithmetic, node.shape, node.attrs["value"])
    axes = list(zip(pairs, x.shape, out.shape, strict=True))
    there = tuple(slice(max(a, 0), m - max(b, 0)) for (a, b), _, m in axes)
    here = tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n, _ in axes)
    out[there] = x[here]
    return out


# --- pools ---------------------------------------------------------------------------------------------------------
def _windows(node: Node, sizes: Sequence[int], counts: Sequence[int]) -> Iterable[tuple[Place, list[Place]]]:
    """For each window of a max pool the entries inside the input, in reading order."""
    attrs = node.attrs
    for place in np.ndindex(*counts):
        axes = zip(place, sizes, *(attrs[k] for k in ("kernel", "stride", "padding", "dilation")), strict=True)
        along = [[t for j in range(k) if 0 <= (t := i * s - p + j * d) < n] for i, n, k, s, p, d in axes]
        yield place, list(itertools.product(*along))


@entries.rule("max_pool")
def _max_pool(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    out = np.empty(node.shape, dtype=object)
    windows = list(_windows(node, x.shape[2:], node.shape[2:]))
    for n, c in np.ndindex(*x.shape[:2]):
        for place, inside in windows:
            out[(n, c, *place)] = arithmetic.largest([x[(n, c, *there)] for there in inside], 1)
    return out


@entries.rule("max_pool_index")
def _max_pool_index(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    out = np.empty(node.shape, dtype=object)
    windows = list(_windows(node, x.shape[2:], node.shape[2:]))
    for nc in np.ndindex(*x.shape[:2]):
        for place, inside in windows:
            (first,) = arithmetic.where_largest([x[(*nc, *there)] for there in inside])
            out[(*nc, *place)] = int(np.ravel_multi_index(inside[first], x.shape[2:]))
    return out


@entries.rule("max_pool_grad")
def _max_pool_grad(node: Node, arithmetic: Arithmetic, delta: Array, x: Array) -> Array:
    windows = list(_windows(node, x.shape[2:], delta.shape[2:]))
    terms = (
        ((*nc, *inside[i]), factor * delta[(*nc, *place)])
        for nc in np.ndindex(*x.shape[:2])
        for place, inside in windows
        for i, factor in arithmetic.where_largest([x[(*nc, *there)] for there in inside]).items()
    )
    return _sums(arithmetic, node.shape, terms)


def _means(attrs: Mapping[str, Any], sizes: Sequence[int]) -> list[list[Window]]:
    """The windows of an average pool along each axis."""
    if "output_size" in attrs:
        return [adaptive_windows(n, m) for n, m in zip(sizes, attrs["output_size"], strict=True)]
    return [pool_windows(n, axis, attrs) for axis, n in enumerate(sizes)]


def _shares(node: Node, sizes: Sequence[int]) -> Iterable[tuple[Place, Place, int]]:
    """All (window, entry in it, what the mean divides by)."""
    along = _means(node.attrs, sizes)
    for place in np.ndindex(*(len(windows) for windows in along)):
        here = [windows[i] for windows, i in zip(along, place, strict=True)]
        divisor = int(np.prod([d for _, _, d in here]))
        for there in itertools.product(*(range(start, end) for start, end, _ in here)):
            yield place, there, divisor


@entries.rule("avg_pool", "adaptive_avg_pool")
def _avg_pool(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    shares = list(_shares(node, x.shape[2:]))
    divisors = {place: arithmetic.number(d) for place, _, d in shares}
    terms = (((*nc, *place), x[(*nc, *there)]) for nc in np.ndindex(*x.shape[:2]) for place, there, _ in shares)
    total = _sums(arithmetic, node.shape, terms)
    for place in np.ndindex(*total.shape):
        total[place] = total[place] / divisors[place[2:]]
    return total


@entries.rule("avg_pool_grad", "adaptive_avg_pool_grad")
def _avg_pool_grad(node: Node, arithmetic: Arithmetic, delta: Array) -> Array:
    shares = [(place, there, arithmetic.number(d)) for place, there, d in _shares(node, node.shape[2:])]
    terms = (
        ((*nc, *there), delta[(*nc, *place)] / divisor)
        for nc in np.ndindex(*delta.shape[:2])
        for place, there, divisor in shares
    )
    return _sums(arithmetic, node.shape, terms)


# --- normalisation -------------------------------------------------------------------------------------------------
@entries.rule("batch_norm", "layer_norm")
def _normalised(node: Node, arithmetic: Arithmetic, x: Array, mean: Array, var: Array, *affine: Array) -> Array:
    tail = (1,) * (x.ndim - 2) if node.op.name == "batch_norm" else ()
    mean, var, *affine_wide = (a.reshape(*a.shape, *tail) for a in (mean, var, *affine))
    root = np.empty(var.shape, dtype=object)
    for place in np.ndindex(*var.shape):
        inside = var[place] + arithmetic.number(node.attrs["eps"])
        root[place] = arithmetic.apply(OPS["sqrt"], (inside,), {})
    y = (x - mean) / root
    y = y * affine_wide[0] if affine_wide else y
    return np.asarray(y + affine_wide[1] if len(affine_wide) > 1 else y, dtype=object)
