"""Learning rates: an interval found by runs, confirmed by others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.studies.search import lr_range as module
from backproof.studies.search.sharpness import largest_curvature, stable_below
from backproof.studies.search.short_runs import data_of, rule_of

X = torch.linspace(-1, 1, 24).unsqueeze(1)
LINE = (X, 3 * X - 1)


def test_on_a_quadratic_the_interval_ends_at_two_over_the_curvature() -> None:
    found = bp.lr_range(nn.Linear(1, 1), LINE, loss="mse", optimizer="sgd", steps=60)
    assert found.curvature == pytest.approx(2, rel=1e-5) and found.limit == pytest.approx(1, rel=1e-5)
    assert 0.4 < found.suggested <= found.high < 1 and found.low < 0.3 and not found.finding
    assert all(r.diverged or r.loss > found.start for r in found.runs if r.lr > 1.05)
    assert "stable below 1" in " ".join(found.reasons) and "learning rate" in found.text()


@pytest.mark.parametrize(
    ("hyper", "limit"),
    [({}, 2), ({"momentum": 0.9}, 3.8), ({"momentum": 0.9, "dampening": 0.9}, 38), ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8)],
)  # fmt: skip
def test_the_limit_is_where_gradient_descent_diverges(hyper: dict[str, Any], limit: float) -> None:
    assert stable_below("sgd", hyper, 1.0) == pytest.approx(limit)
    for rate, stays in ((0.99 * limit, True), (1.01 * limit, False)):
        w = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=rate, **hyper)
        for _ in range(3000):
            optimizer.zero_grad()
            (w**2 / 2).sum().backward()
            optimizer.step()
        assert (abs(float(w.detach())) < 1) == stays


def test_the_curvature_is_the_largest_eigenvalue() -> None:
    matrix = torch.diag(torch.tensor([1.0, 7.0, 3.0], dtype=torch.float64))
    start = {"w": torch.ones(3, dtype=torch.float64)}
    assert largest_curvature(lambda p: p["w"] @ matrix @ p["w"] / 2, start) == pytest.approx(7, rel=1e-5)
    assert largest_curvature(lambda p: -p["w"] @ matrix @ p["w"], start) is None
    assert largest_curvature(lambda p: p["w"].sum(), start) is None


def test_a_third_network_with_batches_and_adam() -> None:
    torch.manual_seed(3)
    x = torch.randn(120, 4)
    labels = (x[:, 0] * x[:, 1] > 0).long()
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    before = [p.clone() for p in net.parameters()]
    found = bp.lr_range(
        net, (x, labels), loss="cross_entropy", optimizer=(torch.optim.Adam, {}), steps=60, batch_size=40
    )
    assert 0.003 < found.suggested < 1 and found.low <= found.suggested <= found.high and not found.finding
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    data = torch.utils.data.TensorDataset(x, labels)
    again = bp.lr_range(
        net, data, loss="cross_entropy", optimizer=torch.optim.Adam(net.parameters()), steps=60, batch_size=40
    )
    assert again.suggested == found.suggested


def test_a_wrong_curvature_and_a_wrong_suggestion_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It bites."""
    monkeypatch.setattr(module, "largest_curvature", lambda *a, **k: 2.1)
    assert bp.lr_range(nn.Linear(1, 1), LINE, loss="mse", optimizer="sgd", steps=10).finding
    monkeypatch.undo()
    monkeypatch.setattr(module._Runs, "interval", lambda self: (min(self.known),) * 3)
    assert bp.lr_range(nn.Linear(1, 1), LINE, loss="mse", optimizer="sgd", steps=10, batch_size=6).finding


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.Adagrad])
def test_any_optimizer_of_torch_can_be_used(kind: Any) -> None:
    rule = rule_of((kind, {"weight_decay": 0.1}))
    made = rule.make([nn.Parameter(torch.ones(2))], 0.25)
    made.zero_grad()
    assert rule.name == kind.__name__.lower()
    assert bp.lr_range(nn.Linear(1, 1), LINE, loss="mse", optimizer=kind, steps=10).suggested > 0


@pytest.mark.parametrize(
    "data",
    [(X, X[:5]), (X * float("nan"), X), (X, X / 0), (X[:0], X[:0]), "nowhere.npz", 3, (torch.tensor(1.0), X),
     ([["a"]], [1.0]), [1, 2, 3]],
)  # fmt: skip
def test_data_that_cannot_be_used_is_refused(data: Any) -> None:
    with pytest.raises(bp.InputError):
        bp.lr_range(nn.Linear(1, 1), data, loss="mse", optimizer="sgd")


@pytest.mark.parametrize(
    "changed",
    [{"steps": 0}, {"steps": 10**9}, {"batch_size": -1}, {"loss": None}, {"loss": "msee"}, {"optimizer": "sgdd"},
     {"model": nn.ReLU()}, {"model": nn.Linear(7, 1)}, {"loss": lambda y, t: y - t}, {"loss": lambda y, t: (0 * y).sum()},
     {"loss": lambda y, t: (y / 0).sum()}],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(changed: dict[str, Any]) -> None:
    given = {"model": nn.Linear(1, 1), "loss": "mse", "optimizer": "sgd", "steps": 5, **changed}
    with pytest.raises(bp.BackproofError):
        bp.lr_range(given.pop("model"), LINE, **given)


def test_one_sample_and_constant_inputs_have_learning_rates_too() -> None:
    assert bp.lr_range(nn.Linear(1, 1), (X[:1], X[:1] + 2), loss="mse", optimizer="sgd", steps=10).suggested > 0
    assert data_of(([[1.0]], [[2.0]]))[0].shape == (1, 1)
