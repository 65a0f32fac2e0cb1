"""The coverage table: every operation, and how each domain reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .document.blocks import Document, Table
from .result import Result

__all__ = ["Coverage", "ops_table"]


@dataclass(frozen=True)
class Coverage(Result):
    """Operations x readings: "own" rule, by "family", from its "formula", or "none"."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The table as {"operations": [{"name", "family", reading: cover}]}."""
        return {
            "operations": [
                {"name": n, "family": f, **dict(zip(self.columns, cells, strict=True))} for n, f, cells in self.rows
            ]
        }

    def document(self) -> Document:
        """The table as a document."""
        head = (("operation",), ("family",), *((c,) for c in self.columns))
        rows = tuple((name, family, *cells) for name, family, cells in self.rows)
        return Document(
            "Operations and readings",
            (Table(head, rows, "How each reading covers each operation"),),
            record=self.to_dict(),
        )


def ops_table() -> Coverage:
    """How every reading covers every operation.

    Example:
        >>> import backproof as bp
        >>> bp.ops_table().columns
        ('gradient', 'numbers', 'exact', 'symbols', 'ranges', 'balls', 'affine', 'variances', 'signals', 'boxes')
    """
    from .domains import (
        REGISTERED,
        ball_layers,  # noqa: F401  more rules of balls
        mixing,  # noqa: F401  more rules of boxes
    )
    from .domains.affine import affine
    from .domains.balls import balls
    from .domains.boxes import boxes
    from .domains.entries import entries
    from .domains.numbers import numbers
    from .domains.ranges import ranges
    from .domains.signals import signals
    from .domains.symbols import symbols
    from .domains.variances import variances
    from .ops import OPS
    from .vjps import rule_of

    readings = {
        "numbers": numbers,
        "exact": entries,
        "symbols": symbols,
        "ranges": ranges,
        "balls": balls,
        "affine": affine,
        "variances": variances,
        "signals": signals,
        "boxes": boxes,
        **REGISTERED,
    }
    rows = [
        (op.name, op.family, (rule_of(op), *(d.cover(op) for d in readings.values())))
        for op in OPS.values()
        if op.family != "leaf"
    ]
    return Coverage(("gradient", *readings), tuple(sorted(rows, key=lambda r: (r[1], r[0]))))
