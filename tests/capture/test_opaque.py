"""What has no operation here: kept as an opaque node, read over numbers, and refused by every other reading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.domains.ranges import ranges

X = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def decomposed(x: Tensor) -> Tensor:
    q, r = torch.linalg.qr(x)
    return (q * r).sum()


def test_several_outputs_take_the_user_s_names() -> None:
    graph = bp.capture(decomposed, X)
    assert graph.facts["opaque_nodes"] == ["q", "r"]
    assert all(graph.by_name[name].source is not None for name in ("q", "r"))


def test_the_gradient_of_the_gradient() -> None:
    def f(x: Tensor) -> Tensor:
        return torch.lgamma(x).sum()

    x = torch.tensor([0.7, 2.5], dtype=torch.float64)
    once = differentiate(bp.capture(f, x))
    first = once.graph.by_name["grad(x)"]
    twice = differentiate(once.graph, of=_summed(once.graph, first), wrt=[once.graph.by_name["x"]])
    values = evaluate(twice.graph, {twice.graph.by_name["x"]: x})
    second = twice.gradients[twice.graph.by_name["x"]]
    assert second is not None and torch.allclose(values[second], torch.polygamma(1, x), rtol=1e-12)


def _summed(graph: bp.graph.Graph, node: bp.graph.Node) -> bp.graph.Node:
    total = bp.graph.Builder(graph.nodes).emit("sum", node)
    object.__setattr__(graph, "nodes", (*graph.nodes, total))
    return total


def test_every_other_reading_says_what_is_missing() -> None:
    graph = bp.capture(nn.Sequential(nn.Linear(3, 3), Spectral()), X.float())
    with pytest.raises(bp.MissingRule) as error:
        ranges.require(graph)
    text = str(error.value)
    assert "the ranges domain has no rule for 'aten.linalg_svdvals.default'" in text
    assert "is opaque: torch computes it" in text and "numbers domain alone" in text and "\n" not in text


class Spectral(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svdvals(x)


def test_evidence_says_that_it_is_one_witness() -> None:
    record = bp.trace(lambda x: torch.linalg.svdvals(x).sum(), X, evidence="full")
    said = [e for e in record.evidence if e.oracle == "50 digits"]
    assert len(said) == 1 and said[0].agrees is None and "one witness" in said[0].note
    assert not record.finding
    assert {e.oracle for e in record.evidence} >= {"autograd"}


def test_the_written_script_runs(tmp_path: Path) -> None:
    record = bp.trace(decomposed, X)
    record.save(tmp_path / "script.py")
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"q"' in done.stdout


def test_a_random_call_is_never_opaque() -> None:
    with pytest.raises(bp.CaptureError, match="poisson"):
        bp.capture(lambda x: torch.poisson(x.abs()).sum(), X)


def test_an_operator_without_a_derivative_is_named() -> None:
    graph = bp.capture(lambda x: torch.heaviside(x, x).sum(), X)
    with pytest.raises(bp.MissingRule, match=r"torch itself has no derivative of aten\.heaviside"):
        bp.trace(graph)


def test_calls_that_torch_composes_are_taken_apart() -> None:
    graph = bp.capture(lambda x: torch.diff(torch.hstack([x, x]), dim=1).sum(), X)
    assert graph.facts["opaque_nodes"] == []
    assert {"cat", "sub"} <= {n.op.name for n in graph.nodes}


def test_the_page_of_a_captured_graph_names_them() -> None:
    from backproof.studies.writing.captured import Captured

    assert "opaque" in Captured(bp.capture(decomposed, X)).text()
