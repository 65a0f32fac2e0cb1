"""Small functions, small files, no drawer for odds and ends."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator

from tests.structure.code import modules, shown

LONGEST_FILE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 500, 60, 10


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def functions() -> Iterator[tuple[str, int]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{shown(module.path)}:{node.lineno} {node.name}", length(node)


def test_files_are_short() -> None:
    assert [(shown(m.path), m.lines) for m in modules() if m.lines > LONGEST_FILE] == []


def test_functions_are_short() -> None:
    assert [(name, lines) for name, lines in functions() if lines > LONGEST_FUNCTION] == []


def test_most_functions_are_very_short() -> None:
    assert statistics.median(lines for _, lines in functions()) < MEDIAN_FUNCTION


def test_no_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "misc", "common"}
    assert [shown(m.path) for m in modules() if drawers & {m.path.stem, m.path.parent.name}] == []
