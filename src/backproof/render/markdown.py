"""A Document as GitHub-flavoured Markdown, with $...$ for formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from backproof.document.blocks import (
    Block,
    Callout,
    Code,
    Derivation,
    Details,
    Document,
    Equation,
    Figure,
    Glance,
    Instant,
    Items,
    Paragraph,
    Parts,
    Plot,
    Section,
    Table,
)
from backproof.document.drawing import Drawing
from backproof.document.math import Expr

from .cells import Cell, as_parts, columns_of
from .escape import clean
from .escape import markdown as escape
from .latex import aligned_rows, join_rows
from .math_latex import latex_of
from .math_text import text_of
from .palette import CALLOUTS, PHASES
from .plot import ends, plot_drawing

__all__ = ["Writer", "render_blocks", "render_heading", "render_markdown"]

_WIDTH = 70.0


@dataclass
class Writer:
    """The depth of the headings, and what a notebook does with a drawing (nothing: it is told in words)."""

    depth: int = 2
    attach: Callable[[Drawing], str] | None = None


def render_markdown(document: Document) -> str:
    """Return the document as Markdown.

    Args:
        document: what to show; drawings are told by their descriptions, which Markdown can't draw.
    """
    return "\n\n".join(_chapters(document, 1)) + "\n"


def _chapters(document: Document, depth: int) -> Iterator[str]:
    """The document's heading and blocks, then those of its parts one level deeper."""
    yield render_heading(document, depth)
    if document.blocks:
        yield render_blocks(document.blocks, Writer(depth + 1))
    for part in document.parts:
        yield from _chapters(part, depth + 1)


def render_heading(document: Document, depth: int = 1) -> str:
    """Return the title, the subtitle and the verdict; a chapter's title stands deeper."""
    mark = CALLOUTS.get(document.standing)
    word = f"**{mark.sign} {mark.word}:** " if mark else ""
    parts = [f"{'#' * min(depth, 6)} {escape(document.title)}", escape(document.subtitle)]
    return "\n\n".join(part for part in [*parts, word + escape(document.verdict)] if part)


def render_blocks(found: Iterable[Block], writer: Writer) -> str:
    """Return blocks one after the other."""
    return "\n\n".join(_BLOCKS[type(block)](block, writer) for block in found)


def _math(expr: Expr) -> str:
    """Return an inline formula; what Markdown would read as markup is spelled in letters."""
    body = latex_of(expr).replace("<", r"\lt ").replace(">", r"\gt ").replace("|", r"\vert ").replace("*", r"\ast ")
    return f"${body}$"


def _inline(parts: Parts) -> str:
    return "".join(
        escape(part, start=place == 0) if isinstance(part, str) else _math(part) for place, part in enumerate(parts)
    )


def _paragraph(paragraph: Paragraph, writer: Writer) -> str:
    return _inline(paragraph.parts)


def _derivation(derivation: Derivation, writer: Writer) -> str:
    return "\n\n".join(_equation(equation) for equation in derivation.equations)


def _equation(equation: Equation) -> str:
    bare = Equation(equation.left, equation.steps)
    body = join_rows([aligned_rows(bare, _WIDTH, shrink=False)])
    body = body.replace("<", r"\lt ").replace(">", r"\gt ")
    why = f"\n\n*{escape(equation.why)}*" if equation.why else ""
    return f"$$\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n$${why}"


def _table(table: Table, writer: Writer) -> str:
    columns = columns_of(table)
    heads = [_cell(head) for head in table.columns] + [""] * (columns - len(table.columns))
    rule = ["---:" if column in table.numeric else ":---" for column in range(columns)]
    rows = [[_cell(cell) for cell in row] + [""] * (columns - len(row)) for row in table.rows]
    body = "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])
    return f"**{escape(table.caption)}**\n\n{body}" if table.caption else body


def _cell(cell: Cell) -> str:
    return _inline(as_parts(cell)).replace("\n", " ")


def _items(items: Items, writer: Writer) -> str:
    return "\n".join(
        f"{f'{number}.' if items.ordered else '-'} {_inline(item)}" for number, item in enumerate(items.items, 1)
    )


def _code(code: Code, writer: Writer) -> str:
    longest = max((len(run) for run in _fences(code.text)), default=0)
    fence = "`" * max(3, longest + 1)
    language = code.language if code.language.isalnum() else ""
    return f"{fence}{language}\n{clean(code.text).rstrip()}\n{fence}"


def _fences(text: str) -> list[str]:
    return "".join(sign if sign == "`" else " " for sign in text).split()


_ALERTS = {"note": "NOTE", "warning": "WARNING", "agrees": "TIP", "finding": "CAUTION"}


def _callout(callout: Callout, writer: Writer) -> str:
    mark = CALLOUTS[callout.kind]
    title = f"**{mark.sign} {escape(callout.title or mark.word)}.** "
    return f"> [!{_ALERTS[callout.kind]}]\n> {title}{_inline(callout.parts)}".replace("\n\n", "\n>\n")


def _figure(figure: Figure, writer: Writer) -> str:
    return _picture(figure.drawing, figure.caption, figure.alt, "Drawing", writer)


def _plot(plot: Plot, writer: Writer) -> str:
    drawn = _picture(plot_drawing(plot), plot.caption, plot.alt, "Plot", writer)
    return drawn + "".join(f"\n- {line}" for line in _ends(plot)).replace("\n-", "\n\n-", 1)


def _ends(plot: Plot) -> Iterable[str]:
    for label, *points in ends(plot):
        first, last = (f"({text_of(x)}, {text_of(y)})" for x, y in points)
        yield escape(f"{label}: from {first} to {last}")


def _picture(drawing: Drawing, caption: Parts, alt: str, kind: str, writer: Writer) -> str:
    words = f"\n\n{_inline(caption)}" if caption else ""
    if writer.attach:
        return f"![{escape(alt)}](attachment:{writer.attach(drawing)}){words}"
    return f"*{kind}: {escape(alt)}*{words}"


def _details(details: Details, writer: Writer) -> str:
    inside = render_blocks(details.blocks, writer)
    return f"<details><summary>{_summary(details.summary)}</summary>\n\n{inside}\n\n</details>"


def _summary(text: str) -> str:
    return "".join(f"&#{ord(sign)};" if not (sign.isalnum() or sign in " .,") else sign for sign in clean(text))


def _glance(glance: Glance, writer: Writer) -> str:
    return f"{_inline((glance.name, ': '))}{_inline(glance.words)}"


def _instant(instant: Instant, writer: Writer) -> str:
    return render_blocks(instant.blocks, writer)


def _section(section: Section, writer: Writer) -> str:
    mark = PHASES.get(section.phase)
    word = f"{mark.sign} {mark.word} · " if mark else ""
    heading = f"{'#' * min(writer.depth, 6)} {word}{escape(section.title)}"
    writer.depth += 1
    inside = render_blocks(section.blocks, writer)
    writer.depth -= 1
    return f"{heading}\n\n{inside}"


_BLOCKS: dict[type[Block], Callable[[Any, Writer], str]] = {
    Paragraph: _paragraph,
    Derivation: _derivation,
    Table: _table,
    Items: _items,
    Code: _code,
    Callout: _callout,
    Figure: _figure,
    Glance: _glance,
    Instant: _instant,
    Plot: _plot,
    Details: _details,
    Section: _section,
}
