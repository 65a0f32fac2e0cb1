"""What a check says: the verdict, the wrong entries, the mistake, where it is, and which oracles were asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..document.blocks import Block, Callout, Document, Items, Table
from ..document.math import Num
from ..result import Result, plain
from .program import Input

__all__ = ["Checked", "Entry", "Oracle", "Where"]

Index = tuple[int, ...]
SHOWN = 12


@dataclass(frozen=True)
class Entry:
    """One wrong entry: of which input, where in it, what was claimed and what is right."""

    input: Input
    index: Index
    claimed: Any
    expected: Any

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain data."""
        return {
            "input": str(self.input),
            "index": list(self.index),
            "claimed": _number(self.claimed),
            "expected": _number(self.expected),
        }


def _number(value: Any) -> Any:
    return [value.real, value.imag] if isinstance(value, complex) else value


@dataclass(frozen=True)
class Where:
    """The operation, the path of its module and the line of the source."""

    operation: str
    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        parts = [self.operation, f"in {self.module}" if self.module else "", f"at {self.source}" if self.source else ""]
        return " ".join(p for p in parts if p)

    def __contains__(self, text: str) -> bool:
        return text in str(self)

    def to_dict(self) -> dict[str, str]:
        """The place as plain data."""
        return {"operation": self.operation, "module": self.module, "source": self.source}


@dataclass(frozen=True)
class Oracle:
    """One independent way to the gradient: what it says, how far it is off at most, and what it resolves.

    ``agrees`` is None where it could not tell; ``error`` and ``resolution`` are relative to the gradient's size.
    """

    name: str
    agrees: bool | None
    error: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The oracle as plain data."""
        return {"name": self.name, "agrees": self.agrees, "error": plain(self.error), "note": self.note}


@dataclass(frozen=True)
class Checked(Result):
    """Whether a gradient is right.

    Args:
        ok: True, False, or None where it could not be decided.
        wrong: every wrong entry.
        cause: the mistake in words, or None.
        where: the operation, module and line, or None.
        notes: what else there is to know: kinks, chance, conditioning, what was tried.
        oracles: the independent ways and what each says.
        title: what was checked.
        entries: how many entries were compared.
    """

    ok: bool | None
    wrong: tuple[Entry, ...] = ()
    cause: str | None = None
    where: Where | None = None
    notes: tuple[str, ...] = ()
    oracles: tuple[Oracle, ...] = ()
    title: str = ""
    entries: int = 0

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether the gradient is wrong, or could not be confirmed."""
        return self.ok is not True

    @property
    def verdict(self) -> str:
        """The verdict in one line."""
        if self.ok is None:
            return "undecided: no oracle that is left could confirm or refute the gradient"
        if self.ok:
            return f"the gradient is right: all {self.entries:,} entries"
        return f"the gradient is wrong in {len(self.wrong):,} of {self.entries:,} entries" if self.wrong else "wrong"

    def message(self, most: int = 5) -> str:
        """The finding in a few lines, for a test that fails."""
        lines = [f"{self.title or 'gradient'}: {self.verdict}"]
        lines += [f"  mistake: {self.cause}"] if self.cause else []
        lines += [f"  where: {self.where}"] if self.where else []
        lines += [
            f"  {e.input}{list(e.index)}: claimed {_short(e.claimed)}, expected {_short(e.expected)}"
            for e in self.wrong[:most]
        ]
        if len(self.wrong) > most:
            lines.append(f"  and {len(self.wrong) - most:,} more")
        return "\n".join([*lines, *(f"  note: {n}" for n in self.notes[:4])])

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The verdict as plain data; beyond 1,000 wrong entries the first 1,000 unless ``full``."""
        shown = self.wrong if full else self.wrong[:1000]
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "wrong_count": len(self.wrong),
            "wrong": [e.to_dict() for e in shown],
            "cause": self.cause,
            "where": None if self.where is None else self.where.to_dict(),
            "notes": list(self.notes),
            "oracles": [o.to_dict() for o in self.oracles],
            "entries": self.entries,
        }

    def document(self) -> Document:
        """The verdict, the mistake, the wrong entries and the oracles."""
        kind = "agrees" if self.ok else "finding" if self.ok is False else "warning"
        blocks: list[Block] = [Callout(kind, (_sentence(self.verdict),))]  # type: ignore[arg-type]
        if self.cause or self.where:
            rows = [("mistake", self.cause or "not identified")]
            rows += [("where", str(self.where))] if self.where else []
            blocks.append(Table((("finding",), ("",)), tuple(rows)))
        if self.wrong:
            blocks.append(self._entries())
        said = {True: "agrees", False: "disagrees", None: "cannot tell"}
        asked = tuple((o.name, said[o.agrees], None if o.error is None else Num(o.error), o.note) for o in self.oracles)
        if asked:
            heads = (("oracle",), ("says",), ("largest difference",), ("",))
            blocks.append(Table(heads, asked, "The oracles"))
        if self.notes:
            blocks.append(Items(tuple((n,) for n in self.notes)))
        standing = "agrees" if self.ok else "finding"
        return Document(f"Gradient check: {self.title}", tuple(blocks), "", self.verdict, standing, self.to_dict())  # type: ignore[arg-type]

    def _entries(self) -> Table:
        rows = tuple((f"{e.input}{list(e.index)}", _cell(e.claimed), _cell(e.expected)) for e in self.wrong[:SHOWN])
        count = (
            f"The first {SHOWN} of {len(self.wrong):,} wrong entries" if len(self.wrong) > SHOWN else "Wrong entries"
        )
        return Table((("entry",), ("claimed",), ("expected",)), rows, count)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _cell(value: Any) -> Any:
    return Num(value) if isinstance(value, float) else str(value)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | complex) else str(value)
