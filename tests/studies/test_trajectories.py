"""Optimizers on one loss: best rates against the known ones, the picture, the command."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.optimizers import optimizer
from backproof.optimizers.witness import torch_class
from backproof.studies.trajectories.contours import contours, levels_of
from backproof.studies.trajectories.runners import ask_again, parts_of, runner_of
from backproof.studies.trajectories.surfaces import NAMED, surface_of


def test_the_best_rate_of_gradient_descent_on_a_quadratic() -> None:
    low, high = 1.0, 20.0
    found = bp.trajectories([low, high], optimizers=["sgd"], updates=150, seeds=5).contests["sgd"]
    assert found.lr == pytest.approx(2 / (low + high), rel=0.25) and not found.at_edge
    rate = (high - low) / (high + low)
    assert found.quantile(0.5) < 200 * rate ** (2 * 140)


def test_the_order_and_the_spread() -> None:
    rules: list[Any] = ["sgd", ("sgd", {"momentum": 0.9}), "adam"]
    found = bp.trajectories([1, 100], optimizers=rules, updates=60, seeds=5)
    assert found.order[0] != "sgd" and set(found.contests) == {"sgd", "sgd momentum 0.9", "adam"}
    for contest in found.contests.values():
        assert contest.quantile(0.25) <= contest.quantile(0.5) <= contest.quantile(0.75) and len(contest.finals) == 5
    assert found.to_dict()["seeds"] == {"searched": 5, "measured": 5}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_gradients_of_the_named_surfaces(name: str) -> None:
    surface = surface_of(name)
    points = surface.starts(range(4))
    step = 1e-6 * torch.eye(2, dtype=torch.float64)
    differences = [(surface.losses(points + d) - surface.losses(points - d)) / 2e-6 for d in step]
    assert torch.allclose(surface.slopes(points), torch.stack(differences, 1), rtol=1e-5, atol=1e-6)


def test_a_network_and_its_picture() -> None:
    torch.manual_seed(0)
    x = torch.randn(12, 2)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    before = [p.clone() for p in net.parameters()]
    found = bp.trajectories(net, x, x.sum(1, keepdim=True), loss="mse", optimizers=["sgd", "adam"], updates=6, seeds=3)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    page = found.html()
    assert 'data-view="trails"' in page and page.count("role-trail") >= 2 and "principal" in page


def test_lines_of_equal_height_are_of_equal_height() -> None:
    xs = [k / 20 for k in range(-40, 41)]
    heights = [[x * x + 2 * y * y for x in xs] for y in xs]
    for level in levels_of(heights, 5):
        lines = contours(xs, xs, heights, level)
        assert lines and all(abs(x * x + 2 * y * y - level) < 0.02 for line in lines for x, y in line)


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("import os", {}), ("x +", {}), ("log(x)", {"start": (-1, 0)}), ([1], {}), ([1, -1], {}), ("valley", {"updates": 0}),
        ("valley", {"seeds": 0}), ("valley", {"optimizers": []}),
        ("valley", {"start": (1,)}), ("z**2", {}), (nn.Linear(1, 1), {}),
    ],
    ids=str,
)  # fmt: skip
def test_refusals(what: Any, more: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError):
        bp.trajectories(what, **more)


def test_the_command(cli: Any) -> None:
    done = cli(
        "trajectories", "1,10", "--optimizers", "sgd,sgd:momentum=0.5", "--updates", "10", "--seeds", "3", "--json"
    )
    assert done.status == 0 and '"sgd momentum 0.5"' in done.out
    assert cli("trajectories", "1,x").status == 2


def test_rates_that_diverge_do_not_flatten_the_picture() -> None:
    found = bp.trajectories([1, 50], optimizers=["sgd"], updates=30, seeds=2)
    [section] = [b for b in found.document().blocks if getattr(b, "title", "") == "Over time, and over the rates"]
    [series] = section.blocks[1].series  # type: ignore[union-attr]
    start = found.contests["sgd"].losses[0]
    assert any(loss > 1e3 * start for _, loss in found.contests["sgd"].searched)
    assert max(series.y) <= 1e3 * start and len(series.y) > 5


@pytest.mark.parametrize(
    ("surface", "says"),
    [
        ("x + y", "without bound"),
        ("3 + 0*x", "same wherever"),
        ("exp(-x) + y**2", "no lowest place"),
        ("valley", "is lowest"),
    ],
)
def test_a_loss_without_a_lowest_place_is_said_to_have_none(surface: str, says: str) -> None:
    found = bp.trajectories(surface, optimizers=["sgd", "adam"], updates=25, seeds=3)
    assert says in found.verdict and says in found.text().replace("\n", " ")


def test_a_surface_that_is_not_known_names_those_that_are() -> None:
    with pytest.raises(bp.InputError, match="did you mean rosenbrock") as refused:
        bp.trajectories("rosenbruck")
    assert "himmelblau" in str(refused.value)


def test_rules_for_whole_tensors_and_lbfgs_take_part() -> None:
    found = bp.trajectories([1, 10], optimizers=["adafactor", "muon", "lbfgs"], updates=15, seeds=3)
    assert found.order[0] == "lbfgs" and found.contests["lbfgs"].quantile(0.5) < 1e-6
    text = found.text().replace("\n", " ")
    assert "muon is for matrices" in text and "each evaluation" in text


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_runs_side_by_side_are_torchs_own(name: str) -> None:
    """Every row of a network's runs against torch.optim on its own parameters; Muon's vectors by AdamW."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    x, t = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    surface = surface_of(net, x, t, loss="mse")
    rule, starts, rates = optimizer(name), surface.starts([0, 1]), torch.tensor([[0.02], [0.05]], dtype=torch.float64)
    run = runner_of(rule, surface, starts)
    for _ in range(4):
        run.step(surface.slopes(run.w), lr=rates)
    for row in range(2):
        pieces = zip(starts[row].split([math.prod(s) for s in surface.shapes()]), surface.shapes(), strict=True)
        w = [p.reshape(s).clone().requires_grad_() for p, s in pieces]
        kinds = [parts[0].rule.name for parts in parts_of(rule, surface)]
        settings = {"lr": float(rates[row])}
        theirs = [torch_class(k)([p], **settings) for k, p in zip(kinds, w, strict=True)]
        for _ in range(4):
            flat = torch.cat([p.detach().reshape(-1) for p in w])
            slopes = surface.slopes(flat[None])[0].split([p.numel() for p in w])
            for p, g, rule_of in zip(w, slopes, theirs, strict=True):
                p.grad = g.reshape(p.shape)
                rule_of.step()
        gap = float((torch.cat([p.detach().reshape(-1) for p in w]) - run.w[row]).abs().max())
        assert gap < (2e-3 if name == "muon" else 1e-12)  # Muon's iteration rounds to bfloat16


def test_lbfgs_step_by_step_is_lbfgs_at_once() -> None:
    surface = surface_of("rosenbrock")
    start = surface.starts([3])
    rate = torch.ones(1, 1, dtype=torch.float64)
    points, losses = ask_again(surface, optimizer("lbfgs", line_search_fn="strong_wolfe"), start, rate, 60)
    w = start[0].clone().requires_grad_()
    whole = torch.optim.LBFGS([w], max_iter=1000, max_eval=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        w.grad = surface.slopes(w.detach()[None])[0]
        return surface.losses(w.detach()[None])[0]

    whole.step(closure)
    assert points.shape == (61, 1, 2) and torch.equal(points[-1, 0], w.detach()) and float(losses[-1]) < 1e-9


def test_the_median_over_time_ends_at_the_median_of_the_table() -> None:
    for seeds in (4, 5):
        found = bp.trajectories([1, 30], optimizers=["sgd", "adam"], updates=8, seeds=seeds)
        assert all(c.losses[-1] == c.quantile(0.5) for c in found.contests.values())


def test_a_run_that_leaves_the_picture_is_said_to() -> None:
    far = " ".join(bp.trajectories("himmelblau", optimizers=["sgd", "lbfgs"], updates=60, seeds=3).text().split())
    assert "leaves the picture (lbfgs)" in far or "leaves the picture (sgd, lbfgs)" in far
    assert "leaves" not in bp.trajectories([1, 2], optimizers=["sgd"], updates=1, seeds=3).text()
