"""The grammar: a small part of Python's expression syntax, parsed by ``ast`` and checked node by node."""

from __future__ import annotations

import ast
import re

from ..errors import FormulaError

__all__ = ["MAX_LENGTH", "PRIME", "called_names", "names_in", "parse", "primed"]

PRIME = "\N{MODIFIER LETTER PRIME}"
"""What the apostrophe of f'(s) is while ``ast`` reads the formula: a letter to Python, so that f' is a name."""
_PRIMES = re.compile(r"(?<![\w'\"])([^\W\d]\w*)(['′]{1,9})(?=\s*\()")
MAX_LENGTH = 2000
MAX_DEPTH = 200

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.MatMult, ast.UAdd, ast.USub)
_RELATIONS = (ast.Gt, ast.Lt, ast.GtE, ast.LtE, ast.Eq, ast.NotEq)
_PLAIN = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Name, ast.Load, ast.Slice, ast.Tuple, ast.keyword)


def parse(text: str, place: str = "the formula") -> ast.expr:
    """Return the syntax tree of a formula, or refuse it.

    Allowed are numbers, names, ``+ - * / ** @``, comparisons, function calls by name, ``f'(x)`` for the derivative of a
    function, ``x[0]``, ``x[:, 1]`` and ``x.T``. ``^`` is refused with the advice to write ``**``.

    Args:
        text: the formula.
        place: how a message calls it ("the formula of 'L' in problem.toml").

    Raises:
        FormulaError: it is too long, not an expression, or uses something else.
    """
    if not isinstance(text, str):
        raise FormulaError(f'{place} must be a text in quotes such as "w @ x", not {text!r}')
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"{place} has {len(text)} characters, and the limit is {MAX_LENGTH}; split it into named steps"
        )
    try:
        tree = ast.parse(_PRIMES.sub(_as_letters, text.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FormulaError(f"{place} is not an expression: {_short(text)}; write it as in sin(w @ x) - b") from None
    _check(tree, text, place, 0)
    return tree.body


def _as_letters(found: re.Match[str]) -> str:
    return found[1] + PRIME * len(found[2])


def primed(name: str) -> tuple[str, int]:
    """A called name without its primes, and their number: f3'(s) calls ("f3", 1)."""
    bare = name.rstrip(PRIME)
    return bare, len(name) - len(bare)


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
    return text if len(text) <= 80 else text[:77] + "..."


def _check(node: ast.AST, text: str, place: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormulaError(f"{place} is nested more than {MAX_DEPTH} deep; split it into named steps")
    if problem := _problem(node):
        raise FormulaError(
            f"{place} uses {problem}: {_short(text)}. A formula has numbers, names, + - * / ** @, "
            "comparisons, functions by name, x[0] and x.T"
        )
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.keyword) and isinstance(child, ast.Constant) and isinstance(child.value, str):
            continue  # a word as a setting, as in gelu(x, approximate='tanh')
        _check(child, text, place, depth + 1)


def _problem(node: ast.AST) -> str | None:
    """What is not allowed about this node, if anything."""
    if isinstance(node, (*_PLAIN, *_OPERATORS, *_RELATIONS)):
        return None
    if isinstance(node, ast.Constant):
        ok = node.value is None or (isinstance(node.value, (int, float)) and abs(node.value) < 1e300)
        return None if ok else f"{type(node.value).__name__} {_short(repr(node.value))}"
    if isinstance(node, ast.Attribute):
        return None if node.attr == "T" else f"the attribute .{node.attr}"
    if isinstance(node, ast.Call):
        return None if isinstance(node.func, ast.Name) else "a call of something that is not a plain function name"
    if isinstance(node, ast.Subscript):
        return None
    if isinstance(node, ast.Compare):
        return None if len(node.ops) == 1 else "a chain of comparisons"
    if isinstance(node, ast.BitXor):
        return "^, which is not a power; write **"
    return type(node).__name__


def names_in(tree: ast.AST) -> list[str]:
    """The names that a formula uses as quantities, in reading order."""
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    return list(dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called))


def called_names(tree: ast.AST) -> list[str]:
    """The functions that a formula calls."""
    return [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
