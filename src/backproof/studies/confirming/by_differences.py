"""Central differences of the loss in 50-digit arithmetic, without any derivative rule; kinks are told by their two slopes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...domains.digits import context, digits
from ...domains.entries import Array
from ...graph import Graph, Node
from ..verdicts import GRADIENT_FLOOR
from .comparing import Gauge, compare, scale_of
from .local import work
from .tally import Tally

__all__ = ["compare_differences"]

DIFFERENCES = "differences"
_CURVED = 1e-10  # slopes a step of 1e-16 apart differ by less than this unless the curvature is a million
Reading = tuple[Gauge, dict[Node, Array]]


def _descendants(graph: Graph, node: Node) -> tuple[Node, ...]:
    """What has to be computed again when ``node`` changes."""
    touched = {node}
    for other in graph.nodes:
        if other.op.name != "stop_gradient" and any(x in touched for x in other.inputs):
            touched.add(other)
    return tuple(n for n in graph.nodes if n in touched and n is not node)


def _loss_at(
    graph: Graph,
    later: Sequence[Node],
    arrays: dict[Node, Array],
    node: Node,
    place: tuple[int, ...],
    value: Any,
) -> Any:
    changed = arrays[node].copy()
    changed[place] = value
    fresh: dict[Node, Array] = {node: changed}
    for other in later:
        fresh[other] = digits.apply(other, [fresh[x] if x in fresh else arrays[x] for x in other.inputs])
    assert graph.loss is not None
    return fresh.get(graph.loss, arrays[graph.loss]).reshape(-1)[0]


def _slopes(
    graph: Graph, later: Sequence[Node], arrays: dict[Node, Array], node: Node, place: tuple[int, ...]
) -> tuple[Any, Any]:
    """The slopes of the loss to the left and to the right."""
    assert graph.loss is not None
    x, here = arrays[node][place], arrays[graph.loss].reshape(-1)[0]
    h = context.mpf(10) ** -16 * max(1, abs(x))
    right = _loss_at(graph, later, arrays, node, place, x + h)
    left = _loss_at(graph, later, arrays, node, place, x - h)
    return (here - left) / h, (right - here) / h


def compare_differences(readings: Sequence[Reading], tally: Tally, budget: int, seed: int) -> None:
    """Compare gradients with the slopes to both sides, as many as the budget of scalar operations allows."""
    plan, total = _plan(readings, budget, seed)
    for (index, node), places in plan.items():
        gauge, arrays = readings[index]
        _check_entries(gauge, arrays, node, places, tally, total[node.name])


def _plan(readings: Sequence[Reading], budget: int, seed: int) -> tuple[dict[Any, list[Any]], dict[str, int]]:
    """Which entries of which gradients to look at, within the budget: all of them, or a random sample."""
    tasks: list[Any] = []
    total: dict[str, int] = {}
    for index, (gauge, _) in enumerate(readings):
        step = gauge.step
        for node in step.graph.nodes:
            if step.gradients.get(node.name) is not None and node.role != "target":
                cost = 2 * max(work(_descendants(step.graph, node)), 1)
                value = step.values.get(node.name)
                places = [p for p in np.ndindex(*node.shape) if value is None or bool(torch.isfinite(value[p]))]
                tasks += [(index, node, place, cost) for place in places]
                total[node.name] = total.get(node.name, 0) + node.size
    order = (
        np.random.default_rng(seed).permutation(len(tasks)) if sum(t[3] for t in tasks) > budget else range(len(tasks))
    )
    plan: dict[Any, list[Any]] = {}
    spent = 0
    for i in order:
        index, node, place, cost = tasks[i]
        if spent + cost <= budget or not plan:
            plan.setdefault((index, node), []).append(place)
            spent += cost
    return plan, total


def _check_entries(
    gauge: Gauge, arrays: dict[Node, Array], node: Node, places: Sequence[tuple[int, ...]], tally: Tally, total: int
) -> None:
    step, what = gauge.step, f"gradient of {node.name}"
    ours, later = step.gradients[node.name], _descendants(step.graph, node)
    assert ours is not None
    recorded, found = [], []
    for place in places:
        left, right = _slopes(step.graph, later, arrays, node, place)
        if abs(right - left) > max(1e-7 * max(abs(left), abs(right)), _CURVED):
            note = f"update {step.number}, entry {list(place)}: a kink, with slope {float(left):.4g} to the left and "
            tally.kink(what, DIFFERENCES, note + f"{float(right):.4g} to the right; recorded {float(ours[place]):.4g}")
        else:
            found.append(float((left + right) / 2))
            recorded.append(place)
    if recorded:
        at = tuple(torch.tensor(recorded, dtype=torch.long).reshape(len(recorded), -1).unbind(1))
        least = max(scale_of([ours]), GRADIENT_FLOOR * gauge.scales["gradient"])
        slopes = torch.tensor(found, dtype=torch.float64)

        def reach() -> Tensor | None:
            furthest = gauge.reach("gradient", node.name)
            return None if furthest is None else _picked(furthest, at)

        compare(tally, what, DIFFERENCES, _picked(ours, at), slopes, least, reach)
        if (what, DIFFERENCES) in tally.rows:
            tally.rows[what, DIFFERENCES][2] = total


def _picked(tensor: Tensor, at: tuple[Tensor, ...]) -> Tensor:
    return tensor[at] if at else tensor.reshape(1)
