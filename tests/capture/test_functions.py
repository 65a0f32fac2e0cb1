"""Tensor functions of torch, one at a time: captured as operations with rules of their own, and the gradient is autograd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import backproof as bp
from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.graph import Graph

D = torch.float64


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=D)


x, y, v = numbers(1, 3, 4), numbers(2, 3, 4), numbers(3, 4)
c, b1, b2 = numbers(4, 2, 3, 4, 5), numbers(5, 2, 3, 4), numbers(6, 2, 4, 5)
sq = numbers(7, 3, 3) + 2 * torch.eye(3, dtype=D)
i0, i1 = torch.tensor([2, 0]), torch.tensor([[1, 3], [0, 2]])
ix = torch.tensor([[0, 1, 2, 0], [2, 0, 1, 1], [1, 2, 0, 2]])
m = x > 0.3

Case = tuple[Callable[..., Any], tuple[Tensor, ...]]

KNOWN: dict[str, Case] = {
    "x[i0]": (lambda x: x[i0], (x,)),
    "x[:,i1]": (lambda x: x[:, i1], (x,)),
    "c[:,i,:,j]": (lambda c: c[:, torch.tensor([0, 2]), :, torch.tensor([-1, 3])], (c,)),
    "c[0,i,None,j]": (lambda c: c[0, torch.tensor([0, 2]), :, torch.tensor([1, 3])], (c,)),
    "c[...,i,j]": (lambda c: c[..., torch.tensor([[0], [2]]), torch.tensor([1, 3])], (c,)),
    "c[i,:,None]": (lambda c: c[torch.tensor([1, 0, -1]), :, None, 1:3], (c,)),
    "x[arange,argmax]": (lambda x: x[torch.arange(3), x.argmax(1)], (x,)),
    "index_put": (lambda x, v: x.index_put((i0,), v), (x, v)),
    "index_put2": (
        lambda c: c.index_put((torch.tensor([0, 1]), torch.tensor([2, 0])), torch.tensor(3.0, dtype=D)),
        (c,),
    ),
    "index_put acc": (lambda x, y: x.index_put((torch.tensor([0, 0, 2]),), y, accumulate=True), (x, y)),
    "index_put mask": (lambda x: x.index_put((x > 0,), torch.tensor(0.5, dtype=D)), (x,)),
    "setmask": (lambda x: (lambda z: (z.__setitem__(z > 0, 0.0), z)[1])(x * 2), (x,)),
    "setidx": (lambda x, v: (lambda z: (z.__setitem__((slice(None), torch.tensor([1, 2])), 1.5), z)[1])(x * 2), (x, v)),
    "index_select": (lambda x: x.index_select(1, torch.tensor([3, 3, 0])), (x,)),
    "index_add": (lambda x, y: x.index_add(0, torch.tensor([0, 0, 1]), y, alpha=2.0), (x, y)),
    "index_add1": (lambda x, y: x.index_add(1, torch.tensor([0, 0, 1, 3]), y), (x, y)),
    "index_copy": (lambda x, y: x.index_copy(1, torch.tensor([3, 1, 0]), y[:, :3]), (x, y)),
    "index_fill": (lambda x: x.index_fill(1, torch.tensor([3, 1]), 2.0), (x,)),
    "gather": (lambda x: x.gather(1, ix[:, :2].new_tensor([[0, 1], [2, 3], [1, 1]])), (x,)),
    "scatter": (lambda x, y: x.scatter(0, ix, y), (torch.randn(5, 4, dtype=D), y)),
    "scatter val": (lambda x: x.scatter(0, ix, 1.5), (x,)),
    "scatter add": (lambda x, y: x.scatter_add(0, ix, y), (x, y)),
    "sr sum": (lambda x, y: x.scatter_reduce(0, ix, y, "sum"), (x, y)),
    "sr sum excl": (lambda x, y: x.scatter_reduce(0, ix, y, "sum", include_self=False), (x, y)),
    "sr mean": (lambda x, y: x.scatter_reduce(0, ix, y, "mean"), (x, y)),
    "sr mean excl": (lambda x, y: x.scatter_reduce(0, ix, y, "mean", include_self=False), (x, y)),
    "sr amax": (lambda x, y: x.scatter_reduce(0, ix, y, "amax"), (x, y)),
    "sr amin excl": (lambda x, y: x.scatter_reduce(0, ix, y, "amin", include_self=False), (x, y)),
    "masked_fill": (lambda x: x.masked_fill(m, 0.1), (x,)),
    "masked_scatter": (lambda x, y: x.masked_scatter(m, y), (x, y)),
    "masked_scatter b": (lambda x, y: x.masked_scatter(m[:1], y), (x, y)),
    "take_along": (lambda x: torch.take_along_dim(x, x.argsort(1), 1), (x,)),
    "take": (lambda x: torch.take(x, torch.tensor([0, 5, 11])), (x,)),
    "one_hot": (lambda x: F.one_hot(x.argmax(1), 4).to(D) @ x.T, (x,)),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (b1, b2)),
    "einsum2": (lambda a, b: torch.einsum("bij,bjk->bki", a, b), (b1, b2)),
    "einsum3": (lambda a: torch.einsum("ii->i", a), (sq,)),
    "einsum4": (lambda a: torch.einsum("ii", a), (sq,)),
    "einsum5": (lambda a, b: torch.einsum("...ij,...jk", a, b), (b1, b2)),
    "einsum6": (lambda a, b, d: torch.einsum("bij,bjk,l->bl", a, b, d), (b1, b2, v)),
    "einsum7": (lambda a, b: torch.einsum("i...,i...->...", a, b), (x, y)),
    "einsum8": (lambda a, b: torch.einsum("bi,bi->b", a, b), (x, y[:, :1] * 1)),
    "einsum9": (lambda a, b: torch.einsum("b i h d, b j h d -> b h i j", a, b), (c, c * 2)),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=([2], [1])), (b1, b2)),
    "tensordot2": (lambda a, b: torch.tensordot(a, b, dims=2), (torch.randn(3, 2, 4, dtype=D), b2)),
    "bmm": (torch.bmm, (b1, b2)),
    "baddbmm": (lambda a, b, s: torch.baddbmm(s, a, b, beta=0.5, alpha=2), (b1, b2, torch.randn(2, 3, 5, dtype=D))),
    "addmm": (lambda a, b, s: torch.addmm(s, a, b, beta=0.5), (x, y.T.clone(), sq)),
    "addmv": (lambda a, b: torch.addmv(torch.ones(3, dtype=D), a, b), (x, v)),
    "addbmm": (lambda a, b, s: torch.addbmm(s, a, b), (b1, b2, torch.randn(3, 5, dtype=D))),
    "addr": (lambda a, b, s: torch.addr(s, a, b), (sq[0].clone(), v, x)),
    "addcmul": (lambda a, b: torch.addcmul(a, a, b, value=0.3), (x, y)),
    "addcdiv": (lambda a, b: torch.addcdiv(a, a, b.exp(), value=0.3), (x, y)),
    "cat": (lambda a, b: torch.cat([a, b], -1), (x, y)),
    "hstack": (lambda a, b: torch.hstack([a, b]), (x, y)),
    "vstack": (lambda a, b: torch.vstack([a, b]), (x, y)),
    "dstack": (lambda a, b: torch.dstack([a, b]), (x, y)),
    "column_stack": (lambda a, b: torch.column_stack([a, b]), (x, y)),
    "split": (lambda a: torch.split(a, [1, 3], 1)[1], (x,)),
    "tensor_split": (lambda a: torch.tensor_split(a, 3, 1)[1], (x,)),
    "chunk": (lambda a: a.chunk(2, 1)[0] * a.chunk(2, 1)[1], (x,)),
    "unbind": (lambda a: a.unbind(1)[2], (x,)),
    "narrow": (lambda a: a.narrow(1, 1, 2), (x,)),
    "Tunfold": (lambda a: a.unfold(1, 2, 1), (x,)),
    "Funfold": (lambda a: F.unfold(a, (2, 3), padding=1, stride=2), (c,)),
    "Ffold": (lambda a: F.fold(F.unfold(a, 2, stride=1), (4, 5), 2), (c,)),
    "cumsum": (lambda a: a.cumsum(1), (x,)),
    "cumprod": (lambda a: a.cumprod(0), (x,)),
    "logcumsumexp": (lambda a: a.logcumsumexp(1), (x,)),
    "cummax": (lambda a: a.cummax(1)[0], (x,)),
    "sort": (lambda a: a.sort(1, descending=True)[0], (x,)),
    "topk": (lambda a: a.topk(2, 0)[0], (x,)),
    "kth": (lambda a: a.kthvalue(2, 1)[0], (x,)),
    "median": (lambda a: a.median(1)[0], (x,)),
    "median0": (lambda a: a.median(), (x,)),
    "max": (lambda a: a.max(1)[0], (x,)),
    "msort": (lambda a: torch.msort(a), (x,)),
    "argsort": (lambda a: a * a.argsort(1), (x,)),
    "aminmax": (lambda a: torch.aminmax(a, dim=1)[0], (x,)),
    "norm": (lambda a: a.norm(), (x,)),
    "norm1": (lambda a: a.norm(1, dim=1), (x,)),
    "norm3": (lambda a: a.norm(3, dim=1, keepdim=True), (x,)),
    "norminf": (lambda a: a.norm(float("inf"), dim=1), (x,)),
    "vnorm": (lambda a: torch.linalg.vector_norm(a, 2, dim=(0, 1)), (x,)),
    "lnorm": (lambda a: torch.linalg.norm(a), (x,)),
    "mnorm": (lambda a: torch.linalg.matrix_norm(a), (x,)),
    "normalize": (lambda a: F.normalize(a, dim=1), (x,)),
    "norm zero": (lambda a: (a * 0).norm(dim=1), (x,)),
    "cdist": (lambda a, b: torch.cdist(a, b), (x, y)),
    "cdist1": (lambda a, b: torch.cdist(a, b, p=1.0), (x, y)),
    "cdist3": (lambda a, b: torch.cdist(a, b, p=3.0), (x, y)),
    "tril": (lambda a: a.tril(1), (x,)),
    "triu": (lambda a: a.triu(-1), (x,)),
    "diag": (lambda a: a.diag(1), (x,)),
    "diagv": (lambda a: a.diag(-1), (v,)),
    "diagonal": (lambda a: a.diagonal(1, 1, 3), (c,)),
    "diag_embed": (lambda a: torch.diag_embed(a, 1, 0, 2), (x,)),
    "trace": (lambda a: a.trace(), (sq,)),
    "prod": (lambda a: a.prod(), (x,)),
    "prod1": (lambda a: a.prod(1, keepdim=True), (x,)),
    "prod0": (lambda a: (a * (a > 0)).prod(1), (x,)),
    "std": (lambda a: a.std(1), (x,)),
    "var": (lambda a: a.var(0, correction=0), (x,)),
    "var_mean": (lambda a: torch.var_mean(a, 1)[0] + torch.std_mean(a, 1)[1], (x,)),
    "roll": (lambda a: a.roll((1, -1), (0, 1)), (x,)),
    "flip": (lambda a: a.flip(0), (x,)),
    "rot90": (lambda a: a.rot90(1, (0, 1)), (x,)),
    "rot90k3": (lambda a: a.rot90(3, (1, 2)), (b1,)),
    "repint": (lambda a: a.repeat_interleave(2, 1), (x,)),
    "repint0": (lambda a: a.repeat_interleave(2), (x,)),
    "meshgrid": (
        lambda a, b: (
            torch.meshgrid(a[0], b[:, 0], indexing="xy")[1] * torch.meshgrid(a[0], b[:, 0], indexing="ij")[0].T
        ),
        (x, y),
    ),
    "outer": (lambda a, b: torch.outer(a[0], b[:, 0]), (x, y)),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.3), (x, y)),
    "lerpT": (lambda a, b: torch.lerp(a, b, a.sigmoid()), (x, y)),
    "clampT": (lambda a, b: torch.clamp(a, min=b - 1, max=b + 1), (x, y)),
    "clampT1": (lambda a, b: torch.clamp(a, min=b), (x, y)),
    "logaddexp": (torch.logaddexp, (x, y)),
    "fmod": (lambda a, b: torch.fmod(a, b), (x, y)),
    "remainder": (lambda a, b: a % b, (x, y)),
    "remainder s": (lambda a: a % 0.7, (x,)),
    "divfloor": (lambda a, b: torch.div(a, b, rounding_mode="floor") + a, (x, y)),
    "divtrunc": (lambda a, b: torch.div(a, b, rounding_mode="trunc") * a, (x, y)),
    "bucketize": (lambda a: a * torch.bucketize(a, torch.tensor([-1.0, 0.0, 1.0], dtype=D)), (x,)),
    "searchsorted": (lambda a: a * torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0], dtype=D), a, right=True), (x,)),
    "inv": (lambda a: a.inverse(), (sq,)),
    "linv": (torch.linalg.inv, (sq,)),
    "solve": (lambda a, b: torch.linalg.solve(a, b), (sq, x)),
    "solvev": (lambda a, b: torch.linalg.solve(a, b[0]), (sq, sq * 2)),
    "det": (torch.linalg.det, (sq,)),
    "slogdet": (lambda a: torch.linalg.slogdet(a)[1], (sq,)),
    "mpow": (lambda a: torch.linalg.matrix_power(a, 3), (sq,)),
    "cross": (lambda a, b: torch.linalg.cross(a, b), (sq, sq.T.clone())),
    "kron": (lambda a, b: torch.kron(a, b), (x, sq)),
    "isnan": (lambda a: torch.where(a.isnan() | a.isinf(), 0.0, a), (x,)),
    "any": (lambda a: a * (a > 0).any(1, keepdim=True) + a * (a > 0).all() * torch.isfinite(a), (x,)),
    "where": (lambda a: torch.where(a > 0, a, -2 * a), (x,)),
    "slice_scatter": (lambda a, b: torch.slice_scatter(a, b[:1], 0, 1, 2), (x, y)),
    "select_scatter": (lambda a, b: torch.select_scatter(a, b[0], 0, 1), (x, y)),
    "movedim": (lambda a: a.movedim((0, 1), (2, 0)), (b1,)),
    "trapezoid": (lambda a: torch.trapezoid(a, dim=1), (x,)),
    "diff": (lambda a: a.diff(dim=1), (x,)),
    "square": (torch.square, (x,)),
    "float_power": (lambda a: torch.float_power(a, 2), (x,)),
    "baddbmm0": (lambda a, b: torch.baddbmm(torch.zeros(2, 3, 5, dtype=D), a, b, beta=0), (b1, b2)),
    "cartesian": (lambda a: torch.cartesian_prod(a[0], a[1]), (x,)),
    "logsumexp": (lambda a: a.logsumexp((0, 1)), (x,)),
    "cumtrapz": (lambda a: torch.cumulative_trapezoid(a), (x,)),
    "renormless": (lambda a: a / a.norm(dim=1, keepdim=True).clamp(min=1), (x,)),
    "fft": (lambda a: torch.fft.fft(a).abs(), (x,)),
    "rfft": (lambda a: torch.fft.irfft(torch.fft.rfft(a) * 2), (x,)),
    "rfft2": (lambda a: torch.view_as_real(torch.fft.rfft2(a)), (x,)),
    "bilinear": (lambda a, b: F.bilinear(a, b, torch.ones(2, 4, 4, dtype=D)), (x, y)),
}

OPAQUE: dict[str, Case] = {
    "sr prod": (lambda x, y: x.scatter_reduce(0, ix, y, "prod"), (x, y)),
    "quantile": (lambda a: a.quantile(0.3, dim=1), (x,)),
    "logdet": (lambda a: torch.logdet(a @ a.T), (sq,)),
    "cholesky": (lambda a: torch.linalg.cholesky(a @ a.T), (sq,)),
    "qr": (lambda a: torch.linalg.qr(a)[1], (sq,)),
    "svd": (lambda a: torch.linalg.svdvals(a), (sq,)),
    "eigh": (lambda a: torch.linalg.eigh(a @ a.T)[0], (sq,)),
    "pinv": (torch.linalg.pinv, (sq,)),
    "mexp": (torch.matrix_exp, (sq,)),
    "stft": (
        lambda a: torch.stft(a.reshape(-1), 4, window=torch.ones(4, dtype=D), return_complex=True).abs(),
        (numbers(8, 40),),
    ),
    "xlogy": (lambda a, b: torch.xlogy(a, b.exp()), (x, y)),
    "hypot": (torch.hypot, (x, y)),
    "copysign": (torch.copysign, (x, y)),
    "lgamma": (lambda a: torch.lgamma(a.abs() + 1), (x,)),
    "erfinv": (lambda a: torch.erfinv(a.tanh() * 0.9), (x,)),
    "sinc": (torch.sinc, (x,)),
    "nan_to_num": (torch.nan_to_num, (x,)),
    "diagonal_scatter": (lambda a: torch.diagonal_scatter(a, torch.ones(3, dtype=D)), (sq,)),
    "grid_sample": (
        lambda a: F.grid_sample(
            a,
            torch.rand(2, 2, 2, 2, dtype=D, generator=torch.Generator().manual_seed(0))
            if False
            else torch.tanh(a[:, :2, :2, :2]),
            align_corners=False,
        ),
        (c,),
    ),
    "logit": (lambda a: torch.logit(a.sigmoid()), (x,)),
    "frac": (lambda a: a.frac(), (x,)),
    "renorm": (lambda a: torch.renorm(a, 2, 0, 1.0), (x,)),
    "block_diag": (lambda a, b: torch.block_diag(a, b), (x, sq)),
    "nanmean": (lambda a: a.nanmean(1), (x,)),
    "mode": (lambda a: a.mode(1)[0], (x,)),
    "dist": (lambda a, b: torch.dist(a, b), (x, y)),
}


def loss(out: Tensor) -> Tensor:
    """A number in which every entry counts differently."""
    real = out.abs() if out.is_complex() else out
    return (real * torch.cos(torch.arange(real.numel(), dtype=D)).reshape(real.shape)).sum()


def compared(function: Callable[..., Any], given: tuple[Tensor, ...]) -> Graph:
    """The graph of loss(function(...)), once its gradients are autograd's."""
    leaves = [t.clone().requires_grad_() for t in given]
    theirs = torch.autograd.grad(loss(function(*leaves)), leaves, allow_unused=True)
    graph = bp.capture(function, tuple(leaves), loss=loss)
    joint = differentiate(graph)
    values = graph.origin.leaves()
    found = evaluate(joint.graph, {n: values[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"})
    for node, expected in zip(graph.of_role("input"), theirs, strict=True):
        gradient = joint.gradients[node]
        zero = torch.zeros(node.shape, dtype=D)
        mine, expected = zero if gradient is None else found[gradient], zero if expected is None else expected
        assert (mine - expected).norm() <= 1e-10 * max(float(expected.norm()), 1e-3), (node, mine, expected)
    return graph


@pytest.mark.parametrize("name", KNOWN)
def test_function(name: str) -> None:
    graph = compared(*KNOWN[name])
    assert graph.facts["opaque_nodes"] == []


@pytest.mark.parametrize("name", OPAQUE)
def test_opaque_function(name: str) -> None:
    graph = compared(*OPAQUE[name])
    assert graph.facts["opaque_nodes"]
