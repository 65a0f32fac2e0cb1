"""Random torch programs and modules: what we capture has the loss and the gradients of the original run eagerly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import backproof as bp
from backproof import vjps

from .models import gradients, read
from .programs import ACTIVATIONS, LOSSES, PAIRS, UNARY, Program, RandomNet, random_nets, random_programs

DAILY: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
Case = tuple[Program, list[Tensor]]
Net = tuple[RandomNet, Tensor, Tensor, str]


def agree(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and bool(
        (ours - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp(min=1e-2)
    )


def check_program(case: Case) -> None:
    """The program itself, differentiated by torch, is the witness: nothing of ours takes part."""
    program, tensors = case
    graph = bp.capture(program, tuple(tensors), title="program")
    leaves = [t.clone().requires_grad_() for t in tensors]
    loss = program(*leaves)
    found = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
    assert graph.loss is not None
    assert agree(read(graph)[graph.loss].reshape(()), loss.detach())
    ours = gradients(graph)
    inputs = [n for n in graph.nodes if n.role == "input"]
    for node, leaf, expected in zip(inputs, leaves, found, strict=True):
        zero = torch.zeros_like(leaf)
        mine, theirs = ours.get(node.name, zero), zero if expected is None else expected
        assert agree(mine, theirs), (program, node, mine, theirs)


def check_net(case: Net) -> None:
    """The gradients of every parameter and of the input are those of ``loss.backward()`` on the user's own module."""
    net, x, target, loss = case
    graph = bp.capture(net, x, loss=LOSSES[loss], targets=target)
    leaf = x.clone().requires_grad_(x.is_floating_point())
    net.zero_grad()
    LOSSES[loss](net(leaf), target).backward()
    ours = gradients(graph)
    pairs = {**dict(net.named_parameters()), **({"x": leaf} if leaf.requires_grad else {})}
    for name, tensor in pairs.items():
        theirs = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        assert agree(ours.get(name, torch.zeros_like(tensor)), theirs), (net, loss, name)


@pytest.mark.parametrize("name", [*UNARY, *PAIRS])
def test_every_step_by_itself(name: str) -> None:
    rng = torch.Generator().manual_seed(1)
    for shape in ((), (3,), (2, 3), (2, 1, 3)):
        tensors = [torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(2)]
        check_program((Program([(name, 0, 1)]), tensors))


@settings(max_examples=150, **DAILY)
@given(random_programs())
def test_random_programs(case: Case) -> None:
    check_program(case)


@settings(max_examples=80, **DAILY)
@given(random_nets())
def test_random_nets(case: Net) -> None:
    check_net(case)


@pytest.mark.parametrize("activation", range(len(ACTIVATIONS)), ids=lambda i: ACTIVATIONS[i].__name__)
def test_every_activation_module(activation: int) -> None:
    loss = [*LOSSES][activation % len(LOSSES)]
    torch.manual_seed(activation)
    net = RandomNet([3, 3, 3], [activation, activation], True, True, True, False).double()
    check_net((net, torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64), loss))


@pytest.mark.nightly
@settings(settings.get_profile("nightly-capture"))
@given(random_programs(steps=20))
def test_many_random_programs(case: Case) -> None:
    check_program(case)


@pytest.mark.nightly
@settings(settings.get_profile("nightly-capture"))
@given(random_nets())
def test_many_random_nets(case: Net) -> None:
    check_net(case)


def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = vjps.VJPS["linear"]

    def wrong(r: Any) -> Any:
        to_x, *rest = right(r)
        return to_x, *(r.times(part, r.constant(1 + 1e-7)) if part is not None else None for part in rest)

    monkeypatch.setitem(vjps.VJPS, "linear", wrong)
    torch.manual_seed(0)
    net = RandomNet([3, 3], [1], False, True, False, False).double()
    with pytest.raises(AssertionError):
        check_net((net, torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64), "mse"))
