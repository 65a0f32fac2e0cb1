"""The options that every command takes, and ``--set``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .settings import Value, parse_setting

__all__ = ["add_common", "add_settings", "add_view", "settings_of", "whole_number"]


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


def add_view(parser: argparse.ArgumentParser) -> None:
    """Add ``--depth`` and ``--module``, which say how much of a large network a terminal shows."""
    parser.add_argument("--depth", type=whole_number, metavar="N", help="open modules N levels deep (as many as fit)")
    parser.add_argument("--module", default="", metavar="PATH", help="show the inside of this module, as layers.0")


def whole_number(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isdecimal() and 1 <= int(text[:9]) and len(text) < 9):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def settings_of(arguments: argparse.Namespace) -> dict[str, Value]:
    """Return what ``--set`` gave, the last of equal keys."""
    return dict(arguments.settings)


def _seed(text: str) -> int:
    if not (text.isdecimal() and len(text) < 20 and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to 2**63 - 1, not {text!r}")
    return int(text)
