"""A record in the model's own dtype: the plain run's values, and evidence that knows what a short dtype loses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 5, 2, dropout=0.3, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.lstm(x)[0][:, -1])
        return y


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.2), nn.LayerNorm(8), nn.Linear(8, 3)),
                   (5, 4), (5, 3)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GLU(1), nn.MaxPool2d(2), nn.Flatten(),
                                          nn.Linear(8, 1)), (3, 2, 6, 6), (3, 1)),
    "recurrent": (Last, (3, 6, 4), (3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_record_is_the_plain_run_s_and_is_confirmed(name: str, dtype: torch.dtype) -> None:
    make, inputs, outputs = NETWORKS[name]
    torch.manual_seed(0)
    model, x, t = make().to(dtype), torch.randn(inputs, dtype=dtype), torch.randn(outputs, dtype=dtype)
    record = bp.trace(model, x, t, loss="mse", optimizer="sgd", evidence="full", seed=3)
    torch.manual_seed(3)
    plain = F.mse_loss(copy.deepcopy(model)(x), t)
    step = record.steps[0]
    assert step.loss == plain.item()
    assert {v.dtype for v in step.values.values() if v.is_floating_point()} == {dtype}
    assert {g.dtype for g in step.gradients.values() if g is not None} == {dtype}
    assert [e for e in record.evidence if not e.agrees] == []


def test_a_wrong_number_in_a_short_dtype_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from backproof import vjps

    right = vjps.VJPS["sub"]

    def wrong(r: vjps.Rule) -> vjps.Contributions:
        first, second = right(r)
        return first, None if second is None else r.times(second, r.constant(1.01))

    monkeypatch.setitem(vjps.VJPS, "sub", wrong)
    model = nn.Linear(3, 2).to(torch.bfloat16)
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    record = bp.trace(model, x, loss=lambda y: (1 - y).square().sum(), evidence="full")
    assert any(e.agrees is False for e in record.evidence)
