"""Capture an nn.Module or a function of tensors into our Graph: exported by torch, or recorded as it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..errors import CaptureError, InputError
from ..graph import Graph
from .example import Example, loss_function
from .exporting import NotExported, export
from .origin import Wrapped
from .reading import Reader, Traced
from .recording import Decision, record
from .refusing import first_line, user_frame
from .running import Seen, copied, first_run
from .trusting import Untrusted, trusted
from .unwrapping import plain_module, without_numbers

__all__ = ["capture"]


class _Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = [function]

    def forward(self, *args: Any, **keywords: Any) -> Any:
        return self.function[0](*args, **keywords)


def capture(
    model: Any,
    *inputs: Any,
    loss: Any = None,
    targets: Any = None,
    output: Any = None,
    parameters: Sequence[str] = (),
    title: str = "",
) -> Graph:
    """Capture a network into a Graph of textbook operations.

    torch.export traces it. What torch.export rejects (a branch on a value, NumPy) is recorded as it runs on these inputs,
    and ``graph.facts["recorded"]`` says so; code that writes in place becomes code that does not. Both are compared with
    the model itself, value and gradient, before they are trusted.

    Args:
        model: an ``nn.Module`` or a function of tensors.
        *inputs: example inputs: tensors, or one tuple, or one dict of keywords. Their shapes belong to the Graph.
        loss: a function of (output, targets), a loss module, or a name ("mse", "cross_entropy"...). A model whose
            output is one number is its own loss.
        targets: what the loss compares with.
        output: which tensor of the model's output the loss takes: a key, an index or a function.
        parameters: for a function, the names of its arguments that are trained.
        title: a name for the graph; the model's class by default.

    Returns:
        The Graph. Parameters are read live from the model at each reading.

    Raises:
        CaptureError: the model does not run on these inputs, or something in it has no operation yet; the message
            names the line.

    Example:
        >>> import torch, backproof as bp
        >>> graph = bp.capture(torch.nn.Linear(2, 1), torch.ones(3, 2))
        >>> [node.name for node in graph.parameters]
        ['weight', 'bias']
    """
    given = inputs[0] if len(inputs) == 1 else inputs
    model = plain_module(model, given)
    module = model if isinstance(model, nn.Module) else _Function(model)
    if without_numbers(module):
        given, targets = torch.utils._pytree.tree_map(_shape_alone, (given, targets))
    example = Example.of(model, given)
    wrapped = Wrapped(module, loss_function(loss), _picker(output))
    if unknown := set(parameters) - set(example.names):
        raise InputError(f"there is no argument called '{min(unknown)}' to train; known: {', '.join(example.names)}")
    call = torch.utils._pytree.tree_map(copied, (example.args, example.keywords, targets))
    seen = first_run(wrapped, call)
    name = title or (type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "function"))

    def read(traced: Traced) -> Graph:
        noted = {**traced.noted, **_noted(seen)}
        return trusted(Reader(replace(traced, noted=noted), wrapped, example, targets, set(parameters)).graph(name))

    return _read(wrapped, call, seen, read)


Read = Callable[[Traced], Graph]


def _read(wrapped: Wrapped, call: Any, seen: Seen, read: Read) -> Graph:
    """The Graph of the exported program; of the recorded run where a backward pass is the user's own, or export fails."""
    if seen.own_backward:
        return _recorded(wrapped, call, "", read)
    try:
        return read(export(wrapped, call))
    except CaptureError as error:
        first = error
    try:
        return _recorded(wrapped, call, str(first), read)
    except CaptureError as error:
        raise (error if isinstance(first, (NotExported, Untrusted)) else first) from None


def _recorded(wrapped: Wrapped, call: Any, reason: str, read: Read) -> Graph:
    """The Graph of a recorded run; below torch.vmap and the like, of the operations taken apart."""
    try:
        return _run(wrapped, call, reason, read, False)
    except CaptureError as error:
        first = error
    try:
        return _run(wrapped, call, reason or str(first), read, True)
    except CaptureError:
        raise first from None


def _run(wrapped: Wrapped, call: Any, reason: str, read: Read, taken_apart: bool) -> Graph:
    call = torch.utils._pytree.tree_map(copied, call)
    try:
        traced, decisions = record(wrapped, call, taken_apart)
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(
            f"the model cannot be recorded{user_frame(error)}: {type(error).__name__}: {first_line(error)}"
        ) from None
    if decisions or reason:
        traced = replace(traced, noted={"recorded": _recorded_fact(decisions, reason)})
    return read(traced)


_FUNCTORCH = {
    "_vmap": "torch.vmap",
    "_jvp": "torch.func.jvp",
    "_for_grad": "torch.func.grad",
    "_dual": "torch.func.jvp",
}


def _short(reason: str) -> str:
    """The first cause, with the names that the user knows."""
    first = reason.rpartition("captured yet: ")[2].partition("; ")[0]
    inner = next(
        (name for part, name in _FUNCTORCH.items() if part in reason.partition(" at ")[2] or part in first), None
    )
    where = re.search(r" at \S+:\d+ \(.*", first)
    return (
        f"{inner} inside the forward pass{where.group() if where else ''}"
        if inner and "Python call" in first
        else first
    )


def _recorded_fact(decisions: Sequence[Decision], reason: str) -> dict[str, Any]:
    return {
        "reason": _short(reason),
        "decisions": [
            {"kind": d.kind, "result": d.result, "source": str(d.source) if d.source else None, "text": str(d)}
            for d in decisions
        ],
    }


def _noted(seen: Seen) -> dict[str, Any]:
    noted: dict[str, Any] = {
        "custom_functions": dict(seen.functions),
        "checkpoints": list(dict.fromkeys(seen.checkpoints)),
        "gradient_hooks": dict(seen.hooks),
        "hooks_outside": seen.hooks_outside,
    }
    return {key: value for key, value in noted.items() if value}


def _shape_alone(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _picker(output: Any) -> Callable[[Any], Any]:
    if callable(output):
        return output  # type: ignore[no-any-return]
    if output is not None:
        return lambda result: (
            result[output] if not isinstance(output, str) or isinstance(result, Mapping) else getattr(result, output)
        )
    return lambda result: result.logits if hasattr(result, "logits") else result
