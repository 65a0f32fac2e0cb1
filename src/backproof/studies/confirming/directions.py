"""Evidence for large networks: slopes along random directions, and single operations one entry at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...domains.numbers import evaluate, numbers, tensor_of, widened
from ...graph import Graph, Node
from ...ops import OPS, Elementwise
from ..program import Program
from ..trace import Step
from ..verdicts import ALLOWED, ALONG, ONE_BY_ONE
from .local import checkable, entry_error, random_places

__all__ = ["large_network"]

MOST_PARAMETERS, ENTRIES = 12, 400
_STEPS = (1e-4, 1e-5, 1e-6, 1e-7)  # of the parameter's size: the first that crosses no kink
_ROUGH = 1e-4  # two step sizes that disagree by more than this share have met kinks
_LOSS_ROUNDING = 1e-14  # of a loss behind many layers, in float64
Add = Callable[..., None]


def large_network(program: Program, step: Step, add: Add, seed: int) -> None:
    """Look at random directions of up to 12 parameters and at 400 random entries of the joint graph.

    Args:
        program, step: what was run; the step in float64.
        add: takes (what, oracle, error, count, of).
        seed: of what is looked at.
    """
    if step.graph.loss is not None:
        generator = torch.Generator().manual_seed(seed)
        for name in _chosen(program.trained, generator):
            _direction(step, name, generator, add)
    _entries(program, step, add, seed)


def _chosen(names: Sequence[str], generator: torch.Generator) -> list[str]:
    order = torch.randperm(len(names), generator=generator).tolist()
    return [names[i] for i in sorted(order[:MOST_PARAMETERS])]


def _constants(graph: Graph) -> dict[Node, Tensor]:
    return {n: tensor_of(n, wide=True) for n in graph.of_role("constant")}


# --- slopes along directions --------------------------------------------------------------------------------------------
def _direction(step: Step, name: str, generator: torch.Generator, add: Add) -> None:
    """The slope of the loss along a random Gaussian direction, against <gradient, direction>."""
    ours = step.gradients.get(name)
    if ours is None:
        return
    leaves = {n: widened(t.detach()) for n, t in step.leaves.items()}
    direction = torch.randn(leaves[name].shape, generator=generator, dtype=torch.float64)
    size = leaves[name].norm().item() / max(direction.norm().item(), 1e-300) or 1.0
    found = _slope(step.graph, leaves, name, direction, size)
    if found is None:
        return  # kinks at every step size
    slope, spread, noise = found
    expected = (ours.double() * direction).sum().item()
    scale = max(abs(expected), ours.double().norm().item(), 1e-300)
    if spread > _ROUGH * scale and abs(slope - expected) <= 2 * spread:
        return  # kinks on the way: the differences are too coarse to say anything
    if abs(slope - expected) <= noise and ALLOWED[ALONG] * scale < noise:
        return  # a gradient that is zero but for rounding, as that of an attention's key bias: less than differences resolve
    add(f"gradient of {name}", ALONG, abs(slope - expected) / scale, 1, 1)


def _slope(
    graph: Graph, leaves: dict[str, Tensor], name: str, direction: Tensor, size: float
) -> tuple[float, float, float] | None:
    """A slope extrapolated from two step sizes, what the two disagree by, and what the loss's rounding is worth in it.

    The steps cross no kink; None if all do.
    """
    walk = _Walk(graph, leaves, name, direction)
    for share in _STEPS:
        h = share * size
        near, far = [walk(t) for t in (h / 2, -h / 2)], [walk(t) for t in (h, -h)]
        if all(torch.equal(a, b) for p in (*near, *far) for a, b in zip(p[1], walk.sides, strict=True)):
            wide, narrow = (far[0][0] - far[1][0]) / (2 * h), (near[0][0] - near[1][0]) / h
            return (4 * narrow - wide) / 3, abs(narrow - wide), _LOSS_ROUNDING * abs(near[0][0]) / h
    return None


class _Walk:
    """The loss along a direction, and on which side of its kinks every entry is: of a ReLU 0, of a pool the largest."""

    def __init__(self, graph: Graph, leaves: dict[str, Tensor], name: str, direction: Tensor) -> None:
        self.graph, self.leaves, self.name, self.direction = graph, leaves, name, direction
        self.constants, self.stopped = _constants(graph), {}
        here = self._values(0.0)
        self.stopped = {n: here[n] for n in graph.nodes if n.op.name == "stop_gradient"}
        self.sides = self._sides(here)

    def __call__(self, t: float) -> tuple[float, list[Tensor]]:
        values = self._values(t)
        assert self.graph.loss is not None
        return float(values[self.graph.loss]), self._sides(values)

    def _values(self, t: float) -> dict[Node, Tensor]:
        moved = {**self.leaves, self.name: self.leaves[self.name] + t * self.direction}
        nodes = {n: moved[n.name] for n in self.graph.nodes if n.is_leaf and n.role != "constant"}
        return evaluate(self.graph, {**nodes, **self.constants, **self.stopped})

    def _sides(self, values: Mapping[Node, Tensor]) -> list[Tensor]:
        found: list[Tensor] = []
        for node in self.graph.nodes:
            x = [values[operand] for operand in node.inputs]
            if isinstance(node.op, Elementwise) and node.op.kinks is not None:
                found += [k.sign() for k in node.op.kinks(*x, **node.attrs)]
            elif node.op.name == "max_pool":
                found.append(numbers.apply(replace(node, op=OPS["max_pool_index"]), *x))
        return found


# --- single operations --------------------------------------------------------------------------------------------------
def _entries(program: Program, step: Step, add: Add, seed: int) -> None:
    joint = program.joint(step.graph)
    graph = joint.graph if joint else step.graph
    leaves = {n: widened(step.leaves[n.name].detach()) for n in graph.nodes if n.is_leaf and n.role != "constant"}
    values = evaluate(graph, {**leaves, **_constants(graph)})
    nodes, forward_nodes = checkable(graph.nodes), set(step.graph.nodes)
    there = {side: sum(n.size for n in nodes if (n in forward_nodes) is side) for side in (True, False)}
    for node, place in random_places(nodes, ENTRIES, seed):
        error = entry_error(node, place, values)
        if error is not None:
            forward = node in forward_nodes
            what = "operations of the forward pass" if forward else "operations of the backward pass"
            add(what, ONE_BY_ONE, error, 1, there.pop(forward, 0))
