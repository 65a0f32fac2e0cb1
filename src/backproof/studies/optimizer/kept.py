"""What an optimizer keeps per parameter, counted by taking steps with torch's own class on a twin parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError

__all__ = ["SHAPE", "Kept", "classes", "measured"]

SHAPE = (256, 128)
MOST_STEPS = 60


@dataclass(frozen=True)
class Kept:
    """What was found in ``optimizer.state`` after one step on a 256 x 128 matrix.

    Args:
        values: name -> numbers kept per parameter (a fraction where rows and columns are kept instead of entries).
        bytes: name -> bytes per parameter.
        scalars: name -> bytes per tensor of what is one number (a step count); 0 for a Python number.
    """

    values: dict[str, float]
    bytes: dict[str, float]
    scalars: dict[str, int]

    @property
    def total(self) -> float:
        """The numbers kept per parameter, all together."""
        return sum(self.values.values())


def classes() -> dict[str, Any]:
    """The optimizers of torch.optim by their names in lower case."""
    found = {n.lower(): getattr(torch.optim, n) for n in dir(torch.optim)}
    kinds = {n: c for n, c in found.items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)}
    kinds.pop("optimizer", None)
    return kinds


def measured(kind: Any, settings: Mapping[str, Any] | None = None, dtype: torch.dtype = torch.float32) -> Kept:
    """Take one step of an optimizer class on a twin parameter and count what it keeps.

    Raises:
        InputError: the class cannot be made with these settings, or cannot take a step.
    """
    return _measured(kind, tuple(sorted((settings or {}).items())), dtype)


@lru_cache(maxsize=128)
def _measured(kind: Any, settings: tuple[tuple[str, Any], ...], dtype: torch.dtype) -> Kept:
    generator = torch.Generator().manual_seed(0)
    twin = torch.randn(SHAPE, generator=generator, dtype=torch.float32).to(dtype).requires_grad_()
    slope = torch.randn(SHAPE, generator=generator, dtype=torch.float32).to(dtype)
    try:
        optimizer = kind([twin], **dict(settings))
        _step(optimizer, twin, slope)
    except (Exception, SystemExit) as error:  # a user's own code may raise anything
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"{kind.__name__} could not take a step on a twin parameter: {said}") from None
    values: dict[str, float] = {}
    sizes: dict[str, float] = {}
    scalars: dict[str, int] = {}
    for name, value in optimizer.state.get(twin, {}).items():
        tensors = list(_tensors(value))
        count = sum(t.numel() for t in tensors)
        if count > 1 and any(t.numel() > 1 for t in tensors):
            values[name] = count / twin.numel()
            sizes[name] = sum(t.numel() * t.element_size() for t in tensors) / twin.numel()
        elif value is not None:
            scalars[name] = sum(t.numel() * t.element_size() for t in tensors)
    return Kept(values, sizes, scalars)


def _step(optimizer: Any, twin: Tensor, slope: Tensor) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        _fill(optimizer, twin, slope)
        return
    twin.grad = slope.to_sparse() if isinstance(optimizer, torch.optim.SparseAdam) else slope
    optimizer.step()


def _fill(optimizer: Any, twin: Tensor, slope: Tensor) -> None:
    """Steps of LBFGS on a loss that goes on curving, until it keeps as many pairs as it ever will."""
    turn = [0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        turn[0] += 1
        shifted = twin - slope.roll(turn[0], 0)
        loss = (shifted.abs() ** 1.5 + shifted**2 / 2 * (1 + slope.abs())).sum()
        loss.backward()
        return loss

    history = optimizer.param_groups[0]["history_size"]
    for _ in range(MOST_STEPS):
        optimizer.step(closure)
        if len(optimizer.state[twin].get("old_dirs") or ()) >= history:
            return


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
