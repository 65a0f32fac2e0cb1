"""Formulas as plain Unicode on one line: s₁ = 0.75·0.6 + 0.8·0.01, ∂L/∂W = Xᵀ δ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from unicodedata import combining

from backproof.document.math import BigSum, Call, Cases, Div, Expr, Matrix, Mul, Num, Partial, Pow, Rel, Sym

from .escape import clean
from .leaf import Digits
from .notation import character, negative, number_tree, script_parts, scripted
from .printer import RELATIONS, Level, Printer

__all__ = ["TextPrinter", "number_text", "text_of"]

_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303"}


class TextPrinter(Printer):
    """Prints formulas as plain Unicode text."""

    flat = True
    operators = {sign: f" {shown} " for sign, shown in RELATIONS.items()} | {
        "plus": " + ", "minus": " − ", "neg": "−", "dot": "·", "spaced dot": " · ", "odot": " ⊙ ", "ast": " ∗ ", "star": " ⋆ ", "none": "",
        "thin": " ", "comma": ", ",
    }  # fmt: skip

    def row(self, pieces: Sequence[str]) -> str:
        return "".join(pieces)

    def fence(self, body: str, content: tuple[Expr, ...], marks: str = "()") -> str:
        return f"{marks[0]}{body}{marks[1]}"

    def digits(self, text: str) -> str:
        return text

    def words(self, text: str) -> str:
        return clean(text)

    def name(self, name: str) -> str:
        return clean(character(name))

    def print_sym(self, sym: Sym, within: Level) -> str:
        name = self.name(sym.name) + _ACCENTS.get(sym.accent, "")
        return name + _lowered(sym.sub) + (_raised(sym.sup) if sym.sup else "")

    def _between(self, mul: Mul, place: int) -> str:
        """A letter without scripts keeps a space before the next, so that p s is no word."""
        sign, left, right = super()._between(mul, place), mul.factors[place - 1], mul.factors[place]
        bare = isinstance(left, Sym) and not left.sub and not left.sup
        return "thin" if sign == "none" and bare and isinstance(right, (Sym, Pow)) else sign

    def _is_tight(self, factor: Expr) -> bool:
        return super()._is_tight(factor) and "_" not in self.show(factor, Level.FACTOR)

    def function(self, name: str, call: Call) -> str:
        return clean(call.function.text or character(name)) + _lowered(call.function.sub) + "′" * call.function.primes

    def applied(self, function: str, arguments: str) -> str:
        return function + arguments

    def radical(self, expr: Expr) -> str:
        body = self(expr)
        return f"√{body}" if self.level(expr) == Level.ATOM and _is_short(body) else f"√({body})"

    def power(self, base: str, exponent: Expr) -> str:
        body = self(exponent)
        raised = scripted(body, raised=True) if " " not in body else None
        return base + raised if raised else f"{base}^{self.show(exponent, Level.ATOM)}"

    def transposed(self, base: str) -> str:
        return f"{base}ᵀ"

    def print_div(self, div: Div, within: Level) -> str:
        leading = within <= Level.LEADING and negative(div.top)
        top = self.show(div.top, Level.LEADING if leading else Level.PRODUCT)
        return f"{top}/{self.show(div.bottom, Level.POWER)}"

    def print_partial(self, partial: Partial, within: Level) -> str:
        return f"∂{self.show(partial.top, Level.POWER)}/∂{self.show(partial.bottom, Level.POWER)}"

    def print_bigsum(self, total: BigSum, within: Level) -> str:
        sign = "∏" if total.sign == "prod" else "∑"
        return f"{sign}{self._bounds(total)} {self.show(total.body, Level.TERM)}"

    def _bounds(self, total: BigSum) -> str:
        index = clean(character(total.index))
        if isinstance(total.lower, Rel):
            return f"_({self(total.lower)})"
        if total.lower is None and total.upper is None:
            return _lowered((total.index,)) if index else ""
        lower, upper = (self(bound) if bound else "" for bound in (total.lower, total.upper))
        return f"_({index}={lower}..{upper})" if lower else f"_({index}≤{upper})"

    def print_cases(self, cases: Cases, within: Level) -> str:
        rows = [f"{self(value)} {f'if {self(test)}' if test else 'otherwise'}" for value, test in cases.rows]
        return "{ " + "; ".join(rows) + " }"

    def print_matrix(self, matrix: Matrix, within: Level) -> str:
        return "[" + "; ".join(", ".join(self(entry) for entry in row) for row in matrix.rows) + "]"


def _lowered(parts: tuple[str, ...]) -> str:
    if not parts:
        return ""
    names = [clean(character(part)) for part in parts]
    small = [None if _has_words(name) else scripted(name) for name in names]
    if None not in small:
        comma = "," if any(len(name) > 1 for name in names) else ""
        return comma.join(text for text in small if text)
    return "_" + ",".join(name if name.isalnum() else f"({name})" for name in names)


def _has_words(name: str) -> bool:
    return any(part.kind in ("word", "text") for part in script_parts(name))


_HATTED = re.compile(r"([A-Za-z]+)(?=\u0302)")


def _raised(parts: tuple[str, ...]) -> str:
    text = ",".join(clean(_HATTED.sub(lambda word: character(word[1]), character(part))) for part in parts)
    return scripted(f"({text})", raised=True) or f"^({text})"


def _is_short(body: str) -> bool:
    return "".join(sign for sign in body if sign != "." and not combining(sign)).isalnum()


_printer = TextPrinter()


def text_of(expr: Expr) -> str:
    """Return a formula as one line of plain text.

    >>> text_of(Sym("delta", sub=("out",)) * Sym("w", sub=("1",)))
    'δ_out w₁'
    """
    return _printer(expr)


def number_text(number: Num) -> str:
    """Return a number as it stands in a table cell, ``−0.0179`` or ``1.97·10⁻⁵``."""
    tree = number_tree(number)
    return tree.text if isinstance(tree, Digits) else _printer(tree)
