"""The bytes domain: a value is a live storage; a training step read over it says how much memory it needs, and when.

A tensor is a view of a storage, and only storages have a size: a view, a reshape or an operation in place adds nothing.
A storage is born with the operation that allocates it and dies after the last operation before its last reference goes.
While operation i runs, what is live is

    live(i) = sum of the bytes of all storages with birth <= i <= death, plus the scratch space of operation i,

and the peak of a step is the largest live(i). It is not the sum of parameters, gradients, optimizer state and
activations: those are not all alive at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from ..errors import InputError

__all__ = ["FOREVER", "KINDS", "Instant", "Storage", "Timeline", "read_bytes", "spoken_bytes"]

FOREVER = 2**62

KINDS = {
    "parameters": "the weights and biases",
    "buffers": "what the model keeps besides (running statistics)",
    "inputs": "the batch and its targets",
    "gradients": "the gradients of the parameters",
    "optimizer state": "what the optimizer remembers between updates",
    "activations": "what the forward pass leaves for the backward pass",
    "recomputed": "activations that the backward pass computes again",
    "temporaries": "what lives only for a few operations",
    "scratch": "what one operation allocates inside itself",
}


@dataclass(frozen=True)
class Storage:
    """A block of memory: its size, its kind, from which operation to which it lives, and who made it.

    Args:
        bytes: its size.
        kind: one of ``KINDS``.
        birth, death: the first and the last instant at which it is live; ``FOREVER`` for what outlives the record.
        op, module, source: the operation, the module's path and the line of the user's program that made it.
        name: the name of a parameter, buffer or input.
        shape: the shape of the first tensor seen in it.
    """

    bytes: int
    kind: str
    birth: int
    death: int = FOREVER
    op: str = ""
    module: str = ""
    source: str = ""
    name: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Instant:
    """One operation of the step: its phase ("forward", "backward", "update"), what it is, its cost and scratch space."""

    step: int
    phase: str
    op: str
    module: str = ""
    source: str = ""
    flops: int = 0
    scratch: int = 0
    again: bool = False
    random: bool = False


@dataclass(frozen=True)
class Timeline:
    """Every storage and every instant of recorded training steps."""

    storages: tuple[Storage, ...]
    instants: tuple[Instant, ...]

    @cached_property
    def live(self) -> tuple[int, ...]:
        """The bytes that are live while each operation runs, scratch space included."""
        change = [0] * (len(self.instants) + 1)
        for s in self.storages:
            if s.birth < len(self.instants):
                change[max(s.birth, 0)] += s.bytes
                if s.death < len(self.instants):
                    change[s.death + 1] -= s.bytes
        return tuple(held + i.scratch for held, i in zip(accumulate(change[:-1]), self.instants, strict=True))

    def span(self, step: int) -> range:
        """The instants of one step, counted from 1."""
        first = next((i for i, at in enumerate(self.instants) if at.step == step), len(self.instants))
        return range(first, first + sum(at.step == step for at in self.instants))

    def peak_at(self, step: int) -> int:
        """The instant of a step at which most is live (the first such)."""
        return max(self.span(step), key=lambda i: (self.live[i], -i))

    def peak(self, step: int) -> int:
        """The largest number of live bytes in a step."""
        return self.live[self.peak_at(step)]

    def living(self, instant: int) -> tuple[Storage, ...]:
        """The storages that are live at an instant, the largest first."""
        found = [s for s in self.storages if s.birth <= instant <= s.death and s.bytes]
        return tuple(sorted(found, key=lambda s: -s.bytes))

    def breakdown(self, instant: int) -> dict[str, int]:
        """The live bytes at an instant by kind; their sum is ``live[instant]``."""
        found = dict.fromkeys(KINDS, 0)
        for s in self.living(instant):
            found[s.kind] += s.bytes
        found["scratch"] += self.instants[instant].scratch
        return {kind: size for kind, size in found.items() if size}

    def flops(self, step: int, counts: Callable[[Instant], bool] = lambda at: True) -> int:
        """The floating-point operations of a step."""
        return sum(self.instants[i].flops for i in self.span(step) if counts(self.instants[i]))

    def changed(self, change: Callable[[Storage], Storage]) -> Timeline:
        """The same record with every storage changed."""
        return replace(self, storages=tuple(change(s) for s in self.storages))


_UNITS: Sequence[tuple[str, int]] = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def spoken_bytes(size: float) -> str:
    """A number of bytes in words, in powers of ten: 1,234,567 is "1.235 MB".

    Example:
        >>> spoken_bytes(1_234_567), spoken_bytes(12)
        ('1.235 MB', '12 B')
    """
    return next((f"{size / unit:.4g} {name}" for name, unit in _units_below(size)), f"{size:.0f} B")


def _units_below(size: float) -> Iterable[tuple[str, int]]:
    return ((name, unit) for name, unit in _UNITS if abs(size) >= unit)


_WRITTEN = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([kKMGT]?)(i?)[bB]?\s*")


def read_bytes(budget: Any, what: str = "the budget") -> int:
    """A number of bytes from 6e8, "600MB" (powers of ten) or "600MiB" (powers of two).

    Raises:
        InputError: it is not a positive finite number of bytes.

    Example:
        >>> read_bytes("1.5kB"), read_bytes("2KiB")
        (1500, 2048)
    """
    size = _size(budget)
    if size is None or not math.isfinite(size) or size < 1:
        raise InputError(f'{what} is a positive number of bytes, as 600000000, "600MB" or "1.5GiB", not {budget!r}')
    return int(size)


def _size(budget: Any) -> float | None:
    if isinstance(budget, (int, float)) and not isinstance(budget, bool):
        return float(budget) if not isinstance(budget, int) or budget < 10**30 else None
    found = _WRITTEN.fullmatch(budget) if isinstance(budget, str) and len(budget) < 60 else None
    if found is None:
        return None
    base = 1024 if found[3] else 1000
    return float(found[1]) * float(base ** " KMGT".index(found[2].upper() or " "))
