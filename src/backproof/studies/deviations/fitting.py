"""An optimizer of somebody's own: its steps recorded on small twins, and its rule fitted to the closest known one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...document.blocks import Block, Paragraph, Section, Table
from ...document.math import Num
from ...optimizers import Optimizer
from .check import deviation_of, ranked_rules, targets_of
from .checked import Deviation
from .targets import Target

__all__ = ["Fitted", "fitted"]

TRIED = 4
SECONDS = 6.0
RECORDED = 5


@dataclass(frozen=True)
class Fitted:
    """What the rule of somebody's class is.

    Args:
        rule: the closest known rule, with the settings carried over.
        deviation: None where it is that rule; else in what it deviates (with an empty name where that was not found).
        distance: the mean relative difference of the updates.
        recorded: (gradient, w after) of the first updates of one entry.
        stuck: in words, where no update says anything about a rule; "" where they do.
    """

    rule: Optimizer
    deviation: Deviation | None
    distance: float
    recorded: tuple[tuple[float, float], ...]
    stuck: str = ""

    @property
    def says(self) -> str:
        """The result in one phrase: "adam, with eps inside the root"."""
        if self.stuck:
            return self.stuck
        if self.deviation is None:
            return f"{self.rule.rule.name} ({self.rule.described()})"
        if self.deviation.name:
            return f"{self.rule.rule.name}, but {self.deviation.name}"
        return f"none that is known here; the closest is {self.rule.rule.name}"

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain data."""
        return {
            "closest": self.rule.rule.name,
            "is": self.says,
            "distance": self.distance,
            "deviation": None if self.deviation is None else self.deviation.to_dict(),
            "recorded": [{"gradient": g, "w": w} for g, w in self.recorded],
        }

    def blocks(self) -> tuple[Block, ...]:
        """The fit as part of a page."""
        rows = tuple((str(k + 1), Num(g), Num(w)) for k, (g, w) in enumerate(self.recorded))
        table = Table(
            (("update",), ("gradient",), ("w after it",)), rows, "Recorded on a small twin, one entry", (1, 2)
        )
        parts: list[Block] = [Paragraph((f"Its rule is {self.says}.",)), table]
        if self.deviation is not None and self.deviation.lines:
            lines = tuple((a or "(none)", b or "(none)") for a, b in self.deviation.lines)
            parts.append(Table(((self.rule.rule.name,), ("this class",)), lines, "The formulas that differ"))
        return (Section("The closest known rule", tuple(parts), "update", "fitted"),)


def fitted(kind: Any, settings: Mapping[str, Any]) -> Fitted:
    """Fit the rule of a class: every known rule as it is, then the nearest ones with single edits.

    Raises:
        InputError: the class cannot be made with these settings, or cannot take a step.
    """
    ranked = ranked_rules(kind, settings)
    stuck = _stuck(targets_of(kind, settings, ranked[0][1]))
    if stuck:
        return _recorded(kind, settings, ranked[0], None, stuck)
    found = [(gap, rule, deviation_of(kind, settings, rule, {}, 0.0)) for gap, rule in ranked[: 2 * TRIED]]
    gap, rule, deviation = next((f for f in found if f[2] is None), found[0])
    if deviation is not None:
        torchs = [(g, r) for g, r in ranked if not r.rule.variant_of][:TRIED]
        ways = [(r, quick) for quick in (True, False) for r in torchs[: TRIED if quick else 2]]
        named = ((g, r, deviation_of(kind, settings, r, {}, SECONDS, quick)) for (g, r), quick in ways)
        gap, rule, deviation = next((f for f in named if f[2] is not None and f[2].name), (gap, rule, deviation))
    return _recorded(kind, settings, (gap, rule), deviation)


def _stuck(targets: list[Target]) -> str:
    if all((t.went == t.probes.start).all() for t in targets):
        return "none: w stays where it is in every update"
    if not any(np.isfinite(t.went).any() for t in targets):
        return "none: w is not a finite number after any update"
    return ""


def _recorded(
    kind: Any,
    settings: Mapping[str, Any],
    ranked: tuple[float, Optimizer],
    deviation: Deviation | None,
    stuck: str = "",
) -> Fitted:
    gap, rule = ranked
    target = targets_of(kind, settings, rule)[0]
    spot = (0,) * target.probes.start.ndim
    rows = tuple((float(target.probes.gradients[k][spot]), float(target.went[k][spot])) for k in range(RECORDED))
    return Fitted(rule, deviation, gap, rows, stuck)
