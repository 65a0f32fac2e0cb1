"""Long work says how far it is: a study reports, and whoever runs it (the command line, a notebook) shows it.

Without anybody to show it, reporting costs nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

__all__ = ["Reporter", "shown_by", "task", "track"]

T = TypeVar("T")


class Reporter(Protocol):
    """Who shows progress: one call when a task begins, one for each advance, one when it ends."""

    def begin(self, what: str, total: int | None) -> int:
        """A task begins; the number that names it from now on."""
        ...

    def advance(self, number: int, by: int, note: str) -> None:
        """The task is further by so many parts."""
        ...

    def end(self, number: int) -> None:
        """The task is over, whether it succeeded or not."""
        ...


_REPORTER: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


@contextmanager
def shown_by(reporter: Reporter) -> Iterator[None]:
    """Show the progress of everything inside through this reporter."""
    token = _REPORTER.set(reporter)
    try:
        yield
    finally:
        _REPORTER.reset(token)


@contextmanager
def task(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """One long task; what it yields is called as ``advance(by=1, note="loss 0.31")``."""
    reporter = _REPORTER.get()
    if reporter is None:
        yield lambda by=1, note="": None
        return
    number = reporter.begin(what, total)
    try:
        yield lambda by=1, note="": reporter.advance(number, by, note)
    finally:
        reporter.end(number)


def track(parts: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The parts one by one, each reported when it is done."""
    count = total if total is not None else len(parts) if isinstance(parts, Sized) else None
    with task(what, count) as advance:
        for part in parts:
            yield part
            advance()
