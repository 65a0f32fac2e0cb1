"""Formulas as one types them: the language of TOML problems, "(y - t) * f3'(s_out) * z2", which the reader reads back.

Only formulas of single numbers have such a form here: whole tensors are written as a page shows them.
"""

from __future__ import annotations

from collections.abc import Callable

from ..document.math import Add, Call, Cases, Div, Expr, Indicator, Mul, Neg, Num, Pow, Rel, Sym

__all__ = ["NotTyped", "typed"]


class NotTyped(Exception):
    """The formula has a part that the language of problems has no word for."""


_SUM, _PRODUCT, _SIGNED, _POWER, _ATOM = range(5)


def typed(expr: Expr, name: Callable[[Sym], str]) -> str:
    """A formula in the language of problems.

    Args:
        expr: a formula of single numbers.
        name: from a symbol to the name of its quantity.

    Raises:
        NotTyped: a part of it has no form there.
    """
    return _Typist(name).at(expr, _SUM)


class _Typist:
    def __init__(self, name: Callable[[Sym], str]) -> None:
        self.name = name

    def at(self, expr: Expr, level: int) -> str:
        """The formula for a place, in parentheses where it holds together less than the place asks for."""
        text, own = self.write(expr)
        return text if own >= level else f"({text})"

    def write(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, Sym):
            return self.name(expr), _ATOM
        if isinstance(expr, Num):
            return _number(expr)
        if isinstance(expr, Add):
            return self.sum(expr), _SUM
        if isinstance(expr, Neg):
            return f"-{self.at(expr.arg, _POWER)}", _SIGNED
        if isinstance(expr, Mul):
            return " * ".join(self.at(f, _SIGNED if i == 0 else _POWER) for i, f in enumerate(expr.factors)), _PRODUCT
        if isinstance(expr, Div):
            return f"{self.at(expr.top, _PRODUCT)} / {self.at(expr.bottom, _POWER)}", _PRODUCT
        if isinstance(expr, Pow):
            return f"{self.at(expr.base, _ATOM)}**{self.at(expr.exponent, _ATOM)}", _POWER
        return self.other(expr)

    def sum(self, expr: Add) -> str:
        text = self.at(expr.terms[0], _PRODUCT)
        for term in expr.terms[1:]:
            sign, body = ("-", term.arg) if isinstance(term, Neg) else ("+", term)
            text += f" {sign} {self.at(body, _PRODUCT)}"
        return text

    def other(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, Call) and expr.op:
            settings = [f"{key}={value!r}" for key, value in expr.attrs]
            return f"{expr.op}({', '.join([*(self.at(a, _SUM) for a in expr.args), *settings])})", _ATOM
        if isinstance(expr, Rel):
            sign = "==" if expr.sign == "=" else expr.sign
            return f"({self.at(expr.left, _SUM)} {sign} {self.at(expr.right, _SUM)})", _ATOM
        if isinstance(expr, Indicator):
            return self.at(expr.relation, _ATOM), _ATOM
        if isinstance(expr, Cases):
            return self.cases(expr), _ATOM
        raise NotTyped(type(expr).__name__)

    def cases(self, expr: Cases) -> str:
        *rows, (last, condition) = expr.rows
        if condition is not None:
            raise NotTyped("cases that leave something open")
        text = self.at(last, _SUM)
        for value, test in reversed(rows):
            assert test is not None
            text = f"where({self.at(test, _SUM)}, {self.at(value, _SUM)}, {text})"
        return text


def _number(expr: Num) -> tuple[str, int]:
    text = expr.exact if expr.exact is not None else f"{expr.value!r}"
    if isinstance(expr.value, float) and expr.exact is None and expr.value.is_integer() and abs(expr.value) < 1e15:
        text = str(int(expr.value))
    plain = text.replace(".", "").isalnum()
    return text, _ATOM if plain else _SIGNED if text.startswith("-") and text[1:].replace(".", "").isalnum() else _SUM
