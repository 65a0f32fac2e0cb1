"""Comparing gradients entry by entry: first against rounding alone, then, where they differ, against the running error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checked import Entry
from .program import Input
from .rounding import SHAKE, spread

__all__ = ["Gradients", "Masks", "any_wrong", "both", "count", "entries", "quick_masks", "tolerances", "wrong_masks"]

Gradients = Sequence[Tensor | None]
Masks = list[Tensor]
CLOSE = 1e-12
MOST_ENTRIES = 100_000


@dataclass(frozen=True)
class _Pair:
    claimed: Tensor
    expected: Tensor


def _pair(claimed: Tensor | None, expected: Tensor | None, like: Tensor) -> _Pair:
    """Both in double precision; no gradient counts as zero."""
    dtype = torch.complex128 if like.is_complex() else torch.float64
    zero = torch.zeros(like.shape, dtype=dtype)
    a = zero if claimed is None else claimed.detach().to("cpu", dtype)
    b = zero if expected is None else expected.detach().to("cpu", dtype)
    return _Pair(a, b)


def _off(pair: _Pair, allowed: Tensor | float) -> Tensor:
    """Where two tensors differ by more than allowed; what is not finite must be the same."""
    difference = (pair.claimed - pair.expected).abs()
    same = (pair.claimed == pair.expected) | (pair.claimed.isnan() & pair.expected.isnan())
    return ~((difference <= allowed) | same)


def _close(c: Tensor, e: Tensor) -> bool:
    """Whether two gradients agree to 1e-12 everywhere; nothing that is not finite does."""
    return bool((c - e).abs().max() <= CLOSE * e.abs().max()) and bool(e.abs().max().isfinite())


def quick_masks(claimed: Gradients, expected: Gradients, values: Sequence[Tensor]) -> Masks:
    """Where gradients differ by more than 1e-12 of the largest entry of their tensor."""
    found = []
    for c, e, like in zip(claimed, expected, values, strict=True):
        if c is not None and e is not None and c.dtype == e.dtype and c.numel() and _close(c, e):
            found.append(torch.zeros(like.shape, dtype=torch.bool))
            continue
        pair = _pair(c, e, like)
        finite = pair.expected[pair.expected.isfinite()].abs()
        found.append(_off(pair, CLOSE * float(finite.max()) if finite.numel() else 0.0))
    return found


def tolerances(
    runs: Sequence[Callable[[], Gradients]], centres: Sequence[Gradients], values: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """For each entry what rounding may make of it: twenty times the running errors of all computations together."""
    own_rounding = max((torch.finfo(v.dtype).eps for v in values), default=0.0)
    shake = max(
        SHAKE, own_rounding**0.5 / 4 if own_rounding > 1e-12 else 0.0
    )  # far above what the computation rounds by itself
    total = [torch.zeros(v.shape, dtype=torch.float64) for v in values]
    for number, (run, centre) in enumerate(zip(runs, centres, strict=True)):
        for i, moved in enumerate(spread(run, centre, 17 * number + 1, shake)):
            if moved is None or not moved.numel():
                continue
            own = centre[i]
            assert own is not None
            size = own.detach().abs().double().cpu()
            moved = moved.nan_to_num(0.0, 0.0, 0.0)
            total[i] += 20 * moved + 20 * size.nan_to_num(0.0, 0.0, 0.0) + 2 * moved.square().mean().sqrt()
            if eps < 1e-12:
                total[i] += 32 * float(size[size.isfinite()].max()) if size.isfinite().any() else 0.0
    return [eps * t for t in total]


def wrong_masks(claimed: Gradients, expected: Gradients, values: Sequence[Tensor], allowed: Sequence[Tensor]) -> Masks:
    """Where gradients differ by more than allowed."""
    return [_off(_pair(c, e, v), a) for c, e, v, a in zip(claimed, expected, values, allowed, strict=True)]


def any_wrong(masks: Masks) -> bool:
    """Whether any entry is wrong."""
    return any(bool(m.any()) for m in masks)


def count(masks: Masks) -> int:
    """How many entries are wrong."""
    return sum(int(m.sum()) for m in masks)


def both(a: Masks, b: Masks, either: bool = False) -> Masks:
    """Where both (or either) say wrong."""
    return [x | y if either else x & y for x, y in zip(a, b, strict=True)]


def entries(masks: Masks, claimed: Gradients, expected: Gradients, names: Sequence[Input]) -> tuple[Entry, ...]:
    """The wrong entries with both numbers."""
    found: list[Entry] = []
    for name, mask, c, e in zip(names, masks, claimed, expected, strict=True):
        places = mask.nonzero()[: MOST_ENTRIES - len(found)]
        at = tuple(places.unbind(1))
        rows = zip(places.tolist(), _numbers(c, at, len(places)), _numbers(e, at, len(places)), strict=True)
        found += [Entry(name, tuple(index), a, b) for index, a, b in rows]
    return tuple(found)


def _numbers(tensor: Tensor | None, at: tuple[Tensor, ...], many: int) -> list[Any]:
    if tensor is None:
        return [None] * many
    chosen = tensor.detach().cpu()[at] if at else tensor.detach().reshape(-1)[:many]
    return chosen.reshape(-1).tolist()
