"""What a comparison of two optimizers found, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...document.blocks import Block, Callout, Document, Paragraph, Section, Table
from ...document.math import Num
from ...optimizers import Optimizer
from ...result import Result
from ..verdicts import Evidence
from ..writing.worked import evidence_section
from .probes import NAMES, UPDATES
from .structure import Measured
from .targets import Difference

__all__ = ["Deviation", "OptimizerChecked"]


@dataclass(frozen=True)
class Deviation:
    """One deviation.

    Args:
        name: in words; "" where no edit of the reference (nor two) explains it.
        settings: the settings under which it shows, beside those asked for.
        first: where the two part first; None where no single entry says it (noise, parameter groups).
        lines: the formulas that differ, (the reference's, this optimizer's).
        measured: what was measured on the class itself.
        confirmed: the class against the formulas with the deviation, on probes that the search had not seen.
    """

    name: str
    settings: dict[str, Any]
    first: Difference | None
    lines: tuple[tuple[str, str], ...] = ()
    measured: tuple[Measured, ...] = ()
    confirmed: Evidence | None = None

    def to_dict(self) -> dict[str, Any]:
        """The deviation as plain data."""
        found: dict[str, Any] = {"deviation": self.name or None, "settings": self.settings}
        if (d := self.first) is not None:
            found |= {
                "first_step": d.update,
                "probe": NAMES[d.probe],
                "parameter": d.parameter,
                "entry": list(d.index),
                "yours": d.theirs,
                "reference": d.ours,
            }
        return {
            **found,
            "formulas": [{"reference": a, "yours": b} for a, b in self.lines],
            "measured": [m.to_dict() for m in self.measured],
            "confirmed": self.confirmed is not None and self.confirmed.agrees is True,
        }


@dataclass(frozen=True)
class OptimizerChecked(Result):
    """What a comparison of two optimizers found; see :func:`check_optimizer`.

    ``ok`` is whether no difference was seen; ``.deviations`` has each with its ``.name`` and ``.first``.
    """

    name: str
    reference: Optimizer
    deviations: tuple[Deviation, ...]
    tried: tuple[dict[str, Any], ...]
    evidence: tuple[Evidence, ...] = field(default=())
    steered: bool = True
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no difference was seen."""
        return not self.deviations

    @property
    def cause(self) -> str | None:
        """The first deviation in words; None where there is none, or none could be named."""
        return next((d.name for d in self.deviations if d.name), None)

    @property
    def first_step(self) -> int | None:
        """The first update that differs."""
        return next((d.first.update for d in self.deviations if d.first is not None), None)

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether a difference was seen."""
        return not self.ok or any(e.agrees is False for e in self.evidence)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "optimizer": self.name,
            "against": self.reference.rule.name,
            "ok": self.ok,
            "cause": self.cause,
            "first_step": self.first_step,
            "deviations": [d.to_dict() for d in self.deviations],
            "tried": list(self.tried),
            "notes": list(self.notes),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The comparison as a page."""
        blocks: list[Block] = [b for d in self.deviations for b in _section(d)]
        blocks += [Callout("note", (note,)) for note in self.notes]
        blocks.append(Section("How they were compared", (Paragraph((self._how(),)),), "given", "how"))
        evidence = (*(d.confirmed for d in self.deviations if d.confirmed is not None), *self.evidence)
        if evidence:
            blocks.append(evidence_section(evidence))
        verdict = (
            f"No difference to {self.reference.described()} was seen."
            if self.ok
            else f"{self.deviations[0].name or 'It differs, and no change of the rule that was tried explains it'}."
        )
        return Document(
            f"{self.name} against {self.reference.rule.name}", tuple(blocks), "", _sentence(verdict),
            "agrees" if self.ok else "finding", self.to_dict(),
        )  # fmt: skip

    def _how(self) -> str:
        settings = "; ".join(spoken(s) or "as given" for s in self.tried)
        how = (
            f"Both made {len(self.tried)} times {UPDATES} updates of small parameters in float64 on {len(NAMES)} probes: "
            f"{', '.join(NAMES)}. Settings: {settings}. The reference is read from its formulas."
        )
        if not self.steered:
            how += " It has neither parameter groups nor .lr, so its learning rate was never changed."
        return how


def _section(d: Deviation) -> tuple[Block, ...]:
    title = d.name or "A difference without a name"
    why = "It shows first at the defaults." if not d.settings else f"It shows with {spoken(d.settings)}."
    lines = tuple((a or "(none)", b or "(none)") for a, b in d.lines)
    formulas = (Table((("the reference",), ("yours",)), lines, "The formulas that differ"),) if lines else ()
    note: tuple[Block, ...] = ()
    if not d.name:
        note = (Callout("note", ("No edit of the reference's formulas, nor two, give this path.",)),)
    measured: tuple[Block, ...] = ()
    if d.measured:
        rows = tuple((m.question, m.answer) for m in d.measured)
        measured = (Table((("question",), ("answer",)), rows, "Measured on the class itself, without a rule"),)
    blocks = (Paragraph((why,)), *_first(d.first), *formulas, *note, *measured)
    return (Section(_sentence(title), blocks, "result", ""),)


def _sentence(text: str) -> str:
    """With a capital, unless it begins with the name of a value such as w, v_hat or eps."""
    word = text.partition(" ")[0].strip(",:")
    plain = word.isalpha() and (len(word) > 3 or word in _WORDS) and word not in ("beta", "lr", "momentum")
    return text[0].upper() + text[1:] if plain else text


_WORDS = ("the", "it", "no", "a", "all", "in", "one", "so")


def _first(first: Difference | None) -> tuple[Block, ...]:
    if first is None:
        return ()
    rows = (
        ("yours", Num(first.theirs)),
        ("the reference", Num(first.ours)),
        ("difference", Num(first.theirs - first.ours)),
    )
    where = f"Update {first.update}, {NAMES[first.probe]}, parameter {first.parameter + 1}, entry {list(first.index)}"
    return (Table((("",), ("w after the update",)), rows, where, (1,)),)


def spoken(settings: Mapping[str, Any]) -> str:
    """Settings in a line: "lr 0.1, nesterov"."""
    return ", ".join(
        k if v is True else f"{k} {v:g}" if isinstance(v, (int, float)) else f"{k} {v}" for k, v in settings.items()
    )
