"""The loss from the likelihood, minima of losses that are not quadratic, learning rates, and the exercise with all three."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from scipy.optimize import minimize

import backproof as bp
from backproof.problems.problem import FormulaProblem
from backproof.studies.analyses import densities, likelihood, minimum, rates
from backproof.studies.prepare import prepare

EXERCISE = "ctu-vir-3/logistic-mle"
X = [-1.0, -0.5, 0.1, 0.7, 1.2, 2.0]
Y = [0.2, -0.1, 0.9, 1.4, 2.8, 3.9]
COUNTS = [0, 1, 0, 2, 3, 6]


@pytest.fixture(scope="module")
def solved() -> Any:
    return bp.solve(EXERCISE)


def problem(
    model: dict[str, str], also: tuple[str, ...], y: Any = Y, lr: float = 0.02, steps: int = 8, **given: Any
) -> FormulaProblem:
    """A small problem with the parameters a and b."""
    return FormulaProblem(
        "small",
        {"x": X, "y": y, "a": 0.1, "b": 0.2, **given},
        model,
        ("a", "b"),
        "sgd",
        {"lr": lr},
        steps,
        ("x", "y"),
        also=also,
    )


LINE = {"f": "a * x + b"}
GAUSS = "likelihood:exp(-(y - f)**2)"


# --- the exercise -----------------------------------------------------------------------------------------------------------
def test_the_optimum_to_six_digits(solved: Any) -> None:
    x, y = (np.array(solved.prepared.settings[n]) for n in ("x", "y"))

    def loss(w: Any) -> float:
        return float(((y - 1 / (1 + np.exp(-(w[0] * x + w[1])))) ** 2).sum())

    theirs = minimize(loss, [5.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-18, "maxiter": 4000})
    assert solved.answers["w"] == pytest.approx(theirs.x, abs=1e-5)
    assert solved.answers["w"] == pytest.approx([10.927723, 0.135983], abs=1e-6)
    assert solved.answers["loss"] == pytest.approx(0.0014755941, abs=1e-10)
    assert solved.answers["optimum"]["reached"] >= 2 and min(solved.answers["optimum"]["hessian_eigenvalues"]) > 0


def test_the_answers_of_the_exercise(solved: Any) -> None:
    answers = solved.answers
    assert answers["equivalent"] is True and len(answers["assumptions"]) >= 5
    for word in ("independen", "identical", "Gaussian", "variance 1/2", "1/sqrt(pi)"):
        assert any(word in line for line in answers["assumptions"]), word
    assert answers["log_likelihood"]["factor"] == pytest.approx(-1)
    assert answers["log_likelihood"]["constant"] == pytest.approx(-2.5 * math.log(math.pi))
    assert len(answers["losses"]) == 30 and answers["loss_after"] < 0.2
    assert min(answers["hessian_eigenvalues"]) < 0 < max(answers["hessian_eigenvalues"])
    assert answers["against"]["poles"] == pytest.approx([-1], abs=0.02)
    assert not solved.finding and all(e.agrees for e in solved.evidence)


def test_the_interval_is_what_runs_say(solved: Any) -> None:
    low, high = solved.answers["lr"]["low"], solved.answers["lr"]["high"]
    x, y = (torch.tensor(solved.prepared.settings[n], dtype=torch.float64) for n in ("x", "y"))

    def run(lr: float) -> list[float]:
        w = torch.tensor([-2.0, 2.0], dtype=torch.float64, requires_grad=True)
        optimizer, losses = torch.optim.SGD([w], lr=lr), []
        for _ in range(31):
            optimizer.zero_grad()
            loss = ((y - torch.sigmoid(w[0] * x + w[1])) ** 2).sum()
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
        return losses

    assert 0.2 < low < 1 < high < 15.1
    for lr in np.geomspace(low, high, 7):
        assert all(b <= a for a, b in zip(run(float(lr)), run(float(lr))[1:], strict=False))
    assert run(low / 4)[-1] > 3 * run(low)[-1] and run(30 * high)[-1] > 3 * run(high)[-1]


def test_the_page_says_it_line_by_line(solved: Any) -> None:
    text = solved.text()
    for part in (
        "From the likelihood to the loss",
        "independence",
        "1/√π",
        "least squares",
        "cross-entropy",
        "indefinite",
    ):
        assert part in text, part


# --- other densities ----------------------------------------------------------------------------------------------------------
DENSITIES: list[tuple[str, dict[str, str], str, Any, Callable[[Any, Any], Any]]] = [
    ("gaussian", {**LINE, "L": "mean((y - f)**2)"}, "exp(-(y - f)**2 / 2)", Y,
     lambda y, f: torch.distributions.Normal(f, 1.0).log_prob(y)),
    ("laplace", {**LINE, "L": "sum(abs(y - f))"}, "exp(-abs(y - f))", Y,
     lambda y, f: torch.distributions.Laplace(f, 1.0).log_prob(y)),
    ("bernoulli", {"z": "a * x + b", "f": "sigmoid(z)", "L": "sum(log(1 + exp(z)) - y * z)"},
     "f**y * (1 - f)**(1 - y), y in {0, 1}", [0, 1, 0, 1, 0, 1],
     lambda y, f: torch.distributions.Bernoulli(f).log_prob(y)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "model", "density", "y", "log_prob"), DENSITIES, ids=[d[0] for d in DENSITIES])
def test_other_noise_gives_other_losses(
    kind: str, model: dict[str, str], density: str, y: Any, log_prob: Callable[[Any, Any], Any]
) -> None:
    found = bp.solve(problem(model, (f"likelihood:{density}",), y))
    assert found.answers["equivalent"] is True and not found.finding
    values = found.steps[0].values
    ours = found.answers["log_likelihood"]
    theirs = float(log_prob(torch.tensor(y, dtype=torch.float64), values["f"]).sum())
    assert ours["factor"] * float(values["L"]) + ours["constant"] == pytest.approx(theirs, rel=1e-9)


def test_least_squares_is_not_maximum_likelihood_under_laplace_noise() -> None:
    found = bp.solve(problem({**LINE, "L": "sum((y - f)**2)"}, ("likelihood:exp(-abs(y - f))",)))
    assert found.answers["equivalent"] is False and "w" not in found.answers
    assert any("different minima" in r for r in found.remarks)


def test_a_variance_that_is_learned_stays_in_the_loss() -> None:
    model = {**LINE, "L": "sum(log(s) + (y - f)**2 / (2 * s**2))"}
    three = FormulaProblem("scale", {"x": X, "y": Y, "a": 0.1, "b": 0.2, "s": 1.5}, model, ("a", "b", "s"), "sgd",
                           {"lr": 0.01}, 2, ("x", "y"), also=("likelihood:exp(-(y - f)**2 / (2 * s**2))",))  # fmt: skip
    found = bp.solve(three)
    assert found.answers["equivalent"] is True and "log(s)" in found.answers["loss_formula"]
    slope, intercept = np.polyfit(X, Y, 1)
    residual = np.sqrt(np.mean((np.array(Y) - slope * np.array(X) - intercept) ** 2))
    assert found.answers["a"] == pytest.approx(slope) and found.answers["s"] == pytest.approx(residual)


@pytest.mark.parametrize(
    "density",
    [
        "",
        "abc(",
        "exp(-(y - q)**2)",
        "exp(-f**2)",
        "y",
        "exp(-(y - x)**2)",
        "exp(-(y - f)**2), y in {0}",
        "__import__('os')",
    ],
)
def test_what_is_no_density_is_refused(density: str) -> None:
    with pytest.raises(bp.BackproofError):
        bp.solve(problem({**LINE, "L": "sum((y - f)**2)"}, (f"likelihood:{density}",)))


def test_a_wrong_constant_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = densities._total
    densities._density.cache_clear()
    monkeypatch.setattr(densities, "_total", lambda *a: (right(*a)[0] * 2, right(*a)[1]))
    found = bp.solve(problem({**LINE, "L": "sum((y - f)**2)"}, (GAUSS,)))
    densities._density.cache_clear()
    assert [e.what for e in found.evidence if e.agrees is False] == ["K"]


def test_a_wrong_optimum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "optimum", lambda *a: bp.Answer({"optimum": {"a": 1.0, "b": 1.0, "L": 0.1}}))
    found = bp.solve(problem({**LINE, "L": "sum((y - f)**2)"}, (GAUSS,)))
    assert any(e.agrees is False and "stationary" in e.what for e in found.evidence)


# --- minima -------------------------------------------------------------------------------------------------------------------
def prepared(model: dict[str, str], **given: Any) -> Any:
    return prepare(problem(model, (), **given), {})


def test_of_two_valleys_the_lower_one() -> None:
    found = minimum.minimum_of(prepared({"L": "(a**2 - 1)**2 + a / 4 + b**2"}).program)
    assert found is not None
    a = sympy.Symbol("a")
    roots = sympy.Poly(4 * a * (a**2 - 1) + sympy.Rational(1, 4)).nroots()
    assert float(found.at[0]) == pytest.approx(float(min(roots)), abs=1e-9)
    assert found.others and 0 < found.reached < found.starts


def test_where_there_is_no_minimum_none_is_claimed() -> None:
    assert minimum.minimum_of(prepared({"L": "exp(a) + b**4 * 0 + exp(-b)"}).program) is None
    separable = problem({"z": "a * x + b", "L": "sum(log(1 + exp(z)) - y * z)"}, ("optimum",), [0, 0, 0, 1, 1, 1])
    solved = bp.solve(separable)
    assert "optimum" not in solved.answers and any("No minimum" in r for r in solved.remarks)


def test_a_minimum_that_is_none_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepared({"L": "exp(a) - a + b**4 + b**2"})
    found = minimum.minimum_of(ready.program)
    assert found is not None and [e.agrees for e in minimum._confirmed(ready.program, found)] == [True] * 4
    moved = minimum.Minimum(found.at + 0.1, found.loss, 1.0, found.eigenvalues, 1, 1, ())
    assert not all(e.agrees for e in minimum._confirmed(ready.program, moved))


# --- rates ----------------------------------------------------------------------------------------------------------------------
def test_on_a_quadratic_the_upper_end_is_two_over_the_curvature_or_below() -> None:
    found = bp.solve(problem({**LINE, "L": "mean((y - f)**2)"}, ("rates", "curvature"), steps=40))
    high, limit = found.answers["lr"]["high"], found.answers["lr_limit"]
    assert 0.97 * limit < high <= limit and found.answers["lr"]["low"] < high and not found.finding


def test_adaptive_rules_are_judged_by_their_runs() -> None:
    found = bp.solve(problem({**LINE, "L": "mean((y - f)**2)"}, ("rates",)), optimizer="adam", lr=0.05)
    assert not found.finding and (
        "lr" not in found.answers or found.answers["lr"]["low"] <= found.answers["lr"]["high"]
    )


def test_a_run_that_diverges_is_no_finding_and_says_so() -> None:
    run = rates.walked(prepared({"L": "a**4 + b**2"}, lr=1.0).program, 1e4, 60)
    assert not run.finite and run.final == math.inf and run.rises > 0


def test_losses_of_torch_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rates._with_torch
    monkeypatch.setattr(rates, "_with_torch", lambda p, lr, n: right(p, lr * 1.01, n))
    assert bp.solve(problem({**LINE, "L": "mean((y - f)**2)"}, ("rates",))).finding


# --- data and drawing -----------------------------------------------------------------------------------------------------------
def test_points_from_a_file(in_tmp: Path) -> None:
    np.save("pts.npy", np.array([X, Y]).T)
    Path("line.toml").write_text(
        '[given]\nx = {npy = "pts.npy", column = 0}\ny = {npy = "pts.npy", column = 1}\na = 0.0\n[model]\nf = "a * x"\n'
        'L = "sum((y - f)**2)"\n[ask]\nalso = ["likelihood:exp(-(y - f)**2)"]\n'
        '[step]\nparameters = ["a"]\nsamples = ["x", "y"]\nlr = 0.01\n'
    )
    found = bp.solve("line.toml")
    assert found.answers["a"] == pytest.approx(np.dot(X, Y) / np.dot(X, X)) and not found.finding


@pytest.mark.parametrize("formula", ["", "1/", "q", "sum(x)"])
def test_a_rival_that_cannot_be_drawn_is_refused(formula: str) -> None:
    with pytest.raises(bp.BackproofError):
        bp.solve(problem({**LINE, "L": "sum((y - f)**2)"}, (f"against:{formula}",)))


@pytest.mark.parametrize(
    "settings", [{"lr": math.nan}, {"steps": 10**9}, {"w": [1]}, {"x": []}, {"w": "abc("}], ids=str
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError):
        bp.solve(EXERCISE, **settings)
