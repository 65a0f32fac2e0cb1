"""Random graphs over all operations: our gradient is autograd's, and the 50-digit reading's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

from backproof import vjps
from backproof.differentiate import differentiate
from backproof.domains.digits import digits
from backproof.domains.numbers import evaluate

from .random_graphs import COMPUTED, RandomGraph, random_graphs
from .samples import arrays, exact_tensor, on_autograd

LARGE = [HealthCheck.too_slow, HealthCheck.large_base_example]
DAILY = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": LARGE}


def agree(ours: torch.Tensor, theirs: torch.Tensor, floor: float = 1e-2) -> bool:
    """Whether two gradients differ by less than 1e-10 of the tensor's largest entry (or of ``floor``)."""
    if ours.shape != theirs.shape or not ours.numel():
        return ours.shape == theirs.shape
    return bool((ours - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp(min=floor))


def check_against_autograd(found: RandomGraph) -> None:
    """Every leaf's gradient is the one that torch.autograd finds by running the same operations."""
    joint = differentiate(found.graph)
    joint.graph.check()
    ours = evaluate(joint.graph, found.leaves)
    values = on_autograd(found.graph, found.leaves, tuple(found.leaves))
    loss = values[found.graph.loss]  # type: ignore[index]
    nodes = list(found.leaves)
    theirs = (
        torch.autograd.grad(loss, [values[n] for n in nodes], allow_unused=True)
        if loss.requires_grad
        else [None] * len(nodes)
    )
    for node, expected in zip(nodes, theirs, strict=True):
        zero = torch.zeros(node.shape, dtype=torch.float64)
        gradient = joint.gradients[node]
        mine, expected = zero if gradient is None else ours[gradient], zero if expected is None else expected
        if any(n.op.name == "hardsigmoid" for n in found.graph.nodes):
            expected = _exact(found, gradient) if gradient is not None else zero  # torch's 1/6 is a float32
        assert agree(mine, expected), (node, mine, expected)


def _exact(found: RandomGraph, gradient: Any) -> torch.Tensor:
    graph = differentiate(found.graph).graph
    return exact_tensor(digits.run(graph, arrays(found.leaves))[graph.by_name[gradient.name]], gradient.shape)


def test_gradients_of_random_graphs_that_reach_every_operation() -> None:
    seen: set[str] = set()

    @settings(max_examples=1200, **DAILY)
    @given(random_graphs())
    def check(found: RandomGraph) -> None:
        check_against_autograd(found)
        seen.update(node.op.name for node in found.graph.nodes)

    check()
    assert not {op.name for op in COMPUTED} - seen


@settings(max_examples=60, **DAILY)
@given(random_graphs(steps=6))
def test_every_value_of_random_graphs_in_50_digits(found: RandomGraph) -> None:
    graph = differentiate(found.graph).graph
    ours, exact = evaluate(graph, found.leaves), digits.run(graph, arrays(found.leaves))
    for node in graph.nodes:
        if node.is_float:
            assert agree(ours[node], exact_tensor(exact[node], node.shape)), node


@pytest.mark.nightly
@settings(settings.get_profile("nightly"))
@given(random_graphs(steps=25))
def test_gradients_of_many_random_graphs(found: RandomGraph) -> None:
    check_against_autograd(found)


def test_a_wrong_rule_is_found_in_random_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    right = vjps.VJPS["mul"]

    def wrong(r: Any) -> Any:
        first, second = right(r)
        return (r.times(first, r.constant(1 + 1e-7)) if first is not None else None), second

    monkeypatch.setitem(vjps.VJPS, "mul", wrong)

    @settings(max_examples=50, phases=[Phase.generate], **DAILY)
    @given(random_graphs())
    def search(found: RandomGraph) -> None:
        check_against_autograd(found)

    with pytest.raises(AssertionError):
        search()
