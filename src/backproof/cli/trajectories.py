"""``backproof trajectories``: several optimizers on one loss, each at its own best learning rate."""

from __future__ import annotations

import argparse
from typing import Any

from backproof.errors import InputError

from .loading import is_address
from .models import add_inputs, requested
from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof trajectories rosenbrock --optimizers sgd,sgd:momentum=0.9,adam --updates 200 --out ways.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the loss, the optimizers and how long they run."""
    parser.add_argument(
        "model",
        metavar="SURFACE",
        help="rosenbrock, valley, saddle, himmelblau, beale; a formula in x and y, as in 'x**2 + 10*y**2'; curvatures of a "
        "quadratic, as in 1,10,100; or a model, FILE.py:name, with --input and --loss",
    )
    parser.add_argument(
        "--optimizers",
        metavar="LIST",
        default="sgd,sgd:momentum=0.9,adam,rmsprop",
        help="name:setting=value:..., by commas",
    )
    parser.add_argument("--updates", type=_count, default=100, metavar="N", help="how many each makes (100)")
    parser.add_argument("--seeds", type=_count, default=9, metavar="N", help="how many starts are measured (9)")
    parser.add_argument("--start", metavar="X,Y", help="of a formula: around where the starts lie")
    add_inputs(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the comparison and show it."""
    return present(arguments, lambda: _compared(arguments))


def _compared(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    named: dict[str, Any] = {
        "optimizers": [_optimizer(text) for text in arguments.optimizers.split(",") if text],
        "updates": arguments.updates,
        "seeds": arguments.seeds,
    }
    shown: Shown
    if is_address(arguments.model) and not arguments.start:
        request = requested(arguments)
        shown = bp.trajectories(request.model, request.inputs, request.targets, loss=request.loss, **named)
    else:
        start = [_number(v) for v in arguments.start.split(",")] if arguments.start else None
        shown = bp.trajectories(_surface(arguments.model), start=start, **named)
    return shown


def _surface(text: str) -> Any:
    parts = text.split(",")
    return [_number(p) for p in parts] if len(parts) > 1 and "(" not in text else text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number; curvatures and starts are numbers, as in 1,10,100.") from None


def _optimizer(text: str) -> Any:
    """A name, or a name with settings: sgd:momentum=0.9:nesterov=true."""
    name, *settings = text.split(":")
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--optimizers {text}: write a setting as name:key=value.")
        found[key] = value.lower() == "true" if value.lower() in ("true", "false") else _number(value)
    return (name, found) if found else name


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 6 and 1 <= int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"a whole number from 1 to 10000, not {text!r}")
    return int(text)
