"""Losses from named noises and densities of one's own: right in numbers, each assumption at its line, refusals in words."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import backproof as bp
from backproof.studies.likelihood import NOISES

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gaussian": (lambda y, v: F.gaussian_nll_loss(v["mu"], y, v["sigma"] ** 2, reduction="none"), {"sigma": 1.3}),
    "gaussian-unknown": (lambda y, v: F.gaussian_nll_loss(v["mu"], y, v["sigma"] ** 2, reduction="none"), {}),
    "laplace": (lambda y, v: (y - v["mu"]).abs() / v["b"], {"b": 0.7}),
    "bernoulli": (lambda y, v: F.binary_cross_entropy(v["p"], y, reduction="none"), {}),
    "poisson": (lambda y, v: F.poisson_nll_loss(v["lambda"], y, log_input=False, eps=0, reduction="none"), {}),
}


@pytest.mark.parametrize("noise", CASES)
def test_the_loss_is_torch_s_up_to_what_is_dropped(noise: str) -> None:
    """The difference to torch's own loss does not depend on what is learned."""
    import sympy

    found = bp.likelihood(noise)
    assert not found.finding and all(e.agrees for e in found.evidence)
    theirs, known = CASES[noise]
    y = torch.tensor(1.0, dtype=torch.float64)
    gaps = []
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        learned = {n: 0.2 + 0.6 * torch.rand((), generator=draw, dtype=torch.float64) for n in NOISES[noise].learned}
        values = {**{k: torch.tensor(v, dtype=torch.float64) for k, v in known.items()}, **learned}
        local = {n: sympy.Symbol(n) for n in (*values, "y")}
        formula = sympy.sympify(found.loss.replace("lambda", "rate"), locals={**local, "rate": sympy.Symbol("lambda")})
        numbers = {**{n: float(v) for n, v in values.items()}, "y": 1.0}
        ours = float(formula.subs({s: numbers[s.name] for s in formula.free_symbols}))
        gaps.append(ours - float(theirs(y, values)))
    assert max(gaps) - min(gaps) < 1e-9


def test_each_assumption_stands_at_its_line() -> None:
    for noise in (*NOISES, "categorical"):
        lines = bp.likelihood(noise).equations
        assert "independence" in lines[0].rule and "logarithm" in " ".join(e.rule for e in lines)
        assert any("sign is turned" in e.rule for e in lines)
    rules = {n: " ".join(e.rule for e in bp.likelihood(n).equations) for n in NOISES}
    assert "one known variance" in rules["gaussian"] and "depends on what is learned" in rules["gaussian-unknown"]
    assert "nothing else can be dropped" in rules["bernoulli"]


@pytest.mark.parametrize(
    ("noise", "error"),
    [("gaussian", "(μ − y)/σ²"), ("bernoulli", "p − y"), ("poisson", "λ − y"), ("categorical", "pᵢₖ − tᵢₖ")],
)
def test_the_first_error_signal(noise: str, error: str) -> None:
    assert bp.likelihood(noise).equations[-1].text.endswith(error)


def test_a_density_of_one_s_own() -> None:
    found = bp.likelihood("exp(-abs(z - m) / 3)", y="z")
    assert found.loss == "Abs(m - z)/3" and not found.finding
    fixed = bp.likelihood("exp(-(y - f)**2 / (2 * s**2))", known=("s",))
    assert "log(s)" not in fixed.loss and "log(s)" in bp.likelihood("exp(-(y - f)**2 / (2 * s**2))").loss


@pytest.mark.parametrize(
    ("noise", "more", "says"),
    [("cauchy", {}, "no noise is called"), ("exp(-(a - b)**2)", {}, "does not mention"), ("exp(-y**4 + f)", {}, "not found"),
     ("exp(-y**2)", {}, "nothing in it that is learned"), ("gaussian", {"known": ("mu",)}, "are fixed"), ("exp((y", {}, "density")],
)  # fmt: skip
def test_what_cannot_be_derived_is_refused(noise: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(bp.BackproofError, match=says) as error:
        bp.likelihood(noise, **more)
    assert "\n" not in str(error.value)


def test_the_command_and_the_analysis_by_name() -> None:
    run = subprocess.run([sys.executable, "-m", "backproof", "likelihood", "bernoulli", "--json"], capture_output=True,
                         text=True, timeout=120)  # fmt: skip
    assert run.returncode == 0 and json.loads(run.stdout)["loss"] == bp.likelihood("bernoulli").loss
    from backproof.studies.analyses.densities import spelled

    assert spelled("gaussian(y, f, s)") == "exp(-(y - f)**2 / (2 * s**2))" and spelled("exp(-y)") == "exp(-y)"
    with pytest.raises(bp.FormulaError, match="names"):
        spelled("bernoulli(y)")
