"""Certificates of layers and of narrow boxes: never exceeded by what is sampled, and close to it where they can be."""

from __future__ import annotations

from typing import Any

import pytest
import sympy
import torch
from torch import nn

import backproof as bp
from backproof.domains import affine, tables
from backproof.domains.affine import read_affine
from backproof.domains.balls import read_balls
from backproof.domains.curves import X
from backproof.studies.certificates.boxes import region_of, targets_of
from backproof.studies.certificates.extremes import derivatives_at, drawn_from
from backproof.studies.certificates.parts import ends_over_parts
from backproof.studies.certificates.upper import only, worst


class Summed(nn.Module):
    """Layers and the sum of what they give."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).sum()


def sigmoids(width: int, layers: int, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(m for _ in range(layers) for m in (nn.Linear(width, width), nn.Sigmoid())), nn.Linear(width, 1)
    )
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale)
    return net.double()


NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "convolutions": (
        lambda: Summed(nn.Conv2d(1, 2, 3, padding=1, stride=2), nn.Tanh(), nn.Conv2d(2, 2, 2, groups=2), nn.Sigmoid()),
        (1, 1, 5, 5),
    ),
    "mean pool": (lambda: Summed(nn.Conv2d(1, 2, 2), nn.Sigmoid(), nn.AvgPool2d(2, padding=1), nn.Tanh()), (1, 1, 4, 4)),
    "largest": (lambda: Summed(nn.Conv2d(1, 2, 2), nn.Sigmoid(), nn.MaxPool2d(2, stride=1), nn.Tanh()), (1, 1, 4, 4)),
    "adaptive pool": (lambda: Summed(nn.Conv1d(1, 2, 2), nn.Sigmoid(), nn.AdaptiveAvgPool1d(2), nn.Tanh()), (1, 1, 6)),
    "layer norm": (lambda: Summed(nn.Linear(3, 4), nn.LayerNorm(4), nn.Sigmoid()), (2, 3)),
    "softmax": (lambda: Summed(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2), nn.Tanh()), (2, 3)),
    "ReLU": (lambda: Summed(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2)), (2, 3)),
    "kinks off the grid": (lambda: Summed(nn.Linear(3, 5), nn.Softshrink(0.3), nn.Linear(5, 4), nn.Hardshrink(0.1)), (2, 3)),
    "residual GELU": (lambda: Summed(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 2), nn.ELU()), (2, 3)),
    "sigmoid": (lambda: Summed(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Sigmoid()), (2, 3)),
}  # fmt: skip


def question(name: str, wide: float) -> Any:
    """The network, and a box of weights and inputs around its own."""
    torch.manual_seed(1)
    make, shape = NETS[name]
    net, x = make().double(), torch.randn(shape, dtype=torch.float64)
    graph = bp.capture(net, x)
    around = {
        n.name: (t - wide, t + wide)
        for n in graph.parameters
        if len(n.shape) > 1
        for t in [graph.origin.leaves()[n.name]]
    }
    region = region_of(graph, around, None, (x - wide, x + wide))
    (target,) = targets_of(graph, "x")
    return graph, region, target


def never_outside(name: str, draws: int) -> None:
    """The largest of many derivatives, of weights and inputs in the box and at its corners, against both readings."""
    for wide in (0.02, 0.3):
        _, region, target = question(name, wide)
        boxes = read_balls(target.graph, only(region.boxes, target))[target.node]
        bounds = [
            (torch.tensor([float(int(v.p) / int(v.q)) for v in end.reshape(-1)]).reshape(target.node.shape))
            for end in (boxes.lo, boxes.hi)
        ]
        enclosures = [bounds]
        try:
            found = read_affine(target.graph, only(region.boxes, target), region.free, only(region.exact, target))
            enclosures.append([found[target.node].lo, found[target.node].hi])
            cut = ends_over_parts(target.graph, region, found, 3)
            assert cut is not None
            enclosures.append(list(cut[1][target.node]))
        except bp.BackproofError:
            assert name in ("largest", "softmax", "layer norm")
        generator = torch.Generator().manual_seed(3)
        free = [n for n in region.free if n in set(target.graph.nodes)]
        for part in range(max(draws // 500, 1)):
            points = {n: drawn_from(region, n, 500, generator) for n in free}
            if part == 0:  # corners
                points = {
                    n: torch.where(t > (region.ends(n)[0] + region.ends(n)[1]) / 2, *reversed(region.ends(n)))
                    for n, t in points.items()
                }
            with torch.no_grad():
                slopes = derivatives_at(target, region, points)
            for lo, hi in enclosures:
                assert bool((slopes >= lo - 1e-12 * lo.abs() - 1e-15).all()), name
                assert bool((slopes <= hi + 1e-12 * hi.abs() + 1e-15).all()), name


@pytest.mark.parametrize("name", NETS)
def test_no_sample_leaves_the_certificate(name: str) -> None:
    never_outside(name, 1000)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NETS)
def test_no_sample_of_many_leaves_the_certificate(name: str) -> None:
    never_outside(name, 100_000)


@pytest.mark.parametrize(("wide", "most"), [(0.1, 1.05), (1.0, 1.5)])
def test_affine_forms_are_close_where_intervals_are_not(wide: float, most: float) -> None:
    net = sigmoids(16, 3)
    x = torch.zeros(16, dtype=torch.float64)
    found = bp.certify(net, x, wrt="input", weights=None, inputs_in=(-wide, wide), samples=2000)
    assert found.method == "affine forms" and not found.finding
    assert float(found.lower) <= float(found.upper) <= most * float(found.lower)
    assert "affine" not in found.proof and "ε" in found.text()


def test_a_narrow_box_of_weights() -> None:
    net = sigmoids(8, 3)
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    box = {n: (p.detach() - 0.01, p.detach() + 0.01) for n, p in net.named_parameters() if p.ndim > 1}
    found = bp.certify(net, x, wrt="0.weight", weights=box, samples=500)
    assert found.method == "affine forms" and not found.finding
    assert float(found.upper) < 1.2 * float(found.lower)


def test_a_loss_of_classes() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.tensor([[1.0, -0.5, 0.25], [0.5, 1.0, -1.0]], dtype=torch.float64)
    found = bp.certify(net, x, wrt="0.weight", loss="cross_entropy", targets=torch.tensor([0, 2]), samples=500)
    assert not found.finding and found.largest_sampled <= float(found.lower) <= float(found.upper) < 4 * float(
        found.lower
    )


def test_a_table_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the remainder of a line forgotten, samples would leave the certificate."""
    honest = tables.Table.line

    def wrong(self: Any, lo: Any, hi: Any) -> Any:
        a, b, e = honest(self, lo, hi)
        return a, b, e * 0.0

    monkeypatch.setattr(tables.Table, "line", wrong)
    monkeypatch.setattr(
        affine.Affine, "tightened", lambda self: affine.replace(self, lo=self.c - self.rad, hi=self.c + self.rad)
    )
    net = Summed(nn.Linear(1, 1), nn.Sigmoid()).double()
    for p in net.parameters():
        nn.init.constant_(p, 3.0 if p.ndim > 1 else 0.0)
    x = torch.zeros(1, dtype=torch.float64)
    found = bp.certify(net, x, wrt="x", weights=None, inputs_in=(-0.5, 0.5), samples=100)
    assert found.method == "affine forms" and found.finding  # the slope at 0 is 3/4, more than the broken bound


def test_a_loose_box_is_cut_and_the_bound_falls() -> None:
    net = sigmoids(16, 3, 8.0)
    x = torch.linspace(-1, 1, 16, dtype=torch.float64)
    graph = bp.capture(net, x)
    region, targets = region_of(graph, None, None, {"input": (x - 0.1, x + 0.1)}), targets_of(graph, "input")
    whole, cut, finer = (worst(targets, region, cuts) for cuts in (0, 3, 6))
    assert (whole.method, cut.method) == ("affine forms", "affine forms over 8 parts of the box")
    assert float(finer.upper) < float(cut.upper) < float(whole.upper)
    found = bp.certify(net, x, wrt="input", weights=None, inputs_in={"input": (x - 0.1, x + 0.1)}, samples=500)
    assert not found.finding and float(found.lower) <= float(found.upper) <= float(finer.upper)
    assert "64 parts" in found.text()


KINKED = {
    "relu": sympy.Piecewise((0, X <= 0), (X, True)),
    "a jump on the grid": sympy.Piecewise((0, X <= sympy.Rational(1, 2)), (X, True)),
    "a jump off the grid": sympy.Piecewise((0, X <= sympy.Rational(3, 10)), (X, True)),
    "a kink off the grid": sympy.Piecewise((0, X <= sympy.Rational(3, 10)), (X - sympy.Rational(3, 10), True)),
    "smooth but for its curvature": sympy.Piecewise((0, X <= 0), (X**2, True)),
    "smooth": 1 / (1 + sympy.exp(-X)),
}


@pytest.mark.parametrize("name", KINKED)
def test_lines_and_ranges_hold_across_kinks(name: str) -> None:
    expr = KINKED[name]
    torch.manual_seed(0)
    middle, reach = 2 * torch.randn(300, dtype=torch.float64), torch.rand(300, dtype=torch.float64) ** 3
    middle[::3] = (16 * middle[::3]).round() / 16
    lo, hi = middle - reach, middle + reach
    lo[::4], hi[1::4] = (16 * lo[::4]).floor() / 16, (16 * hi[1::4]).ceil() / 16
    made, f = tables.table(expr), sympy.lambdify(X, expr)
    a, b, e = made.line(lo, hi)
    low, high = made.range(lo, hi)
    assert bool(e.isfinite().all())
    for share in (0.0, 0.25, 0.5, 0.8, 1.0):
        x = torch.minimum(torch.maximum(lo + (hi - lo) * share, lo), hi)
        y = torch.tensor([float(f(v)) for v in x.tolist()], dtype=torch.float64)
        assert bool(((y - a * x - b).abs() <= e + 1e-13).all())
        assert bool(((low - 1e-13 <= y) & (y <= high + 1e-13)).all())
        value, error, _, _ = made.point(x)
        assert bool(((value - y).abs() <= error + 1e-14).all())
