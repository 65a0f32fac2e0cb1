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
from ..program import Program, run_eagerly, run_original
from ..trace import Step
from ..verdicts import EAGER, FORMULAS, GRADIENT_FLOOR, OWN_DTYPE, ROUNDING, VALUE_FLOOR, Evidence
from .directions import large_network
from .local import windowed_work
from .own_dtype import run_wide
from .tally import Tally

__all__ = ["confirm"]

_DIGITS_BUDGET = 1_500_000  # scalar operations in 50 digits, about 3 microseconds each
_DIFFERENCES_BUDGET = {True: 600_000, False: 120_000}
_CURVED = 1e-10  # slopes a step of 1e-16 apart differ by less than this unless the curvature is a million


def confirm(program: Program, steps: Sequence[Step], *, thorough: bool, seed: int = 0) -> tuple[Evidence, ...]:
    """Obtain the numbers of a record again by independent means.

    Args:
        program: what was run.
        steps: the record.
        thorough: True looks at every number where a budget allows it; False at a sample.
        seed: of the sample.
    """
    tally = Tally(max(_spacing(program.start.values()), _inside(program.graph)))
    finite = [s for s in steps if all(bool(torch.isfinite(t).all()) for t in s.values.values())]
    chosen = [_in_float64(program, s, tally) for s in (finite if thorough else _some(finite, 3))]
    for step in chosen:
        _autograd(program, step, tally)
    _training(program, finite, tally)
    if program.graph.surrogates:
        return (*tally.results(), *_by_the_forward(program, chosen, thorough, seed))
    _by_other_means(program, chosen, tally, thorough, seed)
    return tally.results()


def _by_other_means(program: Program, chosen: Sequence[Step], tally: Tally, thorough: bool, seed: int) -> None:
    if opaque := [n for s in chosen[:1] for n in s.graph.facts["opaque_nodes"]]:
        tally.rows[f"what comes through {', '.join(opaque)}", "50 digits"] = [None, 1, 1, verdicts.OPAQUE]
    if any(n.is_complex for n in program.graph.nodes):
        return  # the other ways read real numbers alone
    if not opaque and sum(_work(_joint_nodes(program, s)) for s in chosen) <= _DIGITS_BUDGET:
        _fifty_digits(program, chosen, tally, thorough, seed)
    else:
        for step in chosen[:1]:
            large_network(program, step, tally.add, seed)


def _by_the_forward(program: Program, chosen: Sequence[Step], thorough: bool, seed: int) -> list[Evidence]:
    """Of the user's own backward passes there is no formula; the derivatives of the forward pass are confirmed instead."""
    tally = Tally()
    forward = program.by_the_forward
    steps = [replace(s, gradients=_derivatives(forward, s)) for s in chosen]
    _by_other_means(forward, steps, tally, thorough, seed)
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
    return max((torch.finfo(t.dtype).eps for t in tensors if _is_number(t)), default=0.0)


def _inside(graph: Graph) -> float:
    """The same for the dtypes that the program itself casts to."""
    casts = {n.dtype for n in graph.nodes if n.op.name == "cast" and n.dtype in ("float16", "bfloat16")}
    return max((torch.finfo(getattr(torch, name)).eps for name in casts), default=0.0)


def _some(steps: list[Step], count: int) -> list[Step]:
    return steps if len(steps) <= count else [steps[0], steps[len(steps) // 2], steps[-1]]


# --- a record in the model's own dtype -------------------------------------------------------------------------------------
def _in_float64(program: Program, step: Step, tally: Tally) -> Step:
    """The same step by the textbook's formulas in float64, which the other ways are compared with; the record against it."""
    already = all(t.dtype == _wide(t).dtype for t in step.leaves.values() if _is_number(t))
    if already and not program.in_kernels:
        return step
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
    _compare_rounding(step, values, grads, tally, FORMULAS if already else ROUNDING)
    records = {n: replace(p, before=_wide(p.before), gradient=grads[n]) for n, p in step.parameters.items()}
    return replace(step, leaves=leaves, values=values, gradients=grads, parameters=records)


def _compare_rounding(
    step: Step, values: Mapping[str, Tensor], grads: Mapping[str, Tensor | None], tally: Tally, oracle: str
) -> None:
    """The record, read in torch's kernels, against the textbook's formulas in float64."""
    value_scale, grad_scale = _scale(values.values()), _scale(grads.values())
    noise = min(0.5, 1e4 * tally.eps) if oracle == ROUNDING else 0.0  # what cancels leaves rounding errors behind
    for name, value in step.values.items():
        if _is_number(value):
            tally.add(
                f"value of {name}",
                oracle,
                _error(value, values[name], value_scale, max(VALUE_FLOOR, noise)),
                value.numel(),
            )
    for name, grad in step.gradients.items():
        wide = grads[name]
        if grad is not None and wide is not None:
            error = _error(grad, wide, grad_scale, max(GRADIENT_FLOOR, noise))
            tally.add(f"gradient of {name}", oracle, error, grad.numel())


def _is_number(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _wide(tensor: Tensor) -> Tensor:
    """In double precision."""
    return tensor.to(torch.complex128) if tensor.is_complex() else tensor.double()


# --- comparing ----------------------------------------------------------------------------------------------------------
def _scale(tensors: Iterable[Tensor | None]) -> float:
    sizes = [t.abs().max().item() for t in tensors if t is not None and t.numel() and _is_number(t)]
    return max(sizes, default=0.0)


def _error(ours: Tensor, theirs: Tensor, scale: float, floor: float = GRADIENT_FLOOR) -> float:
    """The largest difference, relative to the tensor's own size (or a share of the largest of its kind)."""
    if not ours.numel():
        return 0.0
    ours, theirs = _wide(ours), _wide(theirs)
    size = max(theirs.abs().max().item(), floor * scale, 1e-300)
    return (ours - theirs).abs().max().item() / size


def _buffers(step: Step) -> frozenset[str]:
    """Leaves that torch may refuse to differentiate, such as the class weights of a loss, and draws."""
    return frozenset(n.name for n in step.graph.of_role("buffer", "draw"))


def _double(leaves: Mapping[str, Tensor], grad: bool, held: frozenset[str] = frozenset()) -> dict[str, Tensor]:
    found = {}
    for name, tensor in leaves.items():
        wide = _wide(tensor.detach()) if _is_number(tensor) else tensor.detach()
        found[name] = wide.clone().requires_grad_(grad and name not in held and _is_number(wide))
    return found


# --- torch's own autograd on the user's own program -----------------------------------------------------------------------
def _autograd(program: Program, step: Step, tally: Tally) -> None:
    _eager(program, step, tally)
    leaves, values, oracle = _ran(program, step, run_original, "autograd")
    loss = None if step.graph.loss is None else values.get(step.graph.loss.name)
    value_scale, grad_scale = _scale(step.values.values()), _scale(step.gradients.values())
    for name, value in values.items():
        if name in step.values and _is_number(value):
            tally.add(
                f"value of {name}",
                oracle,
                _error(step.values[name], value.detach().reshape(step.values[name].shape), value_scale, VALUE_FLOOR),
                value.numel(),
            )
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
        tally.add(f"gradient of {name}", oracle, _error(a, b, grad_scale), b.numel())


def _ran(program: Program, step: Step, run: Any, oracle: str) -> tuple[Mapping[str, Tensor], Any, str]:
    leaves = _double(step.leaves, grad=True, held=_buffers(step))
    return run_wide(step.graph, leaves, {n: t.dtype for n, t in program.start.items()}, run, oracle)


def _eager(program: Program, step: Step, tally: Tally) -> None:
    """The gradient of the leaves by the user's own program, run eagerly: a custom backward counts here."""
    leaves, loss, oracle = _ran(program, step, run_eagerly, EAGER)
    if loss is None or not loss.requires_grad:
        return
    scale = _scale(step.gradients.values())
    wanted = {n: t for n, t in leaves.items() if t.requires_grad and step.gradients.get(n) is not None}
    if not wanted:
        return
    loss.backward()  # a reentrant checkpoint takes no autograd.grad
    for name, leaf in wanted.items():
        ours, theirs = step.gradients[name], leaf.grad
        assert ours is not None
        error = _error(ours, torch.zeros_like(leaf) if theirs is None else theirs, scale)
        tally.add(f"gradient of {name}", oracle, error, leaf.numel())


def _training(program: Program, steps: Sequence[Step], tally: Tally) -> None:
    """Train the user's own program with torch.optim from the same start, and compare every update."""
    foreign = any(rule.rule.variant_of for rule in program.rules)  # torch.optim has another form of it
    if program.optimizer is None or not steps or program.graph.loss is None or foreign:
        return
    narrow = any(t.dtype in (torch.float32, torch.float16, torch.bfloat16) for t in program.start.values())
    oracle = OWN_DTYPE if narrow else "torch.optim"
    start = {n: t.clone() for n, t in program.start.items()} if narrow else _double(program.start, grad=False)
    trained = {n: torch.nn.Parameter(start[n].clone()) for n in program.trained}
    rule = program.witnesses(trained)
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
        scale = _scale(p.detach() for p in trained.values())
        for name, parameter in trained.items():
            tally.add(
                f"{name} after the update",
                oracle,
                _error(step.parameters[name].after, parameter.detach(), scale),
                parameter.numel(),
            )
        _compare_buffers(step, start, oracle, tally)


def _compare_buffers(step: Step, theirs: Mapping[str, Tensor], oracle: str, tally: Tally) -> None:
    """The running statistics against those that torch's own modules have written in place."""
    for name, ours in step.buffers.items():
        error = _error(ours, theirs[name], _scale([theirs[name].double()]), VALUE_FLOOR)
        tally.add(f"{name} after the update", oracle, error, ours.numel())


# --- 50-digit arithmetic ------------------------------------------------------------------------------------------------
def _joint_nodes(program: Program, step: Step) -> tuple[Node, ...]:
    joint = program.joint(step.graph)
    return joint.graph.nodes if joint else step.graph.nodes


def _work(nodes: Iterable[Node]) -> int:
    """About how many scalar operations a reading takes."""
    return sum(_node_work(n) for n in nodes if not n.is_leaf)


def _node_work(node: Node) -> int:
    if node.op.name in ("matmul", "linear"):
        return node.size * node.inputs[0].shape[-1]
    if node.op.family in ("convolution", "pooling"):
        return windowed_work(node)
    return max(node.size, *(x.size for x in node.inputs), 1)


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


def _fifty_digits(program: Program, steps: Sequence[Step], tally: Tally, thorough: bool, seed: int) -> None:
    readings = []
    largest = max((_scale([*s.leaves.values(), *s.values.values()]) for s in steps), default=1.0)
    context.dps = DIGITS + min(int(math.log10(max(largest, 1.0))), 400)  # a sine of 1e20 needs twenty digits more
    for step in steps:
        joint = program.joint(step.graph)
        whole = joint.graph if joint else step.graph
        arrays = digits.run(whole, _leaves_in_digits(step, whole, program if step.exact else None))
        _compare_reading(step, joint.gradients if joint else {}, arrays, tally)
        _compare_update(program, step, tally)
        readings.append((step, arrays))
    if program.graph.loss is not None:
        _differences(readings, tally, _DIFFERENCES_BUDGET[thorough], seed)


def _compare_reading(
    step: Step, gradients: Mapping[Node, Node | None], arrays: Mapping[Node, Array], tally: Tally
) -> None:
    value_scale, grad_scale = _scale(step.values.values()), _scale(step.gradients.values())
    for node in step.graph.nodes:
        if node.name in step.values and node.is_float:
            tally.add(
                f"value of {node.name}",
                "50 digits",
                _error(step.values[node.name], _tensor(arrays[node]), value_scale, VALUE_FLOOR),
                node.size,
            )
        delta, ours = gradients.get(node), step.gradients.get(node.name)
        if delta is not None and ours is not None:
            tally.add(
                f"gradient of {node.name}",
                "50 digits",
                _error(ours, _tensor(arrays[delta]), grad_scale),
                node.size,
            )


def _compare_update(program: Program, step: Step, tally: Tally) -> None:
    for name, record in step.parameters.items():
        rule = program.rule_of(name) if name in program.trained else None
        if record.gradient is None or rule is None or rule.rule.rounds or rule.rule.asks:
            continue  # bfloat16 on the way, or a line search: nothing that 50 digits would repeat
        graph = rule.graph(tuple(record.before.shape), step.number, str(record.before.dtype).removeprefix("torch."))
        given = {"w": record.before, "g": record.gradient, **step.state_before[name]}
        inner = [n for n in graph.nodes if n.is_leaf and n.role != "constant"]
        arrays = digits.run(graph, {n: digits.array(given[n.name].tolist(), n.shape) for n in inner})
        error = _error(record.after, _tensor(arrays[graph.outputs[0]]), _scale([record.after]))
        oracle = "50 digits" if record.after.dtype == torch.float64 else ROUNDING
        tally.add(f"{name} after the update", oracle, error, record.after.numel())


# --- central differences ------------------------------------------------------------------------------------------------
def _descendants(graph: Graph, node: Node) -> tuple[Node, ...]:
    """What has to be computed again when ``node`` changes."""
    touched = {node}
    for other in graph.nodes:
        if other.op.name != "stop_gradient" and any(x in touched for x in other.inputs):
            touched.add(other)
    return tuple(n for n in graph.nodes if n in touched and n is not node)


def _loss_at(
    graph: Graph,
    later: Sequence[Node],
    arrays: dict[Node, Array],
    node: Node,
    place: tuple[int, ...],
    value: Any,
) -> Any:
    changed = arrays[node].copy()
    changed[place] = value
    fresh: dict[Node, Array] = {node: changed}
    for other in later:
        fresh[other] = digits.apply(other, [fresh[x] if x in fresh else arrays[x] for x in other.inputs])
    assert graph.loss is not None
    return fresh.get(graph.loss, arrays[graph.loss]).reshape(-1)[0]


def _slopes(
    graph: Graph, later: Sequence[Node], arrays: dict[Node, Array], node: Node, place: tuple[int, ...]
) -> tuple[Any, Any]:
    """The slopes of the loss to the left and to the right."""
    assert graph.loss is not None
    x, here = arrays[node][place], arrays[graph.loss].reshape(-1)[0]
    h = context.mpf(10) ** -16 * max(1, abs(x))
    right = _loss_at(graph, later, arrays, node, place, x + h)
    left = _loss_at(graph, later, arrays, node, place, x - h)
    return (here - left) / h, (right - here) / h


def _differences(readings: Sequence[tuple[Step, dict[Node, Array]]], tally: Tally, budget: int, seed: int) -> None:
    plan, total = _plan(readings, budget, seed)
    for (index, node), places in plan.items():
        step, arrays = readings[index]
        later = _descendants(step.graph, node)
        _check_entries(step, later, arrays, node, places, tally, total[node.name])


def _plan(
    readings: Sequence[tuple[Step, dict[Node, Array]]], budget: int, seed: int
) -> tuple[dict[Any, list[Any]], dict[str, int]]:
    """Which entries of which gradients to look at, within the budget: all of them, or a random sample."""
    tasks: list[Any] = []
    total: dict[str, int] = {}
    for index, (step, _) in enumerate(readings):
        for node in step.graph.nodes:
            if step.gradients.get(node.name) is not None and node.role != "target":
                cost = 2 * max(_work(_descendants(step.graph, node)), 1)
                tasks += [(index, node, place, cost) for place in np.ndindex(*node.shape)]
                total[node.name] = total.get(node.name, 0) + node.size
    order = (
        np.random.default_rng(seed).permutation(len(tasks)) if sum(t[3] for t in tasks) > budget else range(len(tasks))
    )
    plan: dict[Any, list[Any]] = {}
    spent = 0
    for i in order:
        index, node, place, cost = tasks[i]
        if spent + cost <= budget or not plan:
            plan.setdefault((index, node), []).append(place)
            spent += cost
    return plan, total


def _check_entries(
    step: Step,
    later: Sequence[Node],
    arrays: dict[Node, Array],
    node: Node,
    places: Sequence[tuple[int, ...]],
    tally: Tally,
    total: int,
) -> None:
    ours, worst, seen = step.gradients[node.name], 0.0, 0
    assert ours is not None
    size = max(_scale([ours]), GRADIENT_FLOOR * _scale(step.gradients.values()), 1e-300)
    for place in places:
        left, right = _slopes(step.graph, later, arrays, node, place)
        if abs(right - left) > max(1e-7 * max(abs(left), abs(right)), _CURVED):
            tally.kink(
                f"gradient of {node.name}",
                "differences",
                f"update {step.number}, entry {list(place)}: a kink, with slope {float(left):.4g} to the left and "
                f"{float(right):.4g} to the right; recorded {float(ours[place]):.4g}",
            )
            continue
        worst, seen = (
            max(worst, abs(float((left + right) / 2 - context.mpf(float(ours[place])))) / size),
            seen + 1,
        )
    if seen:
        tally.add(f"gradient of {node.name}", "differences", worst, seen, 0)
        tally.rows[f"gradient of {node.name}", "differences"][2] = total
