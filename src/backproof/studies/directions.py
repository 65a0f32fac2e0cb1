"""Evidence for large networks: slopes along random directions, and single operations one entry at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..domains.numbers import evaluate, tensor_of
from ..graph import Graph, Node
from .local import checkable, entry_error, random_places
from .program import Program
from .trace import Step
from .verdicts import ALONG, ONE_BY_ONE

__all__ = ["large_network"]

MOST_PARAMETERS, ENTRIES = 12, 400
_ROUGH = 1e-4  # two step sizes that disagree by more than this share have met kinks
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


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().double() if tensor.is_floating_point() else tensor.detach()


def _constants(graph: Graph) -> dict[Node, Tensor]:
    return {n: _wide(tensor_of(n)) for n in graph.of_role("constant")}


# --- slopes along directions --------------------------------------------------------------------------------------------
def _direction(step: Step, name: str, generator: torch.Generator, add: Add) -> None:
    """The slope of the loss along a random Gaussian direction, against <gradient, direction>."""
    ours = step.gradients.get(name)
    if ours is None:
        return
    leaves = {n: _wide(t) for n, t in step.leaves.items()}
    direction = torch.randn(leaves[name].shape, generator=generator, dtype=torch.float64)
    size = leaves[name].norm().item() / max(direction.norm().item(), 1e-300) or 1.0
    slope, spread = _richardson(step.graph, leaves, name, direction, 1e-4 * size)
    expected = (ours.double() * direction).sum().item()
    scale = max(abs(expected), ours.double().norm().item(), 1e-300)
    if spread > _ROUGH * scale and abs(slope - expected) <= 2 * spread:
        return  # kinks on the way: the differences are too coarse to say anything
    add(f"gradient of {name}", ALONG, abs(slope - expected) / scale, 1, 1)


def _richardson(graph: Graph, leaves: dict[str, Tensor], name: str, direction: Tensor, h: float) -> tuple[float, float]:
    """A slope extrapolated from two step sizes, with what the two disagree by."""
    constants = _constants(graph)
    still = {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    here = evaluate(graph, {**still, **constants})
    stopped = {n: here[n] for n in graph.nodes if n.op.name == "stop_gradient"}

    def loss(t: float) -> float:
        moved = {**leaves, name: leaves[name] + t * direction}
        nodes = {n: moved[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"} | stopped
        assert graph.loss is not None
        return float(evaluate(graph, {**nodes, **constants})[graph.loss])

    wide = (loss(h) - loss(-h)) / (2 * h)
    narrow = (loss(h / 2) - loss(-h / 2)) / h
    return (4 * narrow - wide) / 3, abs(narrow - wide)


# --- single operations --------------------------------------------------------------------------------------------------
def _entries(program: Program, step: Step, add: Add, seed: int) -> None:
    joint = program.joint(step.graph)
    graph = joint.graph if joint else step.graph
    leaves = {n: _wide(step.leaves[n.name]) for n in graph.nodes if n.is_leaf and n.role != "constant"}
    values = evaluate(graph, {**leaves, **_constants(graph)})
    nodes, forward_nodes = checkable(graph.nodes), set(step.graph.nodes)
    there = {side: sum(n.size for n in nodes if (n in forward_nodes) is side) for side in (True, False)}
    for node, place in random_places(nodes, ENTRIES, seed):
        error = entry_error(node, place, values)
        if error is not None:
            forward = node in forward_nodes
            what = "operations of the forward pass" if forward else "operations of the backward pass"
            add(what, ONE_BY_ONE, error, 1, there.pop(forward, 0))
