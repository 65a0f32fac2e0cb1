"""Wrong inputs: the message names which one, where it stops and what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backproof as bp


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.a(x) * mask  # type: ignore[no-any-return]


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)

    def forward(self, *, x: Tensor) -> Tensor:
        return self.a(x)  # type: ignore[no-any-return]


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)  # type: ignore[no-any-return]


X, IDS = torch.ones(2, 3), torch.ones(2, 4)
CASES: list[tuple[Any, Any, str]] = [
    (Two(), X, "Two.forward takes 'x' and 'mask', and 1 input is given: 'mask' is missing. Give them all, in this order"),
    (Two(), (X, IDS, X), "and 3 inputs are given. Leave out what it does not take"),
    (Two(), {"x": X, "maks": IDS}, "takes 'x' and 'mask', and 'maks' is given. Name the inputs as the model does"),
    (lambda a, b: (a * b).sum(), X, "'b' is missing"),
    (Keyword(), X, "takes 'x' by keyword alone. Give the inputs as a dict, such as {'x': tensor}"),
    (Nested(), X, "in 'body.1' (Linear(in_features=5, out_features=2, bias=True), given [2, 4] float32)"),
    (nn.Embedding(10, 4), X, "What picks rows of a table must be whole numbers: give int64"),
    (nn.Linear(3, 4), X.double(), "The model is in float32 and the inputs are in float64: convert one of them"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "inputs", "says"), CASES)
def test_what_is_said(model: Any, inputs: Any, says: str) -> None:
    with pytest.raises(bp.CaptureError) as caught:
        bp.trace(model, inputs)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_loss_that_needs_targets() -> None:
    with pytest.raises(bp.BackproofError, match="targets"):
        bp.trace(nn.Linear(3, 4), X, loss=nn.MSELoss())
