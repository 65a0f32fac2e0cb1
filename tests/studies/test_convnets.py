"""Training a convolutional net: the record has torch's own parameters and buffers, and its evidence can fail."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof import vjps
from backproof.domains.numbers import evaluate
from backproof.ops import OPS
from backproof.studies import running
from backproof.studies.confirming.local import entry_error
from tests.laws.samples import sample


class Net(nn.Module):
    """A residual net with batch norm, in-place operations and every kind of pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.conv, self.bn = nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        s = self.stem(x)
        out = self.bn(self.conv(s))
        out += s
        p = self.pool(self.relu(out))
        g = p.mean((2, 3))
        return self.fc(g)


def data(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    return Net().to(dtype), torch.randn(3, 1, 4, 4, dtype=dtype), torch.tensor([0, 1, 1])


def torch_s_own(net: nn.Module, x: Tensor, t: Tensor, steps: int) -> dict[str, Tensor]:
    own = copy.deepcopy(net)
    rule = torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        rule.zero_grad()
        nn.functional.cross_entropy(own(x), t).backward()
        rule.step()
    return own.state_dict()


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-14), (torch.float32, 1e-5)])
def test_three_steps_give_torch_s_parameters_and_buffers(dtype: torch.dtype, allowed: float) -> None:
    net, x, t = data(dtype)
    start = copy.deepcopy(net.state_dict())
    record = bp.trace(net, x, t, loss="cross_entropy", optimizer=torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
                      steps=3)  # fmt: skip
    last = record.steps[-1]
    for name, expected in torch_s_own(net, x, t, 3).items():
        ours = last.buffers[name] if name in last.buffers else last.parameters[name].after
        assert ours.dtype == expected.dtype
        assert (ours.double() - expected.double()).abs().max() <= allowed, name
    assert all(torch.equal(start[n], v) for n, v in net.state_dict().items()), "the model itself is not changed"


def test_the_evidence_agrees_and_covers_the_buffers() -> None:
    net, x, t = data()
    record = bp.trace(net, x, t, loss="cross_entropy", optimizer="sgd", steps=2, evidence="sampled")
    assert not record.finding
    compared = {(e.what, e.oracle) for e in record.evidence}
    assert ("bn.running_var after the update", "torch.optim") in compared
    assert ("gradient of conv.weight", "50 digits") in compared


@pytest.mark.parametrize("name", ["conv", "max_pool", "batch_norm"])
def test_a_wrong_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = vjps.VJPS[name]

    def wrong(r: vjps.Rule) -> vjps.Contributions:
        first, *rest = right(r)
        return (None if first is None else r.times(first, r.constant(1.001)), *rest)

    monkeypatch.setitem(vjps.VJPS, name, wrong)
    net, x, t = data()
    assert bp.trace(net, x, t, loss="cross_entropy", evidence="sampled").finding


def test_buffers_that_are_not_carried_on_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = running._Run._carry_on

    def forgets(self: running._Run, *args: object) -> dict[str, Tensor]:
        kept = dict(self.leaves)
        after = right(self, *args)  # type: ignore[arg-type]
        self.leaves = kept
        return after

    monkeypatch.setattr(running._Run, "_carry_on", forgets)
    net, x, t = data()
    assert bp.trace(net, x, t, loss="cross_entropy", optimizer="sgd", steps=2, evidence="sampled").finding


def test_the_script_recomputes_values_gradients_and_buffers(tmp_path: Path) -> None:
    net, x, t = data()
    record = bp.trace(net, x, t, loss="cross_entropy", optimizer="adam", steps=2)
    (tmp_path / "solution.py").write_text(record.script())
    command = [sys.executable, "-W", "error", "-I", "solution.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for ours, theirs in zip(record.steps, json.loads(ran.stdout)["steps"], strict=True):
        for name, value in ours.values.items():
            assert torch.allclose(
                value.double(), torch.tensor(theirs["values"][name], dtype=torch.float64), rtol=1e-12
            ), name
        for name, gradient in ours.gradients.items():
            if gradient is not None:
                there = torch.tensor(theirs["gradients"][name], dtype=torch.float64)
                assert torch.allclose(gradient, there, rtol=1e-10, atol=1e-14), name
        for name, after in ours.buffers.items():
            assert torch.allclose(
                after.double(), torch.tensor(theirs["buffers"][name]["after"], dtype=torch.float64)
            ), name


def test_the_page_writes_convolutions_and_normalisation() -> None:
    net, x, t = data()
    text = bp.trace(net, x, t, loss="cross_entropy", optimizer="sgd").text()
    assert "∗ x + b" in text and "⋆ δ" in text and "maxpool(" in text and "γ" in text and "μ" in text


LOCAL = ("conv", "conv_input_grad", "conv_weight_grad", "batch_norm", "layer_norm")


@pytest.mark.parametrize("name", LOCAL)
def test_single_entries_are_computed_again(name: str) -> None:
    """Every entry of every example from its own neighbourhood; one that is off is seen."""
    for example in OPS[name].examples:
        s = sample(OPS[name], example)
        values = evaluate(s.graph, s.leaves)
        broken = {**values, s.y: values[s.y] + 1e-6 * (1 + values[s.y].abs().max())}
        for place in itertools.product(*(range(n) for n in s.y.shape)):
            error, wrong = entry_error(s.y, place, values), entry_error(s.y, place, broken)
            assert error is not None and error <= 1e-14, (example, place)
            assert wrong is not None and wrong > 1e-7, (example, place)


def test_a_large_net_has_its_evidence() -> None:
    torch.manual_seed(1)
    net, x, t = Net().double(), torch.randn(8, 1, 40, 40, dtype=torch.float64), torch.randint(2, (8,))
    record = bp.trace(net, x, t, loss="cross_entropy", optimizer="sgd", evidence="sampled")
    assert not record.finding
    assert {"50 digits, single operations at random entries", "torch.optim"} <= {e.oracle for e in record.evidence}
