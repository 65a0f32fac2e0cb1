"""Dataclasses and plain objects that hold tensors, as containers that torch can take apart and put together."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor
from torch.utils import _pytree

__all__ = ["closed", "opened", "opened_output"]


class _Opened:
    """A dataclass of the user's, taken apart into its fields."""

    def __init__(self, kind: type, fields: dict[str, Any]) -> None:
        self.kind, self.fields = kind, fields


def _flatten(value: _Opened) -> tuple[list[Any], Any]:
    return list(value.fields.values()), (value.kind, tuple(value.fields))


def _with_keys(value: _Opened) -> tuple[list[tuple[Any, Any]], Any]:
    values, context = _flatten(value)
    return [(_pytree.GetAttrKey(name), x) for name, x in zip(value.fields, values, strict=True)], context


def _unflatten(values: Any, context: Any) -> _Opened:
    kind, names = context
    return _Opened(kind, dict(zip(names, values, strict=True)))


_pytree.register_pytree_node(
    _Opened,
    _flatten,
    _unflatten,
    serialized_type_name="backproof.dataclass",
    flatten_with_keys_fn=_with_keys,
)


def _is_foreign(value: Any) -> bool:
    """Whether it is an instance of a dataclass that torch does not know as a container."""
    known = type(value) in _pytree.SUPPORTED_NODES
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and not known


def opened(value: Any) -> Any:
    """The same containers with every dataclass taken apart."""

    def open_one(x: Any) -> Any:
        if not _is_foreign(x):
            return x
        fields = {f.name: opened(getattr(x, f.name)) for f in dataclasses.fields(x) if f.init}
        return _Opened(type(x), fields)

    return _pytree.tree_map(open_one, value)


def closed(value: Any) -> Any:
    """The same containers with every dataclass put together again."""

    def close_one(x: Any) -> Any:
        if not isinstance(x, _Opened):
            return x
        return x.kind(**{name: closed(field) for name, field in x.fields.items()})

    return _pytree.tree_map(close_one, value, is_leaf=lambda x: isinstance(x, _Opened))


def opened_output(value: Any) -> Any:
    """What a model returns, with the tensors inside dataclasses and plain objects under their names."""

    def open_one(x: Any) -> Any:
        plain = isinstance(x, (Tensor, str, bytes, int, float, complex, type(None)))
        if plain or callable(x) or not (_is_foreign(x) or hasattr(x, "__dict__")):
            return x
        inside = {name: opened_output(part) for name, part in vars(x).items()}
        return inside if any(isinstance(p, Tensor) for p in _pytree.tree_leaves(inside)) else None

    return _pytree.tree_map(open_one, value)
