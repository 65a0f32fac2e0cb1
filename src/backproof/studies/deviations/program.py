"""An update rule as a program that can be edited: its equations as syntax trees, run on many probes at once.

The trees are those of the rule's own text. What differs between the first update and the later ones becomes a case
distinction over t, unless the later equation gives the same from a state of zeros.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...optimizers import Optimizer
from .rounding import ROUNDED

__all__ = ["Line", "Path", "Program", "broken_into", "numbers_of", "program_of", "put", "sites", "text_of"]

Path = tuple[tuple[str, int | None], ...]
Array = Any
MOST_UPDATES = 12


@dataclass(frozen=True)
class Line:
    """One assignment."""

    name: str
    tree: ast.expr


@dataclass(frozen=True)
class Program:
    """The assignments of one update.

    Args:
        lines: in order; names are parameters of the rule, its state, w, g, t, and what was assigned before. ``m_old`` is the
            value before the update, ``g_old`` the gradient before this one, ``lr_first`` the rate at the start, ``i`` and
            ``n`` the place of the parameter and their number.
        state: the names that carry over.
        narrow: the states that are rounded to float32 after each update.
    """

    lines: tuple[Line, ...]
    state: tuple[str, ...]
    narrow: tuple[str, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that any line uses."""
        found = {n.id for line in self.lines for _, n in sites(line.tree) if isinstance(n, ast.Name)}
        return tuple(sorted(found))

    def compiled(self) -> Any:
        """The program as code over arrays."""
        body: list[ast.stmt] = []
        for line in self.lines:
            tree = _Arrays().visit(_copied(line.tree))
            body.append(ast.Assign([ast.Name(line.name, ast.Store())], tree))
        module = ast.fix_missing_locations(ast.Module(body, []))
        return compile(module, "<update>", "exec")


class _Arrays(ast.NodeTransformer):
    """Functions of formulas as functions of arrays; matrices are the last two axes."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        return ast.Call(ast.Name("_turned", ast.Load()), [node.value], [])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        assert isinstance(node.func, ast.Name)
        node.func = ast.Name(f"_{node.func.id}", ast.Load())
        return node


def _axes(x: Array, dim: int | None) -> Any:
    return tuple(range(1, np.ndim(x))) if dim is None else dim


def _either(pair: Any, fold: Any) -> Any:
    def run(x: Array, y: Array = None, dim: int | None = None, keepdim: bool = True) -> Array:
        return fold(x, axis=_axes(x, dim), keepdims=True) if y is None else pair(x, y)

    return run


def _folded(fold: Any) -> Any:
    return lambda x, dim=None, keepdim=True: fold(x, axis=_axes(x, dim), keepdims=True)


FUNCTIONS: dict[str, Any] = {
    "_sqrt": np.sqrt, "_abs": np.abs, "_sign": np.sign, "_where": np.where, "_square": np.square,
    "_max": _either(np.maximum, np.max), "_min": _either(np.minimum, np.min),
    "_mean": _folded(np.mean), "_sum": _folded(np.sum),
    "_norm": lambda x, dim=None, keepdim=True: np.sqrt(np.sum(np.square(x), axis=_axes(x, dim), keepdims=True)),
    "_turned": lambda x: np.swapaxes(x, -1, -2),
    **{f"_{n}": f for n, f in ROUNDED.items()},
}  # fmt: skip


def program_of(rule: Optimizer, shape: tuple[int, ...]) -> Program:
    """A rule's equations for parameters of a shape, all updates in one program."""
    found = _parsed(rule, 1, shape)
    later = found
    for t in range(2, MOST_UPDATES + 1):
        now = _parsed(rule, t, shape)
        if _texts(now) != _texts(later):
            found, later = _joined(found, now, t - 1, rule), now
    return Program(found, rule.state_of(shape))


def _parsed(rule: Optimizer, t: int, shape: tuple[int, ...]) -> tuple[Line, ...]:
    return tuple(Line(n, ast.parse(text, mode="eval").body) for n, text in rule.equations(t, shape))


def _texts(lines: tuple[Line, ...]) -> list[str]:
    return [f"{line.name}={ast.unparse(line.tree)}" for line in lines]


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
def broken_into(program: Program, probes: Any, code: Any = None) -> Iterator[tuple[Array, dict[str, Array]]]:
    """Run a program on probes update by update; yields w and everything assigned."""
    code = code or program.compiled()
    w = probes.start.copy()
    state = dict.fromkeys(program.state, 0.0)
    scope: dict[str, Any] = {
        **FUNCTIONS,
        **probes.hyper,
        "i": probes.place,
        "n": probes.count,
        "g_old": np.zeros_like(w),
    }
    scope["lr_first"] = probes.lr[0]
    for k in range(probes.updates):
        scope |= {"w": w, "g": probes.gradients[k], "t": float(k + 1), "lr": probes.lr[k], **state}
        scope |= {f"{s}_old": v for s, v in state.items()} | {"w_old": w, "t_old": float(k)}
        with np.errstate(all="ignore"):
            exec(code, scope)  # the text of our own rules, edited by us; nothing that a user wrote
        w = np.broadcast_to(scope["w"], probes.start.shape)
        state = {s: ROUNDED["float32"](scope[s]) if s in program.narrow else scope[s] for s in program.state}
        yield w, scope
        scope["g_old"] = scope["g"]


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
