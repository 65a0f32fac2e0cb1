"""Replay an update rule over numbers: the rule's own graph, one update after another, without torch.optim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...domains.numbers import evaluate
from ...graph import Graph, Node
from ...optimizers import Optimizer

__all__ = ["Replay", "seen_shape", "start_of", "updated"]


def seen_shape(parameter: Tensor) -> tuple[int, ...]:
    """The shape that a rule sees: torch's rules take real and imaginary part for two parameters."""
    return (*parameter.shape, 2) if parameter.is_complex() else tuple(parameter.shape)


def start_of(rule: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The state before the first update: zeros in each state's own shape; those of the parameter's shape share one tensor."""
    seen = seen_shape(parameter)
    shapes = {s: rule.shape_of(s, seen) for s in rule.state_of(seen)}
    real = parameter.real if parameter.is_complex() else parameter
    zero = torch.zeros_like(parameter) if seen in shapes.values() else None
    return {
        s: real.new_zeros(own) if own != seen or zero is None else zero for s, own in shapes.items() if own is not None
    }


def updated(
    rule: Optimizer,
    graph: Graph,
    w: Tensor,
    g: Tensor,
    state: Mapping[str, Tensor],
    values: Mapping[Node, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The parameter and the state after one update, in the parameter's dtype.

    Args:
        rule: the rule.
        graph: its update for a parameter of the shape that it sees.
        w, g, state: the parameter, its gradient, the state before.
        values: numbers that stand for some of the graph's constants.
    """
    given = {n: torch.view_as_real(t) if t.is_complex() else t for n, t in {"w": w, "g": g, **state}.items()}
    leaves = {n: given[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    result = evaluate(graph, {**(values or {}), **leaves})
    names = ("w", *rule.state_of(seen_shape(w)))
    before = {"w": w, **state}
    after = {n: _like(result[node], before[n]) for n, node in zip(names, graph.outputs, strict=True)}
    return after.pop("w"), after


def _like(value: Tensor, before: Tensor) -> Tensor:
    return torch.view_as_complex(value.contiguous()) if before.is_complex() else value.to(before.dtype)


class Replay:
    """Updates of one parameter, with one graph for all updates that have the same equations.

    Example:
        >>> import torch
        >>> from backproof.optimizers import optimizer
        >>> run = Replay(optimizer("sgd", lr=0.5), torch.ones(2))
        >>> run.step(torch.ones(2))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, rule: Optimizer, parameter: Tensor) -> None:
        self.rule, self.w = rule, parameter.detach().clone()
        self.state = start_of(rule, self.w)
        self.count = 0
        self._graphs: dict[Any, Graph] = {}

    def step(self, gradient: Tensor, **changed: Any) -> Tensor:
        """Make one update; ``changed`` are settings with other numbers from a schedule, such as lr (or one per row)."""
        self.count += 1
        shape, dtype = tuple(self.w.shape), str(self.w.dtype).removeprefix("torch.")
        key = self.rule.equations(self.count, shape, dtype)
        if key not in self._graphs:
            self._graphs[key] = self.rule.graph(shape, self.count, dtype)
        graph = self._graphs[key]
        numbers: dict[str, Any] = {"t": float(self.count), **changed}
        values = {
            n: torch.as_tensor(numbers[n.name], dtype=torch.float64)
            for n in graph.of_role("constant")
            if n.name in numbers
        }
        self.w, self.state = updated(self.rule, graph, self.w, gradient, self.state, values)
        return self.w

    def run(self, gradients: Sequence[Tensor]) -> Tensor:
        """Make one update per gradient."""
        for gradient in gradients:
            self.step(gradient)
        return self.w
