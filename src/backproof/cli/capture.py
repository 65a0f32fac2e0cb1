"""``backproof capture``: show the graph behind a network."""

from __future__ import annotations

import argparse

from .models import add_model, requested
from .options import add_common, add_view
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof capture net.py:Net --input 1x3x224x224 --out graph.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and its inputs."""
    add_model(parser)
    add_view(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Capture the model and show its graph."""
    return present(arguments, lambda: _captured(arguments))


def _captured(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    request = requested(arguments)
    inputs = (request.inputs,) if isinstance(request.inputs, dict) else request.inputs
    from backproof.studies.writing.captured import Captured

    graph = bp.capture(request.model, *inputs, loss=request.loss, targets=request.targets)
    return Captured(graph, arguments.depth, arguments.module)
