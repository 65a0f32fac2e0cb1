"""A Document for a terminal, through rich: 80 columns unless told otherwise, in colour only where wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

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
from backproof.document.math import Expr

from .escape import clean
from .math_text import TextPrinter, text_of
from .palette import CALLOUTS, PHASES
from .plot import ends, mark_of, plot_characters
from .text_table import table_lines

__all__ = ["render_text", "renderable"]

_STYLES = {"note": "blue", "warning": "yellow", "agrees": "green", "finding": "red"}


@dataclass(frozen=True)
class Place:
    """Where a block stands: the columns that are left for it, and how deep its section is."""

    width: int = 80
    depth: int = 0


def render_text(document: Document, width: int = 80, color: bool = False) -> str:
    """Return the document as plain text, or with the terminal's codes for colour.

    Args:
        document: what to show.
        width: the columns of the page.
        color: whether to colour headings and marks.
    """
    console = Console(
        file=StringIO(), width=width, force_terminal=color, no_color=not color, highlight=False, markup=False,
        emoji=False, color_system="standard" if color else None, legacy_windows=False,
    )  # fmt: skip
    console.print(renderable(document))
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in written.splitlines()) + "\n"


@dataclass(frozen=True)
class _Page:
    """A document that takes the width of the console that prints it."""

    document: Document

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _laid_out(self.document, options.max_width)


def renderable(document: Document) -> RenderableType:
    """Return the document as something that a rich console prints, at its own width."""
    return _Page(document)


def _laid_out(document: Document, width: int) -> RenderableType:
    head: list[RenderableType] = [Text(clean(document.title), style="bold")]
    if document.subtitle:
        head.append(Text(clean(document.subtitle), style="dim"))
    if document.verdict:
        head.append(_verdict(document))
    rule = Text("═" * min(width, max(cell_len(document.title), 40)), style="dim")
    chapters = [row for part in document.parts for row in (Text(), _laid_out(part, width))]
    inside = [_blocks(document.blocks, Place(width))] if document.blocks else []
    return Group(*head, rule, Text(), *inside, *chapters)


def _verdict(document: Document) -> Text:
    mark = CALLOUTS.get(document.standing)
    word = f"{mark.sign} {mark.word}: " if mark else ""
    return Text(word, style=_STYLES.get(document.standing, "")).append(clean(document.verdict), style="default")


def _blocks(found: Iterable[Block], place: Place) -> RenderableType:
    parts = [part for block in found for part in (_BLOCKS[type(block)](block, place), Text())]
    return Group(*parts[:-1])


def _indented(block: RenderableType, columns: int) -> RenderableType:
    return Padding(block, (0, 0, 0, columns))


def _inline(parts: Parts) -> str:
    return "".join(clean(part) if isinstance(part, str) else text_of(part) for part in parts)


def _paragraph(paragraph: Paragraph, place: Place) -> RenderableType:
    return Text(_inline(paragraph.parts))


# --- derivations -----------------------------------------------------------------------------------------

_printer = TextPrinter()
_INDENT = 2


def _width(expr: Expr) -> float:
    return cell_len(text_of(expr))


def _derivation(derivation: Derivation, place: Place) -> RenderableType:
    lefts = [int(_width(equation.left)) for equation in derivation.equations]
    column = max((left for left in lefts if left <= place.width // 3), default=0)
    return Group(*(line for equation in derivation.equations for line in _equation(equation, column, place)))


def _equation(equation: Equation, column: int, place: Place) -> list[RenderableType]:
    left = text_of(equation.left)
    apart = cell_len(left) > column
    column = min(column, 4) if apart else column
    room = place.width - _INDENT - column
    right = [part for line in _lines(equation, room) for part in broken(line, room)] or [""]
    rows = [Text(left)] if apart else []
    lead = "" if apart else " " * (column - cell_len(left)) + left
    rows += [Text((" " * column if place_ or rows else lead) + line) for place_, line in enumerate(right)]
    return [_indented(row, _INDENT) for row in _with_reason(rows, equation.why, column, place)]


def _lines(equation: Equation, room: int) -> list[str]:
    """The steps of a chain, as many on a line as fit; a step that is longer than a line stands alone."""
    found: list[str] = []
    for step in equation.steps:
        text = _printer.equals(step)
        if found and cell_len(found[-1]) + cell_len(text) <= room:
            found[-1] += text
        else:
            found.append(text)
    return found


_SIGNS = (" + ", " − ", " ⊙ ", " ∗ ", " ⋆ ", " = ", "·")


def broken(text: str, width: int) -> list[str]:
    """Break a formula before a sign, at the outermost parentheses that allow it; what follows is set in by three.

    >>> broken("= (a + b) ⊙ (c + d)", 14)
    ['= (a + b)', '   ⊙ (c + d)']
    """
    found: list[str] = []
    rest, indent = text.rstrip(), 0
    while cell_len(rest) > width - indent and (place := _break_at(rest, width - indent)):
        found.append(" " * indent + rest[:place].rstrip())
        rest, indent = rest[place:].lstrip(), 3 + text[:1].isspace()
    return [*found, " " * indent + rest]


def _break_at(text: str, width: int) -> int:
    """The place of the sign at which a text is best broken; 0 where there is none."""
    depth, columns, best = 0, 0, (999.0, 0)
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        columns += cell_len(sign)
        if columns > width:
            break
        level = _level_at(text, place, depth)
        early = 2.0 if columns < width / 3 else 0.0
        if place > 3 and level is not None and level + early <= best[0]:
            best = (level + early, place)
    return best[1]


def _level_at(text: str, place: int, depth: int) -> float | None:
    """How good a place is for a break: the depth of the parentheses; a space without a sign counts half a level more."""
    if text[place : place + 3] in _SIGNS or (text[place] == "·" and text[place + 1 : place + 3] != "10"):
        return depth
    plain = text[place] == " " and text[place - 2 : place + 1] not in _SIGNS and text[place - 1] not in "+−⊙∗⋆=≤≥<>≠≈∑√"
    return depth + 0.5 if plain else None


def _with_reason(rows: list[Text], why: str, column: int, place: Place) -> list[Text]:
    if not why:
        return rows
    reason = Text(f"({clean(why)})", style="dim italic")
    if rows[-1].cell_len + reason.cell_len + 4 <= place.width - _INDENT and len(rows) == 1:
        return [rows[0].append("   ").append_text(reason)]
    wrapped = reason.wrap(Console(width=place.width), max(20, place.width - column - 6))
    return [*rows, *(Text(" " * (column + 3)).append_text(line) for line in wrapped)]


# --- the rest --------------------------------------------------------------------------------------------


def _table(table: Table, place: Place) -> RenderableType:
    caption = [Text(clean(table.caption), style="bold")] if table.caption else []
    return Group(*caption, *(Text(line, no_wrap=True) for line in table_lines(table, place.width)))


def _items(items: Items, place: Place) -> RenderableType:
    rows = []
    for number, item in enumerate(items.items, 1):
        mark = f"{number}." if items.ordered else "•"
        rows.append(_hanging(mark, Text(_inline(item)), place))
    return Group(*rows)


def _hanging(mark: str, body: Text, place: Place, style: str = "") -> RenderableType:
    width = cell_len(mark) + 1
    wrapped = body.wrap(Console(width=place.width), max(10, place.width - width))
    heads = [Text(f"{mark} ", style=style), *(Text(" " * width) for _ in wrapped[1:])]
    return Group(*(head.append_text(line) for head, line in zip(heads, wrapped, strict=False)))


def _code(code: Code, place: Place) -> RenderableType:
    return _indented(Text(clean(code.text.expandtabs(4).rstrip("\n"))), 4)


def _callout(callout: Callout, place: Place) -> RenderableType:
    mark = CALLOUTS[callout.kind]
    title = f"{mark.word}: {clean(callout.title)}" if callout.title else mark.word
    body = Text(f"{title}. ", style=f"bold {_STYLES[callout.kind]}").append(
        _inline(callout.parts), style="not bold default"
    )
    return _hanging(f"[{mark.sign}]", body, place, _STYLES[callout.kind])


def _figure(figure: Figure, place: Place) -> RenderableType:
    return Text(f"[Drawing] {clean(figure.alt)}").append(f"\n{_inline(figure.caption)}" if figure.caption else "")


def _plot(plot: Plot, place: Place) -> RenderableType:
    picture = [Text(clean(line), no_wrap=True) for line in plot_characters(plot, min(place.width, 76))]
    shown = [Text(line) for line in _legend(plot)]
    words = _inline(plot.caption)
    return Group(*picture, *shown, Text(f"[Plot] {clean(plot.alt)}"), *([Text(words)] if words else []))


def _legend(plot: Plot) -> Iterable[str]:
    for place, (label, *points) in enumerate(ends(plot)):
        first, last = (f"({text_of(x)}, {text_of(y)})" for x, y in points)
        yield f"  {mark_of(place)} {clean(label)}: from {first} to {last}"


def _details(details: Details, place: Place) -> RenderableType:
    inside = _blocks(details.blocks, replace(place, width=place.width - 2))
    return Group(Text(f"▾ {clean(details.summary)}", style="bold"), _indented(inside, 2))


def _glance(glance: Glance, place: Place) -> RenderableType:
    return Text(f"{text_of(glance.name)}: {_inline(glance.words)}")


def _instant(instant: Instant, place: Place) -> RenderableType:
    return _blocks(instant.blocks, place)


def _section(section: Section, place: Place) -> RenderableType:
    title = Text(clean(section.title), style="bold")
    if section.phase:
        mark = PHASES[section.phase]
        title = Text(f"{mark.sign} {mark.word} · ", style=mark.terminal).append_text(title)
    line = Text("━─╌"[min(place.depth, 2)] * min(place.width, title.cell_len), style="dim")
    inside = _blocks(section.blocks, replace(place, depth=place.depth + 1))
    return Group(title, line, inside, *([Text()] if place.depth == 0 else []))


_BLOCKS: dict[type[Block], Callable[[Any, Place], RenderableType]] = {
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
