"""``backproof lr-range``: find the learning rates with which a network trains."""

from __future__ import annotations

import argparse

from backproof.errors import InputError

from .models import add_model, requested
from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof lr-range net.py:Net --input 64x2 --targets 64x1 --loss mse --optimizer sgd --set momentum=0.9"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, its data and how it is trained."""
    add_model(parser)
    parser.add_argument("--optimizer", metavar="NAME", default="sgd", help="sgd, adam, ... (sgd)")
    add_settings(parser, "a hyper-parameter of the optimizer")
    parser.add_argument("--steps", type=_count, metavar="N", help="updates of a short run (six passes, 50 to 400)")
    parser.add_argument("--batch-size", type=_count, metavar="N", help="samples per update (all up to 64, else 32)")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find the interval and show it."""

    def found() -> Shown:
        import backproof as bp

        from .training import optimizer_named

        request = requested(arguments)
        if request.loss is None or request.targets is None:
            raise InputError("lr-range needs --loss and --targets: it trains the model on (--input, --targets).")
        if not isinstance(request.inputs, tuple) or len(request.inputs) != 1:
            raise InputError("lr-range trains models with one input tensor; its first axis counts the samples.")
        result: Shown = bp.lr_range(
            request.model,
            (request.inputs[0], request.targets),
            loss=request.loss,
            optimizer=optimizer_named(arguments.optimizer, request.model, settings_of(arguments)),
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            seed=arguments.seed or 0,
        )
        return result

    return present(arguments, found)


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 9 and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)
