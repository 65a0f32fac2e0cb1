"""``backproof receptive-field``: what the units of a network see."""

from __future__ import annotations

import argparse

from .models import add_model, requested
from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof receptive-field net.py:Net --input 1x3x224x224"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and its inputs."""
    add_model(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the receptive field of every layer."""

    def found() -> Shown:
        import backproof as bp

        request = requested(arguments)
        inputs = (request.inputs,) if isinstance(request.inputs, dict) else request.inputs
        fields: Shown = bp.receptive_field(request.model, *inputs)
        return fields

    return present(arguments, found)
