"""Rules whose step no curvature makes grow: measured with torch.optim on quadratics of very different curvatures.

A step that is the same for all sizes of the gradient (led by signs, divided by a norm, made orthogonal) has no limit of
the curvature: the run on L w²/2 is the same for every L, and ends in a cycle whose size the learning rate sets. L-BFGS finds the
curvature itself: from its second step on w is multiplied by 1 - lr, whatever L is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...optimizers import Optimizer
from ...optimizers.witness import scalars_like, torch_class, torch_settings

__all__ = ["Bounded", "Run", "bounded"]

CURVATURES = (1e-3, 1.0, 1e3, 1e6)
SHAPE, UPDATES, ASKING_UPDATES = (4, 3), 1000, 40
NEAR = 50.0
"""Runs start so many learning rates away, at most at entries of size 1."""
GONE = 1e9
LARGEST = 1e3
"""A run that goes so much further than its start is not bounded."""


@dataclass(frozen=True)
class Run:
    """torch.optim on the quadratic L |w|²/2: how large w was at most, and in the last tenth of the updates."""

    curvature: float
    largest: float
    late: float


@dataclass(frozen=True)
class Bounded:
    """What was measured.

    Args:
        runs: one for each curvature, on entries near the minimum.
        updates: how many updates each has.
        lr: the learning rate.
        halved: by what the late size is multiplied when lr is halved, at curvature 1.
        longer: by what it is multiplied when there are four times as many updates.
        factor: L-BFGS without a line search: what one step multiplies w by, for every curvature; None for others.
    """

    runs: tuple[Run, ...]
    updates: int
    lr: float
    halved: float
    longer: float
    factor: float | None = None

    @property
    def converges(self) -> bool:
        """Whether every run ends nearer to the minimum than it began, or stays where a cycle of the rate's size is."""
        return all(r.largest < LARGEST for r in self.runs)

    @property
    def says(self) -> str:
        """The measurement in words."""
        if self.factor is not None:
            end = (
                "so it converges for every curvature" if abs(self.factor) < 1 else "so it diverges for every curvature"
            )
            return (
                f"It has no limit of the curvature, but one of the learning rate: its steps are lr times Newton's, and on a quadratic "
                f"one of them multiplies w by 1 - lr = {self.factor:.4g}, {end}: it needs lr < 2."
            )
        late = max(r.late for r in self.runs)
        first = "No curvature makes it diverge. "
        if late < 1e-12:
            return first + f"After {self.updates} updates it is at the minimum."
        return first + f"{self._end(late)}"

    def _end(self, late: float) -> str:
        size = (
            f"entries of w of up to {late:.3g} ({late / self.lr:.3g} lr)"
            if self.lr
            else f"entries of w of up to {late:.3g}"
        )
        text = f"After {self.updates} updates it moves around the minimum with {size}"
        if self.longer < 0.8:
            return f"{text}, and nearer with more updates: four times as many leave {self.longer:.2g} times that."
        if 0.35 < self.halved < 0.7:
            return f"{text}, and stays there: with half the learning rate it is {self.halved:.2g} times that."
        return f"{text}, and stays there, whatever the learning rate is ({self.halved:.2g} times that with half of it)."


def bounded(optimizer: Optimizer) -> Bounded:
    """Measure a rule on quadratics whose curvatures span nine decades.

    Raises:
        InputError: it is no rule of torch.optim, or some curvature makes it diverge.
    """
    rule = optimizer.rule
    try:
        torch_class(rule.name)
    except KeyError:
        raise InputError(
            f"{rule.name} has no stability limit of this kind, and torch.optim has no class to measure"
        ) from None
    updates = ASKING_UPDATES if rule.asks else UPDATES
    runs = tuple(_run(optimizer, c, updates) for c in CURVATURES)
    factor = _newton_factor(optimizer)
    changes = (1.0, 1.0) if factor is not None else _compared(optimizer, runs, updates)
    found = Bounded(runs, updates, float(optimizer.hyper["lr"]), *changes, factor)
    if not found.converges and factor is None:
        raise InputError(
            f"the {rule.name} rule with these settings has no stability limit of this kind: its update is not linear in w, and on "
            f"a quadratic of curvature {max(runs, key=lambda r: r.largest).curvature:g} it leaves the numbers"
        )
    return found


def _compared(optimizer: Optimizer, runs: tuple[Run, ...], updates: int) -> tuple[float, float]:
    """By what the size at the end changes with half the rate, and with four times as many updates."""
    base = max(runs[1].late, 1e-300)
    half = Optimizer(optimizer.rule, {**optimizer.hyper, "lr": float(optimizer.hyper["lr"]) / 2})
    return _run(half, 1.0, updates).late / base, _run(optimizer, 1.0, 4 * updates).late / base


def _newton_factor(optimizer: Optimizer) -> float | None:
    """What the second step of L-BFGS multiplies w by, measured: the first has shown it the curvature."""
    if not optimizer.rule.asks or optimizer.hyper["line_search_fn"]:
        return None
    one_step = {**optimizer.hyper, "max_iter": 1, "max_eval": None, "tolerance_grad": 0.0, "tolerance_change": 0.0}
    found = [_second_step(Optimizer(optimizer.rule, one_step), c) for c in CURVATURES[1:]]
    return max(found, key=lambda f: abs(f - (1 - float(optimizer.hyper["lr"]))))


def _second_step(optimizer: Optimizer, curvature: float) -> float:
    w = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    theirs = torch_class(optimizer.rule.name)([w], **torch_settings(optimizer.rule, optimizer.hyper))
    _update(theirs, w, curvature, True)
    before = w.item()
    _update(theirs, w, curvature, True)
    return w.item() / before if before else 0.0


def _run(optimizer: Optimizer, curvature: float, updates: int) -> Run:
    shape = SHAPE if optimizer.rule.whole and not optimizer.rule.asks else (1,)
    generator = torch.Generator().manual_seed(0)
    near = min(1.0, NEAR * float(optimizer.hyper["lr"])) or 1.0  # so that equal steps reach the minimum
    w = (near * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    settings = torch_settings(optimizer.rule, optimizer.hyper)
    theirs = torch_class(optimizer.rule.name)([w], **settings)
    sizes = []
    with scalars_like(w):
        for _ in range(updates):
            _update(theirs, w, curvature, optimizer.rule.asks)
            sizes.append(float(w.detach().abs().max()))
            if not sizes[-1] < GONE:
                return Run(curvature, sizes[-1], sizes[-1])
    return Run(curvature, max(sizes), max(sizes[-max(1, updates // 10) :]))


def _update(theirs: Any, w: Tensor, curvature: float, asks: bool) -> None:
    def closure() -> Tensor:
        loss = curvature * (w.detach() ** 2).sum() / 2
        w.grad = curvature * w.detach()
        return loss

    closure()
    theirs.step(*([closure] if asks else []))
