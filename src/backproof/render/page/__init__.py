"""The style sheets of the page, as package data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["asset", "has_asset"]


@cache
def asset(name: str) -> str:
    """Return the text of a file that lies beside this module."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def has_asset(name: str) -> bool:
    """Return whether there is such a file."""
    return files(__name__).joinpath(name).is_file()
