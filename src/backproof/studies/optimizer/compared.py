"""Two optimizers side by side: what differs, and where they part on the smallest example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...document.blocks import Block, Derivation, Document, Paragraph, Section, Table
from ...document.math import Num
from ...result import Result, written
from ..verdicts import summary
from ..writing.worked import evidence_section
from .page import path_section
from .parting import SHOWN, Parting, smallest_example
from .study import OptimizerStudy

__all__ = ["Compared"]


@dataclass(frozen=True)
class Compared(Result):
    """Two optimizers side by side."""

    one: OptimizerStudy
    two: OptimizerStudy

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether anything disagrees in either study."""
        return self.one.finding or self.two.finding

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """Both records, and where they differ."""
        found: dict[str, Any] = {
            "one": self.one.to_dict(full),
            "two": self.two.to_dict(full),
            "differs": self.differs(),
        }
        part = self.parting
        if part is not None:
            found["smallest_example"] = {
                "start": part.start, "gradients": list(part.gradients), "rates": list(part.rates),
                "one": list(part.one), "two": list(part.two), "update": part.update,
            }  # fmt: skip
        return found

    @cached_property
    def parting(self) -> Parting | None:
        """The smallest example on which the two give different numbers; None where none was found."""
        if self.one.rule is None or self.two.rule is None or not (self.one.scalable and self.two.scalable):
            return None
        return smallest_example(self.one.rule, self.two.rule)

    def differs(self) -> list[str]:
        """What differs: the equations, the numbers kept, the stability limit."""
        a, b = self.one, self.two
        found = []
        if [written(e.left)[0] + written(e.steps[0])[0] for e in a.equations] != [
            written(e.left)[0] + written(e.steps[0])[0] for e in b.equations
        ]:
            found.append("equations")
        found += ["state"] if a.state != b.state else []
        return found + (["stability_limit"] if a.limit() != b.limit() else [])

    def document(self) -> Document:
        """A table, then both rules and both paths."""
        rows = (
            ("numbers per parameter", Num(self.one.values), Num(self.two.values)),
            ("bytes per parameter, float32", Num(sum(self.one.state.values())), Num(sum(self.two.state.values()))),
            *self._limits(),
        )
        names = (self.one.name, self.two.name)
        table = Table((("",), (names[0],), (names[1],)), rows, "", (1, 2))
        rules = tuple(
            Section(f"The rule of {s.name}", (Derivation(s.equations),), "update")
            for s in (self.one, self.two)
            if s.rule
        )
        paths = tuple(path_section(s) for s in (self.one, self.two) if s.closable)
        evidence = (*self.one.evidence, *self.two.evidence)
        blocks = (table, *self._parting(), *rules, *paths, *((evidence_section(evidence),) if evidence else ()))
        verdict = summary(evidence) if evidence else ""
        return Document(f"{names[0]} and {names[1]}", blocks, "", verdict, "", self.to_dict())

    def _limits(self) -> tuple[Any, ...]:
        pair = [s.limit() for s in (self.one, self.two)]
        cells = [Num(v) if isinstance(v, float) and math.isfinite(v) else "none" for v in pair]
        return (("stability limit of the curvature", *cells),)

    def _no_parting(self) -> str:
        """Why there is no example."""
        if self.one.rule is None or self.two.rule is None:
            return ""
        if asks := [s.name for s in (self.one, self.two) if not s.scalable]:
            return f"{asks[0]} asks for the loss itself, so no row of gradients shows where the two part."
        text = "No example of one number was found on which w differs by more than a millionth of its way."
        kept = sorted(set(self.one.rule.hyper.items()) ^ set(self.two.rule.hyper.items()), key=str)
        return text + (" Their settings differ, though." if kept else " Their settings are the same.")

    def _parting(self) -> tuple[Block, ...]:
        part = self.parting
        if part is None:
            text = self._no_parting()
            return (Section("Where they part", (Paragraph((text,)),), "result", "parting"),) if text else ()
        names = (self.one.name, self.two.name)
        last = range(max(0, len(part.gradients) - SHOWN), len(part.gradients))
        rows = tuple((str(k + 1), Num(part.gradients[k]), Num(part.one[k]), Num(part.two[k])) for k in last)
        table = Table((("update",), ("gradient",), (f"w, {names[0]}",), (f"w, {names[1]}",)), rows, "", (1, 2, 3))
        text = f"The smallest example on which they differ: {part.says}. They part in update {part.update}."
        return (Section("Where they part", (Paragraph((text,)), table), "result", "parting"),)
