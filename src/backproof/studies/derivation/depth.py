"""A derivation whose depth is a symbol: what two depths have in common, checked at others that had no part in it.

The network is derived at two depths next to each other, each with its repeated equations written once. The two agree
but for numbers that move with the depth; these become L, L - 1... What stands there then must give, at every depth, the
equations that this depth's own derivation has: that is checked at two more depths, and each of those against autograd.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import InputError
from .folding import Entry, Fold, bare, changed, numbers_of, placed, shifted

__all__ = ["General", "Generic", "generalise"]

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Generic:
    """Equations for a depth that is a symbol.

    Args:
        entries: the equations, with the depth's symbol and the index in place of numbers.
        index: the index's letter, "" for equations that stand alone.
        first, last: the ends of its range, as text ("L-1"); ``step`` is the way from one value to the next.
    """

    entries: tuple[Entry, ...]
    index: str = ""
    first: str = ""
    last: str = ""
    step: int = 0

    def at(self, symbol: str, depth: int) -> list[Entry]:
        """The equations at one depth."""
        entries = tuple(_put_in(e, symbol, depth) for e in self.entries)
        if not self.index:
            return list(entries)
        first, last = (_number(text, symbol, depth) for text in (self.first, self.last))
        return Fold(entries, self.index, tuple(range(first, last + self.step, self.step))).unfolded()


@dataclass(frozen=True)
class General:
    """The sections of a derivation with the depth as a symbol; ``depth_of`` tells L from the number of repeats."""

    symbol: str
    forward: tuple[Generic, ...]
    backward: tuple[Generic, ...]
    gradients: tuple[Generic, ...]
    offset: int

    def sections(self) -> tuple[tuple[Generic, ...], ...]:
        """Forward, backward, gradients."""
        return self.forward, self.backward, self.gradients


Sections = Sequence[list[Fold]]


def generalise(one: Sections, two: Sections, repeats: int, symbol: str) -> General:
    """What two derivations of neighbouring depths have in common.

    Args:
        one, two: the folded sections (forward, backward, gradients) at ``repeats`` and ``repeats + 1`` repeats.
        repeats: how often the part is repeated in the first.
        symbol: the letter of the depth.

    Raises:
        InputError: they do not differ by numbers alone.
    """
    offset = _offset(one, two, repeats)
    forward, backward, gradients = (_section(a, b, repeats + offset, symbol) for a, b in zip(one, two, strict=True))
    return General(symbol, forward, backward, gradients, offset)


def _offset(one: Sections, two: Sections, repeats: int) -> int:
    """How far the largest number is from the number of repeats: with layers 1..L, L is the last; with 0.., the count."""
    largest, lowest = 0, 1
    for a, b in ((x, y) for s, t in zip(one, two, strict=True) for x, y in zip(s, t, strict=False)):
        if a.values and b.values:
            lowest = min(lowest, *a.values)
            largest = max(largest, *a.values)
        for p, q in zip(a.entries, b.entries, strict=False):
            pairs = zip(numbers_of(p.left), numbers_of(q.left), strict=False)
            largest = max([largest, *(m for m, n in pairs if n == m + 1)])
    return 0 if lowest == 0 else largest - repeats


def _section(one: list[Fold], two: list[Fold], depth: int, symbol: str) -> tuple[Generic, ...]:
    if len(one) != len(two):
        raise InputError(_NO_PATTERN)
    return tuple(_generic(a, b, depth, symbol) for a, b in zip(one, two, strict=True))


_NO_PATTERN = (
    "the equations of this network have no common form for every depth: at two depths next to each other they differ by "
    "more than numbers, so no depth can stand for all of them; derive it at one depth"
)


def _generic(a: Fold, b: Fold, depth: int, symbol: str) -> Generic:
    if len(a.entries) != len(b.entries) or bool(a.values) != bool(b.values) or a.index != b.index:
        raise InputError(_NO_PATTERN)
    entries = tuple(_entry(x, y, depth, symbol) for x, y in zip(a.entries, b.entries, strict=True))
    if not a.values:
        return Generic(entries)
    step = a.values[1] - a.values[0]
    first, last = (_end(a.values[i], b.values[i], depth, symbol) for i in (0, -1))
    return Generic(entries, a.index, first, last, step)


def _end(x: int, y: int, depth: int, symbol: str) -> str:
    if y == x:
        return str(x)
    if y == x + 1:
        return _with(symbol, x - depth)
    raise InputError(_NO_PATTERN)


def _with(symbol: str, distance: int) -> str:
    return symbol + (f"{distance:+d}" if distance else "")


def _entry(a: Entry, b: Entry, depth: int, symbol: str) -> Entry:
    sides = []
    for x, y in ((a.left, b.left), (a.right, b.right)):
        m, n = numbers_of(x), numbers_of(y)
        if len(m) != len(n):
            raise InputError(_NO_PATTERN)
        texts = [_end(p, q, depth, symbol) for p, q in zip(m, n, strict=True)]
        sides.append(shifted(x, texts))
        if bare(shifted(x, ["#"] * len(m))) != bare(shifted(y, ["#"] * len(n))):
            raise InputError(_NO_PATTERN)
    return Entry(sides[0], sides[1], _rule(a.rule, b.rule, depth, symbol))


def _rule(a: str, b: str, depth: int, symbol: str) -> str:
    m, n = ([int(v) for v in _NUMBER.findall(text)] for text in (a, b))
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return a.partition(";")[0]
    texts = iter(zip(m, n, strict=True))

    def put(match: re.Match[str]) -> str:
        x, y = next(texts)
        if x == y:
            return match[0]
        name = _with(symbol, x - depth)
        joined = match.start() > 0 and match.string[match.start() - 1].isalpha()
        return ("_" + (name if len(name) == 1 else f"({name})")) if joined else name

    return _NUMBER.sub(put, a)


def _number(text: str, symbol: str, depth: int) -> int:
    return int(placed(text, symbol, depth))


def _put_in(entry: Entry, symbol: str, depth: int) -> Entry:
    def change(text: str) -> str:
        return placed(text, symbol, depth)

    return Entry(changed(entry.left, change), changed(entry.right, change), entry.rule)
