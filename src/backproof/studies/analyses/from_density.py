"""The equations from a density to its loss: product, K, logarithm, sum, constants, sign; each with what it assumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy

from ...document.blocks import Equation
from ...document.math import Add, BigSum, Call, Expr, Function, Mul, Neg, Sym, Words
from ...notation import named
from ..optimizer.sympy_math import formula_of
from .densities import Density

__all__ = ["Chain", "equations"]


@dataclass(frozen=True)
class Chain:
    """What the equations are about.

    Args:
        found: the density of a point.
        y: the name of what is observed; ``learned`` are the names that depend on the parameters.
        per_point: the names with one value per point.
        count: the number of points, a number or a symbol.
        parameters: the name of the parameters, where there is one.
        kind: the name of the noise.
    """

    found: Density
    y: str
    learned: tuple[str, ...]
    per_point: frozenset[str]
    count: Any
    parameters: str = ""
    kind: str = ""


def _point(chain: Chain, index: str) -> Expr:
    """p(y_i | f_i)."""
    given: list[Expr] = [Sym(named(chain.y).name, (*named(chain.y).sub, index)), Words(" | ")]
    for k, name in enumerate(chain.learned):
        own = named(name)
        given += ([Words(", ")] if k else []) + [
            Sym(own.name, (*own.sub, index) if name in chain.per_point else own.sub)
        ]
    return Call(Function("p"), (Mul(tuple(given)),), "p")


def _symbols(chain: Chain) -> dict[str, Expr]:
    found: dict[str, Expr] = {}
    for s in (chain.found.y, *chain.found.others):
        own = named(s.name)
        found[s.name] = Sym(own.name, (*own.sub, "i")) if s.name in chain.per_point else own
    return found


def equations(chain: Chain) -> tuple[Equation, ...]:
    """The equations in order, each with the assumption or the rule behind it."""
    found, shown = chain.found, _symbols(chain)
    count = formula_of(chain.count)
    first, last = "1", str(chain.count)

    def over(body: Expr) -> Expr:
        return BigSum(body, "i", formula_of(1), count)

    log = Function("log", "log", r"\log")
    w = named(chain.parameters) if chain.parameters else Words("w")
    many = not chain.count.is_Integer or chain.count > 2
    product = Mul((_point(chain, first), Words(" ... " if many else " "), _point(chain, last)))
    logp = _log_density(found, shown)
    like = Call(Function("p"), (Mul((Words("y"), Words(" | "), w)),), "p")
    log_like = Call(log, (like,), "log")
    kept = any(s.name in chain.learned for s in found.dropped.free_symbols)
    rows = [
        Equation(like, (product,), _WHY["product"]),
        Equation(_point(chain, "i"), (Mul((Sym("K"), formula_of(found.kernel, shown))),), chain.kind),
        Equation(Sym("K"), (formula_of(found.constant, shown),), _WHY["sum" if found.support else "integral"]),
        Equation(log_like, (over(Call(log, (_point(chain, "i"),), "log")),), _WHY["log"]),
        Equation(log_like, (over(logp),), _WHY["put in"]),
        *_apart(chain, log_like, over(formula_of(found.loss, shown)), shown),
        Equation(
            Call(Function("L"), (w,), "L"),
            (over(formula_of(found.loss, shown)),),
            f"{_WHY['kept' if kept or found.dropped == 0 else 'dropped']}; {_WHY['sign']}",
        ),
    ]
    return tuple(rows)


_WHY = {
    "product": "independence: the joint density is the product; identical model: the same density for every point",
    "integral": "the density must integrate to 1",
    "sum": "the probabilities must sum to 1",
    "log": "the logarithm of a product is a sum; it rises, so the maximum stays where it is",
    "put in": "the density put in",
    "dropped": "the constant is dropped: it does not depend on what is learned",
    "kept": "nothing else can be dropped",
    "sign": "the sign is turned: the largest likelihood is the smallest loss",
}


def _kernel_part(found: Density) -> Any:
    return -sympy.expand_log(sympy.log(found.kernel), force=True)


def _log_density(found: Density, shown: Mapping[str, Expr]) -> Expr:
    """log K + log kernel."""
    if found.constant == 1:
        return formula_of(-_kernel_part(found), shown)
    return Add((formula_of(sympy.log(found.constant), shown), Neg(formula_of(_kernel_part(found), shown))))


def _apart(chain: Chain, left: Expr, loss: Expr, shown: Mapping[str, Expr]) -> tuple[Equation, ...]:
    """The sum with what is about to be dropped taken apart; nothing where there is nothing to drop."""
    if chain.found.dropped == 0:
        return (Equation(left, (Neg(loss),), _same_for_all(chain)),)
    return (Equation(left, (Add((_constant(chain, shown), Neg(loss))),), _same_for_all(chain)),)


def _constant(chain: Chain, shown: Mapping[str, Expr]) -> Expr:
    """What is dropped, added over the points."""
    dropped = -chain.found.dropped
    if any(s.name in chain.per_point for s in dropped.free_symbols):
        return BigSum(formula_of(dropped, shown), "i", formula_of(1), formula_of(chain.count))
    return formula_of(chain.count * dropped, shown)


def _same_for_all(chain: Chain) -> str:
    found = chain.found
    if any(s.name in chain.learned for s in found.constant.free_symbols):
        return "K depends on what is learned, so its logarithm stays in the loss"
    if found.constant == 1:
        return "K is 1 for every point"
    variance = found.variance
    if variance is not None and variance.free_symbols:
        return f"one known variance {variance} for every point: K is the same for all and depends on no parameter"
    if variance is None:
        return "K is the same for all points and depends on no parameter"
    return f"one constant variance {variance} for every point: K is the same for all and depends on no parameter"
