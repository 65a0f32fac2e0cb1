"""From ATen overloads to constants: tensors that a program makes on its way, and that depend on nothing."""

from __future__ import annotations

import torch

from ..graph import Node
from .lower import Call, lowering

__all__: list[str] = []


@lowering(
    "zeros_like.default",
    "ones_like.default",
    "full_like.default",
    "zeros.default",
    "ones.default",
    "full.default",
    "arange.default",
    "arange.start",
    "arange.start_step",
    "scalar_tensor.default",
    "new_zeros.default",
    "new_ones.default",
    "new_full.default",
    "empty.memory_format",
    "empty_like.default",
    "new_empty.default",
    "eye.default",
    "linspace.default",
)
def _made(call: Call) -> Node:
    """A constant; a tensor that is made empty holds zeros until something is written into it."""
    kind = call.overload.split(".")[0]
    dtype = call.meta.dtype
    if kind.startswith(("zeros", "ones", "full", "new", "empty")):
        fill = call["fill_value"] if "full" in kind else float("ones" in kind)
        call.refuse_unless(isinstance(fill, (int, float)), "a fill value that is a tensor")
        value = torch.full(call.shape, fill, dtype=dtype)
    else:
        numbers = [v for v in call.args.values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
        value = (
            torch.scalar_tensor(numbers[0], dtype=dtype)
            if kind == "scalar_tensor"
            else getattr(torch, kind)(*numbers, dtype=dtype)
        )
    return call.builder.constant(value, call.shape, call.dtype, name=kind)
