"""Two edits that led to a program, said again line by line where that is plainer.

A search may arrive by a detour: a factor moved to another line, where the second edit then removes it. What counts is the
program at the end. Where each of its lines is one plain edit of the line in the rule, those edits are what is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .edits import Edit, plain_edits
from .program import Program, text_of
from .search import Found

__all__ = ["plainer"]


def plainer(found: Found, start: Program) -> Found:
    """The same program by one plain edit per changed line, where the search came by a detour; else as it was found.

    Args:
        found: the edits that were found; a single one, or one with a fitted number, a table or cases, is left alone.
        start: the rule's own program.
    """
    end = found.program
    if len(found.edits) < 2 or found.rests_on_numbers or not _alike(start, end):
        return found
    changed = [k for k, (a, b) in enumerate(zip(start.lines, end.lines, strict=True)) if text_of(a) != text_of(b)]
    if len(changed) != len(found.edits) or all(len(set(e.where)) == 1 for e in found.edits):
        return found
    edits = list(_line_by_line(start, end, changed))
    return Found(tuple(edits), (None,) * len(edits)) if len(edits) == len(changed) else found


def _alike(start: Program, end: Program) -> bool:
    """Whether two programs have the same lines in the same order, and nothing else besides."""
    names = [[x.name for x in p.lines] for p in (start, end)]
    return names[0] == names[1] and replace(end, lines=start.lines) == start


def _line_by_line(start: Program, end: Program, changed: list[int]) -> Iterator[Edit]:
    """For each changed line the plain edit that gives it, on top of those before."""
    now = start
    for k in changed:
        wanted = text_of(end.lines[k])
        edit = next((e for e in plain_edits(now) if _gives(e, now, k, wanted)), None)
        if edit is None:
            return
        yield edit
        now = edit.program


def _gives(edit: Edit, before: Program, k: int, wanted: str) -> bool:
    lines = edit.program.lines
    others = all(a is b for j, (a, b) in enumerate(zip(lines, before.lines, strict=False)) if j != k)
    return len(lines) == len(before.lines) and others and text_of(lines[k]) == wanted
