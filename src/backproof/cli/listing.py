"""A plain table as a result: what ``problems`` and ``doctor`` show."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backproof.errors import InputError

__all__ = ["Listing"]

Row = tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """A titled table, with the same facts as plain data.

    Args:
        title: what is listed.
        columns: the heads, shown in Markdown only; in a terminal the rows speak for themselves.
        rows: the cells, all rows as long as ``columns``.
        data: what ``--json`` prints.
        finding: whether something is wrong.
    """

    title: str
    columns: Row
    rows: tuple[Row, ...]
    data: dict[str, Any] = field(default_factory=dict)
    finding: bool = False

    def text(self) -> str:
        """Return the rows, columns aligned."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        rows = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in self.rows)
        return "\n".join("  ".join(cells).rstrip() for cells in rows)

    def markdown(self) -> str:
        """Return a Markdown table under its title."""
        rows = [self.columns, ("---",) * len(self.columns), *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
        return "\n".join([f"# {self.title}", "", *lines])

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """Return the data; it is never long enough for ``full`` to matter."""
        return self.data

    def save(self, path: Path) -> None:
        """Write text, Markdown or JSON, by the suffix."""
        writers: dict[str, Callable[[], str]] = {
            ".txt": self.text,
            ".md": self.markdown,
            ".json": lambda: json.dumps(self.data, indent=1),
        }
        writer = writers.get(path.suffix.lower())
        if writer is None:
            raise InputError(f"--out {path}: a plain list is written as one of {' '.join(writers)}.")
        path.write_text(writer() + "\n", encoding="utf-8")
