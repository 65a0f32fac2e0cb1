"""``backproof curvature``: how sharply a loss curves, and which learning rates that allows."""

from __future__ import annotations

import argparse

from backproof.errors import InputError

from .models import add_model, requested
from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = (
    "backproof curvature net.py:Net --input 32x2 --targets 32x1 --loss mse --optimizer sgd --set lr=0.5 --steps 200 "
    "--out sharpness.html"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and how it is trained."""
    add_model(parser)
    parser.add_argument("--optimizer", metavar="NAME", help="sgd, adam, ...; its largest stable rate is found")
    add_settings(parser, "a hyper-parameter of the optimizer")
    parser.add_argument("--steps", type=_steps, default=0, metavar="N", help="follow the sharpness for N updates (0)")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure the curvature and show it."""
    if arguments.settings and not arguments.optimizer:
        raise InputError("--set changes the optimizer: name it too, as in --optimizer sgd.")
    if arguments.steps and not arguments.optimizer:
        raise InputError("--steps trains the model: name an --optimizer, as in --optimizer sgd --set lr=0.1.")
    return present(arguments, lambda: _measured(arguments))


def _measured(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    from .training import optimizer_named

    request = requested(arguments)
    optimizer = None
    if arguments.optimizer:
        optimizer = optimizer_named(arguments.optimizer, request.model, settings_of(arguments))
    found: Shown = bp.curvature(
        request.model,
        request.inputs,
        request.targets,
        loss=request.loss,
        optimizer=optimizer,
        steps=arguments.steps,
        seed=arguments.seed or 0,
    )
    return found


def _steps(text: str) -> int:
    if not (text.isdecimal() and len(text) < 7):
        raise argparse.ArgumentTypeError(f"a whole number of updates from 0 on, not {text!r}")
    return int(text)
