"""Maps that are applied again and again: how far back along them the gradient reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...domains.signals.population import calls_of_one_weight
from ...graph import Graph, Node

__all__ = ["Through", "through_time"]

FEWEST = 3


@dataclass(frozen=True)
class Through:
    """The calls of one weight, in order, as far as the gradient is sent to them.

    Args:
        calls: the calls.
        weight: the parameter.
        ratio: the norm of the error signal at the first call over that at the last.
    """

    calls: tuple[Node, ...]
    weight: Node
    ratio: float

    @property
    def step(self) -> float:
        """The factor from one call to the one before."""
        return self.ratio ** (1 / (len(self.calls) - 1)) if self.ratio > 0 else 0.0

    @property
    def reach(self) -> float:
        """After how many steps a hundredth is left."""
        return math.log(0.01) / math.log(self.step) if 0 < self.step < 1 else math.inf


def through_time(graph: Graph, backward: Mapping[Node, float]) -> tuple[Through, ...]:
    """The weights that are applied at least three times one after the other, and the gradient along their calls.

    Args:
        graph: the network.
        backward: the mean square of the error signal at each map.
    """
    found = []
    for weight, calls in calls_of_one_weight(graph):
        known = [n for n in calls if n in backward]
        while known and backward[known[-1]] == 0.0:
            known.pop()  # what comes after the last that is used
        if len(known) >= FEWEST and backward[known[-1]] > 0:
            found.append(Through(tuple(known), weight, math.sqrt(backward[known[0]] / backward[known[-1]])))
    return tuple(found)


def worst(times: Sequence[Through]) -> Through | None:
    """The one along which most is lost."""
    return min(times, key=lambda t: t.ratio, default=None)
