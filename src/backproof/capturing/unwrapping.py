"""The module inside a wrapper, and models that cannot be captured as they stand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import CaptureError

__all__ = ["plain_module", "without_numbers"]


def plain_module(model: Any, inputs: Any) -> Any:
    """The model itself: out of torch.compile and of data-parallel wrappers, lazy parameters made on a copy.

    Raises:
        CaptureError: a scripted or quantised model, whose Python code is gone.
    """
    while isinstance(model, nn.Module):
        if isinstance(model, torch.jit.ScriptModule):
            raise CaptureError(_SCRIPTED)
        if (inner := _inner(model)) is None:
            break
        model = inner
    if isinstance(model, torch.jit.ScriptFunction):
        raise CaptureError(_SCRIPTED)
    if not isinstance(model, nn.Module):
        return getattr(model, "_torchdynamo_orig_callable", model)
    _refuse_compiled(model)
    return _materialised(model, inputs) if _lazy(model) else model


_SCRIPTED = (
    "the model is compiled by TorchScript, and the lines behind it are gone; give the nn.Module or the function that it was "
    "made from"
)


def _inner(model: nn.Module) -> nn.Module | None:
    if isinstance(original := getattr(model, "_orig_mod", None), nn.Module):
        return original
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return model.module if isinstance(model, parallel) else None


def _refuse_compiled(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise CaptureError(
                f"in the module '{name}', {_SCRIPTED.removeprefix('the model ')}".replace(", is", ": it is")
            )
        kind = f"{type(module).__module__}.{type(module).__name__}"
        if ".quantized" in type(module).__module__ and ".modules" in type(module).__module__:
            raise CaptureError(
                f"the module '{name}' is quantised ({kind}): its weights are integers, through which no gradient passes; "
                "give the model before quantisation"
            )


def _lazy(model: nn.Module) -> bool:
    return any(nn.parameter.is_lazy(p) for p in (*model.parameters(), *model.buffers()))


def _materialised(model: nn.Module, inputs: Any) -> nn.Module:
    """A copy whose lazy parameters have their shapes, from a first run; the user's model stays as it is."""
    twin = copy.deepcopy(model)
    keywords = dict(inputs) if isinstance(inputs, Mapping) else {}
    args = () if keywords else tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    try:
        with torch.no_grad():
            twin(*args, **keywords)
    except Exception as error:
        raise CaptureError(
            f"the model has lazy parameters, and its first run fails: {type(error).__name__}: {str(error)[:200]}"
        ) from None
    return twin


def without_numbers(model: nn.Module) -> bool:
    """Whether the model's parameters are on the device "meta": shapes without numbers."""
    return any(p.is_meta for p in model.parameters())
