"""Where problems are: the built-in ids, and files of the user's own."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import InputError

__all__ = ["Entry", "catalogue", "find"]

_FOLDER = Path(__file__).parent
_TITLE = re.compile(r'^\s*title\s*=\s*"(?P<title>[^"]*)"', re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A built-in problem: its id SHEET/EXERCISE, title and file."""

    id: str
    title: str
    path: Path


@lru_cache(maxsize=1)
def catalogue() -> tuple[Entry, ...]:
    """The built-in problems, in the order of their ids; read without importing torch."""
    files = sorted(p for p in _FOLDER.glob("*/*") if p.suffix in (".toml", ".py") and not p.name.startswith("_"))
    return tuple(Entry(f"{p.parent.name}/{p.stem}", _title(p), p) for p in files)


def _title(path: Path) -> str:
    found = _TITLE.search(path.read_text(encoding="utf-8"))
    return found["title"] if found else path.stem


def find(name: str) -> tuple[Path, str]:
    """The file of a problem and how to call it: a built-in id, or a path to a .toml or .py file.

    Raises:
        InputError: there is no such problem; close ids are suggested.
    """
    for entry in catalogue():
        if entry.id == name:
            return entry.path, entry.id
    path = Path(name)
    if path.suffix in (".toml", ".py") and name:
        if not path.is_file():
            raise InputError(f"there is no problem file '{name}'; give the path to a .toml or .py file")
        return path, name
    ids = [entry.id for entry in catalogue()]
    if sheet := [i for i in ids if i.startswith(f"{name}/")]:
        raise InputError(f"'{name}' is a sheet; name one of its exercises: {', '.join(sheet)}")
    close = difflib.get_close_matches(name, ids, 2, 0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"built-in are {', '.join(ids)}."
    raise InputError(f"there is no problem '{name[:80]}'; {hint} A file of your own ends in .toml or .py")
