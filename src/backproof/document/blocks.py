"""The blocks of a Document: what a worked solution consists of, without any output format.

Inline content is a tuple of parts: strings are prose, formulas are set as mathematics. Every renderer shows
every number of every block (a law test holds them to it); only pictures may leave out data, and each picture
says in words what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .drawing import Drawing
from .math import Expr, Ref

__all__ = [
    "Block", "Callout", "Code", "Derivation", "Details", "Document", "Equation", "Figure", "Glance", "Instant",
    "Items", "Paragraph", "Part", "Parts", "Phase", "Plot", "Section", "Series", "Table",
]  # fmt: skip

Part = str | Expr
Parts = tuple[Part, ...]
Phase = Literal["", "given", "forward", "loss", "backward", "update", "result"]


@dataclass(frozen=True)
class Paragraph:
    """Prose with inline formulas."""

    parts: Parts


@dataclass(frozen=True)
class Equation:
    """A chain left = steps[0] = steps[1] ..., for example s₁ = x₁w₁ + x₂w₂ = 0.75·0.6 + 0.8·0.01 = 0.458.

    Args:
        left: what is computed.
        steps: the formula, the formula with the numbers put in, the result (any of them may be left out).
        why: the rule that gives it, in words.
        ref: the quantity that the equation computes.
    """

    left: Expr
    steps: tuple[Expr, ...]
    why: str = ""
    ref: Ref | None = None


@dataclass(frozen=True)
class Derivation:
    """Equations set under one another, aligned at the equals sign, each with its reason."""

    equations: tuple[Equation, ...]


@dataclass(frozen=True)
class Table:
    """A table; a cell is parts or a formula or None (empty). ``numeric`` columns are aligned at the point."""

    columns: tuple[Parts, ...]
    rows: tuple[tuple[Part | Parts | None, ...], ...]
    caption: str = ""
    numeric: tuple[int, ...] = ()


@dataclass(frozen=True)
class Items:
    """A list, bulleted or numbered."""

    items: tuple[Parts, ...]
    ordered: bool = False


@dataclass(frozen=True)
class Code:
    """Program text."""

    text: str
    language: str = "python"


@dataclass(frozen=True)
class Callout:
    """A remark set apart: "note", "warning", "agrees" (evidence), "finding" (something is wrong)."""

    kind: Literal["note", "warning", "agrees", "finding"]
    parts: Parts
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing; ``alt`` says in one sentence what it shows.

    ``view`` names what it is a picture of, for a page that keeps it in step with time: "units" (the network of
    units), "operations" (the computational graph), "module" (the inside of a module), "trails" (runs that are followed
    step by step), or "" for any other drawing.
    """

    drawing: Drawing
    caption: Parts
    alt: str
    view: Literal["", "units", "operations", "module", "trails"] = ""


@dataclass(frozen=True)
class Glance:
    """A tensor that is too large for its numbers, at a glance: how they are spread, and where they are large.

    Args:
        name: the symbol of the tensor.
        words: what the picture shows in words, with the numbers that describe it; every format prints them.
        counts: the histogram: how many entries fall in each of equal bins from ``low`` to ``high``.
        low, high: the ends of the histogram.
        cells: a heat map, row by row, each cell from -1 to 1 (the mean of a block of entries over the largest
            such mean); empty for what is no matrix.
        ref: the tensor.
    """

    name: Expr
    words: Parts
    counts: tuple[int, ...]
    low: float
    high: float
    cells: tuple[tuple[float, ...], ...] = ()
    ref: Ref | None = None


@dataclass(frozen=True)
class Series:
    """One data series of a plot: style "line" | "points" | "dotted" (a limit) | "area"; ``x`` and ``y`` of equal length.

    Two series of style "area" in a row, at the same ``x``, are the ends of a filled area that belongs to the series before
    them; a legend names it by the first one's label up to its comma.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Literal["line", "points", "dotted", "area"] = "line"


@dataclass(frozen=True)
class Plot:
    """A plot of data series over linear or logarithmic axes."""

    series: tuple[Series, ...]
    x_label: str
    y_label: str
    caption: Parts
    alt: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Details:
    """Blocks that a page may fold away under a summary; other formats show them all."""

    summary: str
    blocks: tuple[Block, ...]
    open: bool = False


@dataclass(frozen=True)
class Section:
    """A titled part of the document. ``phase`` colours it; ``anchor`` is a stable id for links."""

    title: str
    blocks: tuple[Block, ...]
    phase: Phase = ""
    anchor: str = ""


@dataclass(frozen=True)
class Instant:
    """One place on the time axis: what is computed there, worked out. A page steps from one to the next;
    formats without time show the blocks in order.

    Args:
        title: what happens, in words ("error signal of s").
        blocks: the work.
        phase: the part of the update that it belongs to.
        step: the update, counted from 1; 0 before the first.
        computes: the quantities that get their numbers here.
        reads: the quantities that they are computed from.
        name: the name of the quantity in the record, for links ("update-2/backward/s").
    """

    title: str
    blocks: tuple[Block, ...]
    phase: Phase
    step: int = 0
    computes: tuple[Ref, ...] = ()
    reads: tuple[Ref, ...] = ()
    name: str = ""


Block = Paragraph | Derivation | Table | Items | Code | Callout | Figure | Glance | Plot | Details | Instant | Section


@dataclass(frozen=True)
class Document:
    """A whole worked solution.

    Args:
        title: the title.
        subtitle: the conventions in one line ("lr 0.1 · full batch · sum").
        verdict: the evidence in one line ("every number confirmed by 3 oracles, largest disagreement 4e-16").
        blocks: the content in reading order.
        record: the JSON record behind the page, for the renderers that embed it (see ``Result.to_dict``).
        standing: "agrees" | "finding": whether anything wrong was found.
        play: what a page needs to step through time and to compute again, as plain data (see
            ``studies.whatif``); empty where there is no time axis.
        parts: the chapters of a document that is made of several worked solutions, shown after ``blocks``; each
            has its own title, verdict, record and time axis.
        anchor: the id of a chapter in links ("sine-neuron" in ``#sine-neuron/update-1/backward/w``); made from
            the title where it is empty.

    Example:
        >>> chapter = Document("Exercise 1", (Paragraph(("y = 4.",)),), verdict="confirmed", standing="agrees")
        >>> Document("A sheet", (), parts=(chapter,)).parts[0].title
        'Exercise 1'
    """

    title: str
    blocks: tuple[Block, ...]
    subtitle: str = ""
    verdict: str = ""
    standing: Literal["agrees", "finding", ""] = ""
    record: dict[str, object] = field(default_factory=dict)
    play: dict[str, object] = field(default_factory=dict)
    parts: tuple[Document, ...] = ()
    anchor: str = ""
