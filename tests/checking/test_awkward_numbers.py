"""Right gradients where large terms cancel, near poles, and where nothing but rounding is left: no alarm, and decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import backproof as bp

torch.manual_seed(0)
W, X, ZERO = torch.randn(5), torch.randn(4, 5), torch.zeros(5)
RIGHT: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "digits lost inside": (lambda x, w: ((torch.exp(w * x * 1e-9) - 1) / 1e-9).pow(2).sum(), W),
    "beside a pole": (lambda x, w: (1 / (w * x + 1e-6)).sum(), ZERO),
    "an increment lost in a sum": (lambda x, w: ((x + w * x * 1e-10) - x).pow(2).sum(), W),
    "a norm of normalised rows": (lambda x, w: F.normalize(w * x, dim=-1).pow(2).sum(), W),
    "the cosine of a vector with itself": (lambda x, w: F.cosine_similarity(w * x, w * x * 2, dim=-1).sum(), W),
    "at the minimum of a divergence": (
        lambda x, w: F.kl_div(F.log_softmax(w * x, -1), F.softmax(W.to(w) * x, -1), reduction="batchmean"), W),
    "saturated": (lambda x, w: (torch.sigmoid(w * x * 200) - 1).pow(2).sum(), W),
    "a large offset": (lambda x, w: (w * x + 1e4).var(-1).sum(), W),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_is_found_right(name: str, dtype: torch.dtype) -> None:
    function, w = RIGHT[name]
    found = bp.check(function, (X.to(dtype), w.to(dtype)))
    assert found.ok is True, found.text()


class _Pole(torch.autograd.Function):
    """1/(x + 1e-6) with a slope that is wrong by a factor of two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 1 / (x + 1e-6)

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> Tensor:
        return -2 * deltas[0] / (ctx.saved_tensors[0] + 1e-6) ** 2


def test_a_wrong_gradient_beside_a_pole_is_found_wrong() -> None:
    found = bp.check(lambda x: _Pole.apply(x).sum(), torch.zeros(4).double())  # type: ignore[no-untyped-call]
    assert found.ok is False
    assert len(found.wrong) == 4


def test_a_wrong_gradient_of_which_only_rounding_is_right_is_found_wrong() -> None:
    """The gradient of a norm of normalised rows is zero; one that is 1e-6 is a mistake."""
    found = bp.check(
        RIGHT["a norm of normalised rows"][0], (X.double(), W.double()), claim={"w": torch.full((5,), 1e-6).double()}
    )
    assert found.ok is False


def test_a_captured_batch_norm_is_checked_with_its_running_statistics_held() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh()).double()
    found = bp.check(bp.capture(net, torch.randn(6, 3).double(), loss="mse", targets=torch.zeros(6, 4).double()), None)
    assert found.ok is True, found.text()
    assert not any(net[1].running_mean)  # type: ignore[arg-type]
