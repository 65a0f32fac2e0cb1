"""What a backward pass may stumble over in real use: expanded weights, another memory layout, outputs that nobody used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .oracles import cotangents
from .program import Program

__all__ = ["Call", "unusual_calls"]


@dataclass(frozen=True)
class Call:
    """One way to call a backward pass.

    Args:
        words: when it happens.
        program: what is called, at inputs of some layout.
        weights: the cotangents as they come; None for an output that nobody used.
        full: the same numbers as ordinary tensors.
        must_run: whether a failure is a finding.
    """

    words: str
    program: Program
    weights: Sequence[Tensor | None]
    full: list[Tensor]
    must_run: bool = False


def unusual_calls(program: Program, outputs: Sequence[Tensor], seed: int) -> Iterator[Call]:
    """The ways to call the backward pass that a single plain check leaves out."""
    ones = [torch.ones((), dtype=o.dtype, device=o.device).expand(o.shape) for o in outputs]
    plain = list(cotangents(outputs, seed + 41, first=False))
    yield Call(
        "where the output's gradient is expanded (as that of .sum() is)", program, ones, [o.clone() for o in ones]
    )
    nothing = [torch.zeros_like(o) for o in outputs]
    yield Call(
        "where the output's gradient is undefined (it leads nowhere)", _leading_nowhere(program), nothing, nothing, True
    )
    for k in range(len(outputs) if len(outputs) > 1 else 0):
        alone = [w if j == k else None for j, w in enumerate(plain)]
        full = [w if j == k else torch.zeros_like(w) for j, w in enumerate(plain)]
        yield Call(
            f"where only output {k} is used and the gradients of the others are undefined", program, alone, full, True
        )
    turned = tuple(_turned(v) for v in program.start)
    if any(not t.is_contiguous() for t in turned):
        yield Call("where the inputs are not contiguous", replace(program, start=turned), plain, plain)


def _leading_nowhere(program: Program) -> Program:
    """The function with outputs whose gradients arrive as undefined."""

    def call(*args: Any, **kwargs: Any) -> Any:
        out = program.call(*args, **kwargs)
        undefined = torch._C._functions.UndefinedGrad
        return tuple(undefined()(o) for o in tree_leaves(out) if isinstance(o, Tensor) and o.requires_grad)

    return replace(program, call=call)


def _turned(value: Tensor) -> Tensor:
    """The same numbers with the memory of the transposed tensor."""
    if value.ndim < 2 or not value.numel():
        return value
    return value.transpose(-1, -2).contiguous().transpose(-1, -2)
