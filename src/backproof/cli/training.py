"""Losses and optimizers by their names on the command line."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from backproof.errors import InputError

from .loading import is_address, load_object
from .settings import Value

if TYPE_CHECKING:
    import torch

__all__ = ["LOSSES", "loss_named", "optimizer_class", "optimizer_named"]

LOSSES = {
    "mse": "mse_loss",
    "l1": "l1_loss",
    "huber": "huber_loss",
    "smooth_l1": "smooth_l1_loss",
    "cross_entropy": "cross_entropy",
    "nll": "nll_loss",
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "kl_div": "kl_div",
    "poisson_nll": "poisson_nll_loss",
    "soft_margin": "soft_margin_loss",
    "multi_margin": "multi_margin_loss",
    "multilabel_margin": "multilabel_margin_loss",
}
"""What ``--loss`` may say, and the function of torch.nn.functional that it means."""


def loss_named(text: str, has_targets: bool) -> Callable[..., Any]:
    """Return a loss by its name, by torch's own name for it, or from the user's file."""
    import torch.nn.functional as F

    if is_address(text):
        return _own_loss(load_object(text), text)
    name = LOSSES.get(text, text)
    if name not in LOSSES.values():
        raise InputError(f"--loss {text}: no such loss. {_near(text, LOSSES)} Or write FILE.py:name.")
    if not has_targets:
        raise InputError(f"--loss {text} compares with targets: add --targets, written like --input.")
    loss: Callable[..., Any] = getattr(F, name)
    return loss


def _own_loss(found: object, text: str) -> Callable[..., Any]:
    from torch import nn

    if isinstance(found, type) and issubclass(found, nn.Module):
        found = found()
    if not callable(found) or isinstance(found, type):
        raise InputError(f"--loss {text} is a {type(found).__name__}, not a function of (output, targets).")
    return found


def optimizer_named(text: str, model: object, settings: Mapping[str, Value]) -> torch.optim.Optimizer:
    """Make an optimizer of torch.optim for a model's parameters, with what ``--set`` gave."""
    maker = optimizer_class(text)
    parameters = _parameters(model)
    known = [name for name in inspect.signature(maker).parameters if name != "params"]
    for key, value in settings.items():
        if key not in known:
            raise InputError(f"--set {key}: {maker.__name__} has no such setting. {_near(key, known)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"--set {key}={value}: this must be a finite number.")
    try:
        return maker(parameters, **settings)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        raise InputError(f"--optimizer {text} ({given or 'by default'}): {error}.") from None


def optimizer_class(text: str) -> Callable[..., torch.optim.Optimizer]:
    """Return the class of torch.optim of that name, in any case."""
    import torch

    classes = [thing for thing in vars(torch.optim).values() if isinstance(thing, type)]
    known = {c.__name__.lower(): c for c in classes if issubclass(c, torch.optim.Optimizer)}
    known.pop("optimizer", None)
    if text.lower() not in known:
        raise InputError(f"--optimizer {text}: torch.optim has none. {_near(text.lower(), known)}")
    return known[text.lower()]


def _parameters(model: object) -> list[torch.Tensor]:
    listed = getattr(model, "parameters", None)
    parameters = list(listed()) if callable(listed) else []
    if not parameters:
        raise InputError("--optimizer: the model has no parameters to update.")
    return parameters


def _near(text: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(text, names, n=3)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names)}."
