"""Solve an update rule's recurrence under a constant gradient: from its own equations to closed forms in t.

The rule is read over SymPy formulas, one equation after another, and each value that depends on its own old value alone is
solved (:mod:`.single`). Two values that need each other's old ones (momentum with weight decay) are solved with the powers
of their 2 x 2 matrix. A rule whose equations change at some update is solved before it and after it. What is left has no
closed form here, and is said to have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy

from ...graph import Graph, Node
from ...ops import Elementwise
from ...optimizers import Optimizer
from .single import T, decided, not_negative, same, solve_one, tidy, turned

__all__ = ["Closed", "T", "read", "solve_recurrence", "symbol_of", "turned", "turning_point"]

LATE = 10**15


def symbol_of(name: str) -> sympy.Symbol:
    """The symbol of a hyper-parameter: a positive number."""
    return sympy.Symbol(name, positive=True)


@dataclass(frozen=True)
class Closed:
    """The closed forms of a rule under a constant gradient.

    Args:
        forms: value -> formula in t (the number of updates made), for w, the state and every named step between.
        recurrences: value -> its equation as the rule has it, with the old values as symbols, in order.
        how: value -> how it was solved, in words.
        sums: value -> the sum that was carried out for it, where one was.
        unsolved: the values for which no closed form was found.
        since: value -> the first update that has it, for those that the first update does not have.
        shown: value -> its form with the longer ones of the others by their names, where it is shorter so.
    """

    forms: dict[str, Any]
    recurrences: dict[str, Any]
    how: dict[str, str]
    unsolved: tuple[str, ...] = ()
    sums: dict[str, Any] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)

    def written(self, name: str) -> Any:
        """A value's form as it is shown: other values by their names where that is shorter."""
        return self.shown.get(name, self.forms[name])


def read(graph: Graph, leaves: Mapping[str, Any], replace: Any = None) -> dict[Node, Any]:
    """Read an update's graph over formulas; ``replace(node, formula)`` may put another formula in a node's place."""
    values: dict[Node, Any] = {}
    for node in graph.nodes:
        if node.is_leaf:
            values[node] = sympy.sympify(leaves[node.name]) if node.name in leaves else _exactly(node.value)
        else:
            assert isinstance(node.op, Elementwise)
            formula = _PLAIN.get(node.op.name, node.op.formula)
            values[node] = sympy.sympify(formula(*(values[x] for x in node.inputs), **node.attrs))
        if replace is not None:
            values[node] = replace(node, values[node])
    return values


def _maximum(a: Any, b: Any) -> Any:
    return max(a, b) if a.is_number and b.is_number else b if a == 0 and not_negative(b) else sympy.Max(a, b)


_PLAIN: dict[str, Any] = {"maximum": _maximum, "abs": sympy.Abs, "sign": sympy.sign}
"""Functions that SymPy calculates with more easily than with their cases."""


def _exactly(value: Any) -> Any:
    return value if isinstance(value, sympy.Basic) else sympy.Rational(repr(value) if value is not None else 0)


def turning_point(optimizer: Optimizer) -> int | None:
    """The first update after the second whose equations are others than the second's; None where they stay."""
    early, late = optimizer.equations(2), optimizer.equations(LATE)
    if early == late:
        return None
    low, high = 2, LATE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if optimizer.equations(middle) == early else (low, middle)
    return high if optimizer.equations(high) == late else None


def solve_recurrence(optimizer: Optimizer, hyper: Mapping[str, Any], gradient: Any, start: Any = 0) -> Closed:
    """Solve a rule under a constant gradient.

    Args:
        optimizer: the rule; its settings decide which equations there are.
        hyper: the formulas that stand for its numbers.
        gradient: the constant gradient as a formula.
        start: w before the first update.
    """
    names = ("w", *optimizer.state)
    zero = {**dict.fromkeys(names, sympy.Integer(0)), "w": sympy.sympify(start)}
    early = _Solver(optimizer, hyper, gradient, zero, 1).closed()
    turn = turning_point(optimizer)
    if turn is None:
        return early
    if any(n not in early.forms for n in names):
        return Closed({}, early.recurrences, {}, names)
    held = {n: early.forms[n].subs(T, turn - 1) for n in names}
    return _joined(early, _Solver(optimizer, hyper, gradient, held, turn, early).closed(), turn)


def _joined(early: Closed, late: Closed, turn: int) -> Closed:
    """The forms before and after the update at which the equations change."""
    forms, how = dict(early.forms), dict(early.how)
    for name, form in late.forms.items():
        if name in early.forms and form != early.forms[name]:
            forms[name] = _either(early.forms[name], form, turn)
            how[name] = f"{early.how[name]}; from update {turn} on {late.how[name]}"
        elif name not in early.forms:
            forms[name], how[name] = form, late.how[name]
    since = {**{n: turn for n in late.forms if n not in early.forms}, **early.since}
    shown = {n: late.shown[n] if n in since else _either(early.written(n), late.written(n), turn)
             for n in late.shown if forms[n] != early.forms.get(n)}  # fmt: skip
    recurrences = {**early.recurrences, **late.recurrences}
    sums = {n: total for n, total in early.sums.items() if forms[n] == early.forms[n]}
    return Closed(forms, recurrences, how, late.unsolved, sums, since, shown)


def _either(before: Any, after: Any, turn: int) -> Any:
    return sympy.Piecewise((before, T < turn), (after, True))


class _Solver:
    """The updates from ``first`` on, whose equations stay the same from the second of them on.

    Args:
        held: the values before.
        first: the number of the first of them.
        early: what was solved for the updates before.
    """

    def __init__(
        self, optimizer: Optimizer, hyper: Mapping[str, Any], gradient: Any, held: Mapping[str, Any], first: int,
        early: Closed | None = None,
    ) -> None:  # fmt: skip
        self.optimizer, self.gradient = optimizer, gradient
        self.hyper, self.first, self.early = dict(hyper), first, early
        self.names = ("w", *optimizer.state)
        self.old = {n: sympy.Symbol(f"{n}_old", real=True) for n in self.names}
        self.held = dict(held)
        self.numbers = {v: sympy.Rational(repr(float(optimizer.numbers()[k]))) for k, v in hyper.items() if v.is_Symbol}
        self.forms: dict[str, Any] = {}
        self.recurrences: dict[str, Any] = {}
        self.how: dict[str, str] = {}
        self.sums: dict[str, Any] = {}
        self.origin: dict[str, tuple[int, Any]] = {}

    def leaves(self, t: Any, old: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.hyper, "g": self.gradient, "t": t, **old}

    def closed(self) -> Closed:
        graph = self.optimizer.graph((), self.first + 1)
        solved = -1
        while self._open() and solved < len(self.forms):  # a value may need one that is solved further down
            solved = len(self.forms)
            self._pass(graph)
        self._repair(graph)
        shown = self._shown(graph)
        there = {*self.names, *(n.name for n in self.optimizer.graph((), self.first).nodes)}
        since = {n: self.first + 1 for n in self.forms if n not in there}
        return Closed(self.forms, self.recurrences, self.how, self._open(), self.sums, since, shown)

    def _open(self) -> tuple[str, ...]:
        return tuple(n for n in self.names if n not in self.forms)

    # --- one value after another --------------------------------------------------------------------------------------------
    def _pass(self, graph: Graph) -> None:
        """Read the rule in order, putting each value's closed form in its place as soon as it is solved."""
        outputs = {node: name for name, node in zip(self.names, graph.outputs, strict=True)}
        begin = dict(zip(self.names, self._first(), strict=True))

        def place(node: Node, formula: Any) -> Any:
            if node in outputs:
                return self._state(outputs[node], formula, begin)
            if node.role == "value" and not node.is_leaf and node.name.partition("#")[0] not in self.names:
                return self._between(node.name, formula)
            return formula

        read(graph, self.leaves(T, self.old), place)

    def _state(self, name: str, formula: Any, begin: Mapping[str, Any]) -> Any:
        self.recurrences.setdefault(name, formula)
        if name in self.forms:
            return self.forms[name]
        here = self._known(formula, name)
        if self.early and self.early.recurrences.get(name) == self.recurrences[name] and not _changed(here, self):
            self.forms[name], self.how[name] = self.early.forms[name], self.early.how[name]
            return self.forms[name]
        zero, x = self.held[name], self.old[name]
        self.origin[name] = (
            (self.first - 1, zero) if self._from_before(here, name, begin) else (self.first, begin[name])
        )
        solved = solve_one(here, x, *self.origin[name], self.numbers)
        if solved is None:
            return formula
        self.forms[name], self.how[name] = solved.form, solved.how
        if solved.summed is not None:
            self.sums[name] = solved.summed
        return self.forms[name]

    def _from_before(self, formula: Any, name: str, begin: Mapping[str, Any]) -> bool:
        """Whether the first of the updates is like those that follow, for this value."""
        if self.first > 1:
            return self.optimizer.equations(self.first) == self.optimizer.equations(self.first + 1)
        there = formula.subs({self.old[name]: self.held[name], T: 1})
        return same(there.subs(self.numbers), begin[name].subs(self.numbers))

    def _known(self, formula: Any, name: str = "") -> Any:
        known = {self.old[n]: self.forms[n].subs(T, T - 1) for n in self.names if n in self.forms and n != name}
        return formula.subs(known)

    def _between(self, name: str, formula: Any) -> Any:
        """A named step between: its formula with what is solved put in."""
        self.recurrences.setdefault(name, formula)
        here = self._known(formula)
        if here.free_symbols & set(self.old.values()):
            return formula
        self.forms[name], self.how[name] = tidy(here), "the closed forms put in"
        return self.forms[name]

    # --- the same in short ------------------------------------------------------------------------------------------------
    def _shown(self, graph: Graph) -> dict[str, Any]:
        """The forms that hold a sum or a product, or much else, with the others by their names."""
        outputs = {node: name for name, node in zip(self.names, graph.outputs, strict=True)}
        found: dict[str, Any] = {}
        past = {n: self._called(n, T - 1) for n in self.names}

        def place(node: Node, formula: Any) -> Any:
            name = outputs.get(node, node.name)
            if node.is_leaf or node.role != "value" or name not in self.forms:
                return formula
            if _long(self.forms[name]):
                short = self._shortly(name, formula.subs({v: past[n] for n, v in self.old.items() if n != name}))
                found.update({name: short} if short is not None and _shorter(short, self.forms[name]) else {})
            return self._called(name, T)

        read(graph, self.leaves(T, self.old), place)
        return found

    def _called(self, name: str, time: Any) -> Any:
        """A value by its name where its form is long, else its form."""
        form = self.forms.get(name, self.old.get(name))
        if form is None or not _long(form):
            return form if form is None else form.subs(T, time)
        return sympy.Function(name, real=True)(time) if form.has(T) else symbol_of(name)

    def _shortly(self, name: str, formula: Any) -> Any:
        if name not in self.names:
            return formula
        solved = solve_one(formula, self.old[name], *self.origin[name], self.numbers) if name in self.origin else None
        return None if solved is None else solved.form

    # --- two values at once ---------------------------------------------------------------------------------------------------
    def _repair(self, graph: Graph) -> None:
        """Solve two values that need each other's old ones, if they are linear in them."""
        if all(n in self.forms for n in self.names) or len(self.names) != 2:
            return
        values = read(graph, self.leaves(T, self.old))
        new = sympy.Matrix([values[n] for n in graph.outputs])
        old = sympy.Matrix([self.old[n] for n in self.names])
        matrix = new.jacobian(old)
        constant = sympy.expand(new - matrix * old)
        if (matrix.free_symbols | constant.free_symbols) & ({T} | set(self.old.values())):
            return
        forms = _matrix_powers(matrix, constant, sympy.Matrix(self._first()))
        if forms is None:
            return
        for name, form, recurrence in zip(self.names, forms, new, strict=True):
            self.forms[name], self.recurrences[name] = form, recurrence
            self.how[name] = "the powers of the 2 x 2 matrix that takes (w, m) to the next"

    def _first(self) -> list[Any]:
        """The values after the first of the updates."""
        graph = self.optimizer.graph((), self.first)
        values = read(graph, self.leaves(self.first, self.held))
        return [decided(values[n], self.numbers) for n in graph.outputs]


def _long(form: Any) -> bool:
    return bool(form.has(sympy.Sum, sympy.Product) or form.count_ops() > 6)


def _shorter(short: Any, form: Any) -> bool:
    return bool(short.count_ops() < 0.8 * form.count_ops())


def _changed(formula: Any, solver: _Solver) -> bool:
    """Whether a value depends on another one whose form is no longer the early one."""
    assert solver.early is not None
    others = [n for n, f in solver.forms.items() if solver.early.forms.get(n) != f]
    return any(solver.recurrences[n] != solver.early.recurrences.get(n) for n in others if n in solver.recurrences)


def _matrix_powers(matrix: Any, constant: Any, begin: Any) -> list[Any] | None:
    """z_t = A^(t-1) (z_1 - z*) + z*, with A^n from the two eigenvalues (Cayley and Hamilton)."""
    still = sympy.eye(2) - matrix
    if sympy.simplify(still.det()) == 0:
        return None
    rest = sympy.simplify(still.inv() * constant)
    half, determinant = matrix.trace() / 2, matrix.det()
    root = sympy.sqrt(sympy.simplify(half**2 - determinant))
    if root == 0:
        return None
    one, two = half + root, half - root
    power = (one ** (T - 1) * (matrix - two * sympy.eye(2)) - two ** (T - 1) * (matrix - one * sympy.eye(2))) / (
        one - two
    )
    return list(power * (begin - rest) + rest)
