"""Optimizers and learning-rate schedules by name, class, settings or instance."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ...errors import InputError

__all__ = ["Schedule", "cosine", "optimizer_for", "schedule_for"]


def optimizer_for(spec: Any, model: nn.Module, own: Mapping[Any, Any]) -> torch.optim.Optimizer:
    """An optimizer of the parameters of ``model``.

    Args:
        spec: a name ("adamw"), a torch.optim class, (class, settings), functools.partial, or an instance.
        model: whose parameters are trained, as far as they ask for a gradient.
        own: from the parameters that an instance was made for to those of ``model``.

    Raises:
        InputError: there is none of that name, a setting is unknown, out of range or not finite.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InputError("the model has no parameters that could be trained")
    try:
        if isinstance(spec, torch.optim.Optimizer):
            return _moved(spec, own)
        made, settings = _class_and_settings(spec)
        _check(settings)
        return made(trained, **settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"the optimizer {_spoken(spec)} cannot be made: {str(error)[:200]}") from None


def _moved(spec: torch.optim.Optimizer, own: Mapping[Any, Any]) -> torch.optim.Optimizer:
    """The same optimizer, with its state, for the copy of the model that is trained."""
    groups = [{**g, "params": [own.get(p, p) for p in g["params"]]} for g in spec.param_groups]
    for group in spec.param_groups:
        _check({k: v for k, v in group.items() if k != "params"})
    copied = type(spec)(groups)  # type: ignore[call-arg]
    copied.load_state_dict(deepcopy(spec.state_dict()))
    return copied


def _class_and_settings(spec: Any) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
    if isinstance(spec, functools.partial):
        return _class_and_settings(spec.func)[0], dict(spec.keywords)
    if isinstance(spec, (tuple, list)) and len(spec) == 2 and isinstance(spec[1], Mapping):
        return _class_and_settings(spec[0])[0], dict(spec[1])
    if isinstance(spec, str):
        return _named(spec), {}
    if isinstance(spec, type) and issubclass(spec, torch.optim.Optimizer):
        return spec, {}
    raise InputError(f"{_spoken(spec)} is no optimizer; give a name, a torch.optim class, or (class, settings)")


def _named(name: str) -> Callable[..., torch.optim.Optimizer]:
    kinds = {k.lower(): v for k, v in vars(torch.optim).items() if isinstance(v, type) and k != "Optimizer"}
    kinds = {k: v for k, v in kinds.items() if issubclass(v, torch.optim.Optimizer)}
    if name.lower() not in kinds:
        raise InputError(f"torch.optim has no optimizer '{name[:40]}'; it has {', '.join(sorted(kinds))}")
    found: Callable[..., torch.optim.Optimizer] = kinds[name.lower()]
    return found


def _check(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if isinstance(value, (int, float)) and not math.isfinite(value):
            raise InputError(f"the optimizer's {key} must be a finite number, not {value}")


def _spoken(spec: Any) -> str:
    if isinstance(spec, (tuple, list)) and len(spec) == 2:
        return f"{_spoken(spec[0])} with {spec[1]}"[:120]
    return str(getattr(spec, "__name__", spec))[:80]


def cosine(step: int, total: int) -> float:
    """The share of the learning rate at an update: (1 + cos(pi step / total)) / 2, from 1 down to nearly 0.

    Source: I. Loshchilov and F. Hutter, SGDR, 2017, equation 5, without restarts; one value per update.

    Example:
        >>> cosine(0, 10), round(cosine(5, 10), 12)
        (1.0, 0.5)
    """
    return (1 + math.cos(math.pi * step / total)) / 2


_NAMED: dict[str, Callable[[int, int], float]] = {"cosine": cosine, "constant": lambda step, total: 1.0}


class Schedule:
    """Sets the learning rate before each update, by a function of (update, updates in all) or a torch scheduler."""

    def __init__(self, optimizer: torch.optim.Optimizer, function: Any, scheduler: Any, total: int) -> None:
        self.optimizer, self.function, self.scheduler, self.total = optimizer, function, scheduler, total
        self.base = [group["lr"] for group in optimizer.param_groups]

    def before(self, step: int) -> None:
        """Set the learning rate of update ``step``, counted from 0."""
        if self.function is not None:
            factor = float(self.function(step, self.total))
            if not math.isfinite(factor):
                raise InputError(f"the schedule gives {factor} at update {step}; it must give a finite number")
            for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
                group["lr"] = base * factor

    def after(self) -> None:
        """Advance torch's scheduler, where there is one."""
        if self.scheduler is not None:
            self.scheduler.step()


def schedule_for(spec: Any, optimizer: torch.optim.Optimizer, total: int) -> Schedule:
    """The schedule that None, a name, a function of (update, updates in all) or a torch scheduler means.

    A torch scheduler is a class, (class, settings) or a partial; it is stepped after every update, and where its
    settings leave out T_max, total_steps or total_iters, these are the number of updates.
    """
    if spec is None or isinstance(spec, str):
        if spec is not None and spec not in _NAMED:
            raise InputError(
                f"there is no schedule '{spec[:40]}'; give {', '.join(_NAMED)}, a function, or a torch one"
            )
        return Schedule(optimizer, _NAMED[spec] if spec else None, None, total)
    made, settings = _scheduler(spec)
    if made is None:
        return Schedule(optimizer, spec, None, total)
    known = inspect.signature(made).parameters
    given = {name: total for name in ("T_max", "total_steps", "total_iters") if name in known} | settings
    try:
        return Schedule(optimizer, None, made(optimizer, **given), total)
    except (TypeError, ValueError) as error:
        raise InputError(f"the schedule {_spoken(made)} cannot be made: {str(error)[:200]}") from None


def _scheduler(spec: Any) -> tuple[Any, dict[str, Any]]:
    """A scheduler class of torch and its settings; None for a plain function."""
    if isinstance(spec, (tuple, list)) and len(spec) == 2 and isinstance(spec[1], Mapping):
        return _scheduler(spec[0])[0] or spec[0], dict(spec[1])
    if isinstance(spec, functools.partial) and isinstance(spec.func, type):
        return _scheduler(spec.func)[0], dict(spec.keywords)
    kinds = torch.optim.lr_scheduler
    if isinstance(spec, type) and issubclass(spec, kinds.LRScheduler):
        if issubclass(spec, kinds.ReduceLROnPlateau):
            raise InputError("ReduceLROnPlateau needs a figure at every step; give a schedule that depends on the step")
        return spec, {}
    if not callable(spec):
        raise InputError(
            f"{_spoken(spec)} is no schedule; give 'cosine', a function of (update, total), or a torch class"
        )
    return None, {}
