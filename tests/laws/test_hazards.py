"""Places where random numbers do not go: ties, zeros, repeated indices, empty and enormous tensors, ignored classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backproof.differentiate import differentiate
from backproof.domains.digits import digits
from backproof.domains.numbers import evaluate
from backproof.graph import Builder, Graph, Node

from .samples import arrays, exact_tensor, gap

Build = Callable[..., Node]


def compare(build: Build, reference: Callable[..., Tensor], *tensors: Tensor, in_digits: bool = True) -> None:
    """Value and gradients of a small graph are torch's (and, where all is finite, those of the 50-digit reading)."""
    builder = Builder()
    floats = [t.is_floating_point() for t in tensors]
    leaves = {builder.leaf(f"x{i}", "input", tuple(t.shape), str(t.dtype)[6:]): t for i, t in enumerate(tensors)}
    y = build(builder, *leaves)
    total = builder.emit(
        "sum", builder.emit("mul", y, builder.constant(_weights(y.shape), y.shape, name="w")), role="value"
    )
    graph = Graph(tuple(builder.nodes), (y,), total).check()
    joint = differentiate(graph)
    ours = evaluate(joint.graph, leaves)
    given = [t.clone().requires_grad_(f) for t, f in zip(tensors, floats, strict=True)]
    value = reference(*given)
    moving = [t for t, f in zip(given, floats, strict=True) if f]
    found = torch.autograd.grad((value * _weights(y.shape)).sum(), moving, allow_unused=True)
    assert torch.allclose(ours[y], value.detach(), rtol=1e-13, equal_nan=True)
    for node, expected in zip([n for n in leaves if n.is_float], found, strict=True):
        gradient = joint.gradients[node]
        zero = torch.zeros(node.shape, dtype=torch.float64)
        mine, theirs = zero if gradient is None else ours[gradient], zero if expected is None else expected
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-13, equal_nan=True), (node, mine, theirs)
    if in_digits:
        exact = digits.run(joint.graph, arrays(leaves))
        assert all(gap(ours[n], exact_tensor(exact[n], n.shape)) <= 1e-12 for n in joint.graph.nodes)


def _weights(shape: tuple[int, ...]) -> Tensor:
    size = torch.Size(shape).numel()
    return torch.arange(1, size + 1, dtype=torch.float64).reshape(shape)


def numbers(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


TIED = numbers([3, 1, 3, 3], [0, 0, 0, 0], [-2, -1, -1, -5])


@pytest.mark.parametrize("op", ["amax", "amin"])
@pytest.mark.parametrize("dim", [None, (0,), (1,), (0, 1)])
def test_ties_share_the_gradient(op: str, dim: Any) -> None:
    whole = {"amax": torch.max, "amin": torch.min}[op]
    along = getattr(torch, op)
    compare(lambda b, x: b.emit(op, x, dim=dim), lambda x: whole(x) if dim is None else along(x, dim), TIED)


@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_equal_operands_share_the_gradient(op: str) -> None:
    compare(lambda b, x, y: b.emit(op, x, y), getattr(torch, op), numbers(1, 2, 3, 0), numbers(1, 3, 2, 0))
    compare(lambda b, x: b.emit(op, x, x), lambda x: getattr(torch, op)(x, x), numbers(1, -2))


def test_the_first_of_equal_entries_is_the_largest() -> None:
    compare(
        lambda b, x: b.emit("gather", x, b.emit("argmax", x, dim=1, keepdim=True), dim=1),
        lambda x: x.max(dim=1, keepdim=True).values,
        TIED,
    )


def test_an_index_named_twice_receives_both() -> None:
    index = torch.tensor([[0, 0, 1], [2, 2, 2]])
    compare(
        lambda b, x, i: b.emit("gather", x, i, dim=1),
        lambda x, i: x.gather(1, i),
        torch.rand(2, 3, dtype=torch.float64),
        index,
    )
    rows = torch.tensor([[1, 1], [0, 1]])
    compare(lambda b, x, i: b.emit("embedding", x, i), lambda x, i: x[i], torch.rand(3, 2, dtype=torch.float64), rows)


BASES = numbers(-2, -1, 0, 1, 2, 0.5)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.0, 0.5])
def test_powers_at_zero_and_of_negative_numbers(exponent: float) -> None:
    """Slopes are torch's everywhere, nan and inf included."""
    power = torch.tensor(exponent, dtype=torch.float64)
    compare(lambda b, x: b.emit("pow", x, b.constant(exponent)), lambda x: x**exponent, BASES, in_digits=False)
    compare(lambda b, x, p: b.emit("pow", x, p), lambda x, p: torch.pow(x, p), BASES.abs(), power, in_digits=False)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("row", [(800.0, 799.0, -800.0), (-900.0, -900.0, -901.0), (1e4, 0.0, -1e4), (0.0, 0.0, 0.0)])
def test_the_softmax_family_does_not_overflow(name: str, row: tuple[float, ...]) -> None:
    dim: Any = (0,) if name == "logsumexp" else 0
    compare(lambda b, x: b.emit(name, x, dim=dim), lambda x: getattr(torch, name)(x, 0), numbers(*row))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ignored_classes(reduction: str, weighted: bool) -> None:
    y, t, weight = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 2, 1]), numbers(0.5, 1, 2)

    def build(b: Builder, y: Node, t: Node) -> Node:
        more = [b.constant(weight, (3,), name="weights")] if weighted else []
        return b.emit("nll", y, t, *more, reduction=reduction, ignore_index=2)

    given = {"weight": weight if weighted else None, "reduction": reduction, "ignore_index": 2}
    compare(build, lambda y, t: F.nll_loss(y, t, **given), y, t)


def test_the_variance_of_one_number_is_zero() -> None:
    compare(lambda b, x: b.emit("var", x, dim=(0,), correction=0), lambda x: x.var(0, correction=0), numbers(3))


@pytest.mark.parametrize("samples", [0, 1])
def test_no_samples_and_one_sample(samples: int) -> None:
    """An empty batch gives a gradient of zeros of the right shape."""
    x, w, bias = (torch.rand(s, dtype=torch.float64) for s in ((samples, 3), (2, 3), (2,)))
    compare(lambda b, x, w, c: b.emit("relu", b.emit("linear", x, w, c)), lambda x, w, c: F.relu(F.linear(x, w, c)), x, w, bias,
            in_digits=samples > 0)  # fmt: skip


def test_a_node_used_many_times() -> None:
    def build(b: Builder, x: Node) -> Node:
        y = x
        for _ in range(6):
            y = b.emit("add", b.emit("mul", y, y), y)
        return y

    def reference(x: Tensor) -> Tensor:
        y = x
        for _ in range(6):
            y = y * y + y
        return y

    compare(build, reference, numbers(0.1, -0.2, 0.3))


def test_a_leaf_that_the_loss_does_not_see() -> None:
    builder = Builder()
    x, unused = (builder.leaf(name, "parameter", (2,), "float64") for name in "xu")
    loss = builder.emit("sum", x)
    joint = differentiate(Graph(tuple(builder.nodes), (loss,), loss))
    assert joint.gradients[unused] is None
    assert joint.gradients[x] is not None


def test_an_intermediate_node_has_its_gradient_too() -> None:
    builder = Builder()
    x = builder.leaf("x", "input", (3,), "float64")
    h = builder.emit("tanh", x, name="h", role="value")
    loss = builder.emit("sum", builder.emit("square", h))
    joint = differentiate(Graph(tuple(builder.nodes), (loss,), loss))
    given = numbers(0.1, 0.2, -0.3)
    values = evaluate(joint.graph, {x: given})
    gradient = joint.gradients[h]
    assert gradient is not None and gradient.name == "grad(h)" and gradient.role == "adjoint" and gradient.of is h
    assert torch.allclose(values[gradient], 2 * torch.tanh(given), rtol=1e-14)
