"""``backproof mark``: mark hand-worked answers, item by item."""

from __future__ import annotations

import argparse

from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof mark uva-dl-1/relu-tanh-net answers.toml --set lr=0.5 --out marked.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add PROBLEM and ANSWERS."""
    parser.add_argument("problem", metavar="PROBLEM", help="a built-in id, FILE.toml or FILE.py")
    parser.add_argument(
        "answers",
        metavar="ANSWERS",
        help='a .toml or .json file: [step.1] with loss = 1.97, s = [[...]], "grad.w" = [...], "after.w" = [...]; '
        "[formula]; [answers]; [settings]",
    )
    add_settings(parser, "change one of the problem's givens or conventions")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Mark the answers and show the marks; 1 if anything is wrong."""

    def marked() -> Shown:
        import backproof as bp

        found: Shown = bp.mark(arguments.problem, arguments.answers, **settings_of(arguments))
        return found

    return present(arguments, marked)
