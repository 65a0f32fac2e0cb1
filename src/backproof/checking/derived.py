"""A captured graph as what is checked: its loss as a function of its leaves, and Backproof's own derivation as an oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..differentiate import differentiate
from ..domains.numbers import evaluate
from ..errors import BackproofError, InputError
from ..graph import Graph
from .checked import Checked, Oracle

__all__ = ["DERIVED", "loss_of", "with_derivation"]

DERIVED = "the derivation from the captured graph, by rules of Backproof's own"
CLOSE = 1e-9


def loss_of(graph: Graph, inputs: Any) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """The loss of a captured graph as a function of its leaves by name, run by the program itself, and their values.

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

    def loss(**values: Tensor) -> Any:
        return graph.origin.loss(values)

    return loss, {name: value.detach() for name, value in {**leaves, **given}.items()}


def with_derivation(
    graph: Graph, at: Mapping[str, Tensor], claimed: Mapping[str, Tensor | None], found: Checked
) -> Checked:
    """The check with one more oracle: the gradients by our own rules beside those that are checked."""
    try:
        joint = differentiate(graph)
        leaves = {n: at[n.name] for n in joint.graph.nodes if n.is_leaf and n.name in at}
        numbers = evaluate(joint.graph, leaves)
    except BackproofError as error:
        return replace(found, oracles=(*found.oracles, Oracle(DERIVED, None, None, str(error).splitlines()[0][:200])))
    worst = 0.0
    for name, gradient in claimed.items():
        adjoint = joint.gradients.get(graph.by_name[name]) if name in graph.by_name else None
        ours = torch.zeros_like(at[name]) if adjoint is None else numbers[adjoint]
        theirs = torch.zeros_like(at[name]) if gradient is None else gradient
        if ours.numel():
            worst = max(worst, float((ours - theirs).abs().max()) / (float(ours.abs().max()) or 1.0))
    eps = max((torch.finfo(v.dtype).eps for v in at.values() if v.is_floating_point()), default=0.0)
    return replace(found, oracles=(*found.oracles, Oracle(DERIVED, worst <= max(CLOSE, 1e4 * eps), worst)))
