"""Python code of torch that looks at the numbers before it computes: while a model is captured there are none.

The eager run that comes before a capture has made the same checks on the example; what is captured leaves them out.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .lower import NotCaptured
from .lower_losses import CTC

__all__ = ["PACKED", "holds_packed", "unseen"]


@contextmanager
def unseen() -> Iterator[None]:
    """Within it, torch.nn.functional and torch.distributions do not look at the values of tensors."""
    distribution = torch.distributions.Distribution
    before = distribution._validate_args
    distribution.set_default_validate_args(False)
    try:
        with _WithoutLooking():
            yield
    finally:
        distribution.set_default_validate_args(before)


class _WithoutLooking(TorchFunctionMode):
    """Replaces a few functions of torch by the same without a look at values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _FORMS.get(func, func)(*args, **(kwargs or {}))


PACKED = (
    "the model packs sequences of different lengths{}, and a Graph has one shape: give padded sequences to the recurrent "
    "layer itself, and mask the loss where a sequence has ended"
)


def holds_packed(error: BaseException) -> bool:
    """Whether a PackedSequence is at work where an exception comes from."""
    frames = traceback.walk_tb(error.__traceback__)
    packed = torch.nn.utils.rnn.PackedSequence
    return any(isinstance(v, packed) for frame, _ in frames for v in frame.f_locals.values())


def _gaussian_nll(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """1/2 (ln σ² + (x - t)² / σ²), with σ² at least eps; the gradient passes to σ² as if it were not held there."""
    var = var * torch.ones_like(input) if isinstance(var, float) else var
    var = var.unsqueeze(-1) if var.size() != input.size() and var.size() == input.size()[:-1] else var
    held = torch.where(var < eps, eps + (var - var.detach()), var)
    errors = 0.5 * (torch.log(held) + (input - target) ** 2 / held)
    errors = errors + 0.5 * math.log(2 * math.pi) if full else errors
    return errors if reduction == "none" else errors.sum() if reduction == "sum" else errors.mean()


def _ctc(*args: Any, **kwargs: Any) -> Tensor:
    raise NotCaptured(CTC)


_FORMS: dict[Any, Callable[..., Any]] = {F.gaussian_nll_loss: _gaussian_nll, F.ctc_loss: _ctc}
