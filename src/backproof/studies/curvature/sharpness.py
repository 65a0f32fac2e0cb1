"""``bp.curvature``: the sharpness of the loss, the largest stable learning rate, and both along training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import sympy
import torch
from torch import Tensor

from ...document.blocks import Block, Callout, Derivation, Document, Equation, Paragraph, Plot, Section, Series, Table
from ...document.math import Num, Sym
from ...errors import InputError
from ...optimizers import Optimizer
from ...progress import task
from ...result import Result
from ..optimizer.page import SHOWN
from ..optimizer.recurrence import symbol_of
from ..optimizer.stability import Stability, stability
from ..optimizer.sympy_math import formula_of
from ..program import Program
from ..trace import Step, _program, give_rules, run
from ..verdicts import Evidence, summary
from ..writing.worked import evidence_section
from .preconditioned import preconditioner
from .product import Eigenvalue, HessianProduct, lanczos

__all__ = ["Curvature", "Sharpness", "curvature", "largest_rate"]

ABOUT = 0.75
"""A median of so much of the limit counts as staying about it: at the edge the sharpness swings to both sides."""
FAR = 20.0
"""Curvatures so many times apart are drawn on a logarithmic scale."""
MEASURED = 60
"""At most so many points along training at which the sharpness is measured."""


@dataclass(frozen=True)
class Sharpness:
    """What was measured before an update: its number, the loss, and the largest eigenvalue that the rule sees."""

    update: int
    loss: float
    value: float


@dataclass(frozen=True)
class Curvature(Result):
    """The curvature of a loss; see :func:`curvature`.

    Args:
        sharpness: the largest eigenvalue of the Hessian at the start, lambda_max.
        residual: an eigenvalue lies within this of it.
        rule: the optimizer, or None.
        limit: the largest curvature on which the rule is stable with its lr; None without one.
        largest_lr: the largest lr that is stable at the start, for a rule that divides by nothing; None otherwise.
        steps: along training.
    """

    sharpness: float
    residual: float
    products: int
    rule: Optimizer | None
    limit: Stability | None
    largest_lr: float | None
    steps: tuple[Sharpness, ...]
    evidence: tuple[Evidence, ...]
    title: str

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether two ways to a number disagree."""
        return any(e.agrees is False for e in self.evidence)

    @property
    def edge(self) -> int | None:
        """The first update before which the sharpness had reached the limit; None where it never did."""
        if self.limit is None:
            return None
        return next((s.update for s in self.steps if s.value >= self.limit.value), None)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The curvature as plain data."""
        return {
            "sharpness": self.sharpness,
            "residual": self.residual,
            "products": self.products,
            "optimizer": None if self.rule is None else self.rule.rule.name,
            "limit": None if self.limit is None else self.limit.value,
            "preconditioned": self.limit is not None and self.limit.preconditioned,
            "largest_lr": self.largest_lr,
            "edge": self.edge,
            "steps": [{"update": s.update, "loss": s.loss, "sharpness": s.value} for s in self.steps],
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The curvature as a page."""
        blocks = [self._start(), *([self._rates()] if self.limit is not None else []), *self._training()]
        blocks += [evidence_section(self.evidence)] if self.evidence else []
        verdict = f"The sharpness at the start is {self.sharpness:.6g}. " + summary(self.evidence)
        standing = "finding" if self.finding else "agrees"
        return Document(f"The curvature of {self.title}", tuple(blocks), "", verdict, standing, self.to_dict())  # type: ignore[arg-type]

    def _far_apart(self, limit: float) -> bool:
        """Whether curve and limit are seen in one picture only on a logarithmic scale."""
        values = [s.value for s in self.steps]
        return min(values) > 0 and math.isfinite(limit) and max(*values, limit) > FAR * min(*values, limit)

    def _start(self) -> Section:
        text = (
            f"The largest eigenvalue of the Hessian, from {self.products} products with it (the graph differentiated twice); "
            f"an eigenvalue lies within {self.residual:.2g} of the number."
        )
        row = Equation(Sym("lambda", ("max",)), (Num(self.sharpness),))
        return Section("How sharp the loss is", (Paragraph((text,)), Derivation((row,))), "given", "sharpness")

    def _rates(self) -> Section:
        assert self.limit is not None and self.rule is not None
        if self.limit.measured is not None:
            text = f"{self.rule.described()}: {self.limit.measured.says}"
            return Section("Which rates are stable", (Paragraph((text,)),), "result", "rates")
        rows = [Equation(Sym("L", ("max",)), (formula_of(self.limit.formula, SHOWN), Num(self.limit.value)))]
        if self.largest_lr is not None:
            rows.append(
                Equation(Sym("eta", ("max",)), (Num(self.largest_lr),), "the rate at which the limit is the sharpness")
            )
        of = (
            " of the preconditioned loss (the Hessian divided by what the rule divides by)"
            if self.limit.preconditioned
            else ""
        )
        text = f"{self.rule.described()} is stable up to the curvature{of}:"
        return Section("Which rates are stable", (Paragraph((text,)), Derivation(tuple(rows))), "result", "rates")

    def _said(self) -> str:
        """Whether the sharpness comes to the limit in training, and whether it stays there."""
        assert self.limit is not None
        if not math.isfinite(self.limit.value):
            return "The rule has no limit that the sharpness could reach."
        if self.edge is None:
            return "The sharpness stays below the limit."
        later = [s for s in self.steps if s.update >= self.edge]
        typical = median(s.value / self.limit.value for s in later)
        rises = sum(after.loss > before.loss for before, after in pairwise(later))
        counted = (
            f"of the {len(later)} measurements from there on the median is {typical:.3g} of the limit, and the loss rises "
            f"from one to the next {rises} times."
        )
        if len(later) > 1 and typical >= ABOUT:
            return f"The sharpness reaches the limit before update {self.edge} and stays about it, at the edge of stability: {counted}"
        return f"The sharpness is over the limit before update {self.edge} but does not stay there: {counted}"

    def _training(self) -> tuple[Block, ...]:
        if not self.steps or self.limit is None:
            return ()
        x = tuple(float(s.update) for s in self.steps)
        limit = self.limit.value
        bounded = math.isfinite(limit)
        name = "preconditioned sharpness" if self.limit.preconditioned else "sharpness"
        sharp = Plot(
            (Series(name, x, tuple(s.value for s in self.steps)),
             *([Series("stability limit", x, (limit,) * len(x), "dotted")] if bounded else [])),
            "updates", "",
            ("The largest eigenvalue along training" + (f"; the dotted line is the limit {limit:.6g}." if bounded else "."),),
            f"{name} over {len(x)} measurements" + (f", with a dotted line at {limit:.6g}" if bounded else ""),
            log_y=self._far_apart(limit),
        )  # fmt: skip
        loss = Plot(
            (Series("loss", x, tuple(s.loss for s in self.steps)),),
            "updates",
            "loss",
            (),
            "the loss over the updates",
            log_y=all(s.loss > 0 for s in self.steps),
        )
        share = (("over the limit",),) if bounded else ()
        rows = tuple(
            (str(s.update), Num(s.loss), Num(s.value), *((Num(s.value / limit),) if bounded else ()))
            for s in _few(self.steps)
        )
        table = Table((("update",), ("loss",), (name,), *share), rows, "", tuple(range(1, 3 + len(share))))
        return (
            Section("Along training", (Callout("note", (self._said(),)), sharp, loss, table), "result", "training"),
        )


def _few(steps: tuple[Sharpness, ...]) -> tuple[Sharpness, ...]:
    return steps[:: max(1, len(steps) // 12)]


def curvature(
    model: Any,
    inputs: Any = None,
    targets: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    steps: int = 0,
    output: Any = None,
    arithmetic: Any = "float64",
    seed: int = 0,
) -> Curvature:
    """Measure how sharply a loss curves, the largest stable learning rate for an optimizer, and both along training.

    The largest eigenvalue of the Hessian is found by the Lanczos iteration, with products from the captured graph
    differentiated twice. For rules that divide by the size of past gradients it is, along training, that of the
    preconditioned Hessian P^(-1/2) H P^(-1/2) (Cohen et al. 2022, arXiv 2207.14484).

    Args:
        model, inputs, targets, loss, output: as for :func:`backproof.trace`; all samples are one batch.
        optimizer: a name, a class with its settings or an instance; None for the sharpness alone.
        steps: how many updates to follow.
        arithmetic: "float64", or "model" for the model's own dtype.
        seed: of the vector that the iteration begins with.

    Returns:
        A :class:`Curvature`.

    Raises:
        InputError: there is no loss, or the rule has no stability limit.

    Example:
        >>> import torch, backproof as bp
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> found = bp.curvature(torch.nn.Linear(1, 1, bias=False), x, 0 * x, loss="mse", optimizer="sgd")
        >>> round(found.sharpness, 9), round(found.largest_lr, 9)
        (10.0, 0.2)
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 0 <= steps <= 100_000:
        raise InputError(f"steps must be a whole number from 0 to 100000, not {steps!r}")
    program = _program(model, inputs, targets, loss, output, arithmetic)
    if program.graph.loss is None:
        raise InputError("curvature is that of a loss: give loss=..., or a model whose output is one number")
    give_rules(program, optimizer, model)
    if len(program.rules) > 1:
        raise InputError("the parameter groups have different rules, and so no common stability limit")
    product = HessianProduct(program)
    top = _top(product, product.start, None, seed)
    limit = stability(program.optimizer) if program.optimizer is not None else None
    largest = None
    if program.optimizer is not None and limit is not None and not limit.preconditioned:
        largest = largest_rate(program.optimizer, limit, top.value)
    measured = _along(program, product, steps, seed) if steps and program.optimizer is not None else ()
    evidence = _confirmed(product, top, program)
    return Curvature(top.value, top.residual, top.products, program.optimizer, limit, largest, measured, evidence,
                     program.graph.title)  # fmt: skip


def largest_rate(rule: Optimizer, limit: Stability, sharpness: float) -> float | None:
    """The learning rate at which a rule's stability limit is a given curvature; None where there is none."""
    if not 0 < sharpness < math.inf or "lr" not in rule.hyper:
        return None
    numbers = {symbol_of(k): sympy.Rational(repr(float(v))) for k, v in rule.numbers().items() if k != "lr" and v}
    lr = symbol_of("lr")
    bound = sympy.lambdify(lr, limit.formula.subs(numbers), "math")
    low, high = 1e-12 / sharpness, 1e6 / sharpness
    if not bound(low) > sharpness > bound(high):
        return None
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if bound(middle) > sharpness else (low, middle)
    return math.sqrt(low * high)


def _top(product: HessianProduct, parameters: Any, divide: Tensor | None, seed: int) -> Eigenvalue:
    """The largest eigenvalue of the Hessian, or of the preconditioned one."""
    dtype = next(iter(product.start.values())).dtype
    root = None if divide is None else divide.to(dtype).sqrt()

    def times(u: Tensor) -> Tensor:
        return product(parameters, u) if root is None else product(parameters, u / root) / root

    return lanczos(times, product.size, dtype, seed)


def _along(program: Program, product: HessianProduct, steps: int, seed: int) -> tuple[Sharpness, ...]:
    program.steps = steps
    records, _ = run(program)
    chosen = records[:: max(1, -(-len(records) // MEASURED))]
    found = []
    with task("measuring the sharpness", len(chosen)) as advance:
        for step in chosen:
            found.append(_measured(program, product, step, seed))
            advance(note=f"sharpness {found[-1].value:.4g}")
    return tuple(found)


def _measured(program: Program, product: HessianProduct, step: Step, seed: int) -> Sharpness:
    rule = program.optimizer
    assert rule is not None and step.loss is not None
    parameters = {n: step.parameters[n].before for n in product.names}
    divide = None
    if rule.rule.second:
        after = {n: step.parameters[n].state for n in product.names}
        parts = [preconditioner(rule, after[n], parameters[n], step.number).reshape(-1) for n in product.names]
        divide = torch.cat(parts)
    return Sharpness(step.number, step.loss, _top(product, parameters, divide, seed).value)


def _confirmed(product: HessianProduct, top: Eigenvalue, program: Program) -> tuple[Evidence, ...]:
    """The eigenvalue against the curvature of the user's own loss along the eigenvector, by autograd twice."""
    from ..program import run_eagerly

    leaves = {n: t.detach().clone().requires_grad_() for n, t in product.start.items()}
    loss = run_eagerly(program.graph, {**program.start, **leaves})
    if loss is None or not loss.requires_grad:
        return ()
    try:
        first = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, allow_unused=True)
        flat = torch.cat(
            [(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(first, leaves.values(), strict=True)]
        )
        u = top.vector.to(flat.dtype)
        second = torch.autograd.grad(flat @ u, list(leaves.values()), allow_unused=True)
    except RuntimeError:  # a custom backward that cannot be differentiated again
        return ()
    image = torch.cat(
        [(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(second, leaves.values(), strict=True)]
    )
    error = abs(float(image.double() @ top.vector) - top.value) / max(abs(top.value), 1e-12)
    agrees = error <= (1e-9 if flat.dtype == torch.float64 else 1e-4)
    return (Evidence("the sharpness", "autograd twice on the program as it stands", agrees, error, 1, 1),)
