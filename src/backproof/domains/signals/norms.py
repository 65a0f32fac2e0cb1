"""Batch, layer and group normalisation in training and evaluation, with the correlations that the statistics make."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...graph import Node
from ..fields import Field, Known, Unpredictable, aligned, seen_from
from . import errors, signals
from .entrywise import product

__all__ = ["statistics_of"]

Value = Field | Known


def statistics_of(node: Node) -> tuple[int, ...] | None:
    """The axes over which a normalisation takes the mean and variance of its own input; None where they are given."""
    x, mean, var = node.inputs[:3]
    own = mean.op.name == "mean" and var.op.name == "var" and mean.inputs[0] is x and var.inputs[0] is x
    if not own:
        return None
    dim, rank = mean.attrs["dim"], len(x.shape)
    dims = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    return tuple(d % rank for d in dims)


@dataclass(frozen=True)
class _Normed:
    """x̂ = (x - μ) / sqrt(v + ε): its kernel, 1/sqrt(v + ε) for each position, and the averaging matrix R of a group."""

    x: Field
    kernel: Tensor
    rate: Tensor
    average: Tensor
    features: int
    places: int


def _normalised(node: Node, x: Field, dims: tuple[int, ...]) -> _Normed:
    """Centre and scale the kernel: C - (1/n)(R C + C R - R C R), with n features in a group."""
    mine = [d in dims for d, dim in enumerate(x.layout) for a in dim if a.kind == "position"]
    features = math.prod(a.size for d in dims for a in x.layout[d] if a.kind != "position")
    average = _averaging(x.sizes, mine)
    places = max(math.prod(n for n, m in zip(x.sizes, mine, strict=True) if m), 1)
    deviation = x.mean - average @ x.mean
    c = x.kernel - torch.outer(x.mean, x.mean)
    rc = average @ c
    centred = c - (rc + rc.T - rc @ average) / features + torch.outer(deviation, deviation)
    variance = average @ centred.diagonal().clamp_min(0)
    spread = (variance + float(node.attrs["eps"])).sqrt()
    return _Normed(x, centred / spread / spread[:, None], 1 / spread, average, features, places)


def _averaging(sizes: tuple[int, ...], mine: list[bool]) -> Tensor:
    """The matrix that replaces each position by the mean over its group."""
    matrix = torch.ones((1, 1), dtype=torch.float64)
    for n, inside in zip(sizes, mine, strict=True):
        block = torch.full((n, n), 1 / n, dtype=torch.float64) if inside else torch.eye(n, dtype=torch.float64)
        matrix = torch.kron(matrix, block)
    return matrix


def _affine(node: Node, operands: tuple[Value | None, ...]) -> tuple[tuple[float, float], tuple[float, float]]:
    """(mean, mean square) of γ and of β."""
    found = []
    for place, default in ((3, 1.0), (4, 0.0)):
        v = operands[place] if len(operands) > place else None
        if isinstance(v, Field):
            raise Unpredictable("a normalisation whose scale is random")
        found.append((default, default) if v is None else (float(v.values.double().mean()), v.second))
    return found[0], found[1]


@signals.rule("batch_norm", "layer_norm")
def _norm(node: Node, *operands: Value | None) -> Field:
    x = operands[0]
    if not isinstance(x, Field):
        raise Unpredictable("a normalisation of an input by random statistics")
    dims = statistics_of(node)
    (g, gg), (b, bb) = _affine(node, operands)
    if dims is None:
        return _given(node, x, operands)
    normed = _normalised(node, x, dims)
    mean = torch.zeros_like(x.mean)
    return Field(x.layout, mean * g + b, normed.kernel * gg + bb, x.gaussian)


def _given(node: Node, x: Field, operands: tuple[Value | None, ...]) -> Field:
    """With running statistics: a scale and a shift of their own for each channel."""
    scale, shift = _scale(node, operands)
    one = seen_from(Known(scale, True))
    cross = torch.outer(x.mean, torch.ones_like(x.mean)) * float(scale.mean()) * float(shift.mean())
    kernel = x.kernel * one.second + float((shift**2).mean()) + cross + cross.T
    return Field(x.layout, x.mean * float(scale.mean()) + float(shift.mean()), kernel, x.gaussian)


def _scale(node: Node, operands: tuple[Value | None, ...]) -> tuple[Tensor, Tensor]:
    mean, var, *rest = operands[1:]
    if not isinstance(mean, Known) or not isinstance(var, Known):
        raise Unpredictable("a normalisation by random statistics")
    g = rest[0].values.double() if rest and isinstance(rest[0], Known) else 1.0
    b = rest[1].values.double() if len(rest) > 1 and isinstance(rest[1], Known) else 0.0
    scale = g / (var.values.double() + float(node.attrs["eps"])).sqrt()
    return scale, b - mean.values.double() * scale


@errors.rule("batch_norm", "layer_norm")
def _norm_back(node: Node, operands: tuple[Value | None, ...], result: Field, delta: Field) -> tuple[Field | None, ...]:
    """δ_x = (δ - mean δ - x̂ mean(δ x̂)) γ / sqrt(v + ε), the mean over a group of n features and P positions.

    With G = E[δδ'] and K̂ = E[x̂x̂'], N = n P: (A G A - (A G K̂ + K̂ G A)/N + n tr(G K̂) K̂/N²) E[γ²] / (v + ε).
    """
    x = operands[0]
    if not isinstance(x, Field):
        return tuple(None for _ in operands)
    dims = statistics_of(node)
    nothing = tuple(None for _ in operands[1:])
    if dims is None:
        scale, _ = _scale(node, operands)
        return delta.scaled(math.sqrt(float((scale**2).mean()))), *nothing
    normed = _normalised(node, x, dims)
    if all(a.kind == "copy" for d in dims for a in delta.layout[d]) and normed.features > 1:
        delta = delta.scaled(0.0)  # the sum over what was centred does not depend on x
    delta, like = aligned(delta, replace(x, kernel=normed.kernel))
    if len(like.mean) != len(x.mean):
        return _wider(node, operands, delta, x, dims), *nothing
    fresh = normed.features == 1 or node.inputs[0].op.family in ("linear", "convolution")
    kernel = _projected(delta.kernel, normed, fresh) * _affine(node, operands)[0][1]
    return replace(delta, kernel=kernel, mean=torch.zeros_like(delta.mean)), *nothing


def _projected(g: Tensor, n: _Normed, fresh: bool) -> Tensor:
    """G without the mean and without what goes along x̂, over v + ε.

    Over a finite group E[1/v] is a little more than 1/E[v] where the entries are independent draws (a ``fresh`` map's); a
    sum to which an earlier norm has given its size fluctuates less.
    """
    rg = n.average @ g
    centred = g - (rg + rg.T - rg @ n.average) / n.features
    total = n.features * n.places
    inside = n.average > 0
    k = n.kernel * inside
    gk = (centred * inside) @ k
    found = centred - (gk + gk.T) / total
    along = n.average @ gk.diagonal() * n.places  # tr(G K̂) of each group
    found = found + k * along * n.features / total**2
    if n.features == 1:
        found = found + 2 * (k @ gk) / total**2
    c = k / n.places
    excess = 1 + 2 * (c * c).sum(1) * n.places / n.features / max((k.diagonal().mean()) ** 2, 1e-300)  # type: ignore[operator]
    return found * n.rate * n.rate[:, None] * (excess.clamp_max(3.0) if fresh else 1.0)


def _wider(node: Node, operands: tuple[Value | None, ...], delta: Field, x: Field, dims: tuple[int, ...]) -> Field:
    """Where the error signal has positions along the features of x: without the corrections for a group."""
    rate = _normalised(node, x, dims).rate
    scale = Field(x.layout, rate, torch.outer(rate, rate))
    found = product(delta, scale)
    return found.scaled(math.sqrt(_affine(node, operands)[0][1]))
