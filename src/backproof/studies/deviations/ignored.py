"""Settings that a class takes and does not read: its defaults count instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from ...optimizers import Optimizer
from .edits import Edit, everywhere
from .program import Program
from .search import Found
from .switches import turned_off
from .targets import Target, matches

__all__ = ["ignored", "subsets", "unread", "unused", "without_flag"]


def ignored(
    program: Program, targets: Sequence[Target], rule: Optimizer, defaults: Mapping[str, Any], accuracy: float
) -> Found | None:
    """The settings in whose place the defaults of the class count, if that explains where it goes."""
    for edit in unread(program, rule, defaults):
        if matches(edit.program, targets, accuracy):
            return Found((edit,), (None,))
    return None


def unused(start: Program, found: Program, rule: Optimizer, said: str) -> str:
    """Words for the settings that the rule reads and the program with the deviation does not, unless it is said in plain words."""
    plain = _outside_brackets(said)
    gone = [n for n in rule.hyper if n in start.names and n not in found.names]
    untold = [n for n in gone if n not in plain and n.replace("_", " ") not in plain]
    return f"; {_and(untold)} {'counts' if len(untold) == 1 else 'count'} for nothing" if untold else ""


def without_flag(rule: Optimizer, shape: tuple[int, ...], targets: Sequence[Target], accuracy: float, said: str) -> str:
    """Words for a flag that is set and makes no difference."""
    flags = [n for n, value in rule.hyper.items() if value is True and f"{n} is ignored" not in said]
    without = (n for n in flags if (e := turned_off(rule, n, shape)) and matches(e, targets, accuracy))
    return "".join(f": it goes as without {n}" for n in without)


def _outside_brackets(text: str) -> str:
    while (inner := re.sub(r"\([^()]*\)", "", text)) != text:
        text = inner
    return text


def unread(program: Program, rule: Optimizer, defaults: Mapping[str, Any], most: int = 9) -> Iterator[Edit]:
    """The rule with the defaults of the class in the place of one setting, two, three (at most so many), all."""
    other = {k: v for k, v in defaults.items() if _number(v) and k in program.names and v != rule.hyper[k]}
    for names in (s for s in subsets(list(other)) if len(s) <= most):
        new = program
        for name in names:
            new = everywhere(new, name, ast.Constant(float(other[name])))
        values = ", ".join(f"{n} {other[n]:g}" for n in names)
        verb = "counts" if len(names) == 1 else "count"
        words = f"{_and(names)} {'is' if len(names) == 1 else 'are'} ignored: the default ({values}) {verb}"
        yield Edit(new, "wrapped", _and(names), (), how=words)


def subsets(names: list[str]) -> list[tuple[str, ...]]:
    """One name, two, three, then all."""
    few = [c for size in (1, 2, 3) for c in combinations(names, size)]
    return [*few, *([tuple(names)] if len(names) > 3 else [])]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
