"""A fair comparison: each optimizer at its own best learning rate, found by search, then measured on other seeds.

All get the same number of updates, the same starts and the same search: rates a third of a decade apart, the best by the
upper quartile of the last loss over the searched seeds (a rate that diverges from one start in three is no good rate), then
finer steps around it. What is reported comes from seeds that the
search has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ...optimizers import Optimizer
from .runners import ask_again, runner_of
from .surfaces import NetworkSurface, Surface

__all__ = ["Contest", "compete"]

COARSE = tuple(10.0 ** (k / 3) for k in range(-15, 4))
FINE = tuple(10.0 ** (k / 12) for k in range(-3, 4))
LEAST_NEWTON = 0.01
"""Rates of L-BFGS are shares of Newton's step: they are searched from here on."""
WIDEST = 3
"""How often the search goes on beyond the ends of its rates."""


@dataclass(frozen=True)
class Contest:
    """How one optimizer did.

    Args:
        rule: with the best rate.
        searched: (rate, upper quartile of the last loss) of every rate tried, by rate.
        finals: the last loss of each measured seed.
        losses: the loss before each update and at the end, the median over the measured seeds.
        trail: the points of the first measured seed, [updates + 1, numbers].
        at_edge: whether the best rate is the largest or smallest that was tried.
    """

    rule: Optimizer
    searched: tuple[tuple[float, float], ...]
    finals: tuple[float, ...]
    losses: tuple[float, ...]
    trail: Tensor
    at_edge: bool

    @property
    def lr(self) -> float:
        """The best rate."""
        return float(self.rule.hyper["lr"])

    def quantile(self, share: float) -> float:
        """A quantile of the last losses (of those that are not finite, infinity)."""
        ordered = sorted(self.finals)
        place = share * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        return low if low == high else low + (place - math.floor(place)) * (high - low)


def compete(surface: Surface, rule: Optimizer, updates: int, search: Sequence[int], seeds: Sequence[int]) -> Contest:
    """Find an optimizer's best rate on some seeds, and measure it on others."""
    starts = surface.starts(search)
    scores: dict[float, float] = {}
    rates = [r for r in COARSE if r > LEAST_NEWTON] if rule.rule.asks else list(COARSE)
    for _ in range(WIDEST + 1):
        scores |= _scored(surface, rule, starts, [r for r in rates if r not in scores], updates)
        best = _best(scores)
        if min(scores) < best < max(scores):
            break
        rates = [best * 10 ** (k / 3) for k in range(-6, 7)]
    scores |= _scored(surface, rule, starts, [r for f in FINE if (r := best * f) not in scores], updates)
    best = _best(scores)
    final = Optimizer(rule.rule, {**rule.hyper, "lr": best})
    measured = surface.starts(seeds)
    points, losses = _run(surface, final, measured, torch.full((len(seeds), 1), best, dtype=torch.float64), updates)
    edge = best in (min(scores), max(scores))
    return Contest(
        final, tuple(sorted(scores.items())), tuple(losses[-1].tolist()), tuple(_medians(losses)), points[:, 0],
        edge,
    )  # fmt: skip


def _medians(losses: Tensor) -> list[float]:
    """The median of every row; of an even number of runs the mean of the middle two, as in the table."""
    ordered, last = losses.sort(1).values, losses.shape[1] - 1
    found: list[float] = ((ordered[:, last // 2] + ordered[:, (last + 1) // 2]) / 2).tolist()
    return found


def _best(scores: dict[float, float]) -> float:
    finite = {r: s for r, s in scores.items() if math.isfinite(s)}
    if not finite:
        raise InputError("no learning rate that was tried keeps the loss finite")
    return min(finite, key=lambda r: (finite[r], r))


def _scored(surface: Surface, rule: Optimizer, starts: Tensor, rates: list[float], updates: int) -> dict[float, float]:
    if not rates:
        return {}
    lr = torch.tensor(rates, dtype=torch.float64).repeat_interleave(len(starts)).unsqueeze(1)
    _, losses = _run(surface, rule, starts.repeat(len(rates), 1), lr, updates)
    final = losses[-1].reshape(len(rates), len(starts)).nan_to_num(math.inf, math.inf, math.inf)
    worse = final.sort(1).values[:, math.ceil(0.75 * (final.shape[1] - 1))]
    return dict(zip(rates, worse.tolist(), strict=True))


def _run(surface: Surface, rule: Optimizer, starts: Tensor, lr: Tensor, updates: int) -> tuple[Tensor, Tensor]:
    """Every row as a run of its own: points [updates + 1, runs, numbers] and losses [updates + 1, runs]."""
    if rule.rule.asks:
        return ask_again(surface, rule, starts, lr, updates)
    run = runner_of(rule, surface, starts)
    points, losses = [run.w], [surface.losses(run.w)]
    for _ in range(updates):
        alive = torch.isfinite(run.w).all(1) & torch.isfinite(losses[-1])
        if not bool(alive.any()):
            points += [points[-1]] * (updates + 1 - len(points))
            losses += [torch.full_like(losses[-1], math.inf)] * (updates + 1 - len(losses))
            break
        slopes = _alive(surface, surface.slopes, run.w, alive)
        run.step(slopes, lr=lr)
        points.append(run.w)
        value = _alive(surface, surface.losses, run.w, torch.isfinite(run.w).all(1))
        losses.append(value.nan_to_num(math.inf, math.inf, math.inf))
    return torch.stack(points), torch.stack(losses)


def _alive(surface: Surface, function: object, points: Tensor, alive: Tensor) -> Tensor:
    """A network is asked only for the runs that have not diverged; a formula takes all rows at once."""
    assert callable(function)
    if not isinstance(surface, NetworkSurface):
        whole: Tensor = function(points)
        return whole
    found: Tensor = torch.full(
        points.shape if function == surface.slopes else points.shape[:1], math.nan, dtype=torch.float64
    )
    if bool(alive.any()):
        found[alive] = function(points[alive])
    return found
