"""A network that picks entries at places which depend on numbers: names, page, evidence and derivation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import backproof as bp


class Routed(nn.Module):
    """The two likeliest of three experts."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(5, 3)
        self.experts = nn.Parameter(torch.randn(3, 5, 2))

    def forward(self, x: Tensor) -> Tensor:
        share, expert = self.gate(x).softmax(-1).topk(2)
        picked = self.experts[expert]
        y = torch.einsum("nd,nkdo->nko", x, picked)
        left, right = y.chunk(2, dim=1)
        both = torch.cat([left, 2 * right], 1)
        return torch.einsum("nk,nko->no", share, both).square().sum()


def given() -> tuple[Routed, Tensor]:
    torch.manual_seed(0)
    return Routed(), torch.randn(4, 5)


def test_the_parts_of_a_result_have_the_names_that_they_are_unpacked_to() -> None:
    graph = bp.capture(*given())
    ops = {name: graph.by_name[name].op.name for name in ("share", "expert", "picked", "y", "left", "right")}
    assert ops == {
        "share": "gather",
        "expert": "topk_index",
        "picked": "embedding",
        "y": "einsum",
        "left": "slice",
        "right": "slice",
    }
    assert graph.by_name["expert"].role == "value" and graph.by_name["expert"] in graph.by_name["share"].inputs


def test_the_page_and_its_evidence() -> None:
    record = bp.trace(*given(), optimizer="adam", steps=2, evidence="full")
    assert not record.finding
    text = record.text()
    assert "einsum[nd, nkdo → nko](x, picked)" in text
    assert "share₁,₁ = softmax" in text or "share₁₁ = softmax" in text, "places that are known numbers are written out"
    assert "disagree," not in text and "Finding" not in text, "Adam's state in float32 is no finding"


def test_the_derivation() -> None:
    model, x = given()
    derived = bp.derive(model, x)
    model(x).backward()
    gradients = derived.evaluate({})
    assert torch.allclose(gradients["experts"], model.experts.grad.double(), atol=1e-5)
    assert torch.allclose(gradients["gate.weight"], model.gate.weight.grad.double(), atol=1e-5)
