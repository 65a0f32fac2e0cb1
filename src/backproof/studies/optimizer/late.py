"""What an update does in the long run under a constant gradient: where a value tends, or how far w still moves in each update.

The rule's own equations are read once more at a late update: powers of rates below 1 have died out, and a value
x = a x + b with |a| < 1 has come to rest at b / (1 - a).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy

from ...optimizers import Optimizer
from .recurrence import Closed, T, read, turning_point

__all__ = ["Late", "late_of"]

ORDERS = (sympy.Integer(0), sympy.Rational(1, 2), sympy.Rational(3, 4), sympy.Integer(1), sympy.Rational(3, 2))


@dataclass(frozen=True)
class Late:
    """The long run of w.

    Args:
        rest: where w tends; None where it goes on.
        step: what it moves by in an update, for late t; None where it comes to rest.
    """

    rest: Any = None
    step: Any = None


def late_of(optimizer: Optimizer, closed: Closed, hyper: dict[str, Any], gradient: Any) -> Late | None:
    """The long run of w under a constant gradient; None where it was not found."""
    turn = turning_point(optimizer)
    if turn is not None and turn > 10**5:  # an average that begins so late is no part of the way of w
        turn = None
    numbers = {v: sympy.Rational(repr(float(optimizer.numbers()[k]))) for k, v in hyper.items() if v.is_Symbol}
    names = ("w", *optimizer.state)
    graph = optimizer.graph((), (turn or 2) + 1)
    outputs = dict(zip(graph.outputs, names, strict=True))
    old = {n: sympy.Symbol(f"{n}_old", real=True) for n in names}
    rest: dict[Any, Any] = {}
    found: list[Any] = []

    def place(node: Any, formula: Any) -> Any:
        name = outputs.get(node)
        here = _settled(formula.subs(rest))
        if name is None:
            return here
        if name == "w":
            found[:] = [here]
            return here
        rest[old[name]] = value = _at_rest(here, old[name], closed.forms.get(name))
        return value

    given = {**hyper, "g": gradient, "t": T, **old}
    try:
        read(graph, given, place)
        return _long_run(found[0].subs(rest), old["w"], set(old.values()), numbers)
    except (NotImplementedError, ValueError, TypeError):
        return None


def _settled(formula: Any) -> Any:
    """A formula late in the run: a power of a number below 1 has died out."""
    return formula.replace(lambda e: e.is_Pow and e.exp.has(T) and not e.exp.is_number, lambda e: sympy.Integer(0))


def _at_rest(formula: Any, x: Any, form: Any) -> Any:
    """Where x = formula(x) comes to rest, or its closed form where it does not."""
    if form is not None and form.has(sympy.Min):
        return next(a for a in form.args if not a.has(T))
    if not formula.has(x):
        return formula
    slope, start = sympy.diff(formula, x), formula.subs(x, 0)
    if slope.has(x) or sympy.simplify(slope - 1) == 0:
        return form if form is not None else formula
    return sympy.simplify(start / (1 - slope))


def _long_run(formula: Any, w: Any, old: set[Any], numbers: dict[Any, Any]) -> Late | None:
    slope = sympy.diff(formula, w)
    start = formula.subs(w, 0)
    if slope.has(w) or (start.free_symbols | slope.free_symbols) & old:
        return None
    if sympy.simplify(slope - 1) != 0:
        rest = sympy.simplify(start / (1 - slope))
        slow = float(((1 - slope) * T).subs(numbers).subs(T, 10**15)) < 1e-3  # such steps add up to a finite way
        return None if rest.has(T) or slow else Late(rest=rest)
    step = sympy.simplify(start)
    if not step.has(T):
        return Late(step=step)
    for order in ORDERS:
        lead = sympy.limit(step * T**order, T, sympy.oo)
        if lead.is_finite is not False and lead != 0 and not lead.has(sympy.Limit):
            return Late(step=lead / T**order)
    return None
