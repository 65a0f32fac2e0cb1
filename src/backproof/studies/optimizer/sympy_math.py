"""SymPy's formulas as the page prints them: 1 - βᵗ and not -(βᵗ - 1), fractions as fractions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy

from ...document.math import Add, BigSum, Call, Div, Expr, Function, Mul, Neg, Num, Pow, Sym
from ...notation import named

__all__ = ["formula_of"]


def formula_of(value: Any, symbols: Mapping[str, Expr] | None = None) -> Expr:
    """A SymPy formula as a formula of the page.

    Args:
        value: the formula.
        symbols: how its symbols are written, by name; by their names otherwise.
    """
    return _Scribe(symbols or {}).expr(sympy.sympify(value))


class _Scribe:
    def __init__(self, symbols: Mapping[str, Expr]) -> None:
        self.symbols = symbols

    def expr(self, e: Any) -> Expr:
        if e.is_Symbol:
            return self.symbols.get(e.name) or named(e.name)
        if e.is_Rational and not e.is_Integer:
            sign, size = (-1, -e) if e < 0 else (1, e)
            return _signed(sign, Div(Num(int(size.p)), Num(int(size.q))))
        if e.is_Number or isinstance(e, sympy.NumberSymbol):
            return _number(e)
        if isinstance(e, sympy.Add):
            return self._sum(e)
        if isinstance(e, (sympy.Mul, sympy.Pow)):
            return self._product(e)
        if isinstance(e, sympy.Sum):
            (index, low, high) = e.limits[0]
            return BigSum(self.expr(e.function), str(index), self.expr(low), self.expr(high))
        return self._call(e)

    def _call(self, e: Any) -> Expr:
        name = str(e.func.__name__)
        own = {"Abs": "abs", "Max": "maximum", "Min": "minimum"}.get(name, name)
        return Call(Function(own), tuple(self.expr(a) for a in e.args), own)

    def _sum(self, e: Any) -> Expr:
        """The terms with the positive ones first, numbers and powers of least degree in front."""
        terms = sorted(e.as_ordered_terms(), key=lambda x: (_negative(x), not x.is_Number))
        return Add(tuple(Neg(self.expr(-x)) if _negative(x) else self.expr(x) for x in terms))

    def _product(self, e: Any) -> Expr:
        sign, top, bottom = 1, [], []
        for factor in sympy.Mul.make_args(e):
            base, exponent = factor.as_base_exp()
            below = not isinstance(exponent, sympy.Add) and _negative(exponent)
            size = -exponent if below else exponent
            if isinstance(base, sympy.Add) and size.is_Integer and _turned(base, even=size % 2 == 0):
                base, sign = -base, sign * (-1) ** int(size)
            if factor.is_Rational:
                sign *= -1 if factor < 0 else 1
                top += [sympy.Integer(abs(factor.p))] if abs(factor.p) != 1 else []
                bottom += [sympy.Integer(factor.q)] if factor.q != 1 else []
            else:
                (bottom if below else top).append((base, size))
        over = self._row(top)
        return _signed(sign, Div(over, self._row(bottom)) if bottom else over)

    def _row(self, factors: list[Any]) -> Expr:
        made = [self._power(*f) if isinstance(f, tuple) else self.expr(f) for f in factors]
        if not made:
            return Num(1)
        return made[0] if len(made) == 1 else Mul(tuple(made))

    def _power(self, base: Any, exponent: Any) -> Expr:
        if exponent == 1:
            return self.expr(base)
        if exponent == sympy.Rational(1, 2):
            return Call(Function("sqrt"), (self.expr(base),), "sqrt")
        return Pow(self.expr(base), self.expr(exponent))


def _number(e: Any) -> Expr:
    if e.is_Integer:
        return _signed(-1 if e < 0 else 1, Num(abs(int(e))))
    if not e.is_Rational and not e.is_Float:
        return named(str(e).lower()) if e.is_NumberSymbol else Sym(str(e))
    return _signed(-1 if e < 0 else 1, Num(abs(float(e))))


def _signed(sign: int, e: Expr) -> Expr:
    return Neg(e) if sign < 0 else e


def _negative(e: Any) -> bool:
    return bool(e.could_extract_minus_sign()) if not isinstance(e, sympy.Add) else _turned(e)


def _turned(e: Any, even: bool = False) -> bool:
    """Whether a sum reads better with all signs turned: its number is negative, or more of its terms are."""
    number = e.as_coeff_Add()[0]
    if number != 0:
        return bool(number < 0)
    signs = [bool(x.could_extract_minus_sign()) for x in e.args]
    return 2 * sum(signs) > len(signs) or (
        not even and 2 * sum(signs) == len(signs) and bool(e.could_extract_minus_sign())
    )
