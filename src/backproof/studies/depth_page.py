"""The page of the comparison of residual and plain networks of growing depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..document.blocks import Block, Derivation, Equation, Items, Paragraph, Parts, Plot, Section, Series, Table
from ..document.math import Add, Call, Function, Mul, Num, Partial, Sym
from .parameters import count_table, counted
from .training.history import curves

if TYPE_CHECKING:
    from .depth import Run, Study

__all__ = ["depth_blocks", "depth_remarks"]

_KINDS = ("residual", "plain")


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
        + (" There is an identity path through them." if same else " There is no identity path.")
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
        "For every convolution on the main way: the norm of the gradient of the loss with respect to its weights, on one "
        "batch, and the cosine between the gradients of the two halves of that batch. A norm says how loudly the loss "
        "speaks to a layer, and the cosine whether it says the same thing twice: where it is near 0, the next batch will "
        "push the layer in another direction."
    )
    blocks: list[Block] = [Paragraph((text,)), _ratios(study)]
    for depth in study.depths:
        blocks += _of_depth(study, depth)
    return tuple(blocks)


def _ratios(study: Study) -> Table:
    head: tuple[Parts, ...] = (
        ("depth",),
        ("kind",),
        ("first / last stage, before",),
        ("after",),
        ("agreement in the first stage, before",),
        ("after",),
    )
    rows = tuple(
        (Num(r.depth), r.kind, Num(a.ratio), Num(b.ratio), Num(a.agreement_first), Num(b.agreement_first))
        for r in study.runs
        for a, b in ((r.layers[0], r.layers[-1]),)
    )
    caption = (
        "Geometric means of the gradient's norms, first stage over last, and mean cosines; before and after training"
    )
    return Table(head, rows, caption, (0, 2, 3, 4, 5))


def _of_depth(study: Study, depth: int) -> list[Block]:
    runs = [study.run(depth, k) for k in _KINDS]
    norms = [_line(r, when, "gradients") for r in runs for when in (0, -1)]
    cosines = [_line(r, 0, "agreements") for r in runs]
    norm: Parts = (f"Depth {depth}: the norm of the gradient, from the first convolution to the last.",)
    cosine: Parts = (f"Depth {depth}: the cosine between the gradients of two halves of a batch, before training.",)
    alt = f"per layer, at depth {depth}, for residual and plain networks"
    return [
        Plot(tuple(norms), "convolution", "norm of the gradient", norm, f"Gradient norms {alt}", log_y=True),
        Plot(tuple(cosines), "convolution", "cosine", cosine, f"Agreement of gradients {alt}"),
    ]


def _line(run: Run, when: int, what: str) -> Series:
    values: tuple[float, ...] = getattr(run.layers[when], what)
    label = run.kind if what == "agreements" else f"{run.kind}, {'before' if when == 0 else 'after'} training"
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
                f"skips and {plain.layers[0].ratio:.3g} times without; two halves of a batch agree on them to "
                f"{residual.layers[0].agreement_first:.2f} and {plain.layers[0].agreement_first:.2f}.",
            )
        )
    return (Items(tuple(found)), Paragraph((_explained(study),)))


def _explained(study: Study) -> str:
    deepest, shallowest = max(study.depths), min(study.depths)
    plain, residual = study.run(deepest, "plain"), study.run(deepest, "residual")
    before = plain.layers[0]
    grows = before.ratio > residual.layers[0].ratio
    text = (
        f"In the plain network of depth {deepest} the gradient is {'larger' if before.ratio > 1 else 'smaller'} in the first "
        f"stage than in the last, by a factor of {before.ratio if before.ratio > 1 else 1 / before.ratio:.3g}; with skips "
        f"the factor is {residual.layers[0].ratio:.3g} (first over last). "
    )
    if before.ratio > 1 and grows:
        text += (
            "With batch norm in every layer it does not vanish on the way back: each norm divides by the spread of its "
            "input and each ReLU takes some of that spread away, so that the product of the slopes grows layer by layer, "
            "and the first layers get the largest and the most erratic gradients. AdamW divides by the size of a "
            "gradient, so its size alone need not stop the training; what it cannot repair is its direction. "
        )
    drop = study.run(shallowest, "plain").layers[0].agreement_first - before.agreement_first
    text += (
        f"From depth {shallowest} to {deepest} the agreement between two halves of a batch in the plain network's first "
        f"stage {'falls by' if drop > 0 else 'rises by'} {abs(drop):.2f}; with skips it is "
        f"{residual.layers[0].agreement_first:.2f} at depth {deepest}. "
    )
    worse = plain.history.rows[-1]["loss"] > residual.history.rows[-1]["loss"]
    if worse and before.agreement_first < residual.layers[0].agreement_first:
        return text + (
            "That is where the plain network falls behind: in its first stages, whose updates follow what is particular "
            "to a batch more than what the pictures have in common; and every layer above learns from what these give."
        )
    return text + "These numbers alone do not explain the difference in the losses; more epochs, depths or seeds may."
