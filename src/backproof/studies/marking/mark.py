"""Mark somebody's hand-worked numbers against the record, item by item; a carried error is not charged twice."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ...document.blocks import Block, Callout, Details, Document, Paragraph, Part, Parts, Section, Table
from ...document.math import Num
from ...errors import InputError
from ...problems.problem import Exercise, FormulaProblem, Problem
from ...result import Result
from ..derivation.derive import Derived
from ..exercise import Answered
from ..solve import Solution, solve
from .carried import WORLDS, Item, Judged, Scene, Worlds, follow, known_names
from .formulas import mark_formulas
from .handed import Handed, Sheet, close, read_answers, read_number
from .items import Mark
from .mistakes import slips

__all__ = ["Marked", "mark"]


@dataclass(frozen=True)
class Marked(Result):
    """A marked sheet: ``score``, ``items``, ``first_wrong``, ``cause``; see :func:`mark`.

    Args:
        problem: the problem's id.
        items: every item by its id ("step.1.grad.w"), in the order in which the numbers are computed.
        counted: the items that the score counts: those handed in, and those missing at one step that were handed
            in at another.
        cause: the slip that explains the first wrong number, where one does.
    """

    problem: str
    items: Mapping[str, Mark]
    counted: tuple[str, ...]
    cause: str | None = None
    title: str = ""

    @property
    def score(self) -> float:
        """The share of counted items that are right, or follow rightly from an error that was charged before."""
        right = sum(self.items[i].verdict in ("correct", "carried") for i in self.counted)
        return right / len(self.counted) if self.counted else 0.0

    @property
    def first_wrong(self) -> str | None:
        """The id of the first wrong item in the order of the computation."""
        return next((id for id, m in self.items.items() if m.verdict == "wrong"), None)

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether anything is wrong."""
        return self.first_wrong is not None

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The marks as plain data."""
        return {
            "problem": self.problem,
            "score": self.score,
            "first_wrong": self.first_wrong,
            "cause": self.cause,
            "items": {id: m.to_dict() for id, m in self.items.items()},
        }

    def document(self) -> Document:
        """The marked sheet."""
        handed = {id: m for id, m in self.items.items() if m.verdict != "missing" or id in self.counted}
        counts = {v: sum(m.verdict == v for m in handed.values()) for v in ("correct", "carried", "wrong", "undecided")}
        text = ", ".join(f"{n} {v}" for v, n in counts.items() if n) or "nothing was handed in"
        blocks: list[Block] = [self._callout(), _table(handed)]
        if absent := [id for id in self.items if id not in handed]:
            words = "Not handed in, and not counted: " + ", ".join(absent) + "."
            blocks.append(Details("What else could be handed in", (Paragraph((words,)),)))
        verdict = f"{100 * self.score:.0f} % right: {text}"
        section = Section("Item by item", tuple(blocks), "result", "marks")
        standing: Literal["finding", "agrees"] = "finding" if self.finding else "agrees"
        return Document(f"Marked: {self.title}", (section,), "", verdict, standing, self.to_dict())

    def _callout(self) -> Callout:
        first = self.first_wrong
        if first is None:
            return Callout("agrees", ("Nothing is wrong.",), "First wrong step")
        parts: list[Part] = [f"The first wrong item is {first}. ", self.items[first].note]
        if not self.cause:
            parts.append(" No single slip that was tried gives this number.")
        parts.append(" What follows rightly from it is marked 'carried' and costs nothing more.")
        return Callout("finding", tuple(p for p in parts if p), "First wrong step")


def _table(items: Mapping[str, Mark]) -> Table:
    rows = tuple((id, m.verdict, _shown(m.given), _shown(m.expected), m.note) for id, m in items.items())
    columns: tuple[Parts, ...] = (("item",), ("verdict",), ("handed in",), ("record",), ("why",))
    return Table(columns, rows, "Every item, in the order in which the numbers are computed")


def _shown(value: Any) -> Part | None:
    if value is None or isinstance(value, str):
        return value
    from ..writing.written import matrix_of

    if not isinstance(value, Tensor):
        return str(value)
    return (
        Num(float(value))
        if value.numel() == 1
        else matrix_of(value)
        if value.dim() <= 2
        else f"{value.numel()} numbers"
    )


# --- marking --------------------------------------------------------------------------------------------------------------
def mark(
    problem: str | os.PathLike[str] | Problem | FormulaProblem | Exercise | Solution | Answered | Derived,
    answers: Mapping[Any, Any] | str | os.PathLike[str],
    **settings: Any,
) -> Marked:
    """Mark hand-worked answers.

    Numbers are right if they are the record's, rounded or cut off at the last digit handed in. A number that is not the
    record's but follows from earlier wrong ones is "carried", and costs nothing more.

    Args:
        problem: as for :func:`backproof.solve`, or what that returned.
        answers: a mapping or a TOML or JSON file: ``[step.1]`` with ``loss``, names of values, ``"grad.w"`` and
            ``"after.w"``; ``[answers]`` for what the problem asks; ``[settings]`` that they were worked with.
        **settings: as for :func:`backproof.solve`.

    Returns:
        A :class:`Marked` with ``.score``, ``.items``, ``.first_wrong`` and ``.cause``.

    Raises:
        InputError: the answers cannot be read.

    Example:
        >>> import backproof as bp
        >>> marked = bp.mark("ctu-vir-3/sine-neuron", {"step": {1: {"y": 0, "L": 4, "grad.w": [-8, 4]}}})
        >>> marked.first_wrong, marked.items["step.1.grad.w"].wrong
        ('step.1.grad.w', ((1,),))
    """
    sheet = read_answers(answers)
    solved = (
        problem
        if isinstance(problem, (Solution, Answered, Derived))
        else solve(problem, **{**sheet.settings, **settings})
    )
    if not isinstance(solved, (Solution, Answered, Derived)):
        raise InputError(f"'{solved.id}' is a sheet; mark one of its exercises")
    marker = _Marker(solved, sheet)
    marker.work()
    return Marked(solved.id, marker.items, tuple(marker.counted), marker.cause, _title(solved))


def _title(solved: Solution | Answered | Derived) -> str:
    return solved.prepared.title if isinstance(solved, Solution) else solved.title


@dataclass
class _Marker:
    """Marks a sheet while the record is walked through."""

    solved: Solution | Answered | Derived
    sheet: Sheet
    items: dict[str, Mark] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)
    cause: str | None = None
    causes: set[str] = field(default_factory=set)
    samples: int = 1
    random: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def work(self) -> None:
        """Mark everything."""
        if isinstance(self.solved, Solution) and self.solved.steps:
            program = self.solved.prepared.program
            self.samples = program.start[program.samples[0]].shape[0] if program.samples else 1
            with torch.no_grad():
                follow(program, self.solved.steps, self._judge)
        self._unknown()
        for name, value in self.sheet.answers.items():
            self._answer(name, value)
        if self.sheet.formulas:
            found = mark_formulas(self.solved, self.sheet.formulas)
            self.items |= found
            self.counted += found

    # --- numbers of the steps ---------------------------------------------------------------------------------------------
    def _judge(self, scene: Scene) -> Judged:
        item, follows = scene.item, scene.follows
        if item.name not in self.sheet.steps.get(item.step, {}):
            self.items[item.id] = Mark("missing", None, item.true)
            if any(item.name in step for step in self.sheet.steps.values()):
                self.counted.append(item.id)
            return Judged(follows, scene.tainted)
        self.counted.append(item.id)
        value = self.sheet.steps[item.step][item.name]
        handed, note = _fitted(read_number(value, f"{item.name} of step {item.step}"), tuple(item.true.shape))
        if handed is None:
            self.items[item.id] = Mark("wrong", str(value)[:200], item.true, note=note)
            return Judged(follows, False)
        return self._decided(scene, handed, note)

    def _decided(self, scene: Scene, handed: Handed, note: str) -> Judged:
        item, follows, true = scene.item, [f.double() for f in scene.follows], scene.item.true.double()
        right = close(handed, true, *(() if scene.tainted else follows))
        if bool(right.all()):
            self.items[item.id] = _right(handed, true, note)
            return Judged(self._worlds(handed, true), False)
        fits = close(handed, *follows)
        if scene.tainted and bool(fits.all()):
            self.items[item.id] = _carried(handed, item, follows[0])
            return Judged(self._worlds(handed, follows[1]), True)
        self.items[item.id], before = self._wrong(scene, handed, ~(fits if scene.tainted else right))
        return Judged(self._worlds(handed, before), True)

    def _worlds(self, handed: Handed, before: Tensor) -> Worlds:
        """As handed in, as it was before rounding, and as it may have been."""
        noise = [
            torch.rand(handed.unit.shape, generator=self.random, dtype=torch.float64) - 0.5 for _ in range(WORLDS - 2)
        ]
        return (handed.numbers, before, *(handed.numbers + handed.unit * n for n in noise))

    def _wrong(self, scene: Scene, handed: Handed, bad: Tensor) -> tuple[Mark, Tensor]:
        """The mark of a wrong number, and what the number was before it was rounded."""
        cause, before = self._cause(scene, handed)
        where = tuple(tuple(i) for i in bad.nonzero().tolist()) if bad.dim() else ()
        if cause is not None and cause in self.causes:
            again = f"the same slip again: {cause}"
            return Mark("carried", handed.numbers, scene.item.true, where, again), before
        if not any(m.verdict == "wrong" for m in self.items.values()):
            self.cause = cause
        if cause is not None:
            self.causes.add(cause)
        return Mark("wrong", handed.numbers, scene.item.true, where, _because(cause, where, handed.numbers)), before

    def _cause(self, scene: Scene, handed: Handed) -> tuple[str | None, Tensor]:
        for world in (1, 0):
            for words, value in slips(scene.follows[world], scene.known[world], scene.node, self.samples):
                if value.shape == handed.numbers.shape and bool(close(handed, value.double()).all()):
                    return words, value.double()
        return None, handed.numbers

    # --- what else was handed in ------------------------------------------------------------------------------------------
    def _unknown(self) -> None:
        for number, step in self.sheet.steps.items():
            names = self._names(number)
            for name in step:
                id = f"step.{number}.{name}"
                if id not in self.items:
                    close_ones = difflib.get_close_matches(name, names, 1)
                    hint = f"; did you mean '{close_ones[0]}'?" if close_ones else ""
                    note = f"step {number} of the record has no such quantity{hint}"
                    if not names:
                        note = f"the record has no step {number}"
                    self.items[id] = Mark("undecided", str(step[name])[:200], None, note=note)
                    self.counted.append(id)

    def _names(self, number: int) -> list[str]:
        if not isinstance(self.solved, Solution) or number > len(self.solved.steps):
            return []
        return known_names(self.solved.prepared.program, self.solved.steps[number - 1])

    def _answer(self, name: str, value: Any) -> None:
        id = f"answers.{name}"
        self.counted.append(id)
        if name not in self.solved.answers:
            close_ones = difflib.get_close_matches(name, list(self.solved.answers), 1)
            hint = f"; did you mean '{close_ones[0]}'?" if close_ones else ""
            self.items[id] = Mark("undecided", str(value)[:200], None, note=f"the problem asks for no such thing{hint}")
            return
        self.items[id] = _answer_mark(name, value, self.solved.answers[name])


def _fitted(handed: Handed, shape: tuple[int, ...]) -> tuple[Handed | None, str]:
    """The numbers in the record's shape; None and why, where they do not fit it."""
    own = tuple(handed.numbers.shape)
    if own == shape:
        return handed, ""
    if len(own) == 2 and own[::-1] == shape:
        return handed.transposed, "read transposed: the record has the other orientation"
    if math.prod(own) == math.prod(shape) and min(len(own), len(shape)) <= 1:
        return handed.shaped(shape), ""
    return None, f"it has the shape {list(own)}, and the record's has {list(shape)}"


def _right(handed: Handed, true: Tensor, note: str = "") -> Mark:
    if bool((handed.coarse & (handed.numbers != true)).any()):
        note = "it is rounded to one digit: too coarse to tell"
        return Mark("undecided", handed.numbers, true, note=note)
    return Mark("correct", handed.numbers, true, note=note)


def _carried(handed: Handed, item: Item, follows: Tensor) -> Mark:
    if bool((follows == 0).all()) and not bool((item.true == 0).all()):
        words = "it follows from earlier wrong numbers, but these make it zero: nothing was left to compute"
        return Mark("undecided", handed.numbers, item.true, note=words)
    return Mark("carried", handed.numbers, item.true, note="right, from the earlier wrong numbers")


def _because(cause: str | None, where: tuple[tuple[int, ...], ...], numbers: Tensor) -> str:
    if cause is not None:
        return f"{cause[0].upper()}{cause[1:]}."
    places = ", ".join(str([k + 1 for k in i]) for i in where[:6]) + (", ..." if len(where) > 6 else "")
    return f"Wrong at {places} (counted from 1)." if where and len(where) < numbers.numel() else ""


def _answer_mark(name: str, value: Any, expected: Any) -> Mark:
    try:
        true = read_number(expected, name)
    except InputError:
        same = str(value).strip() == str(expected).strip()
        words = "" if same else "this answer is compared word by word"
        return Mark("correct" if same else "undecided", str(value)[:200], str(expected)[:400], note=words)
    handed = read_number(value, f"the answer '{name}'")
    if handed.numbers.shape != true.numbers.shape:
        shapes = f"it has the shape {list(handed.numbers.shape)}, not {list(true.numbers.shape)}"
        return Mark("wrong", handed.numbers, true.numbers, note=shapes)
    right = close(handed, true.numbers)
    if bool(right.all()):
        return _right(handed, true.numbers)
    where = tuple(tuple(i) for i in (~right).nonzero().tolist()) if right.dim() else ()
    return Mark("wrong", handed.numbers, true.numbers, where)
