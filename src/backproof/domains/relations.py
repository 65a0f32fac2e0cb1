"""Which indices of an axis belong to which index of another: exact relations that repeat with a period.

A relation R between the integers of an output axis and those of an input axis satisfies R(o + P) = R(o) + Q. It is held
as one finite set of offsets for each o from 0 to P - 1, so that strides (Q > 1), upsampling (P > 1), dilation (gaps) and
branches (unions) are all exact. The axes are unbounded here: borders are the business of :mod:`.cells`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

__all__ = [
    "IDENTITY",
    "LONGEST_PERIOD",
    "Offsets",
    "Relation",
    "adaptive",
    "gathered",
    "offsets",
    "transposed",
    "windows",
]

LONGEST_PERIOD = 4096


@dataclass(frozen=True)
class Offsets:
    """A finite set of integers: ``low`` and, as the bits of ``mask``, what is in it from there on (bit 0 is set, unless the
    set is empty).
    """

    low: int
    mask: int

    def shifted(self, by: int) -> Offsets:
        """The set moved by a number."""
        return Offsets(self.low + by, self.mask)

    def __or__(self, other: Offsets) -> Offsets:
        if not self.mask or not other.mask:
            return self if self.mask else other
        low = min(self.low, other.low)
        return Offsets(low, self.mask << (self.low - low) | other.mask << (other.low - low))

    def __iter__(self) -> Iterator[int]:
        mask, place = self.mask, self.low
        while mask:
            step = (mask & -mask).bit_length() - 1
            place += step
            yield place
            mask >>= step + 1
            place += 1

    @property
    def size(self) -> int:
        """From the first to the last, gaps included."""
        return self.mask.bit_length()

    @property
    def count(self) -> int:
        """How many there are."""
        return self.mask.bit_count()


def offsets(values: Iterable[int]) -> Offsets:
    """The set of some integers."""
    found = set(values)
    if not found:
        return Offsets(0, 0)
    low, mask = min(found), 0
    for v in found:
        mask |= 1 << (v - low)
    return Offsets(low, mask)


@dataclass(frozen=True)
class Relation:
    """R(o) for all o: R(o + period) = R(o) + advance, and ``rows[o]`` for o = 0 .. period - 1."""

    advance: int
    rows: tuple[Offsets, ...]

    @property
    def period(self) -> int:
        """After how many outputs the pattern repeats."""
        return len(self.rows)

    @property
    def stride(self) -> Fraction:
        """How far the field moves per output: rational after upsampling."""
        return Fraction(self.advance, self.period)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The size of the field, for each output of one period."""
        return tuple(row.size for row in self.rows)

    @property
    def size(self) -> int:
        """The largest size of the field."""
        return max(self.sizes)

    @property
    def used(self) -> int:
        """How many indices the largest field really uses (dilation leaves gaps)."""
        return max(self.rows, key=lambda row: row.size).count

    @property
    def padding(self) -> int:
        """How far the field of output 0 begins before input 0."""
        return -self.rows[0].low

    def at(self, o: int) -> Offsets:
        """R(o)."""
        return self.rows[o % self.period].shifted(o // self.period * self.advance)

    def after(self, deeper: Relation) -> Relation:
        """The relation from this one's outputs through its inputs, which are ``deeper``'s outputs, to its inputs."""
        times = deeper.period // gcd(abs(self.advance), deeper.period) if deeper.period > 1 else 1
        period = self.period * times
        if period > LONGEST_PERIOD:
            raise ValueError(f"the pattern repeats only after {period} positions")
        advance = self.advance * times * deeper.advance // deeper.period
        if period == self.period == 1 and deeper is IDENTITY:
            return self
        return Relation(advance, tuple(_joined(deeper.at(m) for m in self.at(o)) for o in range(period))).normal()

    def union(self, other: Relation) -> Relation | None:
        """What is seen through either; None where the two move at different speeds."""
        if self.advance * other.period != other.advance * self.period:
            return None
        if self == other:
            return self
        period = self.period * other.period // gcd(self.period, other.period)
        advance = self.advance * (period // self.period)
        return Relation(advance, tuple(self.at(o) | other.at(o) for o in range(period))).normal()

    def normal(self) -> Relation:
        """The same relation with its smallest period."""
        for period in range(1, self.period):
            if self.period % period == 0 and (self.advance * period) % self.period == 0:
                step = self.advance * period // self.period
                if all(self.rows[o] == self.rows[o - period].shifted(step) for o in range(period, self.period)):
                    return Relation(step, self.rows[:period])
        return self


def _joined(sets: Iterable[Offsets]) -> Offsets:
    total = Offsets(0, 0)
    for one in sets:
        total = total | one
    return total


IDENTITY = Relation(1, (Offsets(0, 1),))


def windows(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Relation:
    """What the windows of a convolution or pool see: K taps, ``dilation`` apart, moved by ``stride``."""
    return Relation(stride, (offsets(-padding + dilation * k for k in range(kernel)),))


def transposed(kernel: int, stride: int, padding: int, dilation: int = 1) -> Relation:
    """What outputs of a transposed convolution see: output i, the inputs (i + p - t d) / s that are whole numbers."""
    rows = []
    for i in range(stride):
        taps = [i + padding - t * dilation for t in range(kernel)]
        rows.append(offsets(t // stride for t in taps if t % stride == 0))
    return Relation(1, tuple(rows)).normal()


def adaptive(size: int, wanted: int) -> Relation:
    """What the windows of an adaptive pool see: output i, the inputs from floor(i n / o) to before ceil((i + 1) n / o)."""
    rows = [offsets(range(i * size // wanted, -(-(i + 1) * size // wanted))) for i in range(wanted)]
    return Relation(size, tuple(rows)).normal()


def gathered(index: Sequence[int], size: int) -> Relation:
    """What entries picked by index see: output o, the input index[o] of ``size``.

    A law that holds away from the borders is taken for the whole: a roll or a circular padding is a shift (on the circle),
    a reflection a shift with borders, an enlargement has a period. What follows no law is listed entry by entry.
    """
    count = len(index)
    for period in range(1, min(count // 5, 64) + 1):
        middle = (count - period) // 2
        step = index[middle + period] - index[middle]
        pairs = range(period, count - 2 * period)
        if size > 1 and step and all((index[o + period] - index[o] - step) % size == 0 for o in pairs):
            rows = [offsets([index[middle + o]]) for o in range(period)]
            return _begun_at(Relation(step, tuple(rows)), middle)
    for start in range(count - size + 1):
        if count > 1 and list(index[start : start + size]) == list(range(size)):
            return Relation(1, (offsets([-start]),))
    return Relation(size, tuple(offsets([i]) for i in index)).normal()


def _begun_at(relation: Relation, start: int) -> Relation:
    """A relation whose rows are those of outputs from ``start`` on."""
    return Relation(relation.advance, tuple(relation.at(o - start) for o in range(relation.period))).normal()
