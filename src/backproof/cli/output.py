"""How a command shows its result: text or JSON on stdout, and files that are whole or not there."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from backproof.errors import InputError

__all__ = ["SUFFIXES", "Shown", "present"]

SUFFIXES = (".html", ".tex", ".pdf", ".md", ".ipynb", ".txt", ".json", ".py")


class Shown(Protocol):
    """What a command needs of a result."""

    def text(self) -> str:
        """Return the result for a terminal."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        ...

    def save(self, path: Path) -> object:
        """Write the result in the format of the path's suffix."""
        ...


def present(arguments: argparse.Namespace, compute: Callable[[], Shown]) -> int:
    """Compute a result, write it to the files asked for, print it, and return 1 for a finding, else 0.

    What is wrong with ``--out`` is said before anything is computed. While it computes, whatever the user's
    own code prints goes to stderr, so that stdout carries the result and nothing else.
    """
    paths = _checked(arguments.out)
    with contextlib.redirect_stdout(sys.stderr):
        result = compute()
        printed = _data(result, arguments.full) if arguments.json else result.text()
        _write(result, paths)
    _print(result, printed)
    for path in paths:
        sys.stderr.write(f"wrote {path}\n")
    return int(bool(getattr(result, "finding", False)))


def _checked(paths: list[Path]) -> list[Path]:
    """Refuse a path that could not be written; drop repetitions."""
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"--out {path}: the suffix says the format, and is one of {' '.join(SUFFIXES)}.")
        if not path.parent.is_dir():
            raise InputError(f"--out {path}: there is no folder {path.parent}; create it first.")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"--out {path}: a file cannot be written there.")
    return list({path.resolve(): path for path in paths}.values())


def _write(result: Shown, paths: list[Path]) -> None:
    """Write every file under a passing name in its folder, then put all in place: all or none."""
    passing = {path: path.with_name(f".{path.stem}.backproof-{os.getpid()}{path.suffix}") for path in paths}
    try:
        for path, temporary in passing.items():
            _save(result, path, temporary)
        for path, temporary in passing.items():
            os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise InputError(f"--out could not be written: {error}.") from None
    finally:
        for temporary in passing.values():
            temporary.unlink(missing_ok=True)


def _save(result: Shown, path: Path, temporary: Path) -> None:
    try:
        result.save(temporary)
    except InputError as error:  # the user knows the file by the name they gave
        raise InputError(str(error).replace(str(temporary), str(path))) from None


def _data(result: Shown, full: bool) -> dict[str, Any]:
    return result.to_dict(full=True) if full else result.to_dict()  # type: ignore[call-arg]


def _finite(data: Any) -> Any:
    """Spell the numbers that JSON lacks as "nan", "inf" and "-inf"."""
    if isinstance(data, float):
        return data if math.isfinite(data) else str(data)
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data


def _print(result: Shown, printed: str | dict[str, Any]) -> None:
    """Print data as JSON, text in colour for a person at a terminal, and plain for everybody else."""
    if isinstance(printed, dict):
        ascii_only = not _encoding().lower().startswith("utf")
        _emit(json.dumps(_finite(printed), ensure_ascii=ascii_only, allow_nan=False))
    elif _wants_colour() and (hasattr(result, "__rich_console__") or hasattr(result, "__rich__")):
        from rich.console import Console

        Console(file=sys.stdout).print(result)
    else:
        _emit(printed)


def _emit(text: str) -> None:
    encoding = _encoding()
    try:
        sys.stdout.write(text.rstrip("\n").encode(encoding, "replace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"the output could not be written: {error.strerror or error}.") from None


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
