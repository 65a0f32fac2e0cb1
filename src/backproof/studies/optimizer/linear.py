"""An update rule on a quadratic: one late update is a linear map of (w, state), read from the rule's own equations.

On the loss L w^2 / 2 the gradient is L w (plus noise). For a rule that divides by the size of past gradients, that size is held
fixed (at 1, so L is the curvature of the preconditioned quadratic) and the bias corrections have died out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
import torch

from ...errors import InputError
from ...optimizers import Optimizer
from .recurrence import T, read, symbol_of

__all__ = ["CURVATURE", "Linear", "best_rate", "linear_update", "radius"]

CURVATURE = sympy.Symbol("L", positive=True)
NOISE = sympy.Symbol("noise_", real=True)


@dataclass(frozen=True)
class Linear:
    """One late update on a quadratic: z -> matrix z + entry noise, with symbols for the settings.

    Args:
        matrix: of (w, state), in the curvature L and the settings.
        entry: how a disturbance of the gradient enters.
        numbers: the settings' numbers.
    """

    matrix: Any
    entry: Any
    numbers: dict[Any, Any]

    def at(self, curvature: float) -> Any:
        """The matrix at a curvature, in numbers."""
        plain = self.matrix.subs(self.numbers).subs(CURVATURE, curvature)
        return torch.tensor([[float(x) for x in row] for row in plain.tolist()], dtype=torch.float64)

    def rate(self, curvature: float) -> float:
        """What an update multiplies the distance to the minimum by, in the long run: the largest eigenvalue in size."""
        return float(torch.linalg.eigvals(self.at(curvature)).abs().max())

    def floor(self, curvature: float) -> float:
        """The variance of w in the long run when the gradient has noise of variance 1; inf where there is none.

        It is the first entry of the solution of S = A S Aᵀ + b bᵀ (a Lyapunov equation).
        """
        if self.rate(curvature) >= 1:
            return math.inf
        a = self.at(curvature)
        b = torch.tensor([[float(x.subs(self.numbers))] for x in self.entry], dtype=torch.float64)
        eye = torch.eye(len(a) ** 2, dtype=torch.float64)
        solved = torch.linalg.solve(eye - torch.kron(a, a), (b @ b.T).reshape(-1))
        return float(solved[0])

    def floor_formula(self) -> Any:
        """That variance as a formula, for up to two values (w and one of state); None otherwise."""
        size = self.matrix.shape[0]
        if size > 2:
            return None
        names = {(i, j): sympy.Symbol(f"S_{min(i, j)}{max(i, j)}") for i in range(size) for j in range(size)}
        s = sympy.Matrix(size, size, lambda i, j: names[i, j])
        equations = sympy.expand(self.matrix * s * self.matrix.T + self.entry * self.entry.T - s)
        solved = sympy.solve(list(equations), sorted(set(names.values()), key=str), dict=True)
        return sympy.factor(solved[0][names[0, 0]]) if solved else None


def linear_update(optimizer: Optimizer) -> Linear:
    """The linear map of one late update.

    Raises:
        InputError: an update is not linear in w and its state, even with the size of past gradients held fixed.
    """
    if optimizer.rule.whole or optimizer.rule.asks:
        raise InputError(
            f"{optimizer.rule.name} has no stability limit of this kind: a step depends on the whole tensor"
        )
    hyper = {k: symbol_of(k) for k, v in optimizer.numbers().items() if v}
    fixed = {s: sympy.Integer(1) for s in optimizer.rule.second} | dict.fromkeys(
        optimizer.rule.fading, sympy.Integer(0)
    )
    fixed |= dict.fromkeys(optimizer.rule.rates, hyper.get("lr", sympy.Integer(0)))
    kept = [s for s in optimizer.state if s not in fixed]
    old = {n: sympy.Symbol(f"{n}_old", real=True) for n in ("w", *kept)}
    graph = optimizer.graph((), 1000)
    names = dict(zip(graph.outputs, ("w", *optimizer.state), strict=True))
    gradient = CURVATURE * old["w"] + NOISE
    leaves = {**{k: 0 for k, v in optimizer.hyper.items() if not v}, **hyper, "g": gradient, "t": T, **old}
    leaves |= {**fixed, "eps": sympy.Integer(0)}

    def late(node: Any, formula: Any) -> Any:
        if names.get(node) in fixed:
            return fixed[names[node]]
        formula = formula.replace(
            lambda e: isinstance(e, sympy.Gt) and isinstance(e.lhs, sympy.Abs), lambda e: sympy.true
        )
        return formula.replace(lambda e: e.is_Pow and e.exp.has(T), lambda e: sympy.Integer(0))

    values = read(graph, leaves, late)
    after = {names[node]: values[node] for node in graph.outputs}
    own = _feeding(after, old)
    new = sympy.Matrix([sympy.expand(after[n]) for n in own])
    matrix = new.jacobian(sympy.Matrix([old[n] for n in own]))
    entry = new.diff(NOISE)
    if (matrix.free_symbols | entry.free_symbols) & ({T, NOISE} | set(old.values())):
        raise InputError(f"the {optimizer.rule.name} rule with these settings has no stability limit of this kind")
    numbers = {symbol_of(k): sympy.Rational(repr(float(optimizer.hyper[k]))) for k in hyper}
    return Linear(matrix, entry, numbers)


def _feeding(after: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """w and the states on which it depends: a state that is only recorded (an average of w) is left out."""
    found, seen = ["w"], 0
    while seen < len(found):
        there = after[found[seen]].free_symbols
        found += [n for n, symbol in old.items() if symbol in there and n not in found]
        seen += 1
    return [n for n in old if n in found]


def radius(matrix: Any, curvature: float) -> float:
    """The size of the largest eigenvalue of a matrix of formulas in L, at a curvature."""
    numbers = matrix.subs(CURVATURE, curvature).tolist()
    eigenvalues = torch.linalg.eigvals(torch.tensor([[float(x) for x in row] for row in numbers], dtype=torch.float64))
    return float(eigenvalues.abs().max())


def best_rate(optimizer: Optimizer, low: float, high: float) -> tuple[float, float]:
    """The learning rate with which the slowest direction of a quadratic with curvatures in [low, high] is fastest.

    Returns:
        The rate, and what an update then multiplies the distance by.
    """

    def worst(log_lr: float) -> float:
        rule = Optimizer(optimizer.rule, {**optimizer.hyper, "lr": math.exp(log_lr)})
        linear = linear_update(rule)
        return max(linear.rate(low), linear.rate(math.sqrt(low * high)), linear.rate(high))

    return _smallest(worst, math.log(1e-3 / high), math.log(1e2 / low))


def _smallest(function: Any, a: float, b: float) -> tuple[float, float]:
    """The best of a grid, narrowed by golden sections."""
    grid = [a + (b - a) * k / 40 for k in range(41)]
    best = min(grid, key=function)
    low, high, golden = best - (b - a) / 40, best + (b - a) / 40, (math.sqrt(5) - 1) / 2
    while high - low > 1e-10:
        x, y = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, y) if function(x) < function(y) else (x, high)
    middle = (low + high) / 2
    return math.exp(middle), function(middle)
