"""``backproof propagate``: predict and measure how signal and gradient go through a network."""

from __future__ import annotations

import argparse

from .models import add_model, requested
from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof propagate net.py:Net --input 32x64 --out flow.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and its inputs."""
    add_model(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the model over variances and numbers, and show both."""
    return present(arguments, lambda: _propagated(arguments))


def _propagated(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    request = requested(arguments)
    inputs = (request.inputs,) if isinstance(request.inputs, dict) else request.inputs
    flow: Shown = bp.propagate(
        request.model, *inputs, loss=request.loss, targets=request.targets, seed=arguments.seed or 0
    )
    return flow
