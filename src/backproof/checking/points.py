"""Other places to look: inputs made from the given ones so that branches are entered which the given ones leave out.

A mistake behind ``if |x| > δ`` does not show at inputs that are all small. The values are made smaller, larger, of mixed sizes,
reversed and equal; a tensor that is nowhere negative stays so, and one within [0, 1] stays there. Indices are drawn again
from those that occur, so that some repeat. What branches are then left out is looked at by :mod:`.branches`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .branches import branch_points
from .program import Program

__all__ = ["elsewhere"]

RECIPES = ("larger", "smaller", "much larger", "of mixed sizes", "reversed in sign", "shifted", "with repeated indices")


def elsewhere(program: Program, seed: int) -> Iterator[tuple[str, Program]]:
    """Programs at other inputs, each with what was done to the inputs in a word; those that cannot run are left out."""
    tried = []
    for number, recipe in enumerate(RECIPES):
        generator = torch.Generator().manual_seed(seed + number)
        moved = _moved(program, recipe, generator)
        if moved is not None and _runs(moved):
            tried.append(moved)
            yield recipe, moved
    yield from branch_points(program, tried, _kept)


def _runs(program: Program) -> bool:
    try:
        return all(bool(o.isfinite().all()) for o in program.at(program.start))
    except (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError, AssertionError):
        return False


def _moved(program: Program, recipe: str, generator: torch.Generator) -> Program | None:
    if recipe == "with repeated indices":
        flat = [_repeated(v, generator) for v in program.flat]
        changed = any(a is not b for a, b in zip(flat, program.flat, strict=True))
        return replace(program, flat=flat) if changed else None
    return replace(program, start=tuple(_shaped(v, recipe, generator) for v in program.start))


def _repeated(value: Any, generator: torch.Generator) -> Any:
    """Indices drawn from those that occur; half of them the same one."""
    if not isinstance(value, Tensor) or value.dtype not in (torch.int64, torch.int32) or value.numel() < 2:
        return value
    flat = value.reshape(-1)
    drawn = flat[torch.randint(0, flat.numel(), flat.shape, generator=generator).to(flat.device)].clone()
    drawn[: max(flat.numel() // 2, 1)] = drawn[0]
    return drawn[torch.randperm(flat.numel(), generator=generator).to(flat.device)].reshape(value.shape)


def _shaped(value: Tensor, recipe: str, generator: torch.Generator) -> Tensor:
    if value.is_complex() or not value.numel():
        return value.clone()
    size = float(value.abs().mean()) or 1.0
    return _kept(_recipe(value.double(), recipe, size, generator), value)


def _kept(moved: Tensor, value: Tensor) -> Tensor:
    """What is nowhere negative stays so, and what lies within [0, 1] stays there."""
    if value.is_complex() or not value.numel():
        return value.clone()
    low, high = float(value.min()), float(value.max())
    if low >= 0:
        moved = moved.abs()
    if low >= 0 and high <= 1:
        moved = moved.clamp(low, high) if high > low else value
    return moved.to(value.dtype)


def _recipe(value: Tensor, recipe: str, size: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(value.shape, dtype=torch.float64, generator=generator).to(value.device)
    fresh = value + 0.1 * size * noise
    if recipe == "larger":
        return 4 * fresh
    if recipe == "smaller":
        return fresh / 16
    if recipe == "much larger":
        return 30 * fresh
    if recipe == "of mixed sizes":
        return fresh * torch.exp(
            2 * torch.randn(value.shape, dtype=torch.float64, generator=generator).to(value.device)
        )
    if recipe == "reversed in sign":
        return -fresh
    return fresh + 3 * size * (1 if float(value.mean()) <= 0 else -1)
