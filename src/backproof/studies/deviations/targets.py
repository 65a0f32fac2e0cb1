"""Where somebody's optimizer went on the probes, and how far a program is from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .probes import Probes
from .program import Program, broken_into, jointly

__all__ = [
    "ACCURACY",
    "FAILURES",
    "Difference",
    "Target",
    "agreeing",
    "distance",
    "first_difference",
    "matches",
    "off",
    "unlike",
    "without_probe",
]

ACCURACY = 1e-9
FAILURES = (NameError, ValueError, TypeError, ZeroDivisionError, OverflowError, KeyError, IndexError)
"""What a program raises that an edit has made senseless."""
Array = Any


@dataclass(frozen=True)
class Difference:
    """Where two optimizers part first: the update, the probe, the parameter, the entry and the two values of w."""

    update: int
    probe: int
    parameter: int
    index: tuple[int, ...]
    theirs: float
    ours: float


@dataclass(frozen=True)
class Target:
    """Where somebody's optimizer went for one parameter: [updates, probes, *shape], and the size of w in each probe."""

    probes: Probes
    went: Array

    def scale(self, t: int) -> Array:
        """The size of w per probe: what a difference is measured by."""
        axes = tuple(range(1, self.went[t].ndim))
        size = np.maximum(np.abs(self.went[t]), np.abs(self.probes.start))
        whole: Array = np.max(np.where(np.isfinite(size), size, 0), axis=axes, keepdims=True)
        return np.maximum(whole, 1e-300)


def off(target: Target, t: int, w: Array, accuracy: float = ACCURACY) -> Array:
    """The entries of an update where w is not where it should be."""
    theirs = target.went[t]
    with np.errstate(invalid="ignore"):
        same = (np.abs(w - theirs) <= accuracy * target.scale(t)) | (np.isnan(w) & np.isnan(theirs)) | (w == theirs)
    return ~same


def without_probe(target: Target, k: int) -> Target:
    """The same without one probe."""
    p = target.probes

    def kept(per_update: Sequence[Array]) -> list[Array]:
        return [np.delete(x, k, axis=0) for x in per_update]

    probes = replace(
        p,
        start=np.delete(p.start, k, axis=0),
        gradients=kept(p.gradients),
        lr=kept(p.lr),
        norm_all=tuple(kept(p.norm_all)),
    )
    return Target(probes, np.delete(target.went, k, axis=1))


def _ways(program: Program, targets: Sequence[Target]) -> Iterator[tuple[int, int, Array]]:
    """(parameter, update, w), parameter by parameter; update by update where they share state."""
    if program.shared:
        for t, ws in enumerate(jointly(program, [x.probes for x in targets])):
            yield from ((place, t, w) for place, w in enumerate(ws))
    else:
        for place, target in enumerate(targets):
            for t, (w, _) in enumerate(broken_into(program, target.probes)):
                yield place, t, w


def first_difference(program: Program, targets: Sequence[Target], accuracy: float = ACCURACY) -> Difference | None:
    """The first update in which a program and an optimizer part; None where they never do."""
    best: Difference | None = None
    for place, t, w in _ways(program, targets):
        if best is not None and t + 1 >= best.update:
            continue
        wrong = off(targets[place], t, w, accuracy)
        if wrong.any():
            probe, *index = map(int, np.argwhere(wrong)[0])
            at = (probe, *index)
            best = Difference(t + 1, probe, place, tuple(index), float(targets[place].went[t][at]), float(w[at]))
    return best


def matches(program: Program, targets: Sequence[Target], accuracy: float = ACCURACY) -> bool:
    """Whether a program goes where the optimizer goes; gives up at the first difference."""
    try:
        return not any(off(targets[place], t, w, accuracy).any() for place, t, w in _ways(program, targets))
    except FAILURES:
        return False


def distance(program: Program, target: Target, sizes: bool = False, updates: int = 10) -> float:
    """How far a program is from an optimizer: the mean over probes of the relative difference of the updates.

    ``sizes`` compares their sizes alone, whatever their signs.
    """
    last, mine = target.probes.start, target.probes.start
    total: list[Array] = []
    try:
        for t, (w, _) in enumerate(broken_into(program, target.probes)):
            if t == updates:
                break
            a, b = w - last, target.went[t] - mine
            total.append(_gap(np.abs(a), np.abs(b)) if sizes else _gap(a, b))
            last, mine = w, target.went[t]
    except FAILURES:
        return float("inf")
    every = np.stack(total)
    return float(np.mean(np.where(np.isfinite(every), every, 1.0)))


def unlike(
    program: Program, target: Target, updates: int = 3, worst: float = float("inf")
) -> tuple[float, float] | None:
    """The share of entries that a program misses in the first updates, and its distance there.

    None for one that fails, or whose distance in the first update is above ``worst``.
    """
    missed, gaps = list[float](), list[float]()
    last, mine = target.probes.start, target.probes.start
    try:
        for t, (w, _) in enumerate(broken_into(program, target.probes)):
            if t == updates:
                break
            gap = _gap(w - last, target.went[t] - mine)
            gaps.append(float(np.mean(np.where(np.isfinite(gap), gap, 1.0))))
            if gaps[0] > worst:
                return None
            missed.append(float(off(target, t, w).mean()))
            last, mine = w, target.went[t]
    except FAILURES:
        return None
    return round(sum(missed) / len(missed), 9), round(sum(gaps) / len(gaps), 9)


def _gap(a: Array, b: Array) -> Array:
    """The relative difference of two steps, entry by entry."""
    with np.errstate(all="ignore"):
        gap = np.abs(a - b) / np.maximum(np.abs(a) + np.abs(b), 1e-300)
    return np.where(a == b, 0.0, gap)


def agreeing(program: Program, target: Target) -> int:
    """The number of updates before the first one that differs."""
    count = 0
    try:
        for t, (w, _) in enumerate(broken_into(program, target.probes)):
            if off(target, t, w).any():
                break
            count += 1
    except FAILURES:
        return 0
    return count
