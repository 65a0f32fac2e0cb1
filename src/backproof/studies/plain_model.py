"""Plain classes with ``parameters()`` and ``__call__``, as course templates have them, as an nn.Module."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


class _Lender:
    """A plain object and the places of its tensors: (holder, key) by name.

    It is opaque on purpose: torch.export rebuilds the dicts and lists among a module's attributes.
    """

    def __init__(self, plain: Any) -> None:
        self.plain = plain
        wanted = {id(t) for t in _given(plain)}
        found = {name: place for name, place in _tensors(plain).items() if id(place[2]) in wanted}
        if len(found) < len(wanted):
            raise InputError(
                f"{type(plain).__name__}.parameters() returns a tensor that is none of its attributes, so it has no name; "
                "keep every parameter in an attribute (self.w = ...)"
            )
        self.places = {name.replace(".", "_"): (holder, key) for name, (holder, key, _) in found.items()}
        self.tensors = {name.replace(".", "_"): tensor for name, (_, _, tensor) in found.items()}

    @contextmanager
    def lent(self, tensors: Mapping[str, Tensor]) -> Iterator[Any]:
        """The object with these tensors in the places of its own."""
        saved = {name: _get(*place) for name, place in self.places.items()}
        try:
            for name, place in self.places.items():
                _set(*place, tensors[name])
            yield self.plain
        finally:
            for name, place in self.places.items():
                _set(*place, saved[name])


class _Plain(nn.Module):
    """Holds a plain object and lends it this module's parameters during a forward pass."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.lender = _Lender(plain)
        for name, tensor in self.lender.tensors.items():
            self.register_parameter(name, nn.Parameter(tensor.detach().clone()))

    def __deepcopy__(self, memo: dict[int, Any]) -> _Plain:
        twin = _Plain(copy.deepcopy(self.lender.plain, memo))
        twin.load_state_dict(self.state_dict())
        return twin

    def forward(self, *args: Any, **keywords: Any) -> Any:
        """Call the plain object with this module's parameters in place of its own tensors."""
        with self.lender.lent({name: getattr(self, name) for name in self.lender.places}) as plain:
            return plain(*args, **keywords)


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
