"""Given quantities: numbers, exact expressions such as "pi/2", and nested lists of them, as SymPy sees them."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sympy

from ..errors import FormulaError
from .parse import parse

__all__ = ["CONSTANTS", "Declared", "Given", "declared", "read_quantity"]

MAX_ENTRIES = 100_000
MAX_AXES = 4
LARGEST = 1e300
CONSTANTS: dict[str, Any] = {"pi": sympy.pi, "e": sympy.E}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)


@dataclass(frozen=True)
class Given:
    """A given quantity: nested lists of exact or float numbers, its shape, and whether it is exact.

    Args:
        value: a number or nested lists of numbers (SymPy numbers where written exactly).
        shape: its shape.
        exact: whether every entry is an integer or an exact expression (a decimal fraction is not).
    """

    value: Any
    shape: tuple[int, ...]
    exact: bool

    def flat(self) -> list[Any]:
        """The entries in reading order."""
        return _flatten(self.value)


@dataclass(frozen=True)
class Declared:
    """A given without a number: a quantity of some shape, or an arbitrary differentiable function."""

    kind: Literal["symbol", "function"]
    shape: tuple[int, ...] = ()


def declared(value: Any, place: str) -> Declared | None:
    """What ``"symbol"``, ``{symbol = [3, 2]}`` or ``"function"`` declares; None for a number.

    Raises:
        FormulaError: the shape is none.
    """
    if value in ("symbol", "function"):
        return Declared(value)
    if not isinstance(value, Mapping) or set(value) != {"symbol"}:
        return None
    shape = value["symbol"]
    plain = isinstance(shape, (list, tuple)) and all(type(n) is int and n > 0 for n in shape)
    if not plain or len(shape) > MAX_AXES or math.prod(shape) > MAX_ENTRIES:
        raise FormulaError(
            f"{place} is a symbol of the shape {shape!r}; a shape is a list of up to {MAX_AXES} sizes, as in "
            f"{{symbol = [3, 2]}}, with at most {MAX_ENTRIES} entries in all"
        )
    return Declared("symbol", tuple(shape))


def _flatten(value: Any) -> list[Any]:
    return [x for item in value for x in _flatten(item)] if isinstance(value, list) else [value]


def read_quantity(value: Any, place: str) -> Given:
    """Read a given number, an exact expression such as "pi/2", or nested lists of them.

    Raises:
        FormulaError: an entry is not a finite number, or the lists are ragged.
    """
    shape = _shape(value, place)
    if math.prod(shape) > MAX_ENTRIES:
        raise FormulaError(
            f"{place} has {math.prod(shape)} entries, more than {MAX_ENTRIES}; a problem file is for small nets, "
            "use a Python problem for large ones"
        )
    numbers = _map(value, lambda v: _number(v, place))
    exact = all(isinstance(v, (int, sympy.Basic)) for v in _flatten(numbers))
    return Given(numbers, shape, exact)


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    return [_map(item, change) for item in value] if isinstance(value, (list, tuple)) else change(value)


def _shape(value: Any, place: str) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    shapes = {_shape(item, place) for item in value}
    if len(shapes) != 1:
        raise FormulaError(
            f"{place} is empty or its rows differ in length; give a number, a list, or a list of equal rows"
        )
    return (len(value), *shapes.pop())


def _number(value: Any, place: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise FormulaError(f'{place} must be numbers (or exact ones in quotes, as "pi/2"), not {value!r}')
    if value in ("symbol", "function"):
        raise FormulaError(f"{place} is a {value} where a number is needed; only a given by itself can be a {value}")
    if isinstance(value, str):
        return _exact(parse(value, place), value, place)
    if not abs(value) < LARGEST:
        kind = value if isinstance(value, float) else "a whole number beyond 1e300"
        raise FormulaError(f"{place} contains {kind}; every given must be a finite number")
    return value


def _exact(tree: ast.expr, text: str, place: str) -> Any:
    return _fold(tree, text, place)


_EXACT_FUNCTIONS: dict[str, Any] = {
    "sqrt": sympy.sqrt,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "exp": sympy.exp,
    "log": sympy.log,
    "ln": sympy.log,
    "tanh": sympy.tanh,
    "abs": sympy.Abs,
}


def _fold(tree: ast.expr, text: str, place: str) -> Any:
    """Compute an exact number from its syntax tree; every number on the way is real and below 1e300."""

    def refuse(what: str) -> FormulaError:
        return FormulaError(
            f"{place}: {what} in {text!r}; an exact number is made of digits, pi, e, + - * / ** and sqrt, sin, ..."
        )

    def go(node: ast.expr) -> Any:
        number = step(node)
        if number.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo) or number.is_real is not True:
            raise FormulaError(f"{place}: {text} is not a finite real number")
        if not abs(float(number)) < LARGEST:
            raise refuse("a number beyond 1e300")
        return number

    def step(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return sympy.Rational(repr(node.value))
        if isinstance(node, ast.Name) and node.id in CONSTANTS:
            return CONSTANTS[node.id]
        if isinstance(node, ast.UnaryOp):
            return go(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        if isinstance(node, ast.Call) and len(node.args) == 1 and getattr(node.func, "id", "") in _EXACT_FUNCTIONS:
            return _EXACT_FUNCTIONS[node.func.id](go(node.args[0]))  # type: ignore[attr-defined]
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return arithmetic(type(node.op), go(node.left), go(node.right))
        raise refuse(f"'{ast.unparse(node)}' is not a number")

    def arithmetic(kind: type[ast.AST], a: Any, b: Any) -> Any:
        if kind is ast.Pow and abs(b) > 100:
            raise refuse("a power beyond 100")
        if kind is ast.Pow and a != 0 and abs(float(b) * math.log(abs(a))) > math.log(LARGEST):
            raise refuse("a power beyond 1e300")
        if kind is ast.Div and b == 0:
            raise refuse("a division by zero")
        table: dict[Any, Callable[[], Any]] = {
            ast.Add: lambda: a + b,
            ast.Sub: lambda: a - b,
            ast.Mult: lambda: a * b,
            ast.Div: lambda: a / b,
            ast.Pow: lambda: a**b,
        }
        if kind not in table:
            raise refuse("a matrix product")
        return table[kind]()

    return go(tree)
