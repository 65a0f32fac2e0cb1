"""The torch code of indexing, running totals, norms and functions of a matrix: one line each, and the functions that
these call, which a written-out script contains as they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["ARRAYS", "ARRAY_HELPERS", "ARRAY_SLOPES"]


def recurrence(a: torch.Tensor, b: torch.Tensor, dim: int, reverse: bool) -> torch.Tensor:
    """h_t = a_t h_{t-1} + b_t along an axis, from 0; in reverse from the last entry on."""
    factors, terms = a.unbind(dim), b.unbind(dim)
    places = list(reversed(range(len(terms)))) if reverse else list(range(len(terms)))
    found: dict[int, torch.Tensor] = {}
    h = torch.zeros_like(terms[0])
    for t in places:
        h = factors[t] * h + terms[t]
        found[t] = h
    return torch.stack([found[t] for t in range(len(terms))], dim)


def product(x: torch.Tensor, dim: int | None, keepdim: bool) -> torch.Tensor:
    """The product of all entries, or of those along an axis."""
    return torch.prod(x) if dim is None else torch.prod(x, dim, keepdim)


ARRAY_HELPERS: dict[str, Callable[..., Any]] = {"recurrence": recurrence, "product": product}

ARRAYS: dict[str, str] = {
    "put": "x.index_put((index,), src)",
    "scatter": "x.scatter(dim, index, src)",
    "scatter_extreme": "x.scatter_reduce(dim, index, src, 'amax' if largest else 'amin')",
    "argsort": "torch.sort(x, dim=dim, descending=descending, stable=stable).indices",
    "topk_index": "torch.topk(x, k, dim, largest).indices",
    "median_index": "torch.median(x, dim, keepdim).indices",
    "bucket": "torch.bucketize(x.contiguous(), boundaries, right=right)",
    "cumsum": "x.flip(dim).cumsum(dim).flip(dim) if reverse else x.cumsum(dim)",
    "cumprod": "x.cumprod(dim)",
    "logcumsumexp": "torch.logcumsumexp(x, dim)",
    "recurrence": "recurrence(a, b, dim, reverse)",
    "cummax_index": "torch.cummax(x, dim).indices",
    "cummin_index": "torch.cummin(x, dim).indices",
    "prod": "product(x, dim, keepdim)",
    "vector_norm": "torch.linalg.vector_norm(x, ord, dim, keepdim)",
    "einsum": "torch.einsum(equation, *xs)",
    "inverse": "torch.linalg.inv(x)",
    "det": "torch.linalg.det(x)",
    "logabsdet": "torch.linalg.slogdet(x).logabsdet",
    "solve": "torch.linalg.solve(a, b)",
    "remainder": "torch.remainder(a, b)",
    "fmod": "torch.fmod(a, b)",
    "floor_divide": "torch.div(a, b, rounding_mode='floor')",
    "logaddexp": "torch.logaddexp(a, b)",
    "lerp": "torch.lerp(a, b, w)",
    "trunc": "torch.trunc(x)",
    "exp2": "torch.exp2(x)",
}

ARRAY_SLOPES: dict[str, str] = {
    "remainder'0": "torch.ones_like(a)",
    "remainder'1": "-torch.floor(a / b)",
    "fmod'0": "torch.ones_like(a)",
    "fmod'1": "-torch.trunc(a / b)",
    "logaddexp'0": "torch.sigmoid(a - b)",
    "logaddexp'1": "torch.sigmoid(b - a)",
    "lerp'0": "1 - w",
    "lerp'1": "w.clone()",
    "lerp'2": "b - a",
    "exp2'": "math.log(2) * torch.exp2(x)",
}
