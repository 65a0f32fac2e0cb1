"""Models that a test captures, and how to hold our gradient against eager autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.graph import Graph, Node

__all__ = ["agrees_with_eager", "computed", "eager_gradients", "gradients", "named", "read"]


def read(graph: Graph) -> dict[Node, Tensor]:
    """Every value of the graph on the leaves as they are now."""
    leaves = graph.origin.leaves()
    return evaluate(graph, {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"})


def gradients(graph: Graph) -> dict[str, Tensor]:
    """Our gradient for each float leaf that one reaches, by name."""
    joint = differentiate(graph)
    leaves = graph.origin.leaves()
    given = {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    values = evaluate(joint.graph, given)
    return {n.name: values[g] for n in given if (g := joint.gradients[n]) is not None}


def eager_gradients(graph: Graph, roles: tuple[str, ...] = ("parameter", "input", "target")) -> dict[str, Tensor]:
    """Those that torch.autograd finds by running the user's own module, for the leaves of these roles."""
    moving = {n.name for n in graph.nodes if n.role in roles and n.is_float}
    leaves = {name: t.clone().requires_grad_(name in moving) for name, t in graph.origin.leaves().items()}
    loss = graph.origin.loss(leaves)
    loss.backward()
    return {name: t.grad for name, t in leaves.items() if t.grad is not None}


def agrees_with_eager(
    graph: Graph, relative: float = 1e-10, roles: tuple[str, ...] = ("parameter", "input", "target")
) -> None:
    """The loss and every gradient are what the user's own module gives; leaves without a gradient are the same ones."""
    ours, theirs = gradients(graph), eager_gradients(graph, roles)
    assert graph.loss is not None
    assert torch.allclose(
        read(graph)[graph.loss].reshape(()), graph.origin.loss(graph.origin.leaves()), rtol=relative, atol=0
    )
    for name in {n.name for n in graph.nodes if n.role in roles} & (set(ours) | set(theirs)):
        zero = torch.zeros_like(graph.origin.leaves()[name])
        mine, expected = ours.get(name, zero), theirs.get(name, zero)
        assert mine.shape == expected.shape and mine.dtype == expected.dtype, name
        assert (mine - expected).abs().max() <= relative * expected.abs().max().clamp(min=1e-2), name


def computed(graph: Graph) -> list[tuple[str, str]]:
    """(name, operation) of what is computed, in order."""
    return [(n.name, n.op.name) for n in graph.nodes if not n.is_leaf]


def named(graph: Graph) -> list[str]:
    """The names of the values, helpers left out."""
    return [n.name for n in graph.values]


def doubles(*shape: int, seed: int = 0) -> Tensor:
    """Random float64 numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Layer(nn.Module):
    """s = W x + b, then an activation, with names of its own."""

    def __init__(self, inputs: int, outputs: int, f: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.linear, self.f = nn.Linear(inputs, outputs), f

    def forward(self, x: Tensor) -> Tensor:
        s = self.linear(x)
        z = self.f(s)
        return z


class Residual(nn.Module):
    """Layers one after another in a loop over one line."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, width) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        for layer in self.layers:
            h = h + layer(h)
        return h


class Tied(nn.Module):
    """An encoder and a decoder that share one matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 3, bias=False)
        self.decoder = nn.Linear(3, 3, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.encoder(x)))


class Twice(nn.Module):
    """One module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.layer(x)
        b = self.layer(a)
        return b.sum()


class Words(nn.Module):
    """Integer inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(5, 3), nn.Linear(3, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.table(words).mean(dim=1))


class Many(nn.Module):
    """A dict and a keyword in, a dict out."""

    def forward(self, batch: dict[str, Tensor], *, scale: Tensor) -> dict[str, Any]:
        h = batch["a"] * scale
        return {"logits": h + batch["b"], "hidden": [h]}


class Doubled(torch.autograd.Function):
    """The identity, whose backward claims twice the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad
