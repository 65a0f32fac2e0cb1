"""Arbitrary differentiable functions of one variable: f, whose derivative is f', whose derivative is f''.

They are no entries of the table of operations: a formula problem declares them. Everything that needs only the chain
rule (the derivation, SymPy) reads them as they are; where numbers are wanted, :func:`base_of` says which function to
put in.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

from .base import Elementwise, Op, derivative
from .shapes import same

__all__ = ["FAMILY", "arbitrary", "base_of", "differentiated"]

FAMILY = "arbitrary"
_PARTS = re.compile(r"([^\W\d_]+)_?(\w*)")
_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@cache
def arbitrary(name: str) -> Elementwise:
    """The arbitrary function of this name, entry by entry; the same record for the same name.

    Its formula is SymPy's undefined function, so that SymPy too differentiates it.
    """

    def formula(x: Any) -> Any:
        import sympy

        return sympy.Function(name)(x)

    letter, below = _parts(name)
    latex = letter if len(letter) == 1 else rf"\mathrm{{{letter}}}"
    if greek := _greek(letter):
        letter, latex = greek, rf"\{letter}"
    script = below if below.isdigit() else rf"\mathrm{{{below}}}"
    return Elementwise(
        name=name,
        family=FAMILY,
        operands=("x",),
        shape=same,
        formula=formula,
        text=letter + below.translate(_BELOW) if below.isdigit() else letter + (f"_{below}" if below else ""),
        latex=f"{latex}_{{{script}}}" if below else latex,
        doc=f"An arbitrary differentiable function {name}.",
    )


def _parts(name: str) -> tuple[str, str]:
    found = _PARTS.fullmatch(name)
    return (found[1], found[2].replace("_", "")) if found else (name, "")


def _greek(word: str) -> str:
    """The small Greek letter of this name, or nothing."""
    if len(word) < 2 or word == "omicron":
        return ""
    try:
        return unicodedata.lookup(f"GREEK SMALL LETTER {word.upper()}") if word.islower() else ""
    except KeyError:
        return ""


def base_of(op: Op) -> tuple[str, int] | None:
    """The name of the arbitrary function behind an operation, and how often it is differentiated; None for others."""
    return (op.name.rstrip("'"), len(op.name) - len(op.name.rstrip("'"))) if op.family == FAMILY else None


def differentiated(op: Elementwise, times: int) -> Elementwise:
    """f differentiated so many times, for a function of one variable."""
    for _ in range(times):
        op = derivative(op, 0)
    return op
