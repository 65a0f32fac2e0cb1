"""Update rules as formulas, one file per family."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from . import adam, adaptive, sgd, variants
from .base import RULES, Optimizer, Rule, checked, register

__all__ = ["RULES", "Optimizer", "Rule", "optimizer", "register"]

_ = (adam, adaptive, sgd, variants)  # imported for the rules that they register
_SWITCHES = {"foreach", "fused", "capturable", "differentiable"}


def optimizer(spec: Any, **settings: Any) -> Optimizer:
    """The optimizer that a name, a torch.optim class (with arguments) or an instance means.

    Args:
        spec: "adam", torch.optim.Adam, (torch.optim.Adam, {"lr": 0.1}), functools.partial(torch.optim.Adam, lr=0.1),
            {"name": "adam", "lr": 0.1}, or a torch.optim optimizer made with one parameter group.
        **settings: hyper-parameters that override the spec's.

    Raises:
        InputError: there is no rule for it, or a setting is unknown or out of range.
    """
    name, own = _name_and_settings(spec)
    if name.lower() not in RULES:
        raise InputError(f"there is no update rule for the optimizer '{name}'; known: {', '.join(sorted(RULES))}")
    rule = RULES[name.lower()]
    return checked(rule, _flat({**own, **settings}, rule))


def _name_and_settings(spec: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, Optimizer):
        return spec.rule.name, dict(spec.hyper)
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping):
        return str(spec.get("name", "")), {k: v for k, v in spec.items() if k != "name"}
    if isinstance(spec, functools.partial):
        return _name_and_settings(spec.func)[0], dict(spec.keywords)
    if isinstance(spec, (tuple, list)) and len(spec) == 2 and isinstance(spec[1], Mapping):
        return _name_and_settings(spec[0])[0], dict(spec[1])
    if isinstance(spec, type):
        return spec.__name__, {}
    if hasattr(spec, "param_groups") and len(spec.param_groups) == 1:
        return type(spec).__name__, {k: v for k, v in spec.param_groups[0].items() if k not in ("params", "initial_lr")}
    raise InputError(f"{spec!r} is not an optimizer; give a name, a torch.optim class, or (class, settings)")


def _flat(settings: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
    """Settings under our names: betas become beta1 and beta2; how torch loops over tensors is no setting."""
    flat = {k: v for k, v in settings.items() if k not in _SWITCHES}
    if "decoupled_weight_decay" not in rule.hyper:
        flat.pop("decoupled_weight_decay", None)  # it is what tells torch's AdamW from its Adam
    for ours, theirs in rule.arguments.items():
        name, _, place = theirs.partition(".")
        if place and isinstance(flat.get(name), (tuple, list)) and len(flat[name]) > int(place):
            flat.setdefault(ours, flat[name][int(place)])
    pairs = {theirs.partition(".")[0] for theirs in rule.arguments.values()}
    return {k: v for k, v in flat.items() if k not in pairs or k in rule.hyper}
