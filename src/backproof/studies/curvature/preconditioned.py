"""What a rule divides its steps by, entry by entry, read from the rule's own formulas and its state at an update."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...domains.numbers import evaluate
from ...optimizers import Optimizer
from ..optimizer.replay import Replay

__all__ = ["preconditioner"]

SETTLED, LATE = 2_000, 10**9
"""After so many updates the averages of a constant gradient have settled; the count at which corrections have died out."""


def preconditioner(rule: Optimizer, state: Mapping[str, Tensor], like: Tensor, t: int) -> Tensor:
    """The P of a step lr · (averaged gradient) / P: all ones for a rule that divides by nothing.

    It is read by making the next update with the gradient 1 from a state in which the averages are those of gradients 1,
    and the sizes of past gradients are the given ones; and by comparing with sizes of 1 at a late update.
    """
    if not rule.rule.second or not state:
        return torch.ones_like(like)
    return _unit_step(rule) / _step(rule, {s: state[s] for s in rule.rule.second if s in state}, t, tuple(like.shape))


@lru_cache(maxsize=64)
def _unit_step(rule: Optimizer) -> float:
    """The length of a late step for gradients 1 where the sizes are held at 1."""
    plain = _without_decay(rule, eps=0.0)
    ones = {s: torch.ones((), dtype=torch.float64) for s in rule.rule.second if s in rule.state}
    return float(_step(plain, ones, LATE, ()))


def _without_decay(rule: Optimizer, **changed: Any) -> Optimizer:
    own = {k: v for k, v in {"weight_decay": 0, **changed}.items() if k in rule.hyper}
    return Optimizer(rule.rule, {**rule.hyper, **own})


def _step(rule: Optimizer, sizes: Mapping[str, Tensor], t: int, shape: tuple[int, ...]) -> Tensor:
    plain = _without_decay(rule)
    averages = _averages(plain, min(t - 1, SETTLED))
    graph = plain.graph(shape, t)
    one = torch.ones(shape, dtype=torch.float64)
    given = {"w": torch.zeros(shape, dtype=torch.float64), "g": one, **_spread(plain, averages, shape)}
    leaves = {n: given[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    outputs = dict(zip(graph.outputs, ("w", *plain.state_of(shape)), strict=True))
    held = {n: sizes[s].double() for n, s in outputs.items() if s in sizes}
    return -evaluate(graph, {**leaves, **held})[graph.outputs[0]]


def _spread(rule: Optimizer, averages: Mapping[str, float], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Numbers as the states of a parameter of a shape."""
    own = {s: rule.shape_of(s, shape) for s in averages}
    return {s: torch.full(o, averages[s], dtype=torch.float64) for s, o in own.items() if o is not None}


@lru_cache(maxsize=256)
def _averages(rule: Optimizer, updates: int) -> dict[str, float]:
    run = Replay(rule, torch.zeros((), dtype=torch.float64))
    for _ in range(updates):
        run.step(torch.ones((), dtype=torch.float64))
    return {s: float(v) for s, v in run.state.items()}
