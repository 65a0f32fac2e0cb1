"""Search edits of a rule's program, and changes around it, for those that go where somebody's optimizer goes.

Single edits come first, then those with a number to fit, then one more on top of the edits that explain the most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from .edits import Edit, everywhere, exchanged_edits, expression, further_edits, plain_edits
from .program import Program
from .targets import ACCURACY, Target, agreeing, matches, unlike
from .unknowns import open_numbers, open_settings, per_update, solutions, with_number
from .wrappers import UNKNOWN, periods, settings_in, wrappers

__all__ = ["SECONDS", "Found", "narrow_state", "search", "telling"]

SECONDS = 12.0
BEAM = 16
NARROW = 6
FITTED = 1e-8
"""What counts as the same after a number was fitted."""


@dataclass(frozen=True)
class Found:
    """The edits that together go where the optimizer goes, with the number that was fitted for each, if one was."""

    edits: tuple[Edit, ...]
    numbers: tuple[float | None, ...]

    @property
    def program(self) -> Program:
        """The program with all edits."""
        return self.edits[-1].program

    @property
    def rests_on_numbers(self) -> bool:
        """Whether any number was fitted."""
        return any(n is not None for n in self.numbers) or bool(self.program.table)


@dataclass(frozen=True)
class Hunt:
    """What every stage of a search needs: where the optimizer went, until when there is time, what counts as the same, and
    the rule with other settings.
    """

    targets: Sequence[Target]
    until: float
    accuracy: float
    switched: Sequence[Edit] = ()
    unread: Sequence[Edit] = ()

    def right(self, program: Program, fitted: bool = False) -> bool:
        """Whether a program goes where the optimizer goes."""
        return matches(program, self.targets, max(self.accuracy, FITTED) if fitted else self.accuracy)

    def over(self) -> bool:
        """Whether the time is used up."""
        return time.process_time() > self.until

    def first(self, candidates: Iterator[Edit], before: Found | None = None) -> Found | None:
        """The first candidate that is right."""
        for edit in candidates:
            if self.over():
                return None
            if UNKNOWN not in edit.program.names and self.right(edit.program):
                return _after(before, edit)
        return None

    def fitted(self, candidates: Iterator[tuple[Edit, float]], before: Found | None = None) -> Found | None:
        """The first candidate that is right with some number."""
        for edit, near in candidates:
            if self.over():
                return None
            for number in (*solutions(edit.program, self.targets[0], near), *self._elsewhere(edit, near)):
                whole = with_number(edit.program, number)
                if self.right(whole, True):
                    return _after(before, replace(edit, program=whole), number)
        return None

    def _elsewhere(self, edit: Edit, near: float) -> list[float]:
        """Numbers from the second parameter, for what does not concern the first."""
        return [x for t in self.targets[1:] for x in solutions(edit.program, t, near)] if _by_place(edit) else []

    def scheduled(self, program: Program, before: Found | None = None, only: tuple[str, ...] = ()) -> Found | None:
        """A setting that depends on the update."""
        for edit, _ in per_update(program, self.targets[0], only):
            if self.right(edit.program, True):
                return _after(before, edit)
        return None


def _by_place(edit: Edit) -> bool:
    return bool({"ndim", "i"} & set(edit.program.names))


def _after(before: Found | None, edit: Edit, number: float | None = None) -> Found:
    if before is None:
        return Found((edit,), (number,))
    return Found((*before.edits, edit), (*before.numbers, number))


def search(
    program: Program,
    targets: Sequence[Target],
    seconds: float = SECONDS,
    accuracy: float = ACCURACY,
    quick: bool = False,
    switched: Sequence[Edit] = (),
    unread: Sequence[Edit] = (),
) -> Found | None:
    """The first edit, or pair of edits, after which the program goes where the optimizer goes.

    Args:
        program: the reference rule.
        targets: where the optimizer went, per parameter.
        seconds: the time for everything, of the processor.
        accuracy: what counts as the same, relative to w.
        quick: try single edits without numbers alone.
        switched: the rule with other settings.
        unread: the rule with the defaults of the class in the place of single settings.
    """
    if not telling(targets):
        return None
    hunt = Hunt(targets, time.process_time() + seconds, accuracy, switched, unread)
    around = [*switched, *wrappers(program)]
    if quick:
        return hunt.first(chain(plain_edits(program), around))
    known = targets[0].probes.hyper
    near: list[Found] = []
    stages: tuple[Callable[[], Found | None], ...] = (
        lambda: hunt.first(plain_edits(program)),
        lambda: _ignored_and_more(hunt, program),
        lambda: _uncorrected_and_more(hunt, program),
        lambda: hunt.fitted(open_settings(program, known)),
        lambda: hunt.first(iter(around)),
        lambda: hunt.fitted((e, 1.0) for e in around if UNKNOWN in e.program.names),
        lambda: hunt.scheduled(program, only=("lr",)),
        lambda: _periodic(hunt, program),
        lambda: hunt.first(further_edits(program)),
        lambda: hunt.scheduled(program),
        lambda: _for_a_while(hunt, program),
        lambda: hunt.fitted(open_numbers(program)),
        lambda: _changed_twice(hunt, program),
        lambda: _two(hunt, program, near),
        lambda: _moved_settings(hunt, program),
        lambda: _edited_schedule(hunt, program),
        lambda: _two_of_all(hunt, program, near),
    )
    return next((found for stage in stages if (found := stage()) is not None), None)


def narrow_state(program: Program, targets: Sequence[Target], accuracy: float) -> Found | None:
    """The state that is rounded after each update, if that explains all."""
    narrow = (e for e in further_edits(program) if e.kind == "narrow")
    return Hunt(targets, float("inf"), accuracy).first(narrow)


def telling(targets: Sequence[Target]) -> bool:
    """Whether the path says anything: w moves, to finite values, in some probe."""
    return any(bool((np.isfinite(x.went[0]) & (x.went[0] != x.probes.start)).any()) or _later(x) for x in targets)


def _later(target: Target) -> bool:
    return bool((np.isfinite(target.went) & (target.went != target.probes.start)).any())


def _ignored_and_more(hunt: Hunt, program: Program) -> Found | None:
    """A setting that is not read, where that comes nearer, and a plain edit besides."""
    start = unlike(program, hunt.targets[0])
    for edit in hunt.unread:
        score = unlike(edit.program, hunt.targets[0])
        if start is None or score is None or score[1] >= start[1]:
            continue
        found = hunt.first(plain_edits(edit.program), _after(None, edit))
        if found is not None or hunt.over():
            return found
    return None


def _uncorrected_and_more(hunt: Hunt, program: Program) -> Found | None:
    """A division by 1 minus a power left out, the commonest slip of all, and another one left out or any plain edit."""
    gone = [e for e in plain_edits(program) if _uncorrected(e)]
    for choice in (lambda edits: (e for e in edits if _uncorrected(e)), iter):
        for edit in gone:
            found = hunt.first(choice(plain_edits(edit.program)), _after(None, edit))
            if found is not None or hunt.over():
                return found
    return None


def _uncorrected(edit: Edit) -> bool:
    return edit.kind == "dropped" and edit.what.startswith("/ ") and "**" in edit.what


def _for_a_while(hunt: Hunt, program: Program) -> Found | None:
    """An edit that holds from some update on, or in the first updates only."""
    same = agreeing(program, hunt.targets[0])
    more = further_edits(program) if same else iter(())
    for edit in chain(plain_edits(program), _two_corrections(program), hunt.switched, wrappers(program), more):
        if hunt.over():
            return None
        if UNKNOWN in edit.program.names:
            continue
        state = tuple(dict.fromkeys((*program.state, *edit.program.state)))
        if same:
            late = replace(edit.program, early=program.lines, until=same, state=state)
            if hunt.right(late):
                return _after(None, replace(edit, program=late, when=f"from update {same + 1} on"))
        first = agreeing(edit.program, hunt.targets[0])
        if first > same:
            early = replace(program, early=edit.program.lines, until=first, state=state)
            if hunt.right(early):
                when = f"in the first {first} updates" if first > 1 else "in the first update"
                return _after(None, replace(edit, program=early, when=f"{when} only"))
    return None


def _edited_schedule(hunt: Hunt, program: Program) -> Found | None:
    """An edit together with a setting that depends on the update; any setting where something was left out."""
    settings = settings_in(program)
    moved = (e for e in further_edits(program) if e.kind == "moved" and e.what in settings)
    for edit in chain(plain_edits(program), _two_corrections(program), hunt.switched, wrappers(program), moved):
        if hunt.over():
            return None
        if UNKNOWN not in edit.program.names:
            names = () if edit.kind == "dropped" else ("lr",)
            found = hunt.scheduled(edit.program, _after(None, edit), names)
            if found is not None:
                return found
    return None


def _changed_twice(hunt: Hunt, program: Program) -> Found | None:
    """Something left out, and something else left out or another operation in its place."""
    for edit in (e for e in plain_edits(program) if e.kind == "dropped"):
        dropped = (e for e in plain_edits(edit.program) if e.kind == "dropped")
        found = hunt.first(chain(exchanged_edits(edit.program), dropped), _after(None, edit))
        if found is not None or hunt.over():
            return found
    return None


def _moved_settings(hunt: Hunt, program: Program) -> Found | None:
    """A setting at another place, with another value (such as eps**2 inside the root)."""
    settings = settings_in(program)
    for edit in chain(plain_edits(program), further_edits(program)):
        if edit.kind == "moved" and edit.what in settings:
            new = everywhere(edit.program, edit.what, expression(UNKNOWN))
            opened = Edit(new, "constant", edit.what, (), how="another value")
            near = hunt.targets[0].probes.hyper.get(edit.what, 1.0)
            found = hunt.fitted(iter([(opened, near**2)]), _after(None, edit))
            if found is not None or hunt.over():
                return found
    return None


def _two_corrections(program: Program) -> Iterator[Edit]:
    for edit in (e for e in plain_edits(program) if _uncorrected(e)):
        for second in (e for e in plain_edits(edit.program) if _uncorrected(e)):
            yield replace(second, kind="wrapped", how="no bias correction, neither of m nor of v")


def _periodic(hunt: Hunt, program: Program, before: Found | None = None) -> Found | None:
    every = list(periods(program))
    return hunt.first(iter(every), before) or hunt.fitted(
        ((e, 0.5) for e in every if UNKNOWN in e.program.names), before
    )


def _two(hunt: Hunt, program: Program, near: list[Found]) -> Found | None:
    """The single edits that come nearest, each with a second one; the others are kept in ``near``."""
    for edit in hunt.unread:
        before = _after(None, edit)
        around = ((e, 1.0) for e in wrappers(edit.program) if UNKNOWN in e.program.names)
        found = _second(hunt, before, program) or hunt.fitted(around, before)
        if found is not None or hunt.over():
            return found
    near += _nearest(hunt, program)
    for before in near[:NARROW]:
        if (found := _second(hunt, before, program)) is not None or hunt.over():
            return found
    for before in near[:NARROW]:
        around = ((e, 1.0) for e in wrappers(before.program) if UNKNOWN in e.program.names)
        if (found := hunt.fitted(around, before)) is not None or hunt.over():
            return found
    return None


def _two_of_all(hunt: Hunt, program: Program, near: list[Found]) -> Found | None:
    """More of the nearest edits, and more kinds of second ones."""
    for before in near[NARROW:]:
        if (found := _second(hunt, before, program)) is not None or hunt.over():
            return found
    for before in near[:NARROW]:
        if (found := hunt.first(further_edits(before.program), before)) is not None or hunt.over():
            return found
    return None


def _nearest(hunt: Hunt, program: Program) -> list[Found]:
    """The edits that leave the fewest entries wrong, or the smallest differences; one of those that do the same."""
    start = unlike(program, hunt.targets[0])
    if start is None:
        return []
    worst = 1.2 * (unlike(program, hunt.targets[0], 1) or start)[1] + 0.02
    scored: dict[tuple[float, float], Found] = {}
    for edit in chain(plain_edits(program), hunt.switched, wrappers(program), further_edits(program)):
        if hunt.over():
            break
        for found in _filled(hunt, edit):
            score = unlike(found.program, hunt.targets[0], worst=worst)
            if score is not None:
                scored.setdefault(score, found)
    by_count = sorted(s for s in scored if s[0] < start[0])
    by_gap = sorted((s for s in scored if s[1] < start[1]), key=lambda s: (s[1], s[0]))
    mixed = (s for pair in zip(by_gap, by_count, strict=False) for s in pair)
    return [scored[s] for s in dict.fromkeys((*mixed, *by_gap, *by_count))][:BEAM]


def _filled(hunt: Hunt, edit: Edit) -> Iterator[Found]:
    """An edit; or, with an open number, with each value that explains one entry."""
    if UNKNOWN not in edit.program.names:
        yield _after(None, edit)
        return
    for number in solutions(edit.program, hunt.targets[0]):
        yield _after(None, replace(edit, program=with_number(edit.program, number)), number)


def _second(hunt: Hunt, before: Found, start: Program) -> Found | None:
    program = before.program
    known = hunt.targets[0].probes.hyper
    return (
        hunt.first(chain(plain_edits(program), wrappers(program)), before)
        or hunt.scheduled(program, before)
        or hunt.fitted(open_settings(program, known), before)
        or (hunt.fitted(open_numbers(program, start), before) if before.edits[0].kind == "wrapped" else None)
    )
