"""Progress bars on stderr, for a person at a terminal; nothing where stderr is a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["progress_on_stderr"]


@contextmanager
def progress_on_stderr() -> Iterator[None]:
    """Show the progress of what runs inside."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from backproof.progress import shown_by

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True) as bars:
        with shown_by(_Bars(bars)):
            yield


class _Bars:
    def __init__(self, bars: object) -> None:
        from rich.progress import Progress

        assert isinstance(bars, Progress)
        self.bars = bars

    def begin(self, what: str, total: int | None) -> int:
        return self.bars.add_task(what, total=total, note="")

    def advance(self, number: int, by: int, note: str) -> None:
        from rich.progress import TaskID

        self.bars.update(TaskID(number), advance=by)
        if note:
            self.bars.update(TaskID(number), note=note)

    def end(self, number: int) -> None:
        from rich.progress import TaskID

        self.bars.remove_task(TaskID(number))
