"""Where the positions along an axis of the input are found again in a tensor: as digits of the tensor's own indices.

Reshaping and permuting cut an axis into pieces (window, place within the window) and put pieces of several axes into one
(tokens, pixel shuffle). A :class:`Digit` is (index along one axis // below) % size; the digits of a :class:`Track`, the most
significant first, make up one number, and a relation says which indices of the input belong to it. Taking a digit away,
putting one in, or moving a window along one are relations again, so that nothing is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from .relations import IDENTITY, LONGEST_PERIOD, Offsets, Relation, offsets

__all__ = ["Digit", "Track", "moved", "promoted", "removed", "reshaped", "through", "united", "whole"]


@dataclass(frozen=True)
class Digit:
    """(index along ``axis`` // below) % size."""

    axis: int
    below: int
    size: int


@dataclass(frozen=True)
class Track:
    """Which indices of the input belong to which digits: ``relation`` of the number that the digits make up."""

    digits: tuple[Digit, ...]
    relation: Relation

    @property
    def axes(self) -> set[int]:
        """The tensor's axes that it uses."""
        return {d.axis for d in self.digits}


def whole(axis: int, size: int) -> Track:
    """An axis of the input itself."""
    return Track((Digit(axis, 1, size),), IDENTITY)


def _sizes(digits: Iterable[Digit]) -> int:
    return prod(d.size for d in digits)


def _tidy(digits: Sequence[Digit]) -> tuple[Digit, ...]:
    """Neighbours that are one piece of one axis are one digit."""
    found: list[Digit] = []
    for digit in digits:
        last = found[-1] if found else None
        if last is not None and last.axis == digit.axis and last.below == digit.below * digit.size:
            found[-1] = Digit(digit.axis, digit.below, last.size * digit.size)
        else:
            found.append(digit)
    return tuple(found)


def _bounded(period: int) -> None:
    if period > LONGEST_PERIOD:
        raise ValueError(f"the pattern repeats only after {period} positions")


# --- changes of shape ---------------------------------------------------------------------------------------------------
def reshaped(track: Track, old: Sequence[int], new: Sequence[int]) -> Track | None:
    """The track after a change of shape; None where a digit is cut in a way that no digits can say."""
    found: list[Digit] = []
    for digit in track.digits:
        low = digit.below * prod(old[digit.axis + 1 :])
        pieces = _located(low, digit.size, new)
        if pieces is None:
            return None
        found += pieces
    return Track(_tidy(found), track.relation)


def _located(low: int, size: int, shape: Sequence[int]) -> list[Digit] | None:
    """(flat index // low) % size as digits of the axes of a shape."""
    found, high = [], low * size
    step = prod(shape)
    for axis, n in enumerate(shape):
        top, step = step, step // n
        start, end = max(low, step), min(high, top)
        if start < end or (size == 1 and step == low and n == 1):
            if start % step or end % start or start % low or high % end:
                return None
            found.append(Digit(axis, start // step, end // start))
    return found if _sizes(found) == size else None


def moved(track: Track, places: dict[int, int]) -> Track:
    """The track with the tensor's axes numbered anew; digits of axes that are gone (of size 1) are dropped."""
    return replace(track, digits=tuple(replace(d, axis=places[d.axis]) for d in track.digits if d.axis in places))


# --- digits taken away and put in -----------------------------------------------------------------------------------------
def removed(track: Track, axis: int) -> Track | None:
    """The track after a sum over an axis; None where all positions are summed over."""
    while (place := next((i for i, d in enumerate(track.digits) if d.axis == axis), None)) is not None:
        before, digit, after = track.digits[:place], track.digits[place], track.digits[place + 1 :]
        rest = (*before, *after)
        if digit.size > 1:
            if _sizes(before) == 1:
                return None
            low, size = _sizes(after), digit.size
            _bounded(low)
            rows = tuple(offsets(t * low + i for t in range(size)) for i in range(low))
            track = Track(_tidy(rest), Relation(size * low, rows).after(track.relation))
        else:
            track = Track(_tidy(rest), track.relation)
    return track


def _dropping(kept: Sequence[Digit], digits: Sequence[Digit]) -> Relation:
    """From the number of all digits to the number of those that are kept."""
    current, relation = list(digits), IDENTITY
    for digit in digits:
        if digit not in kept:
            place = current.index(digit)
            low, size = _sizes(current[place + 1 :]), digit.size
            _bounded(low * size)
            rows = tuple(offsets([i % low]) for i in range(low * size))
            relation = relation.after(Relation(low, rows))
            current.remove(digit)
    return relation


def promoted(track: Track, axis: int, size: int) -> Track | None:
    """The track told by the index along one axis as a whole; None where other digits stand in between."""
    own = [i for i, d in enumerate(track.digits) if d.axis == axis]
    if not own:
        return track
    if own != list(range(own[0], own[-1] + 1)):
        return None
    digits = track.digits[own[0] : own[-1] + 1]
    if digits == (Digit(axis, 1, size),):
        return track
    values = [0] * _period_of(digits, size)
    _bounded(len(values))
    for d in digits:
        values = [v * d.size + i // d.below % d.size for i, v in enumerate(values)]
    top = _tidy(digits)
    covers = len(top) == 1 and top[0].below * top[0].size == size
    local = Relation(
        1 if covers else 0, tuple(offsets([v]) for v in (values[: top[0].below] if covers else values))
    ).normal()
    before, after = track.digits[: own[0]], track.digits[own[-1] + 1 :]
    relation = _lifted(local, size, _sizes(digits), _sizes(before), _sizes(after)).after(track.relation)
    return Track((*before, Digit(axis, 1, size), *after), relation)


def _period_of(digits: Sequence[Digit], size: int) -> int:
    return min(size, digits[0].below * digits[0].size) if len(digits) == 1 else size


# --- windows along an axis ------------------------------------------------------------------------------------------------
def through(track: Track, axis: int, local: Relation, outputs: int, inputs: int) -> Track | None:
    """The track after windows along an axis: output o sees the indices ``local.at(o)`` of it."""
    if axis not in track.axes:
        return track
    if (found := promoted(track, axis, inputs)) is None:
        return None
    place = next(i for i, d in enumerate(found.digits) if d.axis == axis)
    before, after = found.digits[:place], found.digits[place + 1 :]
    relation = _lifted(local, outputs, inputs, _sizes(before), _sizes(after)).after(found.relation)
    return Track((*before, Digit(axis, 1, outputs), *after), relation)


def _lifted(local: Relation, outputs: int, inputs: int, before: int, after: int) -> Relation:
    """A relation of one digit as a relation of the number that it is in the middle of.

    With more significant digits before it (windows of an image, say) what lies outside 0 .. inputs - 1 is seen by nobody.
    """
    if before == 1 == after:
        return local
    if before == 1:
        _bounded(local.period * after)
        rows = [_spread(row, after, i) for row in local.rows for i in range(after)]
        return Relation(local.advance * after, tuple(rows)).normal()
    _bounded(outputs * after)
    cut = [offsets(q for q in local.at(o) if 0 <= q < inputs) for o in range(outputs)]
    return Relation(inputs * after, tuple(_spread(row, after, i) for row in cut for i in range(after))).normal()


def _spread(row: Offsets, step: int, start: int) -> Offsets:
    return offsets(q * step + start for q in row)


# --- branches -----------------------------------------------------------------------------------------------------------
def united(tracks: Sequence[Track], shape: Sequence[int]) -> tuple[list[Track], bool]:
    """What is seen through any of the tracks: tracks of different digits stay apart unless one refines the other.

    Args:
        tracks: with at least one digit each.
        shape: of the tensor.

    Returns:
        The tracks, and whether some of the same digits move at different speeds, which no relation says.
    """
    found: list[Track] = []
    clash = False
    for axis in set.union(*(track.axes for track in tracks)):
        if len({tuple(d for d in t.digits if d.axis == axis) for t in tracks if axis in t.axes}) > 1:
            tracks = [promoted(track, axis, shape[axis]) or track for track in tracks]
    for track in sorted(tracks, key=lambda t: -len(t.digits)):
        for i, other in enumerate(found):
            if (told := _told_by(track, other.digits)) is not None:
                both = other.relation.union(told.relation)
                clash |= both is None
                found[i] = Track(other.digits, both if both is not None else other.relation)
                break
        else:
            found.append(track)
    return found, clash


def _told_by(track: Track, digits: tuple[Digit, ...]) -> Track | None:
    if track.digits == digits:
        return track
    rest = iter(digits)
    if not track.digits or not all(d in rest for d in track.digits):
        return None
    return Track(digits, _dropping(track.digits, digits).after(track.relation))
