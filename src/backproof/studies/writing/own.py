"""What a page says where a backward pass is the user's own: the gradients of training beside those of the forward pass."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...document.blocks import Block, Section, Table
from ...document.math import Num
from ..trace import Step
from .instants import range_of

__all__ = ["own_section"]


def own_section(steps: Sequence[Step]) -> list[Block]:
    """A table of the gradients that a custom backward pass changes, in the first update."""
    if not steps or not steps[0].derivatives:
        return []
    step = steps[0]
    rows = tuple((name, *_pair(step.gradients[name], true)) for name, true in step.derivatives.items())
    columns = (("by",), ("gradient in training",), ("derivative of the forward pass",), ("largest difference",))
    caption = f"Update {step.number}: what your own backward passes change; the differences are absolute"
    return [Section("Your own backward passes", (Table(columns, rows, caption, (3,)),), "backward", "own-backward")]


def _pair(ours: Tensor | None, true: Tensor) -> tuple[str, str, Num]:
    difference = true if ours is None else ours.double() - true.double()
    return _shown(ours), _shown(true), Num(float(difference.abs().max()) if true.numel() else 0.0)


def _shown(tensor: Tensor | None) -> str:
    if tensor is None:
        return "none arrives"
    return f"{tensor.item():.6g}" if tensor.numel() == 1 else range_of(tensor)
