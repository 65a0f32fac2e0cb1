"""The page of the comparison on shifted and scrambled pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ...data.canvas import VARIANTS
from ...document.blocks import (
    Block,
    Derivation,
    Equation,
    Glance,
    Items,
    Paragraph,
    Part,
    Parts,
    Plot,
    Section,
    Series,
    Table,
)
from ...document.math import Call, Function, Mul, Num, Sym, Transpose
from ..training.history import curves
from .equivariance import neighbours
from .parameters import count_table

if TYPE_CHECKING:
    from .shift import Measured, Setup

__all__ = ["shift_blocks", "shift_remarks"]

_BINS = 20


def shift_blocks(found: Sequence[Measured], setup: Setup) -> tuple[Block, ...]:
    """The setup, the parameters, the training, the result, and why."""
    return (
        Section("Setup", _setup(found, setup), "given", "setup"),
        Section("The parameters", _parameters(found, setup), "given", "parameters"),
        Section("The training", _training(found), "update", "training"),
        Section("The result", _result(found, setup), "result", "result"),
        Section("Why", tuple(_why(found, setup)), "result", "why"),
    )


def shift_remarks(found: Sequence[Measured], setup: Setup) -> tuple[str, ...]:
    """What a careful reader should know."""
    count, name = len(setup.tests[VARIANTS[0]][0]), setup.pictures.name
    wide = 100 * 0.5 / math.sqrt(len(setup.pictures.test))
    remarks = [
        f"Accuracies are measured on {count:,} drawings of {len(setup.pictures.test):,} test pictures of {name}; with so "
        f"few, one standard error is up to {wide:.1f} points, and smaller near 100 %.",
        "The test pictures also draw the curves; no run is stopped early or picked by them.",
    ]
    remarks += [
        f"{m.name}, {v}: the training broke off, so its accuracy is that of nothing learned."
        for m in found
        for v, h in m.histories.items()
        if h.finding
    ]
    return tuple(remarks)


def _setup(found: Sequence[Measured], setup: Setup) -> tuple[Block, ...]:
    height, width = setup.pictures.size
    canvas = next(iter(setup.canvases.values()))
    nets = ", ".join(f"{m.name} lr {m.contender.lr:g}, weight decay {m.contender.weight_decay:g}" for m in found)
    text = (
        f"The pictures are {setup.pictures.name}: {len(setup.pictures.train):,} to learn from and "
        f"{len(setup.pictures.test):,} to test with, {height} x {width} pixels each, on a canvas of {setup.canvas} x "
        f"{setup.canvas}. They are normalised with their own mean {canvas.mean:.4g} and deviation {canvas.deviation:.4g}, "
        f"and get Gaussian noise of deviation {canvas.noise:g}, drawn anew in every epoch."
    )
    kinds: tuple[Parts, ...] = (
        ("centred: the picture stands in the middle;",),
        ("shifted: at a place drawn evenly among all, anew in every epoch;",),
        ("scrambled: centred, and all pixels of the canvas permuted, always by the same permutation.",),
    )
    how = (
        f"Each network learns each kind from the same start: AdamW ({nets}), a cosine schedule stepped after every batch, "
        f"epochs: {setup.epochs}, batches of {setup.batch}."
    )
    pictures = tuple(_picture(v, setup.tests[v][0][0, 0]) for v in VARIANTS)
    return (Paragraph((text,)), Items(kinds), Paragraph((how,)), *pictures)


def _picture(variant: str, image: Tensor) -> Glance:
    """One input as a heat map."""
    low, high = float(image.min()), float(image.max())
    counts = image.histc(_BINS, low, high).int().tolist() if high > low else [image.numel()]
    scale = float(image.abs().max()) or 1.0
    cells = tuple(tuple(row) for row in (image / scale).tolist()) if len(image) <= 64 else ()
    words: Parts = (f"the first test picture, {variant}: intensities from ", Num(low), " to ", Num(high))
    return Glance(Sym("x", sub=(variant,)), words, tuple(counts), low, high, cells)


def _parameters(found: Sequence[Measured], setup: Setup) -> tuple[Block, ...]:
    text = (
        "A linear layer has a weight for every pair of input and output, a convolution one kernel for every pair of "
        "channels, used at every place: its number does not depend on the size of the picture."
    )
    tables = tuple(count_table(m.name, m.counts) for m in found)
    columns = (("network",), (f"canvas {setup.canvas}",), (f"canvas {2 * setup.canvas}",))
    rows = tuple((m.name, Num(m.parameters), Num(m.counts_twice)) for m in found)
    return (
        Paragraph((text,)),
        *tables,
        Table(columns, rows, "Parameters on this canvas and on one twice as wide", (1, 2)),
    )


def _training(found: Sequence[Measured]) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for m in found:
        runs = {variant: history.rows for variant, history in m.histories.items()}
        blocks.append(Paragraph((f"{m.name}, with {m.parameters:,} parameters:",)))
        blocks += curves(runs)
    return tuple(blocks)


def _result(found: Sequence[Measured], setup: Setup) -> tuple[Block, ...]:
    columns: tuple[Parts, ...] = (
        ("network",),
        *((f"{v}, %",) for v in VARIANTS),
        *((f"{v} costs",) for v in VARIANTS[1:]),
    )
    rows: list[tuple[Part, ...]] = []
    for m in found:
        shares = (Num(m.accuracy[v]) for v in VARIANTS)
        rows.append((m.name, *shares, *(Num(m.cost(v)) for v in VARIANTS[1:])))
    caption = (
        "Accuracy on test pictures of the kind that was learned, and what a kind costs against centred ones, in points"
    )
    sentences: list[Parts] = []
    for variant in VARIANTS[1:]:
        order = sorted(found, key=lambda m: m.cost(variant), reverse=True)
        costs = ", ".join(f"{m.name} {m.cost(variant):.1f} points" for m in order)
        sentences.append((f"{variant.capitalize()} instead of centred costs {costs}.",))
    return (Table(columns, tuple(rows), caption, tuple(range(1, 6))), Items(tuple(sentences)), *_by_shift(found))


def _by_shift(found: Sequence[Measured]) -> tuple[Block, ...]:
    lines = tuple(
        Series(m.name, tuple(float(d) for d, _ in m.by_shift), tuple(a for _, a in m.by_shift)) for m in found
    )
    caption: Parts = (
        "The networks that learned only centred pictures, tested on pictures moved to the right by so many pixels.",
    )
    return (Plot(lines, "pixels", "accuracy in %", caption, "Accuracy against the shift, for each network"),)


def _why(found: Sequence[Measured], setup: Setup) -> list[Block]:
    blocks: list[Block] = []
    for m in found:
        if m.field is not None:
            blocks += _shared(m, setup)
        elif any("columns scrambled" in e.what for e in m.evidence):
            blocks += _free(m)
    text = (
        "What a network cannot do by its structure it has to learn from examples, and what its structure takes for "
        "granted it cannot unlearn. Moved pictures are new to a network without shared weights; to one with shared "
        "weights, neighbours that were torn apart are."
    )
    return [*blocks, Paragraph((text,))]


def _shared(m: Measured, setup: Setup) -> list[Block]:
    """Why shared weights make shifts cheap and permutations dear."""
    assert m.field is not None
    size, stride = m.field.size, m.field.stride
    first = (
        f"{m.name}: a convolution applies the same kernel at every place. If the picture moves by {stride} pixels, the "
        f"product of the strides, its feature maps move by one entry and are otherwise the same, as long as no field "
        "reaches the border; and a global average over the places forgets where they were."
    )
    shift = Function("T", "T", "T")
    x, f = Sym("x"), Function("f", "f", "f")
    moved_x = Call(shift, (x,))
    why = (
        f"the same sum over the same {size} x {size} pixels: T moves the picture by {stride} pixels and the feature maps "
        "by one entry"
    )
    equation = Equation(Call(f, (moved_x,)), (Call(shift, (Call(f, (x,)),)),), why)
    rows = tuple((Num(d.pixels), Num(d.inside), Num(d.whole)) for d in m.moved)
    columns = (("shift in pixels",), ("difference inside",), ("on the canvas, borders included",))
    caption = (
        f"Feature maps of {m.name} for moved pictures against its moved feature maps, relative to their size; by fewer "
        "pixels than the stride they cannot follow exactly"
    )
    return [Paragraph((first,)), Derivation((equation,)), Table(columns, rows, caption, (0, 1, 2)), _torn(m, setup)]


def _torn(m: Measured, setup: Setup) -> Paragraph:
    """What the permutation does to neighbours, and what a field still sees of the canvas."""
    assert m.field is not None
    size, canvas = m.field.size, setup.canvas
    plain, torn = (neighbours(setup.tests[v][0]) for v in (VARIANTS[0], VARIANTS[2]))
    share = min(1.0, (size / canvas) ** 2)
    return Paragraph(
        (
            "A small kernel learns from pixels that belong together. The correlation of pixels beside one another is ",
            Num(plain),
            " in centred pictures and ",
            Num(torn),
            f" in scrambled ones (over the test pictures, noise included): the permutation puts strangers side by side, and "
            f"other ones at every place, where {m.name} uses the same kernel. What is left is the field of its last "
            f"layers: {size} x {size} pixels, {100 * share:.0f} % of this canvas at most. The larger the canvas, the less of "
            f"the scattered picture one such field holds. Here scrambling costs {m.name} {m.cost('scrambled'):.1f} points.",
        )
    )


def _free(m: Measured) -> list[Block]:
    """Why a network that begins with a linear layer does not mind a permutation, and has to learn every shift."""
    w, p, x = Sym("W"), Sym("P"), Sym("x")
    text = (
        f"{m.name}: its first layer is a sum over all pixels with a weight of its own for each. Permuting the pixels and "
        "the columns of W alike changes nothing, the weights are drawn independently of one another, and AdamW treats "
        "every weight by itself: learning from scrambled pictures is the same as learning from plain ones, from another "
        "draw of the start. So scrambling costs no more than another seed does."
    )
    other = (
        f"For the same reason {m.name} knows nothing of neighbourhood. A picture moved by a few pixels meets other "
        "weights, which have to learn the same strokes again, at every place."
    )
    left = Mul((w, Transpose(p), p, x), "matrix")
    equation = Equation(left, (Mul((w, x), "matrix"),), "P is a permutation: its transpose puts every pixel back")
    return [Paragraph((text,)), Derivation((equation,)), Paragraph((other,))]
