"""The record of one update: what was computed, with what, and what the parameters were before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..domains.entries import Array
from ..domains.exact import spelled
from ..graph import Graph
from ..result import plain

__all__ = ["ParameterStep", "Step"]


@dataclass(frozen=True)
class ParameterStep:
    """A parameter in one update: before, its gradient (None if none arrives), after, the optimizer's state after."""

    before: Tensor
    gradient: Tensor | None
    after: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One update.

    Args:
        number: counted from 1.
        sample: the sample that it used, from 0; None for all.
        loss: the loss before the update (None for a model without one).
        values: every named value, by name.
        gradients: the gradient of the loss with respect to every named value, given and parameter.
        parameters: the trained parameters.
        exact: the exact numbers behind them, by "name", "grad.name", "before.name", "after.name"; empty in floats.
        graph: the graph that was read.
        leaves: the leaves' values that it was read on.
        buffers: the new values of the buffers that the forward pass changes (batch norm's running statistics).
        derivatives: where a custom backward pass changes a gradient, the derivative of the forward pass instead.
    """

    number: int
    sample: int | None
    loss: float | None
    values: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor | None]
    parameters: dict[str, ParameterStep]
    exact: dict[str, Array]
    graph: Graph
    leaves: dict[str, Tensor]
    state_before: dict[str, dict[str, Tensor]]
    buffers: dict[str, Tensor] = field(default_factory=dict)
    derivatives: dict[str, Tensor] = field(default_factory=dict)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The step as plain data."""
        record: dict[str, Any] = {
            "step": self.number,
            "loss": self.loss,
            "values": self.values,
            "gradients": self.gradients,
            "parameters": {
                n: {"before": p.before, "gradient": p.gradient, "after": p.after, "state": p.state}
                for n, p in self.parameters.items()
            },
        }
        if self.buffers:
            record["buffers"] = {n: {"before": self.leaves[n], "after": after} for n, after in self.buffers.items()}
        if self.derivatives:
            record["derivatives"] = self.derivatives
        found: dict[str, Any] = plain(record, full)
        if self.sample is not None:
            found["sample"] = self.sample
        if self.exact:
            found["exact"] = {name: spelled(array) for name, array in self.exact.items()}
        return found
