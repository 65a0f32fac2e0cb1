"""An update rule as a program that can be edited: its equations as syntax trees, run on many probes at once.

The trees are those of the rule's own text. What differs between the first update and the later ones becomes a case
distinction over t, unless the later equation gives the same from a state of zeros.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...optimizers import Optimizer
from .rounding import ROUNDED

__all__ = [
    "Line", "Path", "Program", "Run", "broken_into", "counted", "jointly", "numbers_of", "program_of", "put", "sites", "text_of",
]  # fmt: skip

Path = tuple[tuple[str, int | None], ...]
Array = Any
MOST_UPDATES = 32
"""As many as any probe has."""


@dataclass(frozen=True)
class Line:
    """One assignment."""

    name: str
    tree: ast.expr

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that it reads; functions are none."""
        return frozenset(n.id for _, n in sites(self.tree) if isinstance(n, ast.Name))


@dataclass(frozen=True)
class Program:
    """The assignments of one update.

    Args:
        lines: in order; names are parameters of the rule, its state, w, g, t, and what was assigned before. ``m_old`` is the
            value before the update, ``g_old`` the gradient before this one, ``lr_first`` the rate at the start, ``lr_old`` that of the
            update before, ``w_first`` the start of w, ``i`` and
            ``n`` the place of the parameter and their number, ``ndim`` and ``numel`` its axes and entries, ``norm_all``
            the norm of the gradients of all parameters, ``f_t`` the factor of this update in ``table``.
        state: the names that carry over.
        narrow: the states that are rounded after each update.
        precision: what they are rounded to.
        shared: the states that all parameters have in common, each going on where the one before left them.
        table: a number per update.
        early: other lines that count in the first updates.
        until: the last update in which they do.
    """

    lines: tuple[Line, ...]
    state: tuple[str, ...]
    narrow: tuple[str, ...] = ()
    precision: str = "float32"
    shared: tuple[str, ...] = ()
    table: tuple[float, ...] = ()
    early: tuple[Line, ...] = ()
    until: int = 0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that any line uses."""
        return tuple(sorted(frozenset[str]().union(*(line.names for line in self.lines))))


def _axes(x: Array, dim: int | None) -> Any:
    return tuple(range(1, np.ndim(x))) if dim is None else dim


def _either(pair: Any, fold: Any) -> Any:
    def run(x: Array, y: Array = None, dim: int | None = None, keepdim: bool = True) -> Array:
        return fold(x, axis=_axes(x, dim), keepdims=True) if y is None else pair(x, y)

    return run


def _folded(fold: Any) -> Any:
    return lambda x, dim=None, keepdim=True: fold(x, axis=_axes(x, dim), keepdims=True)


FUNCTIONS: dict[str, Any] = {
    "sqrt": np.sqrt, "abs": np.abs, "sign": np.sign, "where": np.where, "square": np.square, "floor": np.floor,
    "tanh": np.tanh, "arctan": np.arctan, "log": np.log,
    "max": _either(np.maximum, np.max), "min": _either(np.minimum, np.min),
    "mean": _folded(np.mean), "sum": _folded(np.sum),
    "norm": lambda x, dim=None, keepdim=True: np.sqrt(np.sum(np.square(x), axis=_axes(x, dim), keepdims=True)),
    "mean_last": lambda x: np.mean(x, axis=-1, keepdims=True) if np.ndim(x) > 1 else x,
    "mean_first": lambda x: np.mean(x, axis=1, keepdims=True) if np.ndim(x) > 2 else x,
    "row_mean": lambda x: np.mean(x, axis=tuple(range(2, np.ndim(x))), keepdims=True) if np.ndim(x) > 2 else 0.0,
    "column_mean": lambda x: np.mean(x, axis=1, keepdims=True) if np.ndim(x) > 2 else 0.0,
    **ROUNDED,
}  # fmt: skip
"""Functions of formulas as functions of arrays with the probes along the first axis."""
OPERATIONS: dict[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.MatMult: operator.matmul, ast.Gt: operator.gt, ast.Lt: operator.lt, ast.GtE: operator.ge,
    ast.LtE: operator.le, ast.Eq: operator.eq, ast.USub: operator.neg,
}  # fmt: skip


def value(tree: Any, scope: Mapping[str, Any]) -> Any:
    """The value of a formula; most edits are run once and differ in the first update, so that nothing is compiled."""
    if isinstance(tree, ast.Name):
        return scope[tree.id]
    if isinstance(tree, ast.Constant):
        return tree.value
    if isinstance(tree, ast.BinOp):
        return OPERATIONS[type(tree.op)](value(tree.left, scope), value(tree.right, scope))
    if isinstance(tree, ast.Call):
        named = {str(k.arg): value(k.value, scope) for k in tree.keywords}
        return FUNCTIONS[tree.func.id](*[value(x, scope) for x in tree.args], **named)  # type: ignore[attr-defined]
    if isinstance(tree, ast.UnaryOp):
        return OPERATIONS[type(tree.op)](value(tree.operand, scope))
    if isinstance(tree, ast.Compare):
        return OPERATIONS[type(tree.ops[0])](value(tree.left, scope), value(tree.comparators[0], scope))
    return np.swapaxes(value(tree.value, scope), -1, -2)  # the attribute .T: matrices are the last two axes


def program_of(rule: Optimizer, shape: tuple[int, ...]) -> Program:
    """A rule's equations for parameters of a shape, all updates in one program."""
    found, last = _parsed(rule.equations(1, shape)), rule.equations(1, shape)
    for t in range(2, MOST_UPDATES + 1):
        now = rule.equations(t, shape)
        if now != last:
            found, last = _joined(found, _parsed(now), t - 1, rule), now
    return Program(found, rule.state_of(shape))


def _parsed(equations: Sequence[tuple[str, str]]) -> tuple[Line, ...]:
    return tuple(Line(n, ast.parse(text, mode="eval").body) for n, text in equations)


def _joined(early: tuple[Line, ...], late: tuple[Line, ...], last: int, rule: Optimizer) -> tuple[Line, ...]:
    """The late program, with cases where the early one has another formula for the same value."""
    left = dict(_numbered(early))
    joined = []
    for key, line in _numbered(late):
        old = left.get(key)
        if old is None or ast.unparse(old.tree) == ast.unparse(line.tree):
            joined.append(line)
        elif last == 1 and _from_zero(line, rule.state) == ast.unparse(old.tree):
            joined.append(line)
        else:
            condition = f"t == {last}" if last == 1 else f"t <= {last}"
            text = f"where({condition}, {ast.unparse(old.tree)}, {ast.unparse(line.tree)})"
            joined.append(Line(line.name, ast.parse(text, mode="eval").body))
    return tuple(joined)


def _numbered(lines: tuple[Line, ...]) -> Iterator[tuple[tuple[str, int], Line]]:
    seen: dict[str, int] = {}
    for line in lines:
        seen[line.name] = seen.get(line.name, 0) + 1
        yield (line.name, seen[line.name]), line


def _from_zero(line: Line, state: tuple[str, ...]) -> str:
    """The text of a formula of the form "rate * state + rest" where the state is 0: "rest"."""
    tree = line.tree
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        first = {n.id for n in ast.walk(tree.left) if isinstance(n, ast.Name)}
        if line.name in first and isinstance(tree.left, ast.BinOp) and isinstance(tree.left.op, ast.Mult):
            return ast.unparse(tree.right)
    return ""


# --- running --------------------------------------------------------------------------------------------------------------
class Run:
    """A program on its way through the probes of one parameter."""

    def __init__(self, program: Program, probes: Any) -> None:
        self.program, self.probes, self.w = program, probes, probes.start
        self.state: dict[str, Any] = dict.fromkeys(program.state, 0.0)
        shape = probes.start.shape[1:]
        self.scope: dict[str, Any] = {
            **probes.hyper, "i": probes.place, "n": probes.count, "g_old": np.zeros_like(probes.start),
            "lr_first": probes.lr[0], "w_first": probes.start, "lr_old": probes.lr[0], "ndim": len(shape), "numel": float(math.prod(shape)),
        }  # fmt: skip

    def update(self, k: int) -> Array:
        """w after update k + 1."""
        program, scope = self.program, self.scope
        scope |= {"w": self.w, "g": self.probes.gradients[k], "t": float(k + 1), "lr": self.probes.lr[k], **self.state}
        scope |= {f"{s}_old": v for s, v in self.state.items()} | {"w_old": self.w, "t_old": float(k)}
        scope["norm_all"] = self.probes.norm_all[k] if self.probes.norm_all else FUNCTIONS["norm"](scope["g"])
        if program.table:
            scope["f_t"] = program.table[min(k, len(program.table) - 1)]
        rounded = ROUNDED[program.precision]
        with np.errstate(all="ignore"):
            for line in program.early if k < program.until else program.lines:
                scope[line.name] = value(line.tree, scope)
            self.state = {s: rounded(scope[s]) if s in program.narrow else scope[s] for s in program.state}
        self.w = np.broadcast_to(scope["w"], self.probes.start.shape)
        scope["g_old"], scope["lr_old"] = scope["g"], self.probes.lr[k]
        return self.w


def broken_into(program: Program, probes: Any) -> Iterator[tuple[Array, dict[str, Array]]]:
    """Run a program on probes update by update; yields w and everything assigned."""
    run = Run(program, probes)
    for k in range(probes.updates):
        yield run.update(k), run.scope


def jointly(program: Program, probes: Sequence[Any]) -> Iterator[list[Array]]:
    """Run a program on all parameters in turn; the shared state passes from each to the next."""
    runs = [Run(program, p) for p in probes]
    common: dict[str, Any] = dict.fromkeys(program.shared, 0.0)
    for k in range(probes[0].updates):
        found = []
        for run in runs:
            run.state |= common
            found.append(run.update(k))
            common = {s: run.state[s] for s in program.shared}
        yield found


# --- trees ------------------------------------------------------------------------------------------------------------------
def sites(tree: ast.AST, path: Path = ()) -> Iterator[tuple[Path, ast.expr]]:
    """Every expression in a tree, with the way to it."""
    if isinstance(tree, ast.expr):
        yield path, tree
    for name, value in ast.iter_fields(tree):
        if name in ("func", "ctx", "op", "ops", "keywords"):
            continue
        if isinstance(value, ast.expr):
            yield from sites(value, (*path, (name, None)))
        elif isinstance(value, list):
            for k, item in enumerate(value):
                if isinstance(item, ast.expr):
                    yield from sites(item, (*path, (name, k)))


def put(tree: Any, path: Path, new: ast.expr) -> Any:
    """The tree with another expression at a place; the original is left alone."""
    if not path:
        return new
    (name, k), rest = path[0], path[1:]
    copy = type(tree)(**dict(ast.iter_fields(tree)))
    value = getattr(tree, name)
    if k is None:
        setattr(copy, name, put(value, rest, new))
    else:
        items = list(value)
        items[k] = put(items[k], rest, new)
        setattr(copy, name, items)
    return copy


class _Counted(ast.NodeTransformer):
    def __init__(self, count: ast.expr) -> None:
        self.count, self.found = count, False

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if ast.unparse(node) == "t == 1":
            return node
        return ast.Compare(self.visit(node.left), node.ops, node.comparators)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        self.found |= node.id == "t"
        return self.count if node.id == "t" else node


def counted(line: Line, count: ast.expr) -> Line:
    """The line with another count of the updates for t; the line itself where it has none.

    The first update stays the first: a state that is not there yet is made then, whatever is counted.
    """
    if "t" not in line.names:
        return line
    other = _Counted(count)
    tree = other.visit(_copied(line.tree))
    return Line(line.name, tree) if other.found else line


def _copied(tree: Any) -> Any:
    if isinstance(tree, ast.AST):
        return type(tree)(**{n: _copied(v) for n, v in ast.iter_fields(tree)})
    return [_copied(v) for v in tree] if isinstance(tree, list) else tree


def text_of(line: Line) -> str:
    """An assignment as text."""
    return f"{line.name} = {ast.unparse(ast.fix_missing_locations(_copied(line.tree)))}"


def numbers_of(rule: Optimizer) -> Mapping[str, float]:
    """The settings of a rule that are numbers, as floats."""
    return {k: float(v) for k, v in rule.numbers().items()}
