"""Derive a network whose depth is a symbol: ``bp.derive(model, x, depth="L")``, or a problem with [repeat] to = "L"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...errors import InputError
from ...result import written
from ..verdicts import Evidence
from .backward import Backward
from .check import AUTOGRAD, Draws, confirm
from .depth import General, generalise
from .folding import Entry, changed

__all__ = ["AtDepth", "ByDepth", "by_depth", "checked_symbol"]

BUILT_FROM = 4
CHECKED = (3, 6)
DEPTHS = "the derivation of this depth itself"


@dataclass(frozen=True)
class AtDepth:
    """A derivation at one depth: the work, the numbers that are given, the arbitrary functions."""

    work: Backward
    start: Mapping[str, Tensor]
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ByDepth:
    """The general derivation, how one is made at a number of repeats, and its evidence."""

    general: General
    make: Callable[[int], AtDepth]
    evidence: tuple[Evidence, ...]


def checked_symbol(symbol: Any) -> str:
    """The letter of a depth.

    Raises:
        InputError: it is none, or the index of the repeated equations.
    """
    if not isinstance(symbol, str) or not re.fullmatch(r"[A-Za-z]", symbol) or symbol == "l":
        raise InputError(f'the depth must be one letter, such as depth="L" (l is the index of a layer), not {symbol!r}')
    return symbol


def by_depth(make: Callable[[int], AtDepth], symbol: str) -> ByDepth:
    """Derive at two depths, generalise, and check at two others.

    Args:
        make: the derivation at a number of repeats.
        symbol: the letter of the depth.

    Raises:
        InputError: the equations have no common form.
    """
    one, two = make(BUILT_FROM), make(BUILT_FROM + 1)
    general = generalise(_folded(one.work), _folded(two.work), BUILT_FROM, symbol)
    rows: list[Evidence] = []
    for repeats in CHECKED:
        rows += _checked(general, make(repeats), repeats)
    return ByDepth(general, make, tuple(rows))


def _folded(work: Backward) -> list[list[Any]]:
    return [work.folds(lines) for lines in (work.forward, work.backward, work.gradients)]


def _checked(general: General, found: AtDepth, repeats: int) -> list[Evidence]:
    """Whether the general equations, with a depth put in, are those of this depth, and whether these are right."""
    depth, work = repeats + general.offset, found.work
    ours = [_said(e) for section in general.sections() for g in section for e in g.at(general.symbol, depth)]
    theirs = [_said(Entry(changed(line.left, str), changed(line.right, str))) for line in work.lines]
    what = f"the general equations with {general.symbol} = {depth}"
    same = sum(a == b for a, b in zip(ours, theirs, strict=False))
    agrees = ours == theirs
    rows = [Evidence(what, DEPTHS, agrees, 0.0 if agrees else 1.0, same, len(theirs))]
    evidence = confirm(work, dict(found.start), found.functions, Draws(repeats))
    compared = [e for e in evidence if e.oracle == AUTOGRAD and e.agrees is not None]
    worst = max((e.error or 0.0 for e in compared), default=None)
    ok = all(e.agrees for e in compared) if compared else None
    rows.append(Evidence(f"{what}: every gradient", AUTOGRAD, ok, worst, len(compared), len(compared)))
    return rows


def _said(entry: Entry) -> str:
    return f"{written(entry.left)[0]} = {written(entry.right)[0]}"
