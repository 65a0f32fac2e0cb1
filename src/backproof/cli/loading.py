"""Fetch an object by ``path/to/file.py:name`` or ``package.module:name``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from backproof.errors import InputError

__all__ = ["is_address", "load_object"]


def is_address(text: str) -> bool:
    """Say whether a text has the form of an address of an object in a file or module."""
    place, colon, name = text.rpartition(":")
    return bool(place and colon and all(part.isidentifier() for part in name.split(".")))


def load_object(address: str) -> object:
    """Run the file or import the module, and return what it calls by that name (dots reach into objects)."""
    if not is_address(address):
        raise InputError(
            f"{address!r} is not an address: write path/to/file.py:name or package.module:name, where the "
            "name is the one that the file gives to what is meant."
        )
    place, _, name = address.rpartition(":")
    found: object = _module(place)
    for part in name.split("."):
        found = _member(found, part, place)
    return found


def _module(place: str) -> ModuleType:
    is_file = place.endswith(".py") or "/" in place or Path(place).is_file()
    return _from_file(Path(place)) if is_file else _from_name(place)


def _from_file(path: Path) -> ModuleType:
    """Run a Python file as ``python file.py`` would find its neighbours, under a name of its own."""
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    name = f"{path.stem}__user"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file (its name does not end in .py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _reach(path.resolve().parent)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(_why(error, str(path))) from None
    return module


def _from_name(name: str) -> ModuleType:
    _reach(Path.cwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise InputError(_why(error, name)) from None


def _reach(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _why(error: BaseException, place: str) -> str:
    """Say what went wrong in the user's own code, and at which of its lines."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename or place}:{error.lineno}: {type(error).__name__}: {error.msg}."
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    if not own:
        return f"{place} could not be imported: {what}."
    return f"{own[-1].filename}:{own[-1].lineno}: running {place} raised {what}."


def _member(holder: object, name: str, place: str) -> object:
    if hasattr(holder, name):
        found: object = getattr(holder, name)
        return found
    names = [known for known in dir(holder) if not known.startswith("_")]
    near = difflib.get_close_matches(name, names, n=3) or names[:12]
    raise InputError(f"{place} has no {name!r}. It has, among others: {', '.join(near) or 'nothing'}.")
