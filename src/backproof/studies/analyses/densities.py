"""A density of one point, as a formula: its constant K, its mean and variance, and the loss that it leads to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mpmath
import sympy

from ...errors import FormulaError
from ...formula.read import add_formula
from ...graph import Builder, Graph
from ..optimizer.recurrence import read

__all__ = ["Density", "density", "quadrature", "spelled"]

MOST_VALUES = 50


@dataclass(frozen=True)
class Density:
    """p(y | f) = K kernel(y, f).

    Args:
        kernel: the formula without K.
        y: the symbol of what is observed; ``others`` are the symbols of everything else.
        support: the values that y can take; empty for all real numbers.
        total: what the kernel sums or integrates to, 1/K; None where no formula for it was found.
        variance: of y, where it was found.
        terms: -log p as a sum: what depends on the prediction, and what does not.
    """

    kernel: Any
    y: Any
    others: tuple[Any, ...]
    support: tuple[Any, ...]
    total: Any
    variance: Any
    loss: Any
    dropped: Any

    @property
    def constant(self) -> Any:
        """K."""
        return None if self.total is None else sympy.simplify(1 / self.total)


_BY_NAME = {
    ("gaussian", 2): "exp(-({0} - {1})**2 / 2)",
    ("gaussian", 3): "exp(-({0} - {1})**2 / (2 * {2}**2))",
    ("laplace", 2): "exp(-abs({0} - {1}))",
    ("laplace", 3): "exp(-abs({0} - {1}) / {2})",
    ("bernoulli", 2): "{1}**{0} * (1 - {1})**(1 - {0}), {0} in {{0, 1}}",
}


def spelled(text: str) -> str:
    """A density by its name, "gaussian(y, f)", as its formula; any other text as it is."""
    found = re.fullmatch(r"\s*(gaussian|laplace|bernoulli)\s*\(([^()]*)\)\s*", text)
    if found is None:
        return text
    names = [n.strip() for n in found[2].split(",")]
    pattern = _BY_NAME.get((found[1], len(names)))
    if pattern is None:
        wanted = "2" if found[1] == "bernoulli" else "2 or 3"
        raise FormulaError(f"the density {text!r} needs {wanted} names, as in {found[1]}(y, f)")
    return pattern.format(*names)


def density(text: str, y: str, fixed: Sequence[str], names: Sequence[str], place: str) -> Density:
    """Read a density's formula, and derive what -log of it is.

    Args:
        text: the formula without K, such as "exp(-(y - f)**2)", and after a comma the values of y: "y in {0, 1}".
        y: the name of what is observed.
        fixed: names (besides y) that do not depend on what is learned.
        names: all names that it may use.
        place: how messages call it.

    Raises:
        FormulaError: it cannot be read.
    """
    return _density(text, y, tuple(fixed), tuple(names), place)


@lru_cache(maxsize=64)
def _density(text: str, y: str, fixed: tuple[str, ...], names: tuple[str, ...], place: str) -> Density:
    formula, _, rest = text.partition(", ")
    kernel = _formula(formula, names, y, place)
    symbols = {s.name: s for s in kernel.free_symbols}
    if y not in symbols:
        raise FormulaError(f"{place}: the density {formula!r} does not mention {y}")
    others = tuple(s for n, s in sorted(symbols.items()) if n != y)
    support = _support(rest, y, place) if rest else ()
    total, variance = _total(kernel, symbols[y], others, support)
    neglog = -sympy.expand_log(sympy.log(kernel), force=True)
    terms = sympy.Add.make_args(sympy.expand(neglog) if neglog.is_polynomial() and not others else neglog)
    if total is not None:
        terms += sympy.Add.make_args(sympy.expand_log(sympy.log(total), force=True))
    learned = {s for s in others if s.name not in fixed}
    loss = sympy.Add(*(t for t in terms if t.free_symbols & learned))
    return Density(kernel, symbols[y], others, support, total, variance, loss, sympy.Add(*terms) - loss)


def _formula(text: str, names: Sequence[str], y: str, place: str) -> Any:
    builder = Builder()
    leaves = {n: builder.leaf(n, "input", (), "float64") for n in names}
    add_formula(builder, dict(leaves), "density", text, place)
    graph = Graph(tuple(builder.nodes), (builder.nodes[-1],))
    used = {x.name for n in graph.nodes for x in n.inputs}
    plain = {
        n: sympy.Symbol(n, real=True) if n == y or _shifts(text, n) else sympy.Symbol(n, positive=True) for n in names
    }
    kernel = read(graph, {n: s for n, s in plain.items() if n in used or True})[graph.outputs[0]]
    return kernel


def _shifts(text: str, name: str) -> bool:
    """Whether a name is subtracted from another: a place, which may be negative; otherwise a size, taken as positive."""
    tight = text.replace(" ", "")
    return f"-{name})" in tight or f"({name}-" in tight


def _support(text: str, y: str, place: str) -> tuple[Any, ...]:
    name, _, values = text.replace(" ", "").partition("in{")
    try:
        found = tuple(sympy.Rational(v) for v in values.removesuffix("}").split(","))
    except (TypeError, ValueError):
        found = ()
    if name != y or not values.endswith("}") or not 2 <= len(found) <= MOST_VALUES:
        raise FormulaError(f'{place}: after the comma stand the values of {y}, as in "{y} in {{0, 1}}", not {text!r}')
    return found


def _total(kernel: Any, y: Any, others: tuple[Any, ...], support: tuple[Any, ...]) -> tuple[Any, Any]:
    """What the kernel adds up to, and the variance, as formulas; (None, None) where none is found."""
    if support:
        total = sympy.simplify(sum(kernel.subs(y, v) for v in support))
        mean = sum(v * kernel.subs(y, v) for v in support) / total
        return total, sympy.factor(sympy.simplify(sum((v - mean) ** 2 * kernel.subs(y, v) for v in support) / total))
    u, v = sympy.Symbol("u", real=True), sympy.Symbol("v", positive=True)
    for place in (sympy.Integer(0), *others):
        moved = kernel.subs(y, place + u)
        halves = [sympy.expand_log(sympy.log(moved.subs(u, sign * v)), force=True) for sign in (1, -1)]
        found = [[_moment(sympy.expand(half), v, n) for half in halves] for n in (0, 1, 2)]
        if any(m is None for pair in found for m in pair):
            continue
        total = sympy.simplify(found[0][0] + found[0][1])
        mean, square = (found[1][0] - found[1][1]) / total, (found[2][0] + found[2][1]) / total
        return total, sympy.simplify(square - mean**2)
    return None, None


def _moment(power: Any, v: Any, n: int) -> Any:
    """The integral of v^n e^power over v > 0, for power = c - b v or c - a v^2 with a, b > 0; None for anything else.

    They are n! / b^(n+1) and Γ((n+1)/2) / (2 a^((n+1)/2)), times e^c.
    """
    if not power.is_polynomial(v) or sympy.degree(power, v) > 2:
        return None
    a, b, c = -power.coeff(v, 2), -power.coeff(v, 1), power.coeff(v, 0)
    if sympy.simplify(b) == 0 and a.is_positive:
        half = sympy.Rational(n + 1, 2)
        return sympy.exp(c) * sympy.gamma(half) / (2 * a**half)
    if a == 0 and b.is_positive:
        return sympy.exp(c) * sympy.factorial(n) / b ** (n + 1)
    return None


def quadrature(found: Density, at: dict[Any, float]) -> float:
    """K times the integral (or sum) of the kernel, in numbers: 1 if K is right."""
    kernel = found.kernel.subs({s: at[s] for s in found.others})
    constant = float(found.constant.subs({s: at[s] for s in found.others}))
    if found.support:
        return constant * float(sum(kernel.subs(found.y, v) for v in found.support))
    function = sympy.lambdify(found.y, kernel, "mpmath")
    middle = [at[s] for s in found.others]
    points = sorted({-mpmath.inf, *middle, mpmath.inf})
    return constant * float(mpmath.quad(function, points))
