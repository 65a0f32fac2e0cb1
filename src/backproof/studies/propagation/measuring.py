"""Measure the mean squares of values and error signals: the network as it is, and with its weights drawn again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...differentiate import Joint, differentiate
from ...domains.numbers import tensor_of, wide_numbers, widened
from ...errors import InputError
from ...graph import Builder, Graph, Node

__all__ = ["Measured", "Network", "Pool", "Sizes", "redrawn"]

COTANGENTS = 16
Leaves = dict[Node, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Mean squares over seeds: the mean, its standard error, over how many."""

    mean: float
    error: float
    count: int = 1

    @staticmethod
    def of(values: Sequence[float]) -> Sizes:
        """Of one number for each seed."""
        count = len(values)
        mean = sum(values) / count
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count) if count > 1 else 0.0
        return Sizes(mean, spread, count)


@dataclass(frozen=True)
class Measured:
    """Of one run: the mean squares at each node, forwards and backwards, and the values and error signals themselves."""

    forward: dict[Node, float]
    backward: dict[Node, float]
    values: dict[Node, Tensor]
    deltas: dict[Node, Tensor]
    broken: tuple[Node, ...] = ()
    """The first step of the backward pass that is not finite though all that it is given is."""


class Network:
    """A captured network with the values of its leaves, read over numbers forwards and backwards."""

    def __init__(self, graph: Graph, watched: Sequence[Node]) -> None:
        self.graph, self.watched = graph, list(watched)
        given = graph.origin.leaves()
        self.given = {n: widened(given[n.name]) for n in graph.nodes if n.is_leaf and n.role != "constant"}
        self.start = graph.loss if graph.loss is not None else graph.outputs[0]
        self.joint, self.cotangent = self._joint()
        for node in self.joint.graph.of_role("constant"):
            if node is not self.cotangent:
                self.given[node] = tensor_of(node, wide=True)
        self._there, self._own = set(self.joint.graph.nodes), set(graph.nodes)

    def _joint(self) -> tuple[Joint, Node | None]:
        """The joint graph from the loss, or from the output times a cotangent that is drawn."""
        if self.start.size == 1 and self.graph.loss is not None and self.start not in self.watched:
            return differentiate(self.graph, wrt=self.watched), None
        builder = Builder(self.graph.nodes)
        cotangent = builder.leaf("cotangent", "constant", self.start.shape, self.start.dtype)
        total = builder.emit("sum", builder.emit("mul", self.start, cotangent))
        whole = replace(self.graph, nodes=tuple(builder.nodes), loss=total)
        return differentiate(whole, total, self.watched), cotangent

    def refuse_what_is_not_finite(self) -> None:
        """Say which input or parameter holds a NaN or an infinity."""
        for node, t in self.given.items():
            mask = node.role == "constant" and not bool(t.isnan().any())
            if t.is_floating_point() and not mask and not bool(t.isfinite().all()):
                bad = int((~t.isfinite()).sum())
                raise InputError(f"{node.name} is not finite: {bad} of its {t.numel()} entries are NaN or infinite")

    def run(self, leaves: Mapping[Node, Tensor], generator: torch.Generator, draws: int = COTANGENTS) -> Measured:
        """One set of weights: forwards once, backwards once for each cotangent."""
        graph, backward = self.joint.graph, dict.fromkeys(self.watched, 0.0)
        draws = draws if self.cotangent is not None else 1
        held: dict[Node, Any] = {n: v for n, v in {**self.given, **leaves}.items() if n in self._there}
        values: dict[Node, Any] = {}
        with torch.no_grad():
            for _ in range(draws):
                if self.cotangent is not None:
                    noise = torch.randn(self.cotangent.shape, generator=generator, dtype=torch.float64)
                    held[self.cotangent] = noise
                values = wide_numbers.run(graph, held)
                held |= {n: v for n, v in values.items() if n in self._own}
                for node in self.watched:
                    gradient = self.joint.gradients[node]
                    backward[node] += square(values[gradient]) / draws if gradient is not None else 0.0
        forward = {n: square(values[n]) for n in self.watched}
        gradients = ((n, self.joint.gradients[n]) for n in self.watched)
        deltas = {n: values[g] for n, g in gradients if g is not None}
        own = {n: v for n, v in values.items() if n in self._own}
        return Measured(forward, backward, own, deltas, self._broken(values))

    def _broken(self, values: Mapping[Node, Tensor]) -> tuple[Node, ...]:
        back = (n for n in self.joint.graph.nodes if n not in self._own and not n.is_leaf)
        return next(((n,) for n in back if not _finite(values[n]) and all(_finite(values[x]) for x in n.inputs)), ())


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def square(tensor: Tensor) -> float:
    """The mean square of the entries."""
    return float((tensor.double() ** 2).mean()) if tensor.numel() else 0.0


def redrawn(
    network: Network, seeds: int, seed: int, factory: Callable[[], nn.Module] | None = None
) -> Iterator[tuple[Leaves, torch.Generator]]:
    """Other weights of the same kind: from the factory, or each parameter's own entries in another order.

    Args:
        network: whose parameters are drawn again.
        seeds: how many times.
        seed: of the draws.
        factory: makes the module with weights of its initial distribution.
    """
    for k in range(seeds):
        generator = torch.Generator().manual_seed(seed + 104_729 * (k + 1))
        if factory is None:
            yield _shuffled(network, generator), generator
            continue
        with torch.random.fork_rng():
            torch.manual_seed(seed + 104_729 * (k + 1))
            own = dict(factory().named_parameters())
        yield {n: widened(own[n.name].detach()) for n in network.graph.parameters if n.name in own}, generator


class Pool:
    """The mean squares of a network's parameters over draws of its initial distribution."""

    def __init__(self) -> None:
        self.total: dict[Node, float] = {}
        self.count = 0

    def add(self, leaves: Mapping[Node, Tensor]) -> None:
        """One more draw."""
        self.count += 1
        for node, t in leaves.items():
            self.total[node] = self.total.get(node, 0.0) + square(t)

    def rescaled(self, given: Mapping[Node, Tensor]) -> Leaves:
        """A network's tensors, each at the size that it has over the draws: ten biases of its own say little about others."""
        found = dict(given)
        for node, total in self.total.items():
            own = square(given[node]) if node in given else 0.0
            if own > 0 and total > 0:
                found[node] = given[node] * math.sqrt(total / self.count / own)
        return found


def _shuffled(network: Network, generator: torch.Generator) -> Leaves:
    found = {}
    for node in network.graph.parameters:
        t = network.given[node]
        order = torch.randperm(t.numel(), generator=generator)
        found[node] = t.reshape(-1)[order].reshape(t.shape)
    return found
