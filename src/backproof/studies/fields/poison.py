"""An independent witness of what a unit sees: a NaN put into one cell of the input turns exactly those units into NaN
that depend on it. It runs the user's own program, and knows nothing of kernels, strides or branches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..program import run_original
from ..verdicts import Evidence

if TYPE_CHECKING:
    from .receptive import FieldLayer, ReceptiveField

__all__ = ["poisoned"]

ORACLE = "a NaN in the input, run through the program itself"


def poisoned(found: ReceptiveField) -> tuple[Evidence, ...]:
    """The last local layer's middle field: cells at both ends, inside and outside, tried one by one on each axis."""
    local = [layer for layer in found.layers if layer.output_size and not layer.is_global and None not in layer.size]
    if not local or not hasattr(found.graph.origin, "leaves"):
        return ()
    layer = local[-1]
    position = tuple(n // 2 for n in layer.output_size)
    generator = torch.Generator().manual_seed(0)
    leaves = {name: _positive(value, generator) for name, value in found.graph.origin.leaves().items()}
    return tuple(_axis(found, leaves, layer, position, axis) for axis in range(len(position)))


def _positive(value: Tensor, generator: torch.Generator) -> Tensor:
    """Weights that are not zero, so that nothing is multiplied away."""
    if not value.is_floating_point():
        return value
    return (torch.rand(value.shape, generator=generator) + 0.1).to(value.dtype) / max(
        value[0].numel() if value.dim() else 1, 1
    )


def _axis(
    found: ReceptiveField, leaves: dict[str, Tensor], layer: FieldLayer, position: tuple[int, ...], axis: int
) -> Evidence:
    seen = found.indices(layer.name, position, axis)
    size = found.source.shape[2 + axis]
    ends = (min(seen, default=0), max(seen, default=0))
    tried = sorted({i for s in ends for i in (s - 1, s, s + 1) if 0 <= i < size})
    wrong = 0
    for i in tried:
        x = leaves[found.source.name].clone()
        x.narrow(2 + axis, i, 1).fill_(float("nan"))
        with torch.no_grad():
            out = run_original(found.graph, {**leaves, found.source.name: x})[layer.name]
        for place in position:
            out = out.select(2, place)
        wrong += bool(out.isnan().any()) != (i in seen)
    what = f"the field of {layer.name} at {list(position)}, axis {axis}"
    return Evidence(what, ORACLE, wrong == 0, float(wrong), len(tried), len(tried))
