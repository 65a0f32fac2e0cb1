"""Plain classes with ``parameters()`` and ``__call__``, as course templates have them, as an nn.Module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError

__all__ = ["as_module"]

_DEEPEST = 4


def as_module(model: Any) -> Any:
    """A module for a plain object whose ``parameters()`` gives its tensors; anything else as it is."""
    if isinstance(model, nn.Module) or not (callable(model) and hasattr(model, "parameters")):
        if not callable(model):
            raise InputError(f"the model is a {type(model).__name__}, which cannot be called")
        return model
    return _Plain(model)


class _Plain(nn.Module):
    """Holds a plain object and lends it this module's parameters during a forward pass."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.plain = [plain]
        tensors = _tensors(plain)
        wanted = {id(t) for t in _given(plain)}
        self.places: dict[str, tuple[Any, Any]] = {}
        for name, (holder, key, tensor) in tensors.items():
            if id(tensor) in wanted:
                self.places[name] = (holder, key)
                self.register_parameter(name.replace(".", "_"), nn.Parameter(tensor.detach().clone()))
        if len(self.places) < len(wanted):
            raise InputError(
                f"{type(plain).__name__}.parameters() returns a tensor that is none of its attributes, so it has no name; "
                "keep every parameter in an attribute (self.w = ...)"
            )
        self.forward = self._forward

    def __deepcopy__(self, memo: dict[int, Any]) -> _Plain:
        import copy

        twin = _Plain(copy.deepcopy(self.plain[0], memo))
        twin.load_state_dict(self.state_dict())
        return twin

    def _forward(self, *args: Any, **keywords: Any) -> Any:
        lent = {name: getattr(self, name.replace(".", "_")) for name in self.places}
        saved = {name: _get(*self.places[name]) for name in self.places}
        try:
            for name, place in self.places.items():
                _set(*place, lent[name])
            return self.plain[0](*args, **keywords)
        finally:
            for name, place in self.places.items():
                _set(*place, saved[name])


def _given(plain: Any) -> list[Tensor]:
    found = plain.parameters()
    found = [found] if isinstance(found, Tensor) else list(found)
    if not all(isinstance(t, Tensor) and t.is_floating_point() for t in found):
        raise InputError(f"{type(plain).__name__}.parameters() must return tensors of real numbers")
    return found


def _tensors(value: Any, prefix: str = "", depth: int = 0) -> dict[str, tuple[Any, Any, Tensor]]:
    """Every tensor in an object's attributes, lists and dicts: name -> (holder, key, tensor)."""
    found: dict[str, tuple[Any, Any, Tensor]] = {}
    for key, item in _items(value):
        name = f"{prefix}{key}"
        if isinstance(item, Tensor):
            found[name] = (value, key, item)
        elif depth < _DEEPEST and not isinstance(item, (str, bytes, int, float, torch.dtype, type)):
            found |= _tensors(item, f"{name}.", depth + 1)
    return found


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from ((k, v) for k, v in value.items() if isinstance(k, str))
    elif isinstance(value, list):
        yield from enumerate(value)
    elif hasattr(value, "__dict__"):
        yield from list(vars(value).items())


def _get(holder: Any, key: Any) -> Any:
    return holder[key] if isinstance(holder, (dict, list)) else getattr(holder, key)


def _set(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, (dict, list)):
        holder[key] = value
    else:
        setattr(holder, key, value)
