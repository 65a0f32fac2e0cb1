"""What a reader must know about how a network was captured, in sentences; and which questions it leaves unanswerable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CaptureError, InputError
from ..graph import Graph

__all__ = ["caveats", "marks", "require_all_inputs", "require_forward_gradient", "require_numbers"]

MOST = 3
"""As many decisions of a recorded run as one sentence names."""


def caveats(graph: Graph, own_backward: bool = False) -> tuple[str, ...]:
    """The sentences that belong on every page about this graph.

    Args:
        graph: what is shown.
        own_backward: whether the gradients shown are those of the user's own backward passes, as in training.
    """
    noted = graph.noted
    found = [_recorded(noted["recorded"])] if "recorded" in noted else []
    found += [_function(n, at, own_backward) for n, at in noted.get("custom_functions", {}).items()]
    found += [_hook(on, at, graph, own_backward) for on, at in noted.get("gradient_hooks", {}).items()]
    if lines := noted.get("checkpoints"):
        found.append(
            f"What runs under torch.utils.checkpoint ({_listed(lines)}) is computed a second time in the backward pass; "
            "the numbers are the same, and it stands here once."
        )
    return tuple(found)


def marks(graph: Graph) -> tuple[str, ...]:
    """The same in a word or two each, for a subtitle."""
    found = ["one recorded run"] if graph.noted.get("recorded", {}).get("decisions") else []
    found += [f"backward pass of your own: {name}" for name in graph.noted.get("custom_functions", {})]
    return tuple(found + (["gradient hooks"] if graph.noted.get("gradient_hooks") else []))


def _listed(items: list[str]) -> str:
    return ", ".join(items[:MOST]) + (f" and {len(items) - MOST} more" if len(items) > MOST else "")


def _recorded(fact: Mapping[str, Any]) -> str:
    decisions = [d["text"] for d in fact["decisions"]]
    reason = f" ({fact['reason'].rstrip('.')})" if fact["reason"] else ""
    if not decisions:
        return (
            f"Recorded as it ran, since torch.export cannot follow it{reason}; nothing in it looks at a value, so it holds "
            "for other inputs of these shapes too."
        )
    return (
        f"This is the run that happened on these inputs, not every run of the model: {_listed(decisions)}. Other inputs or "
        "parameters may take another way."
    )


def _written(at: str) -> str:
    return f", written at {at}" if at else ""


def _function(name: str, at: str, own_backward: bool) -> str:
    what = f"{name} is a custom autograd.Function with a backward pass of its own{_written(at)}"
    if own_backward:
        return f"{what}: the gradients are those that it gives, as in training."
    return f"{what}: what is shown is the derivative of its forward pass, which training does not use."


def _hook(on: str, at: str, graph: Graph, own_backward: bool) -> str:
    what = f"There is a gradient hook on {on}{_written(at)}"
    if on.startswith("a tensor") and any(s.kind == "hook" for s in graph.surrogates.values()):
        if own_backward:
            return f"{what}: the gradients are those that it lets through, as in training."
        return f"{what}: what is shown is the gradient without it."
    return f"{what}: what is shown is the gradient without it, and training may use another."


def require_all_inputs(graph: Graph, question: str) -> None:
    """Refuse a question about other inputs or parameters than those of a recorded run.

    Raises:
        CaptureError: the graph holds for the run alone that was recorded.
    """
    decisions = graph.noted.get("recorded", {}).get("decisions", ())
    if decisions:
        raise CaptureError(
            f"{question}, and this model goes its way by values: {_listed([d['text'] for d in decisions])}; what was "
            "recorded is one run. Write both branches and choose with torch.where, so that one graph holds for all"
        )


def require_forward_gradient(graph: Graph, question: str) -> None:
    """Refuse a question about the gradient where training uses another than the derivative of the forward pass.

    Raises:
        CaptureError: a custom Function or a gradient hook stands in the graph.
    """
    if graph.surrogates:
        first = next(iter(graph.surrogates.values()))
        raise CaptureError(
            f"{question}, and training uses what {first.name}{_written(first.written)} sends back, of which there is no "
            "formula; take it out, or replace it by the operations of its forward pass"
        )


def require_numbers(graph: Graph) -> None:
    """Refuse a question that needs numbers about a model that has shapes alone.

    Raises:
        InputError: a parameter or an input is on the device "meta".
    """
    leaves = graph.origin.leaves() if hasattr(graph.origin, "leaves") else {}
    for name, tensor in leaves.items():
        if getattr(tensor, "is_meta", False):
            raise InputError(
                f"'{name}' has a shape and no numbers (device meta): give the model numbers first, with "
                "model.to_empty(device='cpu') and an initialisation"
            )
