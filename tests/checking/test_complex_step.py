"""The complex step has the digits of the machine, judges our own rules, and says where it does not apply."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp
from backproof.checking.complex_step import ANALYTIC, NotAnalytic, imaginary_slope
from backproof.checking.derived import COMPLEX_STEP
from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.ops import OPS, Elementwise
from backproof.vjps import VJPS
from tests.laws.samples import CASES, case_name, sample

SMOOTH = [c for c in CASES if OPS[c[0]].differentiable
          and (c[0] in ANALYTIC or (isinstance(OPS[c[0]], Elementwise) and OPS[c[0]].kinks is None))]  # type: ignore[attr-defined]  # fmt: skip
WITH_CASES = {
    "prelu",
    "atan2",
    "huber_error",
    "smooth_l1_error",
    "softplus",
    "softsign",
    "kl_error",
    "where",
    "remainder",
    "fmod",
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape)))


def slope_and_derivation(case: tuple[str, int]) -> tuple[float, float, float]:
    """The slope of a random sum of the results by the complex step, and ⟨g, u⟩ by our rules; the size of its terms."""
    made = sample(OPS[case[0]], OPS[case[0]].examples[case[1]])
    u = {n.name: normal(*n.shape, seed=k) for k, n in enumerate(made.moving)}
    assert made.graph.loss is not None
    slope = imaginary_slope(made.graph, made.graph.loss, {n.name: t for n, t in made.leaves.items()}, u)
    joint = differentiate(made.graph)
    values = evaluate(joint.graph, made.leaves)
    terms = [values[g] * u[n.name] for n in made.moving if (g := joint.gradients[n]) is not None]
    size = sum(float(t.square().sum()) for t in terms) ** 0.5
    return slope, sum(float(t.sum()) for t in terms), max(size, abs(slope))


@pytest.mark.parametrize("case", SMOOTH, ids=case_name)
def test_every_analytic_operation_agrees_with_its_rule(case: tuple[str, int]) -> None:
    try:
        slope, derived, size = slope_and_derivation(case)
    except NotAnalytic as reason:
        assert case[0] in WITH_CASES and case[0] in str(reason)
        return
    assert abs(slope - derived) <= 1e-14 * size


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if getattr(op, "kinks", None) and op.differentiable])
def test_what_has_a_kink_is_not_read(name: str) -> None:
    with pytest.raises(NotAnalytic, match=f"{name} is not analytic"):
        slope_and_derivation((name, 0))


class Real(nn.Module):
    """Refuses to be run on complex numbers, as much code of users would fail on them."""

    def forward(self, x: Tensor) -> Tensor:
        assert not x.is_complex()
        return x


def network(dtype: torch.dtype, activation: nn.Module) -> bp.Graph:
    torch.manual_seed(3)
    layers = [
        nn.Conv2d(1, 3, 3),
        activation,
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 5),
        nn.LayerNorm(5),
        nn.Linear(5, 3),
    ]
    module = nn.Sequential(Real(), *layers).to(dtype)
    return bp.capture(module, normal(4, 1, 8, 8).to(dtype), loss=F.cross_entropy, targets=torch.tensor([0, 1, 2, 1]))


def step(found: bp.Checked) -> Any:
    (oracle,) = [o for o in found.oracles if o.name == COMPLEX_STEP]
    return oracle


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_network_to_the_last_digits(dtype: torch.dtype) -> None:
    found = bp.check(network(dtype, nn.GELU()))
    assert found.ok is True and step(found).agrees and step(found).error < 1e-14
    assert found.notes == ()


def test_a_network_with_a_kink_says_why_it_was_not_used() -> None:
    found = bp.check(network(torch.float64, nn.ReLU()))
    assert found.ok is True and step(found).agrees is None
    assert step(found).note == "not used: relu is not analytic"


@pytest.mark.parametrize("op", ["conv", "linear", "log_softmax", "layer_norm"])
def test_a_broken_rule_of_our_own_is_seen(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = VJPS[op]

    def broken(rule: Any) -> Any:
        first, *rest = right(rule)
        return (None if first is None else rule.times(first, rule.constant(1.0001)), *rest)

    graph = network(torch.float64, nn.Tanh())
    monkeypatch.setitem(VJPS, op, broken)
    found = bp.check(graph)
    assert step(found).agrees and any("derivation" in n and "complex step contradicts it" in n for n in found.notes)


def test_a_wrong_claim_and_a_wrong_custom_backward_are_contradicted() -> None:
    graph = network(torch.float64, nn.Tanh())
    assert step(bp.check(graph, claim={"7.bias": torch.zeros(3)})).agrees is False

    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return 1.001 * g * ctx.saved_tensors[0].cos()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2).double()

        def forward(self, x: Tensor) -> Tensor:
            return Sine.apply(self.linear(x))  # type: ignore[no-any-return,no-untyped-call]

    found = bp.check(bp.capture(Net(), normal(2, 3), loss=F.mse_loss, targets=normal(2, 2)))
    assert found.ok is False and step(found).agrees is False


def test_what_was_drawn_is_held_fixed() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Tanh()).double()
    found = bp.check(bp.capture(module, normal(2, 3), loss=F.mse_loss, targets=normal(2, 4)))
    assert found.ok is True and found.entries == 16 + 6 + 8 and step(found).error < 1e-14
