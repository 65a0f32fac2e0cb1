"""The command line: it parses, calls one function of Backproof, and shows its result.

Nothing heavy is imported before a command needs it, so that ``backproof --help`` is instant.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from .failures import guarded
from .parser import parse
from .progress import progress_on_stderr

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: the words after ``backproof``; by default those of the process.

    Returns:
        0: done, nothing wrong found; 1: done, with a finding; 2: the request could not be carried out.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        warnings.showwarning = _say
        return guarded(lambda: _run(words))


def _say(message: Warning | str, *place: object, **more: object) -> None:
    """A warning as one line on stderr, without the line of our own code that it came through."""
    print("backproof: warning: " + " ".join(str(message).split()), file=sys.stderr)


def _run(words: list[str]) -> int:
    arguments = parse(words)
    with progress_on_stderr():
        status: int = arguments.run(arguments)
    return status
