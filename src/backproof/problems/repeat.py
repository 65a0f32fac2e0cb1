"""Formulas that repeat: [repeat] of a problem file, with an index and a depth that is a number or a symbol.

    [repeat]
    index = "l"
    to = "L"
    [repeat.given]
    W_l = "symbol"
    f_l = "function"
    [repeat.model]
    s_l = "W_l * z_(l-1)"
    z_l = "f_l(s_l)"

stands for s_1, z_1, s_2, z_2..., z_L. The formulas of [model] that mention L (z_L) come after it, the others before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import FormulaError
from .problem import FormulaProblem

__all__ = ["MOST", "Repeat", "expanded", "read_repeat"]

MOST = 200
_KEYS = ("index", "from", "to", "given", "model")
_LETTER = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class Repeat:
    """What repeats: the letter of the index, its first value, its last (a number or a letter), the givens and formulas."""

    index: str
    first: int
    to: str | int
    given: Mapping[str, Any]
    model: Mapping[str, str]


def read_repeat(table: Mapping[str, Any], place: str) -> Repeat:
    """Read the table.

    Raises:
        FormulaError: a key is unknown or missing, or the index is no letter.
    """
    for key in table:
        if key not in _KEYS:
            raise FormulaError(f"{place} has an unknown key '{key}'; known: {', '.join(_KEYS)}")
    index, to = table.get("index", "l"), table.get("to")
    if not isinstance(index, str) or not _LETTER.fullmatch(index):
        raise FormulaError(f"{place}: the index must be one letter, not {index!r}")
    is_letter = isinstance(to, str) and _LETTER.fullmatch(to) and to != index
    is_number = isinstance(to, int) and not isinstance(to, bool) and 1 <= to <= MOST
    if not is_letter and not is_number:
        raise FormulaError(
            f'{place}: to must be a letter other than the index, as in to = "L", or 1 to {MOST}, not {to!r}'
        )
    first = table.get("from", 1)
    if not isinstance(first, int) or isinstance(first, bool) or not 0 <= first <= MOST:
        raise FormulaError(f"{place}: from must be a number, such as 1, not {first!r}")
    model, given = table.get("model", {}), table.get("given", {})
    if not isinstance(model, Mapping) or not isinstance(given, Mapping) or not model:
        raise FormulaError(
            f'{place} needs [repeat.model] with formulas such as s_{index} = "W_{index} * z_({index}-1)"'
        )
    for name in (*given, *model):
        if not _mentions(name, index):
            raise FormulaError(f"{place}: the name '{name}' must end in its index, as '{name}_{index}' does")
    assert to is not None
    return Repeat(index, first, to, dict(given), dict(model))


def _token(letter: str) -> re.Pattern[str]:
    return re.compile(rf"_(?:{letter}(?!\w)|\({letter}\s*(?:([+-])\s*(\d+))?\))")


def _mentions(text: str, letter: str) -> bool:
    return _token(letter).search(text) is not None


def _put(text: str, letter: str, value: int) -> str:
    def number(match: re.Match[str]) -> str:
        moved = value + (int(match[2]) if match[1] == "+" else -int(match[2]) if match[1] else 0)
        return f"_{moved}"

    return _token(letter).sub(number, text)


def expanded(problem: FormulaProblem, depth: int) -> FormulaProblem:
    """The problem with its repeated formulas written out up to a depth.

    Args:
        problem: a problem with ``repeat``.
        depth: the last value of the index.

    Raises:
        FormulaError: the depth is out of range.
    """
    repeat = problem.repeat
    assert repeat is not None
    if not repeat.first <= depth <= MOST:
        raise FormulaError(f"the depth must be {repeat.first} to {MOST}, not {depth}")
    letter = repeat.to if isinstance(repeat.to, str) else ""
    steps = range(repeat.first, depth + 1)

    def at_end(text: str) -> str:
        return _put(text, letter, depth) if letter else text

    def each(names: Mapping[str, Any]) -> dict[str, Any]:
        return {_put(n, repeat.index, k): _put(v, repeat.index, k) if isinstance(v, str) else v
                for k in steps for n, v in names.items()}  # fmt: skip

    items = list(problem.model.items())
    tail = f"_{depth}" if not letter else ""
    cut = next((i for i, (n, v) in enumerate(items) if _is_after(n + " " + v, letter, tail)), len(items))
    after = {at_end(n): at_end(v) for n, v in items[cut:]}
    model = {**dict(items[:cut]), **each(repeat.model), **after}
    given = {**problem.given, **each(repeat.given)}
    return replace(
        problem, given=given, model=model, repeat=None, parameters=_all(problem.parameters, repeat, steps, at_end),
        gradients=_all(problem.gradients, repeat, steps, at_end),
    )  # fmt: skip


def _is_after(text: str, letter: str, tail: str) -> bool:
    """Whether a formula uses what the repetition ends with: z_L, or z_3 where the depth is 3."""
    return _mentions(text, letter) if letter else re.search(rf"{tail}(?!\w)", text) is not None


def _all(names: tuple[str, ...], repeat: Repeat, steps: range, at_end: Any) -> tuple[str, ...]:
    """Names with an index stand for all values of it."""
    found: list[str] = []
    for name in names:
        whole = _mentions(name, repeat.index)
        found += [_put(at_end(name), repeat.index, k) for k in steps] if whole else [at_end(name)]
    return tuple(found)
