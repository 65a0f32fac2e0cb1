"""A class that follows the rule but for the rounding of a narrower float: which state is narrow, and how far off it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .box import Box
from .program import Program, broken_into
from .targets import FAILURES, Target

__all__ = ["rounded_state", "step_apart"]

UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
ROUNDINGS = 8
"""How many roundings of one unit are allowed for: a few per update, and they add up."""


def rounded_state(
    kind: Any, settings: Mapping[str, Any], program: Program, targets: Sequence[Target], measured: bool = False
) -> str:
    """In words, that the class is the rule up to the rounding of a narrower float; "" where it is further away.

    With ``measured`` only where a state was found in such a float.
    """
    apart = step_apart(program, targets[0])
    if not 0 < apart < 1:
        return ""
    narrow = _narrow_state(kind, settings, targets[0])
    if narrow:
        unit = max(UNIT[d] for d in narrow.values())
        listed = ", ".join(f"{k} in {str(d).removeprefix('torch.')}" for k, d in narrow.items())
        if apart <= ROUNDINGS * unit:
            return (
                f"the state is kept in a narrower float than w ({listed}); but for its rounding (steps differ by at most "
                f"{apart:.1e}) it is the rule"
            )
        return ""
    if apart <= 4 * UNIT[torch.float32] and not measured:
        return f"the steps differ by at most {apart:.1e} of their size: it computes in float32 somewhere on the way"
    return ""


def step_apart(program: Program, target: Target) -> float:
    """The largest difference of a step over the size of the largest step of its update and probe."""
    worst, last, mine = 0.0, target.probes.start, target.probes.start
    try:
        for t, (w, _) in enumerate(broken_into(program, target.probes)):
            with np.errstate(all="ignore"):
                a, b = (x.reshape(len(x), -1) for x in (w - last, target.went[t] - mine))
                size = np.abs(a).max(1)
                apart = np.abs(a - b).max(1)[size > 0] / size[size > 0]
            worst = max(worst, float(np.max(apart, initial=0.0))) if np.isfinite(apart).all() else float("inf")
            last, mine = w, target.went[t]
    except FAILURES:
        return float("inf")
    return worst


def _narrow_state(kind: Any, settings: Mapping[str, Any], target: Target) -> dict[str, Any]:
    start, g = target.probes.start[0], target.probes.gradients[0][0]
    _, optimizer, _ = Box(lambda ps: kind(ps, **settings)).watched([start], [[g]])
    return dict(_tensors(getattr(optimizer, "state", None) or vars(optimizer)))


def _tensors(state: Any, name: str = "state", deep: int = 3) -> Iterator[tuple[str, Any]]:
    """The names and dtypes of all floating tensors in it that are narrower than float64."""
    if isinstance(state, torch.Tensor):
        if state.dtype in UNIT and state.ndim > 0:
            yield name, state.dtype
    elif isinstance(state, Mapping) and deep:
        for key, value in state.items():
            yield from _tensors(value, key if isinstance(key, str) else name, deep - 1)
    elif isinstance(state, (list, tuple)) and deep:
        for value in state:
            yield from _tensors(value, name, deep - 1)
