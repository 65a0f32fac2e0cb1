"""Work an exercise whose answer is a study of its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..document.blocks import Block, Callout, Document, Paragraph, Section, Table
from ..errors import BackproofError, InputError
from ..problems.problem import Exercise
from ..result import Result, plain
from .answer import Answer
from .prepare import alike, refuse_unknown
from .verdicts import Evidence, summary
from .writing.worked import evidence_section

__all__ = ["Answered", "work_exercise"]


@dataclass(frozen=True)
class Answered(Result):
    """A worked exercise: ``answers``, ``remarks``, ``evidence``; see :func:`backproof.solve`."""

    id: str
    title: str
    about: str
    settings: dict[str, Any]
    answer: Answer

    @property
    def answers(self) -> dict[str, Any]:
        """What was asked."""
        return self.answer.answers

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Every comparison with an independent way."""
        return self.answer.evidence

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a careful reader should know."""
        return self.answer.remarks

    @property
    def steps(self) -> tuple[dict[str, Any], ...]:
        """The records of updates, where the exercise trains something."""
        return self.answer.steps

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether something wrong was found."""
        return self.answer.finding or any(e.agrees is False for e in self.evidence)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record of INTERFACE: problem, settings, steps, derivation, answers, remarks, evidence."""
        return {
            "problem": self.id,
            "settings": plain(self.settings, full),
            "steps": plain(self.steps, full),
            "derivation": self.answer.equations_dict(),
            "answers": plain(self.answers, full),
            "remarks": list(self.remarks),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The worked solution."""
        blocks: list[Block] = [Paragraph((self.about,))] if self.about else []
        if self.settings:
            blocks.append(_settings(self.settings))
        blocks += self.answer.blocks
        if self.remarks:
            blocks.append(Section("Remarks", tuple(Callout("note", (r,)) for r in self.remarks), "result", "remarks"))
        if self.evidence:
            blocks.append(evidence_section(self.evidence))
        verdict = summary(self.evidence) if self.evidence else ""
        standing = "finding" if self.finding else "agrees" if self.evidence else ""
        return Document(self.title, tuple(blocks), "", verdict, standing, self.to_dict())  # type: ignore[arg-type]


def _settings(settings: Mapping[str, Any]) -> Section:
    rows = tuple((name, _shown(value)) for name, value in settings.items())
    return Section("Given", (Table((("setting",), ("value",)), rows),), "given", "given")


def _shown(value: Any) -> str:
    text = str(plain(value))
    return text if len(text) <= 200 else text[:197] + "..."


def work_exercise(exercise: Exercise, settings: Mapping[str, Any], id: str) -> Answered:
    """Apply settings to an exercise and work it.

    Raises:
        InputError: a setting is unknown or not of the kind of its default.
    """
    refuse_unknown(settings, list(exercise.settings))
    values = {k: alike(k, settings.get(k, default), default) for k, default in exercise.settings.items()}
    return Answered(id, exercise.title or id, exercise.about, values, _worked(exercise, values))


def _worked(exercise: Exercise, values: Mapping[str, Any]) -> Answer:
    wanted = inspect.signature(exercise.work).parameters
    if missing := [n for n, p in wanted.items() if n not in values and p.default is p.empty]:
        raise InputError(f"the exercise's function needs '{missing[0]}', which is not among its settings")
    try:
        answer = exercise.work(**{k: v for k, v in values.items() if k in wanted})
    except BackproofError:
        raise
    except (ValueError, TypeError, RuntimeError, OSError, ArithmeticError, LookupError) as error:
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        raise InputError(f"the exercise could not be worked with these settings: {reason}") from error
    if not isinstance(answer, Answer):
        raise InputError(f"the exercise's function must return a bp.Answer, not a {type(answer).__name__}")
    return answer
