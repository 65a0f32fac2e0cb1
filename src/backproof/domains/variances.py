"""The variances domain: for every entry of a node its mean and its mean square, over random weights.

The mean-field theory of signal propagation, as rules: a sum of many independent terms is Gaussian, a function of it has
the moments of that Gaussian, and what meets in a product is taken to be independent. Read over the joint graph it
predicts the gradient: q(s) = n E[w²] E[z²] forwards, E[δ²] n E[w²] E[f'(s)²] backwards (Schoenholz et al. 2017, Deep
Information Propagation, equations 3 and 9).

Gaussian moments are integrated between the kinks of the function; a rule with a node on the kink of ReLU would be 8.8 %
wrong in every layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..errors import MissingRule
from ..graph import Builder, Graph, Node
from ..ops import Elementwise
from ..ops.shapes import axes_of
from .balls import formula
from .base import Domain
from .curves import curve
from .numbers import numbers

__all__ = ["Moments", "breaks", "function_values", "gaussian", "kurtosis", "quadratures", "read_variances", "variances"]

Array = np.ndarray[Any, np.dtype[np.float64]]
_WIDTH, _NODES = 12.0, 48

variances = Domain("variances", "the mean and the mean square of every entry, over random weights")


@dataclass(frozen=True, eq=False)
class Moments:
    """E[x] and E[x²] of every entry."""

    mean: Array
    second: Array

    @staticmethod
    def known(values: Any) -> Moments:
        """Numbers that are not random."""
        array = np.asarray(values, dtype=np.float64)
        return Moments(array, array**2)

    @staticmethod
    def random(second: float, shape: tuple[int, ...], mean: float = 0.0) -> Moments:
        """Independent entries of one distribution."""
        return Moments(np.broadcast_to(np.float64(mean), shape), np.broadcast_to(np.float64(second), shape))

    @property
    def variance(self) -> Array:
        """E[x²] - E[x]²."""
        return np.maximum(self.second - self.mean**2, 0.0)

    def seen(self, view: Callable[[Array], Array]) -> Moments:
        """Both arrays through a change of shape."""
        return Moments(view(self.mean), view(self.second))


def _with(mean: Array, variance: Array) -> Moments:
    return Moments(mean, variance + mean**2)


_BENDS = (-64.0, -16.0, -4.0, 0.0, 4.0, 16.0, 64.0)
_ENDS = tuple(map(float, np.arange(-_WIDTH, _WIDTH + 1, 3.0)))


# --- functions --------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def _rule() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(_NODES)


def gaussian(node: Node, mean: float, variance: float, power: int = 1) -> float:
    """E[f(x)^power] for x Gaussian and f the function of an elementwise node.

    Composite Gauss-Legendre quadrature between the kinks, out to 12 standard deviations.
    """
    assert isinstance(node.op, Elementwise)
    return _gaussian(node.op, tuple(sorted(node.attrs.items())), float(mean), float(variance), power)


@lru_cache(maxsize=4096)
def _gaussian(op: Elementwise, attrs: tuple[tuple[str, Any], ...], mean: float, variance: float, power: int) -> float:
    node = Builder().emit(op, Builder().leaf("x", "input", (1,), "float64"), **dict(attrs))
    if variance <= 1e-30 * max(mean * mean, 1e-300):
        return float(function_values(node, np.array([mean]))[0] ** power)
    sigma = math.sqrt(variance)
    kinks = tuple(float(k.p) / float(k.q) for k in curve(formula(node)).values)
    z, weights = quadrature(breaks(kinks, mean, sigma))
    with np.errstate(over="ignore", invalid="ignore"):
        return float((weights * function_values(node, mean + sigma * z) ** power).sum())


def breaks(kinks: tuple[float, ...], mean: float, sigma: float) -> tuple[float, ...]:
    """Where f(m + σ z) is cut into pieces: its kinks, and for a large σ where an activation of unit scale bends."""
    return tuple((k - mean) / sigma for k in {*kinks, *(_BENDS if sigma > 2 else ())})


def quadrature(kinks: tuple[float, ...] = ()) -> tuple[Array, Array]:
    """Points z and weights w with Σ w f(z) = E[f(z)] for z standard normal and f smooth between the kinks."""
    inside = [k for k in kinks if abs(k) < _WIDTH]
    return _between(np.array(sorted({*inside, *_ENDS})))


def quadratures(kinks: tuple[float, ...], mean: Array, sigma: Array) -> tuple[Array, Array]:
    """The same for many functions z ↦ f(m + σ z) at once, a row each; what lies between two equal ends has weight 0."""
    own = [(k - mean) / sigma for k in kinks]
    bends = [np.where(sigma > 2, (k - mean) / sigma, _WIDTH) for k in _BENDS] if bool((sigma > 2).any()) else []
    ends = np.stack([*np.clip([*own, *bends], -_WIDTH, _WIDTH), *(np.full(mean.shape, e) for e in _ENDS)], axis=-1)
    return _between(np.sort(ends, axis=-1))


def _between(ends: Array) -> tuple[Array, Array]:
    """Gauss-Legendre nodes between neighbours, weighted by the normal density."""
    nodes, weights = _rule()
    half = ((ends[..., 1:] - ends[..., :-1]) / 2)[..., None]
    z = ((ends[..., 1:] + ends[..., :-1]) / 2)[..., None] + half * nodes
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    flat = (*ends.shape[:-1], -1)
    return z.reshape(flat), (half * weights * density).reshape(flat)


def function_values(node: Node, x: Array) -> Array:
    """The function's values, by the kernel of the numbers domain."""
    wide = replace(node, shape=x.shape, dtype="float64", inputs=(replace(node.inputs[0], shape=x.shape),))
    return numbers.apply(wide, torch.from_numpy(np.ascontiguousarray(x))).numpy()  # type: ignore[no-any-return]


def kurtosis(node: Node, mean: float, variance: float) -> float:
    """E[f⁴] / E[f²]² - 1: how much f(s)² fluctuates from unit to unit (5 for ReLU)."""
    second = gaussian(node, mean, variance, 2)
    return gaussian(node, mean, variance, 4) / second**2 - 1 if second**2 > 0 else 0.0


@variances.rule("elementwise")
def _function(node: Node, *operands: Moments) -> Moments:
    if len(operands) != 1:
        raise MissingRule(
            f"the variances domain has no rule for '{node.op.name}' of {len(operands)} operands, in {node.name}"
        )
    x = operands[0]
    pairs = np.stack([x.mean.reshape(-1), x.variance.reshape(-1)], axis=1).astype(np.float32).astype(np.float64)
    # single precision is plenty for a theory, and what differs only by rounding is integrated once
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    found = np.array([[gaussian(node, m, v, p) for p in (1, 2)] for m, v in distinct]).reshape(-1, 2)
    both = found[place.reshape(-1)]
    return Moments(both[:, 0].reshape(node.shape), both[:, 1].reshape(node.shape))


@variances.rule("squared_error")
def _squared_error(node: Node, y: Moments, t: Moments) -> Moments:
    """(y - t)² of a Gaussian difference: m² + v, and its square 3 v² + 6 v m² + m⁴."""
    d = _sub(node, y, t)
    m, v = d.mean, d.variance
    return Moments(m**2 + v, 3 * v**2 + 6 * v * m**2 + m**4)


@variances.rule("squared_error'0", "squared_error'1")
def _squared_error_slope(node: Node, y: Moments, t: Moments) -> Moments:
    d = _sub(node, y, t)
    return Moments((2 if node.op.name.endswith("0") else -2) * d.mean, 4 * d.second)


@variances.rule("div")
def _div(node: Node, a: Moments, b: Moments) -> Moments:
    if float(b.variance.max(initial=0.0)) > 1e-12 * float(b.second.max(initial=0.0)):
        raise MissingRule(
            f"the variances domain divides by known numbers only, and {node.name} divides by a random one"
        )
    return Moments(a.mean / b.mean, a.second / b.mean**2)


@variances.rule("identity", "cast", "stop_gradient")
def _same(node: Node, x: Moments) -> Moments:
    return x


@variances.rule("neg")
def _neg(node: Node, x: Moments) -> Moments:
    return Moments(-x.mean, x.second)


@variances.rule("add")
def _add(node: Node, a: Moments, b: Moments) -> Moments:
    return _with(a.mean + b.mean, a.variance + b.variance)


@variances.rule("sub")
def _sub(node: Node, a: Moments, b: Moments) -> Moments:
    return _with(a.mean - b.mean, a.variance + b.variance)


@variances.rule("mul")
def _mul(node: Node, a: Moments, b: Moments) -> Moments:
    return Moments(a.mean * b.mean, a.second * b.second)


# --- products and sums ------------------------------------------------------------------------------------------------
def _product(a: Moments, b: Moments) -> Moments:
    """A sum of independent products: the means multiply, the variances of the products add up."""
    variance = a.second @ b.second - (a.mean**2) @ (b.mean**2)
    return _with(a.mean @ b.mean, np.maximum(variance, 0.0))


@variances.rule("matmul")
def _matmul(node: Node, a: Moments, b: Moments) -> Moments:
    return _product(a, b)


@variances.rule("linear")
def _linear(node: Node, x: Moments, weight: Moments, bias: Moments | None = None) -> Moments:
    product = _product(x, weight.seen(np.transpose))
    return product if bias is None else _add(node, product, bias)


@variances.rule("outer")
def _outer(node: Node, a: Moments, b: Moments) -> Moments:
    return Moments(np.multiply.outer(a.mean, b.mean), np.multiply.outer(a.second, b.second))


def _summed(x: Moments, axes: tuple[int, ...], scale: float = 1.0) -> Moments:
    return _with(x.mean.sum(axis=axes) * scale, x.variance.sum(axis=axes) * scale**2)


@variances.rule("sum", "mean")
def _reduced(node: Node, x: Moments) -> Moments:
    axes = axes_of(node.attrs["dim"], x.mean.ndim)
    count = math.prod(x.mean.shape[i] for i in axes)
    total = _summed(x, axes, 1 / max(count, 1) if node.op.name == "mean" else 1.0)
    return total.seen(lambda v: np.reshape(v, node.shape))


@variances.rule("sum_to")
def _sum_to(node: Node, x: Moments) -> Moments:
    pad = x.mean.ndim - len(node.shape)
    axes = [*range(pad), *(i + pad for i, n in enumerate(node.shape) if n == 1 and x.mean.shape[i + pad] != 1)]
    return _summed(x, tuple(axes)).seen(lambda v: np.reshape(v, node.shape))


# --- shapes -----------------------------------------------------------------------------------------------------------
@variances.rule("reshape")
def _reshape(node: Node, x: Moments) -> Moments:
    return x.seen(lambda v: v.reshape(node.shape))


@variances.rule("permute")
def _permute(node: Node, x: Moments) -> Moments:
    return x.seen(lambda v: v.transpose(node.attrs["dims"]))


@variances.rule("expand")
def _expand(node: Node, x: Moments) -> Moments:
    return x.seen(lambda v: np.broadcast_to(v, node.shape))


@variances.rule("select")
def _select(node: Node, x: Moments) -> Moments:
    return x.seen(lambda v: v.take(node.attrs["index"], axis=node.attrs["dim"]))


@variances.rule("unselect")
def _unselect(node: Node, x: Moments) -> Moments:
    return x.seen(lambda v: _placed(v, node))


def _placed(entries: Array, node: Node) -> Array:
    """Zeros with entries put where they were selected."""
    out = np.zeros(node.shape)
    np.moveaxis(out, node.attrs["dim"], 0)[node.attrs["index"]] = entries
    return out


def read_variances(graph: Graph, leaves: Mapping[Node, Moments]) -> dict[Node, Moments]:
    """The moments of every node from those of the leaves; constants are known.

    Raises:
        MissingRule: the domain cannot read an operation; all of them are named.

    Example:
        >>> import torch, backproof as bp
        >>> from backproof.domains.variances import Moments, read_variances
        >>> graph = bp.capture(torch.nn.ReLU(), torch.zeros(1))
        >>> moments = read_variances(graph, {graph.nodes[0]: Moments.random(1.0, (1,))})
        >>> round(float(moments[graph.outputs[0]].second[0]), 9)
        0.5
    """
    variances.require(graph)
    found = dict(leaves)
    for node in graph.of_role("constant"):
        if node not in found:
            value = node.value.tolist() if hasattr(node.value, "tolist") else float(node.value)
            found[node] = Moments.known(np.broadcast_to(np.asarray(value, dtype=float), node.shape))
    return variances.run(graph, found)
