"""Custom ``autograd.Function``s: running their forward pass without their backward pass, and where each was called.

``Function.apply`` looks its work up in a base class of torch's own at every call. While :func:`bypassed` is in force, that
base class runs the forward pass as ordinary operations, which autograd then differentiates by itself: an oracle that
shares nothing with the backward pass that somebody wrote.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import _SingleLevelFunction

__all__ = ["Site", "Sites", "backward_line", "bypassed", "line_of", "module_of", "spot_of"]

_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


@dataclass
class Site:
    """One call of a custom Function in a forward pass: which, with what, from where."""

    function: Any
    args: tuple[Any, ...]
    module: str
    source: str


@dataclass
class Sites:
    """Which calls of custom Functions are bypassed, counted in the order of the forward pass.

    Args:
        real: the numbers of the calls that keep their own backward pass.
        keep: whether the calls are kept, with their arguments.
        names: the names of modules by identity, for saying where a call stands.
    """

    real: frozenset[int] = frozenset()
    keep: bool = False
    names: dict[int, str] = field(default_factory=dict)
    count: int = 0
    found: list[Site] = field(default_factory=list)


class _Context:
    """What a forward pass expects of its context; nothing is kept for a backward pass."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        self.saved_tensors: tuple[Any, ...] = ()
        self.constant: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    save_for_forward = save_for_backward

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self.constant = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        pass

    def set_materialize_grads(self, value: bool) -> None:
        pass


def _has_setup(function: Any) -> bool:
    return function.setup_context is not torch.autograd.Function.setup_context


def _positional(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call in the order of the forward pass."""
    if not kwargs:
        return args
    context = () if _has_setup(function) else (None,)
    bound = inspect.signature(function.forward).bind(*context, *args, **kwargs)
    return bound.args[len(context) :]


def _plain(function: Any, args: tuple[Any, ...]) -> Any:
    """The forward pass as ordinary operations."""
    context = _Context(args)
    if _has_setup(function):
        out = function.forward(*args)
        function.setup_context(context, args, out)
    else:
        out = function.forward(context, *args)
    if not context.constant:
        return out
    constant = {id(t) for t in context.constant}
    if isinstance(out, tuple):
        return tuple(o.detach() if id(o) in constant else o for o in out)
    return out.detach() if id(out) in constant else out


@contextmanager
def bypassed(sites: Sites) -> Iterator[Sites]:
    """While in force, custom Functions run without their own backward pass, except the calls in ``sites.real``."""
    here = threading.get_ident()

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        real: Callable[..., Any] = super(_SingleLevelFunction, cls).apply
        if threading.get_ident() != here:
            return real(*args, **kwargs)
        args, kwargs = _positional(cls, args, kwargs), {}
        number, sites.count = sites.count, sites.count + 1
        if sites.keep:
            sites.found.append(_site(cls, args, sites.names))
        return real(*args, **kwargs) if number in sites.real else _plain(cls, args)

    before = _SingleLevelFunction.__dict__.get("apply")
    _SingleLevelFunction.apply = classmethod(apply)  # type: ignore[attr-defined]
    try:
        yield sites
    finally:
        if before is None:
            del _SingleLevelFunction.apply  # type: ignore[attr-defined]
        else:
            _SingleLevelFunction.apply = before  # type: ignore[attr-defined]


def _site(function: Any, args: tuple[Any, ...], names: dict[int, str]) -> Site:
    kept = tuple(a.detach().clone() if isinstance(a, Tensor) else a for a in args)
    return Site(function, kept, module_of(names), line_of())


def line_of() -> str:
    """The innermost line outside torch and Backproof on the way to here."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_OWN) and not file.startswith("<frozen"):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def spot_of() -> int:
    """The place in the program that runs, down to the call within its line: equal only where the same code runs again."""
    frame: Any = sys._getframe(1)
    chain = []
    while frame is not None:
        chain.append((id(frame.f_code), frame.f_lasti))
        file = frame.f_code.co_filename
        if not file.startswith(_OWN) and not file.startswith("<frozen"):
            break
        frame = frame.f_back
    return hash(tuple(chain))


def module_of(names: dict[int, str]) -> str:
    """The path of the innermost module whose code is running."""
    frame: Any = sys._getframe(1) if names else None
    while frame is not None:
        own = frame.f_locals.get("self") if frame.f_code.co_name != "_call_impl" else None
        if isinstance(own, nn.Module) and id(own) in names:
            return names[id(own)]
        frame = frame.f_back
    return ""


def backward_line(function: Any) -> str:
    """Where the backward pass of a custom Function is written."""
    try:
        _, line = inspect.getsourcelines(function.backward)
        return f"{Path(inspect.getsourcefile(function.backward) or '').name}:{line}"
    except (OSError, TypeError):
        return ""
