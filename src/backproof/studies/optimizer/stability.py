"""The largest curvature of a quadratic on which an update rule converges, from the rule's own equations.

On the loss L w^2 / 2 the gradient is L w, and one update takes (w, state) to a linear function of itself: a matrix whose
eigenvalues must lie inside the unit circle. For a rule that divides by the size of past gradients, that size is held
fixed (at 1, so L is the curvature of the preconditioned quadratic) and the bias corrections have died out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy

from ...errors import InputError
from ...optimizers import Optimizer
from .bounded import Bounded, bounded
from .linear import CURVATURE, linear_update, radius

__all__ = ["Stability", "stability"]


@dataclass(frozen=True)
class Stability:
    """A stability limit: its value, its formula, the eigenvalue that leaves the circle there, and the matrix.

    ``value`` is infinite where no curvature makes the rule diverge, 0 where every one does. ``measured`` holds the runs for a
    rule whose update is not linear, so that it has no matrix.
    """

    value: float
    formula: Any
    where: str
    matrix: Any
    preconditioned: bool
    measured: Bounded | None = None


def stability(optimizer: Optimizer) -> Stability:
    """The stability limit of a rule.

    Raises:
        InputError: an update is not linear in w and its state, even with the size of past gradients held fixed, and large
            curvatures make it diverge all the same.
    """
    try:
        linear = linear_update(optimizer)
    except InputError:
        runs = bounded(optimizer)
        value = sympy.oo if runs.factor is None or abs(runs.factor) < 1 else sympy.Integer(0)
        return Stability(float(value), value, "", None, False, runs)
    matrix, numbers = linear.matrix, linear.numbers
    candidates = _crossings(matrix)
    at = [(float(f.subs(numbers)), f, where) for f, where in candidates if not _hidden(f.subs(numbers))]
    plain = matrix.subs(numbers)
    for value, formula, where in sorted((c for c in at if c[0] > 0), key=lambda c: c[0]):
        if radius(plain, value * (1 - 1e-6)) < 1 < radius(plain, value * (1 + 1e-6)):
            return Stability(value, formula, where, matrix, bool(optimizer.rule.second))
    value = 0.0 if radius(plain, 1e-3) >= 1 else float("inf")
    return Stability(value, sympy.Integer(0) if value == 0 else sympy.oo, "", matrix, bool(optimizer.rule.second))


def _hidden(value: Any) -> bool:
    return bool(value.has(sympy.zoo, sympy.nan, sympy.oo)) or not value.is_real


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
