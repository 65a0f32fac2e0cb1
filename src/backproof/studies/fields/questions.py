"""Questions to the fields of a network, beside its table: one layer seen from another, and what would reach a size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...document.blocks import Block, Document, Paragraph, Section, Table
from ...document.math import Num
from ...result import Result
from .page import field_document, table_of
from .receptive import FieldLayer, ReceptiveField
from .way import Change

__all__ = ["Asked", "ask_fields"]


@dataclass(frozen=True)
class Asked(Result):
    """The fields with answers to questions; see :func:`ask_fields`."""

    fields: ReceptiveField
    between: tuple[tuple[str, FieldLayer], ...] = ()
    wanted: int | None = None
    changes: tuple[Change, ...] = ()

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether a comparison disagrees."""
        return self.fields.finding

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record of the fields, with ``between`` and ``changes`` where they were asked for."""
        found = self.fields.to_dict(full)
        if self.between:
            found["between"] = [{"before": name, **layer.to_dict()} for name, layer in self.between]
        if self.wanted is not None:
            found["changes"] = [vars(change) for change in self.changes]
        return found

    def document(self) -> Document:
        """The document of the fields, the answers first."""
        document = field_document(self.fields)
        return replace(document, blocks=(*self._blocks(), *document.blocks), record=self.to_dict())

    def _blocks(self) -> list[Block]:
        blocks: list[Block] = []
        for name, layer in self.between:
            table = table_of((layer,), f"Sizes, strides and paddings in positions of {name}")
            blocks.append(Section(f"What {layer.name} sees of {name}", (table,), "result", "between"))
        if self.wanted is not None:
            blocks.append(Section(f"A field of {self.wanted}", (self._table(self.wanted),), "result", "changes"))
        return blocks

    def _table(self, wanted: int) -> Block:
        if not self.changes:
            return Paragraph(
                (
                    f"The field along axis 0 is {wanted} already, or no change of a single number of one layer reaches it.",
                )
            )
        rows = tuple((c.layer, c.what, Num(c.before), Num(c.after), Num(c.size)) for c in self.changes)
        heads = (("layer",), ("number",), ("as it is",), ("changed",), ("field then",))
        return Table(heads, rows, "The least change of one number of one layer, each confirmed", (2, 3, 4))


def ask_fields(fields: ReceptiveField, between: Sequence[tuple[str, str]] = (), wanted: int | None = None) -> Asked:
    """Answer questions about the fields of a network.

    Args:
        fields: of the network.
        between: pairs of layers, the one that is seen and the one that sees.
        wanted: a size that the last local field should reach along axis 0.

    Raises:
        InputError: there is no such layer, or the size is no size.
    """
    pairs = tuple((fields[before].name, fields.between(before, after)) for before, after in between)
    return Asked(fields, pairs, wanted, fields.reaching(wanted) if wanted is not None else ())
