"""A sheet is a folder of problems: worked in its order, in one document, with settings for each exercise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import backproof as bp
from backproof.cli import main
from backproof.problems.catalogue import sheets

ONE = 'title = "One"\n[given]\nx = 3\nw = 2\n[model]\ny = "w * x"\nL = "(y - 1)**2"\n[step]\nparameters = ["w"]\nlr = 0.1\n'
TWO = 'import backproof as bp\nproblem = bp.Exercise(lambda n: bp.Answer({"n": n}), settings={"n": 3, "seed": 0}, title="Two")\n'
SHEET = """title = "A sheet of my own"
about = "Two exercises."
exercises = ["two", "one"]
[[question]]
text = "What is n?"
exercise = "two"
answers = ["n"]
[[question]]
text = "What is w after one update?"
exercise = "one"
answers = ["w"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.toml").write_text(ONE)
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "_sheet.toml").write_text(SHEET)
    return tmp_path


def test_the_exercises_are_worked_in_the_sheets_order(folder: Path) -> None:
    solved = bp.solve(folder, **{"one.lr": 0.5, "two.n": 8, "seed": 7})
    assert list(solved.answers) == ["two", "one"]
    assert solved.answers["two"] == {"n": 8} and solved.answers["one"]["w"] == pytest.approx(2 - 0.5 * 30)
    record = solved.to_dict()
    assert record["problems"]["two"]["settings"] == {"n": 8, "seed": 7}
    assert record["problems"]["one"]["settings"]["lr"] == 0.5
    assert [p.anchor for p in solved.document().parts] == ["two", "one"] and not solved.finding


def test_every_form_holds_every_exercise(folder: Path) -> None:
    solved = bp.solve(folder)
    for text in (solved.text(), solved.html(), solved.latex(), solved.markdown()):
        assert all(part in text for part in ("A sheet of my own", "What is n?", "One", "Two"))


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "solved.html"
    assert main(["solve", str(folder), "--set", "two.n=4", "--json", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["problems"]["two"]["answers"] == {"n": 4}
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize("setting", ["lr=1", "three.lr=1", "one.bogus=1", "two.n=many", "on.lr=3"])
def test_settings_that_fit_nothing_are_refused(folder: Path, capsys: pytest.CaptureFixture[str], setting: str) -> None:
    assert main(["solve", str(folder), "--set", setting]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and len(said) < 500


@pytest.mark.parametrize(
    "text",
    ["", "exercises = 3", 'exercises = ["nine"]', 'exercises = ["../one"]', "exercises = [", SHEET + "[[question]]\n"],
)
def test_damaged_sheets_are_refused(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (folder / "_sheet.toml").write_text(text)
    assert main(["solve", str(folder)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_finding_in_one_exercise_is_one_of_the_sheet(folder: Path) -> None:
    (folder / "two.py").write_text("import backproof as bp\nproblem = bp.Exercise(lambda: bp.Answer(finding=True))\n")
    assert bp.solve(folder).finding
    (folder / "two.py").write_text("import backproof as bp\nproblem = bp.Exercise(lambda: 1 / 0)\n")
    with pytest.raises(bp.InputError, match=r"two: .*ZeroDivisionError"):
        bp.solve(folder)


@pytest.mark.parametrize("sheet", sheets(), ids=lambda s: s.id)
def test_the_built_in_sheets_name_all_their_problems(sheet: object) -> None:
    assert isinstance(sheet, type(sheets()[0]))
    ids = {e.id.partition("/")[2] for e in bp.catalogue() if e.id.startswith(f"{sheet.id}/")}
    assert {name for name, _ in sheet.exercises} == ids
    assert {q.exercise for q in sheet.questions} == ids
