"""``backproof problems``: list the built-in problems."""

from __future__ import annotations

import argparse

from .listing import Listing
from .options import add_common
from .output import present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof problems"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """List ids and titles; ids stand first on their line."""
    return present(arguments, _listed)


def _listed() -> Listing:
    from backproof.problems import catalogue

    rows = tuple((entry.id, entry.title) for entry in catalogue())
    data = {"problems": [{"id": name, "title": title} for name, title in rows]}
    return Listing(title="Built-in problems", columns=("id", "title"), rows=rows, data=data)
