"""The page of the comparison of residual and plain networks of growing depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from ...document.blocks import Block, Derivation, Equation, Items, Paragraph, Part, Parts, Plot, Section, Series, Table
from ...document.math import Add, Call, Function, Mul, Num, Partial, Sym
from ..training.history import curves
from .parameters import count_table, counted

if TYPE_CHECKING:
    from .depth import Run, Study
    from .flows import Flow

__all__ = ["depth_blocks", "depth_remarks"]

_KINDS = ("residual", "plain")
_CLEAR = 0.1  # a smaller difference of mean cosines is not called one


def depth_blocks(study: Study) -> tuple[Block, ...]:
    """The network and its skips, the runs, the gradients layer by layer, and what they say."""
    return (
        Section(f"The network of depth {study.depth}", _network(study), "given", "network"),
        Section("What a skip does", _skip(), "given", "skip"),
        Section("The training", _training(study), "update", "training"),
        Section("The gradient, layer by layer", _gradients(study), "backward", "gradients"),
        Section("Where and why the plain network falls behind", _verdict(study), "result", "why"),
    )


def depth_remarks(study: Study) -> tuple[str, ...]:
    """What a careful reader should know."""
    tested = len(study.pictures.test)
    found = [
        f"Accuracies are measured on {tested:,} test pictures: differences below {200 * 0.5 / math.sqrt(tested):.1f} points "
        "can be chance. The losses and gradients are the finer measurement.",
        "Every network learns with the same step size and from one seed; none was tuned.",
    ]
    if not study.skips.identity_path:
        found.append(
            "No skip of this network is the identity: every one passes through a layer. A condition such as "
            "`stride != 0`, which is always true, where `stride != 1` is meant, gives a network like this. It trains "
            "and reaches a good accuracy, so that only a look at its structure shows it."
        )
    found += [f"Depth {r.depth}, {r.kind}: {x}" for r in study.runs for x in r.history.remarks]
    return tuple(found)


def _network(study: Study) -> tuple[Block, ...]:
    kinds = list(study.skips.to_dict().values())
    same = sum(k == "identity" for k in kinds)
    text = (
        f"Of {len(kinds)} skips {same} carry their input on unchanged"
        + ("; the others pass through a convolution, because the shape changes." if 0 < same < len(kinds) else ".")
        + (
            " An identity path leads through these, with a ReLU after each sum."
            if same
            else " There is no identity path."
        )
    )
    rows = tuple((name, kind or "no identity") for name, kind in study.skips.to_dict().items())
    table = Table((("block",), ("its skip",)), rows, "The skips, read off the captured graph")
    return (
        count_table(f"the residual network of depth {study.depth}", counted(study.model)),
        Paragraph((text,)),
        table,
    )


def _skip() -> tuple[Block, ...]:
    x, y, delta = Sym("x"), Sym("y"), Sym("delta")
    residual = Function("F", "F", "F")
    forward = Equation(y, (Add((x, Call(residual, (x,)))),), "a block with an identity skip, before its last ReLU")
    slope = Add((Num(1), Call(Function("F", "F", "F", 1), (x,))))
    backward = Equation(
        Partial(Sym("L"), x), (Mul((delta, slope)),), "the chain rule, with delta = dL/dy (written for one number)"
    )
    text = (
        "Through a stack of such blocks the gradient is a sum over all ways through it, and one of the ways has no "
        "factor but 1. Without the skips there is only the product of all the F', one for each block."
    )
    return (Derivation((forward, backward)), Paragraph((text,)))


def _training(study: Study) -> tuple[Block, ...]:
    height, width = study.pictures.size
    text = (
        f"{len(study.pictures.train):,} pictures to learn from ({study.pictures.name}, {height} x {width} pixels, at a "
        f"random place of a canvas of {study.canvas} x {study.canvas}, drawn anew in every epoch); AdamW with step size "
        f"{study.lr:g} and weight decay {study.weight_decay:g}, cosine schedule stepped after every batch, batches of "
        f"{study.batch}, epochs: {study.epochs}."
    )
    head: tuple[Parts, ...] = (("depth",), ("kind",), ("parameters",), ("training loss",), ("test accuracy, %",))
    rows = tuple(
        (Num(r.depth), r.kind, Num(int(r.summary()["parameters"])), Num(r.history.rows[-1]["loss"]), Num(r.accuracy))
        for r in study.runs
    )
    table = Table(head, rows, "After the last epoch", (0, 2, 3, 4))
    plots: list[Block] = []
    for depth in study.depths:
        losses = curves({k: study.run(depth, k).history.rows for k in _KINDS})[:1]
        plots += [Paragraph((f"Depth {depth}:",)), *losses]
    return (Paragraph((text,)), table, *plots)


def _gradients(study: Study) -> tuple[Block, ...]:
    text = (
        "For every convolution on the main way, on one batch: the norm of the gradient of the loss with respect to its "
        "weights; and the cosine between this gradient and the one after a small step, in which every weight moves "
        "against the sign of its gradient by a hundredth of the step size, as a hundredth of AdamW's first update. The "
        "norm says how loudly the loss speaks to a layer, the cosine how far what it says holds: a gradient is a "
        "promise about the loss nearby, and an update relies on it a hundred times as far."
    )
    blocks: list[Block] = [Paragraph((text,)), _ratios(study), *_predicted(study)]
    for depth in study.depths:
        blocks += _of_depth(study, depth)
    return tuple(blocks)


def _ratios(study: Study) -> Table:
    head: tuple[Parts, ...] = (
        ("depth",),
        ("kind",),
        ("ratio before",),
        ("after",),
        ("cosine before",),
        ("after",),
    )
    rows = tuple(
        (Num(r.depth), r.kind, Num(a.ratio), Num(b.ratio), Num(a.persistence_first), Num(b.persistence_first))
        for r in study.runs
        for a, b in ((r.layers[0], r.layers[-1]),)
    )
    caption = (
        "Norms, first stage over last (geometric means), and mean cosine in the first stage; before and after training"
    )
    return Table(head, rows, caption, (0, 2, 3, 4, 5))


def _predicted(study: Study) -> list[Block]:
    """The error signal before training, stage by stage: by the theory, and measured."""
    runs = [(r, r.flow) for r in study.runs if r.flow is not None]
    if not runs:
        return []
    text = (
        "Could that be known before training? From the captured graph and the spread of the weights alone the theory of "
        "signal propagation predicts the mean square of the error signal behind every convolution (backproof propagate). "
        "Here it is beside what one network of these weights has, on four of the pictures at 8 x 8 pixels: norms, each "
        "stage over the last. The theory is that of wide layers; with few channels one network may differ from it."
    )
    count = max(len(set(flow.stages)) for _, flow in runs) - 1
    stages = tuple((f"stage {s + 1}, {what}",) for s in range(count) for what in ("predicted", "measured"))
    rows: tuple[tuple[Part | Parts | None, ...], ...] = tuple((Num(r.depth), r.kind, *_pairs(flow)) for r, flow in runs)
    table = Table((("depth",), ("kind",), *stages), rows, "The error signal over that of the last stage, before training",
                  (0, *range(2, 2 + 2 * count)))  # fmt: skip
    deepest = max(r.depth for r, _ in runs)
    lines = [_flow_line(r.kind, flow, way) for r, flow in runs if r.depth == deepest for way in (0, 1)]
    caption: Parts = (
        f"Depth {deepest}: the norm of the error signal behind each convolution, predicted and measured.",
    )
    alt = f"The norm of the error signal per convolution at depth {deepest}, predicted and measured, with and without skips"
    return [
        Paragraph((text,)),
        table,
        Plot(tuple(lines), "convolution", "norm of the error signal", caption, alt, log_y=True),
    ]


def _pairs(flow: Flow) -> list[Num]:
    """Predicted and measured of each stage but the last."""
    both = list(zip(flow.ratios(0), flow.ratios(1), strict=True))[:-1]
    return [Num(value) for pair in both for value in pair]


def _flow_line(kind: str, flow: Flow, way: int) -> Series:
    values = tuple(x.norms[way] for x in flow.layers)
    label, style = (f"{kind}, predicted", "line") if way == 0 else (f"{kind}, measured", "points")
    return Series(label, tuple(float(i + 1) for i in range(len(values))), values, style)  # type: ignore[arg-type]


def _of_depth(study: Study, depth: int) -> list[Block]:
    runs = [study.run(depth, k) for k in _KINDS]
    norms = [_line(r, when, "gradients") for r in runs for when in (0, -1)]
    cosines = [_line(r, 0, "persistences") for r in runs]
    norm: Parts = (f"Depth {depth}: the norm of the gradient, from the first convolution to the last.",)
    cosine: Parts = (
        f"Depth {depth}: the cosine between the gradients before and after a small step, at the start of the training.",
    )
    alt = f"per layer, at depth {depth}, for residual and plain networks"
    return [
        Plot(tuple(norms), "convolution", "norm of the gradient", norm, f"Gradient norms {alt}", log_y=True),
        Plot(tuple(cosines), "convolution", "cosine", cosine, f"Persistence of gradients {alt}"),
    ]


def _line(run: Run, when: int, what: str) -> Series:
    values: tuple[float, ...] = getattr(run.layers[when], what)
    label = run.kind if what == "persistences" else f"{run.kind}, {'before' if when == 0 else 'after'} training"
    return Series(label, tuple(float(i + 1) for i in range(len(values))), values)


def _verdict(study: Study) -> tuple[Block, ...]:
    """What was measured, in sentences; nothing is claimed that the numbers above do not show."""
    found: list[Parts] = []
    for depth in study.depths:
        residual, plain = (study.run(depth, k) for k in _KINDS)
        a, b = residual.history.rows[-1]["loss"], plain.history.rows[-1]["loss"]
        better = "the plain network learned less" if b > a else "the plain network learned no less"
        found.append(
            (
                f"Depth {depth}: after training the loss is {a:.3g} with skips and {b:.3g} without ({better}). Before "
                f"training the first stage's gradients are {residual.layers[0].ratio:.3g} times the last stage's with "
                f"skips and {plain.layers[0].ratio:.3g} times without, and after a hundredth of an update their "
                f"cosine with what they were is {residual.layers[0].persistence_first:.2f} and "
                f"{plain.layers[0].persistence_first:.2f}.",
            )
        )
    return (Items(tuple(found)), Paragraph((_explained(study),)))


def _explained(study: Study) -> str:
    deepest, shallowest = max(study.depths), min(study.depths)
    plain, residual = (study.run(deepest, k).layers[0] for k in ("plain", "residual"))
    shallow = study.run(shallowest, "plain").layers[0]
    larger = plain.ratio > 1
    text = (
        f"In the plain network of depth {deepest} the gradient is {'larger' if larger else 'smaller'} in the first stage than "
        f"in the last, by a factor of {plain.ratio if larger else 1 / plain.ratio:.3g}; with skips the factor is "
        f"{residual.ratio if larger else 1 / residual.ratio:.3g}. "
    )
    if larger and plain.ratio > residual.ratio and any(isinstance(m, nn.BatchNorm2d) for m in study.model.modules()):
        text += (
            "It does not vanish on the way back but grows: each norm divides by the spread that "
            "the ReLU before it has left (G. Yang and others, A Mean Field Theory of Batch Normalization, 2019). AdamW "
            "divides by the size of a gradient, so its size alone need not stop the training. What a large slope also "
            "means is that the output changes much with a small step. "
        )
    text += (
        f"After a hundredth of an update the first stage's gradients have the cosine {plain.persistence_first:.2f} with what "
        f"they were, at depth {shallowest} {shallow.persistence_first:.2f}, and with skips at depth {deepest} "
        f"{residual.persistence_first:.2f}. "
    )
    losses = [study.run(deepest, k).history.rows[-1]["loss"] for k in ("plain", "residual")]
    if losses[0] > losses[1] and plain.persistence_first < residual.persistence_first - _CLEAR:
        return text + (
            "That is where and why the plain network falls behind: in its first stages, where a gradient has turned long "
            "before the update that follows it ends; and every later layer learns from what these give."
        )
    return text + "These numbers do not explain the difference in the losses; more epochs, depths or seeds may."
