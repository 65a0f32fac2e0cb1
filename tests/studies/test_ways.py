"""Programs that claim the same are run as shown and compared; who differs is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backproof as bp
from backproof.document.blocks import Code, Details, Section
from backproof.studies import ways
from backproof.studies.load import load_problem

TOUR = "epfl-ml-12/torch-tour"


def tour() -> dict[str, Any]:
    problem, _ = load_problem(TOUR)
    assert isinstance(problem, bp.Exercise)
    return problem.work.__globals__  # type: ignore[no-any-return]


def test_the_tour_agrees_and_reaches_what_least_squares_allows() -> None:
    solved = bp.solve(TOUR, points=300, steps=400, seed=5)
    assert not solved.finding and len(solved.answers["ways"]) == 13
    x = np.linspace(-np.pi, np.pi, 300)
    powers = np.vander(x, 4)
    left = np.square(powers @ np.linalg.lstsq(powers, np.sin(x), rcond=None)[0] - np.sin(x)).sum()
    assert solved.answers["optimum"] == pytest.approx(left, rel=1e-9)
    assert solved.answers["lr_limit"] == pytest.approx(1 / np.linalg.eigvalsh(powers.T @ powers)[-1], rel=1e-9)
    assert solved.answers["max_difference"] < 1e-6
    assert all(loss >= left for name, loss in solved.answers["ways"].items() if name != "control flow")


def test_the_derivative_written_by_hand_is_checked_and_a_wrong_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def evidence() -> list[bool | None]:
        solved = bp.solve(TOUR, points=60, steps=3)
        return [e.agrees for e in solved.evidence if e.what.startswith("Legendre3.backward")]

    said = bp.solve(TOUR, points=60, steps=3).answers["hand_written"]
    assert said["ok"] is True and said["entries"] == 60 and "factor 2/3" in said["slips"]["the factor 3/2 forgotten"]
    assert evidence() == [True, True]
    names = tour()
    slope = names["Legendre3"].backward

    def wrong(ctx: Any, g: Any) -> Any:
        return 1.001 * slope(ctx, g)

    answer = names["hand_written"](
        type("Wrong", (names["Legendre3"],), {"backward": staticmethod(wrong)}), torch.ones(3), "1 * u"
    )
    assert next(e.agrees for e in answer.evidence if e.what == "Wrong.backward") is False


def test_the_losses_are_those_of_gradient_descent() -> None:
    got = bp.solve(TOUR, points=40, steps=3, lr=1e-5, seed=1).answers["ways"]["optim"]
    x = np.linspace(-np.pi, np.pi, 40)
    powers = np.vander(x, 4, increasing=True)
    w = np.random.default_rng(1).standard_normal(4)
    for _ in range(2):
        w = w - 1e-5 * 2 * powers.T @ (powers @ w - np.sin(x))
    assert got == pytest.approx(np.square(powers @ w - np.sin(x)).sum(), rel=1e-10)


@pytest.mark.parametrize("name", ["autograd", "optim", "formulas", "custom function by hand", "control flow"])
def test_a_corrupted_way_is_named(name: str) -> None:
    """It bites: one program forgets a thousandth of its learning rate."""
    names = tour()
    right = names["WAYS"][name]

    def forgetful(x: Any, y: Any, start: Any, steps: int, lr: float, seed: int) -> Any:
        return right(x, y, start, steps, 0.999 * lr, seed)

    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    start = {"a": 0.5, "b": -0.2, "c": 0.1, "d": 0.3}
    answer = ways.same(
        {**names["WAYS"], name: forgetful},
        groups=names["GROUPS"],
        x=x, y=torch.sin(x), start=start, steps=60, lr=1e-5, seed=0,
    )  # fmt: skip
    wrong = [e.what for e in answer.evidence if e.agrees is False]
    alone = len(next(g for g in names["GROUPS"] if name in g)) > 2
    assert [w for w in wrong if w.startswith(f"'{name}'")] and len(wrong) == (1 if alone else 2)
    assert bp.solve(bp.Exercise(lambda: answer)).finding


def test_what_is_shown_is_what_ran() -> None:
    def spy(n: int) -> dict[str, int]:
        return {"loss": n, "line": __import__("sys")._getframe().f_code.co_filename == "<spy, as shown>"}

    answer = ways.same({"spy": spy}, n=3)
    section = next(b for b in answer.blocks if isinstance(b, Section) and b.anchor == "programs")
    fold = section.blocks[1]
    assert isinstance(fold, Details) and isinstance(fold.blocks[0], Code)
    assert fold.blocks[0].text.startswith("def spy(n")
    ran = ways._run("spy", spy, {"n": 3})
    assert ran.results["line"] == 1


def test_chaos_is_said_and_compared_as_far_as_it_goes() -> None:
    """The logistic map doubles a rounding error in each step: two orders of the same product part after 50 steps."""

    def left(x: float, steps: int) -> dict[str, list[float]]:
        found = []
        for _ in range(steps):
            found.append(x)
            x = 3.99 * x * (1 - x)
        return {"loss": found}

    def right(x: float, steps: int) -> dict[str, list[float]]:
        found = []
        for _ in range(steps):
            found.append(x)
            x = 3.99 * (x * (1 - x))
        return {"loss": found}

    answer = ways.same({"left": left, "right": right}, x=0.3, steps=200)
    assert [e.agrees for e in answer.evidence] == [True, True] and "rounding decides" in answer.remarks[0]

    def wrong(x: float, steps: int) -> dict[str, list[float]]:
        return {"loss": [v * (1 + 1e-6) for v in left(x, steps)["loss"]]}

    assert [e.agrees for e in ways.same({"left": left, "wrong": wrong}, x=0.3, steps=200).evidence] == [False, False]


def test_a_program_cannot_change_what_the_next_one_is_given() -> None:
    def rude(x: Any) -> dict[str, Any]:
        x[:] = 0
        return {"loss": x}

    def polite(x: Any) -> dict[str, Any]:
        return {"loss": x}

    answer = ways.same({"rude": rude, "polite": polite}, x=torch.ones(3))
    assert answer.answers["ways"] == {"rude": 0.0, "polite": 1.0}


@pytest.mark.parametrize(
    "settings",
    [{"points": 1}, {"points": 10**12}, {"steps": 0}, {"steps": 10**9}, {"lr": 0.0}, {"lr": -1.0}, {"lr": float("nan")},
     {"lr": "fast"}, {"seed": -1}, {"points": [3]}, {"degree": 4}],
)  # fmt: skip
def test_hostile_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError):
        bp.solve(TOUR, **settings)


def test_what_diverges_is_said_and_not_compared() -> None:
    solved = bp.solve(TOUR, lr=1e-3, steps=60, points=100)
    undecided = [e for e in solved.evidence if e.agrees is None]
    assert undecided and not solved.finding and any("diverged" in r for r in solved.remarks)


def test_ways_that_cannot_be_compared_are_refused() -> None:
    def returns(value: Any) -> Any:
        return lambda: value

    for mapping in ({}, {"a": 3}, {"a": returns(3)}, {"a": returns({"other": 1})}, {"a": returns({"loss": "x"})}):
        with pytest.raises(bp.InputError):
            ways.same(mapping)
    with pytest.raises(bp.InputError, match="shapes"):
        ways.same({"a": returns({"loss": [1, 2]}), "b": returns({"loss": 1})})
    with pytest.raises(bp.InputError, match="no such way"):
        ways.same({"a": returns({"loss": 1})}, groups=[["b"]])
    with pytest.raises(bp.InputError, match="ZeroDivisionError"):
        ways.same({"a": lambda: {"loss": 1 / 0}})


def test_the_example_and_the_tour_are_listed() -> None:
    assert TOUR in {e.id for e in bp.catalogue()}
    assert (Path(__file__).parents[2] / "docs/examples/three_programs.py").is_file()
