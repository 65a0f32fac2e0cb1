"""What follows from the numbers somebody handed in: the record computed again, each step from their own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ...domains.numbers import numbers, tensor_of
from ...graph import Graph, Node
from ..program import Program
from ..trace import Step

__all__ = ["WORLDS", "Item", "Judged", "Scene", "Worlds", "follow", "known_names"]


@dataclass(frozen=True)
class Item:
    """One quantity of the record: where it stands, and what it is in truth.

    Args:
        id: "step.2.grad.w".
        step: the update, from 1.
        name: "s", "grad.w", "after.w" or "loss".
        true: the record's number.
    """

    id: str
    step: int
    name: str
    true: Tensor


Worlds = tuple[Tensor, ...]
"""One quantity in several worlds: as somebody handed it in, as it was before they rounded it, and a few that differ by
what rounding may have taken away."""


@dataclass(frozen=True)
class Judged:
    """What a quantity is taken to be from here on, in each world, and whether a mistake is in it."""

    values: Worlds
    tainted: bool


@dataclass(frozen=True)
class Scene:
    """What a judge sees of one item.

    Args:
        item: the item.
        follows: what follows from the earlier numbers, in each world.
        tainted: whether a mistake is in them.
        known: every number known so far, in each world.
        node: the operation that computes it.
    """

    item: Item
    follows: Worlds
    tainted: bool
    known: tuple[Mapping[Node, Tensor], ...]
    node: Node


Judge = Callable[[Scene], Judged]
"""Decides on one item."""

WORLDS = 6


def known_names(program: Program, step: Step) -> list[str]:
    """The names under which a step's numbers can be handed in, in the order in which they are computed."""
    values = list(step.values)
    grads = [f"grad.{n}" for n, g in reversed(list(step.gradients.items())) if g is not None]
    after = [f"after.{n}" for n in program.trained] if program.optimizer else []
    return [*values, *(["loss"] if step.loss is not None else []), *grads, *after]


@dataclass
class _World:
    """One world between updates: the leaves and the optimizer's state."""

    leaves: dict[str, Tensor]
    state: dict[str, dict[str, Tensor]]


@dataclass
class _State:
    worlds: list[_World]
    tainted: set[str]


def follow(program: Program, steps: tuple[Step, ...], judge: Judge) -> None:
    """Walk through the whole record in the order in which it is computed, and have every quantity judged.

    What was handed in replaces what was computed, so that later quantities follow from it.
    """
    first = steps[0].state_before
    worlds = [_World(dict(program.start), {n: dict(s) for n, s in first.items()}) for _ in range(WORLDS)]
    state = _State(worlds, set())
    for step in steps:
        _Walk(program, step, state, judge).go()


class _Walk:
    """The walk through one update."""

    def __init__(self, program: Program, step: Step, state: _State, judge: Judge) -> None:
        self.program, self.step, self.state, self.judge = program, step, state, judge
        joint = program.joint(step.graph)
        self.whole = joint.graph if joint else step.graph
        self.gradients: Mapping[Node, Node | None] = joint.gradients if joint else {}
        self.known: tuple[dict[Node, Tensor], ...] = tuple({} for _ in state.worlds)
        self.tainted: set[Node] = set()

    def go(self) -> None:
        leaves = [self.program.leaves_for(w.leaves, self.step.sample) for w in self.state.worlds]
        asked = self._asked()
        for node in self.whole.nodes:
            for known, given in zip(self.known, leaves, strict=True):
                known[node] = _computed(node, known, given)
            if node.name in self.state.tainted and node.role == "parameter":
                self.tainted.add(node)
            if any(x in self.tainted for x in node.inputs):
                self.tainted.add(node)
            for item in asked.get(node, ()):
                self._judge(item, node, self.known, self.tainted)
        if self.program.optimizer is not None:
            for name in self.program.trained:
                self._update(name)

    def _judge(self, item: Item, node: Node, worlds: tuple[dict[Node, Tensor], ...], tainted: set[Node]) -> None:
        follows = tuple(known[node] for known in worlds)
        found = self.judge(Scene(item, follows, node in tainted, worlds, node))
        for known, old, new in zip(worlds, follows, found.values, strict=True):
            known[node] = new.reshape(old.shape).to(old.dtype)
        (tainted.add if found.tainted else tainted.discard)(node)

    def _asked(self) -> dict[Node, list[Item]]:
        step, graph = self.step, self.step.graph
        found: dict[Node, list[Item]] = {}

        def ask(node: Node, name: str, true: Tensor) -> None:
            found.setdefault(node, []).append(Item(f"step.{step.number}.{name}", step.number, name, true))

        for name, value in step.values.items():
            ask(graph.by_name[name], name, value)
        if graph.loss is not None:
            ask(graph.loss, "loss", step.values[graph.loss.name])
        for name, gradient in step.gradients.items():
            delta = self.gradients.get(graph.by_name[name])
            if gradient is not None and delta is not None:
                ask(delta, f"grad.{name}", gradient)
        return found

    def _update(self, name: str) -> None:
        delta, rule, number = (
            self.gradients.get(self.step.graph.by_name[name]),
            self.program.rule_of(name),
            self.step.number,
        )
        if delta is None or rule is None:
            return
        before = self.state.worlds[0].leaves[name]
        graph = rule.graph(tuple(before.shape), number)
        out = graph.outputs[0]
        worlds = tuple(
            numbers.run(graph, _leaves(graph, {"w": w.leaves[name], "g": known[delta], **w.state[name]}))
            for w, known in zip(self.state.worlds, self.known, strict=True)
        )
        tainted = {out} if name in self.state.tainted or delta in self.tainted else set()
        item = Item(f"step.{number}.after.{name}", number, f"after.{name}", self.step.parameters[name].after)
        self._judge(item, out, worlds, tainted)
        for world, values in zip(self.state.worlds, worlds, strict=True):
            world.leaves[name] = values[out]
            world.state[name] = {
                s: values[n] for s, n in zip(rule.state_of(tuple(before.shape)), graph.outputs[1:], strict=True)
            }
        (self.state.tainted.add if tainted else self.state.tainted.discard)(name)


def _computed(node: Node, known: Mapping[Node, Tensor], leaves: Mapping[str, Tensor]) -> Tensor:
    if node.role == "constant":
        return tensor_of(node)
    if node.is_leaf:
        return leaves[node.name]
    value: Tensor = numbers.apply(node, *(known[x] for x in node.inputs))
    return value


def _leaves(graph: Graph, given: Mapping[str, Tensor]) -> dict[Node, Tensor]:
    return {n: tensor_of(n) if n.role == "constant" else given[n.name] for n in graph.nodes if n.is_leaf}
