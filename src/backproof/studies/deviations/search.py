"""Search the single edits of a rule's program, then pairs of them, for one that goes where somebody's optimizer goes."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .edits import Edit, further_edits, plain_edits
from .probes import Probes
from .program import Line, Program, broken_into, put, sites

__all__ = ["Difference", "Found", "distance", "first_difference", "search"]

ACCURACY = 1e-9
SECONDS = 20.0
BEAM = 16
Array = Any


@dataclass(frozen=True)
class Difference:
    """Where two optimizers part first: the update, the probe, the parameter, the entry and the two values of w."""

    update: int
    probe: int
    parameter: int
    index: tuple[int, ...]
    theirs: float
    ours: float


@dataclass(frozen=True)
class Found:
    """The edits that together go where the optimizer goes, and the number that was fitted, if one was."""

    edits: tuple[Edit, ...]
    number: float | None = None

    @property
    def program(self) -> Program:
        """The program with all edits."""
        return self.edits[-1].program


@dataclass(frozen=True)
class Target:
    """Where somebody's optimizer went for one parameter: [updates, probes, *shape], and the size of w in each probe."""

    probes: Probes
    went: Array

    def scale(self, t: int) -> Array:
        """The size of w per probe: what a difference is measured by."""
        axes = tuple(range(1, self.went[t].ndim))
        size = np.maximum(np.abs(self.went[t]), np.abs(self.probes.start))
        whole: Array = np.max(np.where(np.isfinite(size), size, 0), axis=axes, keepdims=True)
        return np.maximum(whole, 1e-300)


def off(target: Target, t: int, w: Array, accuracy: float = ACCURACY) -> Array:
    """The entries of an update where w is not where it should be."""
    theirs = target.went[t]
    same = (np.abs(w - theirs) <= accuracy * target.scale(t)) | (np.isnan(w) & np.isnan(theirs)) | (w == theirs)
    return ~same


def first_difference(program: Program, targets: Sequence[Target], accuracy: float = ACCURACY) -> Difference | None:
    """The first update in which a program and an optimizer part; None where they never do."""
    best: Difference | None = None
    for place, target in enumerate(targets):
        for t, (w, _) in enumerate(broken_into(program, target.probes)):
            wrong = off(target, t, w, accuracy)
            if wrong.any() and (best is None or t + 1 < best.update):
                probe, *index = map(int, np.argwhere(wrong)[0])
                at = (probe, *index)
                best = Difference(t + 1, probe, place, tuple(index), float(target.went[t][at]), float(w[at]))
                break
    return best


def matches(program: Program, targets: Sequence[Target], accuracy: float = ACCURACY) -> bool:
    """Whether a program goes where the optimizer goes; gives up at the first difference."""
    try:
        code = program.compiled()
        return not any(
            off(target, t, w, accuracy).any()
            for target in targets
            for t, (w, _) in enumerate(broken_into(program, target.probes, code))
        )
    except (NameError, ValueError, TypeError, ZeroDivisionError, OverflowError, SyntaxError, KeyError, IndexError):
        return False


def distance(program: Program, target: Target, sizes: bool = False) -> float:
    """How far a program is from an optimizer: the mean over probes of the relative difference of the updates.

    ``sizes`` compares their sizes alone, whatever their signs.
    """
    last, mine = target.probes.start, target.probes.start
    total: list[Array] = []
    try:
        for t, (w, _) in enumerate(broken_into(program, target.probes)):
            with np.errstate(all="ignore"):
                a, b = w - last, target.went[t] - mine
                a, b = (np.abs(a), np.abs(b)) if sizes else (a, b)
                gap = np.abs(a - b) / np.maximum(np.abs(a) + np.abs(b), 1e-300)
            total.append(np.where(a == b, 0.0, gap))
            last, mine = w, target.went[t]
    except (NameError, ValueError, TypeError, ZeroDivisionError, OverflowError, KeyError, IndexError):
        return float("inf")
    every = np.stack(total)
    return float(np.mean(np.where(np.isfinite(every), every, 1.0)))


def search(
    program: Program,
    targets: Sequence[Target],
    seconds: float = SECONDS,
    accuracy: float = ACCURACY,
    quick: bool = False,
) -> Found | None:
    """The first edit, or pair of edits, after which the program goes where the optimizer goes.

    Args:
        program: the reference rule.
        targets: where the optimizer went, per parameter.
        seconds: the time for everything.
        accuracy: what counts as the same, relative to w.
        quick: try the plain edits alone.
    """
    until = time.process_time() + seconds
    plain = list(plain_edits(program))
    known = targets[0].probes.hyper
    if quick:
        return _single(iter(plain), targets, until, accuracy)
    return (
        _single(iter(plain), targets, until, accuracy)
        or _pairs(program, plain, targets, until, accuracy)
        or _fitted(_unknown_settings(program, known), targets, until, accuracy)
        or _single(further_edits(program), targets, until, accuracy)
        or _fitted(_unknown_numbers(program), targets, until, accuracy)
        or _beam(program, plain, targets, until, accuracy)
    )


def _single(candidates: Iterator[Edit], targets: Sequence[Target], until: float, accuracy: float) -> Found | None:
    return next((Found((e,)) for e in _until(candidates, until) if matches(e.program, targets, accuracy)), None)


def _pairs(
    program: Program, plain: Sequence[Edit], targets: Sequence[Target], until: float, accuracy: float
) -> Found | None:
    """Two things left out, such as both bias corrections."""
    for edit in (e for e in plain if e.kind == "dropped"):
        for second in _until(plain_edits(edit.program), until):
            if second.kind != "dropped":
                break
            if matches(second.program, targets, accuracy):
                return Found((edit, second))
    return None


def _beam(
    program: Program, plain: Sequence[Edit], targets: Sequence[Target], until: float, accuracy: float
) -> Found | None:
    """Those single edits that come nearest, each with a second one."""
    start = distance(program, targets[0])
    near = [(distance(e.program, targets[0]), k, e) for k, e in enumerate(plain)]
    for gap, _, edit in sorted(near, key=lambda entry: entry[:2])[:BEAM]:
        if gap >= start:
            return None
        for second in _until(chain(plain_edits(edit.program), further_edits(edit.program)), until):
            if matches(second.program, targets, accuracy):
                return Found((edit, second))
    return None


def _until(candidates: Iterator[Edit], until: float) -> Iterator[Edit]:
    for edit in candidates:
        if time.process_time() > until:
            return
        yield edit


# --- an unknown number ------------------------------------------------------------------------------------------------------
def _fitted(
    unknown: Iterator[tuple[Edit, Any, float]], targets: Sequence[Target], until: float, accuracy: float
) -> Found | None:
    """One number of the rule with another value, or one expression times a number."""
    for edit, make, near in unknown:
        if time.process_time() > until:
            return None
        value = _solved(make, targets[0], near)
        if value is None:
            continue
        whole = make(value)
        if matches(whole, targets, max(accuracy, 1e-8)):
            return Found((Edit(whole, "constant", edit.what, edit.where, edit.inside, edit.how),), value)
    return None


def _unknown_settings(program: Program, known: Mapping[str, float]) -> Iterator[tuple[Edit, Any, float]]:
    inner = {line.name for line in program.lines} | {"w", "g", "t", *program.state}
    for name in program.names:
        if name not in inner:
            yield (
                Edit(program, "constant", name, (), how="another value"),
                _renamer(program, name),
                known.get(name, 1.0),
            )


def _unknown_numbers(program: Program) -> Iterator[tuple[Edit, Any, float]]:
    for k, line in enumerate(program.lines):
        for path, node in sites(line.tree):
            if isinstance(node, ast.Constant):
                edit = Edit(program, "constant", ast.unparse(node), (line.name,), how="another number")
                yield edit, _setter(program, k, path, None), float(node.value)  # type: ignore[arg-type]
            elif not isinstance(node, ast.Compare):
                text = ast.unparse(ast.fix_missing_locations(node))
                edit = Edit(program, "constant", text, (line.name,), how="times a number")
                yield edit, _setter(program, k, path, node), 1.0


def _renamer(program: Program, name: str) -> Any:
    def make(value: float) -> Program:
        class Setter(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.expr:
                return ast.Constant(value) if node.id == name else node

        lines = [Line(x.name, Setter().visit(ast.parse(ast.unparse(x.tree), mode="eval")).body) for x in program.lines]
        return Program(tuple(lines), program.state, program.narrow)

    return make


def _setter(program: Program, k: int, path: Any, node: ast.expr | None) -> Any:
    def make(value: float) -> Program:
        new: ast.expr = ast.Constant(value)
        if node is not None:
            new = ast.BinOp(node, ast.Mult(), ast.Constant(value))
        lines = list(program.lines)
        lines[k] = Line(lines[k].name, put(lines[k].tree, path, new))
        return Program(tuple(lines), program.state, program.narrow)

    return make


def _solved(make: Any, target: Target, near: float) -> float | None:
    """The number for which the program gives one w that the optimizer has, by the secant method."""
    difference = first_difference(make(near), [target])
    if difference is None:
        return near
    spot = (difference.probe, *difference.index)
    goal = float(target.went[difference.update - 1][spot])

    def miss(value: float) -> float:
        for t, (w, _) in enumerate(broken_into(make(value), target.probes)):
            if t == difference.update - 1:
                return float(w[spot]) - goal
        return float("nan")

    pairs = ((near, 0.99 * near or 0.01), (0.95, 0.9), (0.5, 0.1), (1e-6, 1e-7), (5.0, 10.0))
    found = [_secant(miss, a, b) for a, b in pairs]
    roots = [x for x in found if x is not None and abs(x) < 1e12]
    return min(roots, key=lambda x: distance(make(x), target), default=None)


def _secant(miss: Any, a: float, b: float) -> float | None:
    try:
        fa, fb = miss(a), miss(b)
        for _ in range(40):
            if fb == fa or not np.isfinite(fa) or not np.isfinite(fb):
                return b if fb == 0 else None
            a, b, fa = b, b - fb * (b - a) / (fb - fa), fb
            fb = miss(b)
            if fb == 0 or abs(b - a) <= 1e-15 * abs(b):
                return b
    except (OverflowError, ValueError, ZeroDivisionError, TypeError, NameError):
        return None
    return None
