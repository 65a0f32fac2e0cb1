"""What a study contributes to a solution: answers, the work behind them, and the evidence."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..document.blocks import Block, Document, Equation
from ..result import written
from .verdicts import Evidence

__all__ = ["Answer", "Solved"]


@dataclass(frozen=True)
class Answer:
    """What a study adds to a solution; two answers are joined with ``+``.

    Args:
        answers: the keys of ``answers`` in the record, as plain data or tensors.
        blocks: the work, for the page.
        evidence: the independent ways in which the answers were confirmed.
        remarks: what a careful reader should know, in sentences.
        derivation: the equations that were derived, for the record's ``derivation``; the blocks show them too.
        steps: records of updates, where the study trains something.
        finding: whether something wrong was found that is no disagreement of evidence (a budget that no plan
            meets, a wrong answer).
    """

    answers: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    remarks: tuple[str, ...] = ()
    derivation: tuple[Equation, ...] = ()
    steps: tuple[dict[str, Any], ...] = ()
    finding: bool = False

    def __add__(self, other: Answer) -> Answer:
        return Answer(
            {**self.answers, **other.answers},
            self.blocks + other.blocks,
            self.evidence + other.evidence,
            self.remarks + other.remarks,
            self.derivation + other.derivation,
            self.steps + other.steps,
            self.finding or other.finding,
        )

    def equations_dict(self) -> list[dict[str, str]]:
        """The derivation as plain data: name, formula in LaTeX and as text, rule."""
        return [_equation(e) for e in self.derivation]


class Solved(Protocol):
    """What every solution has: of a problem, an exercise or a sheet."""

    @property
    def id(self) -> str:
        """The problem's id, or its file."""
        ...

    @property
    def answers(self) -> dict[str, Any]:
        """What was asked."""
        ...

    @property
    def steps(self) -> tuple[Any, ...]:
        """The record of each update."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a careful reader should know."""
        ...

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Every comparison with an independent way."""
        ...

    @property
    def finding(self) -> bool:
        """Whether something wrong was found."""
        ...

    def document(self) -> Document:
        """The worked solution as blocks."""
        ...

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record as plain data."""
        ...

    def text(self, width: int = 80, color: bool = False) -> str:
        """The document as plain text."""
        ...

    def html(self) -> str:
        """The document as one self-contained HTML file."""
        ...

    def latex(self) -> str:
        """The document as LaTeX that compiles."""
        ...

    def markdown(self) -> str:
        """The document as Markdown."""
        ...

    def script(self) -> str:
        """A plain PyTorch program that recomputes the record."""
        ...

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to a file whose suffix says the format."""
        ...


def _equation(equation: Equation) -> dict[str, str]:
    (name, left), (text, latex) = written(equation.left), written(equation.steps[0])
    return {"name": name, "formula": f"{left} = {latex}", "text": f"{name} = {text}", "rule": equation.why}
