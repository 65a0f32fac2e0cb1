"""Backward passes of the user's own, held against the derivative of the forward pass, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...differentiate import Joint, differentiate
from ...domains.numbers import evaluate, tensor_of
from ...graph import Builder, Graph, Node, Surrogate
from ..program import Program
from ..trace import Step
from ..verdicts import FORWARD, HOOKS, Evidence

__all__ = ["own_backwards"]

_ALLOWED = {"float64": 1e-8, "float32": 1e-4}
_ALLOWED_SHORT = 3e-2


def own_backwards(program: Program, steps: Sequence[Step]) -> tuple[Evidence, ...]:
    """For each custom Function and hook: whether it sends back what the derivative of the forward pass would.

    What differs is no error by itself (a straight-through estimator is meant to); it is what training really uses.

    Args:
        program: what was run.
        steps: the record; its first update is looked at.
    """
    if not steps or steps[0].graph.loss is None:
        return ()
    return (*_places(program, steps[0]), *_hooked(steps[0]))


def _hooked(step: Step) -> list[Evidence]:
    """The gradients of the parameters with the gradient hooks on modules and parameters, against those shown."""
    if not step.graph.noted.get("hooks_outside"):
        return []
    rows = []
    for name, theirs in step.graph.origin.hooked_gradients(step.leaves).items():
        ours = step.gradients.get(name)
        node = step.graph.by_name.get(name)
        if node is not None:
            mine = torch.zeros_like(theirs) if ours is None else ours
            rows.append(_compared(f"gradient of {name}", HOOKS, mine, theirs, node.dtype, "a gradient hook changes it"))
    return rows


def _places(program: Program, step: Step) -> tuple[Evidence, ...]:
    """The custom Functions and the hooks inside the forward pass."""
    if not step.graph.surrogates:
        return ()
    graph = step.graph
    joint = program.joint(graph)
    if joint is None:
        return ()
    leaves = {n: step.leaves[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}
    read = evaluate(joint.graph, leaves)
    groups: dict[tuple[object, tuple[Node | None, ...]], dict[int, Node]] = {}
    for node, surrogate in graph.surrogates.items():
        groups.setdefault((surrogate.gradients, surrogate.operands), {})[surrogate.place] = node
    found: list[Evidence] = []
    for results in groups.values():
        found += _place(graph, joint, read, results)
    return tuple(found)


def _place(graph: Graph, joint: Joint, read: Mapping[Node, Tensor], results: Mapping[int, Node]) -> list[Evidence]:
    """One place: what it sends to each operand, from the same error signals."""
    surrogate = graph.surrogates[next(iter(results.values()))]
    deltas = {place: read[g] for place, node in results.items() if (g := joint.gradients[node]) is not None}
    if not deltas:
        return []
    given = [None if x is None else read[x] for x in surrogate.operands]
    sent = surrogate.gradients([deltas.get(p) for p in range(surrogate.count)], given)
    true = _derivatives(graph, read, {results[p]: d for p, d in deltas.items()}, surrogate)
    rows = []
    for operand, ours in zip(surrogate.operands, sent, strict=True):
        if operand is not None and operand.is_float and operand in true:
            rows.append(_row(surrogate, operand, ours, true[operand]))
    return rows


def _derivatives(
    graph: Graph, read: Mapping[Node, Tensor], deltas: Mapping[Node, Tensor], surrogate: Surrogate
) -> dict[Node, Tensor]:
    """The vector-Jacobian product of the forward pass between the operands and the results."""
    builder, total = Builder(graph.nodes), None
    for node, delta in deltas.items():
        held = builder.constant(delta, node.shape, node.dtype, name="error signal")
        part = builder.emit("sum", builder.emit("mul", held, node))
        total = part if total is None else builder.emit("add", total, part)
    wanted = [x for x in surrogate.operands if x is not None and x.is_float]
    assert total is not None
    joint = differentiate(replace(graph, nodes=tuple(builder.nodes), surrogates={}), total, wanted)
    known = {n: v for n, v in read.items() if n in set(graph.nodes)}
    new = {n: tensor_of(n) for n in joint.graph.of_role("constant") if n not in known}
    values = evaluate(joint.graph, {**known, **new})
    return {
        x: torch.zeros_like(read[x]) if (g := joint.gradients[x]) is None else values[g] for x in dict.fromkeys(wanted)
    }


def _row(surrogate: Surrogate, operand: Node, ours: Tensor, true: Tensor) -> Evidence:
    written = f" ({surrogate.written})" if surrogate.written else ""
    what = f"what {surrogate.name}{written} sends back to {operand.name}"
    note = "differs from the derivative of the forward pass, and is what training uses"
    return _compared(what, FORWARD, ours, true, operand.dtype, note)


def _compared(what: str, oracle: str, ours: Tensor, theirs: Tensor, dtype: str, note: str) -> Evidence:
    size = max((float(t.abs().max()) for t in (ours, theirs) if t.numel()), default=0.0)
    error = float((ours.double() - theirs.double()).abs().max()) / size if size else 0.0
    agrees = error <= _ALLOWED.get(dtype, _ALLOWED_SHORT)
    return Evidence(what, oracle, agrees, error, ours.numel(), ours.numel(), "" if agrees else note)
