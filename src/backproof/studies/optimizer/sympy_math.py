"""SymPy's formulas as the page prints them: 1 - βᵗ and not -(βᵗ - 1), fractions as fractions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from ...document.math import Add, BigSum, Call, Cases, Div, Expr, Function, Mul, Neg, Num, Pow, Rel, Sym
from ...notation import named

__all__ = ["formula_of"]


def formula_of(value: Any, symbols: Mapping[str, Expr] | None = None) -> Expr:
    """A SymPy formula as a formula of the page.

    Args:
        value: the formula.
        symbols: how its symbols are written, by name; by their names otherwise.
    """
    return _Scribe(symbols or {}).expr(sympy.sympify(value))


_FUNCTIONS = {
    "Abs": Function("abs"), "Max": Function("max", "max", r"\max"), "Min": Function("min", "min", r"\min"),
    "log": Function("ln", "ln", r"\ln"), "sign": Function("sign", "sgn", r"\operatorname{sgn}"),
    "floor": Function("floor", "floor", r"\operatorname{floor}"),
}  # fmt: skip


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
        if isinstance(e, (sympy.Sum, sympy.Product)):
            (index, low, high) = e.limits[0]
            kind = "sum" if isinstance(e, sympy.Sum) else "prod"
            return BigSum(self.expr(e.function), str(index), self.expr(low), self.expr(high), sign=kind)
        if isinstance(e, sympy.Piecewise):
            return Cases(tuple((self.expr(v), None if test == sympy.true else self.expr(test)) for v, test in e.args))
        if isinstance(e, sympy.core.relational.Relational):
            return Rel(e.rel_op, self.expr(e.lhs), self.expr(e.rhs))
        return self._named(e) if isinstance(e, AppliedUndef) else self._call(e)

    def _named(self, e: Any) -> Expr:
        """A value by its name, at an update: d(k) as d with subscript k."""
        own = named(str(e.func))
        at = str(e.args[0]).replace(" - ", "-").replace(" + ", "+")
        return Sym(own.name, (*(s for s in own.sub if s != "t"), at), own.sup, own.accent)

    def _call(self, e: Any) -> Expr:
        name = str(e.func.__name__)
        own = _FUNCTIONS.get(name, Function(name))
        return Call(own, tuple(self.expr(a) for a in e.args), own.name)

    def _sum(self, e: Any) -> Expr:
        """The terms with the positive ones first, numbers and powers of least degree in front."""
        terms = [(self.expr(x), x) for x in e.as_ordered_terms()]
        return Add(tuple(own for own, _ in sorted(terms, key=lambda p: (isinstance(p[0], Neg), not p[1].is_Number))))

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
    if any(x.is_Symbol and x.is_integer for x in e.args):  # t - 1, an update before this one
        return False
    number = e.as_coeff_Add()[0]
    if number != 0:
        return bool(number < 0)
    signs = [bool(x.could_extract_minus_sign()) for x in e.args]
    return 2 * sum(signs) > len(signs) or (
        not even and 2 * sum(signs) == len(signs) and bool(e.could_extract_minus_sign())
    )
