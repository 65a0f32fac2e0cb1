"""How a rule is run from many starts at once: entry by entry, by whole tensors, or asking for the loss again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ...graph import Graph
from ...optimizers import Optimizer
from ...optimizers import optimizer as find_optimizer
from ...optimizers.witness import torch_settings
from ..optimizer.replay import Replay, start_of, updated
from .surfaces import Surface

__all__ = ["Runner", "ask_again", "parts_of", "runner_of"]


TRIALS = 26
"""How often one step of L-BFGS may ask for the loss: the first time, and 25 in a line search, as torch has it."""


class Runner(Protocol):
    """Runs of a rule, one in each row of ``w``."""

    w: Tensor

    def step(self, gradient: Tensor, *, lr: Tensor) -> Tensor:
        """Make one update of every row, each with its own rate."""


def parts_of(rule: Optimizer, surface: Surface) -> tuple[tuple[Optimizer, tuple[int, ...]], ...]:
    """Which rule updates which part of the numbers: the rule itself, and AdamW what it is not for.

    A rule for matrices takes the numbers of a formula as one row.
    """
    shapes = surface.shapes()
    if not rule.rule.ranks:
        return tuple((rule, shape) for shape in shapes)
    if not any(len(s) in rule.rule.ranks for s in shapes):
        return tuple((rule, (1, math.prod(s))) for s in shapes)
    rest = find_optimizer("adamw", lr=rule.hyper["lr"])
    return tuple((rule if len(s) in rule.rule.ranks else rest, s) for s in shapes)


def runner_of(rule: Optimizer, surface: Surface, starts: Tensor) -> Runner:
    """The runs of a rule from these starts."""
    return _Whole(parts_of(rule, surface), starts) if rule.rule.whole else Replay(rule, starts)


class _Whole:
    """Runs of a rule that looks at a whole tensor: every row is cut into its tensors, and each has its own state."""

    def __init__(self, parts: tuple[tuple[Optimizer, tuple[int, ...]], ...], starts: Tensor) -> None:
        self.w, self.parts, self.count = starts.clone(), parts, 0
        self.sizes = [math.prod(shape) for _, shape in parts]
        runs = len(starts)
        self.state = [
            {n: v.expand(runs, *v.shape) for n, v in start_of(rule, torch.zeros(shape, dtype=torch.float64)).items()}
            for rule, shape in parts
        ]

    def step(self, gradient: Tensor, *, lr: Tensor) -> Tensor:
        """Make one update of every row, each with its own rate."""
        self.count += 1
        new = []
        for k, (w, g) in enumerate(zip(self.w.split(self.sizes, 1), gradient.split(self.sizes, 1), strict=True)):
            rule, shape = self.parts[k]
            graph = rule.graph(shape, self.count)
            make = torch.func.vmap(_one_row(rule, graph, float(self.count)))
            whole, self.state[k] = make(w.reshape(-1, *shape), g.reshape(-1, *shape), self.state[k], lr.reshape(-1))
            new.append(whole.reshape(len(w), -1))
        self.w = torch.cat(new, 1)
        return self.w


def _one_row(rule: Optimizer, graph: Graph, t: float) -> Callable[..., Any]:
    constants = {n.name: n for n in graph.of_role("constant")}

    def make(w: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        values = {
            constants[n]: v for n, v in (("lr", lr), ("t", torch.tensor(t, dtype=torch.float64))) if n in constants
        }
        return updated(rule, graph, w, g, state, values)

    return make


def ask_again(surface: Surface, rule: Optimizer, starts: Tensor, lr: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Runs of torch.optim's own LBFGS: where it has come after each evaluation of the loss and its gradient.

    Returns:
        Points [most + 1, runs, numbers] and losses [most + 1, runs].
    """
    runs = [_asked(surface, rule, start, float(rate), most) for start, rate in zip(starts, lr, strict=True)]
    points = torch.stack(runs, 1)
    losses = torch.stack([surface.losses(run) for run in runs], 1)
    return points, losses.nan_to_num(math.inf, math.inf, math.inf)


def _asked(surface: Surface, rule: Optimizer, start: Tensor, lr: float, most: int) -> Tensor:
    """One run, step by step: a step begins with the evaluation that the one before ended with, which is counted once."""
    w = start.clone().requires_grad_()
    theirs = torch.optim.LBFGS(
        [w], **torch_settings(rule.rule, {**rule.hyper, "lr": lr, "max_iter": 1, "max_eval": TRIALS})
    )
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        at = w.detach()[None]
        w.grad = surface.slopes(at)[0]
        return surface.losses(at)[0]

    points = [start]
    while len(points) <= most:
        before, calls = points[-1], 0
        theirs.step(closure)
        now = w.detach().clone()
        if not bool(torch.isfinite(now).all()):
            now = torch.full_like(now, math.nan)
        points += [before] * (calls - 2) + [now]
        if bool(torch.isnan(now).any()) or bool((now == before).all()):  # it has left the numbers, or has come to rest
            points += [now] * most
    return torch.stack(points[: most + 1])
