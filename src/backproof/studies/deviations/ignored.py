"""Settings that a class takes and does not read: its defaults count instead."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from ...optimizers import Optimizer
from .edits import Edit, everywhere
from .program import Program
from .search import Found
from .targets import Target, matches

__all__ = ["ignored", "subsets"]


def ignored(
    program: Program, targets: Sequence[Target], rule: Optimizer, defaults: Mapping[str, Any], accuracy: float
) -> Found | None:
    """The settings in whose place the defaults of the class count, if that explains where it goes."""
    other = {k: v for k, v in defaults.items() if _number(v) and k in program.names and v != rule.hyper[k]}
    for names in subsets(list(other)):
        new = program
        for name in names:
            new = everywhere(new, name, ast.Constant(float(other[name])))
        if matches(new, targets, accuracy):
            values = ", ".join(f"{n} {other[n]:g}" for n in names)
            verb = "counts" if len(names) == 1 else "count"
            words = f"{_and(names)} {'is' if len(names) == 1 else 'are'} ignored: the default ({values}) {verb}"
            return Found((Edit(new, "wrapped", _and(names), (), how=words),), (None,))
    return None


def subsets(names: list[str]) -> list[tuple[str, ...]]:
    """One name, two, three, then all."""
    few = [c for size in (1, 2, 3) for c in combinations(names, size)]
    return [*few, *([tuple(names)] if len(names) > 3 else [])]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
