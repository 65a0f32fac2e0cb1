"""Twelve operations with a hand-written backward pass, and the slips that people make in it.

Each family has a forward pass, a backward pass that takes a ``slip``, and inputs at three sizes. ``slip=""`` is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as NG

__all__ = ["FAMILIES", "Family", "Inputs", "Mutant", "draw", "function_of", "indices", "mutants"]

SIZES = ("small", "middle", "large")
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Family:
    """An operation: its forward pass, its backward pass with a slip, its inputs by size (0, 1, 2) and the slips.

    ``constants`` are the positions of float arguments that the backward pass does not differentiate.
    """

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., tuple[Tensor | None, ...]]
    inputs: Callable[[int], Inputs]
    slips: tuple[str, ...]
    constants: tuple[int, ...] = ()

    def leaves(self, size: int) -> Inputs:
        """The inputs; those that are differentiated require a gradient."""
        return tuple(
            t.detach().requires_grad_(t.is_floating_point() and k not in self.constants)
            for k, t in enumerate(self.inputs(size))
        )


@dataclass(frozen=True)
class Mutant:
    """One slip in one family; ``slip`` is empty for the right one."""

    family: Family
    slip: str

    @property
    def name(self) -> str:
        """The family and the slip."""
        return f"{self.family.name}: {self.slip or 'right'}"


def function_of(family: Family, slip: str) -> Callable[..., Tensor]:
    """``Function.apply`` with the family's forward pass and the backward pass with this slip."""

    def forward(ctx: Any, *inputs: Tensor) -> Any:
        ctx.save_for_backward(*inputs)
        return family.forward(*inputs)

    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        return family.backward(g[0] if len(g) == 1 else g, *ctx.saved_tensors, slip=slip)

    made = type(
        family.name, (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )
    return made.apply  # type: ignore[no-any-return, attr-defined]


def mutants(families: tuple[Family, ...], right: bool = False) -> Iterator[Mutant]:
    """All slips of these families, or with ``right`` the right ones."""
    for family in families:
        yield from (Mutant(family, slip) for slip in (("",) if right else family.slips))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape) + seed))


def indices(high: int, *shape: int) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(sum(shape)))


def _mlp(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, t: Tensor) -> Tensor:
    return ((torch.sigmoid(x @ w1.T + b1) @ w2.T - t) ** 2).mean()


def _mlp_back(
    g: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, t: Tensor, slip: str
) -> tuple[Tensor | None, ...]:
    z = x @ w1.T + b1
    h = torch.sigmoid(z)
    y = h @ w2.T
    dy = g * 2 * (y - t) / y.numel()
    dy = dy * y.shape[0] if slip == "no mean over the batch" else dy / 2 if slip == "no factor 2" else dy
    dy = -dy if slip == "sign" else g * 2 * (t - y).abs() / y.numel() if slip == "absolute error" else dy
    slope = {"no slope": torch.ones_like(z), "slope of tanh": 1 - torch.tanh(z) ** 2, "slope at the wrong place": z * (1 - z),
             "slope of the slope": h * (1 - h) * (1 - 2 * h)}.get(slip, h * (1 - h))  # fmt: skip
    w = w2 - 0.1 * (dy.T @ h) if slip == "updated weights" else w2
    w = (
        w2.flip(1)
        if slip == "weights flipped"
        else w2.T.contiguous().view_as(w2)
        if slip == "weights viewed wrong"
        else w
    )
    dz = (dy @ w) * slope
    db = dz.mean(0) if slip == "bias averaged" else dz[0] if slip == "bias of the first sample" else dz.sum(0)
    dw2 = dy.T @ (z if slip == "pre-activation" else h)
    dw1 = dz.T @ x
    dw1 = dw1 * (1 + 1e-4) if slip == "a ten-thousandth" else torch.zeros_like(dw1) if slip == "w1 forgotten" else dw1
    if slip == "one entry":
        dw1 = dw1.clone()
        dw1[-1, 0] *= 1.01
    if slip == "last row":
        dw1 = torch.cat([dw1[:-1], torch.zeros_like(dw1[-1:])])
    return dz @ w1, dw1, db, dw2, None


def _mlp_in(size: int) -> Inputs:
    n, d, k, c = ((3, 4, 6, 3), (16, 40, 60, 5), (64, 150, 200, 10))[size]
    return draw(n, d), draw(k, d, seed=1), draw(k), draw(c, k), draw(n, c).requires_grad_(False)


def _ce(x: Tensor, labels: Tensor) -> Tensor:
    return F.nll_loss(torch.log_softmax(x / 2, 1), labels)


def _ce_back(g: Tensor, x: Tensor, labels: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    p = torch.softmax(x if slip == "temperature forgotten in the softmax" else x / 2, 1)
    y = F.one_hot(labels.roll(1) if slip == "labels shifted" else labels, x.shape[1])
    d = {"targets forgotten": p, "sign": y - p, "softmax of the log": p.log() - y}.get(slip, p - y)
    d = p * (1 - p) - y * 0 if slip == "diagonal only" else d
    factor = {"temperature forgotten": 1.0, "no mean": 0.5 * len(x), "mean over classes too": 0.5 / x.shape[1]}.get(
        slip, 0.5
    )
    return g * d * factor / len(x), None


def _ce_in(size: int) -> Inputs:
    n, c = ((10, 10), (100, 50), (500, 100))[size]
    return draw(n, c), indices(c, n)


def _ln(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    m, v = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - m) * torch.rsqrt(v + 1e-5) * w + b


def _ln_back(g: Tensor, x: Tensor, w: Tensor, b: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    m, v = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=slip == "unbiased variance")
    r = torch.rsqrt(v + (0 if slip == "epsilon forgotten" else 1e-5))
    h = (x - m) * r
    d = g if slip == "weight forgotten" else g * w
    first = torch.zeros_like(m) if slip == "mean term dropped" else d.mean(-1, keepdim=True)
    second = torch.zeros_like(m) if slip == "variance term dropped" else (d * h).mean(-1, keepdim=True)
    second = d.mean(-1, keepdim=True) if slip == "wrong mean in the variance term" else second
    dx = (d - first - h * second) * (r * r if slip == "square of the inverse deviation" else r)
    dw = (g * (x if slip == "input for normalised input" else h)).sum(0)
    return dx, dw, g.mean(0) if slip == "bias averaged" else g.sum(0)


def _ln_in(size: int) -> Inputs:
    n, d = ((10, 10), (50, 100), (250, 200))[size]
    return draw(n, d), draw(d), draw(d, seed=1)


def _conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(x, w, b, padding=1)


def _conv_back(g: Tensor, x: Tensor, w: Tensor, b: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    kernel = w.flip(2, 3) if slip == "kernel flipped" else w.transpose(2, 3) if slip == "kernel transposed" else w
    kernel = w.transpose(0, 1).contiguous() if slip == "channels exchanged" else kernel
    dx = NG.conv2d_input(x.shape, kernel, g, padding=1)
    source = x.roll(1, 3) if slip == "input shifted" else x
    dw = NG.conv2d_weight(source, w.shape, g, padding=1)
    dw = dw.flip(2, 3) if slip == "weight gradient flipped" else dw / len(x) if slip == "mean over the batch" else dw
    if slip == "border forgotten":
        dx = dx.clone()
        dx[..., 0] = 0
    db = g.sum((0, 2)).mean(-1) if slip == "bias averaged over a width" else g.sum((0, 2, 3))
    return dx, dw, db


def _conv_in(size: int) -> Inputs:
    n, c, s = ((2, 2, 4), (2, 8, 16), (2, 16, 36))[size]
    return draw(n, c, s, s), draw(c, c, 3, 3), draw(c)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v


def _attention_back(g: Tensor, q: Tensor, k: Tensor, v: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    root = q.shape[-1] ** 0.5
    p = torch.softmax(q @ k.transpose(-1, -2) / root, -1)
    dp = g @ v.transpose(-1, -2)
    inner = torch.zeros_like(p[..., :1]) if slip == "sum term dropped" else (dp * p).sum(-1, keepdim=True)
    ds = p * (dp - inner) / (1 if slip == "scale forgotten" else root * root if slip == "scale twice" else root)
    ds = ds / p if slip == "softmax forgotten" else ds
    dk = (ds if slip == "scores not transposed" else ds.transpose(-1, -2)) @ q
    dv = (p if slip == "probabilities not transposed" else p.transpose(-1, -2)) @ g
    return ds @ (q if slip == "queries for keys" else k), dk, dv


def _attention_in(size: int) -> Inputs:
    b, t, d = ((1, 6, 5), (4, 20, 20), (8, 64, 32))[size]
    return draw(b, t, d), draw(b, t, d, seed=1), draw(b, t, d, seed=2)


def _huber(x: Tensor, t: Tensor) -> Tensor:
    return F.huber_loss(x, t, delta=1.5, reduction="sum")


def _huber_back(g: Tensor, x: Tensor, t: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    e = x - t
    tail = {"delta forgotten": e.sign(), "tail not cut": e, "one tail": 1.5 * torch.ones_like(e)}.get(
        slip, 1.5 * e.sign()
    )
    inside = e.abs() < (1.0 if slip == "threshold wrong" else 1.5)
    return g * torch.where(inside, 2 * e if slip == "factor 2 inside" else e, tail), None


def _huber_in(size: int) -> Inputs:
    n = (100, 5000, 50000)[size]
    return draw(n), draw(n, seed=1)


def _gather(table: Tensor, index: Tensor) -> Tensor:
    return table[index]


def _gather_back(g: Tensor, table: Tensor, index: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    d = torch.zeros_like(table)
    if slip == "duplicates not accumulated":
        d[index] = g
        return d, None
    shift = index.roll(1) if slip == "rows shifted" else index
    d = d.index_add(0, shift, g)
    return (d / torch.bincount(index, minlength=len(d)).clamp(1)[:, None] if slip == "mean of duplicates" else d), None


def _gather_in(size: int) -> Inputs:
    n, d = ((20, 5), (500, 10), (2500, 20))[size]
    return draw(n, d), indices(n, n)


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def _softmax_back(g: Tensor, x: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    p = torch.softmax(x, -1)
    axis = 0 if slip == "sum over the wrong axis" else -1
    s = (g * p).mean(axis, keepdim=True) if slip == "mean for the sum" else (g * p).sum(axis, keepdim=True)
    s = g.sum(-1, keepdim=True) if slip == "probabilities left out of the sum" else s
    return (p * (1 - p) * g if slip == "diagonal only" else p * (g + s) if slip == "sign of the sum" else p * (g - s),)


def _softmax_in(size: int) -> Inputs:
    return (draw(*((10, 10), (50, 100), (250, 200))[size]),)


def _bn(x: Tensor, w: Tensor) -> Tensor:
    return (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5) * w


def _bn_back(g: Tensor, x: Tensor, w: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    r = 1 / torch.sqrt(x.var(0, unbiased=False) + 1e-5)
    h = (x - x.mean(0)) * r
    d = g * w
    first = d.sum(0) if slip == "sum for the mean" else d.mean(0)
    if slip == "statistics held fixed":
        return d * r, (g * h).sum(0)
    dx = r * (d - first - h * (d * h).mean(0))
    dx = dx * w if slip == "weight twice" else dx
    return dx, (g * h).mean(0) if slip == "weight gradient averaged" else (g * h).sum(0)


def _bn_in(size: int) -> Inputs:
    n, d = ((10, 10), (50, 100), (250, 200))[size]
    return draw(n, d), draw(d)


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


def _pool_back(g: Tensor, x: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    up = g.repeat_interleave(2, -1).repeat_interleave(2, -2)
    best = F.max_pool2d(-x if slip == "minimum for maximum" else x, 2)
    best = -best if slip == "minimum for maximum" else best
    d = up * (x == best.repeat_interleave(2, -1).repeat_interleave(2, -2))
    if slip == "first corner":
        d = torch.zeros_like(x)
        d[..., ::2, ::2] = g
    return (up / 4 if slip == "average for maximum" else d / 4 if slip == "divided by the window" else d,)


def _pool_in(size: int) -> Inputs:
    return (draw(*((1, 2, 8, 8), (2, 8, 18, 18), (4, 8, 40, 40))[size]),)


def _cell(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
    h = torch.zeros_like(x[0])
    for step in x:
        h = torch.tanh(step @ w + h @ u)
    return h


def _cell_back(g: Tensor, x: Tensor, w: Tensor, u: Tensor, slip: str) -> tuple[Tensor | None, ...]:
    states = [torch.zeros_like(x[0])]
    for step in x:
        states.append(torch.tanh(step @ w + states[-1] @ u))
    dx, dw, du, d = torch.zeros_like(x), torch.zeros_like(w), torch.zeros_like(u), g
    for k in reversed(range(len(x))):
        before = states[k + 1] if slip == "state after the step" else states[k]
        dz = d * (1 - states[k] ** 2 if slip == "slope at the state before" else 1 - states[k + 1] ** 2)
        dx[k] = dz @ w.T
        dw = x[k].T @ dz if slip == "steps not added up" else dw + x[k].T @ dz
        du = du + before.T @ dz
        d = dz @ (u if slip == "weights not transposed" else u.T)
        d = torch.zeros_like(d) if slip == "cut after one step" else d
    return dx, dw, du


def _cell_in(size: int) -> Inputs:
    t, n, d = ((3, 2, 5), (5, 10, 40), (8, 40, 100))[size]
    return draw(t, n, d), draw(d, d) / d**0.5, draw(d, d, seed=1) / d**0.5


def _sparse(values: Tensor, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add(0, rows, values[:, None] * x[columns])


def _sparse_back(
    g: Tensor, values: Tensor, x: Tensor, rows: Tensor, columns: Tensor, slip: str
) -> tuple[Tensor | None, ...]:
    at_row = g[columns if slip == "columns for rows" else rows]
    dv = (at_row * x[columns]).mean(1) if slip == "mean over features" else (at_row * x[columns]).sum(1)
    spread = at_row if slip == "values left out" else values[:, None] * at_row
    dx = torch.zeros_like(x)
    if slip == "duplicates not accumulated":
        dx[columns] = spread
    else:
        dx = dx.index_add(0, columns, spread)
    return dv, dx, None, None


def _sparse_in(size: int) -> Inputs:
    n, d, k = ((10, 5, 40), (200, 20, 1000), (1000, 45, 5000))[size]
    return draw(k), draw(n, d), indices(n, k), indices(n, k, 1).reshape(-1)


FAMILIES = (
    Family("MLP", _mlp, _mlp_back, _mlp_in, (
        "no mean over the batch", "no factor 2", "sign", "absolute error", "no slope", "slope of tanh",
        "slope at the wrong place", "slope of the slope", "updated weights", "weights flipped", "weights viewed wrong",
        "bias averaged", "bias of the first sample", "pre-activation", "a ten-thousandth", "w1 forgotten", "one entry", "last row"), (4,)),
    Family("CrossEntropy", _ce, _ce_back, _ce_in, (
        "temperature forgotten in the softmax", "labels shifted", "targets forgotten", "sign", "softmax of the log",
        "diagonal only", "temperature forgotten", "no mean", "mean over classes too")),
    Family("LayerNorm", _ln, _ln_back, _ln_in, (
        "unbiased variance", "epsilon forgotten", "weight forgotten", "mean term dropped", "variance term dropped",
        "wrong mean in the variance term", "square of the inverse deviation", "input for normalised input", "bias averaged")),
    Family("Convolution", _conv, _conv_back, _conv_in, (
        "kernel flipped", "kernel transposed", "channels exchanged", "input shifted", "weight gradient flipped",
        "mean over the batch", "border forgotten", "bias averaged over a width")),
    Family("Attention", _attention, _attention_back, _attention_in, (
        "sum term dropped", "scale forgotten", "scale twice", "softmax forgotten", "scores not transposed",
        "probabilities not transposed", "queries for keys")),
    Family("Huber", _huber, _huber_back, _huber_in, (
        "delta forgotten", "tail not cut", "one tail", "threshold wrong", "factor 2 inside"), (1,)),
    Family("Gather", _gather, _gather_back, _gather_in, ("duplicates not accumulated", "rows shifted", "mean of duplicates")),
    Family("Softmax", _softmax, _softmax_back, _softmax_in, (
        "sum over the wrong axis", "mean for the sum", "probabilities left out of the sum", "diagonal only", "sign of the sum")),
    Family("BatchNorm", _bn, _bn_back, _bn_in, (
        "sum for the mean", "statistics held fixed", "weight twice", "weight gradient averaged")),
    Family("MaxPool", _pool, _pool_back, _pool_in, (
        "minimum for maximum", "first corner", "average for maximum", "divided by the window")),
    Family("RecurrentCell", _cell, _cell_back, _cell_in, (
        "state after the step", "slope at the state before", "steps not added up", "weights not transposed",
        "cut after one step")),
    Family("SparseProduct", _sparse, _sparse_back, _sparse_in, (
        "columns for rows", "mean over features", "values left out", "duplicates not accumulated")),
)  # fmt: skip
