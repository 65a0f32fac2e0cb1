"""What a model is captured on: example inputs in a normal form with their names, and losses by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path

from ..errors import InputError
from .containers import opened

__all__ = ["LOSSES", "Example", "leaf_names", "loss_function"]

LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "smooth_l1": F.smooth_l1_loss,
    "cross_entropy": F.cross_entropy,
    "nll": F.nll_loss,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "soft_margin": F.soft_margin_loss,
    "hinge_embedding": F.hinge_embedding_loss,
    "kl_div": F.kl_div,
    "poisson_nll": F.poisson_nll_loss,
    "sum": torch.sum,
    "mean": torch.mean,
}


def loss_function(loss: Any) -> Callable[..., Any] | None:
    """A loss by its name, or the callable that it is already."""
    if loss is None or callable(loss):
        given: Callable[..., Any] | None = loss
        return given
    if loss in LOSSES:
        return LOSSES[loss]
    raise InputError(
        f"there is no loss called '{loss}'; known: {', '.join(LOSSES)}, or give a function of (output, targets)"
    )


@dataclass(frozen=True)
class Example:
    """Example inputs in a normal form: positional, keyword, and the names of their leaves in order."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    names: tuple[str, ...]

    @staticmethod
    def of(model: Any, inputs: Any) -> Example:
        """Read a tensor, a tuple or a dict of keywords; tensors are named after the parameters of ``forward``."""
        keywords = dict(inputs) if isinstance(inputs, Mapping) else {}
        args = () if keywords else tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        args, keywords = opened(args), opened(keywords)
        function = model.forward if isinstance(model, nn.Module) else model
        names = _parameter_names(function, len(args))
        named = [*zip(names, args, strict=True), *keywords.items()]
        return Example(args, keywords, tuple(n for name, value in named for n in leaf_names(name, value)))


def _parameter_names(function: Any, count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [n for n in names if n != "self"] if names[:1] == ["self"] else names
    return (names + [f"x{i + 1}" for i in range(len(names), count)])[:count]


def leaf_names(name: str, value: Any) -> list[str]:
    """The names of a value's leaves, as torch flattens it: ``pair1``, ``pair2``, ``batch.image``."""
    return [name + "".join(_step(key) for key in path) for path, _ in tree_flatten_with_path(value)[0]]


def _step(key: Any) -> str:
    return f"{key.idx + 1}" if hasattr(key, "idx") else f".{getattr(key, 'key', getattr(key, 'name', key))}"
