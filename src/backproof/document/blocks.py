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
    "Block", "Callout", "Code", "Derivation", "Details", "Document", "Equation", "Figure", "Items", "Paragraph",
    "Part", "Parts", "Phase", "Plot", "Section", "Series", "Table",
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
    """A drawing; ``alt`` says in one sentence what it shows."""

    drawing: Drawing
    caption: Parts
    alt: str


@dataclass(frozen=True)
class Series:
    """One data series of a plot: style "line" | "points"; ``x`` and ``y`` of equal length."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Literal["line", "points"] = "line"


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


Block = Paragraph | Derivation | Table | Items | Code | Callout | Figure | Plot | Details | Section


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
    """

    title: str
    blocks: tuple[Block, ...]
    subtitle: str = ""
    verdict: str = ""
    standing: Literal["agrees", "finding", ""] = ""
    record: dict[str, object] = field(default_factory=dict)
