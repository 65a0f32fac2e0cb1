"""Where two update rules part, shown on the smallest example: one number, as few updates as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from ...errors import BackproofError
from ...optimizers import Optimizer
from .replay import Replay

__all__ = ["Parting", "smallest_example"]

APART = 1e-6
MOST_UPDATES = 3
LONGER = (60, 1000)
"""How many updates with the gradient 1 are made where no short example tells them apart."""
SHOWN = 8


@dataclass(frozen=True)
class Parting:
    """The smallest example on which two rules give different numbers.

    Args:
        start: w at the start.
        gradients: the gradient of each update.
        rates: the learning rate of each update as a multiple of the setting.
        one, two: w after each update under the one and the other rule.
    """

    start: float
    gradients: tuple[float, ...]
    rates: tuple[float, ...]
    one: tuple[float, ...]
    two: tuple[float, ...]

    @property
    def update(self) -> int:
        """The first update after which they differ."""
        return next(k + 1 for k, (a, b) in enumerate(zip(self.one, self.two, strict=True)) if _apart(a, b, self.start))

    @property
    def says(self) -> str:
        """The example in words."""
        rates = "" if set(self.rates) == {1.0} else f", lr times {', '.join(f'{r:g}' for r in self.rates)}"
        if len(self.gradients) > SHOWN:
            return f"w = {self.start:g}, the gradient {self.gradients[0]:g} in {len(self.gradients)} updates"
        return f"w = {self.start:g}, gradients {', '.join(f'{g:g}' for g in self.gradients)}{rates}"


def smallest_example(one: Optimizer, two: Optimizer) -> Parting | None:
    """The first of the examples, shortest and plainest first, on which two rules differ; None where none was found.

    Args:
        one, two: rules for single numbers (a matrix rule is tried on a 1 x 1 matrix).
    """
    for start, gradients, rates in _examples():
        try:
            a, b = _walk(one, start, gradients, rates), _walk(two, start, gradients, rates)
        except BackproofError:
            return None
        if any(_apart(x, y, start) for x, y in zip(a, b, strict=True)):
            return _shortest(Parting(start, gradients, rates, a, b))
    return None


def _shortest(part: Parting) -> Parting:
    """The example up to the update in which they part."""
    end = part.update if len(part.gradients) > SHOWN else len(part.gradients)
    return Parting(part.start, part.gradients[:end], part.rates[:end], part.one[:end], part.two[:end])


def _examples() -> Iterator[tuple[float, tuple[float, ...], tuple[float, ...]]]:
    """Plain numbers first: gradients 1, then of other signs and sizes; then a start other than 0; then a rate that changes."""
    sizes = (1.0, -1.0, 2.0, 0.0, 1e-8)
    for count in range(1, MOST_UPDATES + 1):
        for start in (0.0, 1.0):
            for gradients in product(sizes, repeat=count):
                yield start, gradients, (1.0,) * count
    yield 0.0, (1.0, 1.0), (1.0, 0.1)
    yield 0.0, (1.0,) * 8, (1.0,) * 8
    yield 0.0, (1.0, 1.0, 1.0), (1.0, 0.1, 0.1)
    for count in LONGER:
        yield 0.0, (1.0,) * count, (1.0,) * count


def _walk(rule: Optimizer, start: float, gradients: tuple[float, ...], rates: tuple[float, ...]) -> tuple[float, ...]:
    shape = (1, 1) if rule.rule.ranks else (1,)
    run = Replay(rule, torch.full(shape, start, dtype=torch.float64))
    lr = float(rule.hyper.get("lr", 1.0))
    return tuple(
        run.step(torch.full(shape, g, dtype=torch.float64), lr=lr * r).item()
        for g, r in zip(gradients, rates, strict=True)
    )


def _apart(a: float, b: float, start: float) -> bool:
    size = max(abs(a - start), abs(b - start))
    return not (a == b) and abs(a - b) > APART * size
