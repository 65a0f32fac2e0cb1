"""What a trace keeps, what it writes to disk, and the memory that it says beforehand."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import backproof as bp
from backproof.graph import Graph
from backproof.studies import keeping
from backproof.studies.statistics import Statistics


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.blocks = nn.Sequential(*(Block(16) for _ in range(4)))
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    x, t = torch.randn(4, 3, 34, 34), torch.randint(5, (4,))
    return bp.capture(Net(), x, loss="cross_entropy", targets=t)


def test_a_store_has_every_tensor_and_reads_it_when_asked(graph: Graph, tmp_path: Path) -> None:
    whole, stored = bp.trace(graph), bp.trace(graph, store=tmp_path / "net.safetensors")
    mine, theirs = whole.steps[0], stored.steps[0]
    assert list(mine.values) == list(theirs.values) and list(mine.gradients) == list(theirs.gradients)
    assert all(torch.equal(tensor, theirs.values[name]) for name, tensor in mine.values.items())
    for name, gradient in mine.gradients.items():
        theirs_too = theirs.gradients[name]
        assert gradient is None if theirs_too is None else torch.equal(gradient, theirs_too)
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
    (tmp_path / "net.safetensors").unlink()
    with pytest.raises(bp.InputError, match=r"cannot be read"):
        theirs.values["stem.conv2d"]


def test_other_programs_read_a_store(graph: Graph, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    record = bp.trace(graph, store=tmp_path / "net.safetensors", optimizer="sgd", steps=2)
    found = load_file(tmp_path / "net.safetensors")
    second = record.steps[1].values
    assert all(torch.equal(found[f"step.2.values.{name}"], second[name]) for name in second)


def test_a_store_of_a_run_that_diverges_ends_where_it_ended(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    net, x, t = nn.Linear(2, 1), torch.ones(3, 2), torch.zeros(3, 1)
    settings: dict[str, Any] = {"loss": "mse", "optimizer": ("sgd", {"lr": 1e30}), "steps": 9}
    record = bp.trace(net, x, t, **settings, store=tmp_path / "d.safetensors")
    assert len(record.steps) < 9 and "diverged" in record.remarks[0]
    names = load_file(tmp_path / "d.safetensors")
    assert {name.split(".")[1] for name in names} == {str(step.number) for step in record.steps}


def test_statistics_are_those_of_the_tensors(graph: Graph) -> None:
    whole, less = bp.trace(graph).steps[0], bp.trace(graph, keep="statistics").steps[0]
    for name, tensor in whole.values.items():
        found: Any = less.values[name]
        if isinstance(found, Statistics):
            assert found.shape == tensor.shape and found.max == tensor.max().item() and found.min == tensor.min().item()
            assert found.norm == pytest.approx(tensor.double().norm().item(), rel=1e-6)
            assert found.mean_size == pytest.approx(tensor.double().abs().mean().item(), rel=1e-6)
        else:
            assert torch.equal(found, tensor)
    assert sum(isinstance(v, Statistics) for v in less.values.values()) > 20
    assert all(torch.equal(p.after, whole.parameters[n].after) for n, p in less.parameters.items())


def test_modules_and_values_are_kept_by_name(graph: Graph) -> None:
    step = bp.trace(graph, keep=["blocks.1", "stem.conv2d", "head.weight"]).steps[0]
    kept = {name for name, value in step.values.items() if isinstance(value, torch.Tensor)}
    assert {"stem.conv2d", "blocks.1.conv.conv2d", "blocks.1.bn.var"} <= kept
    assert not kept & {"blocks.0.conv.conv2d", "head.linear"}
    assert isinstance(step.gradients["blocks.1.conv.conv2d"], torch.Tensor)
    assert isinstance(step.gradients["blocks.2.conv.conv2d"], Statistics)


def test_every_format_shows_statistics(graph: Graph) -> None:
    record = bp.trace(graph, keep="statistics", optimizer="sgd")
    assert record.to_dict()["steps"][0]["values"]["stem.conv2d"].keys() == {
        "shape",
        "dtype",
        "min",
        "max",
        "mean",
        "norm",
    }
    assert "stem.conv2d" in record.html() and "blocks" in record.text()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"keep": ["block.1"]}, "did you mean blocks.1"),
        ({"keep": "some"}, "keep is 'all', 'statistics' or a list of names"),
        ({"keep": "statistics", "evidence": "full"}, "evidence compares every number"),
        ({"store": "x.bin"}, "ends in .safetensors"),
        ({"store": "no/such/folder/x.safetensors"}, "does not exist"),
    ],
)
def test_what_cannot_be_kept_is_refused(graph: Graph, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(bp.InputError, match=said):
        bp.trace(graph, **wrong)


def test_what_does_not_fit_is_statistics_or_a_refusal(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    less = bp.trace(graph, keep="statistics")
    monkeypatch.setattr(keeping, "free_bytes", lambda device: int(1.2 * less.predicted_bytes))
    record = bp.trace(graph)
    assert "of the tensors there are statistics" in record.remarks[0]
    assert isinstance(record.steps[0].values["stem.conv2d"], Statistics)
    with pytest.raises(
        bp.InputError, match=r"keep='statistics' takes .* store='trace.safetensors' writes every tensor"
    ):
        bp.trace(graph, keep="all")
    stored = bp.trace(graph, store=tmp_path / "s.safetensors")
    assert isinstance(stored.steps[0].values["stem.conv2d"], torch.Tensor)
    monkeypatch.setattr(keeping, "free_bytes", lambda device: 1000)
    with pytest.raises(bp.InputError, match="a smaller batch"):
        bp.trace(graph)
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


KINDS: list[dict[str, Any]] = [
    {"keep": "all"},
    {"keep": "statistics"},
    {"keep": ["blocks.2"]},
    {"keep": "all", "optimizer": "adam"},
    {"keep": "statistics", "optimizer": "adam", "steps": 3},
]


@pytest.mark.parametrize("how", KINDS, ids=str)
def test_the_peak_is_the_one_that_was_said(graph: Graph, how: dict[str, Any]) -> None:
    bp.trace(graph)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        record = bp.trace(graph, **how)
    events = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    live = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    assert 0.97 < record.predicted_bytes / most < 1.08, (record.predicted_bytes, most)
