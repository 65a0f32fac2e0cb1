"""Measure what single operations allocate inside themselves, and what they really return.

A record on fake tensors sees the tensors between operations. Some kernels allocate more while they run (a convolution
reorders its weights) or return a workspace whose size only the kernel knows (an LSTM). Each distinct operation of a step, with its
shapes, is run once by itself on made-up numbers under the profiler; a step that does not fit as a whole can still be
measured in this way, one operation at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ...errors import InputError
from ...joint import Call, Made, Spec
from ..fresh import counted, in_fresh_process

__all__ = ["Scratch", "measure_scratch"]

MOST_BYTES, MOST_FLOPS, MOST_IN_ALL = 2 * 10**9, 5 * 10**9, 4 * 10**10


@dataclass(frozen=True)
class Scratch:
    """What one operation allocates beyond its results while it runs, and the bytes of each result's storage."""

    inside: int
    sizes: tuple[int, ...]


def measure_scratch(calls: Sequence[Call], found: dict[Any, Scratch], seconds: float = 60) -> None:
    """Run every distinct call that is small enough and not yet known; what could not be run stays unknown.

    Args:
        calls: the distinct operations of a record.
        found: what is known, by the calls' keys; what is measured is entered here.
        seconds: the most that the measurement may take.
    """
    chosen = _chosen(calls, found)
    if not chosen or _try(calls, chosen, found, seconds):
        return
    size = max(1, len(chosen) // 8)  # one kernel that cannot take made-up numbers must not spoil the others
    for i in range(0, len(chosen), size):
        _try(calls, chosen[i : i + size], found, seconds)


def _try(calls: Sequence[Call], chosen: Sequence[int], found: dict[Any, Scratch], seconds: float) -> bool:
    try:
        measured: dict[int, Scratch] = in_fresh_process(lambda: _run_all(calls, chosen), seconds)
    except InputError:
        return False
    found.update({calls[n].key: s for n, s in measured.items()})
    return True


def _chosen(calls: Sequence[Call], known: Mapping[Any, Scratch]) -> list[int]:
    """The calls that allocate, each within bounds, until the sum of their work is large; and whose results they need."""
    found, work = set[int](), 0
    for number, call in enumerate(calls):
        small = 0 < call.bytes <= MOST_BYTES and call.flops <= MOST_FLOPS and call.key not in known
        if small and work + call.flops <= MOST_IN_ALL:
            work += call.flops
            found |= {number, *_needs(call)}
    return sorted(found)


def _needs(call: Call) -> set[int]:
    return {m.call for m in tree_leaves((call.args, call.kwargs)) if isinstance(m, Made)}


def _run_all(calls: Sequence[Call], chosen: Sequence[int]) -> dict[int, Scratch]:
    wanted = {number for c in calls for number in _needs(c)}
    kept: dict[int, list[Tensor]] = {}
    sizes: dict[int, tuple[int, ...]] = {}
    with torch.enable_grad(), counted() as allocations:  # an LSTM makes its workspace only then
        for number in chosen:
            outputs = _run(calls[number], str(number), kept, allocations)
            if outputs is not None:
                sizes[number] = tuple(t.untyped_storage().nbytes() for t in outputs)
                if number in wanted:
                    kept[number] = outputs
                del outputs
    return {n: _scratch(allocations.inside(str(n)), found) for n, found in sizes.items()}


def _scratch(sums: Sequence[int], sizes: tuple[int, ...]) -> Scratch:
    return Scratch(max(sums) - sums[-1], sizes)


def _run(call: Call, name: str, kept: Mapping[int, list[Tensor]], allocations: Any) -> list[Tensor] | None:
    """Run one call on made-up numbers; None where its kernel refuses them."""
    try:
        args, kwargs = tree_map(lambda s: _real(s, kept), (call.args, call.kwargs))
        with allocations.mark(name):
            out = call.function(*args, **kwargs)
    except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError, KeyError):
        return None
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def _real(spec: Any, kept: Mapping[int, list[Tensor]]) -> Any:
    if isinstance(spec, Made):
        return kept[spec.call][spec.place]
    if not isinstance(spec, Spec):
        return spec
    made = torch.empty_strided(spec.shape, spec.stride, dtype=spec.dtype)
    return made.fill_(0.5) if spec.dtype.is_floating_point else made.zero_()
