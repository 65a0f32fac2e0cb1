"""Probes: small parameters, gradients and rates under which two optimizers are compared update by update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .box import Box

__all__ = ["ALIKE", "MATRICES", "NAMES", "SHAPES", "Probes", "probes", "walked", "with_norms"]

SHAPES: tuple[tuple[int, ...], ...] = ((3, 2), (2,), (2, 3))
MATRICES: tuple[tuple[int, ...], ...] = ((3, 2), (2, 3), (3, 2))
ALIKE: tuple[tuple[int, ...], ...] = ((3, 2), (3, 2), (3, 2))
"""For a class that can't do with parameters of several shapes."""
UPDATES = 24
NAMES = (
    "random gradients",
    "gradients about as small as eps",
    "a learning rate that changes",
    "a spike, then small gradients and zeros",
    "the same gradient in every update",
    "no gradient at all",
    "large gradients",
)
"""What each probe is, in words."""
TINY = 3e-9
Array = Any


@dataclass(frozen=True)
class Probes:
    """What happens to one parameter in all probes: arrays with the probes along the first axis.

    Args:
        start: [probes, *shape], w before the first update.
        gradients: per update an array [probes, *shape].
        lr: per update an array [probes, 1...].
        hyper: the other settings of the reference rule.
        place, count: which of how many parameters this is.
        norm_all: per update [probes, 1...], the norm of the gradients of all parameters; empty for that of this one.
    """

    start: Array
    gradients: list[Array]
    lr: list[Array]
    hyper: Mapping[str, float]
    place: int
    count: int
    norm_all: tuple[Array, ...] = ()

    @property
    def updates(self) -> int:
        """The number of updates."""
        return len(self.gradients)


def probes(
    shape: tuple[int, ...],
    place: int,
    count: int,
    hyper: Mapping[str, float],
    least: float = TINY,
    steered: bool = True,
    seed: int = 7,
) -> Probes:
    """The probes for a parameter of a shape.

    Args:
        shape, place, count: of the parameter, which of how many it is.
        hyper: the settings of the reference rule.
        least: the size of the tiny gradients.
        steered: whether the learning rate can be changed between updates.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed + place)
    size = (len(NAMES), *shape)
    start = rng.normal(size=size)
    steps = rng.normal(size=(UPDATES, *size))
    flat = (1,) * len(shape)
    start[1] *= least
    steps[:, 1] *= least * 10.0 ** rng.uniform(-0.5, 0.5, size=(UPDATES, *shape))
    steps[:, 3] *= np.where(np.arange(UPDATES) == 1, 30.0, 0.2).reshape(-1, *flat)
    steps[3:6, 3] *= rng.integers(0, 2, size=shape)
    steps[:, 4] = steps[:1, 4]
    steps[:, 5] = 0
    steps[:, 6] = 1e3 * (steps[:, 6] + 0.5)
    rate = np.full((UPDATES, len(NAMES), *flat), float(hyper.get("lr", 1.0)))
    if steered:
        rate[4:, 2] *= 0.1
        rate[7:, 2] *= 4
    own = {k: v for k, v in hyper.items() if k != "lr"}
    return Probes(start, list(steps), list(rate), own, place, count)


def with_norms(given: Sequence[Probes]) -> list[Probes]:
    """The same probes; each knows the norm of the gradients of all parameters."""
    norms = []
    for k in range(given[0].updates):
        squares = [np.square(p.gradients[k]).reshape(len(p.start), -1).sum(1) for p in given]
        norms.append(np.sqrt(np.sum(squares, axis=0)))
    return [replace(p, norm_all=tuple(n.reshape(-1, *(1,) * (p.start.ndim - 1)) for n in norms)) for p in given]


def walked(make: Any, given: Sequence[Probes]) -> list[Array]:
    """Where somebody's optimizer goes: per parameter an array [updates, probes, *shape].

    Args:
        make: from a list of parameters to an optimizer.
        given: the probes of each parameter.

    Raises:
        InputError: it cannot be made, or cannot take a step.
    """
    found = [np.full((p.updates, *p.start.shape), np.nan) for p in given]
    for k in range(len(NAMES)):
        gradients = [[p.gradients[t][k] for p in given] for t in range(given[0].updates)]
        rates = [float(given[0].lr[t][k].reshape(-1)[0]) for t in range(given[0].updates)]
        went = Box(make).went([p.start[k] for p in given], gradients, rates)
        for whole, own in zip(found, went, strict=True):
            whole[:, k] = own
    return found
