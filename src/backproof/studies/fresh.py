"""Run something in a fresh process, and count every allocation that torch makes there.

The count comes from ``torch.profiler``'s memory events: each allocation and release of the CPU allocator, what operations
allocate inside themselves included. It is private to torch where these events are kept, so it is all in this file.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import BackproofError, InputError

__all__ = ["Allocations", "counted", "in_fresh_process"]


class Allocations:
    """The memory events of a run: ``inside(mark)`` are those within a marked stretch, as running sums from its start."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self.marks: dict[str, tuple[int, int, int]] = {}

    def read(self, profile: Any) -> None:
        """Take the events from torch's profiler."""
        events = profile.profiler.kineto_results.events()
        found = sorted((e.start_ns(), i, e.nbytes()) for i, e in enumerate(events) if e.name() == "[memory]")
        self.events = [(at, size) for at, _, size in found]
        for i, e in enumerate(events):
            if e.name().startswith("backproof "):
                self.marks[e.name()] = (e.start_ns(), e.start_ns() + e.duration_ns(), i)

    @contextmanager
    def mark(self, name: str) -> Iterator[None]:
        """Mark a stretch of the run."""
        with torch.profiler.record_function(f"backproof {name}"):
            yield

    def before(self, name: str) -> int:
        """What had been allocated and not released when the marked stretch began."""
        start, _, _ = self.marks[f"backproof {name}"]
        return sum(size for at, size in self.events if at < start)

    def inside(self, name: str) -> list[int]:
        """The running sum after each event of the marked stretch, counted from its start."""
        start, end, _ = self.marks[f"backproof {name}"]
        sums, held = [0], 0
        for at, size in self.events:
            if start <= at <= end:
                held += size
                sums.append(held)
        return sums


@contextmanager
def counted() -> Iterator[Allocations]:
    """Count the allocations of what runs inside; the sums can be read afterwards."""
    found = Allocations()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        yield found
    found.read(profile)


def in_fresh_process(work: Callable[[], Any], seconds: float = 600) -> Any:
    """What ``work()`` returns in a process of its own, which starts with a copy of this one's memory.

    Raises:
        InputError: it failed there, or was killed (out of memory), or took longer than allowed.
    """
    if not hasattr(os, "fork") or torch.cuda.is_initialized():
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(work, theirs), daemon=True)
    with warnings.catch_warnings():  # later Pythons warn when a program with threads forks; the child uses none of them
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    theirs.close()
    try:
        arrived = ours.poll(seconds)
        done, value = ours.recv() if arrived else (False, f"it took longer than {seconds:.0f} seconds")
    except EOFError:
        child.join(5)
        done, value = False, f"it ended by itself with status {child.exitcode} (killed for want of memory, perhaps)"
    finally:
        if child.is_alive():
            child.join(2)
            child.kill()
        ours.close()
    if not done:
        raise InputError(f"the run in a process of its own failed: {value}")
    return value


def _child(work: Callable[[], Any], pipe: Any) -> None:
    """Run and send; torch's profiler writes to stderr, which is not for the user. No cleaning up of the parent's things."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        torch.set_num_threads(1)
        pipe.send((True, work()))
    except BackproofError as error:
        pipe.send((False, str(error)))
    except BaseException as error:
        pipe.send((False, f"{type(error).__name__}: {str(error)[:300]}"))
    finally:
        pipe.close()
        os._exit(0)
