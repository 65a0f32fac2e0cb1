"""The options that every command takes, and ``--set``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .settings import Value, parse_setting

__all__ = ["add_common", "add_settings", "settings_of"]


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add ``--json --full --out --seed``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--full", action="store_true", help="with --json: large tensors entry by entry")
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="write the result to a file too; the suffix is the format: .html .tex .pdf .md .ipynb .txt "
        ".json .py (repeatable)",
    )
    parser.add_argument("--seed", type=_seed, metavar="N", help="make whatever is drawn at random repeatable")


def add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the repeatable ``--set key=value``; ``what`` says what it changes."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=parse_setting,
        dest="settings",
        metavar="KEY=VALUE",
        help=f"{what}, as in lr=0.5 or x=[1,2,3] or w=[pi/2,pi] (repeatable)",
    )


def settings_of(arguments: argparse.Namespace) -> dict[str, Value]:
    """Return what ``--set`` gave, the last of equal keys."""
    return dict(arguments.settings)


def _seed(text: str) -> int:
    if not (text.isdecimal() and len(text) < 20 and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to 2**63 - 1, not {text!r}")
    return int(text)
