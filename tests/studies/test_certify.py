"""Certificates: exact where they are rational, never exceeded, attained where they can be, and found out when broken."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.domains import curves


class Deep(nn.Module):
    """Layers of equal width and one output, as a user writes them."""

    def __init__(self, layers: int, width: int, f: Any, biases: bool = False, skip: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=biases) for _ in range(layers))
        self.out, self.f, self.skip = nn.Linear(width, 1, bias=False), f, skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.f(self.layers[0](x))
        for layer in self.layers[1:]:
            z = z + self.f(layer(z)) if self.skip else self.f(layer(z))
        return self.out(z)


FIRST = "layers.0.weight[0, 0]"


@pytest.mark.parametrize(
    ("layers", "width", "f", "slope", "box"),
    [
        (6, 3, torch.sigmoid, Fraction(1, 4), "1"),
        (3, 5, torch.tanh, Fraction(1), "1/3"),
        (4, 2, torch.relu, Fraction(1), "3/2"),
    ],
)
def test_the_bound_is_the_count_of_paths(layers: int, width: int, f: Any, slope: Fraction, box: str) -> None:
    x = torch.full((width,), 0.5)
    found = bp.certify(Deep(layers, width, f), x, wrt=FIRST, weights=(f"-{box}", box), effort="bound")
    w = Fraction(box)
    assert found.upper == Fraction(1, 2) * width ** (layers - 1) * (w * slope) ** layers


def test_fifty_layers_are_exact_and_attained() -> None:
    found = bp.certify(Deep(50, 3, torch.sigmoid, True), torch.ones(3), wrt=FIRST, biases=(-0.5, 0.5), effort="bound")
    assert found.upper == found.lower.exact == Fraction(1, 3) * Fraction(3, 4) ** 50 and found.is_tight


def test_nothing_in_the_box_exceeds_it_and_the_witness_attains_what_is_said() -> None:
    net = Deep(4, 3, nn.functional.gelu, True, skip=True)
    found = bp.certify(
        net, torch.tensor([1.0, -2.0, 0.5]), wrt="layers.0.weight", weights=(-1, 0.5), biases=(-0.5, 0.5)
    )
    assert not found.finding and len(found.evidence) == 3
    assert 0 < found.typical < float(found.lower) <= float(found.upper)
    assert found.largest_sampled <= float(found.lower)
    with torch.no_grad():
        for name, p in net.double().named_parameters():
            p.copy_(found.witness[name])
            assert bool((p >= -1).all() and (p <= 0.5).all())
    net(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)).backward()
    assert float(net.layers[0].weight.grad.abs().max()) == pytest.approx(float(found.lower), rel=1e-12)


def test_a_box_of_inputs_with_the_models_own_weights() -> None:
    torch.manual_seed(3)
    net = Deep(2, 3, torch.sigmoid, True).double()
    found = bp.certify(net, torch.zeros(3, dtype=torch.float64), wrt="x", weights=None, inputs_in=(-1, 1))
    assert isinstance(found.upper, float)
    xs = (torch.rand(2000, 3, dtype=torch.float64) * 2 - 1).requires_grad_()
    net(xs).sum().backward()
    assert float(xs.grad.abs().max()) <= float(found.upper) < 2 * float(xs.grad.abs().max())
    assert list(found.witness) == ["x"]


def test_of_several_outputs_the_worst_is_taken() -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 3, bias=False))
    found = bp.certify(
        net, torch.tensor([3.0, 1.0]), wrt=net[0].weight, weights={"2.weight": (-2, 2), "0.weight": (-1, 1)}
    )
    assert found.upper == 6 and found.is_tight


def test_the_proof_names_every_layer_and_its_numbers() -> None:
    found = bp.certify(Deep(2, 3, torch.sigmoid), torch.ones(3), wrt=FIRST, effort="bound")
    assert "3·(1/4)·1 = 3/4" in found.proof and "layers.1.linear lies in" in found.proof
    assert found.proof.splitlines()[-1].startswith("M^(layers.0.weight[0, 0])")
    assert "3/16" in found.text() and found.to_dict()["exact"]["upper"] == "3/16"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": (1, -1)}, "above the upper end"),
        ({"weights": (float("nan"), 1)}, "finite number"),
        ({"weights": 3}, r"\(-1, 1\)"),
        ({"weights": {"nobody": (0, 1)}}, "nobody"),
        ({"wrt": "nobody"}, "nobody"),
        ({"wrt": "layers.0.weight[7, 0]"}, "no entry"),
        ({"wrt": "layers.0.weight[a]"}, "written as"),
        ({"wrt": 3}, "name of a parameter"),
    ],
)
def test_what_cannot_be_certified_is_said(change: dict[str, Any], says: str) -> None:
    graph = bp.capture(Deep(2, 3, torch.sigmoid), torch.ones(3))
    with pytest.raises(bp.InputError, match=says):
        bp.certify(graph, **{"wrt": FIRST, **change})


def test_other_ways_to_ask() -> None:
    """A batch with a loss; one point; parameters without a module; tensors as ends."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    x = torch.randn(3, 2)
    batch = bp.certify(net, x, wrt="0.weight", weights=(-0.5, 0.5), loss="mse", targets=torch.zeros(3, 1))
    assert not batch.finding and 0 < float(batch.lower) <= float(batch.upper) and batch.predicted is not None
    point = bp.certify(net, x[0], wrt="0.weight", weights=None)
    assert float(point.upper) == pytest.approx(float(point.lower), rel=1e-12) and not point.finding
    ends = {"0.weight": (torch.full((2, 2), -0.25), torch.full((2, 2), 0.5))}
    tensors = bp.certify(net, x[0], wrt="2.bias", weights=ends)
    assert tensors.upper == 1

    def own(x: torch.Tensor, w: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x @ w) @ c

    graph = bp.capture(own, torch.ones(2), torch.ones(2, 4), torch.ones(4), parameters=("w", "c"))
    assert bp.certify(graph, wrt="w").upper == Fraction(1, 4)


def test_gaps_and_poles_are_named() -> None:
    with pytest.raises(bp.MissingRule, match="logsumexp"):
        bp.certify(lambda x: torch.logsumexp(x, 0), torch.ones(2), wrt="x", inputs_in=(-1, 1))
    with pytest.raises(bp.InputError, match="no bound"):
        bp.certify(lambda x: (1 / x).sum(), torch.ones(2), wrt="x", inputs_in=(-1, 1))


def solve(**settings: Any) -> Any:
    return bp.solve("epfl-ml-12/vanishing-gradient", **{"samples": 200, **settings})


def test_the_exercise_on_other_numbers() -> None:
    solved = solve(L=3, K=2, x=[-1.5, 4], weight_bound=0.5, activation="tanh")
    a = solved.answers
    assert a["upper"] == pytest.approx(1.5 / 2 * 1.0**3) and a["bound"] == "(|x_1|/2) (1)^L" and a["rate"] == 1.0
    assert a["attained"] and a["witness_value"] == a["upper"] and not solved.finding
    assert a["typical_rms"] < a["lower_without_biases"] <= a["upper"]
    page = solved.text()
    assert "count the paths" in page and "residual" in page and "3/4" in page


def test_a_wrong_largest_slope_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """If sigmoid' were taken for at most 1/5 (or 1/3), the evidence would say so."""
    honest = curves.Curve.range
    for wrong in (Fraction(4, 5), Fraction(4, 3)):

        def scaled(self: Any, a: Any, b: Any, wrong: Fraction = wrong) -> Any:
            lo, hi = honest(self, a, b)
            is_slope = a != b and hi == curves.rational("1/4")
            return (lo, hi * curves.rational(str(wrong))) if is_slope else (lo, hi)

        monkeypatch.setattr(curves.Curve, "range", scaled)
        solved = solve(L=2)
        assert solved.finding
        assert "the bound from the graph" in [e.what for e in solved.evidence if e.agrees is False]


@pytest.mark.parametrize(
    "settings",
    [{"L": 0}, {"K": 0}, {"K": 10**9}, {"L": 10**6}, {"weight_bound": float("nan")}, {"weight_bound": -1.0}, {"x": []},
     {"x": [[1]]}, {"x": "two"}, {"activation": "sigmoidal"}, {"activation": "floor"}, {"activation": "log"}, {"samples": 0}],
)  # fmt: skip
def test_hostile_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError) as caught:
        solve(**settings)
    assert "\n" not in str(caught.value)


class Pooled(nn.Module):
    """The largest of four sums, which tie where all weights are at an end of the box."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 2, 2), nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.max_pool2d(self.conv(x), 2).flatten(1))[0, 0]


def test_a_witness_at_a_tie_is_moved_off_it() -> None:
    """At a tie no derivative is certain (the exact reading gives an interval), and autograd takes one side."""
    torch.manual_seed(0)
    found = bp.certify(
        Pooled(), torch.randn(1, 1, 3, 3), wrt="conv.weight[0, 0, 0, 0]", weights=(0, 1), inputs_in=(-1, 1)
    )
    assert 0.99 < found.lower <= 1 <= found.upper and len(found.evidence) == 3 and not found.finding


def test_a_softmax_behind_a_norm_of_one_sample() -> None:
    """A vector without a batch axis: its mean has no axes left."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(-1))
    found = bp.certify(net, torch.tensor([0.5, -1.0, 2.0]), wrt="3.weight[0, 0]", weights=(0.2, 0.3))
    assert 0 < found.lower <= found.upper and not found.finding
