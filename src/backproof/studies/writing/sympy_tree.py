"""The formula of an elementwise operation as plain data, for an evaluator without SymPy."""

from __future__ import annotations

from typing import Any

import sympy

from ...ops import Elementwise

__all__ = ["Untranslatable", "tree_of_sympy"]


class Untranslatable(Exception):
    """A formula that the page cannot compute; the message says why, in words for a reader."""


_FUNCTIONS = (
    "exp log sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf Abs sign floor ceiling Max Min".split()
)
_RELATIONS = {
    sympy.StrictGreaterThan: ">", sympy.GreaterThan: ">=", sympy.StrictLessThan: "<", sympy.LessThan: "<=",
    sympy.Equality: "=", sympy.Unequality: "!=",
}  # fmt: skip


def tree_of_sympy(op: Elementwise, operands: int, attrs: dict[str, Any]) -> Any:
    """The operation's formula as nested lists; its operands are ``["x", 0]``, ``["x", 1]``...

    Raises:
        Untranslatable: the formula has a function that the page does not know.
    """
    xs = sympy.symbols(f"x0:{operands}", real=True)
    return _tree(sympy.sympify(op.formula(*xs, **attrs)))


def _tree(expr: Any) -> Any:
    if expr.is_Number or isinstance(expr, sympy.NumberSymbol):
        return int(expr) if expr.is_Integer else float(expr)
    if isinstance(expr, sympy.Symbol):
        return ["x", int(expr.name[1:])]
    if isinstance(expr, sympy.Piecewise):
        return ["cases", *(part for value, condition in expr.args for part in _case(value, condition))]
    if type(expr) in _RELATIONS:
        return [f"rel{_RELATIONS[type(expr)]}", *map(_tree, expr.args)]
    return [_head(expr), *map(_tree, expr.args)]


def _head(expr: Any) -> str:
    if isinstance(expr, (sympy.Add, sympy.Mul, sympy.Pow)):
        return {"Add": "+", "Mul": "*", "Pow": "^"}[type(expr).__name__]
    name = str(expr.func.__name__)
    if name not in _FUNCTIONS:
        raise Untranslatable(f"the page does not know the function {name}")
    return f"m{name}"


def _case(value: Any, condition: Any) -> list[Any]:
    return [_tree(value)] if condition is sympy.true else [_tree(value), _tree(condition)]
