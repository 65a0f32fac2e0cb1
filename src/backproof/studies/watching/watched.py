"""What a watch has seen, as a result with text and pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ...document.blocks import Block, Callout, Document, Items, Paragraph, Plot, Series
from ...result import Result
from .looking import Event, Look

__all__ = ["Watched"]


@dataclass(frozen=True)
class Watched(Result):
    """What was seen.

    Args:
        events: what went wrong, each kind at the first step and layer where it was seen.
        looks: the steps that were seen closely.
        steps: how many steps there were.
        overhead: the time that watching took, as a share of the rest.
        title: the model's class.
    """

    events: tuple[Event, ...]
    looks: tuple[Look, ...]
    steps: int
    overhead: float
    title: str = ""

    @property
    def first(self) -> Event | None:
        """What went wrong first."""
        return min(self.events, key=lambda e: e.step, default=None)

    @property
    def verdict(self) -> str:
        """The kind of what went wrong first, or "healthy"."""
        return self.first.kind if self.first else "healthy"

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether anything went wrong."""
        return bool(self.events)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The events and the looks as plain data."""
        return {
            "model": self.title,
            "verdict": self.verdict,
            "steps": self.steps,
            "events": [e.to_dict() for e in self.events],
            "looks": [
                {"step": x.step, "gradients": x.gradients, "deltas": x.deltas, "updates": x.updates} for x in self.looks
            ],
            "overhead": self.overhead,
        }

    def document(self) -> Document:
        """What went wrong, and the norms over the steps."""
        kind: Literal["agrees", "finding"] = "finding" if self.events else "agrees"
        head = str(self.first) if self.first else f"Nothing went wrong in {self.steps} steps."
        blocks: list[Block] = [Callout(kind, (head,), self.verdict)]
        if len(self.events) > 1:
            blocks.append(Items(tuple((str(e),) for e in self.events if e is not self.first)))
        blocks.append(Paragraph((f"{len(self.looks)} of {self.steps} steps were seen closely; watching took "
                                 f"{100 * self.overhead:.1f} % of the time.",)))  # fmt: skip
        blocks += [p for p in (self._plot("deltas", "norm of the error signal"), self._layers(),
                               self._plot("updates", "update over weights")) if p]  # fmt: skip
        return Document(f"Watching {self.title}", tuple(blocks), record=self.to_dict())

    def _plot(self, what: str, words: str, most: int = 8) -> Plot | None:
        """One curve for each layer (so many of them) over the steps."""
        names = list(dict.fromkeys(n for x in self.looks for n in getattr(x, what)))
        names = names[:: max(1, -(-len(names) // most))]
        series = []
        for name in names:
            points = [(float(x.step), _share(x, what, name)) for x in self.looks if name in getattr(x, what)]
            kept = [(a, b) for a, b in points if math.isfinite(b) and b > 0]
            if kept:
                xs, ys = zip(*kept, strict=True)
                series.append(Series(name, xs, ys))
        return (
            Plot(tuple(series), "step", words, (f"The {words} over the steps.",), f"{words} over the steps", log_y=True)
            if series
            else None
        )

    def _layers(self, most: int = 5) -> Plot | None:
        """The error signal over the layers, at some of the looks."""
        looks = [x for x in self.looks if len(x.deltas) > 1]
        series = []
        for x in looks[:: max(1, -(-len(looks) // most))]:
            kept = [(k + 1.0, v) for k, v in enumerate(x.deltas.values()) if v > 0 and math.isfinite(v)]
            if kept:
                xs, ys = zip(*kept, strict=True)
                series.append(Series(f"step {x.step}", xs, ys))
        words = "norm of the error signal"
        return Plot(tuple(series), "module, in the order of the calls", words, ("The backward pass at some of the steps.",),
                    f"{words} over the layers", log_y=True) if series else None  # fmt: skip


def _share(look: Look, what: str, name: str) -> float:
    value = float(getattr(look, what)[name])
    return value / look.weights[name] if what == "updates" and look.weights.get(name) else value
