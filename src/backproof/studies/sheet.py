"""Work a whole sheet: every exercise with the same evidence, in one document."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..document.blocks import Block, Document, Paragraph, Section, Table
from ..errors import BackproofError, InputError
from ..problems.catalogue import Question, SheetEntry
from ..progress import track
from ..result import Result
from .exercise import Answered
from .verdicts import Evidence, summary

__all__ = ["SheetSolution", "work_sheet"]

_SHARED = ("data", "seed", "evidence")
"""Settings that every exercise that knows them takes from the sheet."""


@dataclass(frozen=True)
class SheetSolution(Result):
    """A worked sheet: ``parts`` holds the solution of each exercise by its name; see :func:`backproof.solve`."""

    id: str
    title: str
    about: str
    questions: tuple[Question, ...]
    parts: Mapping[str, Any]

    @property
    def answers(self) -> dict[str, Any]:
        """What each exercise answers, by its name."""
        return {name: part.answers for name, part in self.parts.items()}

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Every comparison of every exercise."""
        return tuple(e for part in self.parts.values() for e in part.evidence)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a careful reader should know, exercise by exercise."""
        return tuple(f"{name}: {r}" for name, part in self.parts.items() for r in part.remarks)

    @property
    def steps(self) -> tuple[Any, ...]:
        """A sheet has no steps of its own; those of an exercise are in its part."""
        return ()

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether anything wrong was found in an exercise."""
        return any(part.finding for part in self.parts.values())

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record: one for each exercise."""
        problems = {name: part.to_dict(full) for name, part in self.parts.items()}
        return {"sheet": self.id, "title": self.title, "problems": problems}

    def document(self) -> Document:
        """The sheet as it is handed in: what is asked and where it is answered, then exercise by exercise."""
        documents = {name: replace(part.document(), anchor=name) for name, part in self.parts.items()}
        blocks: list[Block] = [Paragraph((self.about,))] if self.about else []
        if self.questions:
            blocks.append(self._contents(documents))
        evidence = self.evidence
        standing: Any = "finding" if self.finding else "agrees" if evidence else ""
        return Document(
            self.title,
            tuple(blocks),
            f"{len(documents)} exercises",
            summary(evidence) if evidence else "",
            standing,
            {"sheet": self.id, "title": self.title},
            parts=tuple(documents.values()),
        )

    def _contents(self, documents: Mapping[str, Document]) -> Section:
        rows = tuple((q.text, documents[q.exercise].title, documents[q.exercise].verdict) for q in self.questions)
        table = Table((("question",), ("worked in",), ("evidence",)), rows, "What is asked, and where it is answered")
        return Section("The questions", (table,), "given", "questions")


def work_sheet(sheet: SheetEntry, settings: Mapping[str, Any], solve: Callable[..., Any]) -> SheetSolution:
    """Work every exercise of a sheet.

    Args:
        sheet: the sheet.
        settings: ``{"exercise.key": value}`` for one exercise; ``data``, ``seed`` and ``evidence`` for all that know
            them.
        solve: what solves one exercise.

    Raises:
        InputError: a setting names no exercise, or an exercise refuses one.
    """
    names = [name for name, _ in sheet.exercises]
    own, shared = _sorted(settings, names)
    parts = {}
    for name, path in track(sheet.exercises, f"solving {sheet.id}"):
        parts[name] = _one(f"{sheet.id}/{name}", name, path, own[name], shared, solve)
    return SheetSolution(sheet.id, sheet.title, sheet.about, sheet.questions, parts)


def _sorted(settings: Mapping[str, Any], names: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    shared = {}
    for key, value in settings.items():
        exercise, dot, setting = key.partition(".")
        if dot and exercise in own:
            own[exercise][setting] = value
        elif key in _SHARED:
            shared[key] = value
        else:
            close = difflib.get_close_matches(exercise, names, 1)
            hint = f"did you mean '{close[0]}.{setting or key}'?" if close and dot else f"exercises: {', '.join(names)}"
            raise InputError(
                f"'{key[:80]}' is no setting of the sheet; one of an exercise is EXERCISE.KEY=VALUE; {hint}"
            )
    return own, shared


def _one(id: str, name: str, path: Path, own: dict[str, Any], shared: dict[str, Any], solve: Callable[..., Any]) -> Any:
    from .load import load_problem

    problem, _ = load_problem(path)
    known = set(getattr(problem, "settings", {})) | ({"seed", "evidence"} if not _is_exercise(problem) else set())
    chosen = {k: v for k, v in shared.items() if k in known} | own
    try:
        solved = solve(problem, id, chosen)
    except BackproofError as error:
        raise type(error)(f"{name}: {error}") from None
    return replace(solved, id=id) if isinstance(solved, Answered) else solved


def _is_exercise(problem: Any) -> bool:
    from ..problems.problem import Exercise

    return isinstance(problem, Exercise)
