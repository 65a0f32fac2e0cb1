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
from ..variances import breaks, function_values, quadrature
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


@lru_cache(maxsize=20_000)
def _expansion(op: Elementwise, attrs: tuple[tuple[str, Any], ...], mean: float, sigma: float) -> tuple[Tensor, float]:
    """a_k = E[f(m + σ z) h_k(z)] for the normalised Hermite polynomials h_k, and E[f²]."""
    node = _plain(op, attrs)
    if sigma <= 1e-15 * max(abs(mean), 1e-300):
        value = float(function_values(node, np.array([mean]))[0])
        alone = torch.zeros(TERMS, dtype=torch.float64)
        alone[0] = value
        return alone, value**2
    z, weights = quadrature(breaks(_kinks(op, attrs), mean, sigma))
    values = function_values(node, mean + sigma * z)
    found, before, h = np.empty(TERMS), np.zeros_like(z), np.ones_like(z)
    with np.errstate(over="ignore", invalid="ignore"):  # of a function that overflows: what is not finite is not used
        for k in range(TERMS):
            found[k] = (weights * values * h).sum()
            before, h = h, (z * h - math.sqrt(k) * before) / math.sqrt(k + 1)
        return torch.from_numpy(found), float((weights * values**2).sum())


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def kernel_of(node: Node, x: Field) -> Field:
    """E[f(u)] and E[f(u) f(v)] = Σ a_k(u) a_k(v) ρ^k; what the terms leave out counts as one more, of the next order."""
    assert isinstance(node.op, Elementwise)
    attrs = tuple(sorted(node.attrs.items()))
    sigma = x.variance.sqrt()
    pairs = [(_rounded(m), _rounded(s)) for m, s in zip(x.mean.tolist(), sigma.tolist(), strict=True)]
    known = {pair: _expansion(node.op, attrs, *pair) for pair in dict.fromkeys(pairs)}
    terms = torch.stack([known[pair][0] for pair in pairs])
    second = torch.tensor([known[pair][1] for pair in pairs], dtype=torch.float64)
    safe = sigma.clamp_min(1e-300)
    rho = ((x.kernel - torch.outer(x.mean, x.mean)) / safe / safe[:, None]).clamp(-1, 1)
    rest = (second - (terms**2).sum(1)).clamp_min(0).sqrt()
    kernel = torch.outer(rest, rest)
    for k in reversed(range(TERMS)):
        kernel = kernel * rho + torch.outer(terms[:, k], terms[:, k])
    kernel.diagonal().copy_(second)
    return Field(x.layout, terms[:, 0].clone(), kernel)


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
