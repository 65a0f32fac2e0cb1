"""The loop behind a record: read the graph, update the parameters, again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..capturing.chance import drawn, generator_of
from ..capturing.origin import device_of
from ..domains.entries import Array
from ..domains.exact import TooLarge, exact
from ..domains.numbers import evaluate
from ..errors import InputError
from ..graph import Graph, Node
from ..progress import task
from .keeping import Keeping, all_finite
from .machine import spelled
from .optimizer.closure import asked_update
from .optimizer.replay import seen_shape, start_of, updated
from .program import Program
from .steps import ParameterStep, Step

__all__ = ["Reading", "replayed", "run"]

Reading = Callable[[Graph, Mapping[Node, Tensor]], dict[Node, Tensor]]


class _Run:
    """The state of a training run between updates: parameters, optimizer state, exact twins while they last."""

    def __init__(
        self, program: Program, use_exact: bool = False, keeping: Keeping | None = None, read: Reading = evaluate
    ) -> None:
        self.program, self.keeping, self.forward = program, keeping, program.by_the_forward
        self.evaluate = read
        self.leaves = dict(program.start)
        self.generator = generator_of(program.seed, device_of(program.start))
        rules = {n: program.rule_of(n) for n in program.trained}
        self.state = {n: start_of(r, self.leaves[n]) if r else {} for n, r in rules.items()}
        self.memory: dict[str, Any] = {}
        self.exact = dict(program.exact) if use_exact and program.exact is not None else None
        self.exact_state: dict[str, dict[str, Array]] = {}
        if self.exact is not None:
            self.exact_state = {
                n: {s: exact.array(zero.long().tolist(), tuple(zero.shape)) for s, zero in state.items()}
                for n, state in self.state.items()
            }
        self.remarks: list[str] = []
        self.total: dict[str, Tensor] = {}

    def step(self, number: int, sample: int | None) -> Step:
        program = self.program
        graph = program.graph_for(sample, self.leaves if number > 1 else None)
        leaves = {**program.leaves_for(self.leaves, sample), **self._draws(graph)}
        values, grads, exact_values = self._read(graph, leaves, sample, number)
        before = {n: dict(self.state[n]) for n in program.trained}
        held = [n.name for n in graph.parameters if n.name not in program.trained]
        if program.optimizer is not None and program.optimizer.rule.asks:
            if self.exact is not None:
                self._give_up_exact(number, "the line search of LBFGS is not exact")
            records = self._asked(graph, leaves, grads)
        else:
            records = {n: self._update(n, grads.get(n), number, exact_values) for n in (*program.trained, *held)}
        loss = None if graph.loss is None else float(values[graph.loss.name])
        buffers = self._carry_on(graph, values, exact_values)
        forward = self._derivatives(graph, leaves, grads)
        return Step(number, sample, loss, values, grads, records, exact_values, graph, leaves, before, buffers, forward)

    def _derivatives(
        self, graph: Graph, leaves: Mapping[str, Tensor], grads: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """The derivatives of the forward pass that differ from the gradients of the user's own backward passes."""
        joint = self.forward.joint(graph) if graph.surrogates else None
        if joint is None:
            return {}
        given = {n: leaves[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}
        values = evaluate(joint.graph, given)
        found = {}
        for name, ours in grads.items():
            if ours is None and name not in leaves:
                continue  # a step inside the user's own Function
            node = joint.gradients[graph.by_name[name]]
            true = torch.zeros_like(leaves[name] if name in leaves else values[graph.by_name[name]])
            true = true if node is None else values[node]
            if not torch.allclose(true if ours is None else ours, true, rtol=1e-5, atol=0) or (
                ours is None and true.any()
            ):
                found[name] = true
        return found

    def _draws(self, graph: Graph) -> dict[str, Tensor]:
        """What this step draws at random."""
        found = drawn(graph.of_role("draw"), self.generator)
        if self.exact is not None:
            self.exact |= {name: exact.array(t.tolist(), tuple(t.shape)) for name, t in found.items()}
        return found

    def _carry_on(self, graph: Graph, values: Mapping[str, Tensor], spoken: Mapping[str, Array]) -> dict[str, Tensor]:
        """The buffers' new values, which the next update begins with."""
        after = {old.name: values[new.name] for old, new in graph.state.items()}
        self.leaves |= after
        if self.exact is not None:
            self.exact |= {old.name: spoken[new.name] for old, new in graph.state.items() if new.name in spoken}
        return after

    def _read(
        self, graph: Graph, leaves: Mapping[str, Tensor], sample: int | None, number: int
    ) -> tuple[Any, Any, dict[str, Array]]:
        if self.keeping is not None:
            return *self.keeping.read(graph, leaves, number), {}
        joint = self.program.joint(graph)
        whole = joint.graph if joint else graph
        numbers = self.evaluate(whole, {n: leaves[n.name] for n in whole.nodes if n.is_leaf and n.role != "constant"})
        gradient = joint.gradients if joint else {}
        exact_values: dict[Node, Array] | None = None
        if self.exact is not None:
            exact_values = self._try_exact(whole, sample, number)
        values: dict[str, Tensor] = {}
        grads: dict[str, Tensor | None] = {}
        spoken: dict[str, Array] = {}
        for node in graph.nodes:
            if node.role == "helper" or (node.role == "constant"):
                continue
            delta = gradient.get(node)
            if not node.is_leaf or node.role == "draw":
                values[node.name] = _best(node, numbers, exact_values)
                _speak(spoken, node.name, node, exact_values)
            if node.is_number and node.role != "draw":
                grads[node.name] = None if delta is None else _best(delta, numbers, exact_values)
                _speak(spoken, f"grad.{node.name}", delta, exact_values)
        return values, grads, spoken

    def _try_exact(self, whole: Graph, sample: int | None, number: int) -> dict[Node, Array] | None:
        assert self.exact is not None
        leaves = self.program.leaves_for(self.exact, sample)
        try:
            return exact.run(whole, {n: leaves[n.name] for n in whole.nodes if n.is_leaf and n.role != "constant"})
        except TooLarge as error:
            self._give_up_exact(number, str(error))
            return None

    def _give_up_exact(self, number: int, why: str) -> None:
        self.exact = None
        self.remarks.append(f"Update {number} and what follows are in floating point (float64): {why}.")

    def _update(self, name: str, grad: Tensor | None, number: int, spoken: dict[str, Array]) -> ParameterStep:
        before, rule = self.leaves[name], self.program.rule_of(name)
        if self.program.accumulate and grad is not None:
            grad = self.total[name] = self.total[name] + grad if name in self.total else grad
        if rule is None or grad is None:
            return ParameterStep(before, grad, before, self.state.get(name, {}))
        graph = rule.graph(seen_shape(before), number, str(before.dtype).removeprefix("torch."))
        after, state = updated(rule, graph, before, grad, self.state[name])
        exact_after = self._exact_update(name, graph, number, spoken)
        self.leaves[name] = after if exact_after is None else _floats(exact_after, before).to(before.dtype)
        self.state[name] = state
        return ParameterStep(before, grad, self.leaves[name], self.state[name])

    def _asked(
        self, graph: Graph, leaves: Mapping[str, Tensor], grads: Mapping[str, Tensor | None]
    ) -> dict[str, ParameterStep]:
        """An update that asks for the loss again: of all parameters together."""
        before = {n.name: self.leaves[n.name] for n in graph.parameters}
        moved, state = asked_update(self.program, graph, leaves, self.memory)
        self.leaves |= moved
        self.state |= state
        return {n: ParameterStep(w, grads.get(n), self.leaves[n], self.state.get(n, {})) for n, w in before.items()}

    def _exact_update(self, name: str, graph: Graph, number: int, spoken: dict[str, Array]) -> Array | None:
        if self.exact is None or f"grad.{name}" not in spoken:
            return None
        given = {"w": self.exact[name], "g": spoken[f"grad.{name}"], **self.exact_state[name]}
        try:
            result = exact.run(graph, {n: given[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"})
        except TooLarge as error:
            self._give_up_exact(number + 1, str(error))
            return None
        spoken[f"before.{name}"], spoken[f"after.{name}"] = self.exact[name], result[graph.outputs[0]]
        self.exact[name] = result[graph.outputs[0]]
        self.exact_state[name] = dict(zip(self.exact_state[name], (result[n] for n in graph.outputs[1:]), strict=True))
        return self.exact[name]


def _best(node: Node, numbers: Mapping[Node, Tensor], exact_values: Mapping[Node, Array] | None) -> Tensor:
    """The exact number rounded once, where there is one; else the number computed in floats."""
    return numbers[node] if exact_values is None or not node.is_float else _floats(exact_values[node], numbers[node])


def _floats(array: Array, like: Tensor) -> Tensor:
    flat = [float(x) for x in array.reshape(-1)]
    return torch.tensor(flat, dtype=like.dtype).reshape(like.shape)


def _speak(spoken: dict[str, Array], name: str, node: Node | None, values: Mapping[Node, Array] | None) -> None:
    if values is not None and node is not None and node.is_float:
        spoken[name] = values[node]


def run(
    program: Program, *, use_exact: bool = False, keeping: Keeping | None = None
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Run all updates of a program; returns the steps and remarks on what happened.

    A run whose numbers overflow stops at the first update that is not finite, and says so.

    Args:
        program: what is run.
        use_exact: whether it is computed in exact numbers as long as they last.
        keeping: for a run in torch's own kernels, what is kept of it; None reads the textbook's formulas.
    """
    state = _Run(program, use_exact, keeping)
    steps: list[Step] = []
    with task(_announced(keeping), program.steps * len(program.batches())) as advance:
        for _ in range(program.steps):
            for sample in program.batches():
                try:
                    step = state.step(len(steps) + 1, sample)
                except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
                    raise InputError(_singular(program.graph_for(sample, None), len(steps) + 1, error)) from None
                steps.append(step)
                advance(note="" if step.loss is None else f"loss {step.loss:.6g}")
                if not _finite(step):
                    note = f"The run diverged: update {step.number} is no longer finite. A smaller learning rate is needed."
                    return tuple(steps), (*state.remarks, note)
    return tuple(steps), tuple(state.remarks)


def replayed(program: Program, read: Reading, updates: int) -> Iterator[Step]:
    """The first updates of a program again, from its start, in another reading of its graph."""
    state, batches = _Run(program, read=read), program.batches()
    for number in range(updates):
        yield state.step(number + 1, batches[number % len(batches)])


def _announced(keeping: Keeping | None) -> str:
    """What the progress says; a run that takes much memory says how much before it begins."""
    much = keeping is not None and keeping.predicted > 1e9
    return f"training ({spelled(keeping.predicted)} at most)" if keeping is not None and much else "training"


def _singular(graph: Graph, number: int, error: Exception) -> str:
    """Which lines take the inverse of a matrix, where one of them has none: also in the backward pass of det."""
    of_matrix = [n for n in graph.nodes if n.op.family == "matrix"]
    lines = ", ".join(dict.fromkeys(f"{n.op.name} at {n.source}" if n.source else n.op.name for n in of_matrix))
    return (
        f"update {number} needs the inverse of a singular matrix ({lines}; its gradient is written with the inverse): "
        f"{str(error).splitlines()[0].rstrip('.')}. Start from other numbers, or add a small multiple of the identity"
    )


def _finite(step: Step) -> bool:
    """Whether the loss (or without one, the values) and the parameters are numbers still."""
    ends = [p.after for p in step.parameters.values()] if step.state_before else []
    ends += [
        step.values[n.name]
        for n in ([step.graph.loss] if step.graph.loss else step.graph.outputs)
        if n.name in step.values
    ]
    return all_finite(ends)
