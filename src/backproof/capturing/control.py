"""torch.cond, while_loop, map and scan as Python's own if and for, so that a run through them can be recorded.

torch compiles the functions given to them, even in a plain run; what they compute is by definition what is written here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

__all__ = ["plain_control_flow"]


def _cond(condition: Any, if_true: Callable[..., Any], if_false: Callable[..., Any], operands: Sequence[Any]) -> Any:
    return if_true(*operands) if bool(condition) else if_false(*operands)


def _while(
    condition: Callable[..., Any], body: Callable[..., Any], carried: Sequence[Any], more: Sequence[Any] = ()
) -> Any:
    values = tuple(carried)
    while bool(condition(*values, *more)):
        values = tuple(body(*values, *more))
    return values


def _map(function: Callable[..., Any], xs: Sequence[Tensor], args: Sequence[Any]) -> Any:
    rows = [function(*(x[i] for x in xs), *args) for i in range(xs[0].shape[0])]
    return _pytree.tree_map(lambda *parts: torch.stack(parts), rows[0], *rows[1:])


def _scan(
    combine: Callable[..., Any], init: Sequence[Any], xs: Sequence[Tensor], additional_inputs: Sequence[Any] = ()
) -> Any:
    """The carry goes from row to row: (the last carry, what each row gave, stacked)."""
    carry, rows = init, []
    for i in range(xs[0].shape[0]):
        carry, row = combine(*_pytree.tree_leaves(carry), *(x[i] for x in xs), *additional_inputs)
        rows.append(row)
    return carry, _pytree.tree_map(lambda *parts: torch.stack(parts), rows[0], *rows[1:])


def _running(combine: Any, xs: Sequence[Tensor], additional_inputs: Sequence[Any] = ()) -> Any:
    """associative_scan: each row combined with all before it."""
    carry = [x[0] for x in xs]
    rows = [carry]
    for i in range(1, xs[0].shape[0]):
        carry = list(combine(*carry, *(x[i] for x in xs), *additional_inputs))
        rows.append(carry)
    stacked = [torch.stack(parts) for parts in zip(*rows, strict=True)]
    return _pytree.tree_unflatten(stacked, combine.keywords["spec"])


def _at_once(function: Callable[..., Any], args: Sequence[Any], kwargs: Any = None) -> Any:
    return function(*args, **(kwargs or {}))


_INSTEAD: dict[str, dict[str, Callable[..., Any]]] = {
    "utils": {"_hop_compile_and_call": _at_once},
    "cond": {"cond_op": _cond},
    "while_loop": {"while_loop_op": _while},
    "map": {"map_impl": _map},
    "scan": {"scan_op": _scan},
    "associative_scan": {"associative_scan_op": _running},
}


@contextmanager
def plain_control_flow() -> Iterator[None]:
    """While in force, torch's control flow runs as Python's."""
    changed = []
    for name, functions in _INSTEAD.items():
        module = importlib.import_module(f"torch._higher_order_ops.{name}")
        for attribute, function in functions.items():
            if hasattr(module, attribute):
                changed.append((module, attribute, getattr(module, attribute)))
                setattr(module, attribute, function)
    try:
        yield
    finally:
        for module, attribute, original in changed:
            setattr(module, attribute, original)
