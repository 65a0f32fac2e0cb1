"""What the table renderers share: cells as parts, numbers cut at the point, columns that fit a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backproof.document.blocks import Part, Parts, Table
from backproof.document.math import Num

from .math_text import number_text
from .notation import is_plain

__all__ = [
    "Cell",
    "as_parts",
    "column_groups",
    "columns_of",
    "cut",
    "joined",
    "longest_after",
    "number_of",
    "prose_widths",
    "table_number",
]

Cell = Part | Parts | None


def as_parts(cell: Cell) -> Parts:
    """Return a cell as a tuple of parts, empty for an empty cell."""
    if cell is None:
        return ()
    return cell if isinstance(cell, tuple) else (cell,)


def number_of(cell: Cell) -> Num | None:
    """Return the number of a cell that is one number with a decimal point (or none), otherwise None."""
    parts = as_parts(cell)
    number = parts[0] if len(parts) == 1 else None
    return number if isinstance(number, Num) and is_plain(number) else None


def cut(text: str) -> tuple[str, str]:
    """Cut a number before its point, or before its power of ten.

    >>> cut("−0.0179"), cut("12")
    (('−0', '.0179'), ('12', ''))
    """
    for sign in ".·":
        if sign in text:
            place = text.index(sign)
            return text[:place], text[place:]
    return text, ""


def table_number(table: Table, row: int, column: int) -> Num | None:
    """Return the number to align at the point, if the column is numeric and the cell a plain number."""
    cells = table.rows[row]
    return number_of(cells[column]) if column in table.numeric and column < len(cells) else None


def longest_after(table: Table, column: int) -> str:
    """Return the longest of what stands after the point in a numeric column."""
    numbers = (table_number(table, row, column) for row in range(len(table.rows)))
    return max((cut(number_text(number))[1] for number in numbers if number), key=len, default="")


def columns_of(table: Table) -> int:
    """Return the number of columns, counting cells beyond the header."""
    return max([len(table.columns), *(len(row) for row in table.rows)])


def column_groups(widths: Sequence[float], total: float, gap: float) -> list[list[int]]:
    """Divide columns into groups that fit a width; each group after the first repeats the first column.

    Args:
        widths: the width of each column.
        total: the width of the page.
        gap: the space between two columns.
    """
    groups: list[list[int]] = [[]]
    used = 0.0
    for column, width in enumerate(widths):
        if used + width + gap > total and len(groups[-1]) > (len(groups) > 1):
            groups.append([0] if column else [])
            used = widths[0] + gap
        groups[-1].append(column)
        used += width + gap
    return groups


def prose_widths(naturals: Sequence[float], prose: Sequence[int], total: float, gap: float) -> dict[int, float]:
    """Widths for the columns of words, so that all columns fit side by side; empty where they cannot.

    Args:
        naturals: how wide each column would be on one line.
        prose: the columns whose words may be broken over lines.
        total: the width of the page.
        gap: the space between two columns.
    """
    room = total - sum(w + gap for i, w in enumerate(naturals) if i not in prose) - gap * len(prose)
    if not prose or room < NARROWEST * len(prose):
        return {}
    found: dict[int, float] = {}
    for done, column in enumerate(sorted(prose, key=lambda i: naturals[i])):
        found[column] = min(naturals[column], room / (len(prose) - done))
        room -= found[column]
    return found


NARROWEST = 11.0
"""What a column of words needs at least, in letters."""


def joined(cell: Cell, formula: Callable[..., str], prose: Callable[[str], str]) -> str:
    """Return a cell in some format, given how formulas and prose are written in it."""
    return "".join(prose(part) if isinstance(part, str) else formula(part) for part in as_parts(cell))
