"""The table of the README says what the sheets ask, and the evidence it names is what solving gives."""

from __future__ import annotations

from typing import Any

import pytest

import backproof as bp
from backproof.problems.catalogue import sheets

from .sheets import README, evidence_of, rows, table_in

QUESTIONS = [(s, q) for s in sheets() for q in s.questions]
QUICK = [
    "ctu-vir-3/sine-neuron",
    "epfl-ml-12/linear-regression",
    "epfl-ml-9/adam-sgdm",
    "epfl-ml-9/receptive-field",
    "uva-dl-1/chain-rule",
    "uva-dl-1/relu-tanh-net",
    "uva-dl-1/softmax-hinge",
]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def _evidence() -> dict[str, dict[str, str]]:
    """The evidence cells as the README has them."""
    table = table_in(README.read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {}
    for sheet in sheets():
        for question in sheet.questions:
            line = next(y for y in table.splitlines() if question.text in y)
            cells = _cells(line)
            if cells[3] != "same":
                found.setdefault(sheet.id, {})[question.exercise] = cells[3]
    return found


def test_every_question_of_every_sheet_stands_in_the_readme() -> None:
    evidence = _evidence()
    text = README.read_text(encoding="utf-8")
    missing = [line for s in sheets() for line in rows(s, evidence[s.id]) if line not in text]
    assert missing == [] and len(QUESTIONS) > 25


def _check(name: str) -> None:
    sheet, _, exercise = name.partition("/")
    solved: Any = bp.solve(name)
    record = solved.to_dict()
    assert evidence_of(record["evidence"]) == _evidence()[sheet][exercise], "write it anew: make sheets"
    asked = [a for s, q in QUESTIONS if s.id == sheet and q.exercise == exercise for a in q.answers]
    assert asked and [a for a in asked if a not in record["answers"]] == []


@pytest.mark.parametrize("name", QUICK)
def test_quick_exercises_answer_what_is_asked_with_the_evidence_named(name: str) -> None:
    _check(name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [e.id for e in bp.catalogue() if e.id not in QUICK])
def test_the_other_exercises_do_too(name: str) -> None:
    _check(name)
