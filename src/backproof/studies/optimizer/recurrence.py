"""Solve an update rule's recurrence under a constant gradient: from its own equations to closed forms in t.

The rule is read over SymPy formulas, one equation after another. A new value that depends on its own old value alone,
x_t = a x_{t-1} + b(t), is solved by adding up b(k) a^(t-k); where b is a sum of powers, geometric sums do it. Two values
that need each other's old ones (momentum with weight decay) are solved with the powers of their 2 x 2 matrix. Anything
else has no closed form here: it stays a sum that is not carried out, or is left out and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy

from ...graph import Graph, Node
from ...ops import Elementwise
from ...optimizers import Optimizer

__all__ = ["Closed", "T", "read", "solve_recurrence", "symbol_of"]

T = sympy.Symbol("t", integer=True, positive=True)
K = sympy.Symbol("k", integer=True, positive=True)


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
    """

    forms: dict[str, Any]
    recurrences: dict[str, Any]
    how: dict[str, str]
    unsolved: tuple[str, ...] = ()
    sums: dict[str, Any] = field(default_factory=dict)


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
    return max(a, b) if a.is_number and b.is_number else b if a == 0 and _not_negative(b) else sympy.Max(a, b)


_PLAIN: dict[str, Any] = {"maximum": _maximum, "abs": sympy.Abs, "sign": sympy.sign}
"""Functions that SymPy calculates with more easily than with their cases."""


def _exactly(value: Any) -> Any:
    return value if isinstance(value, sympy.Basic) else sympy.Rational(repr(value) if value is not None else 0)


def solve_recurrence(optimizer: Optimizer, hyper: Mapping[str, Any], gradient: Any, start: Any = 0) -> Closed:
    """Solve a rule under a constant gradient.

    Args:
        optimizer: the rule; its settings decide which equations there are.
        hyper: the formulas that stand for its numbers.
        gradient: the constant gradient as a formula.
        start: w before the first update.
    """
    return _Solver(optimizer, hyper, gradient, start).closed()


class _Solver:
    def __init__(self, optimizer: Optimizer, hyper: Mapping[str, Any], gradient: Any, start: Any) -> None:
        self.optimizer, self.gradient = optimizer, gradient
        self.hyper = dict(hyper)
        self.names = ("w", *optimizer.state)
        self.old = {n: sympy.Symbol(f"{n}_old", real=True) for n in self.names}
        self.start = {**dict.fromkeys(self.names, sympy.Integer(0)), "w": sympy.sympify(start)}
        self.forms: dict[str, Any] = {}
        self.recurrences: dict[str, Any] = {}
        self.how: dict[str, str] = {}
        self.sums: dict[str, Any] = {}
        self.unsolved: list[str] = []

    def leaves(self, t: Any, old: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.hyper, "g": self.gradient, "t": t, **old}

    def closed(self) -> Closed:
        graph = self.optimizer.graph((), 2)
        if self.optimizer.equations(2) == self.optimizer.equations(1000):
            self._pass(graph)
            self._repair(graph)
        else:
            self.unsolved = list(self.names)
        return Closed(self.forms, self.recurrences, self.how, tuple(dict.fromkeys(self.unsolved)), self.sums)

    # --- one value after another --------------------------------------------------------------------------------------------
    def _pass(self, graph: Graph) -> None:
        """Read the rule in order, putting each value's closed form in its place as soon as it is solved."""
        outputs = {node: name for name, node in zip(self.names, graph.outputs, strict=True)}
        first = read(self.optimizer.graph((), 1), self.leaves(1, self.start))
        begin = dict(zip(self.names, (first[n] for n in self.optimizer.graph((), 1).outputs), strict=True))

        def place(node: Node, formula: Any) -> Any:
            if node in outputs:
                return self._state(outputs[node], formula, begin)
            if node.role == "value" and not node.is_leaf:
                return self._between(node.name, formula)
            return formula

        read(graph, self.leaves(T, self.old), place)

    def _state(self, name: str, formula: Any, begin: Mapping[str, Any]) -> Any:
        self.recurrences[name] = formula
        known = {self.old[n]: self.forms[n].subs(T, T - 1) for n in self.names if n in self.forms and n != name}
        here = formula.subs(known)
        solved = _solve(here, self.old[name], begin[name], self.start[name])
        if solved is None:
            self.unsolved.append(name)
            return formula
        self.forms[name], self.how[name], summed = solved
        if summed is not None:
            self.sums[name] = summed
        return self.forms[name]

    def _between(self, name: str, formula: Any) -> Any:
        """A named step between: its formula with what is solved put in."""
        self.recurrences[name] = formula
        if formula.free_symbols & set(self.old.values()):
            return formula
        self.forms[name], self.how[name] = _tidy(formula), "the closed forms put in"
        return self.forms[name]

    # --- two values at once ---------------------------------------------------------------------------------------------------
    def _repair(self, graph: Graph) -> None:
        """Solve two values that need each other's old ones, if they are linear in them."""
        if not self.unsolved or len(self.names) != 2:
            return
        values = read(graph, self.leaves(T, self.old))
        new = sympy.Matrix([values[n] for n in graph.outputs])
        old = sympy.Matrix([self.old[n] for n in self.names])
        matrix = new.jacobian(old)
        constant = sympy.expand(new - matrix * old)
        if (matrix.free_symbols | constant.free_symbols) & ({T} | set(self.old.values())):
            return
        begin = self._first()
        forms = _matrix_powers(matrix, constant, begin)
        if forms is None:
            return
        for name, form, recurrence in zip(self.names, forms, new, strict=True):
            self.forms[name], self.recurrences[name] = form, recurrence
            self.how[name] = "the powers of the 2 x 2 matrix that takes (w, m) to the next"
        self.unsolved = []

    def _first(self) -> Any:
        graph = self.optimizer.graph((), 1)
        values = read(graph, self.leaves(1, self.start))
        return sympy.Matrix([values[n] for n in graph.outputs])


def _solve(formula: Any, x: Any, first: Any, zero: Any) -> tuple[Any, str, Any] | None:
    """x_t from x_t = formula(x_{t-1}, t), with x_1 = first and x_0 = zero: the form, how, and the sum behind it."""
    if any(s.name.endswith("_old") and s != x for s in formula.free_symbols):
        return None
    if isinstance(formula, sympy.Max):
        return _largest(formula, x) if zero == 0 else None
    formula = _join(formula)
    slope = _tidy(sympy.diff(formula, x))
    if slope.free_symbols & {x, T}:
        return None
    rest = _tidy(formula - slope * x)
    if x in rest.free_symbols:
        return None
    from_zero = sympy.simplify(formula.subs({x: zero, T: 1}) - first) == 0
    begin, value = (0, zero) if from_zero else (1, first)
    head = value * slope ** (T - begin)
    if rest == 0:
        return _tidy(head), "a geometric sequence", None
    parts = [_added(term, slope, begin + 1) for term in sympy.Add.make_args(sympy.expand(_powers(rest)))]
    if any(part is None for part in parts):
        if slope != 1:
            return None
        return head + sympy.Sum(rest.subs(T, K), (K, begin + 1, T)), "a sum that has no closed form here", None
    added = _gathered(parts)
    summed = head + sympy.Sum(slope ** (T - K) * rest.subs(T, K), (K, begin + 1, T))
    return (head + added if slope == 1 else _neat(head + added)), _method(slope), summed


def _largest(formula: Any, x: Any) -> tuple[Any, str, None] | None:
    """x_t = max(a x_{t-1}, b(t)) from x_0 = 0 is b(t) itself where b(1) >= 0 and b(t) >= a b(t-1)."""
    grown = [part for part in formula.args if part.has(x)]
    fresh = [part for part in formula.args if not part.has(x)]
    if len(grown) != 1 or len(fresh) != 1:
        return None
    gap = fresh[0] - grown[0].subs(x, fresh[0].subs(T, T - 1))
    if not (_not_negative(gap) and _not_negative(fresh[0].subs(T, 1))):
        return None
    return fresh[0], "the new value is never the smaller one under a constant gradient", None


def _not_negative(formula: Any) -> bool:
    """Whether a formula is at least 0 for all rates below 1, decided from the signs of its factors."""
    wide = sympy.factor(sympy.expand(formula))
    rates = {s: 1 / (1 + sympy.Symbol(f"{s.name}_p", positive=True)) for s in wide.free_symbols if _below_one(s.name)}
    return sympy.factor(wide.subs(rates)).is_nonnegative is True


def _below_one(name: str) -> bool:
    return name.startswith(("beta", "alpha", "rho"))


def _method(slope: Any) -> str:
    return "adding up all steps" if slope == 1 else "a geometric sum"


def _added(term: Any, slope: Any, begin: int) -> Any:
    """The sum over k = begin..t of slope^(t-k) term(k), for term = coefficient · ratio^k; None for anything else."""
    coefficient, power = term.as_independent(T, as_Add=False)
    ratio = sympy.Integer(1)
    for factor in sympy.Mul.make_args(power):
        if factor == 1:
            continue
        exponent = factor.exp if isinstance(factor, sympy.Pow) else None
        if exponent is None or factor.base.has(T) or not sympy.diff(exponent, T).is_number:
            return None
        per = sympy.diff(exponent, T)
        ratio *= factor.base**per
        coefficient *= factor.base ** sympy.expand(exponent - per * T)
    if sympy.simplify(ratio - slope) == 0:
        return coefficient * slope**T * (T - begin + 1)
    return coefficient * (slope ** (T - begin + 1) * ratio**begin - ratio ** (T + 1)) / (slope - ratio)


def _powers(formula: Any) -> Any:
    return sympy.expand(formula, power_exp=False, power_base=True)


def _join(formula: Any) -> Any:
    return sympy.expand(formula) if not formula.has(sympy.Abs, sympy.sqrt) else formula


def _tidy(formula: Any) -> Any:
    """The shorter of the formula as it stands, factored, and simplified."""
    candidates = [formula, sympy.factor(formula), sympy.simplify(formula)]
    return min(candidates, key=lambda f: (f.count_ops(), len(str(f))))


def _neat(formula: Any) -> Any:
    """A closed form as it is written: common factors in front, each power of t once."""
    best = _tidy(formula)
    wide = sympy.factor_terms(sympy.expand(formula))
    return turned(min((best, wide, sympy.factor(formula)), key=lambda f: (f.count_ops(), len(str(f)))))


def turned(formula: Any) -> Any:
    """The formula with 1 - beta in place of beta - 1 in every factor."""
    if isinstance(formula, sympy.Add):
        return sympy.Add(*(turned(term) for term in formula.args))
    sign, factors = sympy.Integer(1), []
    for factor in sympy.Mul.make_args(formula):
        base, exponent = factor.as_base_exp()
        if isinstance(base, sympy.Add) and exponent.is_Integer and base.as_coeff_Add()[0] < 0:
            sign, factor = sign * (-1) ** exponent, (-base) ** exponent
        factors.append(factor)
    return sympy.Mul(sign, *factors)


def _gathered(parts: list[Any]) -> Any:
    """The sum of the parts: what grows with t and what settles, each by itself, with their common factors in front."""
    growing = [p for p in parts if _grows(p)]
    settling = [p for p in parts if not _grows(p)]
    if not growing or not settling:
        return _neat(sum(parts))
    both = _neat(sum(growing)) + _neat(sum(settling))
    return sympy.factor_terms(both, sign=False)


def _grows(part: Any) -> bool:
    return bool(part.has(T) and not any(p.exp.has(T) for p in part.atoms(sympy.Pow)))


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
