"""Exact numbers: the spelling ``pi/2 + 4`` becomes a formula tree. It is parsed, never evaluated."""

from __future__ import annotations

import ast
from collections.abc import Callable

from backproof.document.math import Add, Call, Div, Expr, Function, Mul, Neg, Pow, Sym

from .leaf import Digits

__all__ = ["exact_tree"]


def exact_tree(spelling: str) -> Expr | None:
    """Return the formula of an exact number's spelling, or None where it is not arithmetic.

    Args:
        spelling: as Python or SymPy write it: ``3/4``, ``sqrt(2)/3``, ``pi/2 + 4``, ``-2**(1/3)``.
    """
    try:
        return _tree(ast.parse(spelling.strip(), mode="eval").body)
    except (SyntaxError, ValueError, KeyError, RecursionError, MemoryError):
        return None


def _tree(node: ast.expr) -> Expr:
    match node:
        case ast.Constant(value=bool() | str() | bytes() | None):
            raise ValueError(node.value)
        case ast.Constant(value=value):
            return Digits(str(value))
        case ast.Name(id=name):
            return Sym({"E": "e", "I": "i"}.get(name, name))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Neg(_tree(operand))
        case ast.BinOp(left=left, op=sign, right=right):
            return _BINARY[type(sign)](_tree(left), _tree(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return Call(Function(name), tuple(_tree(arg) for arg in args))
    raise ValueError(ast.dump(node))


def _add(left: Expr, right: Expr) -> Expr:
    return Add((*(left.terms if isinstance(left, Add) else (left,)), right))


def _subtract(left: Expr, right: Expr) -> Expr:
    return _add(left, Neg(right))


def _multiply(left: Expr, right: Expr) -> Expr:
    if isinstance(left, Neg):
        return Neg(_multiply(left.arg, right))
    return Mul((*(left.factors if isinstance(left, Mul) else (left,)), right))


def _divide(left: Expr, right: Expr) -> Expr:
    return Neg(Div(left.arg, right)) if isinstance(left, Neg) else Div(left, right)


_BINARY: dict[type[ast.operator], Callable[[Expr, Expr], Expr]] = {
    ast.Add: _add,
    ast.Sub: _subtract,
    ast.Mult: _multiply,
    ast.Div: _divide,
    ast.Pow: Pow,
}
