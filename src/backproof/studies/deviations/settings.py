"""The settings of somebody's class: their names and defaults, which go with those of a rule, and other values to try."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import InputError
from ...optimizers import Optimizer
from ...optimizers import optimizer as find_optimizer

__all__ = ["all_changed", "defaults_of", "other_value", "ours", "own_names", "turned_on"]

ALIASES = {
    "learning_rate": "lr", "eta": "lr", "b1": "beta1", "b2": "beta2", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps",
    "mu": "momentum", "wd": "weight_decay", "decay": "weight_decay", "l2": "weight_decay", "damping": "dampening",
}  # fmt: skip
TRIED = {"weight_decay": 0.1, "momentum": 0.9, "amsgrad": True, "nesterov": True, "maximize": True, "centered": True,
         "dampening": 0.3, "lr_decay": 0.1, "decoupled_weight_decay": True}  # fmt: skip
"""Settings that are off by default and that are tried too, with the values that they get."""


def defaults_of(kind: Any) -> dict[str, Any]:
    """The settings of a class with their defaults: from its signature, and from the parameter group that it makes."""
    try:
        parameters = inspect.signature(kind).parameters.values()
        trial = kind([torch.zeros(1, requires_grad=True)])
    except (Exception, SystemExit):  # a user's own code may raise anything; it is made with its settings later
        parameters, trial = {}.values(), None
    own = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    group = (getattr(trial, "param_groups", None) or [{}])[0]
    return {**own, **{k: v for k, v in group.items() if k not in ("params", "initial_lr")}}


def ours(settings: Mapping[str, Any], rule: Optimizer) -> dict[str, Any]:
    """Somebody's settings under the rule's names; what the rule does not have is left out."""
    known, flat = rule.rule.hyper, dict[str, Any]()
    for name, value in settings.items():
        places = _places(rule, name)
        if places and isinstance(value, (tuple, list)):
            flat |= {k: value[i] for k, i in places.items() if i < len(value)}
        else:
            flat[ALIASES.get(name, name)] = value
    if "beta" in flat and "momentum" in known and "momentum" not in flat:
        flat["momentum"] = flat["beta"]
    return {k: v for k, v in flat.items() if k in known and (v is None) == (known[k] is None)}


def _places(rule: Optimizer, name: str) -> dict[str, int]:
    """The rule's settings that are parts of one of somebody's: betas -> beta1 at 0, beta2 at 1."""
    found = {}
    for mine, theirs in rule.rule.arguments.items():
        whole, _, place = theirs.partition(".")
        if whole == name and place:
            found[mine] = int(place)
    return found


def own_names(kind: Any, extra: Mapping[str, Any], rule: Optimizer, given: Mapping[str, Any]) -> dict[str, Any]:
    """The rule's settings under the names that the class has for them."""
    known = {**defaults_of(kind), **given}
    names, found = {ALIASES.get(n, n): n for n in known}, dict[str, Any]()
    for key, value in extra.items():
        whole, _, place = rule.rule.arguments.get(key, key).partition(".")
        if place and whole in known and key not in names:
            parts = list(found.get(whole, known[whole]))
            parts[int(place)] = value
            found[whole] = tuple(parts)
        else:
            found[names.get(key, key)] = value
    return found


def turned_on(kind: Any, reference: Optimizer, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings as given, then each that both have and that is off, turned on."""
    off, mine = ours(defaults_of(kind), reference), ours(given, reference)
    found: list[dict[str, Any]] = [{}]
    for name, value in TRIED.items():
        if name not in off or reference.hyper[name] or name in mine:
            continue
        extra: dict[str, Any] = {name: value}
        if name in ("nesterov", "dampening") and not reference.hyper.get("momentum"):
            extra = {"momentum": 0.9, name: value}
        try:
            find_optimizer(reference, **extra)
        except InputError:
            continue
        found.append(extra)
    return found


def all_changed(kind: Any, reference: Optimizer) -> dict[str, Any]:
    """Every number that both have and that is not 0, with another value; what a class does not read shows then."""
    both = ours(defaults_of(kind), reference)
    found: dict[str, Any] = {}
    for name in both:
        value = other_value(name, reference.hyper[name])
        if value is not None:
            found[name] = value
    try:
        find_optimizer(reference, **found)
    except InputError:
        return {}
    return found


def other_value(name: str, value: Any) -> float | None:
    """Another sensible value of a setting; None for what is no number, or 0."""
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float)) or not value:
        return None
    if name in ("t0", "ns_steps", "lambd", "step_min", "step_max", "ns_a", "ns_b", "ns_c"):
        return None
    new = _other(name, float(value))
    return None if new is None else float(f"{new:.6g}")


def _other(name: str, value: float) -> float | None:
    if name == "etaplus":
        return 1 + (value - 1) * 1.5
    if name.startswith("eps"):
        return value * 1e3
    if 0.5 < value < 1:
        return 1 - (1 - value) * (3 if value < 0.95 else 20)
    return value * 0.6
