"""Functions entry by entry: E[f(u) f(v)] of Gaussian u and v, by Hermite expansion; sums and products of fields."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...graph import Builder, Node
from ...ops import Elementwise, derivative
from ..balls import formula
from ..curves import curve
from ..fields import Field, Known, Unpredictable, aligned, seen_from
from ..variances import Array, function_values, quadratures
from . import errors, signals

__all__ = ["kernel_of", "scales"]

TERMS = 48
Value = Field | Known


# --- one Gaussian operand ---------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _kinks(op: Elementwise, attrs: tuple[tuple[str, Any], ...]) -> tuple[float, ...]:
    """Where the formula changes branch; a function without a usable formula counts as smooth."""
    node = _plain(op, attrs)
    return tuple(float(k.p) / float(k.q) for k in curve(formula(node)).values)


def _plain(op: Elementwise, attrs: tuple[tuple[str, Any], ...]) -> Node:
    return Builder().emit(op, Builder().leaf("x", "input", (1,), "float64"), **dict(attrs))


def _expansions(op: Elementwise, attrs: tuple[tuple[str, Any], ...], pairs: Array) -> tuple[Array, Array]:
    """For each (mean m, deviation σ) a_k = E[f(m + σ z) h_k(z)] with the normalised Hermite polynomials h_k, and E[f²]."""
    node = _plain(op, attrs)
    mean, sigma = pairs.T
    still = sigma <= 1e-15 * np.maximum(abs(mean), 1e-300)
    z, weights = quadratures(_kinks(op, attrs), mean, np.where(still, 1.0, sigma))
    z, weights = (np.where(still[:, None], w, v) for v, w in ((z, 0.0), (weights, 1 / z.shape[1])))
    found, before, h = np.empty((len(pairs), TERMS)), np.zeros_like(z), np.ones_like(z)
    with np.errstate(over="ignore", invalid="ignore"):  # of a function that overflows: what is not finite is not used
        values = np.where(weights > 0, function_values(node, mean[:, None] + sigma[:, None] * z), 0.0)
        weighted = weights * values
        for k in range(TERMS):
            found[:, k] = np.einsum("ij,ij->i", weighted, h)
            before, h = h, (z * h - math.sqrt(k) * before) / math.sqrt(k + 1)
        found[still, 1:] = 0.0
        return found, np.einsum("ij,ij->i", weighted, values)


def _rounded(values: Tensor) -> Array:
    """To five digits: what differs by less is integrated once."""
    found: Array = values.numpy()
    size = 10.0 ** (np.floor(np.log10(np.maximum(abs(found), 1e-300))) - 4)
    return np.where(found == 0, 0.0, np.round(found / size) * size)


def kernel_of(node: Node, x: Field) -> Field:
    """E[f(u)] and E[f(u) f(v)] = Σ a_k(u) a_k(v) ρ^k; what the terms leave out counts as one more, of the next order."""
    assert isinstance(node.op, Elementwise)
    sigma = x.variance.sqrt()
    pairs = np.stack([_rounded(x.mean), _rounded(sigma)], axis=1)
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    expanded = _expansions(node.op, tuple(sorted(node.attrs.items())), distinct)
    terms, second = (torch.from_numpy(v[place.reshape(-1)]) for v in expanded)
    safe = sigma.clamp_min(1e-300)
    rho = torch.addr(x.kernel, x.mean, x.mean, alpha=-1).div_(safe).div_(safe[:, None]).clamp_(-1, 1)
    rest = (second - (terms**2).sum(1)).clamp_min(0).sqrt()
    kernel = torch.outer(rest, rest)
    columns = terms.T.contiguous()
    for k in reversed(range(TERMS)):
        kernel.mul_(rho).addr_(columns[k], columns[k])
    kernel.diagonal().copy_(second)
    return Field(x.layout, columns[0].clone(), kernel)


@signals.rule("elementwise")
def _function(node: Node, *operands: Value) -> Field:
    (x,) = operands
    assert isinstance(x, Field)
    return kernel_of(node, x)


def _slope(node: Node) -> Node:
    assert isinstance(node.op, Elementwise)
    return replace(node, op=derivative(node.op, 0))


@errors.rule("elementwise")
def _function_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    """E[δδ'] E[f'(u) f'(v)]: the error signal is taken to be independent of the value."""
    (x,) = operands
    assert isinstance(x, Field)
    return (product(delta, kernel_of(_slope(node), x)),)


# --- sums and products --------------------------------------------------------------------------------------------------
def _both(a: Value, b: Value) -> tuple[Field, Field]:
    """Two operands as fields under one layout."""
    one = a if isinstance(a, Field) else seen_from(a, b if isinstance(b, Field) else None)
    two = b if isinstance(b, Field) else seen_from(b, a if isinstance(a, Field) else None)
    return aligned(one, two)


def product(a: Field, b: Field) -> Field:
    """Of independent fields: the moments multiply."""
    a, b = aligned(a, b)
    return Field(a.layout, a.mean * b.mean, a.kernel * b.kernel)


def scales(value: Value) -> bool:
    """Whether it is one number, the same everywhere: what is multiplied by it stays Gaussian."""
    if isinstance(value, Known):
        return value.values.numel() > 0 and bool((value.values == value.values.reshape(-1)[0]).all())
    return False


@signals.rule("mul")
def _mul(node: Node, a: Value, b: Value) -> Field:
    found = product(*_both(a, b))
    plain = next((x for x, other in ((a, b), (b, a)) if isinstance(x, Field) and scales(other)), None)
    return replace(found, gaussian=plain is not None and plain.gaussian)


@errors.rule("mul")
def _mul_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    a, b = operands
    return _times(delta, b, a), _times(delta, a, b)


def _times(delta: Field, other: Value, own: Value) -> Field | None:
    if isinstance(own, Known):
        return None
    return narrowed(product(*_both(delta, other)), own.shape)


@signals.rule("div")
def _div(node: Node, a: Value, b: Value) -> Field:
    return _mul(node, a, _inverse(b))  # type: ignore[no-any-return]


def _inverse(b: Value) -> Known:
    if isinstance(b, Field):
        raise Unpredictable("a quotient by a random value")
    return Known(1 / b.values, b.random)


@errors.rule("div")
def _div_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    return _times(delta, _inverse(operands[1]), operands[0]), None


@signals.rule("add")
def _add(node: Node, a: Value, b: Value) -> Field:
    return _total(a, b, 1.0)


@signals.rule("sub")
def _sub(node: Node, a: Value, b: Value) -> Field:
    return _total(a, b, -1.0)


def _total(a: Value, b: Value, sign: float) -> Field:
    """Of independent fields: the covariances add up. A sum of two fields counts as Gaussian."""
    one, two = _both(a, b)
    cross = torch.outer(one.mean, two.mean)
    kernel = one.kernel + two.kernel + sign * (cross + cross.T)
    gaussian = all(isinstance(x, Field) for x in (a, b)) or next(x for x in (a, b) if isinstance(x, Field)).gaussian
    return Field(one.layout, one.mean + sign * two.mean, kernel, gaussian)


@errors.rule("add", "sub")
def _total_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    return tuple(narrowed(delta, x.shape) if isinstance(x, Field) else None for x in operands)


@signals.rule("neg")
def _neg(node: Node, x: Field) -> Field:
    return replace(x, mean=-x.mean)


@errors.rule("neg")
def _neg_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    return (replace(delta, mean=-delta.mean),)


@signals.rule("identity", "cast", "stop_gradient")
def _same(node: Node, x: Field) -> Field:
    return x


@errors.rule("identity", "cast")
def _same_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    return (delta,)


@errors.rule("stop_gradient")
def _stopped(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    return (None,)


def narrowed(delta: Field, shape: tuple[int, ...]) -> Field:
    """The error signal of what was broadcast: summed over the axes along which it was."""
    pad = len(delta.layout) - len(shape)
    wide = [d for d, n in enumerate(delta.shape) if n != 1 and (d < pad or shape[d - pad] == 1)]
    return delta.summed(wide).reshaped(shape) if wide or pad else delta
