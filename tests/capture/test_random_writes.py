"""Random programs that write in place through views of views: the captured graph has torch's own values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import backproof as bp
from backproof.capturing.trusting import Untrusted

from .models import doubles, gradients, read

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "first": lambda x: x[0] if x.dim() else x,
    "last": lambda x: x[..., -1] if x.dim() else x,
    "middle": lambda x: x[1:3] if x.dim() else x,
    "steps": lambda x: x[..., ::2] if x.dim() else x,
    "odd": lambda x: x[1::2] if x.dim() else x,
    "t": lambda x: x.transpose(0, -1) if x.dim() else x,
    "flat": lambda x: x.view(-1) if x.is_contiguous() else x,
    "wide": lambda x: x.unsqueeze(0),
    "narrow": lambda x: x.narrow(0, 0, 1) if x.dim() else x,
    "permute": lambda x: x.permute(*reversed(range(x.dim()))),
    "itself": lambda x: x,
    "copy": lambda x: x * 1,
    "sin": lambda x: x.sin(),
}
WRITES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "mul": lambda x, v: x.mul_(v),
    "add": lambda x, v: x.add_(v, alpha=0.5),
    "set": lambda x, v: x.copy_(v.expand_as(x)),
    "fill": lambda x, v: x.fill_(0.25),
    "zero": lambda x, v: x.zero_(),
    "clamp": lambda x, v: x.clamp_(-0.9, 0.8),
    "tanh": lambda x, v: x.tanh_(),
    "neg": lambda x, v: x.neg_(),
    "assign": lambda x, v: x.__setitem__(..., v * 2),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*VIEWS, *WRITES]), st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=14
)


def program(steps: list[tuple[str, int, int]]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        values = [x * 1, x.cos()]
        for name, i, j in steps:
            a = values[i % len(values)]
            if name in VIEWS:
                values.append(VIEWS[name](a))
            elif a.numel():
                WRITES[name](a, values[j % len(values)].mean() * 1)
        return torch.stack([(v * (k + 1)).sum() for k, v in enumerate(values)]).sum()

    return run


def eager(run: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor] | None:
    """The value and the gradient; None where torch itself refuses."""
    leaf = x.clone().requires_grad_()
    try:
        value = run(leaf)
        value.backward()
    except RuntimeError:
        return None
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_random_writes(steps: list[tuple[str, int, int]]) -> None:
    run, x = program(steps), doubles(4, 3)
    expected = eager(run, x)
    try:
        graph = bp.capture(run, x)
    except Untrusted:
        assert expected is None, "torch runs it"
        return
    if expected is None:
        return
    assert graph.loss is not None
    assert torch.allclose(read(graph)[graph.loss], expected[0], rtol=1e-11, atol=1e-11)
    ours = gradients(graph).get("x", torch.zeros_like(x))
    assert torch.allclose(ours, expected[1], rtol=1e-10, atol=1e-10)
    assert "recorded" not in graph.facts
