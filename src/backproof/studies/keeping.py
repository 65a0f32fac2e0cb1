"""What of a run is kept: everything, statistics, some of it, or all of it in a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..graph import Graph
from .planned import planned_step

__all__ = ["Keeping", "all_finite"]


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor has an infinite entry or one that is no number; one pass over each that adds them up."""
    return all(_finite(t) for t in tensors if t.is_floating_point())


def _finite(tensor: Tensor) -> bool:
    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


class Keeping:
    """Reads steps in torch's own kernels and keeps what is asked for."""

    def read(self, graph: Graph, leaves: Mapping[str, Tensor], number: int) -> tuple[Any, Any]:
        """The values and gradients of a step."""
        step = planned_step(graph)
        found = step.plan.run(leaves)
        values = {name: found[place] for name, place in step.values.items()}
        grads = {name: None if place is None else found[place] for name, place in step.gradients.items()}
        return values, grads
