"""docs/coverage.md is what ``backproof ops`` says today."""

from __future__ import annotations

from .generated import COVERAGE, coverage


def test_the_coverage_table_is_up_to_date() -> None:
    assert COVERAGE.read_text(encoding="utf-8") == coverage(), "write it anew: python -m tests.docs.generated"
