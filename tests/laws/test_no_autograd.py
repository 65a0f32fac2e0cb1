"""The readings differentiate by themselves: torch's engine is not called, except behind an opaque node."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import backproof as bp
from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.graph import Graph
from backproof.ops import OPS

from .samples import CASES, sample


def forbid_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **keywords: Any) -> Any:
        raise AssertionError("torch differentiated something")

    for place, names in (
        (torch.autograd, ("grad", "backward")),
        (torch.autograd.functional, ("vjp", "jacobian", "hessian")),
        (torch.func, ("vjp", "grad", "jacrev", "grad_and_value")),
        (torch.Tensor, ("backward",)),
    ):
        for name in names:
            monkeypatch.setattr(place, name, refused)


def gradients(graph: Graph) -> dict[str, torch.Tensor | None]:
    joint = differentiate(graph)
    given = graph.origin.leaves()
    values = evaluate(joint.graph, {n: given[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"})
    return {n.name: None if g is None else values[g] for n, g in joint.gradients.items()}


def test_no_operation_s_gradient_calls_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_autograd(monkeypatch)
    for name, i in CASES:
        if OPS[name].differentiable:
            s = sample(OPS[name], OPS[name].examples[i])
            evaluate(differentiate(s.graph).graph, s.leaves)


def test_an_opaque_node_s_gradient_does(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = bp.capture(lambda x: torch.linalg.svdvals(x).sum(), torch.eye(2, dtype=torch.float64))
    forbid_autograd(monkeypatch)
    with pytest.raises(AssertionError, match="torch differentiated something"):
        gradients(graph)
