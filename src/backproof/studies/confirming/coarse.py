"""torch's own backward kernels of single operations, held against the derivative of the operation's formula in 50 digits.

Some are coarser than their dtype (hardsigmoid has a 1/6 of single precision in float64). Where autograd differs by no more
than that, torch rounds; nobody is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...domains.digits import digits
from ...domains.numbers import kernel_at
from ...graph import Graph, Node
from ...ops import Elementwise, derivative
from ..verdicts import EAGER, TOLERANCE, Evidence

__all__ = ["coarse_kernels", "torch_rounds"]

MOST, PLACES = 1e-6, 64
"""An error larger than single precision's is no rounding; how many entries of an operation are looked at."""


_BY_TORCH = ("autograd", EAGER, "torch.optim")


def torch_rounds(evidence: Sequence[Evidence], graph: Graph, values: Mapping[str, Tensor]) -> tuple[Evidence, ...]:
    """Where only torch's own coarse kernels make autograd differ, that is said and is no disagreement.

    Args:
        evidence: the comparisons.
        graph: what was captured.
        values: of its nodes and leaves, in float64, by name.
    """
    if all(e.agrees is not False or e.oracle not in _BY_TORCH for e in evidence):
        return tuple(evidence)
    coarse = coarse_kernels(graph, values)
    allowed = 16 * max(coarse.values(), default=0.0)
    names = ", ".join(f"{name} (wrong by {error:.1g})" for name, error in coarse.items())
    note = f"torch's own backward pass of {names} is coarser than float64; the formula in 50 digits is what is shown"
    return tuple(
        replace(e, agrees=True, note=note)
        if e.agrees is False and e.oracle in _BY_TORCH and e.error is not None and e.error <= allowed
        else e
        for e in evidence
    )


def coarse_kernels(graph: Graph, values: Mapping[str, Tensor]) -> dict[str, float]:
    """For each elementwise operation whose backward kernel in torch is coarse, its relative error in float64.

    Args:
        graph: what was captured.
        values: of its nodes and leaves, in float64, by name.
    """
    found: dict[str, float] = {}
    for node in graph.nodes:
        if (
            isinstance(node.op, Elementwise)
            and len(node.inputs) == 1
            and node.is_float
            and node.inputs[0].name in values
        ):
            error = _error(node, values[node.inputs[0].name])
            if TOLERANCE / 16 < error <= MOST:
                found[node.op.name] = max(found.get(node.op.name, 0.0), error)
    return found


def _error(node: Node, operand: Tensor) -> float:
    """How far torch's slope is from the formula's, relative to the largest slope."""
    flat = operand.detach().double().reshape(-1).cpu()
    x = flat[:: max(len(flat) // PLACES, 1)][:PLACES].clone().requires_grad_()
    kernel = kernel_at(node)
    if kernel is None or not len(x):
        return 0.0
    y = kernel(x, **node.attrs)
    if not y.requires_grad:
        return 0.0
    (theirs,) = torch.autograd.grad(y.sum(), x)
    true = _slopes(node, x.detach())
    largest = float(true.abs().max())
    return float((theirs - true).abs().max()) / largest if largest else 0.0


def _slopes(node: Node, x: Tensor) -> Tensor:
    small = replace(node, op=derivative(node.op, 0), shape=tuple(x.shape))
    exact = digits.apply(small, [digits.array(x.tolist(), tuple(x.shape))])
    return torch.tensor([float(v) for v in np.asarray(exact).reshape(-1)], dtype=torch.float64)
