"""An update rule is a handful of formulas in w (the parameter), g (its gradient) and the rule's state.

The same description is read by every domain: numbers replays torch.optim, 50-digit floats check it, symbols print
it. One file per family; :data:`RULES` finds a rule by the name of its torch.optim class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sympy

from ..errors import InputError
from ..formula.read import add_formula
from ..graph import Builder, Graph, Node

__all__ = ["RULES", "Optimizer", "Rule", "register"]

Hyper = Mapping[str, Any]
Equations = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Rule:
    """One optimizer as published and as torch.optim runs it.

    Args:
        name: "sgd", "adam"...; the torch.optim class has the same letters.
        hyper: hyper-parameters with torch's defaults.
        state: from the hyper-parameters to the names of the values kept per parameter, all zero at the start.
        equations: from the hyper-parameters and the number t of the update (from 1) to assignments, in order;
            the last one assigns ``w``.
        source: where the rule was published, and which variant this is.
        flags: the settings that are true or false.
        kept: state -> what torch.optim calls it.
        scalars: what torch.optim keeps per tensor besides, under its own names.
        second: the states that hold squares or sizes of gradients, through which a step is divided.
        arguments: settings whose names differ in torch.optim, "betas.0" for the first of a pair.
        changes: whether the equations change with t after the second update.
        shared: the states that are one number for the whole tensor in torch.optim.
    """

    name: str
    hyper: Hyper
    state: Callable[[Hyper], tuple[str, ...]]
    equations: Callable[[Hyper, int], Equations]
    source: str = ""
    flags: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    scalars: tuple[str, ...] = ()
    second: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    changes: bool = False
    shared: tuple[str, ...] = ()


RULES: dict[str, Rule] = {}


def register(rule: Rule) -> Rule:
    """Add a rule to the table by its name."""
    RULES[rule.name] = rule
    return rule


@dataclass(frozen=True)
class Optimizer:
    """A rule with its hyper-parameters set.

    Example:
        >>> from backproof.optimizers import optimizer
        >>> optimizer("sgd", lr=0.1).rule.name
        'sgd'
    """

    rule: Rule
    hyper: dict[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.rule.name, repr(sorted(self.hyper.items()))))

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the values kept per parameter."""
        return self.rule.state(self.hyper)

    @property
    def per_parameter(self) -> tuple[str, ...]:
        """The state without what is one number for the whole tensor."""
        return tuple(s for s in self.state if s not in self.rule.shared)

    def equations(self, t: int) -> Equations:
        """The assignments of update t."""
        return self.rule.equations(self.hyper, t)

    def graph(self, shape: tuple[int, ...], t: int) -> Graph:
        """Update t of a parameter of this shape as a Graph: leaves w, g and the state, outputs the new ones."""
        return _update_graph(self, shape, t)

    def torch(self, parameters: list[Any]) -> Any:
        """torch.optim's own optimizer with these settings, as an independent witness."""
        from .witness import Trainer

        hyper = {k: float(v) if isinstance(v, sympy.Basic) else v for k, v in self.hyper.items()}
        return Trainer(self.rule.name, parameters, hyper)

    def described(self) -> str:
        """The rule and the settings that are not torch's defaults: "SGD, lr 0.1, momentum 0.9"."""
        shown = {k: v for k, v in self.hyper.items() if k == "lr" or v != self.rule.hyper.get(k)}
        return ", ".join(
            [
                self.rule.name.upper() if self.rule.name == "sgd" else self.rule.name.capitalize(),
                *(f"{k} {v}" if not isinstance(v, bool) else k for k, v in shown.items()),
            ]
        )


@lru_cache(maxsize=256)
def _update_graph(optimizer: Optimizer, shape: tuple[int, ...], t: int) -> Graph:
    builder = Builder()
    names: dict[str, Node] = {
        "w": builder.leaf("w", "parameter", shape, "float64"),
        "g": builder.leaf("g", "input", shape, "float64"),
    }
    for state in optimizer.state:
        names[state] = builder.leaf(state, "buffer", shape, "float64")
    for key, value in {**optimizer.hyper, "t": t}.items():
        if isinstance(value, (int, float, sympy.Basic)) and not isinstance(value, bool):
            names[key] = builder.constant(value, (), "float64", name=key)
    for name, text in optimizer.equations(t):
        add_formula(builder, names, name, text, f"the {optimizer.rule.name} rule's {name}")
    outputs = tuple(names[n] for n in ("w", *optimizer.state))
    return Graph(tuple(builder.nodes), outputs, title=optimizer.rule.name).check()


def checked(rule: Rule, settings: Mapping[str, Any]) -> Optimizer:
    """A rule with settings; unknown ones and numbers that make no sense are refused."""
    unknown = set(settings) - set(rule.hyper)
    if unknown:
        raise InputError(f"{rule.name} has no setting '{sorted(unknown)[0]}'; it knows {', '.join(rule.hyper)}")
    hyper = {**rule.hyper, **settings}
    for key, value in hyper.items():
        _check_number(rule, key, value)
    if hyper.get("nesterov") and not (hyper["momentum"] and not hyper["dampening"]):
        raise InputError("nesterov momentum needs momentum > 0 and dampening = 0, as in torch.optim.SGD")
    return Optimizer(rule, hyper)


def _check_number(rule: Rule, key: str, value: Any) -> None:
    if isinstance(value, bool):
        if key not in rule.flags:
            raise InputError(f"{key} must be a number, not {value}")
        return
    if key in rule.flags:
        raise InputError(f"{key} is true or false, not {value!r}")
    number = isinstance(value, (int, float, sympy.Basic))
    if not number or not abs(float(value)) < 1e100:
        raise InputError(f"{key} must be a finite number, not {value!r}")
    below_one = key.startswith("beta") or key == "rho" or (rule.name, key) == ("rmsprop", "alpha")
    if float(value) < 0 or (below_one and float(value) >= 1):
        raise InputError(f"{key} = {value} is outside its range ({'[0, 1)' if below_one else '>= 0'})")
