"""The record in a page: what the page can show, entry by entry, and nothing longer."""

from __future__ import annotations

from backproof.render.embedded import condensed


def test_long_tensors_are_left_out_and_short_ones_stay() -> None:
    row = [[0.5] * 8] * 8
    step = {"step": 1, "loss": 0.5, "values": {"a": row, "b": [*row, row[0]], "c": {"shape": [9], "norm": 1.0}}}
    record = {"problem": "p", "steps": [step, step], "derivation": [1], "evidence": [2]}
    assert condensed(record) == {"problem": "p", "steps": [{"step": 1, "loss": 0.5, "values": {"a": row}}] * 2}
    assert condensed(record, large=True)["steps"] == [{"step": 1, "loss": 0.5, "values": {}}] * 2
    assert record["derivation"] == [1]


def test_what_has_no_updates_stays() -> None:
    assert condensed({"a": 1}) == {"a": 1}
