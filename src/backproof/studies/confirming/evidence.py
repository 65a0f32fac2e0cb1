"""Evidence: the numbers of a record obtained again by independent means, and compared.

The ways, none of which shares our vector-Jacobian products and our float64 rounding at the same time:

- ``autograd``: the user's own program, run and differentiated by torch in float64, and trained by torch.optim itself;
- ``50 digits``: the joint graph read over 50-digit floats from the operations' formulas, without torch's kernels;
- ``differences``: central differences of the loss in 50-digit arithmetic, without any derivative rule; at a kink
  the two one-sided slopes differ and it says so;
- for networks too large for 50 digits as a whole: float64 differences along random Gaussian directions, and random
  entries of single operations computed again in 50 digits (:mod:`.directions`, :mod:`.local`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...domains.digits import DIGITS, context, digits
from ...domains.entries import Array
from ...domains.numbers import evaluate, tensor_of
from ...graph import Graph, Node
from .. import verdicts
from ..keeping import all_finite
from ..program import Program, run_eagerly, run_original
from ..trace import Step
from ..verdicts import EAGER, FORMULAS, GRADIENT_FLOOR, OWN_DTYPE, ROUNDING, Evidence
from .by_differences import compare_differences
from .coarse import torch_rounds
from .comparing import Gauge, compare, is_number, scale_of, unit_of, wide
from .directions import large_network
from .local import work
from .own_dtype import run_wide
from .reach import RunReach
from .tally import Tally

__all__ = ["confirm"]

_DIGITS_BUDGET = 1_500_000  # scalar operations in 50 digits, about 3 microseconds each
_DIFFERENCES_BUDGET = {True: 600_000, False: 120_000}


def confirm(program: Program, steps: Sequence[Step], *, thorough: bool, seed: int = 0) -> tuple[Evidence, ...]:
    """Obtain the numbers of a record again by independent means.

    Args:
        program: what was run.
        steps: the record.
        thorough: True looks at every number where a budget allows it; False at a sample.
        seed: of the sample.
    """
    tally = Tally(max(_spacing(program.start.values()), _inside(program.graph)))
    finite = [s for s in steps if _is_finite(s)]
    gauges = [_in_float64(program, s, tally) for s in (finite if thorough else _some(finite, 3))]
    chosen = [g.step for g in gauges]
    for gauge in gauges:
        _autograd(gauge)
    _training(program, finite, tally)
    if program.graph.surrogates:
        return (*_torch_rounds(tally, chosen), *_by_the_forward(program, chosen, thorough, seed))
    _by_other_means(gauges, tally, thorough, seed)
    return _torch_rounds(tally, chosen)


def _torch_rounds(tally: Tally, steps: Sequence[Step]) -> tuple[Evidence, ...]:
    if not steps:
        return tally.results()
    return torch_rounds(tally.results(), steps[0].graph, {**steps[0].leaves, **steps[0].values})


def _is_finite(step: Step) -> bool:
    """Whether there is something to compare: a mask may hide what it hides behind -inf, a loss or an output may not."""
    ends = [
        step.values[n.name] for n in (step.graph.loss, *step.graph.outputs) if n is not None and n.name in step.values
    ]
    return all_finite(ends) and not any(bool(torch.isnan(t).any()) for t in step.values.values())


def _by_other_means(gauges: Sequence[Gauge], tally: Tally, thorough: bool, seed: int) -> None:
    if not gauges:
        return
    program, chosen = gauges[0].program, [g.step for g in gauges]
    if opaque := [n for s in chosen[:1] for n in s.graph.facts["opaque_nodes"]]:
        tally.rows[f"what comes through {', '.join(opaque)}", "50 digits"] = [None, 1, 1, verdicts.OPAQUE]
    if any(n.is_complex for n in program.graph.nodes):
        return  # the other ways read real numbers alone
    if not opaque and sum(work(_joint_nodes(program, s)) for s in chosen) <= _DIGITS_BUDGET:
        _fifty_digits(gauges, tally, thorough, seed)
    else:
        for step in chosen[:1]:
            large_network(program, step, tally.add, seed)


def _by_the_forward(program: Program, chosen: Sequence[Step], thorough: bool, seed: int) -> list[Evidence]:
    """Of the user's own backward passes there is no formula; the derivatives of the forward pass are confirmed instead."""
    tally = Tally()
    forward = program.by_the_forward
    steps = [replace(s, gradients=_derivatives(forward, s)) for s in chosen]
    _by_other_means([Gauge(tally, forward, s) for s in steps], tally, thorough, seed)
    return [
        replace(e, what=e.what.replace("gradient of", "derivative of the forward pass by")) for e in tally.results()
    ]


def _derivatives(forward: Program, step: Step) -> Mapping[str, Tensor | None]:
    """The derivatives of the forward pass by everything that has a gradient in the record."""
    joint = forward.joint(step.graph)
    if joint is None:
        return step.gradients
    read = evaluate(
        joint.graph, {n: step.leaves[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}
    )
    found = {name: joint.gradients[step.graph.by_name[name]] for name in step.gradients}
    return {name: None if node is None else read[node] for name, node in found.items()}


def _spacing(tensors: Iterable[Tensor]) -> float:
    """How far apart the coarsest of the numbers are near 1."""
    return max((torch.finfo(t.dtype).eps for t in tensors if is_number(t)), default=0.0)


def _inside(graph: Graph) -> float:
    """The same for the dtypes that the program itself casts to."""
    casts = {n.dtype for n in graph.nodes if n.op.name == "cast" and n.dtype in ("float16", "bfloat16")}
    return max((torch.finfo(getattr(torch, name)).eps for name in casts), default=0.0)


def _some(steps: list[Step], count: int) -> list[Step]:
    return steps if len(steps) <= count else [steps[0], steps[len(steps) // 2], steps[-1]]


# --- a record in the model's own dtype -------------------------------------------------------------------------------------
def _in_float64(program: Program, step: Step, tally: Tally) -> Gauge:
    """The same step by the textbook's formulas in float64, which the other ways are compared with; the record against it."""
    already = all(t.dtype == wide(t).dtype for t in step.leaves.values() if is_number(t))
    if already and not program.in_kernels:
        return Gauge(tally, program, step)
    leaves = _double(step.leaves, grad=False)
    joint = program.joint(step.graph)
    whole, gradients = (joint.graph, joint.gradients) if joint else (step.graph, {})
    constants = {n: tensor_of(n, wide=True) for n in whole.of_role("constant")}
    read = evaluate(
        whole, {**{n: leaves[n.name] for n in whole.nodes if n.is_leaf and n.role != "constant"}, **constants}
    )
    nodes = step.graph.by_name
    values = {name: read[nodes[name]] for name in step.values}
    grads = {name: None if g is None else read[gradients[nodes[name]]] for name, g in step.gradients.items()}  # type: ignore[index]
    gauge = Gauge(tally, program, replace(step, leaves=leaves, values=values, gradients=grads))
    _compare_rounding(step, gauge, FORMULAS if already else ROUNDING)
    return gauge


def _compare_rounding(step: Step, gauge: Gauge, oracle: str) -> None:
    """The record, read in torch's kernels, against the textbook's formulas in float64."""
    for name, value in step.values.items():
        if is_number(value):
            gauge.value(name, oracle, value, gauge.step.values[name])
    for name, grad in step.gradients.items():
        exact = gauge.step.gradients[name]
        if grad is not None and exact is not None:
            gauge.gradient(name, oracle, grad, exact)


def _buffers(step: Step) -> frozenset[str]:
    """Leaves that torch may refuse to differentiate, such as the class weights of a loss, and draws."""
    return frozenset(n.name for n in step.graph.of_role("buffer", "draw"))


def _double(leaves: Mapping[str, Tensor], grad: bool, held: frozenset[str] = frozenset()) -> dict[str, Tensor]:
    found = {}
    for name, tensor in leaves.items():
        doubled = wide(tensor.detach()) if is_number(tensor) else tensor.detach()
        found[name] = doubled.clone().requires_grad_(grad and name not in held and is_number(doubled))
    return found


# --- torch's own autograd on the user's own program -----------------------------------------------------------------------
def _autograd(gauge: Gauge) -> None:
    _eager(gauge)
    step = gauge.step
    leaves, values, oracle = _ran(gauge, run_original, "autograd")
    loss = None if step.graph.loss is None else values.get(step.graph.loss.name)
    for name, value in values.items():
        if name in step.values and is_number(value):
            gauge.value(name, oracle, step.values[name], value.detach().reshape(step.values[name].shape))
    if loss is None or not loss.requires_grad:
        return
    sources = {
        **{n: t for n, t in leaves.items() if t.requires_grad},
        **{n: v for n, v in values.items() if v.requires_grad},
    }
    grads = torch.autograd.grad(loss, list(sources.values()), allow_unused=True)
    for name, theirs in zip(sources, grads, strict=True):
        ours = step.gradients.get(name)
        if (ours is None and theirs is None) or name not in step.gradients:
            continue
        shape = (ours if ours is not None else theirs).shape
        a = torch.zeros(shape, dtype=theirs.dtype) if ours is None else ours
        b = torch.zeros(shape, dtype=a.dtype) if theirs is None else theirs.reshape(shape)
        gauge.gradient(name, oracle, a, b)


def _ran(gauge: Gauge, run: Any, oracle: str) -> tuple[Mapping[str, Tensor], Any, str]:
    step = gauge.step
    leaves = _double(step.leaves, grad=True, held=_buffers(step))
    return run_wide(step.graph, leaves, {n: t.dtype for n, t in gauge.program.start.items()}, run, oracle)


def _eager(gauge: Gauge) -> None:
    """The gradient of the leaves by the user's own program, run eagerly: a custom backward counts here."""
    step = gauge.step
    leaves, loss, oracle = _ran(gauge, run_eagerly, EAGER)
    if loss is None or not loss.requires_grad:
        return
    wanted = {n: t for n, t in leaves.items() if t.requires_grad and step.gradients.get(n) is not None}
    if not wanted:
        return
    loss.backward()  # a reentrant checkpoint takes no autograd.grad
    for name, leaf in wanted.items():
        ours, theirs = step.gradients[name], leaf.grad
        assert ours is not None
        gauge.gradient(name, oracle, ours, torch.zeros_like(leaf) if theirs is None else theirs)


def _training(program: Program, steps: Sequence[Step], tally: Tally) -> None:
    """Train the user's own program with torch.optim from the same start, and compare every update."""
    foreign = any(rule.rule.variant_of for rule in program.rules)  # torch.optim has another form of it
    if program.optimizer is None or not steps or program.graph.loss is None or foreign:
        return
    narrow = any(t.dtype in (torch.float32, torch.float16, torch.bfloat16) for t in program.start.values())
    oracle = OWN_DTYPE if narrow else "torch.optim"
    start = {n: t.clone() for n, t in program.start.items()} if narrow else _double(program.start, grad=False)
    trained = {n: torch.nn.Parameter(start[n].clone()) for n in program.trained}
    rule, reach = program.witnesses(trained), RunReach(program, unit_of(oracle, tally), len(steps))
    for step in steps:

        def closure(step: Step = step) -> Any:
            draws = {n.name: step.leaves[n.name] for n in step.graph.of_role("draw")}
            rule.zero_grad()
            loss = run_eagerly(step.graph, {**program.leaves_for({**start, **trained}, step.sample), **draws})
            if loss is not None and loss.requires_grad:
                loss.backward()
            return loss

        closure()
        rule.step(closure)
        least = GRADIENT_FLOOR * scale_of(p.detach() for p in trained.values())
        for name, parameter in trained.items():
            _after(tally, reach, step.number, name, oracle, step.parameters[name].after, parameter.detach(), least)
        for name, ours in step.buffers.items():  # the running statistics, which torch's own modules write in place
            _after(tally, reach, step.number, name, oracle, ours, start[name], 0.0)


def _after(
    tally: Tally, reach: RunReach, number: int, name: str, oracle: str, ours: Tensor, theirs: Tensor, least: float
) -> None:
    compare(tally, f"{name} after the update", oracle, ours, theirs, least, lambda: reach(number, name))


# --- 50-digit arithmetic ------------------------------------------------------------------------------------------------
def _joint_nodes(program: Program, step: Step) -> tuple[Node, ...]:
    joint = program.joint(step.graph)
    return joint.graph.nodes if joint else step.graph.nodes


def _leaves_in_digits(step: Step, graph: Graph, program: Program | None = None) -> dict[Node, Array]:
    found = {}
    for node in graph.nodes:
        if node.is_leaf and node.role != "constant":
            raw = _exact_leaf(program, step, node) if program is not None else None
            raw = step.leaves[node.name].tolist() if raw is None else raw
            found[node] = (
                digits.array(raw, node.shape) if node.is_float else np.array(raw, dtype=object).reshape(node.shape)
            )
    return found


def _exact_leaf(program: Program, step: Step, node: Node) -> Any:
    """The exact numbers of a leaf in an exact step, so that the other reading starts from them too."""
    if f"before.{node.name}" in step.exact:
        return step.exact[f"before.{node.name}"].tolist()
    given = (program.exact or {}).get(node.name)
    return None if given is None or step.sample is not None else given.tolist()


def _tensor(array: Array) -> Tensor:
    return torch.tensor([float(x) for x in array.reshape(-1)], dtype=torch.float64).reshape(array.shape)


def _fifty_digits(gauges: Sequence[Gauge], tally: Tally, thorough: bool, seed: int) -> None:
    readings = []
    largest = max((scale_of([*g.step.leaves.values(), *g.step.values.values()]) for g in gauges), default=1.0)
    context.dps = DIGITS + min(int(math.log10(max(largest, 1.0))), 400)  # a sine of 1e20 needs twenty digits more
    for gauge in gauges:
        program, step = gauge.program, gauge.step
        joint = program.joint(step.graph)
        whole = joint.graph if joint else step.graph
        arrays = digits.run(whole, _leaves_in_digits(step, whole, program if step.exact else None))
        _compare_reading(gauge, joint.gradients if joint else {}, arrays)
        _compare_update(program, step, tally)
        readings.append((gauge, arrays))
    if gauges and gauges[0].program.graph.loss is not None:
        compare_differences(readings, tally, _DIFFERENCES_BUDGET[thorough], seed)


def _compare_reading(gauge: Gauge, gradients: Mapping[Node, Node | None], arrays: Mapping[Node, Array]) -> None:
    step = gauge.step
    for node in step.graph.nodes:
        if node.name in step.values and node.is_float:
            gauge.value(node.name, "50 digits", step.values[node.name], _tensor(arrays[node]))
        delta, ours = gradients.get(node), step.gradients.get(node.name)
        if delta is not None and ours is not None:
            gauge.gradient(node.name, "50 digits", ours, _tensor(arrays[delta]))


def _compare_update(program: Program, step: Step, tally: Tally) -> None:
    for name, record in step.parameters.items():
        rule = program.rule_of(name) if name in program.trained else None
        if record.gradient is None or rule is None or rule.rule.rounds or rule.rule.asks:
            continue  # bfloat16 on the way, or a line search: nothing that 50 digits would repeat
        graph = rule.graph(tuple(record.before.shape), step.number, str(record.before.dtype).removeprefix("torch."))
        given = {"w": record.before, "g": record.gradient, **step.state_before[name]}
        inner = [n for n in graph.nodes if n.is_leaf and n.role != "constant"]
        arrays = digits.run(graph, {n: digits.array(given[n.name].tolist(), n.shape) for n in inner})
        oracle = "50 digits" if record.after.dtype == torch.float64 else ROUNDING
        after = _tensor(arrays[graph.outputs[0]])
        compare(tally, f"{name} after the update", oracle, record.after, after, 0.0, lambda: None)
