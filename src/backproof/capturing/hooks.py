"""Hooks on a user's own module and optimizer: cheap ones that stay, and closer ones for a single step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Hooks", "Seen", "norm", "on_gradient", "rerun", "uncompiled"]


Measure = Callable[[nn.Module, Tensor | None, Tensor], dict[str, Tensor]]
"""(module, its first input, its output) -> numbers, each a tensor of one entry."""


@dataclass
class Seen:
    """What was measured of one module in a forward pass, and the norm of the error signal that came back to it.

    Args:
        name, module: of the module.
        sizes: what was measured when it was called.
        delta: the norm of the gradient of the loss with respect to its output.
    """

    name: str
    module: nn.Module
    sizes: dict[str, Tensor]
    delta: Tensor | None = None


@dataclass
class Hooks:
    """The hooks of one watch.

    Args:
        model: which is watched; of one that torch.compile made only the ends are seen.
        optimizers: whose steps are followed, in the order of their calls; without any a step is a backward pass.
        first: the parameter whose gradient comes last in the backward pass.
        before_forward: called with the inputs of each forward pass of the whole model.
        before_step, after_step: called before each step of the optimizer (or behind a backward pass), and behind a step
            whose update is to be seen.
        measure: what is measured of each module in a close look; nothing else of it is kept.
        seen: what the close look has recorded, in the order of the calls.
        evaluations: how often the closure of the step was called.
        wants_update: whether after_step is to be called behind the next step.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    first: Tensor
    before_forward: Callable[[tuple[Any, ...], dict[str, Any]], None]
    before_step: Callable[..., None]
    after_step: Callable[[], None]
    measure: Measure
    evaluations: int = 1
    wants_update: bool = False
    seen: list[Seen] = field(default_factory=list)
    _stay: list[Any] = field(default_factory=list)
    _close: list[Any] = field(default_factory=list)
    _waits: bool = False

    def place(self) -> None:
        """Place the hooks that stay."""
        self._stay.append(_Forward(self.model, self.before_forward, self._close, self._ended))
        if not self.optimizers:
            self._stay.append(self.first.register_post_accumulate_grad_hook(lambda p: self.before_step()))
            return
        self._stay.append(self.optimizers[0].register_step_pre_hook(self._before))
        self._stay.append(self.optimizers[-1].register_step_post_hook(self._after))

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before a step; where its gradients come from a closure, behind the first call of that."""
        if len(args) < 2 and not kwargs:
            self.before_step()
            return None
        self._waits, self.evaluations = True, 0
        return tuple(map(self._closure, args)), {name: self._closure(value) for name, value in kwargs.items()}

    def _closure(self, value: Any) -> Any:
        if not callable(value) or isinstance(value, torch.optim.Optimizer):
            return value

        @functools.wraps(value)
        def called(*args: Any, **kwargs: Any) -> Any:
            loss = value(*args, **kwargs)
            self.evaluations += 1
            if self._waits:
                self._waits = False
                self.before_step()
            return loss

        return called

    def _after(self, *_: Any) -> None:
        if self.wants_update:
            self.wants_update = False
            self.after_step()

    def look_closely(self) -> None:
        """Record every leaf module's output and error signal from now on."""
        self.seen = []
        for name, module in _leaves(self.model) if uncompiled(self.model) is self.model else ():
            self._close.append(module.register_forward_hook(self._recorder(name)))

    def _ended(self, args: tuple[Any, ...], output: Any) -> None:
        """The end of the whole model's forward pass, in a close look."""
        self._recorder("the model")(self.model, args, output)

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if torch.compiler.is_compiling():  # nothing of this belongs into a compiled graph
                return
            tensor = _first_tensor(output)
            if tensor is None:
                return
            x = _first_tensor(args)
            entry = Seen(name, module, self.measure(module, None if x is None else x.detach(), tensor.detach()))
            self.seen.append(entry)
            if tensor.requires_grad:
                lost = ~tensor.detach().isfinite() if module is self.model else None
                tensor.register_hook(lambda g: self._came_back(entry, g, lost))

        return record

    @staticmethod
    def _came_back(entry: Seen, grad: Tensor, lost: Tensor | None) -> None:
        """An error signal; of the whole model's output also whether the loss uses entries that are not finite."""
        entry.delta = norm(grad.detach())
        if lost is not None:
            entry.sizes["lost"] = (lost & (grad.detach() != 0)).any()

    def look_away(self) -> None:
        """Remove the close hooks."""
        for hook in self._close:
            hook.remove()
        self._close.clear()

    def remove(self) -> None:
        """Remove every hook."""
        self.look_away()
        for hook in self._stay:
            hook.remove()
        self._stay.clear()


class _Forward:
    """The model's forward method with a call before it, and behind it in a close look.

    A module without hooks takes torch's short way, 14 µs less.
    """

    def __init__(
        self,
        model: nn.Module,
        before: Callable[[tuple[Any, ...], dict[str, Any]], None],
        close: list[Any],
        after: Callable[[tuple[Any, ...], Any], None],
    ) -> None:
        self.model, self.own = model, vars(model).get("forward")
        forward = model.forward

        @functools.wraps(forward)
        def called(*args: Any, **kwargs: Any) -> Any:
            before(args, kwargs)
            output = forward(*args, **kwargs)
            if close:
                after(args, output)
            return output

        vars(model)["forward"] = called

    def remove(self) -> None:
        """Put back what was there."""
        if self.own is None:
            vars(self.model).pop("forward", None)
        else:
            vars(self.model)["forward"] = self.own


def uncompiled(model: nn.Module) -> nn.Module:
    """The module itself, where torch.compile has wrapped one."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def on_gradient(t: Tensor, call: Callable[[Tensor], None]) -> Any:
    """Call with each gradient that arrives at a tensor, before it is added to what is there; returns the handle."""
    return t.register_hook(call)


def norm(t: Tensor) -> Tensor:
    """The Euclidean norm; of half precision in single, where the squares have room."""
    found: Tensor = torch.linalg.vector_norm(t, dtype=torch.float32 if t.dtype == torch.float16 else None)
    return found


def _leaves(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found = [(n, m) for n, m in model.named_modules() if not any(True for _ in m.children())]
    own = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)]
    return [(n or type(m).__name__, m) for n, m in found + own if m is not model]


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    if isinstance(value, (tuple, list)):
        return next((t for v in value if (t := _first_tensor(v)) is not None), None)
    if isinstance(value, dict) or hasattr(value, "values"):
        return next((t for v in value.values() if (t := _first_tensor(v)) is not None), None)
    return None


def rerun(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], measure: Measure) -> list[Seen]:
    """Run a forward pass once more and measure each leaf module; buffers and generators are put back."""
    model = uncompiled(model)
    hooks = Hooks(model, (), torch.empty(0), lambda a, k: None, lambda *_: None, lambda: None, measure)
    kept = {name: tensor.clone() for name, tensor in model.named_buffers()}
    hooks.look_closely()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            hooks._ended(args, model(*args, **kwargs))
    finally:
        hooks.look_away()
        with torch.no_grad():
            for name, tensor in model.named_buffers():
                tensor.copy_(kept[name])
    return hooks.seen
