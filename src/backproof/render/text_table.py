"""Tables as lines of text: numbers aligned at the point, wide tables cut into several, long cells wrapped."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len

from backproof.document.blocks import Table

from .cells import as_parts, column_groups, columns_of, cut, joined, longest_after, table_number
from .escape import clean
from .math_text import number_text, text_of

__all__ = ["table_lines"]

_GAP = 2


def table_lines(table: Table, width: int) -> list[str]:
    """Return a table as lines that fit the width, if need be with some columns under the others.

    Args:
        table: the table.
        width: the columns of the page.
    """
    columns = [_column(table, column) for column in range(columns_of(table))]
    most = (width - _GAP) // 2 if len(columns) > 1 else width
    widths = [min(most, max(cell_len(text) for text in texts)) for texts in columns]
    found: list[str] = []
    for group in column_groups(widths, width + _GAP, _GAP):
        found += [""] if found else []
        found += _part(table, [columns[column] for column in group], [widths[column] for column in group], group)
    return found


def _column(table: Table, column: int) -> list[str]:
    head = joined(table.columns[column], text_of, clean) if column < len(table.columns) else ""
    after = len(longest_after(table, column))
    return [head, *(_text(table, row, column, after) for row in range(len(table.rows)))]


def _text(table: Table, row: int, column: int, longest: int) -> str:
    cells = table.rows[row]
    number = table_number(table, row, column)
    if number is None:
        return joined(as_parts(cells[column]), text_of, clean) if column < len(cells) else ""
    before, after = cut(number_text(number))
    return before + after + " " * (longest - len(after))


def _part(table: Table, columns: Sequence[list[str]], widths: list[int], group: list[int]) -> list[str]:
    right = [column in table.numeric for column in group]
    head = _line([texts[0] for texts in columns], widths, right)
    rule = (" " * _GAP).join("─" * width for width in widths)
    rows = [_line([texts[row + 1] for texts in columns], widths, right) for row in range(len(table.rows))]
    return [*head, rule, *(line for row in rows for line in row)]


def _line(texts: list[str], widths: list[int], right: list[bool]) -> list[str]:
    cells = [_wrapped(text, width) for text, width in zip(texts, widths, strict=True)]
    height = max(len(cell) for cell in cells)
    return [
        (" " * _GAP)
        .join(
            _padded(cell[row] if row < len(cell) else "", width, to_right)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        )
        .rstrip()
        for row in range(height)
    ]


def _wrapped(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=True) or [""]


def _padded(text: str, width: int, to_right: bool) -> str:
    space = " " * max(0, width - cell_len(text))
    return space + text if to_right else text + space
