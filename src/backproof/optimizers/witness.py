"""torch.optim itself as an independent witness of an update rule.

The functional form of torch.optim is called where there is one: the classes import torch's compiler on their first use,
which takes as long as the rest of a small problem. It is the same code that the classes run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["Trainer", "hand_sparse", "scalars_like", "torch_class", "torch_settings"]


class Trainer:
    """A torch.optim optimizer on some parameters: ``zero_grad()`` and ``step()`` as torch has them.

    Args:
        name: the rule's name, "sgd", "adam" or "adamw"; any other is looked up among torch.optim's classes.
        parameters: what is trained.
        hyper: the hyper-parameters under our names.
    """

    def __init__(self, name: str, parameters: list[Tensor], hyper: Mapping[str, Any]) -> None:
        self.name, self.parameters, self.hyper = name, parameters, dict(hyper)
        self.state: dict[int, list[Any]] = {}
        self._apply: Callable[..., None] | None = {"sgd": self._sgd, "adam": self._adam, "adamw": self._adam}.get(name)
        self._class: Any = None if self._apply else _class(name, parameters, hyper)
        self._function = getattr(importlib.import_module(f"torch.optim.{name}"), name) if self._apply else None

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient; LBFGS asks for the loss again through ``closure``."""
        if self._apply is None:
            hand_sparse(self._class)
            with scalars_like(self.parameters[0]):
                self._class.step(*([closure] if self.name == "lbfgs" else []))
            return
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                if parameter.grad is not None:
                    self._apply(i, parameter, parameter.grad)

    def _sgd(self, i: int, parameter: Tensor, gradient: Tensor) -> None:
        assert self._function is not None
        buffers = self.state.setdefault(i, [None])
        self._function([parameter], [gradient], buffers, foreach=False, fused=False, **self.hyper)

    def _adam(self, i: int, parameter: Tensor, gradient: Tensor) -> None:
        assert self._function is not None
        zero = torch.zeros_like(parameter)
        m, v, largest, count = self.state.setdefault(i, [zero, zero.clone(), zero.clone(), torch.tensor(0.0)])
        tops = [largest] if self.hyper["amsgrad"] else []
        self._function([parameter], [gradient], [m], [v], tops, [count], foreach=False, fused=False, **self.hyper)


def hand_sparse(optimizer: Any) -> None:
    """Hand SparseAdam the gradients in the form that it asks for: rows without a gradient are not stored."""
    if isinstance(optimizer, torch.optim.SparseAdam):
        for p in (p for g in optimizer.param_groups for p in g["params"] if p.grad is not None):
            p.grad = p.grad if p.grad.is_sparse else p.grad.to_sparse(1) if p.grad.ndim > 0 else p.grad.to_sparse()


def _class(name: str, parameters: list[Tensor], hyper: Mapping[str, Any]) -> Any:
    from .base import RULES

    return torch_class(name)(parameters, **torch_settings(RULES[name], hyper))


@contextmanager
def scalars_like(parameter: Tensor) -> Iterator[None]:
    """Let torch.optim keep its numbers per tensor (a product, a step size) in float64 too: it takes the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if parameter.dtype == torch.float64 else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def torch_class(name: str) -> Any:
    """The class of torch.optim with these letters.

    Raises:
        KeyError: there is none.
    """
    known = {n.lower(): getattr(torch.optim, n) for n in dir(torch.optim) if isinstance(getattr(torch.optim, n), type)}
    known.pop("optimizer", None)
    return known[name.lower()]


def torch_settings(rule: Any, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings under torch's names: beta1 and beta2 become betas."""
    found: dict[str, Any] = {}
    for key, value in hyper.items():
        name, _, place = rule.arguments.get(key, key).partition(".")
        number = value if isinstance(value, (bool, str)) or value is None or key in rule.counts else float(value)
        if place:
            found.setdefault(name, {})[int(place)] = number
        else:
            found[name] = number
    return {k: tuple(v[i] for i in sorted(v)) if isinstance(v, dict) else v for k, v in found.items()}
