"""Learning rates, weight decays and momenta, followed from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .looking import Event

__all__ = ["Settings"]

WORDS = {"lr": "learning rate", "weight_decay": "weight decay", "momentum": "momentum"}
RECENT, NEAR, FAST = 50, 10, 0.1


@dataclass
class Rise:
    """A setting that rose, in one step or in steps that follow each other.

    Args:
        key: of the setting.
        begin, end: the first and the last step of it.
        before, after: the values.
    """

    key: str
    begin: int
    end: int
    before: float
    after: float

    def __str__(self) -> str:
        if self.begin == self.end:
            return f" The {WORDS[self.key]} was raised from {self.before:g} to {self.after:g} at step {self.begin}."
        return f" The {WORDS[self.key]} rose from {self.before:g} to {self.after:g} over the steps {self.begin} to {self.end}."


@dataclass
class Held:
    """One setting of one group of parameters: its value, the largest so far, and the largest that was looked into."""

    optimizer: torch.optim.Optimizer
    group: dict[str, Any]
    key: str
    value: Any
    top: float
    checked: float
    rise: Rise | None = None


class Settings:
    """The settings of all optimizers.

    A setting that rises above ten times what it was is remembered, as the likely cause of what follows; warm-ups and
    restarts rise too, so it is no accident by itself.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers
        self._held: list[Held] = []
        self.events: list[Event] = []
        self.refresh(0)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups of parameters as they are now."""
        return [group for one in self.optimizers for group in one.param_groups]

    def refresh(self, step: int) -> None:
        """Follow the groups that are there now (some may have been added, or all loaded)."""
        known = {(id(h.group), h.key): h for h in self._held}
        held = []
        for one in self.optimizers:
            for group in one.param_groups:
                for key in (k for k in WORDS if isinstance(group.get(k), (int, float, torch.Tensor))):
                    value = group[key]
                    old = known.get((id(group), key))
                    held.append(old or Held(one, group, key, value, float(value), float(value)))
                    if old is None and key == "lr":
                        self._check(held[-1], step)
        self._held = held

    def alarming(self, step: int) -> bool:
        """Whether a setting moved so far that the step is to be looked at (called before each step)."""
        found = False
        for held in self._held:
            value = held.group[held.key]
            if value is not held.value:
                found |= self._moved(held, value, step)
        return found or bool(self.events)

    def _moved(self, held: Held, value: Any, step: int) -> bool:
        old, new = float(held.value), float(value)
        held.value = value
        if new <= old:
            if new < 0 <= old:
                self.events.append(Event(step, "learning rate", "", f"The {WORDS[held.key]} became negative ({new:g}): the "
                                         "steps go uphill.", "Look at the schedule.", step - 1))  # fmt: skip
            return False
        if new > held.top:
            self._rises(held, old, new, step)
        self._check(held, step)
        if new > 10 * held.checked:
            alarming, held.checked = held.checked > 0 and held.key == "lr", new
            return alarming
        return False

    @staticmethod
    def _rises(held: Held, old: float, new: float, step: int) -> None:
        held.top = new
        if held.rise is None or step > held.rise.end + 1:
            held.rise = Rise(held.key, step, step, old, new)
        held.rise.end, held.rise.after = step, new

    def _check(self, held: Held, step: int) -> None:
        """Settings with which no training can go well: a decay that eats the weights, a momentum that never fades."""
        group = held.group
        if float(group.get("momentum") or 0.0) >= 1.0:
            self.events.append(Event(step, "learning rate", "", f"The momentum is {float(group['momentum']):g}: steps add up "
                                     "without end.", "Take a momentum under 1.", step - 1 if step else None))  # fmt: skip
            return
        share = _decay(held.optimizer, group)
        if share >= FAST:
            rise = held.rise
            begin = rise.begin if rise is not None and step - rise.begin <= NEAR else step
            self.events.append(Event(begin, "weight decay", "", f"Each step takes {100 * min(share, 1.0):.3g} % of the weights away "
                                     f"(learning rate {float(group['lr']):g}, weight decay {float(group['weight_decay']):g}): they "
                                     "shrink to 0 and the signal with them.", "Lower the weight decay.",
                                     begin - 1 if begin else None))  # fmt: skip

    def history(self, step: int) -> str:
        """What rose above ten times what it was, not long ago."""
        rises = {str(h.rise) for h in self._held if h.rise and step - h.rise.end <= RECENT}
        large = {str(h.rise) for h in self._held if h.rise and h.rise.before > 0 and h.rise.after > 10 * h.rise.before}
        return "".join(sorted(rises & large))


def _decay(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    """The share of the weights that one step takes away, where the decay is not normalised with the gradient."""
    decay = float(group.get("weight_decay") or 0.0)
    if decay and (isinstance(optimizer, torch.optim.SGD) or group.get("decoupled_weight_decay")):
        return float(group["lr"]) * decay / (1.0 - float(group.get("momentum") or 0.0))
    return 0.0
