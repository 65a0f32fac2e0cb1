"""``backproof receptive-field``: what the units of a network see."""

from __future__ import annotations

import argparse

from .models import add_model, requested
from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof receptive-field net.py:Net --input 1x3x224x224"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, its inputs, and questions about its fields."""
    add_model(parser)
    parser.add_argument(
        "--between",
        nargs=2,
        action="append",
        default=[],
        metavar=("BEFORE", "AFTER"),
        help="what the layer AFTER sees of the layer BEFORE, by name or module path (repeatable)",
    )
    parser.add_argument(
        "--reach", type=int, metavar="SIZE", help="which change of one layer makes the last field so large"
    )
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the receptive field of every layer."""

    def found() -> Shown:
        import backproof as bp

        request = requested(arguments)
        inputs = (request.inputs,) if isinstance(request.inputs, dict) else request.inputs
        fields = bp.receptive_field(request.model, *inputs)
        if not arguments.between and arguments.reach is None:
            return fields
        from backproof.studies.fields.questions import ask_fields

        return ask_fields(fields, [tuple(pair) for pair in arguments.between], arguments.reach)

    return present(arguments, found)
