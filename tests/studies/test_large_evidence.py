"""Evidence where 50 digits of the whole would take too long: what is hidden, what is zero, and that mistakes are found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.studies.confirming import evidence
from backproof.studies.confirming.directions import large_network
from backproof.studies.trace import Trace


class Attention(nn.Module):
    """Causal attention: hidden scores are -inf, and the key's bias has the gradient zero."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        heads = [layer(x).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (self.q, self.k, self.v)]
        y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return y.transpose(1, 2).flatten(2)


@pytest.fixture(scope="module")
def record() -> Trace:
    torch.manual_seed(0)
    x, t = torch.randn(2, 10, 16).double(), torch.randn(2, 10, 16).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "_DIGITS_BUDGET", 1000)
        return bp.trace(Attention().double(), x, t, loss="mse", evidence="sampled")


def test_hidden_scores_and_a_gradient_of_zero_are_no_finding(record: Trace) -> None:
    oracles = {e.oracle for e in record.evidence}
    assert "50 digits, single operations at random entries" in oracles and "50 digits" not in oracles
    assert not record.finding
    largest = record.steps[0].gradients["k.weight"]
    bias = record.steps[0].gradients["k.bias"]
    assert largest is not None and bias is not None and bias.abs().max() < 1e-12 * largest.abs().max()


@pytest.mark.parametrize(
    ("name", "factor", "shift"), [("k.bias", 1.0, 1e-4), ("k.weight", 1.001, 0.0), ("q.bias", 0.0, 0.0)]
)
def test_a_wrong_gradient_is_found(record: Trace, name: str, factor: float, shift: float) -> None:
    step = record.steps[0]
    right = step.gradients[name]
    assert right is not None
    wrong = replace(step, gradients={**step.gradients, name: factor * right + shift})
    errors: dict[str, float] = {}

    def add(what: str, oracle: str, error: float, *counts: int) -> None:
        errors[f"{what} by {oracle}"] = error

    large_network(record.program, wrong, add, 0)
    found = [error for what, error in errors.items() if what.startswith(f"gradient of {name} ")]
    assert found and found[0] > 1e-5
