"""Exact numbers: the entries domain over SymPy numbers, so that pi/2 + 4 stays pi/2 + 4 and sin(2 pi) is 0.

Exact arithmetic has a budget: three updates of a small net grow past any page. Beyond it :class:`TooLarge` is
raised and the caller goes on in floats, saying where.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sympy

from ..errors import BackproofError
from ..ops import Elementwise, Op
from .entries import Array, Entries

__all__ = ["BUDGET", "TooLarge", "as_exact", "exact", "spelled"]

BUDGET = 80


class TooLarge(BackproofError):
    """An exact number has grown past the budget of operations."""


def as_exact(value: Any) -> Any:
    """The exact number that a person means: 0.1 is one tenth, True is 1."""
    if isinstance(value, sympy.Basic):
        return value
    if isinstance(value, float):
        return sympy.Rational(repr(value))
    return sympy.Integer(int(value))


@lru_cache(maxsize=4096)
def _tidy(value: Any) -> Any:
    """The shorter of the number as it stands and expanded; refuses what has outgrown the budget."""
    if value.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
        raise TooLarge("the exact value is not a real number")
    size = value.count_ops()
    if size > 3 * BUDGET or _digits_in(value) > 400:
        raise TooLarge("an exact number has outgrown its budget")
    if size <= 2:
        return value
    wide = sympy.expand(value)
    best = wide if wide.count_ops() < size else value
    if best.count_ops() > BUDGET:
        raise TooLarge("an exact number has outgrown its budget")
    return best


def _digits_in(value: Any) -> int:
    return sum(len(str(abs(r.p))) + len(str(r.q)) for r in value.atoms(sympy.Rational))


class _Exact:
    def number(self, value: Any) -> Any:
        return as_exact(value)

    def apply(self, op: Op, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        assert isinstance(op, Elementwise)
        if op.name == "pow" and abs(args[1]) > 1000:
            raise TooLarge("a power is too large to be written out")
        exact_attrs = {k: as_exact(v) if isinstance(v, float) else v for k, v in attrs.items()}
        result = _tidy(sympy.sympify(op.formula(*args, **exact_attrs)))
        if not result.is_real:
            raise TooLarge("the exact value is not a real number")
        return result

    def largest(self, values: list[Any], sign: int) -> Any:
        best = values[0]
        for value in values[1:]:
            if (value - best) * sign > 0:
                best = value
        return best

    def where_largest(self, values: list[Any]) -> dict[int, Any]:
        return {values.index(self.largest(values, 1)): self.number(1)}


class _ExactEntries(Entries):
    def apply(self, node: Any, operands: Any) -> Array:
        result = super().apply(node, operands)
        for place, value in _items(result):
            if isinstance(value, sympy.Basic):
                result = result if result.flags.writeable else result.copy()
                result[place] = _tidy(value)
        return result


def _items(array: Array) -> list[tuple[tuple[int, ...], Any]]:
    import numpy as np

    return [(place, array[place]) for place in np.ndindex(*array.shape)]


exact = _ExactEntries(_Exact())


def spelled(array: Array) -> Any:
    """The exact numbers as nested lists of SymPy's spelling; a scalar as one string."""
    return str(array[()]) if array.ndim == 0 else [spelled(row) if row.ndim else str(row[()]) for row in _rows(array)]


def _rows(array: Array) -> list[Any]:
    import numpy as np

    return [np.asarray(array[i], dtype=object) for i in range(array.shape[0])]
