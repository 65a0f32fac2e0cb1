"""Sharpness against exact Hessians, stable rates against trainings that diverge, and the edge of stability."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.optimizers import optimizer
from backproof.studies.curvature.preconditioned import preconditioner
from backproof.studies.curvature.product import lanczos


def quadratic() -> tuple[Any, Any, Any, torch.Tensor]:
    """A linear regression, and the eigenvalues of its Hessian."""
    torch.manual_seed(3)
    x = torch.randn(20, 4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    hessian = 2 * x.T @ x / 20
    return (
        nn.Linear(4, 1, bias=False).double(),
        x,
        torch.randn(20, 1, dtype=torch.float64),
        torch.linalg.eigvalsh(hessian),
    )


def test_the_largest_eigenvalue_of_a_quadratic() -> None:
    model, x, t, eigenvalues = quadratic()
    found = bp.curvature(model, x, t, loss="mse", optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    assert found.sharpness == pytest.approx(float(eigenvalues[-1]), rel=1e-10) and not found.finding
    assert found.largest_lr == pytest.approx(2 * 1.9 / float(eigenvalues[-1]), rel=1e-10)


def test_lanczos_on_a_matrix_with_close_eigenvalues() -> None:
    values = torch.cat(
        [torch.linspace(-3, 1, 40, dtype=torch.float64), torch.tensor([5.0, 5.0001], dtype=torch.float64)]
    )
    found = lanczos(lambda u: values * u, 42, torch.float64)
    assert found.value == pytest.approx(5.0001, rel=1e-9) and found.residual < 1e-4


LIMITS = [("sgd", {}), ("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "nesterov": True})]


def last_loss(model: Any, x: Any, t: Any, kind: Any, updates: int) -> float:
    twin = nn.Linear(4, 1, bias=False).double()
    twin.load_state_dict(model.state_dict())
    rule = kind(twin.parameters())
    for _ in range(updates):
        rule.zero_grad()
        loss = nn.functional.mse_loss(twin(x), t)
        loss.backward()
        rule.step()
    return float(loss.detach())


@pytest.mark.parametrize(("name", "settings"), LIMITS, ids=str)
def test_torch_trains_below_the_largest_rate_and_not_above(name: str, settings: dict[str, Any]) -> None:
    model, x, t, _ = quadratic()
    most = bp.curvature(model, x, t, loss="mse", optimizer=(name, settings)).largest_lr
    assert most is not None
    below, above = (
        last_loss(model, x, t, lambda ps, r=r: torch.optim.SGD(ps, lr=r * most, **settings), 3000)
        for r in (0.995, 1.005)
    )
    assert below < 10 < above or not above == above


def test_training_comes_to_the_edge_of_stability() -> None:
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 16).unsqueeze(1)
    net = nn.Sequential(nn.Linear(1, 12), nn.Tanh(), nn.Linear(12, 1))
    found = bp.curvature(
        net, x, torch.sin(4 * x), loss="mse", optimizer=torch.optim.SGD(net.parameters(), lr=0.2), steps=500
    )
    assert found.limit is not None and found.edge is not None and found.steps[0].value < found.limit.value
    late = [s.value for s in found.steps[-8:]]
    assert all(0.5 * found.limit.value < v < 1.5 * found.limit.value for v in late)
    assert "at the edge of stability" in " ".join(found.text().split()) and "dotted" in found.html()


def test_a_limit_crossed_once_is_not_the_edge_of_stability() -> None:
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([2.0, 0.1]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.cosh(2 * self.w[0] * x) + self.w[1] ** 2).sum()

    model = Steep()
    found = bp.curvature(model, torch.ones(1), optimizer=torch.optim.SGD(model.parameters(), lr=0.02), steps=20)
    text = " ".join(found.text().split())
    assert found.edge is not None and "but does not stay there" in text and "edge of stability" not in text


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad", "adamax", "nadam", "sparseadam"])
def test_what_a_rule_divides_by(name: str) -> None:
    from backproof.studies.optimizer.replay import Replay

    rule, g = optimizer(name), torch.tensor([3.0, 0.5], dtype=torch.float64)
    run = Replay(rule, torch.zeros(2, dtype=torch.float64))
    for _ in range(30):
        run.step(g)
    found = preconditioner(rule, run.state, run.w, 30)
    size = {"adagrad": 30**0.5, "rmsprop": (1 - 0.99**30) ** 0.5, "sparseadam": 1.0}.get(name, 1.0)
    assert torch.allclose(found, size * g, rtol=0.03 if name == "nadam" else 1e-4)


def test_adam_along_training() -> None:
    model, x, t, _ = quadratic()
    found = bp.curvature(model, x, t, loss="mse", optimizer=torch.optim.Adam(model.parameters(), lr=0.01), steps=5)
    assert found.largest_lr is None and found.limit is not None and found.limit.preconditioned
    assert len(found.steps) == 5 and found.limit.value == pytest.approx(3800)


def test_refusals() -> None:
    with pytest.raises(bp.InputError, match="loss"):
        bp.curvature(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(bp.InputError, match="whole number"):
        bp.curvature(nn.Linear(2, 1), torch.ones(1, 2), torch.ones(1, 1), loss="mse", steps=-1)


def test_the_command(cli: Any, tmp_path: Any) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\nnet = nn.Linear(2, 1)\n")
    words = ("curvature", f"{tmp_path}/net.py:net", "--input", "4x2", "--targets", "4x1", "--loss", "mse")
    done = cli(*words, "--optimizer", "sgd", "--steps", "3", "--json")
    assert done.status == 0 and '"sharpness"' in done.out
    assert cli(*words, "--steps", "3").status == 2


def test_a_curve_far_below_its_limit_is_drawn_on_a_logarithmic_scale() -> None:
    x = torch.tensor([[1.0], [3.0]])
    model = torch.nn.Linear(1, 1, bias=False)
    for lr, far in ((1e-3, True), (0.15, False)):
        found = bp.curvature(model, x, 0 * x, loss="mse", optimizer=("sgd", {"lr": lr}), steps=4)
        assert found.limit is not None and found._far_apart(found.limit.value) == far


def test_a_rule_without_a_limit_says_so() -> None:
    x = torch.tensor([[1.0], [3.0]])
    found = bp.curvature(torch.nn.Linear(1, 1, bias=False), x, 0 * x, loss="mse", optimizer="rprop", steps=4)
    assert found.largest_lr is None and found.edge is None and "No curvature" in found.text().replace("\n", " ")


@pytest.mark.parametrize("problem", ["epfl-ml-12/linear-regression", "ctu-vir-3/logistic-mle"])
def test_the_sheets_show_the_largest_stable_rates(problem: str) -> None:
    answers = bp.solve(problem).answers
    rates, top = answers["stable_rates"], max(answers["hessian_eigenvalues"])
    assert rates["SGD"] == pytest.approx(answers["lr_limit"], rel=1e-9) == pytest.approx(2 / top, rel=1e-9)
    assert rates["SGD, momentum 0.9"] == pytest.approx(3.8 / top, rel=1e-9)
    assert rates["SGD, momentum 0.9, nesterov"] == pytest.approx(3.8 / 2.8 / top, rel=1e-9)
