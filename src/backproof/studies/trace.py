"""Trace k updates of training: every value, every gradient, every parameter before and after, the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ..capturing.origin import ModuleOrigin, tensors_of
from ..document.blocks import Document
from ..domains.entries import Array
from ..domains.exact import TooLarge, exact, spelled
from ..domains.numbers import evaluate
from ..errors import CaptureError, InputError
from ..graph import Graph, Node
from ..progress import task
from ..result import Result, plain
from .optimizer.closure import asked_update
from .optimizer.groups import rules_of
from .optimizer.replay import start_of, updated
from .program import Batch, Program

__all__ = ["Arithmetic", "ParameterStep", "Step", "Trace", "run", "trace"]

Arithmetic = Literal["model", "float64", "exact"]


@dataclass(frozen=True)
class ParameterStep:
    """A parameter in one update: before, its gradient (None if none arrives), after, the optimizer's state after."""

    before: Tensor
    gradient: Tensor | None
    after: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One update.

    Args:
        number: counted from 1.
        sample: the sample that it used, from 0; None for all.
        loss: the loss before the update (None for a model without one).
        values: every named value, by name.
        gradients: the gradient of the loss with respect to every named value, given and parameter.
        parameters: the trained parameters.
        exact: the exact numbers behind them, by "name", "grad.name", "before.name", "after.name"; empty in floats.
        graph: the graph that was read.
        leaves: the leaves' values that it was read on.
        buffers: the new values of the buffers that the forward pass changes (batch norm's running statistics).
    """

    number: int
    sample: int | None
    loss: float | None
    values: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    parameters: dict[str, ParameterStep]
    exact: dict[str, Array]
    graph: Graph
    leaves: dict[str, Tensor]
    state_before: dict[str, dict[str, Tensor]]
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The step as plain data."""
        record: dict[str, Any] = {
            "step": self.number,
            "loss": self.loss,
            "values": self.values,
            "gradients": self.gradients,
            "parameters": {
                n: {"before": p.before, "gradient": p.gradient, "after": p.after, "state": p.state}
                for n, p in self.parameters.items()
            },
        }
        if self.buffers:
            record["buffers"] = {n: {"before": self.leaves[n], "after": after} for n, after in self.buffers.items()}
        found: dict[str, Any] = plain(record, full)
        if self.sample is not None:
            found["sample"] = self.sample
        if self.exact:
            found["exact"] = {name: spelled(array) for name, array in self.exact.items()}
        return found


@dataclass(frozen=True)
class Trace(Result):
    """The record of a training run: ``steps[k].values``, ``.gradients``, ``.parameters``; see :func:`trace`."""

    program: Program
    steps: tuple[Step, ...]
    evidence: tuple[Any, ...] = ()
    remarks: tuple[str, ...] = ()
    title: str = ""

    @property
    def graph(self) -> Graph:
        """The captured network."""
        return self.program.graph

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether two independent ways to a number disagree."""
        return any(e.agrees is False for e in self.evidence)

    def document(self) -> Document:
        """The record as a worked solution."""
        from .writing.worked import document_of_trace

        return document_of_trace(self)

    def script(self) -> str:
        """A plain PyTorch program that recomputes the record."""
        from .writing.script import script_of

        return script_of(self)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record as plain data."""
        return {
            "model": self.title,
            "steps": [step.to_dict(full) for step in self.steps],
            "evidence": [e.to_dict() for e in self.evidence],
            "remarks": list(self.remarks),
        }


# --- the loop ---------------------------------------------------------------------------------------------------------
class _Run:
    """The state of a training run between updates: parameters, optimizer state, exact twins while they last."""

    def __init__(self, program: Program, use_exact: bool) -> None:
        self.program = program
        self.leaves = dict(program.start)
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
        program, graph = self.program, self.program.graph_for(sample)
        leaves = program.leaves_for(self.leaves, sample)
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
        return Step(number, sample, loss, values, grads, records, exact_values, graph, leaves, before, buffers)

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
        joint = self.program.joint(graph)
        whole = joint.graph if joint else graph
        numbers = evaluate(whole, {n: leaves[n.name] for n in whole.nodes if n.is_leaf and n.role != "constant"})
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
            if not node.is_leaf:
                values[node.name] = _best(node, numbers, exact_values)
                _speak(spoken, node.name, node, exact_values)
            if node.is_float:
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
        before, rule = self.leaves[name], self.program.rule_of(name) if name in self.state else None
        if self.program.accumulate and grad is not None:
            grad = self.total[name] = self.total[name] + grad if name in self.total else grad
        if rule is None or grad is None:
            return ParameterStep(before, grad, before, self.state.get(name, {}))
        graph = rule.graph(tuple(before.shape), number, str(before.dtype).removeprefix("torch."))
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


def run(program: Program, *, use_exact: bool = False) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Run all updates of a program; returns the steps and remarks on what happened.

    A run whose numbers overflow stops at the first update that is not finite, and says so.
    """
    state = _Run(program, use_exact)
    steps: list[Step] = []
    with task("training", program.steps * len(program.batches())) as advance:
        for _ in range(program.steps):
            for sample in program.batches():
                step = state.step(len(steps) + 1, sample)
                steps.append(step)
                advance(note="" if step.loss is None else f"loss {step.loss:.6g}")
                if not _finite(step):
                    note = f"The run diverged: update {step.number} is no longer finite. A smaller learning rate is needed."
                    return tuple(steps), (*state.remarks, note)
    return tuple(steps), tuple(state.remarks)


def _finite(step: Step) -> bool:
    tensors = [p.after for p in step.parameters.values()] + list(step.values.values())
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())


# --- bp.trace -----------------------------------------------------------------------------------------------------------
def trace(
    model: Any,
    inputs: Any = None,
    targets: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    steps: int = 1,
    arithmetic: Arithmetic = "model",
    evidence: str = "none",
    batch: Batch = "full",
    output: Any = None,
    seed: int = 0,
) -> Trace:
    """Record training steps of a network: every value, error signal, gradient, parameter and state.

    Args:
        model: an nn.Module, a function of tensors, or a captured Graph.
        inputs: a tensor, a tuple, or a dict of keywords (not needed for a Graph).
        targets: what the loss compares with.
        loss: a function of (output, targets) or its name; a model whose output is one number is its own loss.
        optimizer: a name, a torch.optim class with its arguments, or an instance; None for one step without update.
        steps: passes over the data.
        arithmetic: "model" (the model's own dtype), "float64", or "exact" (rationals, pi and roots, as on paper).
        evidence: "full", "sampled" or "none": whether every number is confirmed by independent means.
        batch: "full", or "sample" for one update per sample.
        output: which tensor of the output the loss takes.
        seed: of the sampled evidence.

    Returns:
        A :class:`Trace`. The model itself is not changed.

    Raises:
        CaptureError, InputError, MissingRule: the request cannot be carried out; one paragraph says why.

    Example:
        >>> import torch, backproof as bp
        >>> record = bp.trace(torch.nn.Linear(2, 1), torch.ones(3, 2), torch.zeros(3, 1), loss="mse", optimizer="sgd")
        >>> sorted(record.steps[0].parameters)
        ['bias', 'weight']
    """
    _check_choices(arithmetic, evidence, batch, steps)
    program = _program(model, inputs, targets, loss, output, arithmetic)
    give_rules(program, optimizer, model)
    program.steps = steps if program.optimizer else 1
    program.batch = batch
    if program.optimizer is not None and program.graph.loss is None:
        raise CaptureError("an update needs a loss: give loss=..., or a model whose output is one number")
    records, remarks = run(program, use_exact=arithmetic == "exact")
    found: tuple[Any, ...] = ()
    if evidence != "none":
        from .confirming.evidence import confirm

        found = confirm(program, records, thorough=evidence == "full", seed=seed)
    return Trace(program, records, found, remarks, program.graph.title)


def give_rules(program: Program, spec: Any, model: Any) -> None:
    """Enter the update rule of each parameter; what an optimizer does not hold, it does not train."""
    if spec is None:
        return
    if isinstance(model, Graph):
        tensors = tensors_of(model.origin.wrapped) if isinstance(model.origin, ModuleOrigin) else {}
    else:
        tensors = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
    program.optimizer, program.groups = rules_of(spec, tensors)
    if program.groups:
        program.trained = tuple(n for n in program.trained if n in program.groups)


def _check_choices(arithmetic: str, evidence: str, batch: str, steps: int) -> None:
    for name, value, known in (
        ("arithmetic", arithmetic, ("model", "float64", "exact")),
        ("evidence", evidence, ("full", "sampled", "none")),
        ("batch", batch, ("full", "sample")),
    ):
        if value not in known:
            raise InputError(f"{name} is one of {', '.join(known)}, not {value!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 0 < steps <= 100_000:
        raise InputError(f"steps must be a whole number from 1 to 100000, not {steps!r}")


def _program(
    model: Any, inputs: Any, targets: Any, loss: Any, output: Any, arithmetic: str, parameters: tuple[str, ...] = ()
) -> Program:
    from ..capturing import capture

    if isinstance(model, Graph):
        if model.origin is None or not hasattr(model.origin, "leaves"):
            raise InputError("this Graph has no model behind it; trace the model itself")
        graph = model
    else:
        if inputs is None:
            raise InputError("trace needs example inputs: bp.trace(model, inputs, ...)")
        if arithmetic != "model":
            model, inputs, targets = _doubled(model), _double(inputs), _double(targets)
            loss = _doubled(loss)
        graph = capture(model, inputs, loss=loss, targets=targets, output=output, parameters=parameters)
    start = graph.origin.leaves()
    _check_finite(graph, start)
    return Program(
        graph,
        start,
        tuple(n.name for n in graph.parameters if not n.is_frozen),
        samples=_sample_leaves(graph),
        capture_for=_recapture(model, loss, output, graph),
        exact=_exact_leaves(graph, start) if arithmetic == "exact" else None,
    )


def _doubled(model: Any) -> Any:
    import copy

    return copy.deepcopy(model).double() if isinstance(model, nn.Module) else model


def _double(value: Any) -> Any:
    def change(x: Any) -> Any:
        return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x

    return tree_map(change, value)


def _check_finite(graph: Graph, start: Mapping[str, Tensor]) -> None:
    for node in graph.nodes:
        if (
            node.is_leaf
            and node.role in ("input", "target", "parameter")
            and not bool(torch.isfinite(start[node.name]).all())
        ):
            bad = (~torch.isfinite(start[node.name])).nonzero()[0].tolist()
            raise InputError(
                f"the {node.role} '{node.name}' contains {start[node.name][tuple(bad)].item()} at {bad}; "
                "every given must be a finite number"
            )


def _sample_leaves(graph: Graph) -> tuple[str, ...]:
    leaves = [n for n in graph.of_role("input", "target") if n.shape]
    sizes = {n.shape[0] for n in leaves}
    return tuple(n.name for n in leaves) if len(sizes) == 1 else ()


def _recapture(model: Any, loss: Any, output: Any, graph: Graph) -> Any:
    """A function that captures the model again on one sample."""

    def again(leaves: Mapping[str, Tensor]) -> Graph:
        from ..capturing import capture

        origin = graph.origin
        flat, shape = tree_flatten((origin.args, origin.keywords, origin.targets))
        cut = [leaves.get(name or "", x) for name, x in zip(origin.order, flat, strict=True)]
        args, keywords, targets = tree_unflatten(cut, shape)
        wrapped = origin.wrapped
        is_function = hasattr(wrapped.model, "function")
        trained = [n.name for n in graph.parameters] if is_function else []
        model = wrapped.model.function[0] if is_function else wrapped.model
        return capture(
            model,
            keywords or args,
            loss=wrapped._loss[0],
            targets=targets,
            output=wrapped._pick,
            parameters=trained,
        )

    return again


def _exact_leaves(graph: Graph, start: Mapping[str, Tensor]) -> dict[str, Array]:
    found = {}
    for node in graph.nodes:
        if node.is_leaf and node.role != "constant":
            found[node.name] = exact.array(start[node.name].tolist(), node.shape)
    return found
