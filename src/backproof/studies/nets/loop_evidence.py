"""Confirms a training loop: its gradients and its first update, computed again from the captured graph."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ...capturing.example import loss_function
from ...errors import BackproofError
from ..trace import trace
from ..training import train
from ..verdicts import Evidence

__all__ = ["confirmed_loop"]

_TOLERANCE = 2e-8
_ZERO = 1e-11  # a gradient below this share of the largest is zero up to rounding (a bias before a batch norm)
_FLOOR = 1e-6  # gradients are compared relative to their own size, but not below this share of the largest


def confirmed_loop(
    name: str, model: nn.Module, inputs: Tensor, targets: Tensor, loss: str, optimizer: tuple[Any, Mapping[str, Any]]
) -> tuple[Evidence, ...]:
    """Two comparisons on one batch in float64.

    The gradients of Backproof's graph (its own derivative table) against autograd on the module; and the first
    update by Backproof's update formulas against what :func:`backproof.train` with torch.optim made of the weights.
    Entries whose gradient is zero up to rounding are left out of the second: Adam divides by their size, and what
    comes out is the rounding.
    Where an operation of the network has no rule yet, both say that they do not apply.
    """
    wide, inputs = deepcopy(model).double().train(), inputs.double()
    try:
        step = trace(wide, inputs, targets, loss=loss, optimizer=optimizer).steps[0]
    except BackproofError as error:
        note = f"not compared: {str(error).splitlines()[0][:120]}"
        return (Evidence(f"gradients of {name} on a batch", "autograd", None, None, 0, 0, note),)
    return (
        _gradients(name, wide, inputs, targets, loss, step),
        _update(name, wide, inputs, targets, loss, optimizer, step),
    )


def _gradients(name: str, model: nn.Module, inputs: Tensor, targets: Tensor, loss: str, step: Any) -> Evidence:
    own = deepcopy(model)
    function = loss_function(loss)
    assert function is not None
    function(own(inputs), targets).backward()
    pairs = [(step.parameters[n].gradient, p.grad) for n, p in own.named_parameters() if p.grad is not None]
    what = f"gradients of {name} on a batch of {len(inputs)}"
    return _compared(what, "autograd on the program as it stands", pairs)


def _update(
    name: str, model: nn.Module, inputs: Tensor, targets: Tensor, loss: str, optimizer: Any, step: Any
) -> Evidence:
    made = train(model, (inputs, targets), loss=loss, optimizer=optimizer, epochs=1, batch_size=len(inputs)).model
    start = dict(model.named_parameters())
    gradients = {n: step.parameters[n].gradient for n in start}
    largest = max(float(g.abs().max()) for g in gradients.values() if g is not None)
    pairs = []
    for n, p in made.named_parameters():
        told = torch.ones_like(p, dtype=torch.bool) if gradients[n] is None else gradients[n].abs() > _ZERO * largest
        pairs.append(((step.parameters[n].after - start[n])[told], (p.detach() - start[n])[told]))
    return _compared(f"first update of {name}", "torch.optim in the training loop", pairs)


def _compared(what: str, oracle: str, pairs: list[tuple[Tensor, Tensor]]) -> Evidence:
    pairs = [(a, b) for a, b in pairs if b.numel()]
    largest = max((float(b.detach().abs().max()) for _, b in pairs), default=0.0)
    error, count = 0.0, 0
    with torch.no_grad():
        for ours, theirs in pairs:
            scale = max(float(theirs.abs().max()), _FLOOR * largest, 1e-300)
            apart = (ours - theirs).abs()
            apart[apart <= _ZERO * largest] = 0.0
            difference = float(apart.max()) / scale
            error, count = max(error, difference if difference == difference else float("inf")), count + theirs.numel()
    return Evidence(what, oracle, error <= _TOLERANCE, error, count, count)
