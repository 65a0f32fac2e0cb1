"""A Document as a LaTeX article for pdflatex, or as a fragment for a notebook's export."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
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

from .cells import as_parts, column_groups, columns_of, cut, joined, longest_after, prose_widths, table_number
from .chain import Piece, estimate, lines
from .escape import latex as escape
from .math_latex import LatexPrinter, latex_of
from .math_text import number_text, text_of
from .palette import CALLOUTS, PHASES
from .plot import plot_drawing
from .tikz import render_tikz, tikz_colors

__all__ = ["aligned_rows", "join_rows", "render_latex", "render_latex_fragment"]

LINE = 66.0
"""Characters that one line of mathematics may take on the page."""
_ROWS = 40
"""Rows of one align environment; more would make TeX keep too much at once."""


@dataclass
class Writer:
    """The depth of the headings, and whether pictures are drawn (they need tikz in the preamble)."""

    depth: int = 0
    pictures: bool = True


def render_latex(document: Document) -> str:
    """Return a complete article that pdflatex compiles.

    Args:
        document: what to show.
    """
    body = _body(document, Writer())
    head = f"{_PREAMBLE}{tikz_colors()}\n\\begin{{document}}\n{_heading(document)}"
    return f"{head}\n\n{body}\n\n\\end{{document}}\n"


def render_latex_fragment(document: Document) -> str:
    """Return the body alone, for a document that loads amsmath, booktabs and longtable; pictures as words."""
    return f"{_heading(document)}\n\n{_body(document, Writer(pictures=False))}\n"


_PREAMBLE = r"""\documentclass[11pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern}
\usepackage{textcomp}
\usepackage[margin=24mm]{geometry}
\usepackage{amsmath}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage{graphicx}
\usepackage{xcolor}
\usepackage{tikz}
\allowdisplaybreaks
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.5\baselineskip}
\setcounter{secnumdepth}{0}
\setcounter{MaxMatrixCols}{64}
\emergencystretch=3em
"""


def _body(document: Document, writer: Writer) -> str:
    """The blocks, then the parts as chapters one level deeper."""
    chapters = [_chapter(part, writer) for part in document.parts]
    return "\n\n".join(text for text in (_blocks(document.blocks, writer), *chapters) if text)


def _chapter(part: Document, writer: Writer) -> str:
    command = _HEADINGS[min(writer.depth, 2)]
    inside = _body(part, Writer(writer.depth + 1, writer.pictures))
    return rf"\{command}*{{{escape(part.title)}}}{_standing(part)}\par\medskip" + f"\n\n{inside}"


def _heading(document: Document) -> str:
    title = rf"{{\raggedright\LARGE\bfseries {escape(document.title)}\par}}"
    return rf"{title}{_standing(document)}\par\medskip"


def _standing(document: Document) -> str:
    """The subtitle and the verdict."""
    subtitle = rf"\par {escape(document.subtitle)}" if document.subtitle else ""
    mark = CALLOUTS.get(document.standing)
    word = rf"\textbf{{{mark.latex} {mark.word}.}} " if mark else ""
    verdict = rf"\par {word}{escape(document.verdict)}" if document.verdict else ""
    return subtitle + verdict


def _blocks(found: Iterable[Block], writer: Writer) -> str:
    return "\n\n".join(_BLOCKS[type(block)](block, writer) for block in found)


def _inline(parts: Parts) -> str:
    return "".join(escape(part) if isinstance(part, str) else f"${latex_of(part)}$" for part in parts)


def _paragraph(paragraph: Paragraph, writer: Writer) -> str:
    return _inline(paragraph.parts)


# --- derivations -----------------------------------------------------------------------------------------

_printer = LatexPrinter()


def _derivation(derivation: Derivation, writer: Writer) -> str:
    parts: list[list[list[str]]] = [[]]
    lefts = [estimate(equation.left) for equation in derivation.equations]
    widest = max((left for left in lefts if left <= LINE / 2), default=0.0)
    for equation in derivation.equations:
        if sum(len(rows) for rows in parts[-1]) > _ROWS:
            parts.append([])
        parts[-1].append(aligned_rows(equation, left=widest))
    return "\n".join(f"\\begin{{align*}}\n{join_rows(part)}\n\\end{{align*}}" for part in parts if part)


def join_rows(equations: list[list[str]]) -> str:
    """Return the rows of equations one under another, with some space between two equations."""
    return " \\\\[4pt]\n".join(" \\\\[0pt]\n".join(rows) for rows in equations)


def aligned_rows(equation: Equation, width: float = LINE, shrink: bool = True, left: float = 0.0) -> list[str]:
    """Return the rows of an equation for an aligned environment.

    Args:
        equation: the chain.
        width: the characters that fit on a line.
        shrink: whether what can't be broken is scaled down to the line (needs graphicx).
        left: the width of the widest left side among the equations that are aligned with it.
    """
    apart = estimate(equation.left) > width / 2
    left_width = max(estimate(equation.left), left)
    room = width - (4 if apart else left_width)
    broken = lines(equation, room)
    rows = [_row(line, room, shrink and width == LINE) for line in broken]
    shown = latex_of(equation.left)
    if apart and rows:
        rows = [rf"&{shown}", *(rf"&\quad {row}" for row in rows)]
    else:
        rows = [f"{shown} &{rows[0]}", *(f"&{row}" for row in rows[1:])] if rows else [f"&{shown}"]
    return _with_reason(rows, equation.why, room - _length(broken[0]) if broken else room, apart)


def _row(line: list[Piece], room: float, shrink: bool) -> str:
    body = r" \; ".join(_printer.equals(piece.expr) if piece.start else r"\quad " + _tail(piece) for piece in line)
    if shrink and _length(line) > room + 8:
        most = rf"{min(0.98, room / LINE):.2f}\linewidth"
        return rf"\resizebox{{\ifdim\width>{most} {most}\else\width\fi}}{{!}}{{$\displaystyle {body}$}}"
    return body


def _tail(piece: Piece) -> str:
    return "{}" + _printer.tail(piece.expr)


def _length(line: list[Piece]) -> float:
    return sum(estimate(piece.expr) + 3 for piece in line)


def _with_reason(rows: list[str], why: str, room: float, apart: bool) -> list[str]:
    if not why:
        return rows
    if not apart and 0.7 * len(why) + 4 < room:
        return [rf"{rows[0]} \qquad \text{{\footnotesize\itshape {escape(why)}}}", *rows[1:]]
    box = rf"\parbox{{0.7\linewidth}}{{\raggedright\footnotesize\itshape {escape(why)}}}"
    return [*rows, rf"&\quad {box}"]


# --- tables ----------------------------------------------------------------------------------------------

_PAGE, _LINE = 84.0, 96.0  # letters of a line of small type, with and without the gaps of a table


def _table(table: Table, writer: Writer) -> str:
    columns = range(columns_of(table))
    naturals = [_width(table, column) for column in columns]
    prose = prose_widths(naturals, [c for c in columns if _is_prose(table, c)], _PAGE, 2.5)
    if prose:
        return _part(table, list(columns), table.caption, prose)
    groups = column_groups([min(40.0, n) for n in naturals], _PAGE, 2.5)
    titles = [table.caption, *["(continued)" for _ in groups[1:]]]
    wide = {c: 0.38 * _LINE for c in columns if naturals[c] >= 40 and c not in table.numeric}
    return "\n\n".join(_part(table, group, title, wide) for group, title in zip(groups, titles, strict=True))


def _width(table: Table, column: int) -> float:
    cells = [row[column] for row in table.rows if column < len(row)] + list(table.columns[column : column + 1])
    return max((len(joined(cell, text_of, str)) for cell in cells), default=1)


def _is_prose(table: Table, column: int) -> bool:
    """Whether a column holds words that may be broken over lines."""
    cells = [row[column] for row in table.rows if column < len(row)]
    words = all(isinstance(part, str) for cell in cells for part in as_parts(cell))
    return words and column not in table.numeric and any(" " in str(c) for c in cells)


def _part(table: Table, group: list[int], title: str, wide: dict[int, float]) -> str:
    kinds = "".join(_kind(table, column, wide) for column in group)
    head = " & ".join(_header(table, column) for column in group)
    widest = {column: longest_after(table, column) for column in group}
    rows = "".join(
        f"{' & '.join(_cell(table, row, column, widest[column]) for column in group)} \\\\\n"
        for row in range(len(table.rows))
    )
    caption = rf"\par\smallskip{{\small\bfseries {escape(title)}\par}}\nopagebreak" if title else ""
    return (
        f"{caption}\n{{\\small\\setlength{{\\LTleft}}{{0pt}}\\begin{{longtable}}{{@{{}}{kinds}@{{}}}}\n"
        f"\\toprule\n{head} \\\\\n\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n{rows}\\end{{longtable}}}}"
    )


def _kind(table: Table, column: int, wide: dict[int, float]) -> str:
    if column in table.numeric:
        return "r"
    return rf"p{{{wide[column] / _LINE:.3f}\linewidth}}" if column in wide else "l"


def _header(table: Table, column: int) -> str:
    return _inline(as_parts(table.columns[column])) if column < len(table.columns) else ""


def _cell(table: Table, row: int, column: int, widest: str) -> str:
    cells = table.rows[row]
    if column >= len(cells):
        return ""
    number = table_number(table, row, column)
    if number is None:
        return joined(cells[column], lambda part: f"${latex_of(part)}$", _breakable)
    before, after = cut(number_text(number))
    return escape(before) + (rf"\rlap{{{_after(after)}}}\phantom{{{_after(widest)}}}" if widest else "")


def _breakable(text: str) -> str:
    """Text in which a long name may be broken after an underscore, a stroke or a point."""
    shown = escape(text)
    if max(map(len, text.split()), default=0) <= 18:
        return shown
    return re.sub(r"(\\_|/|\.(?=\w))", r"\1\\allowbreak{}", shown)


def _after(text: str) -> str:
    """Return what follows the point, with its power of ten."""
    digits, dot, power = text.partition("·10")
    raised = unicodedata.normalize("NFKC", power).replace("−", "-")
    return digits + (rf"${{}}\cdot 10^{{{raised}}}$" if dot else "")


# --- the rest --------------------------------------------------------------------------------------------


def _items(items: Items, writer: Writer) -> str:
    kind = "enumerate" if items.ordered else "itemize"
    listed = "\n".join(rf"\item {_inline(item)}" for item in items.items)
    return f"\\begin{{{kind}}}\n{listed}\n\\end{{{kind}}}" if items.items else ""


_CODE_WIDTH = 84


def _code(code: Code, writer: Writer) -> str:
    shown = [piece for line in code.text.expandtabs(4).rstrip("\n").split("\n") for piece in _folded(line)]
    body = "\\\\\n".join(rf"\mbox{{{escape(line).replace(' ', '~')}}}" for line in shown)
    return f"\\begin{{quote}}\\footnotesize\\ttfamily\\raggedright\n{body}\n\\end{{quote}}"


def _folded(line: str) -> list[str]:
    return [line[start : start + _CODE_WIDTH] for start in range(0, max(1, len(line)), _CODE_WIDTH)]


_TONES = {"note": "accent", "warning": "series4", "agrees": "update", "finding": "backward"}


def _callout(callout: Callout, writer: Writer) -> str:
    mark = CALLOUTS[callout.kind]
    title = f"{mark.latex} {mark.word}{': ' + escape(callout.title) if callout.title else ''}".strip()
    colored = (
        rf"{{\color{{bp-{_TONES[callout.kind]}}}\bfseries {title}.}}" if writer.pictures else rf"\textbf{{{title}.}}"
    )
    return f"\\begin{{quote}}\n{colored} {_inline(callout.parts)}\n\\end{{quote}}"


def _figure(figure: Figure, writer: Writer) -> str:
    return _picture(render_tikz(figure.drawing), figure.caption, figure.alt, writer)


def _plot(plot: Plot, writer: Writer) -> str:
    return _picture(render_tikz(plot_drawing(plot)), plot.caption, plot.alt, writer)


def _picture(drawing: str, caption: Parts, alt: str, writer: Writer) -> str:
    if not writer.pictures:
        return rf"\emph{{{escape(alt)}}} {_inline(caption)}"
    words = rf"\\[2pt] {{\small {_inline(caption)}}}" if caption else ""
    return f"\\begin{{center}}\n{drawing}{words}\n\\end{{center}}"


def _details(details: Details, writer: Writer) -> str:
    return rf"\paragraph{{{escape(details.summary)}}}\mbox{{}}\par" + "\n\n" + _blocks(details.blocks, writer)


def _glance(glance: Glance, writer: Writer) -> str:
    return f"{_inline((glance.name, ': '))}{_inline(glance.words)}"


def _instant(instant: Instant, writer: Writer) -> str:
    return _blocks(instant.blocks, writer)


_HEADINGS = ("section", "subsection", "subsubsection", "paragraph")


def _section(section: Section, writer: Writer) -> str:
    command = _HEADINGS[min(writer.depth, 3)]
    end = r"\mbox{}\par" if command == "paragraph" else ""
    writer.depth += 1
    inside = _blocks(section.blocks, writer)
    writer.depth -= 1
    return rf"\{command}*{{{_phase(section, writer)}{escape(section.title)}}}{end}" + f"\n\n{inside}"


def _phase(section: Section, writer: Writer) -> str:
    if not section.phase:
        return ""
    mark = PHASES[section.phase]
    color = rf"\color{{bp-{section.phase}}}" if writer.pictures else ""
    return rf"{{{color}\normalfont\small\scshape {mark.latex} {mark.word}}}\enspace "


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
