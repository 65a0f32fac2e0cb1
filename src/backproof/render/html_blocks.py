"""Each kind of block as HTML, one function each; the table at the end says which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from backproof.document.blocks import (
    Block,
    Callout,
    Code,
    Derivation,
    Details,
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
from backproof.document.math import Expr, Num, Ref

from .cells import Cell, as_parts, columns_of, cut, longest_after, number_of
from .chain import Piece, estimate, lines
from .escape import xml
from .html_glance import heat_map, histogram
from .html_plot import hits, numbers
from .math_mathml import MathMLPrinter, attributes, math, reference, wrap
from .math_text import number_text, text_of
from .notation import full, is_rounded, ref_key
from .palette import CALLOUTS, PHASES
from .plot import plot_drawing
from .svg import svg

__all__ = ["Page", "blocks", "inline", "phase_mark"]

PIECE = 26
"""Characters that a sum or a product may take before it is cut into pieces, between which lines can break."""


_TAKEN = ("record", "title", "play", "content", "stage", "tools", "latex", "source-title")
"""The ids of the page itself."""


@dataclass
class Page:
    """What rendering keeps track of: the heading level, the ids given out, the sections found.

    The ids of a chapter begin with its own (``prefix``).
    """

    level: int = 2
    prefix: str = ""
    taken: set[str] = field(default_factory=lambda: set(_TAKEN))
    contents: list[tuple[int, str, Section]] = field(default_factory=list)

    def key(self, wanted: str, fold: bool = True) -> str:
        """Return an id that is made from words and not in use yet."""
        base = re.sub(r"[^\w./-]+", "-", wanted.lower() if fold else wanted).strip("-./") or "part"
        base = base if base[0].isalpha() else f"s-{base}"
        base = f"{self.prefix}{base}"
        key, number = base, 2
        while key in self.taken:
            key, number = f"{base}-{number}", number + 1
        self.taken.add(key)
        return key


def blocks(found: Iterable[Block], page: Page) -> str:
    """Return blocks one after the other."""
    return "\n".join(_BLOCKS[type(block)](block, page) for block in found)


def inline(parts: Parts) -> str:
    """Return prose with formulas in it."""
    return "".join(xml(part) if isinstance(part, str) else math(part) for part in parts)


def _paragraph(paragraph: Paragraph, page: Page) -> str:
    return f"<p>{inline(paragraph.parts)}</p>"


# --- derivations -----------------------------------------------------------------------------------------

_printer = MathMLPrinter()
BESIDE = 50
"""How wide an equation that cannot be broken may be to have its rule beside it and not below."""


def _derivation(derivation: Derivation, page: Page) -> str:
    rows = "".join(_equation(equation) for equation in derivation.equations)
    reach = max((_reach(equation) for equation in derivation.equations), default=0)
    focus = ' tabindex="0" role="group" aria-label="Derivation"' if reach > 34 else ""
    return f'<div class="scroll derivation"{focus}><div class="equations">{rows}</div></div>'


def _reach(equation: Equation) -> float:
    """The width of what cannot be broken: the left side and the widest piece."""
    widest = max((estimate(piece.expr) + 3 for step in _steps(equation) for piece in step), default=0)
    return widest + estimate(equation.left)


def _equation(equation: Equation) -> str:
    put_in = 1 if len(equation.steps) == 3 and equation.ref is not None else -1
    right = "".join(_step(step, place == put_in) for place, step in enumerate(_steps(equation)))
    why = f'<p class="why">{xml(equation.why)}</p>' if equation.why else ""
    left = f'<div class="left">{math(equation.left, display=True)}</div>'
    kind = "equation wide" if why and _reach(equation) > BESIDE else "equation"
    return f'<div class="{kind}"{reference(equation.ref)}>{left}<div class="right">{right}</div>{why}</div>'


def _steps(equation: Equation) -> list[list[Piece]]:
    """The steps of a chain, each cut into pieces between which a line can break."""
    steps: list[list[Piece]] = []
    for line in lines(equation, PIECE):
        for piece in line:
            if piece.start:
                steps.append([])
            steps[-1].append(piece)
    return steps


def _step(pieces: list[Piece], put_in: bool) -> str:
    """One step of a chain; the page computes again the one with the numbers put in."""
    kind = "step put" if put_in else "step"
    return f'<div class="{kind}">{" ".join(_piece(piece.expr, piece.start) for piece in pieces)}</div>'


def _piece(expr: Expr, start: bool) -> str:
    return wrap(_printer.equals(expr) if start else _printer.tail(expr), display=True)


# --- tables ----------------------------------------------------------------------------------------------


def _table(table: Table, page: Page) -> str:
    key = page.key(table.caption or "table")
    caption = f'<caption id="{key}">{xml(table.caption)}</caption>' if table.caption else ""
    label = f'aria-labelledby="{key}"' if table.caption else 'aria-label="Table"'
    spread = [len(longest_after(table, column)) for column in range(columns_of(table))]
    head = "".join(_header(table, column) for column in range(len(table.columns)))
    rows = "".join(f"<tr>{_row(table, row, spread)}</tr>" for row in table.rows)
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll tabled" role="group" tabindex="0" {label}><table>{caption}{body}</table></div>'


def _header(table: Table, column: int) -> str:
    kind = ' class="numeric"' if column in table.numeric else ""
    return f'<th scope="col"{kind}>{_heading(table.columns[column])}</th>'


def _heading(cell: Cell) -> str:
    """A heading; one that is a formula alone says itself in plain text to readers that do not know MathML."""
    parts = as_parts(cell)
    shown = inline(parts)
    if not parts or any(isinstance(part, str) for part in parts):
        return shown
    words = " ".join(text_of(part) for part in parts if not isinstance(part, str))
    return f'<span role="math" aria-label="{xml(words)}">{shown}</span>'


def _row(table: Table, row: tuple[Cell, ...], spread: list[int]) -> str:
    first_names = 0 not in table.numeric and bool(row) and bool(as_parts(row[0]))
    cells = [_cell(cell, column in table.numeric, spread[column]) for column, cell in enumerate(row)]
    if first_names:
        cells[0] = f'<th scope="row">{_heading(row[0])}</th>'
    return "".join(cells)


def _cell(cell: Cell, numeric: bool, spread: int) -> str:
    number = number_of(cell)
    shown = _aligned(number, spread if numeric else 0) if number else inline(as_parts(cell))
    kind = ' class="numeric"' if numeric else ""
    return f"<td{kind}>{shown}</td>"


def _aligned(number: Num, spread: int) -> str:
    before, after = cut(number_text(number))
    tail = f'<span class="after f{min(spread, 24)}">{after}</span>' if spread else after
    title = f' title="{xml(full(number))}"' if number.exact or is_rounded(number) or number.ref else ""
    return f'<span class="number"{attributes(number) if number.ref else ""}{title}>{before}{tail}</span>'


# --- the rest --------------------------------------------------------------------------------------------


def _items(items: Items, page: Page) -> str:
    tag = "ol" if items.ordered else "ul"
    return f"<{tag}>{''.join(f'<li>{inline(item)}</li>' for item in items.items)}</{tag}>"


def _code(code: Code, page: Page) -> str:
    text = f'<code class="language-{xml(code.language)}">{xml(code.text)}</code>'
    return f'<pre class="scroll" tabindex="0">{text}</pre>'


def _callout(callout: Callout, page: Page) -> str:
    mark = CALLOUTS[callout.kind]
    sign = f'<span class="sign" aria-hidden="true">{mark.sign}</span>'
    title = f'<p class="callout-title">{sign}{xml(callout.title or mark.word)}</p>'
    return f'<div class="callout {callout.kind}" role="note">{title}<p>{inline(callout.parts)}</p></div>'


def _figure(figure: Figure, page: Page) -> str:
    drawing = svg(figure.drawing, figure.alt, page.key("figure"))
    if figure.view == "trails":
        return _captioned(drawing, figure.caption, ' data-view="trails"').replace("</figure>", f"{_SLIDER}</figure>")
    return _captioned(drawing, figure.caption, f' data-view="{figure.view}"' if figure.view else "")


_SLIDER = '<label class="trail-slider" hidden>Update <input type="range" min="0" step="1" aria-label="Update"> <output></output></label>'
"""Shown by the page's script; without it the picture shows the whole ways."""


def _captioned(drawing: str, caption: Parts, more: str = "") -> str:
    words = f"<figcaption>{inline(caption)}</figcaption>" if caption else ""
    return f'<figure{more}><div class="scroll canvas" tabindex="0" role="group" aria-label="Drawing">{drawing}</div>{words}</figure>'


def _glance(glance: Glance, page: Page) -> str:
    pictures = f'<div class="glance-pictures">{histogram(glance)}{heat_map(glance)}</div>'
    words = f'<p class="glance-words">{math(glance.name)}: {inline(glance.words)}</p>'
    return f'<div class="glance"{reference(glance.ref)}>{words}{pictures}</div>'


def _instant(instant: Instant, page: Page) -> str:
    where = f"update-{instant.step}/" if instant.step else ""
    key = page.key(f"{where}{instant.phase}{'/' + instant.name if instant.name else ''}", fold=False)
    facts = {
        "phase": instant.phase, "step": str(instant.step), "title": instant.title,
        "computes": _keys(instant.computes), "reads": _keys(instant.reads),
        "module": instant.name if _has_parts(instant) else "",
    }  # fmt: skip
    data = "".join(f' data-{name}="{xml(value)}"' for name, value in facts.items() if value)
    return f'<div class="instant" id="{key}"{data}>{blocks(instant.blocks, page)}</div>'


def _has_parts(instant: Instant) -> bool:
    """Whether instants lie folded in an instant."""
    return any(isinstance(x, Instant) for block in instant.blocks if isinstance(block, Details) for x in block.blocks)


def _keys(refs: Iterable[Ref]) -> str:
    """References as one attribute; names cannot hold the line break that parts them."""
    return "\n".join(ref_key(ref) for ref in refs)


def _plot(plot: Plot, page: Page) -> str:
    drawing = svg(plot_drawing(plot), plot.alt, page.key("plot"), over=hits(plot))
    words = f"<figcaption>{inline(plot.caption)}</figcaption>" if plot.caption else ""
    table = _table(numbers(plot), page)
    data = f'<details class="plot-data"><summary>The numbers</summary><div class="folded">{table}</div></details>'
    return f'<figure class="plot"><div class="canvas">{drawing}</div>{words}{data}</figure>'


def _details(details: Details, page: Page) -> str:
    opened = " open" if details.open else ""
    inside = blocks(details.blocks, page)
    summary = f"<summary>{xml(details.summary)}</summary>"
    return f'<details{opened}>{summary}<div class="folded">{inside}</div></details>'


def phase_mark(phase: str) -> str:
    """Return the word of a phase with its sign, or nothing."""
    if not phase:
        return ""
    mark = PHASES[phase]
    return f'<span class="phase"><span aria-hidden="true">{mark.sign}</span> {mark.word}</span> '


def _section(section: Section, page: Page) -> str:
    key = page.key(section.anchor or section.title)
    page.contents.append((page.level, key, section))
    tag = f"h{min(page.level, 6)}"
    heading = f'<{tag} id="{key}">{phase_mark(section.phase)}{xml(section.title)}</{tag}>'
    page.level += 1
    inside = blocks(section.blocks, page)
    page.level -= 1
    kind = f' class="in-phase phase-{section.phase}"' if section.phase else ""
    named = f' aria-labelledby="{key}"' if page.level == 2 else ""  # parts of a part are no landmarks of their own
    return f"<section{kind}{named}>\n{heading}\n{inside}\n</section>"


_BLOCKS: dict[type[Block], Callable[[Any, Page], str]] = {
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
