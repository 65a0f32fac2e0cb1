"""``backproof ops``: the coverage table, operations by readings."""

from __future__ import annotations

import argparse

from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof ops --out coverage.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show which operations each domain knows, and how."""
    return present(arguments, _table)


def _table() -> Shown:
    import backproof as bp

    table: Shown = bp.ops_table()
    return table
