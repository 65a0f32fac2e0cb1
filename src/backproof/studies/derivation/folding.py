"""Equations that repeat with another number are written once, with an index: δ_l = (δ_{l+1} W_{l+1}) ⊙ σ'(s_l), l = 1..7.

Two equations are alike when they differ in the numbers of their symbols alone, and each of these numbers either stays or
moves by the same step in all of them. A run of such equations, or of groups of them (the equations of a block), is
folded; putting the numbers back in gives the equations exactly as they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...document.math import BigSum, Call, Expr, Function, Mul, Num, Sym
from ...ops import OPS
from ...ops.arbitrary import arbitrary

__all__ = ["Entry", "Fold", "bare", "changed", "fold", "for_each", "numbers_of", "placed", "shifted"]

_NUMBER = re.compile(r"\d+")
LONGEST_PERIOD = 120


@dataclass(frozen=True)
class Entry:
    """One equation: its sides and the rule behind it."""

    left: Expr
    right: Expr
    rule: str = ""


@dataclass(frozen=True)
class Fold:
    """Equations written once for several values of an index; ``values`` is empty for equations that stand alone.

    Args:
        entries: the equations, in which the index stands where the number was.
        index: the index's letter.
        values: the numbers that it takes, in the order in which the equations stood.
    """

    entries: tuple[Entry, ...]
    index: str = ""
    values: tuple[int, ...] = ()

    def unfolded(self) -> list[Entry]:
        """The equations with the numbers put back in, in their order."""
        if not self.values:
            return list(self.entries)
        return [_put_in(e, self.index, v) for v in self.values for e in self.entries]


# --- numbers in symbols -----------------------------------------------------------------------------------------------
def changed(expr: Expr, change: Callable[[str], str]) -> Expr:
    """The same formula with every script of its symbols changed, and without references."""
    if isinstance(expr, Num):
        return replace(expr, ref=None)
    if isinstance(expr, Sym):
        return Sym(expr.name, tuple(map(change, expr.sub)), tuple(map(change, expr.sup)), expr.accent)
    if isinstance(expr, Call):
        function = _numbered(expr)
        function = replace(function, sub=tuple(map(change, function.sub)))
        return Call(function, tuple(changed(a, change) for a in expr.args), expr.op)
    fields = {f: _field(getattr(expr, f), change) for f in expr.__dataclass_fields__ if f not in _UNWRITTEN}  # type: ignore[attr-defined]
    return replace(expr, **fields)  # type: ignore[type-var]


_NAMED = re.compile(r"([^\W\d_]+)_?(\d+)")


def _numbered(call: Call) -> Function:
    """An arbitrary function f1 as f with the subscript 1."""
    found = _NAMED.fullmatch(call.function.name.rstrip("'"))
    if found is None or call.op.partition("'")[0] in OPS or call.function.sub:
        return call.function
    base = arbitrary(found[1])
    return Function(found[1], base.text, base.latex, call.function.primes, (found[2],))


_UNWRITTEN = frozenset({"attrs", "axes", "shape", "op"})
"""What a formula holds for its evaluation alone."""


def _field(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, Expr):
        return changed(value, change)
    if isinstance(value, tuple):
        return tuple(_field(v, change) for v in value)
    return value


@dataclass(frozen=True)
class _Shape:
    """An equation without its numbers, and these."""

    skeleton: tuple[Expr, Expr]
    numbers: tuple[int, ...]
    lefts: int
    rule: str
    rule_numbers: tuple[int, ...]


def _shape(entry: Entry) -> _Shape:
    numbers: list[int] = []

    def take(text: str) -> str:
        numbers.extend(map(int, _NUMBER.findall(text)))
        return _NUMBER.sub("#", text)

    left = bare(changed(entry.left, take))
    lefts = len(numbers)
    right = bare(changed(entry.right, take))
    rule = tuple(map(int, _NUMBER.findall(entry.rule)))
    return _Shape((left, right), tuple(numbers), lefts, _NUMBER.sub("#", entry.rule), rule)


def bare(expr: Expr) -> Expr:
    """A formula without what it holds for its evaluation alone, to compare with others."""
    if isinstance(expr, (Num, Sym)):
        return expr
    fields = {f: _bare_field(getattr(expr, f)) for f in expr.__dataclass_fields__}  # type: ignore[attr-defined]
    if isinstance(expr, (Call, Mul)):
        fields["attrs"], fields["op"] = (), ""
    if isinstance(expr, BigSum):
        fields["axes"], fields["shape"] = None, ()
    return replace(expr, **fields)  # type: ignore[type-var]


def _bare_field(value: object) -> object:
    if isinstance(value, Expr):
        return bare(value)
    return tuple(_bare_field(v) for v in value) if isinstance(value, tuple) else value


def numbers_of(expr: Expr) -> list[int]:
    """The numbers in the scripts of a formula's symbols, in reading order."""
    found: list[int] = []

    def take(text: str) -> str:
        found.extend(map(int, _NUMBER.findall(text)))
        return text

    changed(expr, take)
    return found


def shifted(expr: Expr, numbers: Sequence[str]) -> Expr:
    """The same formula with its numbers, in reading order, replaced."""
    found = iter(numbers)

    def put(match: re.Match[str]) -> str:
        text, before = next(found), match.string[match.start() - 1 : match.start()]
        return f"({text})" if before.isalpha() and not text.isdigit() else text

    return changed(expr, lambda text: _NUMBER.sub(put, text))


def placed(text: str, letter: str, value: int) -> str:
    """A script with a number in the place of a letter: l-1 and layer(l) with l = 3 as 2 and layer3."""
    sign = re.escape(letter)
    joined = re.compile(rf"(?<=[A-Za-z])\({sign}([+-]\d+)?\)|(?<![A-Za-z(]){sign}(?![A-Za-z])([+-]\d+)?")
    return joined.sub(lambda m: str(value + int(m[1] or m[2] or 0)), text)


# --- finding what repeats ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Run:
    start: int
    period: int
    count: int
    step: int

    @property
    def saved(self) -> int:
        return self.period * (self.count - 1)


def fold(entries: Sequence[Entry], index: str = "l") -> list[Fold]:
    """Return the equations in order, with what repeats folded.

    Args:
        entries: the equations.
        index: the letter of the index; another one where a symbol already has it.
    """
    shapes = [_shape(e) for e in entries]
    known: dict[tuple[Expr, Expr], int] = {}
    kinds = [known.setdefault(s.skeleton, len(known)) for s in shapes]
    letter = _free(shapes, index)
    found: list[Fold] = []
    place = 0
    while place < len(entries):
        run = _best(shapes, kinds, place)
        if run is None:
            found.append(Fold((entries[place],)))
            place += 1
            continue
        found += [Fold((e,)) for e in entries[place : run.start]]
        found.append(_folded(entries, shapes, run, letter))
        place = run.start + run.period * run.count
    return found


def _free(shapes: Sequence[_Shape], index: str) -> str:
    used = " ".join(str(s.skeleton) for s in shapes)
    return next((letter for letter in (index, "k", "m", "q") if f"'{letter}'" not in used), index)


def _best(shapes: Sequence[_Shape], kinds: Sequence[int], place: int) -> _Run | None:
    """The run that saves most among those that begin here, or within its first period; its unit has one number."""
    here = _longest(shapes, kinds, place)
    if here is None:
        return None
    others = [_at(shapes, kinds, place + shift, here.period) for shift in range(here.period)]
    good = [r for r in others if r is not None and r.saved >= here.saved]
    return max(good, key=lambda r: (r.saved, _is_uniform(shapes, r), -r.start))


def _longest(shapes: Sequence[_Shape], kinds: Sequence[int], place: int) -> _Run | None:
    found = None
    for period in range(1, min(LONGEST_PERIOD, (len(shapes) - place) // 2) + 1):
        run = _at(shapes, kinds, place, period)
        if run is not None and (found is None or run.saved > found.saved):
            found = run
    return found


def _at(shapes: Sequence[_Shape], kinds: Sequence[int], start: int, period: int) -> _Run | None:
    if kinds[start : start + period] != kinds[start + period : start + 2 * period] or len(shapes) < start + 2 * period:
        return None
    step = _step(shapes, start, period)
    if not step:
        return None
    count = 2
    while _follows(shapes, kinds, start + (count - 1) * period, period, start, step):
        count += 1
    run = _Run(start, period, count, step)
    return run if run.saved >= 2 and (count > 2 or period > 2) else None


def _step(shapes: Sequence[_Shape], start: int, period: int) -> int:
    """By how much the numbers move from the first unit to the second; 0 where they do not all move alike."""
    steps = set[int]()
    for j in range(start, start + period):
        moves = [b - a for a, b in zip(shapes[j].numbers, shapes[j + period].numbers, strict=True)]
        steps |= {m for m in moves if m}
        if not any(moves[: shapes[j].lefts]):
            return 0
    return steps.pop() if len(steps) == 1 else 0


def _follows(shapes: Sequence[_Shape], kinds: Sequence[int], last: int, period: int, first: int, step: int) -> bool:
    """Whether the unit after ``last`` continues the run whose first unit is at ``first``."""
    if last + 2 * period > len(shapes):
        return False
    for j in range(period):
        if kinds[last + j] != kinds[last + period + j]:
            return False
        a, b = shapes[last + j].numbers, shapes[last + period + j].numbers
        pattern = _moving(shapes, first + j, period)
        if any(y - x != (step if moves else 0) for x, y, moves in zip(a, b, pattern, strict=True)):
            return False
    return True


def _moving(shapes: Sequence[_Shape], place: int, period: int) -> list[bool]:
    return [a != b for a, b in zip(shapes[place].numbers, shapes[place + period].numbers, strict=True)]


def _is_uniform(shapes: Sequence[_Shape], run: _Run) -> bool:
    """Whether all equations of a unit define quantities with the same number."""
    firsts = set()
    for j in range(run.start, run.start + run.period):
        moving = _moving(shapes, j, run.period)
        firsts |= {n for n, m in zip(shapes[j].numbers[: shapes[j].lefts], moving, strict=False) if m}
    return len(firsts) == 1


# --- writing with an index ------------------------------------------------------------------------------------------------
def _folded(entries: Sequence[Entry], shapes: Sequence[_Shape], run: _Run, letter: str) -> Fold:
    first = shapes[run.start]
    moving = _moving(shapes, run.start, run.period)
    base = next(n for n, m in zip(first.numbers[: first.lefts], moving, strict=False) if m)
    made = tuple(
        _with_index(entries[j], shapes, j, run, base, letter) for j in range(run.start, run.start + run.period)
    )
    return Fold(made, letter, tuple(base + k * run.step for k in range(run.count)))


def _with_index(entry: Entry, shapes: Sequence[_Shape], place: int, run: _Run, base: int, letter: str) -> Entry:
    shape, moving = shapes[place], _moving(shapes, place, run.period)
    numbers = [_offset(letter, n - base) if m else str(n) for n, m in zip(shape.numbers, moving, strict=True)]
    left = shifted(entry.left, numbers[: shape.lefts])
    right = shifted(entry.right, numbers[shape.lefts :])
    return Entry(left, right, _rule(entry.rule, shape, shapes[place + run.period], base, letter))


def _offset(letter: str, distance: int) -> str:
    return letter + (f"{distance:+d}" if distance else "")


def _rule(text: str, shape: _Shape, other: _Shape, base: int, letter: str) -> str:
    """The rule in words with the index: z3 becomes z_l, blocks.3 becomes blocks.l."""
    if shape.rule != other.rule or len(shape.rule_numbers) != len(other.rule_numbers):
        return text.partition(";")[0] if not _NUMBER.search(text.partition(";")[0]) else ""
    moved = iter([(a, a != b) for a, b in zip(shape.rule_numbers, other.rule_numbers, strict=True)])

    def put(match: re.Match[str]) -> str:
        number, moves = next(moved)
        if not moves:
            return match[0]
        joined = match.start() > 0 and text[match.start() - 1].isalpha()
        name = _offset(letter, number - base)
        return ("_" + (name if len(name) == 1 else f"({name})")) if joined else name

    return _NUMBER.sub(put, text)


def _put_in(entry: Entry, letter: str, value: int) -> Entry:
    """An equation with a number in the place of its index."""

    def change(text: str) -> str:
        return placed(text, letter, value)

    return Entry(changed(entry.left, change), changed(entry.right, change), entry.rule)


def for_each(fold: Fold) -> tuple[str | Expr, ...]:
    """For l = 2, ..., 8."""
    index = Sym(fold.index)
    first, second, *_, last = (*fold.values, fold.values[-1])
    step = second - first
    if len(fold.values) < 4:
        shown = ", ".join(map(str, fold.values))
    elif abs(step) == 1:
        shown = f"{first}, ..., {last}"
    else:
        shown = f"{first}, {second}, ..., {last}"
    return ("For ", index, f" = {shown}:")
