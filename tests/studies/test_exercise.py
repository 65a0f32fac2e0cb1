"""An exercise is a function of its settings; what it answers is shown like every other solution."""

from __future__ import annotations

from typing import Any

import pytest

import backproof as bp
from backproof.document.blocks import Equation, Paragraph
from backproof.document.math import Num, Sym
from backproof.progress import shown_by, task, track
from backproof.studies.verdicts import Evidence


def work(n: int) -> bp.Answer:
    evidence = Evidence("square", "a sum of odd numbers", n * n == sum(range(1, 2 * n, 2)), 0.0, 1, 1)
    derivation = (Equation(Sym("q"), (Num(n * n),), "n times n"),)
    return bp.Answer({"square": n * n}, (Paragraph((f"It is {n * n}.",)),), (evidence,), ("Small.",), derivation)


EXERCISE = bp.Exercise(work, settings={"n": 3}, title="Squares", about="What is n times n?")


def test_it_is_worked_with_its_settings() -> None:
    solved = bp.solve(EXERCISE, n=5)
    assert isinstance(solved, bp.Answered) and solved.answers == {"square": 25} and not solved.finding
    record = solved.to_dict()
    assert record["settings"] == {"n": 5} and record["derivation"][0]["formula"] == "q = 25"
    assert [e["agrees"] for e in record["evidence"]] == [True]
    assert all(part in solved.text() for part in ("Squares", "It is 25.", "Small.", "Evidence"))


@pytest.mark.parametrize("settings", [{"m": 3}, {"n": "many"}, {"n": [1]}, {"n": True}, {"n": 2.5}])
def test_other_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError):
        bp.solve(EXERCISE, **settings)


def test_what_disagrees_is_a_finding() -> None:
    wrong = bp.Exercise(lambda: bp.Answer({}, evidence=(Evidence("q", "r", False, 1.0, 1, 1),)), title="Wrong")
    assert bp.solve(wrong).finding and bp.solve(bp.Exercise(lambda: bp.Answer(finding=True))).finding


def test_a_function_that_fails_is_refused_with_its_reason() -> None:
    with pytest.raises(bp.InputError, match="ZeroDivisionError"):
        bp.solve(bp.Exercise(lambda: 1 / 0))
    with pytest.raises(bp.InputError, match=r"bp\.Answer"):
        bp.solve(bp.Exercise(lambda: 3))


def test_answers_are_joined() -> None:
    both = work(2) + bp.Answer({"more": 1}, remarks=("Two.",), finding=True)
    assert both.answers == {"square": 4, "more": 1} and both.remarks == ("Small.", "Two.") and both.finding


class _Told:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, what: str, total: int | None) -> int:
        self.calls.append((what, total))
        return 7

    def advance(self, number: int, by: int, note: str) -> None:
        self.calls.append((number, by, note))

    def end(self, number: int) -> None:
        self.calls.append((number,))


def test_progress_is_told_to_whoever_shows_it() -> None:
    told = _Told()
    with shown_by(told):
        assert list(track([1, 2], "counting")) == [1, 2]
    assert told.calls == [("counting", 2), (7, 1, ""), (7, 1, ""), (7,)]
    with task("alone") as advance:
        advance(note="nobody listens")
