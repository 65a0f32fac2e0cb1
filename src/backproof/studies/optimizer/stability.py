"""The largest curvature of a quadratic on which an update rule converges, from the rule's own equations.

On the loss L w^2 / 2 the gradient is L w, and one update takes (w, state) to a linear function of itself: a matrix whose
eigenvalues must lie inside the unit circle. For a rule that divides by the size of past gradients, that size is held
fixed (at 1, so L is the curvature of the preconditioned quadratic) and the bias corrections have died out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy
import torch

from ...errors import InputError
from ...optimizers import Optimizer
from .recurrence import T, read, symbol_of

__all__ = ["Stability", "stability"]

CURVATURE = sympy.Symbol("L", positive=True)


@dataclass(frozen=True)
class Stability:
    """A stability limit: its value, its formula, the eigenvalue that leaves the circle there, and the matrix.

    ``value`` is infinite where no curvature makes the rule diverge, 0 where every one does.
    """

    value: float
    formula: Any
    where: str
    matrix: Any
    preconditioned: bool


def stability(optimizer: Optimizer) -> Stability:
    """The stability limit of a rule.

    Raises:
        InputError: an update is not linear in w and its state, even with the size of past gradients held fixed.
    """
    hyper = {k: symbol_of(k) for k, v in optimizer.hyper.items() if v and not isinstance(v, bool)}
    matrix = _matrix(optimizer, hyper)
    numbers = {symbol_of(k): sympy.Rational(repr(float(optimizer.hyper[k]))) for k in hyper}
    candidates = _crossings(matrix)
    at = [(float(f.subs(numbers)), f, where) for f, where in candidates if not _hidden(f.subs(numbers))]
    plain = matrix.subs(numbers)
    for value, formula, where in sorted((c for c in at if c[0] > 0), key=lambda c: c[0]):
        if _radius(plain, value * (1 - 1e-6)) < 1 < _radius(plain, value * (1 + 1e-6)):
            return Stability(value, formula, where, matrix, bool(optimizer.rule.second))
    value = 0.0 if _radius(plain, 1e-3) >= 1 else float("inf")
    return Stability(value, sympy.Integer(0) if value == 0 else sympy.oo, "", matrix, bool(optimizer.rule.second))


def _hidden(value: Any) -> bool:
    return bool(value.has(sympy.zoo, sympy.nan, sympy.oo)) or not value.is_real


def _matrix(optimizer: Optimizer, hyper: dict[str, Any]) -> Any:
    """The matrix of one late update: (w, state) -> (w, state)."""
    kept = [s for s in optimizer.state if s not in optimizer.rule.second]
    old = {n: sympy.Symbol(f"{n}_old", real=True) for n in ("w", *kept)}
    graph = optimizer.graph((), 1000)
    names = dict(zip(graph.outputs, ("w", *optimizer.state), strict=True))
    leaves = {**{k: 0 for k, v in optimizer.hyper.items() if not v}, **hyper, "g": CURVATURE * old["w"], "t": T, **old}
    leaves |= {s: sympy.Integer(1) for s in optimizer.rule.second} | {"eps": sympy.Integer(0)}

    def late(node: Any, formula: Any) -> Any:
        if names.get(node) in optimizer.rule.second:
            return sympy.Integer(1)
        return formula.replace(lambda e: e.is_Pow and e.exp.has(T), lambda e: sympy.Integer(0))

    values = read(graph, leaves, late)
    order = {name: node for node, name in names.items()}
    new = sympy.Matrix([sympy.expand(values[order[n]]) for n in ("w", *kept)])
    matrix = new.jacobian(sympy.Matrix([old[n] for n in ("w", *kept)]))
    if matrix.free_symbols & ({T} | set(old.values())):
        raise InputError(f"the {optimizer.rule.name} rule with these settings has no stability limit of this kind")
    return matrix


def _crossings(matrix: Any) -> list[tuple[Any, str]]:
    """The curvatures at which an eigenvalue can leave the unit circle, as formulas."""
    size = matrix.shape[0]
    found = []
    for sign, where in ((1, "-1"), (-1, "1")):
        equation = sympy.expand((matrix + sign * sympy.eye(size)).det())
        found += [(sympy.factor(f), where) for f in _roots(equation)]
    if size == 2:
        found += [(sympy.factor(f), "the unit circle") for f in _roots(sympy.expand(matrix.det() - 1))]
    return found


def _roots(equation: Any) -> list[Any]:
    return list(sympy.solve(equation, CURVATURE)) if equation.has(CURVATURE) else []


def _radius(matrix: Any, curvature: float) -> float:
    numbers = matrix.subs(CURVATURE, curvature).tolist()
    eigenvalues = torch.linalg.eigvals(torch.tensor([[float(x) for x in row] for row in numbers], dtype=torch.float64))
    return float(eigenvalues.abs().max())
