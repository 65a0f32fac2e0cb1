"""Complex numbers: values and gradients are torch's, in torch's convention, and those of central differences."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof import vjps
from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.graph import Graph, Node
from backproof.ops import OPS

Z = torch.randn(4, 6, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
R = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _size(y: Tensor) -> Tensor:
    """A real loss in which every entry counts in another way."""
    pairs = torch.view_as_real(y) if y.is_complex() else y
    weights = torch.linspace(0.5, 1.5, pairs.numel(), dtype=torch.float64).reshape(pairs.shape)
    return (pairs * pairs * weights).sum() + (pairs * weights.flip(0)).sum()


CASES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "parts": lambda z, r: z.real * r + z.imag,
    "conj": lambda z, r: z.conj() * z * r,
    "modulus": lambda z, r: z.abs() * r,
    "angle": lambda z, r: z.angle() * r,
    "made": lambda z, r: torch.complex(r, z.real) * z,
    "polar": lambda z, r: torch.polar(r.abs(), z.real),
    "pairs": lambda z, r: torch.view_as_complex(torch.view_as_real(z) * 2) * r,
    "arithmetic": lambda z, r: (z + r) / (z * 2 - 3j) - r * 1j,
    "functions": lambda z, r: torch.exp(z) + torch.sin(z) * torch.tanh(r * z) + torch.sqrt(z) + torch.log(z),
    "powers": lambda z, r: z**2 + z**3 + z.square() + z.reciprocal(),
    "products": lambda z, r: (z @ z.mT) @ (r.to(torch.complex128) @ z.mH),
    "vectors": lambda z, r: z[0] @ z[1] + torch.outer(z[0], r[0] * z[1]).sum() + z @ z[0] + z[:, 0] @ z[:, :4],
    "sums": lambda z, r: z.mean(0, keepdim=True) * r - z.sum((0, 1)),
    "shapes": lambda z, r: torch.cat([z[:, 1:].reshape(5, 4), z.T[:2]]) * r[0, 0],
    "fft": lambda z, r: torch.fft.fft(z) * r,
    "fft of real numbers": lambda z, r: torch.fft.fft(r, norm="ortho") * z,
    "ifft, cut and padded": lambda z, r: torch.fft.ifft(z, n=4, dim=1) @ torch.fft.fft(z, n=5, dim=0)[:4, :4],
    "fft2": lambda z, r: torch.fft.fft2(z, norm="forward") + torch.fft.ifft2(r),
    "fftn": lambda z, r: torch.fft.fftn(z, s=(3, 5)).sum() * torch.fft.ifftn(z, dim=(0,)),
    "rfft": lambda z, r: torch.fft.rfft(r) * z[:, :4],
    "irfft": lambda z, r: torch.fft.irfft(z) + torch.fft.irfft(z, n=9, norm="ortho").sum(),
    "irfft of an even length": lambda z, r: torch.fft.irfft(z, n=8, dim=0),
    "rfft2 and back": lambda z, r: torch.fft.irfft2(torch.fft.rfft2(r) * z[:, :4], s=(4, 6)),
    "shift": lambda z, r: torch.fft.ifftshift(torch.fft.fftshift(z, dim=1)[:, :5]) * r[:, :5],
}  # fmt: skip


@cache
def _graph(name: str) -> Graph:
    def model(z: Tensor, r: Tensor) -> Tensor:
        return _size(CASES[name](z, r))

    return bp.capture(model, Z, R)


def _ours(graph: Graph, leaves: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
    joint = differentiate(graph)
    joint.graph.check()
    given = {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    values = evaluate(joint.graph, given)
    assert all(str(values[n].dtype) == f"torch.{n.dtype}" for n in joint.graph.nodes)
    gradients = {n.name: None if (g := joint.gradients[n]) is None else values[g] for n in given}
    assert graph.loss is not None
    return values[graph.loss], gradients


def agrees_with_torch(name: str) -> None:
    value, gradients = _ours(_graph(name), {"z": Z, "r": R})
    z, r = Z.clone().requires_grad_(), R.clone().requires_grad_()
    loss = _size(CASES[name](z, r))
    assert torch.allclose(value, loss, rtol=1e-12)
    theirs = torch.autograd.grad(loss, [z, r], allow_unused=True)
    for key, expected in zip("zr", theirs, strict=True):
        mine = gradients[key]
        if expected is None:
            assert mine is None or mine.abs().max() == 0
            continue
        assert mine is not None and mine.dtype == expected.dtype
        assert (mine - expected).abs().max() <= 1e-11 * expected.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_torch_s(name: str) -> None:
    agrees_with_torch(name)


USED_IN = {"conj": "products", "real": "parts", "imag": "parts", "modulus": "modulus", "angle": "angle", "complex": "made",
           "view_as_complex": "pairs", "view_as_real": "pairs", "fft": "fft", "irfft": "irfft", "mul": "arithmetic",
           "div": "arithmetic", "matmul": "products", "outer": "vectors", "exp": "functions"}  # fmt: skip


@pytest.mark.parametrize("op", USED_IN)
def test_a_rule_that_forgets_a_conjugate_is_found(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every contribution conjugated, and a little too large: the comparison with torch sees it."""
    right = vjps.vjp_of(Node(OPS[op], (), {}, (), "complex128", op))

    def wrong(r: vjps.Rule) -> vjps.Contributions:
        return tuple(
            part and r.times(r.conj(part), r.builder.constant(1 + 1e-6, dtype=part.dtype)) for part in right(r)
        )

    monkeypatch.setitem(vjps.VJPS, op, wrong)
    with pytest.raises(AssertionError):
        agrees_with_torch(USED_IN[op])


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_the_derivative_by_both_parts(name: str) -> None:
    """Along a direction d the loss changes by Re(conj(gradient) d): ∂L/∂Re + i ∂L/∂Im, without any derivative rule."""
    _, gradients = _ours(_graph(name), {"z": Z, "r": R})
    if (gradient := gradients["z"]) is None:
        return
    direction = torch.randn(Z.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    up, down = (_size(CASES[name](Z + step * direction, R)) for step in (1e-5, -1e-5))
    along = (gradient.conj() * direction).real.sum()
    assert float((up - down) / 2e-5) == pytest.approx(float(along), rel=1e-6, abs=1e-6 * float(gradient.abs().max()))


class Spectral(nn.Module):
    """A complex linear layer on a spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Linear(4, 4, dtype=torch.complex128)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        y = torch.fft.irfft(self.filter(spectrum), n=6)
        return y.abs().square().sum()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_complex_network_is_trained_as_torch_trains_it(optimizer: str) -> None:
    torch.manual_seed(0)
    record = bp.trace(Spectral(), R, optimizer=optimizer, steps=3, evidence="full")
    assert {e.oracle for e in record.evidence} >= {"autograd", "torch.optim"}
    assert all(e.agrees for e in record.evidence)
    assert record.steps[0].parameters["filter.weight"].gradient.is_complex()
    assert "filter" in record.text()
    gradient = record.steps[0].parameters["filter.bias"].gradient
    written = record.to_dict()["steps"][0]["parameters"]["filter.bias"]["gradient"]
    assert written == {"real": gradient.real.tolist(), "imag": gradient.imag.tolist()}


def test_at_zero_the_modulus_has_slope_zero() -> None:
    graph = bp.capture(lambda z: z.abs().sum() + z.angle().sum(), torch.zeros(2, dtype=torch.complex128))
    _, gradients = _ours(graph, {"z": torch.zeros(2, dtype=torch.complex128)})
    assert gradients["z"] is not None and gradients["z"].abs().max() == 0


@pytest.mark.parametrize("name", ["sgn", "var"])
def test_an_operation_that_is_not_meant_for_complex_numbers_is_torch_s_own(name: str) -> None:
    """Our formula of it holds for real numbers alone; torch computes the node, and what it sends back."""
    function: Any = {"sgn": lambda z: torch.sgn(z).real, "var": lambda z: z.var().abs() + z.var(0).abs()}[name]
    graph = bp.capture(lambda z: _size(function(z)), Z)
    assert graph.facts["opaque_nodes"] and all(n.op.name != name for n in graph.nodes)
    (gradient,) = _ours(graph, {"z": Z})[1].values()
    assert gradient is not None
    direction = torch.randn(Z.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    up, down = (_size(function(Z + step * direction)) for step in (1e-5, -1e-5))
    assert float((up - down) / 2e-5) == pytest.approx(float((gradient.conj() * direction).real.sum()), rel=1e-6)
