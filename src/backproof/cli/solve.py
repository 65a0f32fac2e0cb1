"""``backproof solve``: work a problem."""

from __future__ import annotations

import argparse

from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof solve uva-dl-1/relu-tanh-net --set lr=0.5 --set steps=3 --out solved.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add PROBLEM and what changes it."""
    parser.add_argument(
        "problem", metavar="PROBLEM", help="a built-in id (see `backproof problems`), FILE.toml or FILE.py"
    )
    add_settings(parser, "change one of the problem's givens or conventions")
    parser.add_argument("--data", metavar="DIR", help="a folder with data files, for problems that can use them")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Solve the problem and show the solution."""
    settings = settings_of(arguments)
    if arguments.seed is not None:
        settings["seed"] = arguments.seed
    if arguments.data is not None:
        settings["data"] = arguments.data

    def solved() -> Shown:
        import backproof as bp

        solution: Shown = bp.solve(arguments.problem, **settings)
        return solution

    return present(arguments, solved)
