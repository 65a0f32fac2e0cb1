"""Intervals with exact ends for the entries of a tensor, and how rules are applied to them.

Entries that are the same interval (all weights of a box) are computed once: where all are, the box is kept as one pair of
ends; an axis along which an array repeats itself has stride 0, and is worked on as if it had one entry.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import flint
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .curves import as_fraction, rational, rounded

__all__ = ["Array", "Box", "contracted", "down", "each", "seen", "summed", "thin", "times", "up"]

Array = np.ndarray[Any, np.dtype[Any]]
Ends = tuple[Any, Any]
MOST = 3_000_000


class Box:
    """An interval for every entry of a tensor, with fractions as ends.

    Args:
        lo, hi: arrays of fractions of one shape.

    Attributes:
        shape: of the tensor that it encloses.
        one: the ends, where they are the same for all entries; else None.
        floats: the ends as float64 tensors, where it was made of such; else None.
    """

    __slots__ = ("_hi", "_lo", "floats", "one", "shape")

    def __init__(self, lo: Array, hi: Array) -> None:
        self._lo: Array | None = lo
        self._hi: Array | None = hi
        self.shape = tuple(lo.shape)
        self.one: Ends | None = None
        self.floats: tuple[Tensor, Tensor] | None = None

    @staticmethod
    def _without_ends(shape: tuple[int, ...]) -> Box:
        made = Box.__new__(Box)
        made._lo = made._hi = made.one = made.floats = None
        made.shape = tuple(shape)
        return made

    @staticmethod
    def filled(lo: Any, hi: Any, shape: tuple[int, ...]) -> Box:
        """The same interval for all entries."""
        made = Box._without_ends(shape)
        made.one = lo, hi
        return made

    @staticmethod
    def exactly(values: Any, shape: tuple[int, ...]) -> Box:
        """Known numbers: floats as the binary fractions that they are."""
        flat = np.array(values, dtype=object).reshape(-1)
        if flat.size and all(v == flat[0] for v in flat[1:]):
            value = _fraction(flat[0])
            return Box.filled(value, value, shape)
        made = np.empty(flat.shape, dtype=object)
        for i, v in enumerate(flat):
            made[i] = _fraction(v)
        return Box(made.reshape(shape), made.reshape(shape))

    @staticmethod
    def between(lo: Tensor, hi: Tensor) -> Box:
        """From one float64 tensor to another; they become fractions when those are asked for."""
        made = Box._without_ends(tuple(lo.shape))
        made.floats = lo, hi
        return made

    @property
    def is_known(self) -> bool:
        """Whether it is one float64 tensor."""
        return self.floats is not None and self.floats[0] is self.floats[1]

    @property
    def lo(self) -> Array:
        """The lower ends."""
        self._written_out()
        assert self._lo is not None
        return self._lo

    @property
    def hi(self) -> Array:
        """The upper ends."""
        self._written_out()
        assert self._hi is not None
        return self._hi

    def _written_out(self) -> None:
        if self._lo is not None:
            return
        if self.one is not None:
            self._lo, self._hi = (np.broadcast_to(scalar(end), self.shape) for end in self.one)
            return
        assert self.floats is not None
        made = [Box.exactly(end.tolist(), self.shape) for end in dict.fromkeys(self.floats)]
        self._lo, self._hi = made[0].lo, made[-1].lo

    def largest(self) -> Any:
        """The largest absolute value of any entry."""
        ends = self.distinct()
        return max((max(abs(a), abs(b)) for a, b in ends), default=flint.fmpq(0))

    def distinct(self) -> list[Ends]:
        """The ends of the entries, each that is shared once."""
        if self.one is not None:
            return [self.one]
        lo, hi = thin(self.lo, self.hi)
        return list(zip(lo.reshape(-1), hi.reshape(-1), strict=True))

    def widened(self, share: Any) -> Box:
        """With ends that are moved outwards by a share of their size; what is 0 stays."""
        return each(lambda a, b: (a - abs(a) * share, b + abs(b) * share), self)

    def outside(self) -> tuple[Tensor, Tensor]:
        """Float64 tensors that certainly enclose it."""
        if self.floats is not None:
            return self.floats
        if self.one is not None:
            lo, hi = down(self.one[0]), up(self.one[1])
            return tuple(torch.full(self.shape, v, dtype=torch.float64) for v in (lo, hi))  # type: ignore[return-value]
        ends = [[down(v) for v in self.lo.reshape(-1)], [up(v) for v in self.hi.reshape(-1)]]
        return tuple(torch.tensor(v, dtype=torch.float64).reshape(self.shape) for v in ends)  # type: ignore[return-value]


def _fraction(value: Any) -> Any:
    return as_fraction(value) if isinstance(value, float) else rational(value)


def down(value: Any) -> float:
    """The nearest float, or the one below where that is above the fraction."""
    try:
        found = int(value.p) / int(value.q)
    except OverflowError:
        return sys.float_info.max if value > 0 else -math.inf
    return found if flint.fmpq(*found.as_integer_ratio()) <= value else math.nextafter(found, -math.inf)


def up(value: Any) -> float:
    """The nearest float that is not below."""
    return -down(-value)


def scalar(value: Any) -> Array:
    """An array of one object without axes."""
    out = np.empty((), dtype=object)
    out[()] = value
    return out


def thin(*arrays: Array) -> tuple[Array, ...]:
    """The arrays with every axis along which all of them repeat themselves cut to one entry."""
    shape = arrays[0].shape
    cut = tuple(
        slice(0, 1) if n > 1 and all(a.strides[i] == 0 for a in arrays) else slice(None) for i, n in enumerate(shape)
    )
    return tuple(a[(..., *cut)] for a in arrays)


def each(function: Callable[..., Ends], *boxes: Box) -> Box:
    """Apply a rule for intervals entry by entry, with broadcasting; the function takes lo, hi, lo, hi..."""
    ones = [box.one for box in boxes if box.one is not None]
    if len(ones) == len(boxes):
        shapes = {box.shape for box in boxes}
        shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
        return Box.filled(*rounded(*function(*(end for one in ones for end in one))), shape)
    wide = np.broadcast_arrays(*(end for box in boxes for end in (box.lo, box.hi)), subok=False)
    small = thin(*wide)
    _affordable(small[0].size)
    lo, hi = np.empty(small[0].shape, dtype=object), np.empty(small[0].shape, dtype=object)
    known: dict[tuple[int, ...], Ends] = {}
    for place in np.ndindex(*lo.shape):
        ends = tuple(a[place] for a in small)
        key = tuple(map(id, ends))
        if key not in known:
            known[key] = rounded(*function(*ends))
        lo[place], hi[place] = known[key]
    return _spread(lo, hi, wide[0].shape)


def _spread(lo: Array, hi: Array, shape: tuple[int, ...]) -> Box:
    """Ends that may be thin as a box of the whole shape."""
    if lo.size == 1 and 0 not in shape:
        return Box.filled(lo.item(), hi.item(), shape)
    return Box(np.broadcast_to(lo, shape), np.broadcast_to(hi, shape))


def _affordable(count: int) -> None:
    if count > MOST:
        raise InputError(
            f"a certificate of this network needs {count:,} products of intervals at once; {MOST:,} is the limit"
        )


def times(a: Any, b: Any, c: Any, d: Any) -> Ends:
    """The product of two intervals."""
    ends = (a * c, a * d, b * c, b * d)
    return min(ends), max(ends)


def summed(box: Box, axes: tuple[int, ...], scale: Any = 1) -> Box:
    """The sum over axes, times a number; an axis of equal entries counts as often as it is long."""
    kept = tuple(n for i, n in enumerate(box.shape) if i not in axes)
    if box.one is not None:
        many = math.prod(box.shape[i] for i in axes) * scale
        return Box.filled(box.one[0] * many, box.one[1] * many, kept)
    lo, hi = thin(box.lo, box.hi)
    many = math.prod(box.shape[i] // max(lo.shape[i], 1) for i in axes) * scale
    return _spread(_sum_of(lo, axes, many), _sum_of(hi, axes, many), kept)


def _sum_of(array: Array, axes: tuple[int, ...], many: Any) -> Array:
    found = np.add.reduce(array, axis=axes) if axes else array
    if not isinstance(found, np.ndarray) or found.ndim == 0:
        return scalar(flint.fmpq(found if not isinstance(found, np.ndarray) else found.item()) * many)
    return (
        found * many if found.size and math.prod(array.shape[i] for i in axes) else np.full(found.shape, flint.fmpq(0))
    )


def contracted(a: Box, b: Box) -> Box:
    """Sum over the last axis of a [..., n, 1, k] times b [..., 1, m, k]."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    return summed(each(times, a, b), (len(shape) - 1,))


def seen(box: Box, view: Callable[[Array], Array]) -> Box:
    """Through a change of shape."""
    if box.one is not None:
        return Box.filled(*box.one, view(np.broadcast_to(0, box.shape)).shape)
    return Box(view(box.lo), view(box.hi))
