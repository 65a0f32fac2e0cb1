"""The page about memory: what is redundant, what computing it again costs, the plan before and after, and billions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...document.blocks import (
    Block,
    Derivation,
    Equation,
    Items,
    Paragraph,
    Plot,
    Section,
    Series,
    Table,
)  # fmt: skip
from ...document.math import Call, Div, Function, Num, Pow, Sym
from ...domains.bytes import spoken_bytes
from .billions import Remedy, Shape, spoken
from .measure import Measurement, Run
from .memory import Memory, living_table, thinned
from .plan import Plan

if TYPE_CHECKING:
    from .exercise import Point

__all__ = ["curve_section", "pages"]

SQRT = Function("sqrt", "sqrt", r"\sqrt")


def pages(
    source: Memory,
    plan: Plan,
    measured: Measurement | None,
    runs: Mapping[int, Run],
    transformer: tuple[Sequence[Remedy], Shape],
) -> tuple[Section, ...]:
    """The sections of the page, in the order of the question; the last is about billions of parameters."""
    return (
        _needs(source, runs.get(0)),
        _redundant(),
        _price(),
        _applied(plan, measured),
        _billions(*transformer),
    )


def _needs(source: Memory, run: Run | None) -> Section:
    rows = tuple(
        (kind, spoken_bytes(size), f"{100 * size / source.peak_bytes:.1f} %") for kind, size in source.breakdown.items()
    )
    text = (
        f"One training step needs {spoken_bytes(source.peak_bytes)} at most, in {source.when}. The first step needs "
        f"{spoken_bytes(source.first_step_peak_bytes)}: an optimizer with state makes it only at the end of that step. The "
        "peak is not the sum of everything that is ever made: gradients appear while activations go."
    )
    return Section(
        "What a step needs",
        (
            Paragraph((text,)),
            Table((("kind",), ("size",), ("share",)), rows, "What is live at the peak"),
            *living_table(source.live_at_peak, 6),
            _timeline(source, run),
        ),
        "forward",
        "needs",
    )


def _timeline(source: Memory, run: Run | None) -> Plot:
    """Live memory against the bytes allocated so far, a clock that the prediction and the measurement share."""
    series = [_predicted(source)]
    if run is not None:
        kept = thinned([float(v) for v in run.live])
        x, y = tuple(run.allocated[i] / 1e6 for i in kept), tuple(run.live[i] / 1e6 for i in kept)
        series.append(Series("measured", x, y, "points"))
    text = (
        "Memory over one step: it rises in the forward pass, and falls in the backward pass as activations are used up."
    )
    return Plot(tuple(series), "MB allocated since the step began", "live MB", (text,), text)


def _predicted(source: Memory) -> Series:
    line = source.record.timeline
    span = line.span(2)
    born = [0] * len(line.instants)
    for s in line.storages:
        if s.birth in span:
            born[s.birth] += s.bytes
    clock, xs, ys = 0, [], []
    for i in span:
        clock += born[i] + line.instants[i].scratch
        xs.append(clock / 1e6)
        ys.append(line.live[i] / 1e6)
    kept = thinned(ys)
    return Series("predicted", tuple(xs[i] for i in kept), tuple(ys[i] for i in kept))


def _redundant() -> Section:
    items: tuple[tuple[Any, ...], ...] = (
        (
            "Activations. Every z that the forward pass stores for the backward pass is a function of the input and the "
            "weights, which are there anyway: it can be computed again when it is needed. This is what a checkpoint does.",
        ),
        (
            "The value before an activation function, where the value after it says enough. With z = f(s): sigmoid has f'(s) = "
            "z(1 - z), tanh has f'(s) = 1 - z², ReLU has f'(s) = [z > 0]. So s need not be kept, only z, which the next "
            "layer keeps for its weight gradient in any case.",
        ),
        (
            "Gradients. An update needs the gradient of one parameter at a time. If each parameter is updated as soon as its gradient "
            "is complete, the gradient can go at once, and never all are there (not possible with gradient clipping over "
            "all parameters, or when gradients are added up over micro-batches).",
        ),
        (
            "Optimizer state. SGD keeps nothing, momentum one number for each parameter, Adam two. Fewer bits, or "
            "factored averages, keep less; that is another update rule.",
        ),
        ("The batch. The gradient of a mean is the mean of gradients: parts of the batch can follow one another.",),
        ("Copies. An optimizer that works on all tensors at once needs temporaries as large as all parameters.",),
    )
    return Section("What is redundant", (Items(items),), "backward", "redundant")


def _price() -> Section:
    k, layers = Sym("k"), Sym("L")
    root = Call(SQRT, (layers,))
    lines = (
        Equation(
            Call(Function("m"), (k,)), (k + Div(layers, k),), "k stored inputs, and one segment of L/k layers at a time"
        ),
        Equation(Call(Function("m", primes=1), (k,)), (Num(1) - Div(layers, Pow(k, Num(2))), Num(0)), "the smallest m"),
        Equation(k, (root,), "solved for k"),
        Equation(Call(Function("m"), (root,)), (root + Div(layers, root), Num(2) * root), "put in"),
    )
    cost = (
        Equation(
            Sym("C"), (Sym("F") + Num(2) * Sym("F"), Num(3) * Sym("F")), "the backward pass is two products a layer"
        ),
        Equation(
            Sym("C", ("k",)),
            (Num(3) * Sym("F") + Sym("F"), Num(4) * Sym("F")),
            "every segment is run forward once more",
        ),
        Equation(Div(Sym("C", ("k",)) - Sym("C"), Sym("C")), (Div(Num(1), Num(3)),), "one third more work at most"),
    )
    text = (
        "Let L equal layers keep one unit of activations each. Cut them into k segments, keep only what goes into each "
        "segment, and compute a segment again when the backward pass reaches it."
    )
    after = (
        "With m the units of memory, F the work of a forward pass and C that of a step. The last segment need not be computed again "
        "if it is simply kept, and layers that differ call for unequal segments: the plan below chooses them by "
        "dynamic programming, and checks each choice by predicting its whole step."
    )
    blocks: tuple[Block, ...] = (Paragraph((text,)), Derivation(lines), Derivation(cost), Paragraph((after,)))
    return Section("What computing again costs", blocks, "backward", "price")


def _applied(plan: Plan, measured: Measurement | None) -> Section:
    blocks: list[Block] = list(plan.blocks())
    if measured is not None:
        blocks += _before_after(plan, measured)
    return Section("The plan", tuple(blocks), "update", "plan")


def _before_after(plan: Plan, found: Measurement) -> list[Block]:
    rows = (
        ("plain step", spoken_bytes(plan.plain_peak), spoken_bytes(found.plain_peak), "", ""),
        (
            "with the plan", spoken_bytes(plan.predicted_peak), spoken_bytes(found.measured_peak),
            f"{100 * plan.predicted_overhead:.1f} %", f"{100 * found.measured_overhead:.1f} %",
        ),
    )  # fmt: skip
    head = (("",), ("predicted peak",), ("measured peak",), ("more work",), ("more time, measured",))
    if found.largest_difference == 0:
        equal = "Every gradient is that of the plain step, bit for bit."
    else:
        same = "the same up to rounding" if found.gradients_equal else "not the same"
        equal = (
            f"The gradients are {same}: the largest difference is {found.largest_difference:.1e} of the largest entry."
        )
    time = (
        " Work counts operations. Time also depends on how fast each is: a tanh takes longer than the few operations it "
        "counts as, a product of matrices less."
    )
    buffers = "" if found.buffers_equal else " The running statistics are not the same."
    return [Table(head, rows, "Before and after"), Paragraph((equal + buffers + time,))]


def curve_section(points: Sequence[Point], plan: Plan) -> tuple[Section, ...]:
    """The trade-off: memory against recomputation over the number of equal segments."""
    if len(points) < 2:
        return ()
    rows = tuple(
        (
            str(p.segments), spoken_bytes(p.peak), "" if p.measured is None else spoken_bytes(p.measured),
            f"{100 * p.overhead:.1f} %",
        )
        for p in points
    )  # fmt: skip
    head = (("segments",), ("predicted peak",), ("measured peak",), ("more work",))
    series = [Series("predicted", tuple(float(p.segments) for p in points), tuple(p.peak / 1e6 for p in points))]
    run = [p for p in points if p.measured is not None]
    if run:
        x, y = tuple(float(p.segments) for p in run), tuple((p.measured or 0) / 1e6 for p in run)
        series.append(Series("measured", x, y, "points"))
    best = min(points, key=lambda p: p.peak)
    text = f"Equal segments, all checkpointed: {best.segments} need least, {spoken_bytes(best.peak)}."
    blocks = (Table(head, rows), Plot(tuple(series), "checkpointed segments", "peak in MB", (text,), text))
    return (Section("Memory against work", blocks, "update", "curve"),)


def _billions(remedies: Sequence[Remedy], shape: Shape) -> Section:
    n = shape.parameters
    text = (
        f"A transformer of {shape.layers} layers of width d = {shape.width}, {shape.heads} heads and V = {shape.vocab:,} words has N = "
        f"L(12d² + 2d) + 2Vd + d = {n:,} parameters. A batch of {shape.batch} sequences of {shape.sequence} words. It exists "
        "here as a description only: shapes without numbers. Activations are recorded from a step on such tensors with one and "
        "with two layers (every further layer adds the same); the total is an upper bound, since not all is alive at once."
    )
    head = (("remedy",), ("parameters",), ("gradients",), ("state",), ("activations",), ("total",))
    sums = tuple(
        (r.name, r.arithmetic, f"{r.total:,}", "changed" if r.changes_result else "the same") for r in remedies
    )
    return Section(
        "Billions of parameters",
        (
            Paragraph((text,)),
            Table(head, tuple(spoken(r) for r in remedies)),
            Table(
                (("remedy",), ("arithmetic",), ("total in bytes",), ("update",)), sums, "How each figure comes about"
            ),
        ),
        "result",
        "billions",
    )
