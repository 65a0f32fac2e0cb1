"""An update rule is a handful of formulas in w (the parameter), g (its gradient) and the rule's state.

The same description is read by every domain: numbers replays torch.optim, 50-digit floats check it, symbols print
it, and its state gives the bytes. One file per family; :data:`RULES` finds a rule by the name of its torch.optim class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import sympy

from ..errors import InputError
from ..formula.read import add_formula
from ..graph import Builder, Graph, Node

__all__ = ["RULES", "Equations", "Hyper", "Optimizer", "Rule", "Update", "prepared", "register"]

Hyper = Mapping[str, Any]
Equations = tuple[tuple[str, str], ...]
Shape = tuple[int, ...]


class Update(NamedTuple):
    """Which update of which parameter: its number from 1, the parameter's shape and dtype."""

    t: int
    shape: Shape = ()
    dtype: str = "float64"


@dataclass(frozen=True)
class Rule:
    """One optimizer as published and as torch.optim runs it.

    Args:
        name: "sgd", "adam"...; the torch.optim class has the same letters.
        hyper: hyper-parameters with torch's defaults.
        state: from the hyper-parameters to the names of the values kept per parameter, all zero at the start.
        equations: from the hyper-parameters and the update to assignments, in order; the last one assigns ``w``.
        source: where the rule was published, and which variant this is.
        flags: the settings that are true or false.
        choices: settings that are one of a few words, with the words.
        counts: settings that are whole numbers.
        kept: state -> what torch.optim calls it.
        scalars: what torch.optim keeps per tensor besides, under its own names.
        second: the states that hold squares or sizes of gradients, through which a step is divided.
        arguments: settings whose names differ in torch.optim, "betas.0" for the first of a pair.
        changes: whether the equations change with t after the second update.
        shared: the states that are one number for the whole tensor in torch.optim.
        rates: the states that are the learning rate of the next update.
        fading: the states that tend to 0 whatever the gradients are.
        shapes: from the hyper-parameters and a parameter's shape to the shapes of the states that differ from it.
        ranks: the numbers of axes of the parameters that it is for; empty for any.
        whole: whether an entry's step depends on other entries of the same tensor.
        rounds: whether it computes in bfloat16 on the way, whatever the parameter's dtype.
        asks: whether one update asks for the loss and its gradient more than once.
        variant_of: the rule of torch.optim that this is another published form of; "" for torch's own.
    """

    name: str
    hyper: Hyper
    state: Callable[[Hyper], tuple[str, ...]]
    equations: Callable[[Hyper, Update], Equations]
    source: str = ""
    flags: tuple[str, ...] = ()
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    scalars: tuple[str, ...] = ()
    second: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    changes: bool = False
    shared: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    fading: tuple[str, ...] = ()
    shapes: Callable[[Hyper, Shape], Mapping[str, Shape]] = lambda h, shape: {}
    ranks: tuple[int, ...] = ()
    whole: bool = False
    rounds: bool = False
    asks: bool = False
    variant_of: str = ""


RULES: dict[str, Rule] = {}


def register(rule: Rule) -> Rule:
    """Add a rule to the table by its name."""
    RULES[rule.name] = rule
    return rule


def prepared(h: Hyper, decoupled: bool = False) -> tuple[Equations, str]:
    """What most rules begin with, and the name of the gradient after it.

    The gradient's sign is turned for ``maximize``; weight decay is added to it (L2), or taken off w before the step where
    it is decoupled.
    """
    steps: Equations = (("g_1", "-g"),) if h.get("maximize") else ()
    g = "g_1" if steps else "g"
    if not h.get("weight_decay"):
        return steps, g
    if decoupled or h.get("decoupled_weight_decay"):
        return (*steps, ("w", "(1 - lr * weight_decay) * w")), g
    return (*steps, ("g_2", f"{g} + weight_decay * w")), "g_2"


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
        return self.state_of(())

    def state_of(self, shape: Shape) -> tuple[str, ...]:
        """The names of the values kept for a parameter of this shape."""
        return tuple(s for s in self.rule.state(self.hyper) if self.shape_of(s, shape) is not None)

    def shape_of(self, state: str, shape: Shape) -> Shape | None:
        """The shape of a state of a parameter of this shape; None for one that such a parameter does not have."""
        return self.rule.shapes(self.hyper, shape).get(state, shape)

    @property
    def per_parameter(self) -> tuple[str, ...]:
        """The state without what is one number for the whole tensor."""
        return tuple(s for s in self.state if s not in self.rule.shared)

    def values_of(self, shape: Shape) -> dict[str, int]:
        """State -> how many numbers are kept of it for a parameter of this shape."""
        found = {s: self.shape_of(s, shape) for s in self.state_of(shape) if s not in self.rule.shared}
        return {s: math.prod(own) for s, own in found.items() if own is not None}

    def constant_of(self, key: str, dtype: str) -> Any:
        """The number of a setting; one left open is the dtype's own eps."""
        value = self.hyper[key]
        return _EPS.get(dtype, _EPS["float32"]) if value is None and key.startswith("eps") else value

    def numbers(self, dtype: str = "float64") -> dict[str, Any]:
        """The settings that are numbers."""
        found = {k: self.constant_of(k, dtype) for k in self.hyper}
        return {k: v for k, v in found.items() if v is not None and not isinstance(v, (bool, str))}

    @property
    def plain_shape(self) -> Shape:
        """The shape of a parameter by which the rule is shown: one number, or a matrix where that matters."""
        return (2, 3) if self.rule.whole and not self.rule.asks else ()

    def equations(self, t: int, shape: Shape = (), dtype: str = "float64") -> Equations:
        """The assignments of update t."""
        return self.rule.equations(self.hyper, Update(t, shape, dtype))

    def graph(self, shape: Shape, t: int, dtype: str = "float64") -> Graph:
        """Update t of a parameter of this shape as a Graph: leaves w, g and the state, outputs the new ones.

        Raises:
            InputError: the rule is not for parameters of this shape.
        """
        if self.rule.ranks and len(shape) not in self.rule.ranks:
            axes = " or ".join(map(str, self.rule.ranks))
            raise InputError(
                f"{self.rule.name} is for parameters with {axes} axes, as torch.optim has it, and this one has shape "
                f"{list(shape)}; give it an optimizer of its own in another parameter group"
            )
        return _update_graph(self, shape, t, dtype)

    def torch(self, parameters: list[Any]) -> Any:
        """torch.optim's own optimizer with these settings, as an independent witness."""
        from .witness import Trainer

        hyper = {k: float(v) if isinstance(v, sympy.Basic) else v for k, v in self.hyper.items()}
        return Trainer(self.rule.name, parameters, hyper)

    def described(self) -> str:
        """The rule and the settings that are not torch's defaults: "SGD, lr 0.1, momentum 0.9"."""
        shown = {k: v for k, v in self.hyper.items() if k == "lr" or v != self.rule.hyper.get(k)}
        settings = (f"{k} {v}" if not isinstance(v, bool) else k for k, v in shown.items())
        return ", ".join([_spelled(self.rule.name), *settings])


SPELLED = {"sgd": "SGD", "asgd": "ASGD", "lbfgs": "LBFGS", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam",
           "rmsprop": "RMSprop", "sparseadam": "SparseAdam"}  # fmt: skip
"""The names of torch.optim that have more capitals than the first letter."""


def _spelled(name: str) -> str:
    base, slash, form = name.partition("/")
    return SPELLED.get(base, base.capitalize()) + slash + form


_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
"""What torch.finfo calls eps, for settings left to the parameter's dtype."""


@lru_cache(maxsize=256)
def _update_graph(optimizer: Optimizer, shape: Shape, t: int, dtype: str) -> Graph:
    builder = Builder()
    names: dict[str, Node] = {
        "w": builder.leaf("w", "parameter", shape, "float64"),
        "g": builder.leaf("g", "input", shape, "float64"),
    }
    states = optimizer.state_of(shape)
    for state in states:
        own = optimizer.shape_of(state, shape)
        assert own is not None
        names[state] = builder.leaf(state, "buffer", own, "float64")
    for key, value in {**optimizer.numbers(dtype), "t": t}.items():
        names[key] = builder.constant(value, (), "float64", name=key)
    for name, text in optimizer.equations(t, shape, dtype):
        add_formula(builder, names, name, text, f"the {optimizer.rule.name} rule's {name}")
    outputs = tuple(names[n] for n in ("w", *states))
    return Graph(tuple(builder.nodes), outputs, title=optimizer.rule.name).check()


def checked(rule: Rule, settings: Mapping[str, Any]) -> Optimizer:
    """A rule with settings; unknown ones and numbers that make no sense are refused."""
    unknown = set(settings) - set(rule.hyper)
    if unknown:
        raise InputError(f"{rule.name} has no setting '{sorted(unknown)[0]}'; it knows {', '.join(rule.hyper)}")
    hyper = {**rule.hyper, **settings}
    for key, value in hyper.items():
        _check_value(rule, key, value)
    if rule.name == "sgd" and hyper["nesterov"] and not (hyper["momentum"] and not hyper["dampening"]):
        raise InputError("nesterov momentum needs momentum > 0 and dampening = 0, as in torch.optim.SGD")
    return Optimizer(rule, hyper)


def _check_value(rule: Rule, key: str, value: Any) -> None:
    if key in rule.choices:
        if value not in rule.choices[key]:
            raise InputError(f"{key} is one of {', '.join(map(str, rule.choices[key]))}, not {value!r}")
    elif isinstance(value, bool):
        if key not in rule.flags:
            raise InputError(f"{key} must be a number, not {value}")
    elif key in rule.flags:
        raise InputError(f"{key} is true or false, not {value!r}")
    elif value is not None or rule.hyper[key] is not None:
        _check_number(rule, key, value)


def _check_number(rule: Rule, key: str, value: Any) -> None:
    number = isinstance(value, (int, float, sympy.Basic))
    if not number or not abs(float(value)) < 1e100:
        raise InputError(f"{key} must be a finite number, not {value!r}")
    if key in rule.counts and not (value == int(value) and 0 < value < 10**6):
        raise InputError(f"{key} is a whole number from 1 on, not {value!r}")
    may_be_negative = isinstance(rule.hyper[key], float) and rule.hyper[key] < 0
    below_one = (key in ("beta1", "beta2", "rho")) or (rule.name, key) == ("rmsprop", "alpha")
    if (float(value) < 0 and not may_be_negative and not key.startswith("ns_")) or (below_one and float(value) >= 1):
        raise InputError(f"{key} = {value} is outside its range ({'[0, 1)' if below_one else '>= 0'})")
