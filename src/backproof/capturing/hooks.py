"""Hooks on a user's own module and optimizer: cheap ones that stay, and closer ones for a single step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Hooks", "Seen", "rerun"]


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
        model, optimizer: whose steps are followed; without an optimizer a step is a backward pass.
        first: the parameter whose gradient comes last in the backward pass.
        before_forward: called with the inputs of each forward pass of the whole model.
        before_step, after_step: called before each step of the optimizer (or behind a backward pass), and behind a step
            whose update is to be seen.
        measure: what is measured of each module in a close look; nothing else of it is kept.
        seen: what the close look has recorded, in the order of the calls.
        left_over: whether the first gradient of the step was added to one that was there already.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    first: Tensor
    before_forward: Callable[[tuple[Any, ...], dict[str, Any]], None]
    before_step: Callable[..., None]
    after_step: Callable[[], None]
    measure: Measure
    left_over: bool = False
    seen: list[Seen] = field(default_factory=list)
    _stay: list[Any] = field(default_factory=list)
    _close: list[Any] = field(default_factory=list)
    _arrivals: int = 0

    def place(self) -> None:
        """Place the hooks that stay."""
        self._stay.append(_Forward(self.model, self.before_forward, self._close, self._ended))
        if self.optimizer is None:
            self._stay.append(self.first.register_post_accumulate_grad_hook(self.before_step))
            return
        self._stay.append(self.optimizer.register_step_pre_hook(self.before_step))

    def see_update(self) -> None:
        """Call after_step behind the next step of the optimizer, once."""
        assert self.optimizer is not None

        def once(*_: Any) -> None:
            handle.remove()
            self.after_step()

        handle = self.optimizer.register_step_post_hook(once)

    def look_closely(self) -> None:
        """Record every leaf module's output and error signal from now on."""
        self.seen, self.left_over, self._arrivals = [], False, 0
        if self.first.requires_grad:
            self._close.append(self.first.register_hook(self._arrived))
        for name, module in _leaves(self.model):
            self._close.append(module.register_forward_hook(self._recorder(name)))

    def _ended(self, args: tuple[Any, ...], output: Any) -> None:
        """The end of the whole model's forward pass, in a close look."""
        self._recorder("the model")(self.model, args, output)

    def _arrived(self, grad: Tensor) -> None:
        before = self.first.grad
        if self.left_over is False and not self._arrivals and before is not None and bool(before.any()):
            self.left_over = True
        self._arrivals += 1

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
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
        entry.delta = grad.detach().norm()
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
    hooks = Hooks(model, None, torch.empty(0), lambda a, k: None, lambda *_: None, lambda: None, measure)
    kept = {name: tensor.clone() for name, tensor in model.named_buffers()}
    hooks.look_closely()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            model(*args, **kwargs)
    finally:
        hooks.look_away()
        with torch.no_grad():
            for name, tensor in model.named_buffers():
                tensor.copy_(kept[name])
    return hooks.seen
