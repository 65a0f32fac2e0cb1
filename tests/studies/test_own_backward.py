"""Backward passes of one's own in a trace: the numbers are those of training, and the derivative of the forward stands beside."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.errors import CaptureError, InputError
from backproof.studies.verdicts import FORWARD, HOOKS

from ..capture.hazards import Square, Straight
from ..capture.models import doubles

X, T = doubles(5, 4), doubles(5, 1, seed=1)


class Quantised(nn.Module):
    """A layer, a rounding with a straight-through gradient, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = self.fc1(x)
        q = Straight.apply(s, 8.0)
        y = self.fc2(q)
        return y


class Right(Quantised):
    """The same with a Function whose backward pass is the derivative."""

    def forward(self, x: Tensor) -> Tensor:
        s = self.fc1(x)
        q = Square.apply(s)
        return self.fc2(q)


class Switching(nn.Module):
    """Goes another way once its weight has become small."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([2.0, 1.0, -0.5, 0.25]))

    def forward(self, x: Tensor) -> Tensor:
        if self.w.norm() > 2.1:
            h = (x * self.w).tanh()
        else:
            h = (x * self.w).sin()
        return (h * h).sum()


def trained(model: nn.Module, steps: int, lr: float, targets: Tensor | None) -> list[dict[str, Tensor]]:
    """The parameters after each update of torch's own training."""
    model = copy.deepcopy(model)
    rule, found = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(steps):
        rule.zero_grad()
        loss = model(X) if targets is None else nn.functional.mse_loss(model(X), targets)
        loss.backward()
        rule.step()
        found.append({n: p.detach().clone() for n, p in model.named_parameters()})
    return found


def test_the_updates_are_those_of_training() -> None:
    model = Quantised().double()
    record = bp.trace(model, X, T, loss="mse", optimizer="sgd", steps=3, evidence="full")
    for step, expected in zip(record.steps, trained(model, 3, 1e-3, T), strict=True):
        for name, after in expected.items():
            assert torch.allclose(step.parameters[name].after, after, rtol=1e-12)
    assert record.steps[0].gradients["s"] is not None
    assert torch.equal(record.steps[0].derivatives["s"], torch.zeros(5, 3, dtype=torch.float64))
    wrong = [e for e in record.evidence if e.agrees is False]
    assert [(e.oracle, "Straight" in e.what) for e in wrong] == [(FORWARD, True)]
    assert "differs from the derivative of the forward" in wrong[0].note and record.finding
    assert any("custom autograd.Function" in r for r in record.remarks)
    assert set(record.to_dict()["steps"][0]["derivatives"]) >= {"s", "fc1.weight"}


def test_a_right_backward_pass_is_no_finding() -> None:
    record = bp.trace(Right().double(), X, T, loss="mse", evidence="full")
    assert not record.finding and not record.steps[0].derivatives
    assert any(e.oracle == FORWARD and e.agrees for e in record.evidence)
    assert "differences" in {e.oracle for e in record.evidence}


def test_it_stands_on_the_page_in_every_form() -> None:
    record = bp.trace(Quantised().double(), X, T, loss="mse", optimizer="sgd")
    for text in (record.text(), record.html(), record.latex(), record.markdown()):
        assert "backward pass of its own" in " ".join(text.split()).replace("\\", "")
    assert "backward_Straight" in record.text()
    with pytest.raises(InputError, match="Straight, which is your own code"):
        record.script()


def test_a_derivation_is_of_the_forward_pass_and_says_so() -> None:
    derived = bp.derive(Quantised().double(), X, loss="mse", targets=T)
    assert not derived.finding and "which training does not use" in derived.remarks[0]
    with pytest.raises(CaptureError, match=r"training uses what Straight, written at hazards\.py:\d+ sends back"):
        bp.certify(Quantised().double(), X, wrt="fc1.weight", loss="mse", targets=T)


def test_gradient_hooks_on_modules_and_parameters_are_found() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    model[0].weight.register_hook(lambda g: g * 0.5)
    model[2].register_full_backward_hook(lambda module, sent, got: tuple(g if g is None else g * 3 for g in sent))
    record = bp.trace(model, X, T, loss="mse", evidence="none")
    assert len([r for r in record.remarks if "gradient hook on" in r]) == 2
    rows = {e.what: e for e in record.evidence if e.oracle == HOOKS}
    assert [rows[f"gradient of {n}"].agrees for n in ("0.weight", "0.bias", "2.weight")] == [False, False, True]


def test_another_way_at_a_later_update() -> None:
    model = Switching().double()
    rule = torch.optim.SGD(model.parameters(), lr=0.05)
    record = bp.trace(model, X, optimizer=rule, steps=12, evidence="full")
    assert {n.op.name for s in record.steps for n in s.graph.nodes} >= {"tanh", "sin"}, "both ways were gone"
    for step, expected in zip(record.steps, trained(model, 12, 0.05, None), strict=True):
        assert torch.allclose(step.parameters["w"].after, expected["w"], rtol=1e-12)
    assert not record.finding
    assert torch.equal(model.w, torch.tensor([2.0, 1.0, -0.5, 0.25], dtype=torch.float64)), "the model is left alone"
    assert "No “what if” here" in record.html()
    with pytest.raises(CaptureError, match=r"every weight in a box.*\(if self\.w\.norm\(\) > 2\.1:\) was taken"):
        bp.certify(model, X, wrt="w")


def test_a_model_without_numbers_is_captured_and_not_computed() -> None:
    model = nn.Sequential(*(nn.Linear(50_000, 50_000, device="meta") for _ in range(4)))
    graph = bp.capture(model, torch.zeros(1, 50_000))
    assert sum(n.size for n in graph.parameters) > 10**10
    for question in (lambda: bp.trace(graph), lambda: bp.propagate(graph), lambda: bp.certify(graph, wrt="0.weight")):
        with pytest.raises(InputError, match=r"has a shape and no numbers \(device meta\)"):
            question()


@pytest.mark.parametrize(("name", "code"), [("Quantised", 1), ("Right", 0), ("Switching", 0)])
def test_the_command_line(name: str, code: int, tmp_path: Path) -> None:
    here = Path(__file__).resolve().parents[2]
    command = [
        sys.executable,
        "-m",
        "backproof",
        "trace",
        f"tests.studies.test_own_backward:{name}",
        "--input",
        "5x4",
        "--json",
    ]
    more = [] if name == "Switching" else ["--targets", "5x1", "--loss", "mse"]
    done = subprocess.run([*command, *more], cwd=here, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    record = json.loads(done.stdout)
    assert record["remarks"] and done.stderr == ""
