"""Every hazard gets its treatment: the value and every gradient of eager autograd, or a refusal that names the line."""

from __future__ import annotations

import re

import pytest
import torch

import backproof as bp
from backproof.errors import CaptureError
from backproof.graph import Graph
from backproof.studies.caveats import caveats
from backproof.studies.trace import trace

from .hazards import HAZARDS, Hazard
from .models import eager_gradients, read


def captured(hazard: Hazard) -> Graph:
    return bp.capture(hazard.program, *hazard.inputs, **(hazard.more or {}))


def allowed(graph: Graph) -> float:
    narrow = {n.dtype for n in graph.nodes if n.is_float}
    return 4e-2 if "bfloat16" in narrow else 1e-5 if "float32" in narrow else 1e-10


def agrees(graph: Graph) -> None:
    """The loss and every gradient of a trace are what eager autograd gives on the program as it stands."""
    relative = allowed(graph)
    assert graph.loss is not None
    leaves = {n: t.clone().requires_grad_(t.is_floating_point()) for n, t in graph.origin.leaves().items()}
    with torch.no_grad():
        for buffer in graph.of_role("buffer"):
            leaves[buffer.name] = leaves[buffer.name].detach()
    loss = graph.origin.loss(leaves).detach()
    assert torch.allclose(read(graph)[graph.loss].reshape(()), loss, rtol=relative, atol=1e-12)
    ours, theirs = trace(graph).steps[0].gradients, eager_gradients(graph)
    for node in graph.nodes:
        if node.role in ("parameter", "input") and node.is_float and not node.is_frozen:
            zero = torch.zeros(node.shape, dtype=getattr(torch, node.dtype))
            mine, expected = ours[node.name], theirs.get(node.name, zero)
            mine = zero if mine is None else mine
            size = float(expected.abs().max().clamp(min=1e-2)) if expected.numel() else 1.0
            assert torch.allclose(mine, expected, rtol=relative, atol=relative * size), (node.name, mine, expected)


@pytest.mark.parametrize("name", [n for n, h in HAZARDS.items() if h.treatment != "refused"])
def test_exact_or_recorded(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    hazard = HAZARDS[name]
    graph = captured(hazard)
    assert capfd.readouterr() == ("", ""), "torch's own noise"
    agrees(graph)
    recorded = graph.facts.get("recorded")
    kind = "exact" if recorded is None else "recorded" if recorded["decisions"] else "general"
    assert kind == hazard.treatment, recorded
    if hazard.says:
        assert any(re.search(hazard.says, remark) for remark in caveats(graph)), caveats(graph)


@pytest.mark.parametrize("name", [n for n, h in HAZARDS.items() if h.treatment == "refused"])
def test_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError) as error:
        captured(HAZARDS[name])
    message = str(error.value)
    assert re.search(HAZARDS[name].says, message), message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
