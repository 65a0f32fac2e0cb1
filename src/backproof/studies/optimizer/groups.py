"""Parameter groups: which rule an optimizer made by the user gives to which parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ...optimizers import Optimizer, group_of
from ...optimizers import optimizer as find_optimizer

__all__ = ["Witnesses", "rules_of"]


def rules_of(spec: Any, tensors: Mapping[str, Tensor]) -> tuple[Optimizer, dict[str, Optimizer]]:
    """The rule of the first group, and for an optimizer made on these parameters the rule of each that it holds.

    Args:
        spec: whatever :func:`backproof.optimizers.optimizer` takes.
        tensors: the model's parameters by name.

    Returns:
        The first rule, and name -> rule; empty where the optimizer was not made on any of these parameters.
    """
    held = {id(p) for group in getattr(spec, "param_groups", ()) for p in group["params"]}
    return find_optimizer(spec), {n: group_of(spec, t) for n, t in tensors.items() if id(t) in held}


class Witnesses:
    """torch.optim on parameters by name: one optimizer for each different rule among them."""

    def __init__(self, rules: Mapping[str, Optimizer], parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        together: dict[Optimizer, list[Any]] = {}
        for name, parameter in parameters.items():
            together.setdefault(rules[name], []).append(parameter)
        self._rules = [rule.torch(own) for rule, own in together.items()]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient."""
        for rule in self._rules:
            rule.step(closure)
