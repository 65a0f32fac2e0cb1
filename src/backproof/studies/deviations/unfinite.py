"""When w becomes NaN or infinite where the rule stays finite: when, and under which gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .edits import plain_edits
from .probes import NAMES
from .program import Program, broken_into
from .targets import FAILURES, Target, matches

__all__ = ["unfinite"]


def unfinite(program: Program, targets: Sequence[Target]) -> str:
    """In words, when w stops to be a finite number; "" where it is as finite as the rule's."""
    broken = [b for x in targets if (b := _broken(program, x)) is not None]
    if not broken:
        return ""
    update = min(b[0] for b in broken)
    names = [NAMES[k] for k in sorted({k for b in broken for k in b[1]})]
    zero = all(b[2] for b in broken)
    if len(names) == len(NAMES) and update == 1 and all(b[3] for b in broken):
        same = next((e for e in plain_edits(program) if matches(e.program, targets)), None)
        like = (
            "" if same is None else f" (as it would be if {same.how or f'{same.what} was {same.kind}'}, among others)"
        )
        return f"w is NaN or infinite from update 1 on, whatever the gradient; nothing finite is left to compare{like}"
    where = "where every gradient so far is 0: a division 0/0" if zero else f"on these probes: {', '.join(names)}"
    return f"w becomes NaN or infinite, first in update {update}, {where}; the rule's w stays finite"


def _broken(program: Program, target: Target) -> tuple[int, list[int], bool, bool] | None:
    """The first update, the probes, whether only entries without any gradient so far, and whether all entries at once."""
    found: list[tuple[int, int, bool]] = []
    past: Any = np.zeros_like(target.probes.start)
    try:
        for t, (w, _) in enumerate(broken_into(program, target.probes)):
            past = past + np.abs(target.probes.gradients[t])
            bad = ~np.isfinite(target.went[t]) & np.isfinite(w)
            found += [(t + 1, int(k), bool(past[k][bad[k]].max() == 0)) for k in np.unique(np.argwhere(bad)[:, 0])]
    except FAILURES:
        return None
    if not found:
        return None
    whole = not np.isfinite(target.went).any()
    return min(f[0] for f in found), sorted({f[1] for f in found}), all(f[2] for f in found), whole
