"""Where problems are: the built-in ids, and files of the user's own."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InputError

__all__ = ["Entry", "Question", "SheetEntry", "catalogue", "find", "find_sheet", "sheets"]

_FOLDER = Path(__file__).parent
_SHEET = "_sheet.toml"
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


@dataclass(frozen=True)
class Question:
    """A sub-question of a sheet: its words, the exercise that answers it, and the answers' keys."""

    text: str
    exercise: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class SheetEntry:
    """A problem sheet: a folder of problems with a ``_sheet.toml`` that says their order and what is asked."""

    id: str
    title: str
    about: str
    exercises: tuple[tuple[str, Path], ...]
    questions: tuple[Question, ...] = ()


@lru_cache(maxsize=1)
def sheets() -> tuple[SheetEntry, ...]:
    """The built-in sheets, in the order of their ids."""
    return tuple(_sheet(folder, folder.name) for folder in sorted(p.parent for p in _FOLDER.glob(f"*/{_SHEET}")))


def find_sheet(name: str) -> SheetEntry | None:
    """The sheet of that id, or in that folder of the user's own; None if the name is no sheet's.

    Raises:
        InputError: the folder's ``_sheet.toml`` cannot be read, or names an exercise that is not there.
    """
    own = next((s for s in sheets() if s.id == name), None)
    folder = Path(name)
    if own is not None or not name or not folder.is_dir():
        return own
    if not (folder / _SHEET).is_file():
        raise InputError(f"the folder '{name[:80]}' has no {_SHEET}; name one of its problems, or write one")
    return _sheet(folder, name)


def _sheet(folder: Path, id: str) -> SheetEntry:
    try:
        data = tomllib.loads((folder / _SHEET).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder / _SHEET} cannot be read: {str(error)[:200]}") from None
    exercises = data.get("exercises")
    if not (isinstance(exercises, list) and exercises and all(isinstance(e, str) for e in exercises)):
        raise InputError(f'{folder / _SHEET} needs its exercises, in order: exercises = ["one", "two"]')
    found = tuple((name, _file(folder, name)) for name in exercises)
    questions = tuple(_question(q, exercises, folder / _SHEET) for q in data.get("question", []))
    return SheetEntry(id, str(data.get("title", id)), str(data.get("about", "")).strip(), found, questions)


def _file(folder: Path, name: str) -> Path:
    for suffix in (".toml", ".py"):
        if Path(name).name == name and (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise InputError(
        f"{folder / _SHEET} names the exercise '{name[:60]}', and there is no {name[:60]}.toml or .py beside it"
    )


def _question(data: Any, exercises: list[str], file: Path) -> Question:
    good = isinstance(data, dict) and isinstance(data.get("text"), str) and data.get("exercise") in exercises
    if not good:
        raise InputError(f'{file}: a [[question]] has text = "..." and exercise = one of {", ".join(exercises)}')
    return Question(data["text"], data["exercise"], tuple(map(str, data.get("answers", []))))


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
        raise InputError(f"'{name}' is a sheet; here one of its exercises is meant: {', '.join(sheet)}")
    close = difflib.get_close_matches(name, ids, 2, 0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"built-in are {', '.join(ids)}."
    raise InputError(f"there is no problem '{name[:80]}'; {hint} A file of your own ends in .toml or .py")
