"""The largest stable rate of several rules, from the sharpness that products with the Hessian give."""

from __future__ import annotations

from typing import Any

from ...document.blocks import Block, Paragraph, Table
from ...document.math import Num
from ...errors import InputError
from ...optimizers import Optimizer
from ...optimizers import optimizer as find_optimizer
from ..curvature.product import HessianProduct, lanczos
from ..curvature.sharpness import largest_rate
from ..optimizer.stability import stability
from ..program import Program
from ..verdicts import TOLERANCE, Evidence

__all__ = ["stable_rates"]

COMPARED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sgd", {}), ("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "nesterov": True}),
)  # fmt: skip


def stable_rates(program: Program, largest: float) -> tuple[dict[str, float], list[Block], list[Evidence]]:
    """What ``bp.curvature`` finds, beside the eigenvalues of the whole matrix.

    Args:
        program: a program with a loss.
        largest: the largest eigenvalue of the whole matrix of second derivatives, positive.

    Returns:
        Rule -> largest stable rate, the blocks, and the evidence that both ways agree.
    """
    product = HessianProduct(program)
    first = next(iter(product.start.values()))
    top = lanczos(lambda u: product(product.start, u), product.size, first.dtype)
    rules = [find_optimizer(name, **settings) for name, settings in COMPARED]
    own = program.optimizer
    rules += [own] if own is not None and not any(_alike(own, r) for r in rules) else []
    rates = {_label(r): rate for r in rules if (rate := _largest(r, top.value)) is not None}
    rows = tuple((name, Num(rate)) for name, rate in rates.items())
    text = (
        f"The largest eigenvalue alone is enough for that: {top.products} products of the matrix with a vector (the graph "
        f"differentiated twice, Lanczos' iteration) give {top.value:.10g}. Where an update of a rule, as a linear map, has its largest "
        "eigenvalue on the unit circle, the rate is the largest stable one:"
    )
    table = Table((("rule",), ("largest stable rate",)), rows, "The largest stable rate at this curvature", (1,))
    return rates, [Paragraph((text,)), table], _agreeing(top.value, largest, rates)


def _agreeing(ours: float, largest: float, rates: dict[str, float]) -> list[Evidence]:
    gap = abs(ours - largest) / largest
    found = [Evidence("the largest eigenvalue", "Lanczos' iteration with products", gap <= TOLERANCE, gap, 1, 1)]
    if "SGD" in rates:
        gap = abs(rates["SGD"] * largest / 2 - 1)
        found.append(
            Evidence("the largest stable rate", "the eigenvalues of SGD's own update", gap <= TOLERANCE, gap, 1, 1)
        )
    return found


def _largest(rule: Optimizer, curvature: float) -> float | None:
    try:
        limit = stability(rule)
    except InputError:
        return None
    return None if limit.preconditioned or limit.matrix is None else largest_rate(rule, limit, curvature)


def _alike(one: Optimizer, two: Optimizer) -> bool:
    return one.rule.name == two.rule.name and {**one.hyper, "lr": 0} == {**two.hyper, "lr": 0}


def _label(rule: Optimizer) -> str:
    return rule.described().replace(f", lr {rule.hyper['lr']}", "")
