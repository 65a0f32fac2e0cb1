"""Every optimizer of torch.optim with every flag, replayed from its formulas; parameter groups; L-BFGS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.optimizers import RULES, group_of, optimizer
from backproof.optimizers.witness import hand_sparse, scalars_like, torch_class, torch_settings
from backproof.studies.optimizer.quasi_newton import QuasiNewton
from backproof.studies.optimizer.replay import Replay

CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "maximize": True}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("adam", {"amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("adamw", {"amsgrad": True}),
    ("adagrad", {"lr_decay": 0.01, "initial_accumulator_value": 0.3, "weight_decay": 0.1}),
    ("rmsprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    ("adadelta", {"weight_decay": 0.1, "maximize": True}),
    ("adamax", {"weight_decay": 0.1}),
    ("nadam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("nadam", {"weight_decay": 0.1, "momentum_decay": 0.1}),
    ("radam", {"weight_decay": 0.1}),
    ("rprop", {"etaplus": 1.3, "step_max": 0.05}),
    ("asgd", {"t0": 20, "lambd": 0.01, "alpha": 0.6}),
    ("sparseadam", {"maximize": True}),
    ("adafactor", {"weight_decay": 0.1, "d": 1.5}),
    ("muon", {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}),
    ("muon", {}),
]


def apart(name: str, settings: dict[str, Any], shape: tuple[int, ...], updates: int) -> float:
    """The largest difference of w to torch.optim's, over its largest entry."""
    rule, generator = optimizer(name, **settings), torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator, dtype=torch.float64)
    w = start.clone().requires_grad_()
    theirs, ours = torch_class(name)([w], **torch_settings(rule.rule, rule.hyper)), Replay(rule, start)
    worst = 0.0
    for _ in range(updates):
        g = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name == "sparseadam":
            g[torch.rand(shape[0], generator=generator) < 0.5] = 0
        w.grad = g.clone()
        hand_sparse(theirs)
        with scalars_like(w):
            theirs.step()
        ours.step(g)
        worst = max(worst, float((ours.w - w.detach()).abs().max() / w.detach().abs().max()))
    return worst


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_formulas_go_where_torch_goes(name: str, settings: dict[str, Any]) -> None:
    for shape in ((5, 3), (3, 5)) if name == "muon" else ((5, 3), (4,)):
        rounded = name == "muon"  # a product in bfloat16 may be rounded otherwise once in some hundred iterations
        assert apart(name, settings, shape, 80) <= (1e-4 if rounded else 1e-12)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_for_a_thousand_updates(name: str, settings: dict[str, Any]) -> None:
    assert apart(name, settings, (5, 3), 1000) <= (1e-4 if name == "muon" else 1e-12)


def test_every_class_of_torch_has_a_rule() -> None:
    known = {n.lower() for n in torch.optim.__all__ if isinstance(getattr(torch.optim, n), type)} - {"optimizer"}
    assert known == {n for n, r in RULES.items() if not r.variant_of}


def test_switches_of_the_implementation_change_nothing() -> None:
    plain = optimizer("adam")
    assert optimizer((torch.optim.Adam, {"foreach": True, "fused": None, "capturable": False})) == plain


def quartic(w: torch.Tensor) -> torch.Tensor:
    return (torch.linspace(1, 50, w.numel(), dtype=w.dtype) * w**2).sum() / 2 + (w**4).sum() / 10


def rosenbrock(w: torch.Tensor) -> torch.Tensor:
    return (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize(("loss", "lr"), [(quartic, 1.0), (rosenbrock, 0.1)])
def test_lbfgs_step_by_step(loss: Callable[..., Any], lr: float, search: str | None) -> None:
    start = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w, asked = start.clone().requires_grad_(), [0]
    theirs = torch.optim.LBFGS([w], lr=lr, max_iter=6, history_size=3, line_search_fn=search)

    def closure() -> torch.Tensor:
        theirs.zero_grad()
        value = loss(w)
        value.backward()
        asked[0] += 1
        return value

    def ask(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        x = x.detach().requires_grad_()
        value = loss(x)
        return float(value.detach()), torch.autograd.grad(value, x)[0]

    ours, at = QuasiNewton(optimizer(theirs).hyper), start
    for _ in range(4):
        theirs.step(closure)
        at = ours.step(at, ask)
        assert torch.allclose(at, w.detach(), rtol=1e-9, atol=1e-10)
    assert ours.asked == asked[0]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.b(torch.tanh(self.a(x)))


@pytest.fixture
def data() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return torch.randn(5, 3), torch.randn(5, 2)


def test_parameter_groups(data: tuple[Any, Any]) -> None:
    net = Net()
    groups = [{"params": [net.a.weight, net.b.weight], "weight_decay": 0.1}, {"params": [net.a.bias], "lr": 0.5}]
    both = torch.optim.AdamW(groups, lr=0.1, weight_decay=0)
    assert group_of(both, net.a.bias).hyper["lr"] == 0.5
    record = bp.trace(net, *data, loss="mse", optimizer=both, steps=2, evidence="full", arithmetic="float64")
    assert not record.finding and len(record.program.rules) == 2
    assert record.program.trained == ("a.weight", "a.bias", "b.weight")
    held = record.steps[1].parameters["b.bias"]
    assert torch.equal(held.before, held.after)
    assert "For a.bias" in record.text() and "def update1(" in record.script()


def test_groups_of_a_problem(data: tuple[Any, Any]) -> None:
    def rates(model: Any) -> Any:
        return torch.optim.SGD([{"params": [model.a.weight], "lr": 1.0}, {"params": [model.b.weight], "lr": 0.1}])

    problem = bp.Problem(Net(), *data, loss="mse", optimizer=rates)
    assert not bp.solve(problem).finding


@pytest.mark.parametrize(
    "name", ["adafactor", "sparseadam", ("lbfgs", {"line_search_fn": "strong_wolfe"}), "lbfgs"], ids=str
)
def test_traces_with_the_new_rules(name: Any, data: tuple[Any, Any]) -> None:
    record = bp.trace(Net(), *data, loss="mse", optimizer=name, steps=2, evidence="full", arithmetic="float64")
    assert not record.finding and record.html()
    assert record.steps[1].loss < record.steps[0].loss  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(n for n, r in RULES.items() if r.variant_of))
def test_published_variants_can_be_traced(name: str, data: tuple[Any, Any]) -> None:
    record = bp.trace(Net(), *data, loss="mse", optimizer=name, steps=2, evidence="sampled", arithmetic="float64")
    assert not record.finding and record.steps[1].loss is not None


def test_muon_takes_matrices_only(data: tuple[Any, Any]) -> None:
    with pytest.raises(bp.InputError, match="another parameter group"):
        bp.trace(Net(), *data, loss="mse", optimizer="muon")
    net = Net()
    weights = torch.optim.Muon([net.a.weight, net.b.weight], lr=0.1)
    assert not bp.trace(net, *data, loss="mse", optimizer=weights, evidence="full").finding


def test_a_wrong_rule_is_seen(monkeypatch: pytest.MonkeyPatch, data: tuple[Any, Any]) -> None:
    from dataclasses import replace

    adam = RULES["adam"]
    text = [(n, f.replace("sqrt(v_hat) + eps", "sqrt(v_hat + eps)")) for n, f in optimizer("adam").equations(1)]
    monkeypatch.setitem(RULES, "adam", replace(adam, equations=lambda h, at: tuple(text)))
    assert bp.trace(Net(), *data, loss="mse", optimizer="adam", evidence="full", arithmetic="float64").finding


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_a_script_of_lbfgs_gives_the_record(search: Any, tmp_path: Any) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).double()
    x, t = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    settings = {
        "lr": 0.7,
        "max_iter": 6,
        "line_search_fn": search,
    }  # near the minimum rounding grows 1e9-fold in torch too
    record = bp.trace(net, x, t, loss="mse", optimizer=("lbfgs", settings), steps=3)
    (tmp_path / "record.py").write_text(record.script())
    done = subprocess.run([sys.executable, str(tmp_path / "record.py")], capture_output=True, text=True, check=True)
    for ours, theirs in zip(record.steps, json.loads(done.stdout)["steps"], strict=True):
        for name, parameter in theirs["parameters"].items():
            gap = torch.tensor(parameter["after"], dtype=torch.float64) - ours.parameters[name].after
            assert float(gap.abs().max()) < 1e-11 and set(parameter["state"]) == set(ours.parameters[name].state)
