"""``backproof search``: search a problem's settings."""

from __future__ import annotations

import argparse
import re
from typing import Any

from backproof.errors import InputError

from .options import add_common, add_settings, settings_of
from .output import Shown, present
from .settings import parse_value

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = (
    "backproof search docs/examples/bump.py --trials 20 --over lr=0.01..0.3:log --storage trials.db --out found.html"
)

_RANGE = re.compile(r"(?P<low>[^.\s][^:\s]*?)\.\.(?P<high>[^:\s]+?)(?P<log>:log)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add PROBLEM, how long to search, and over what."""
    parser.add_argument(
        "problem", metavar="PROBLEM", help="a built-in id, FILE.toml or FILE.py with a network that is trained"
    )
    parser.add_argument("--trials", type=_count, default=20, metavar="N", help="how many settings to try (20)")
    parser.add_argument("--storage", metavar="FILE", help="keep the trials in this SQLite file, and go on from it")
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        type=_space,
        metavar="KEY=VALUES",
        help="what to try: lr=0.001..1:log, width=2..16 or activation=[relu,tanh] (repeatable); by default what the "
        "problem's file says, else its learning rate",
    )
    add_settings(parser, "hold one of the problem's settings at a value")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search and show what was found."""

    def found() -> Shown:
        import backproof as bp

        settings: dict[str, Any] = {**settings_of(arguments)}
        result: Shown = bp.search(
            arguments.problem,
            trials=arguments.trials,
            storage=arguments.storage,
            seed=arguments.seed or 0,
            space=dict(arguments.over) or None,
            **settings,
        )
        return result

    return present(arguments, found)


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 9 and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def _space(text: str) -> tuple[str, object]:
    """Read ``lr=0.001..1:log`` or ``hidden=[2, 4]``."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip().isidentifier():
        raise InputError(f"--over {text[:60]}: write KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=[A, B, ...].")
    if values.strip().startswith("["):
        return key.strip(), _parsed(text, values)
    match = _RANGE.fullmatch(values.strip())
    if not match:
        raise InputError(f"--over {text[:60]}: write KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=[A, B, ...].")
    ends = (_parsed(text, match["low"]), _parsed(text, match["high"]))
    return key.strip(), (*ends, "log") if match["log"] else ends


def _parsed(text: str, value: str) -> object:
    try:
        return parse_value(value.strip())
    except ValueError as reason:
        raise InputError(f"--over {text[:60]}: {reason}.") from None
