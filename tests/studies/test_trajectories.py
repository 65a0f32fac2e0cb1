"""Optimizers on one loss: best rates against the known ones, the picture, the command."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.studies.trajectories.contours import contours, levels_of
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
        ("valley", {"seeds": 0}), ("valley", {"optimizers": []}), ("valley", {"optimizers": ["muon"]}),
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
