"""The table at the top of the README: what the sheets ask, and where it is answered.

Written by ``python -m tests.docs.sheets build/sheets`` from the records that ``make sheets`` leaves there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backproof.problems.catalogue import SheetEntry, sheets

from .blocks import ROOT

__all__ = ["README", "evidence_of", "rows", "table_in"]

README = ROOT / "README.md"
BEGIN, END = "<!-- sheets -->\n", "<!-- end of sheets -->"
MOST_WAYS = 4


def evidence_of(evidence: Sequence[Mapping[str, Any]]) -> str:
    """The independent ways in which an exercise was confirmed, as one cell."""
    ways = list(dict.fromkeys(str(e["oracle"]) for e in evidence if e["agrees"]))
    more = f" and {len(ways) - MOST_WAYS} more" if len(ways) > MOST_WAYS else ""
    return "; ".join(ways[:MOST_WAYS]) + more


def rows(sheet: SheetEntry, evidence: Mapping[str, str]) -> list[str]:
    """The lines of one sheet: question, command, page, evidence."""
    lines, told = [], set[str]()
    for question in sheet.questions:
        name = question.exercise
        command = f"`backproof solve {sheet.id}/{name}`" if name not in told else "same"
        page = f"`{sheet.id}.html#{name}`"
        lines.append(f"| {question.text} | {command} | {page} | {evidence[name] if name not in told else 'same'} |")
        told.add(name)
    return lines


def written(evidence: Mapping[str, Mapping[str, str]]) -> str:
    """The whole table."""
    parts = ["| what the sheet asks | command | page of `make sheets` | confirmed by |", "|---|---|---|---|"]
    for sheet in sheets():
        parts.append(f"| **{sheet.title}** (`{sheet.id}`) | | | |")
        parts += rows(sheet, evidence[sheet.id])
    return "\n".join(parts) + "\n"


def table_in(text: str) -> str:
    """The table as it stands in the README."""
    return text.partition(BEGIN)[2].partition(END)[0]


def _main(folder: Path) -> None:
    evidence = {}
    for sheet in sheets():
        record = json.loads((folder / f"{sheet.id}.json").read_text(encoding="utf-8"))
        evidence[sheet.id] = {name: evidence_of(p["evidence"]) for name, p in record["problems"].items()}
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    assert begin, f"the README has no {BEGIN!r}"
    README.write_text(before + begin + written(evidence) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
