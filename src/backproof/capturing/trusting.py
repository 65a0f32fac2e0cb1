"""A graph that was rewritten or recorded is compared with the model itself, value and gradient, before it is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from ..graph import Builder, Graph, Node
from .running import quiet

__all__ = ["Untrusted", "trusted"]


class Untrusted(CaptureError):
    """The graph does not compute what the model computes."""


_ALLOWED = {"float64": 1e-7, "float32": 2e-3}
_ALLOWED_SHORT = 6e-2


def trusted(graph: Graph) -> Graph:
    """Return the graph if it needs no comparison, or if the comparison agrees.

    Raises:
        Untrusted: it does not compute what the model computes.
    """
    asked = graph.noted.get("compared", bool(graph.noted.get("recorded") or graph.surrogates))
    if not asked:
        return graph
    leaves = graph.origin.leaves()
    if any(t.is_meta for t in leaves.values()):
        return graph
    ours, gradients = _ours(graph, leaves)
    theirs, expected = _theirs(graph, leaves)
    for node, value in zip(graph.outputs, theirs, strict=True):
        _compare(node.name, "value", ours[node], value)
    if not graph.noted.get("hooks_outside"):  # which change the gradient behind the model's back
        for name, gradient in expected.items():
            _compare(name, "gradient", gradients.get(name), gradient)
    return graph


def _weights(shape: Any, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype)


def _ours(graph: Graph, leaves: Mapping[str, Tensor]) -> tuple[dict[Node, Tensor], dict[str, Tensor]]:
    """Our values, and our gradients of a weighted sum of all outputs."""
    from ..differentiate import differentiate
    from ..domains.numbers import evaluate

    builder, total = Builder(graph.nodes), None
    for node in graph.outputs:
        if node.is_float:
            weights = builder.constant(
                _weights(node.shape, getattr(torch, node.dtype)), node.shape, node.dtype, "weights"
            )
            part = builder.emit("sum", builder.emit("mul", node, weights))
            total = part if total is None else builder.emit("add", total, part)
    given = {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    if total is None:
        return evaluate(graph, given), {}
    wanted = [
        n for n in graph.nodes if n.is_leaf and n.is_float and n.role in ("input", "parameter") and not n.is_frozen
    ]
    joint = differentiate(replace(graph, nodes=tuple(builder.nodes)), total, wanted, own_backward=True)
    values = evaluate(joint.graph, given)
    return values, {n.name: values[g] for n in wanted if (g := joint.gradients[n]) is not None}


def _theirs(graph: Graph, leaves: Mapping[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The model's own values, and torch's gradients of the same weighted sum."""
    wanted = {n.name for n in graph.nodes if n.is_float and n.role in ("input", "parameter") and not n.is_frozen}
    moving = {name: t.clone().requires_grad_(name in wanted) for name, t in leaves.items()}
    try:
        with quiet(), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            found = graph.origin.outputs(moving)
            parts = [
                (v * _weights(v.shape, v.dtype).to(v.device)).sum()
                for v in found
                if v.is_floating_point() and v.requires_grad
            ]
            asked = {n: moving[n] for n in wanted}
            if not parts or not asked:
                return [v.detach() for v in found], {}
            torch.stack([p.double() for p in parts]).sum().backward()
            grads = [t.grad for t in asked.values()]
    except RuntimeError as error:
        raise Untrusted(
            f"torch itself cannot run the backward pass of this model: {str(error).splitlines()[0][:200]}"
        ) from None
    zeros = {n: torch.zeros_like(t) for n, t in asked.items()}
    return [v.detach() for v in found], {n: zeros[n] if g is None else g for n, g in zip(asked, grads, strict=True)}


def _compare(name: str, what: str, ours: Tensor | None, theirs: Tensor) -> None:
    mine = torch.zeros_like(theirs) if ours is None else ours
    if mine.shape != theirs.shape:
        raise Untrusted(f"the captured graph gives '{name}' shape {list(mine.shape)}, the model {list(theirs.shape)}")
    if not theirs.numel():
        return
    allowed = _ALLOWED.get(str(theirs.dtype).removeprefix("torch."), _ALLOWED_SHORT)
    wide, other = (t.detach().to(torch.complex128 if t.is_complex() else torch.float64) for t in (mine, theirs))
    size = max(float(other.abs().nan_to_num().max()), 1e-3)
    close = torch.isclose(wide, other, rtol=allowed, atol=allowed * size, equal_nan=True)
    if not bool(close.all()):
        raise Untrusted(
            f"the model stops gradients, changes values in place or leaves tensors in a way that could not be followed: the "
            f"captured graph does not have the model's {what} of '{name}'; build new tensors instead of writing into old ones"
        )
