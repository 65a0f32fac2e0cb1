"""A network with its data and its training conventions: what a trace runs and what the evidence runs again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from ..capturing.origin import ModuleOrigin
from ..differentiate import Joint, differentiate
from ..domains.entries import Array
from ..formula.read import FormulaOrigin
from ..formula.witness import witness
from ..graph import Graph, Node
from ..optimizers import Optimizer
from .optimizer.groups import Witnesses

__all__ = ["Batch", "Program", "run_eagerly", "run_original"]

Batch = Literal["full", "sample"]


@dataclass
class Program:
    """What is trained, on what, and how.

    Args:
        graph: the captured network on all samples.
        start: the leaves' values at the start, by name.
        trained: the names of the parameters that an update changes.
        optimizer: the update rule, or None for no update; with parameter groups that of the first.
        groups: the rules of the parameters by name, where groups give them different ones.
        steps: passes over the data.
        batch: "full" (one update per pass) or "sample" (one update per sample).
        samples: the leaves whose first axis counts samples.
        capture_for: the graph for other leaves (shapes belong to a graph), for batch = "sample".
        exact: the leaves as exact numbers, where all are exact.
        accumulate: whether gradients are left uncleared, so that each update uses the sum of all so far.
        own_backward: whether a backward pass that the user wrote counts as it stands, as it does in training.
        seed: of what the program draws at random, as after ``torch.manual_seed(seed)``.
        in_kernels: whether the record is read in torch's own kernels, and not by the textbook's formulas.
    """

    graph: Graph
    start: dict[str, Tensor]
    trained: tuple[str, ...]
    optimizer: Optimizer | None = None
    steps: int = 1
    batch: Batch = "full"
    samples: tuple[str, ...] = ()
    capture_for: Callable[[Mapping[str, Tensor]], Graph] | None = None
    exact: dict[str, Array] | None = None
    accumulate: bool = False
    own_backward: bool = True
    seed: int = 0
    in_kernels: bool = False
    groups: dict[str, Optimizer] = field(default_factory=dict)
    _joints: dict[int, Joint | None] = field(default_factory=dict)
    _single: Graph | None = None
    _seconds: dict[Any, Joint] = field(default_factory=dict)

    def rule_of(self, name: str) -> Optimizer | None:
        """The update rule of a parameter; None for one that is not trained."""
        return self.groups.get(name, self.optimizer) if name in self.trained else None

    @property
    def rules(self) -> tuple[Optimizer, ...]:
        """The different update rules in use."""
        return tuple(dict.fromkeys(r for n in self.trained if (r := self.rule_of(n)) is not None))

    def witnesses(self, parameters: Mapping[str, Any]) -> Witnesses:
        """torch.optim on these parameters, each with its own rule."""
        return Witnesses({n: r for n in parameters if (r := self.rule_of(n)) is not None}, parameters)

    def batches(self) -> list[int | None]:
        """The sample of each update of one pass: None for all of them."""
        if self.batch == "full" or not self.samples:
            return [None]
        return list(range(self.start[self.samples[0]].shape[0]))

    @property
    def is_one_run(self) -> bool:
        """Whether the graph is the record of a run that other numbers may lead another way."""
        return bool(self.graph.noted.get("recorded", {}).get("decisions"))

    def graph_for(self, sample: int | None, leaves: Mapping[str, Tensor] | None = None) -> Graph:
        """The graph of one update; of a model that goes its way by values, recorded anew on the leaves of that update."""
        if leaves is not None and self.is_one_run and self.capture_for is not None:
            return self.capture_for(self.leaves_for(leaves, sample))
        if sample is None:
            return self.graph
        if self._single is None:
            assert self.capture_for is not None
            self._single = self.capture_for(self.leaves_for(self.start, sample))
        return self._single

    def joint(self, graph: Graph) -> Joint | None:
        """The joint graph (None without a loss); made once per graph."""
        if id(graph) not in self._joints:
            made = None if graph.loss is None else differentiate(graph, own_backward=self.own_backward)
            self._joints[id(graph)] = made
        return self._joints[id(graph)]

    def leaves_for(self, leaves: Mapping[str, Any], sample: int | None) -> dict[str, Any]:
        """The leaves that one update sees: all, or one sample's rows."""
        if sample is None:
            return dict(leaves)
        return {name: v[sample : sample + 1] if name in self.samples else v for name, v in leaves.items()}

    @property
    def by_the_forward(self) -> Program:
        """The same program, whose gradients are the derivatives of its forward pass."""
        return replace(self, own_backward=False, _joints={}, _single=None, _seconds={})

    @property
    def given(self) -> tuple[Node, ...]:
        """The leaves, constants aside."""
        return tuple(n for n in self.graph.nodes if n.is_leaf and n.role != "constant")


def run_original(graph: Graph, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run the user's own program (not our reading of it) on leaves, connected to them for autograd.

    Returns the named values that the program lets us see; the loss is under the loss node's name.
    """
    origin = graph.origin
    if isinstance(origin, FormulaOrigin):
        return witness(origin, leaves)
    assert isinstance(origin, ModuleOrigin)
    return origin.values(leaves)


def run_eagerly(graph: Graph, leaves: Mapping[str, Tensor]) -> Tensor | None:
    """The loss of the user's own program as it stands (custom backwards included), connected to the leaves."""
    origin = graph.origin
    if graph.loss is None:
        return None
    if isinstance(origin, FormulaOrigin):
        return witness(origin, leaves)[graph.loss.name]
    assert isinstance(origin, ModuleOrigin)
    loss = origin.loss(leaves)
    return None if loss is None else loss.reshape(graph.loss.shape)
