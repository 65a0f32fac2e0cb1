"""The first run of a model, eagerly: what is wrong is said in the user's terms, and what torch.export would lose is noted."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import BackproofError, CaptureError
from .control import plain_control_flow
from .functions import replaced_apply, written_at
from .names import is_library, user_line, user_stack
from .origin import Wrapped, user_name
from .refusing import why_it_does_not_run

__all__ = ["Seen", "copied", "first_run", "kept_state", "quiet"]


@dataclass
class Seen:
    """What a run did that torch.export does not keep.

    Args:
        functions: custom Functions that were called: name -> where the backward pass is written.
        checkpoints: lines at which a region was checkpointed.
        hooks: gradient hooks: what they are on -> where they are written.
    """

    functions: dict[str, str] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    hooks: dict[str, str] = field(default_factory=dict)

    @property
    def own_backward(self) -> bool:
        """Whether the user's backward pass may differ from the derivative of the forward pass."""
        return bool(self.functions) or any(on.startswith("a tensor") for on in self.hooks)

    @property
    def hooks_outside(self) -> bool:
        """Whether there are gradient hooks on modules or parameters, which are no part of the forward pass."""
        return any(not on.startswith("a tensor") for on in self.hooks)


@contextmanager
def kept_state(wrapped: nn.Module) -> Iterator[None]:
    """Put the modules' attributes, the buffers' numbers and the random state back afterwards."""
    with torch.no_grad():
        state = {name: tensor.clone() for name, tensor in wrapped.named_buffers()}
    attributes = [(vars(m), {key: _shallow(value) for key, value in vars(m).items()}) for m in wrapped.modules()]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for present, before in attributes:
            _put_back(present, before)
        with torch.no_grad():
            for name, tensor in wrapped.named_buffers():
                if name in state and not tensor.is_inference():
                    tensor.copy_(state[name])


def _shallow(value: Any) -> Any:
    """A container with a copy of its contents; anything else as it is."""
    return (value, copy.copy(value)) if type(value) in _CONTAINERS else (value, None)


_CONTAINERS = (list, dict, set, OrderedDict)


def _put_back(present: dict[str, Any], before: dict[str, Any]) -> None:
    """The attributes of a module as they were: what a forward pass keeps of a traced run must not stay (a fake tensor)."""
    for key in [k for k in present if k not in before]:
        del present[key]
    for key, (value, contents) in before.items():
        present[key] = value
        if contents is not None:
            value.clear()
            value.extend(contents) if isinstance(value, list) else value.update(contents)


class _Watch(TorchFunctionMode):
    """Notes hooks that the forward pass places on tensors."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("register_hook", "register_post_accumulate_grad_hook"):
            hook = args[1] if len(args) > 1 else (kwargs or {}).get("hook")
            self.seen.hooks[f"a tensor at {_here()}"] = written_at(hook)
        return func(*args, **(kwargs or {}))


def _here() -> str:
    source = user_line(user_stack())
    return str(source) if source else "an unknown line"


def _hooks_of(wrapped: nn.Module, seen: Seen) -> None:
    """Gradient hooks that were placed beforehand, on modules and on parameters."""
    for name, module in wrapped.named_modules():
        for hook in [*module._backward_hooks.values(), *getattr(module, "_backward_pre_hooks", {}).values()]:
            seen.hooks[f"the module {user_name(name + '.').rstrip('.') or type(module).__name__}"] = written_at(hook)
    for name, p in wrapped.named_parameters():
        own = [*(p._backward_hooks or {}).values(), *(getattr(p, "_post_accumulate_grad_hooks", None) or {}).values()]
        for hook in own:
            seen.hooks[f"the parameter {user_name(name)}"] = written_at(hook)


def first_run(wrapped: Wrapped, call: tuple[Any, ...]) -> Seen:
    """Run the model once, so that a wrong shape is reported as the user's and not as torch.export's.

    Raises:
        CaptureError: it does not run; the message names the user's line.
    """
    seen = Seen()
    _hooks_of(wrapped, seen)

    def apply(function: Any, real: Any, args: tuple[Any, ...]) -> Any:
        if function.__module__ == "torch.utils.checkpoint":
            seen.checkpoints.append(_here())
        elif not function.__module__.startswith("torch."):
            seen.functions[function.__name__] = written_at(function.backward)
        return real(*args)

    def run(given: Any) -> None:
        with kept_state(wrapped), torch.enable_grad(), replaced_apply(apply), _Watch(seen), checkpoints_noted(seen):
            with plain_control_flow(), warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                wrapped(*given)
        warned.extend(said)

    warned: list[warnings.WarningMessage] = []
    try:
        try:
            run(call)
        except RuntimeError as error:
            if "require grad" not in str(error):
                raise
            run(torch.utils._pytree.tree_map(_moving, call))  # it asks for gradients of its inputs
    except BackproofError:
        raise
    except Exception as error:
        raise CaptureError(why_it_does_not_run(error, wrapped, call)) from None
    _warn_again(warned)
    return seen


def _warn_again(said: Sequence[warnings.WarningMessage]) -> None:
    """Pass on what the model warns about; torch's own remarks about how torch is written are left out."""
    for warning in said:
        if not issubclass(warning.category, (DeprecationWarning, FutureWarning)) or not is_library(warning.filename):
            warnings.warn(str(warning.message), warning.category, stacklevel=4)


@contextmanager
def checkpoints_noted(seen: Seen) -> Iterator[None]:
    """While in force, a region under ``torch.utils.checkpoint`` that does not use a Function is noted too."""
    from torch.utils import checkpoint as library

    original = library._checkpoint_without_reentrant_generator

    def noted(*args: Any, **keywords: Any) -> Any:
        seen.checkpoints.append(_here())
        return original(*args, **keywords)

    library._checkpoint_without_reentrant_generator = noted
    try:
        yield
    finally:
        library._checkpoint_without_reentrant_generator = original


_LOGGERS = ("torch", "torch.export", "torch._dynamo", "torch.fx", "torch._export", "torch.fx.experimental")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's own loggers and warnings: their contents come back in our one paragraph."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(io.StringIO()):  # what the model prints was printed in its first run
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _moving(value: Any) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.detach().clone().requires_grad_() if floating else value


def copied(value: Any) -> Any:
    """A tensor of its own: torch.export takes one tensor given twice for one input, and a model may change its input."""
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value
