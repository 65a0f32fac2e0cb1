"""Where the user's own backward pass stands: custom ``autograd.Function``s, gradient hooks, checkpointed regions.

``Function.apply`` looks its work up in a base class of torch's own at every call. While a run is watched, that base class
runs the forward pass as ordinary operations, and the site of the call is noted.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint as library

from ..graph import Node, Surrogate

__all__ = ["Site", "replaced_apply", "run_as_written", "run_plainly", "written_at"]


@dataclass(frozen=True, eq=False)
class Site:
    """A place with a backward pass of its own.

    As an operation of a traced program it takes what the forward pass gave and what went in, and runs the user's own code
    again, so that autograd meets the user's backward pass there.

    Args:
        kind: "function" or "hook".
        name: the Function's or the hook's name.
        run: the user's code on the tensors that went in.
        at_line: where the backward pass is written, "file:line".
    """

    kind: str
    name: str
    run: Callable[..., Any]
    at_line: str = ""

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, outs: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
        """Run the user's code on what went in; ``outs``, what the forward pass gave as ordinary operations, is not used."""
        found = self.run(*given)
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)

    def at(self, operands: tuple[Node | None, ...], place: int, count: int) -> Surrogate:
        """What the Graph knows about one result of this place."""
        return Surrogate(self.kind, self.name, operands, place, count, self.gradients, self.at_line)

    def gradients(self, deltas: Sequence[Tensor | None], given: Sequence[Tensor | None]) -> list[Tensor]:
        """What the user's backward pass sends to each operand, from the gradients of the results."""
        with torch.enable_grad():
            moving = [
                t.detach().clone().requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() else t
                for t in given
            ]
            outs = self([], moving)
            wanted = [t for t in moving if isinstance(t, Tensor) and t.requires_grad]
            pairs = [
                (o, d.to(o.dtype))
                for o, d in zip(outs, deltas, strict=True)
                if d is not None and isinstance(o, Tensor) and o.requires_grad
            ]
            found = iter(
                torch.autograd.grad([o for o, _ in pairs], wanted, [d for _, d in pairs], allow_unused=True)
                if pairs
                else [None] * len(wanted)
            )
        return [_sent(t, next(found)) if isinstance(t, Tensor) and t.requires_grad else torch.zeros(()) for t in moving]


def _sent(operand: Tensor, gradient: Tensor | None) -> Tensor:
    return torch.zeros_like(operand, requires_grad=False) if gradient is None else gradient.detach()


def written_at(function: Any) -> str:
    """Where a function is written: "file:line"; "" where there is no source."""
    try:
        return f"{Path(inspect.getsourcefile(function) or '').name}:{inspect.getsourcelines(function)[1]}"
    except (OSError, TypeError):
        return ""


class _Context:
    """What a forward pass expects of its context; nothing is kept for a backward pass."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        self.saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    save_for_forward = save_for_backward

    def mark_non_differentiable(self, *tensors: Any) -> None:
        pass

    def mark_dirty(self, *tensors: Any) -> None:
        pass

    def set_materialize_grads(self, value: bool) -> None:
        pass


def run_plainly(function: Any, args: tuple[Any, ...]) -> Any:
    """The forward pass of a custom Function as ordinary operations."""
    context = _Context(args)
    if function.setup_context is torch.autograd.Function.setup_context:
        return function.forward(context, *args)
    out = function.forward(*args)
    function.setup_context(context, args, out)
    return out


@contextmanager
def replaced_apply(instead: Callable[[Any, Callable[..., Any], tuple[Any, ...]], Any]) -> Iterator[None]:
    """While in force, ``Function.apply`` in this thread calls ``instead(function, apply, args)``."""
    here = threading.get_ident()

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        real: Callable[..., Any] = super(_SingleLevelFunction, cls).apply
        if threading.get_ident() != here:
            return real(*args, **kwargs)
        return instead(cls, real, args)

    before = _SingleLevelFunction.__dict__.get("apply")
    _SingleLevelFunction.apply = classmethod(apply)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if before is None:
            del _SingleLevelFunction.apply  # type: ignore[attr-defined]
        else:
            _SingleLevelFunction.apply = before  # type: ignore[attr-defined]


class _NoHooks(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "register_hook":
            return torch.utils.hooks.RemovableHandle(OrderedDict())
        return func(*args, **(kwargs or {}))


@contextmanager
def run_as_written(own_backward: bool) -> Iterator[None]:
    """Run the user's model on other parameters than its own.

    Checkpointed regions run once, as they are written: their second run, in the backward pass, would meet the model's own
    parameters again. Without ``own_backward`` custom Functions run as ordinary operations, and tensors take no hooks.
    """

    def instead(function: Any, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if function.__module__ == library.__name__:
            return args[0](*args[2:])
        if own_backward or function.__module__.startswith("torch."):
            return real(*args)
        return run_plainly(function, args)

    def once(*args: Any, **keywords: Any) -> Iterator[None]:
        yield

    original = library._checkpoint_without_reentrant_generator
    library._checkpoint_without_reentrant_generator = once
    try:
        with replaced_apply(instead), contextlib.nullcontext() if own_backward else _NoHooks():
            yield
    finally:
        library._checkpoint_without_reentrant_generator = original
