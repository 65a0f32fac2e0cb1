"""Numbers that are not known: one that an edit leaves open, or a factor for each update, solved for from the path of w."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .edits import Edit, everywhere, expression, text_of_tree
from .program import Program, Run, counted, put, sites
from .targets import FAILURES, Target, off
from .wrappers import UNKNOWN, settings_in

__all__ = ["open_numbers", "open_settings", "per_update", "solutions", "with_number"]

Array = Any
STARTS = ((1.0, 0.99), (0.95, 0.9), (0.5, 0.1), (1e-3, 1e-4), (1e-7, 1e-8), (1e-9, 1e-10), (5.0, 10.0), (-0.1, -0.2))


def with_number(program: Program, number: float) -> Program:
    """The program with the unknown number filled in."""
    return everywhere(program, UNKNOWN, ast.Constant(number))


# --- one number ---------------------------------------------------------------------------------------------------------------
def open_settings(program: Program, known: Mapping[str, float]) -> Iterator[tuple[Edit, float]]:
    """Each setting with another value; and the value that it has."""
    for name in settings_in(program):
        new = everywhere(program, name, expression(UNKNOWN))
        yield Edit(new, "constant", name, (), how="another value"), known.get(name, 1.0)


def open_numbers(program: Program, known: Program | None = None) -> Iterator[tuple[Edit, float]]:
    """Each number of the rule another one; each expression times a number, plus one, at least or at most one; each power.

    With ``known``, in the lines only that this program does not have.
    """
    for k, line in enumerate(program.lines):
        if known is not None and line in known.lines:
            continue
        for path, node in sites(line.tree):
            if isinstance(node, ast.Compare):
                continue
            for text, how, near in _opened(node):
                lines = list(program.lines)
                lines[k] = replace(line, tree=put(line.tree, path, expression(text)))
                what = text_of_tree(node)
                yield Edit(replace(program, lines=tuple(lines)), "constant", what, (line.name,), how=how), near


def _opened(node: ast.expr) -> Iterator[tuple[str, str, float]]:
    if isinstance(node, ast.Constant):
        yield UNKNOWN, "another number", float(node.value)  # type: ignore[arg-type]
        return
    text = f"({text_of_tree(node)})"
    yield f"{text} * {UNKNOWN}", "times a number", 1.0
    yield f"{text} + {UNKNOWN}", "plus a number", 0.0
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "sqrt":
        yield f"({text_of_tree(node.args[0])})**{UNKNOWN}", "a power", 0.5
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
        yield f"abs({text_of_tree(node.left)})**{UNKNOWN}", "a power", float(node.right.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        yield f"min(max({text}, -{UNKNOWN}), {UNKNOWN})", "clipped to plus and minus a number", 1.0
    yield f"max({text}, {UNKNOWN})", "at least a number", 0.0
    yield f"min({text}, {UNKNOWN})", "at most a number", 1.0


def solutions(program: Program, target: Target, near: float = 1.0) -> list[float]:
    """The numbers for which the program gives one w that the optimizer has, by the secant method.

    That w is where they differ most in the first update that differs: in any probe, and in that with ordinary gradients.
    """

    def way(number: float) -> Run:
        probes = target.probes
        return Run(program, replace(probes, hyper={**probes.hyper, UNKNOWN: number}))

    try:
        spots = _first_apart(way(near), target)
    except FAILURES:
        return []
    if not spots:
        return [near]
    found: list[float] = []
    for update, spot in spots:
        for a, b in ((near, 0.99 * near or 1e-10), *STARTS):
            x = _secant(_miss(way, update, spot, float(target.went[update][spot])), a, b)
            if x is not None and abs(x) < 1e12 and not any(abs(x - y) <= 1e-9 * abs(y) for y in found):
                found.append(x)
    return found


def _miss(way: Callable[[float], Run], update: int, spot: tuple[int, ...], goal: float) -> Callable[[float], float]:
    def miss(number: float) -> float:
        run = way(number)
        for k in range(update):
            run.update(k)
        return float(run.update(update)[spot]) - goal

    return miss


def _first_apart(run: Run, target: Target) -> list[tuple[int, tuple[int, ...]]]:
    """The update, and the entry, where they differ most in the first update that differs: of all, and of the first probe."""
    for k in range(target.probes.updates):
        w = run.update(k)
        wrong = off(target, k, w)
        if wrong.any():
            with np.errstate(all="ignore"):
                gap = np.where(wrong, np.abs(w - target.went[k]) / target.scale(k), -1.0)
            gap = np.where(np.isfinite(gap), gap, 0.0)
            spot = _largest(gap)
            ordinary = (0, *_largest(gap[0]))
            return [(k, spot), *([(k, ordinary)] if spot[0] and gap[ordinary] > 0 else [])]
    return []


def _largest(gap: Array) -> tuple[int, ...]:
    return tuple(int(x) for x in np.unravel_index(int(np.argmax(gap)), gap.shape))


def _secant(miss: Callable[[float], float], a: float, b: float) -> float | None:
    try:
        fa, fb = miss(a), miss(b)
        for _ in range(30):
            if fb == fa or not np.isfinite(fa) or not np.isfinite(fb):
                return b if fb == 0 else None
            a, b, fa = b, b - fb * (b - a) / (fb - fa), fb
            if abs(b) > 1e12:
                return None
            fb = miss(b)
            if fb == 0 or abs(b - a) <= 1e-15 * abs(b):
                return b
    except FAILURES:
        return None
    return None


# --- a number per update ------------------------------------------------------------------------------------------------------
def per_update(
    program: Program, target: Target, names: tuple[str, ...] = ()
) -> Iterator[tuple[Edit, tuple[float, ...]]]:
    """Each setting (or those named) times a factor that depends on the update, the factors solved for one after another."""
    own = [*settings_in(program), *(["t"] if "t" in program.names else [])]
    for name in (n for n in own if not names or n in names):
        for only in (None, len(program.lines) - 1):
            if only is not None and (name != "lr" or sum(name in x.names for x in program.lines) < 2):
                continue
            new = _timed(program, name, only)
            factors = _factors(new, target)
            if factors is not None and np.nanmax(factors) - np.nanmin(factors) > 1e-6:
                where = () if only is None else (program.lines[only].name,)
                table = tuple(1.0 if math.isnan(f) else f for f in factors)
                yield (
                    Edit(
                        replace(new, table=table),
                        "schedule",
                        name,
                        where,
                        how=_values(factors, target.probes.hyper.get(name)),
                    ),
                    factors,
                )


def _timed(program: Program, name: str, only: int | None) -> Program:
    factor = expression(f"({name} * f_t)")
    if name == "t":
        return replace(program, lines=tuple(counted(line, factor) for line in program.lines))
    return everywhere(program, name, factor, only)


def _values(factors: tuple[float, ...], setting: float | None) -> str:
    """The factors, and after a bar the values of the setting, where it has one for all updates."""
    values = "" if setting is None else " | " + " ".join(repr(f * setting) for f in factors)
    return " ".join(map(repr, factors)) + values


def _factors(program: Program, target: Target) -> tuple[float, ...] | None:
    """The factor of each update, NaN where it makes no difference; None where none gives w in some update."""
    run, found = Run(program, target.probes), list[float]()
    try:
        for k in range(target.probes.updates):
            factor = _factor(run, k, target)
            if factor is None:
                return None
            found.append(factor)
    except FAILURES:
        return None
    return tuple(found)


def _factor(run: Run, k: int, target: Target) -> float | None:
    before = run.w, run.state, run.scope["g_old"]

    def went(factor: float) -> Array:
        run.w, run.state, run.scope["g_old"] = before
        run.program = replace(run.program, table=(factor,))
        return run.update(k)

    last = went(1.0)
    right = not off(target, k, last).any()
    with np.errstate(all="ignore"):
        response = np.abs(went(0.5) - last) / target.scale(k)
    if right:
        went(1.0)
        return 1.0 if (response > 1e-12).any() else float("nan")
    response = np.where(np.isfinite(response) & np.isfinite(target.went[k]), response, 0.0)
    spot = tuple(int(x) for x in np.unravel_index(int(np.argmax(response)), response.shape))
    if not response[spot]:
        return None
    goal = float(target.went[k][spot])
    for a, b in ((1.0, 0.5), (0.1, 0.01), (2.0, 3.0)):
        root = _secant(lambda x: float(went(x)[spot]) - goal, a, b)
        if root is not None and not off(target, k, went(root), 1e-8).any():
            return root
    return None
