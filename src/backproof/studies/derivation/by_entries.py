"""The scalar view of a derivation: each equation for one entry, with indices and sums."""

from __future__ import annotations

from dataclasses import dataclass

from ...document.blocks import Block, Derivation, Equation, Paragraph, Section
from ...document.math import Expr, Sym, plain
from ...domains.indexed import Indexer, Labels
from ...domains.printed import Unreadable
from .backward import Backward, Line
from .folding import Entry, fold, for_each

__all__ = ["EntryLine", "entries_section", "entry_lines"]

_LETTERS = ("n", "i", "p", "q", "r")


@dataclass(frozen=True)
class EntryLine:
    """The equation of one entry: the line that it belongs to, its indices, both sides."""

    line: Line
    labels: Labels
    left: Expr
    right: Expr


def entry_lines(work: Backward) -> list[EntryLine]:
    """Every equation of a derivation for one entry; one that has no such form is left out."""
    found = []
    for line in work.lines:
        made = _entry_line(work, line)
        if made is not None:
            found.append(made)
    return found


def _indexer(work: Backward) -> Indexer:
    shapes, symbols = {}, {}
    for node in work.joint.graph.nodes:
        symbol = (
            work.writer.symbol(node)
            if node.role != "helper" and (node.of is None or node.of.role != "helper")
            else None
        )
        key = ((node.of or node).name, node.of is not None)
        shapes[key] = node.shape
        if isinstance(symbol, Sym):
            symbols[key] = symbol
    return Indexer(shapes, symbols, frozenset(work.functions))


def _entry_line(work: Backward, line: Line) -> EntryLine | None:
    indexer = _indexer(work)
    shape, rank = line.node.shape, len(line.node.shape)
    labels = _labels(line, rank)
    if labels is None:
        return None
    try:
        left = indexer.entry(line.left, labels)
        right = indexer.entry(line.shaped, labels if shape else ())
    except (Unreadable, ValueError, KeyError, IndexError):
        return None
    return EntryLine(line, labels, left, right)


def _labels(line: Line, rank: int) -> Labels | None:
    """n, i for samples and features; o, c and kernel places for weights; i, j for matrices without samples."""
    if rank > len(_LETTERS):
        return None
    of = line.node.of or line.node
    if of.role == "parameter":
        return ("i", "j", "a", "b", "d")[:rank] if rank < 3 else ("o", "c", "a", "b", "d")[:rank]
    if rank == 1:
        return ("i",)
    return ("n", "c", *_LETTERS[2:])[:rank] if rank > 3 else _LETTERS[:rank]


def entries_section(work: Backward) -> Section:
    """The section of a page."""
    made = entry_lines(work)
    words = "Each equation above for one entry: a product of matrices is a sum over the index in its middle. "
    if len(made) < len(work.lines):
        words += f"{len(work.lines) - len(made)} of {len(work.lines)} have no such form here and stand above alone."
    blocks: list[Block] = [Paragraph((words,))]
    for run in fold([Entry(e.left, plain(e.right)) for e in made]):
        equations = Derivation(tuple(Equation(e.left, (e.right,)) for e in run.entries))
        if run.values:
            blocks += [Paragraph(for_each(run)), equations]
        elif isinstance(blocks[-1], Derivation) and not isinstance(blocks[-2], Paragraph):
            blocks[-1] = Derivation((*blocks[-1].equations, *equations.equations))
        else:
            blocks.append(equations)
    return Section("By entries", tuple(blocks), "result", "entries")
