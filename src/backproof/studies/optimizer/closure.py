"""Updates that ask for the loss and its gradient more than once (L-BFGS), on a captured network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...domains.numbers import evaluate
from ...errors import InputError
from ...graph import Graph
from ..program import Program
from .quasi_newton import QuasiNewton

__all__ = ["asked_update"]


def asked_update(
    program: Program, graph: Graph, leaves: Mapping[str, Tensor], memory: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """One update of all trained parameters together.

    Args:
        program: the network and its rule.
        graph, leaves: what this update sees.
        memory: where the rule keeps its pairs from one update to the next.

    Returns:
        The new parameters, and what is kept of each: the last direction and the last gradient.
    """
    joint = program.joint(graph)
    assert joint is not None and graph.loss is not None and program.optimizer is not None
    if program.groups and len(set(program.groups.values())) > 1:
        raise InputError("LBFGS has one parameter group, as torch.optim has it")
    names = [n for n in program.trained if joint.gradients.get(graph.by_name[n]) is not None]
    shapes = {n: leaves[n].shape for n in names}

    def ask(flat: Tensor) -> tuple[float, Tensor]:
        here = {**leaves, **_parts(flat, shapes)}
        values = evaluate(
            joint.graph, {n: here[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}
        )
        slopes = [values[joint.gradients[graph.by_name[n]]] for n in names]  # type: ignore[index]
        return float(values[graph.loss]), torch.cat([s.reshape(-1) for s in slopes])  # type: ignore[index]

    engine = memory.setdefault("engine", QuasiNewton(program.optimizer.hyper))
    after = engine.step(torch.cat([leaves[n].reshape(-1) for n in names]), ask)
    kept = {"d": engine.d, "prev": engine.previous}
    parts = {s: _parts(v, shapes) for s, v in kept.items() if v is not None}
    return _parts(after, shapes), {n: {s: parts[s][n] for s in parts} for n in names}


def _parts(flat: Tensor, shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    pieces = flat.split([shape.numel() for shape in shapes.values()])
    return {n: p.reshape(s) for (n, s), p in zip(shapes.items(), pieces, strict=True)}
