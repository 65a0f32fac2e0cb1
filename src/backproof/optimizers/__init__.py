"""Update rules as formulas, one file per family."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from . import adam, adaptive, lbfgs, matrix, published, sgd
from .base import RULES, Optimizer, Rule, checked, register

__all__ = ["RULES", "Optimizer", "Rule", "group_of", "optimizer", "register", "variants_of"]

_ = (adam, adaptive, lbfgs, matrix, published, sgd)  # imported for the rules that they register
_SWITCHES = {"foreach", "fused", "capturable", "differentiable"}


def optimizer(spec: Any, *, variant: str = "", **settings: Any) -> Optimizer:
    """The optimizer that a name, a torch.optim class (with arguments) or an instance means.

    Args:
        spec: "adam", torch.optim.Adam, (torch.optim.Adam, {"lr": 0.1}), functools.partial(torch.optim.Adam, lr=0.1),
            {"name": "adam", "lr": 0.1}, or a torch.optim optimizer; one with several parameter groups means its first
            group here (see :func:`group_of`).
        variant: another published form of the same rule, such as "eps-hat" of Adam; "" is torch's.
        **settings: hyper-parameters that override the spec's.

    Raises:
        InputError: there is no rule for it, or a setting is unknown or out of range.
    """
    name, own = _name_and_settings(spec)
    variant = variant or str(own.pop("variant", ""))
    if name.lower() not in RULES:
        known = ", ".join(sorted(n for n, r in RULES.items() if not r.variant_of))
        raise InputError(f"there is no update rule for the optimizer '{name}'; known: {known}")
    rule = RULES[name.lower()]
    if variant and variant != "torch":
        rule = _variant(rule.variant_of or rule.name, variant)
    return checked(rule, _flat({**own, **settings}, rule))


def variants_of(name: str) -> tuple[str, ...]:
    """The other published forms of a rule that are known here, such as "eps-hat" of adam."""
    return tuple(n.partition("/")[2] for n, r in RULES.items() if r.variant_of == name)


def group_of(spec: Any, parameter: Any) -> Optimizer:
    """The rule that an optimizer's own parameter group gives to a parameter.

    Raises:
        InputError: the parameter is in no group.
    """
    for group in spec.param_groups:
        if any(p is parameter for p in group["params"]):
            return optimizer((type(spec), _settings_of(group)))
    raise InputError(f"the {type(spec).__name__} optimizer does not hold a parameter of shape {list(parameter.shape)}")


def _variant(name: str, variant: str) -> Rule:
    found = RULES.get(f"{name}/{variant.lower()}")
    if found is None:
        known = ", ".join(("torch", *variants_of(name)))
        raise InputError(f"no variant '{variant}' of {name} is known here; known: {known}")
    return found


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
    if getattr(spec, "param_groups", None):
        return type(spec).__name__, _settings_of(spec.param_groups[0])
    raise InputError(f"{spec!r} is not an optimizer; give a name, a torch.optim class, or (class, settings)")


def _settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter group's settings; a schedule's own entries (initial_lr) and the parameters are none."""
    own = {k: v for k, v in group.items() if k not in ("params", "param_names", "initial_lr")}
    return {k: v.item() if hasattr(v, "item") else v for k, v in own.items()}


def _check_pair(rule: Rule, name: str, value: Any) -> None:
    own = [ours for ours, theirs in rule.arguments.items() if theirs.partition(".")[0] == name]
    if not isinstance(value, (tuple, list)) or len(value) != len(own):
        raise InputError(f"{name} of {rule.name} is a list of {len(own)} numbers ({', '.join(own)}), not {value!r}")


def _flat(settings: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
    """Settings under our names: betas become beta1 and beta2; how torch loops over tensors is no setting."""
    flat = {k: v for k, v in settings.items() if k not in _SWITCHES}
    if "decoupled_weight_decay" not in rule.hyper:
        flat.pop("decoupled_weight_decay", None)  # it is what tells torch's AdamW from its Adam
    for ours, theirs in rule.arguments.items():
        name, _, place = theirs.partition(".")
        if place and name in flat and name not in rule.hyper:
            _check_pair(rule, name, flat[name])
        if place and isinstance(flat.get(name), (tuple, list)) and len(flat[name]) > int(place):
            flat.setdefault(ours, flat[name][int(place)])
    pairs = {theirs.partition(".")[0] for theirs in rule.arguments.values()}
    return {k: v for k, v in flat.items() if k not in pairs or (k in rule.hyper and not isinstance(v, (tuple, list)))}
