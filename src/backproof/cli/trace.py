"""``backproof trace``: record a network's training steps."""

from __future__ import annotations

import argparse
from typing import Any

from backproof.errors import InputError

from .models import add_model, requested
from .options import add_common, add_settings, add_view, settings_of, whole_number
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = (
    "backproof trace net.py:Net --input 4x2 --targets 4x1 --loss mse --optimizer sgd --set lr=0.1 --steps 3 "
    "--out trace.html"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and how it is trained."""
    add_model(parser)
    parser.add_argument("--optimizer", metavar="NAME", help="sgd, adam, ...; without one, no update")
    add_settings(parser, "a hyper-parameter of the optimizer")
    parser.add_argument("--steps", type=whole_number, default=1, metavar="N", help="how many updates (1)")
    parser.add_argument(
        "--arithmetic",
        choices=("model", "float64", "exact"),
        default="model",
        help="what is computed with (model)",
    )
    parser.add_argument(
        "--evidence", choices=("none", "sampled", "full"), default="none", help="confirm the numbers (none)"
    )
    parser.add_argument(
        "--keep",
        action="append",
        metavar="WHAT",
        help="all, statistics, or a module or value whose tensors are kept (repeatable); by default all that fits",
    )
    parser.add_argument(
        "--store", metavar="FILE", help="a .safetensors file that the kept tensors are written to as they are computed"
    )
    add_view(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trace the model and show the record."""
    if arguments.settings and not arguments.optimizer:
        raise InputError("--set changes the optimizer: name it too, as in --optimizer sgd.")
    return present(arguments, lambda: _traced(arguments))


def _traced(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    from .training import optimizer_named

    request = requested(arguments)
    optimizer = None
    if arguments.optimizer:
        optimizer = optimizer_named(arguments.optimizer, request.model, settings_of(arguments))
    record = bp.trace(
        request.model,
        request.inputs,
        request.targets,
        loss=request.loss,
        seed=(arguments.seed or 0) + 1,  # the seed itself has made the inputs: a draw from it would repeat them
        optimizer=optimizer,
        steps=arguments.steps,
        arithmetic=arguments.arithmetic,
        evidence=arguments.evidence,
        keep=_kept(arguments.keep),
        store=arguments.store,
    )
    by_module = arguments.depth is not None or arguments.module
    return record.outline(arguments.depth, arguments.module) if by_module else record


def _kept(words: list[str] | None) -> Any:
    """What --keep says: one word for everything or statistics, else the names."""
    if words and len(words) == 1 and words[0] in ("all", "statistics"):
        return words[0]
    return None if words is None else [word for word in words if word != "statistics"]
