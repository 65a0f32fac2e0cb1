"""The largest curvature of a loss, by power iteration on Hessian-vector products, and what it says about lr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["largest_curvature", "stable_below"]


def largest_curvature(
    loss: Callable[[dict[str, Tensor]], Tensor], at: Mapping[str, Tensor], *, rounds: int = 100, seed: int = 0
) -> float | None:
    """The eigenvalue of the loss's second derivatives that is largest in size, if that eigenvalue is positive.

    v <- H v / |H v|, with H v by differentiating the gradient's product with v; stops when the Rayleigh quotient
    v.H v changes by less than one part in 10^6. None where the loss has no second derivatives there, where the largest
    one in size is negative, or where the iteration has not settled to one part in a hundred.
    """
    point = {n: t.detach().clone().requires_grad_() for n, t in at.items()}
    names = list(point)
    gradients = torch.autograd.grad(loss(point), list(point.values()), create_graph=True, allow_unused=True)
    generator = torch.Generator().manual_seed(seed)
    used = [(n, g) for n, g in zip(names, gradients, strict=True) if g is not None and g.requires_grad]
    if not used:
        return None
    v = [torch.randn(point[n].shape, generator=generator, dtype=point[n].dtype) for n in names]
    before = 0.0
    for _ in range(rounds):
        length = float(torch.sqrt(sum((a * a).sum() for a in v)))  # type: ignore[arg-type]
        if not 0 < length < float("inf"):
            return None
        v = [a / length for a in v]
        product = _times(point, used, v)
        now = float(sum((a * b).sum() for a, b in zip(v, product, strict=True)))
        if abs(now - before) <= 1e-6 * abs(now):
            return now if now > 0 else None
        before, v = now, product
    return now if now > 0 and abs(now - before) <= 1e-2 * now else None


def _times(point: Mapping[str, Tensor], used: list[tuple[str, Tensor]], v: list[Tensor]) -> list[Tensor]:
    weight = dict(zip(point, v, strict=True))
    inner = torch.stack([(g * weight[n]).sum() for n, g in used]).sum()
    found = torch.autograd.grad(inner, list(point.values()), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if h is None else h for p, h in zip(point.values(), found, strict=True)]


def stable_below(rule: str, hyper: Mapping[str, Any], curvature: float) -> float | None:
    """The learning rate up to which an update rule is stable on a quadratic of that curvature; None if not known.

    Gradient descent 2/L; heavy ball as torch has it 2(1 + mu)/((1 - tau)L) with dampening tau; Nesterov
    2(1 + mu)/((1 + 2 mu)L). For rules that divide by gradients the curvature alone says nothing.
    """
    if rule != "sgd" or curvature <= 0:
        return None
    momentum, dampening = float(hyper.get("momentum") or 0), float(hyper.get("dampening") or 0)
    if hyper.get("nesterov"):
        return 2 * (1 + momentum) / ((1 + 2 * momentum) * curvature)
    share = 1 - dampening if momentum else 1.0
    return 2 * (1 + momentum) / (share * curvature) if share > 0 else None
