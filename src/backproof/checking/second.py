"""Double backward: the gradient as a function of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .oracles import cotangents
from .program import Program, program_of

__all__ = ["gradient_program"]


def gradient_program(program: Program, seed: int) -> Program:
    """The map from (inputs, cotangents) to gradients, to be checked like any other function.

    Raises:
        InputError: it is a module, whose parameters cannot be made arguments here.
    """
    if program.parameters:
        raise InputError("second=True takes a function of tensors; wrap the module with torch.func.functional_call")
    count = len(program.start)
    weights = cotangents(program.at(program.start), seed + 51, first=False)

    def gradient(*values: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            own = [v if v.requires_grad else v.detach().requires_grad_() for v in values[:count]]
            outs = program.outputs(own)
            found = torch.autograd.grad(outs, own, values[count:], create_graph=True, allow_unused=True)
        return tuple(torch.zeros_like(o) if g is None else g for g, o in zip(found, own, strict=True))

    return program_of(gradient, (*program.start, *weights))
