"""Analyses that a problem may ask for beside its record: optimum, curvature, uncleared gradients, the fit, a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...differentiate import differentiate
from ...document.blocks import Block, Derivation, Equation, Paragraph, Plot, Section, Series, Table
from ...document.math import Num, Rel, Sym, Words
from ...domains.numbers import evaluate
from ...graph import Builder, Graph, Node
from ...result import plain
from ..answer import Answer
from ..prepare import Prepared
from ..program import Program, run_eagerly, run_original
from ..trace import Step, run
from ..verdicts import TOLERANCE, Evidence

__all__ = ["compare", "curvature", "fit", "gradient", "hessian", "loss_at", "optimum", "uncleared"]

MOST_PARAMETERS = 60


# --- the loss as a function of the trained parameters ---------------------------------------------------------------------
def _leaves(graph: Graph, values: Mapping[str, Tensor]) -> dict[Node, Tensor]:
    return {n: values[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}


def loss_at(program: Program, parameters: Mapping[str, Tensor]) -> float:
    """The loss on all samples at the given parameters."""
    assert program.graph.loss is not None
    values = evaluate(program.graph, _leaves(program.graph, {**program.start, **parameters}))
    return float(values[program.graph.loss])


def _flat(program: Program, values: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([values[n].reshape(-1) for n in program.trained])


def _unflat(program: Program, vector: Tensor) -> dict[str, Tensor]:
    found, start = {}, 0
    for name in program.trained:
        shape = program.start[name].shape
        found[name] = vector[start : start + shape.numel()].reshape(shape)
        start += shape.numel()
    return found


def gradient(program: Program, parameters: Mapping[str, Tensor]) -> Tensor:
    """The gradient of the loss with respect to all trained parameters, as one vector."""
    joint = program.joint(program.graph)
    assert joint is not None
    values = evaluate(joint.graph, _leaves(joint.graph, {**program.start, **parameters}))
    return torch.cat(
        [_or_zero(joint.gradients[program.graph.by_name[n]], values, program.start[n]) for n in program.trained]
    )


def _or_zero(node: Node | None, values: Mapping[Node, Tensor], like: Tensor) -> Tensor:
    return torch.zeros(like.numel(), dtype=like.dtype) if node is None else values[node].reshape(-1)


def hessian(program: Program, parameters: Mapping[str, Tensor]) -> Tensor:
    """The matrix of second derivatives, by differentiating the joint graph once more, one row at a time."""
    joint = program.joint(program.graph)
    assert joint is not None
    rows = []
    for name in program.trained:
        delta = joint.gradients[program.graph.by_name[name]]
        for i in range(program.start[name].numel()):
            rows.append(_row(program, joint.graph, delta, i, parameters))
    return torch.stack(rows)


def _row(program: Program, graph: Graph, delta: Node | None, i: int, parameters: Mapping[str, Tensor]) -> Tensor:
    if delta is None:
        return torch.zeros(sum(program.start[n].numel() for n in program.trained), dtype=torch.float64)
    wrt = [graph.by_name[n] for n in program.trained]
    if (delta, i) not in program._seconds:
        builder = Builder(graph.nodes)
        entry = builder.emit("select", builder.emit("reshape", delta, shape=(delta.size,)), dim=0, index=i)
        program._seconds[delta, i] = differentiate(Graph(tuple(builder.nodes), (entry,)), of=entry, wrt=wrt)
    second = program._seconds[delta, i]
    values = evaluate(second.graph, _leaves(second.graph, {**program.start, **parameters}))
    return torch.cat([_or_zero(second.gradients[w], values, program.start[w.name]) for w in wrt])


# --- the analyses -----------------------------------------------------------------------------------------------------------
def _small(program: Program) -> bool:
    count = sum(program.start[n].numel() for n in program.trained)
    return program.graph.loss is not None and 0 < count <= MOST_PARAMETERS


def _is_quadratic(program: Program) -> tuple[bool, Tensor]:
    """Whether the loss is a quadratic function of the parameters: its Hessian is the same at three places, and the gradient
    changes between them as it says (that of a sum of absolute values jumps instead).
    """
    start = _flat(program, program.start)
    here, slope = hessian(program, program.start), gradient(program, program.start)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        step = torch.randn(start.shape, generator=generator, dtype=start.dtype)
        there = _unflat(program, start + step)
        if (hessian(program, there) - here).abs().max() > 1e-9 * max(float(here.abs().max()), 1e-300):
            return False, here
        found = gradient(program, there)
        if (found - slope - here @ step).abs().max() > 1e-8 * max(
            float(found.abs().max()), float(slope.abs().max()), 1e-300
        ):
            return False, here
    return True, here


def optimum(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """The minimum of a quadratic loss, solved from gradient = 0, and confirmed by putting it in."""
    program = prepared.program
    if not _small(program):
        return Answer(remarks=("The optimum is solved for up to 60 parameters and a loss that is one number.",))
    quadratic, matrix = _is_quadratic(program)
    if not quadratic:
        from .minimum import lowest_minimum

        return lowest_minimum(prepared, steps)
    origin = _unflat(program, torch.zeros_like(_flat(program, program.start)))
    at_zero = gradient(program, origin)
    solved = torch.linalg.lstsq(matrix, -at_zero.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    best = _unflat(program, solved)
    loss = loss_at(program, best)
    scale = float(at_zero.abs().max()) or 1.0
    evidence = (
        _evidence(
            "optimum", "substitution: our gradient there is 0", float(gradient(program, best).abs().max()) / scale
        ),
        _evidence(
            "optimum",
            "autograd: torch's gradient there is 0",
            float(_torch_gradient(program, best).abs().max()) / scale,
        ),
    )
    names = {n: prepared.answer_names.get(n, n) for n in program.trained}
    assert program.graph.loss is not None
    loss_name = prepared.answer_names.get(program.graph.loss.name, program.graph.loss.name)
    answer = {**{names[n]: plain(_scalar(t)) for n, t in best.items()}, loss_name: loss}
    equations = tuple(Equation(Sym(names[n], sup=("*",)), (_numbers(t),)) for n, t in best.items())
    text = Paragraph(
        (
            "The loss is a quadratic function of the parameters (its second derivatives are the same everywhere), so "
            "setting the gradient to zero gives linear equations. Their solution is the least-squares optimum:",
        )
    )
    flat = float(torch.linalg.eigvalsh((matrix + matrix.T) / 2).min()) <= 1e-12 * float(matrix.abs().max())
    remarks = (
        (
            "The optimum is not unique: the loss does not change along a direction of the parameters; "
            "the smallest solution is shown.",
        )
        if flat
        else ()
    )
    blocks = (
        Section(
            "The optimum",
            (text, Derivation((*equations, Equation(Sym(loss_name, sup=("*",)), (Num(loss),))))),
            "result",
            "optimum",
        ),
    )
    return Answer({"optimum": answer}, blocks, evidence, remarks)


def _torch_gradient(program: Program, at: Mapping[str, Tensor]) -> Tensor:
    leaves = {n: t.detach().clone().requires_grad_(n in program.trained) for n, t in {**program.start, **at}.items()}
    assert program.graph.loss is not None
    loss = run_eagerly(program.graph, leaves)
    assert loss is not None
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, [leaves[n] for n in program.trained])])


def _evidence(what: str, oracle: str, error: float, count: int = 1) -> Evidence:
    return Evidence(what, oracle, error <= TOLERANCE, error, count, count)


def _scalar(tensor: Tensor) -> Any:
    return tensor.reshape(()) if tensor.numel() == 1 else tensor


def _numbers(tensor: Tensor) -> Any:
    from ..writing.written import matrix_of

    return matrix_of(tensor)


def curvature(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """The eigenvalues of the Hessian and what they say about the learning rate of plain gradient descent."""
    program = prepared.program
    if not _small(program):
        return Answer(remarks=("The curvature is computed for up to 60 parameters and a loss that is one number.",))
    quadratic, matrix = _is_quadratic(program)
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    largest = float(values.max())
    answers: dict[str, Any] = {"hessian_eigenvalues": values.tolist()}
    where = "everywhere (the loss is quadratic)" if quadratic else "at the start"
    lines = [
        f"The eigenvalues of the matrix of second derivatives, the same {where}:"
        if quadratic
        else "The eigenvalues of the matrix of second derivatives at the start:"
    ]
    rows = tuple((Num(i + 1), Num(float(v)), Num(2 / float(v)) if v > 0 else None) for i, v in enumerate(values))
    table = Table((("no.",), ("eigenvalue λ",), ("2/λ",)), rows, f"Curvature {where}", (1, 2))
    blocks: list[Block] = [Paragraph((lines[0],)), table]
    if not quadratic and float(values.min()) < 0 < largest:
        blocks.append(Paragraph((_INDEFINITE,)))
    if largest > 0:
        answers["lr_limit"] = 2 / largest
        blocks.append(
            Paragraph(
                (
                    "Plain gradient descent (no momentum) multiplies the error along an eigenvector by ",
                    Words("1 - lr λ"),
                    " in each update. It converges only if this stays within ±1 for every eigenvalue: ",
                    Rel("<", Sym("lr"), Num(2 / largest)),
                    ".",
                )
            )
        )
        blocks += _rates(prepared, values)
    found = [_evidence("second derivatives", "autograd", _hessian_error(program, matrix), matrix.numel())]
    if largest > 0 and largest >= float(values.abs().max()):
        from .stable_rates import stable_rates

        answers["stable_rates"], more, agreeing = stable_rates(program, largest)
        blocks, found = [*blocks, *more], [*found, *agreeing]
    section = Section("Curvature and the learning rate", tuple(blocks), "result", "curvature")
    return Answer(answers, (section,), tuple(found))


_INDEFINITE = (
    "The signs differ: the matrix is indefinite. Along the directions with a negative eigenvalue the loss bends downwards, "
    "so the start is in no valley: an error there does not shrink but grows, a Newton step may lead towards a saddle or "
    "a top, and no learning rate can be read off there that stays right. The limit below holds near the start only."
)


def _rates(prepared: Prepared, values: Tensor) -> list[Block]:
    rule = prepared.program.optimizer
    if rule is None or rule.rule.name != "sgd" or rule.hyper["momentum"]:
        return []
    lr, steps = float(rule.hyper["lr"]), prepared.program.steps
    rows = tuple((Num(float(v)), Num(1 - lr * float(v)), _left(1 - lr * float(v), steps)) for v in values)
    columns = (("λ",), ("factor per update",), (f"left after {steps} updates",))
    return [Table(columns, rows, f"What is left of the error along each eigenvector with lr = {lr:g}", (0, 1, 2))]


def _left(factor: float, steps: int) -> Num | str:
    """What is left of an error after so many updates, unless it is past all numbers."""
    return Num(factor**steps) if abs(factor) <= 1 or steps * math.log10(abs(factor)) < 300 else "more than 10^300"


def _hessian_error(program: Program, ours: Tensor) -> float:
    """Against torch.autograd's own second derivatives of the original program."""
    names = list(program.trained)

    def loss(vector: Tensor) -> Tensor:
        leaves = {**program.start, **_unflat(program, vector)}
        assert program.graph.loss is not None
        return run_original(program.graph, leaves)[program.graph.loss.name].reshape(())

    theirs = torch.autograd.functional.hessian(loss, _flat(program, program.start).clone())
    assert isinstance(theirs, Tensor) and names
    return float((ours - theirs).abs().max() / max(float(theirs.abs().max()), 1e-300))


def uncleared(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """The same run when the old gradients are not cleared: each update uses the sum of all gradients so far."""
    program = prepared.program
    if program.optimizer is None or not steps:
        return Answer()
    twin = replace(program, accumulate=True, _joints={}, _single=None)
    records, _ = run(twin)
    losses = [float(s.loss) for s in records if s.loss is not None]
    theirs = _torch_losses(twin, len(records))
    error = max((abs(a - b) / max(abs(b), 1e-12) for a, b in zip(losses, theirs, strict=True)), default=0.0)
    normal = [float(s.loss) for s in steps if s.loss is not None]
    at = tuple(float(i + 1) for i in range(max(len(losses), len(normal))))
    plot = Plot(
        (Series("cleared", at[: len(normal)], tuple(normal)), Series("not cleared", at[: len(losses)], tuple(losses))),
        "update",
        "loss",
        ("The loss with and without clearing the gradients.",),
        "Two curves of the loss over the updates",
        log_y=min(losses + normal) > 0,
    )
    text = Paragraph(
        (
            "Without clearing (",
            Words("zero_grad"),
            "), each update uses the sum of all gradients so far: ",
            Sym("g", sub=("1",)),
            Words(" + ... + "),
            Sym("g", sub=("k",)),
            f". The steps keep growing while the slope points the same way, like momentum without "
            f"friction: before update {len(losses)} the loss is ",
            Num(losses[-1]),
            " instead of ",
            Num(normal[-1]),
            f"; its smallest value was {min(losses):.6g}, at update {losses.index(min(losses)) + 1}.",
        )
    )
    return Answer(
        {"uncleared": {"losses": losses}},
        (Section("If the gradients are not cleared", (text, plot), "update", "uncleared"),),
        (_evidence("losses without clearing", "torch.optim without zero_grad", error, len(losses)),),
    )


def _torch_losses(program: Program, count: int) -> list[float]:
    leaves = {n: t.detach().clone() for n, t in program.start.items()}
    trained = {n: torch.nn.Parameter(leaves[n]) for n in program.trained}
    assert program.optimizer is not None and program.graph.loss is not None
    rule, losses = program.optimizer.torch(list(trained.values())), []
    order = program.batches() * (count // len(program.batches()) + 1)
    for sample in order[:count]:
        graph = program.graph_for(sample)
        assert graph.loss is not None
        loss = run_original(graph, program.leaves_for({**leaves, **trained}, sample))[graph.loss.name]
        loss.backward()
        rule.step()
        losses.append(float(loss.detach()))
    return losses


def fit(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """A plot of the points and the fitted curve, where one number is predicted from one number."""
    program, graph = prepared.program, prepared.program.graph
    from ..remarks import compared

    pairs = compared(graph)
    inputs = [
        n
        for n in graph.of_role("input", "target")
        if program.start[n.name].numel() == program.start[n.name].shape[0:1].numel() > 1
    ]
    xs = [n for n in inputs if not any(n is t for _, t in pairs)]
    if len(xs) != 1 or not pairs or not steps:
        return Answer(
            remarks=("There is no plot of the fit: it needs one input and one target with one number per sample.",)
        )
    y, t = pairs[0]
    x = xs[0]
    after = {n: p.after for n, p in steps[-1].parameters.items()}
    values = evaluate(graph, _leaves(graph, {**program.start, **after}))
    order = program.start[x.name].reshape(-1).argsort()
    xv, tv, yv = (
        tuple(v.reshape(-1)[order].tolist()) for v in (program.start[x.name], program.start[t.name], values[y])
    )
    plot = Plot(
        (Series("data", xv, tv, "points"), Series(f"after {len(steps)} updates", xv, yv)),
        x.name,
        t.name,
        ("The points and the fitted line.",),
        f"{len(xv)} points and the curve predicted after {len(steps)} updates",
    )
    return Answer(blocks=(Section("The fit", (plot,), "result", "fit"),))


def compare(prepared: Prepared, steps: Sequence[Step], other: str) -> Answer:
    """Why this run's result differs from another problem's: where each started and how far each got."""
    from ..solve import Solution, solve

    theirs = solve(other)
    program = prepared.program
    if not steps or not _small(program) or not isinstance(theirs, Solution) or not theirs.steps:
        return Answer()
    ours = {
        prepared.answer_names.get(n, n): (p0.before, p1.after)
        for (n, p0), p1 in zip(steps[0].parameters.items(), steps[-1].parameters.values(), strict=True)
    }
    that = {
        n: (theirs.steps[0].parameters[n].before, theirs.steps[-1].parameters[n].after)
        for n in theirs.steps[0].parameters
    }
    best = optimum(prepared, steps).answers.get("optimum", {})
    rows = tuple(_compare_row(n, ours[n], that[n], best.get(n)) for n in ours if n in that)
    if not rows:
        return Answer()
    why = _why(prepared, steps, theirs, ours, that, best)
    columns = (("",), ("start here",), ("start there",), ("result here",), ("result there",), ("optimum",))
    table = Table(
        columns,
        rows,
        f"This run ({len(steps)} updates) and {other} ({len(theirs.steps)} updates)",
        (1, 2, 3, 4, 5),
    )
    return Answer(
        {"why": why},
        (Section("Does the result differ, and why?", (table, Paragraph((why,))), "result", "compare"),),
    )


def _compare_row(name: str, ours: Any, that: Any, best: Any) -> tuple[Any, ...]:
    numbers = [Num(float(v)) for v in (ours[0], that[0], ours[1], that[1])]
    return (Sym(name), *numbers, Num(best) if isinstance(best, float) else None)


def _distance(result: Mapping[str, Any], best: Mapping[str, Any]) -> float:
    return float(sum((float(v[1]) - best[n]) ** 2 for n, v in result.items() if isinstance(best.get(n), float)) ** 0.5)


def _why(prepared: Prepared, steps: Sequence[Step], theirs: Any, ours: Any, that: Any, best: Mapping[str, Any]) -> str:
    same_start = all(torch.equal(ours[n][0].reshape(-1), that[n][0].reshape(-1)) for n in ours if n in that)
    gap = max(abs(float(ours[n][1]) - float(that[n][1])) for n in ours if n in that)
    here, there = _distance(ours, best), _distance(that, best)
    parts = [f"The results differ by up to {gap:.4g}." if gap > 1e-6 else "The results agree to 1e-6."]
    parts.append(
        "Both runs start at the same place."
        if same_start
        else "The starts differ: this run starts at random, the other does not."
    )
    if best and min(here, there) > 1e-3:
        parts.append(
            f"And neither run has converged: this one is {here:.4g} away from the optimum, the other {there:.4g}; "
            "where a run stands then still depends on where it began."
        )
    slow = _slowest(prepared, len(steps))
    return " ".join(parts + ([slow] if slow else []))


def _slowest(prepared: Prepared, updates: int) -> str:
    rule = prepared.program.optimizer
    if rule is None or rule.rule.name != "sgd" or rule.hyper["momentum"]:
        return ""
    values = torch.linalg.eigvalsh(hessian(prepared.program, prepared.program.start))
    small = float(values.min())
    left = (1 - float(rule.hyper["lr"]) * small) ** updates
    return (
        f"Along the flattest direction (curvature {small:.4g}) each update keeps {1 - float(rule.hyper['lr']) * small:.6f} of the error, "
        f"so {100 * left:.1f} % of it is left after {updates} updates."
    )
