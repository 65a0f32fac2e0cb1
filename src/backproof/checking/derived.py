"""A captured graph as what is checked: its loss as a function of its leaves, and Backproof's own derivation as an oracle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..differentiate import differentiate
from ..domains.numbers import evaluate
from ..errors import BackproofError, InputError
from ..graph import Graph
from .checked import Checked, Oracle
from .complex_step import imaginary_slope
from .differences import direction

__all__ = ["COMPLEX_STEP", "DERIVED", "closeness", "loss_of", "with_complex_step", "with_derivation"]

DERIVED = "the derivation from the captured graph, by rules of Backproof's own"
COMPLEX_STEP = "the complex step, in Backproof's own reading of the captured graph"
WRONG_RULE = "the complex step contradicts it, so one of Backproof's own rules is wrong"
DIRECTIONS = 2
CLOSE = 1e-9


def loss_of(graph: Graph, inputs: Any) -> tuple[Callable[..., Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The loss of a captured graph as a function of its leaves by name, run by the program itself, their values, and what is
    held fixed: what was drawn at random, labels, and buffers such as running statistics.

    Args:
        graph: captured with a loss (or of a model whose output is one number).
        inputs: None, or other values of some leaves by name.

    Raises:
        InputError: there is no loss, or the inputs are no dict of leaves.
    """
    if graph.loss is None or graph.origin is None:
        raise InputError("a captured graph is checked by its loss; capture it with loss=..., or check the model itself")
    leaves: dict[str, Tensor] = graph.origin.leaves()
    given = inputs if isinstance(inputs, Mapping) else {}
    if (inputs is not None and not isinstance(inputs, Mapping)) or set(given) - set(leaves):
        raise InputError(f"for a captured graph give inputs=None, or a dict with some of {', '.join(leaves)}")

    values = {name: value.detach() for name, value in {**leaves, **given}.items()}
    fixed = [*graph.of_role("draw", "buffer"), *(n for n in graph.of_role("target") if _are_labels(values.get(n.name)))]
    held = {n.name: values.pop(n.name) for n in fixed if n.name in values}

    def loss(**given: Tensor) -> Any:
        fresh = {n: t.clone() for n, t in held.items()}  # running statistics are written in place
        return graph.origin.loss({**fresh, **given})

    return loss, values, held


def _are_labels(target: Tensor | None) -> bool:
    """Whether targets are whole numbers, beside which a loss may have no value (that of probabilities, beyond 1)."""
    return target is not None and target.is_floating_point() and bool((target == target.round()).all())


def with_derivation(
    graph: Graph, at: Mapping[str, Tensor], claimed: Mapping[str, Tensor | None], found: Checked
) -> Checked:
    """The check with one more oracle: the gradients by our own rules beside those that are checked."""
    try:
        ours = _derived(graph, at, claimed)
    except BackproofError as error:
        return _with(found, Oracle(DERIVED, None, None, _first_line(error)))
    worst = max((_apart(ours[n], g) for n, g in claimed.items()), default=0.0)
    return _with(found, Oracle(DERIVED, worst <= closeness(at), worst))


def with_complex_step(
    graph: Graph,
    at: Mapping[str, Tensor],
    claimed: Mapping[str, Tensor | None],
    found: Checked,
    close: float,
    seed: int = 0,
) -> Checked:
    """The check with one more oracle: slopes by the complex step, which judge our own derivation too.

    Args:
        graph: the captured graph, with a loss.
        at: the values of its leaves, in double precision where the program runs in it.
        claimed: the gradients that are checked, by the names of the leaves.
        found: the check so far.
        close: the relative difference that counts as none.
        seed: of the directions.
    """
    oracle = _stepped(graph, at, claimed, close, seed)
    if oracle.agrees is None:
        return _with(found, oracle)
    try:
        judged = _stepped(graph, at, _derived(graph, at, claimed), closeness(at), seed)
    except BackproofError:
        return _with(found, oracle)
    notes = () if judged.agrees is not False else (f"{DERIVED}: {WRONG_RULE} ({judged.error:.2g}); please report it",)
    return replace(_with(found, oracle), notes=(*found.notes, *notes))


def closeness(at: Mapping[str, Tensor]) -> float:
    """The relative difference between two gradients that the dtype of these leaves can explain."""
    eps = max((torch.finfo(v.dtype).eps for v in at.values() if v.is_floating_point()), default=0.0)
    return max(CLOSE, 1e4 * eps)


def _with(found: Checked, oracle: Oracle) -> Checked:
    return replace(found, oracles=(*found.oracles, oracle))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def _derived(graph: Graph, at: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor | None]:
    """The gradients by our own rules; None where no way leads from the leaf to the loss."""
    joint = differentiate(graph)
    numbers = evaluate(joint.graph, {n: at[n.name] for n in joint.graph.nodes if n.is_leaf and n.name in at})
    adjoints = {n: joint.gradients.get(graph.by_name[n]) if n in graph.by_name else None for n in names}
    return {n: None if a is None else numbers[a] for n, a in adjoints.items()}


def _apart(ours: Tensor | None, theirs: Tensor | None) -> float:
    """The largest difference, relative to our largest entry; None stands for zeros."""
    if ours is None or theirs is None:
        ours = torch.zeros(()) if ours is None else ours
        theirs = torch.zeros_like(ours) if theirs is None else theirs
    if not (ours.numel() and theirs.numel()):
        return 0.0
    return float((ours - theirs).abs().max()) / (float(ours.abs().max()) or 1.0)


def _stepped(
    graph: Graph, at: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None], close: float, seed: int
) -> Oracle:
    """Slopes along Gaussian directions by the complex step against ⟨g, u⟩."""
    names = [n for n in gradients if n in graph.by_name]
    worst = 0.0
    try:
        for k in range(DIRECTIONS):
            u = dict(zip(names, direction([at[n].double() for n in names], seed + 31 + k), strict=True))
            worst = max(worst, _off(graph, at, gradients, u))
    except BackproofError as reason:
        return Oracle(COMPLEX_STEP, None, None, f"not used: {_first_line(reason)}")
    return Oracle(COMPLEX_STEP, worst <= close, worst, f"{DIRECTIONS} Gaussian directions, a step of 2^-100")


def _off(
    graph: Graph, at: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None], u: Mapping[str, Tensor]
) -> float:
    """How far ⟨g, u⟩ is from the slope along u, relative to the larger of that slope and √Σ (g u)²."""
    assert graph.loss is not None
    slope = imaginary_slope(graph, graph.loss, at, u)
    terms = [g.detach().double() * u[n] for n, g in gradients.items() if g is not None and n in u]
    claimed = sum(float(t.sum()) for t in terms)
    size = max(math.sqrt(sum(float(t.square().sum()) for t in terms)), abs(slope))
    return abs(claimed - slope) / (size or 1.0)
