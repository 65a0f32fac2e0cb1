"""The mark of one item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...result import plain

__all__ = ["Mark", "Verdict"]

Verdict = Literal["correct", "carried", "wrong", "undecided", "missing"]


@dataclass(frozen=True)
class Mark:
    """The mark of one item.

    Args:
        verdict: "correct"; "carried": it follows from earlier wrong numbers, and is not charged again; "wrong";
            "undecided": the answer says too little to tell; "missing".
        given: what was handed in.
        expected: the record's number.
        wrong: the indices of the entries that are wrong.
        note: why, in a sentence.
    """

    verdict: Verdict
    given: Any = None
    expected: Any = None
    wrong: tuple[tuple[int, ...], ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The mark as plain data."""
        return {
            "verdict": self.verdict,
            "given": plain(self.given),
            "expected": plain(self.expected),
            "wrong": [list(i) for i in self.wrong],
            "note": self.note,
        }
