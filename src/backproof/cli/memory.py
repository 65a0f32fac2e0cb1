"""``backproof memory``: how much memory a training step needs, and a plan for a budget."""

from __future__ import annotations

import argparse

from backproof.errors import InputError

from .models import add_model, requested
from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof memory net.py:Net --input 256x1x28x28 --optimizer adamw --budget 600MB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, how it is trained, and the budget."""
    add_model(parser)
    parser.add_argument("--optimizer", metavar="NAME", help="sgd, adam, ...; without one, no update")
    add_settings(parser, "a hyper-parameter of the optimizer")
    parser.add_argument("--budget", metavar="BYTES", help="plan a step within this, as 600MB or 1.5GiB")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict the memory, or plan, and show it."""
    if arguments.settings and not arguments.optimizer:
        raise InputError("--set changes the optimizer: name it too, as in --optimizer sgd.")
    return present(arguments, lambda: _found(arguments))


def _found(arguments: argparse.Namespace) -> Shown:
    import backproof as bp
    from backproof.domains.bytes import read_bytes

    from .training import optimizer_named

    budget = None if arguments.budget is None else read_bytes(arguments.budget, "--budget")
    request = requested(arguments)
    optimizer = None
    if arguments.optimizer:
        optimizer = optimizer_named(arguments.optimizer, request.model, settings_of(arguments))
    inputs = (request.inputs,) if isinstance(request.inputs, dict) else request.inputs
    found = bp.memory(request.model, *inputs, loss=request.loss, optimizer=optimizer, targets=request.targets)
    plan: Shown = found if budget is None else found.plan(budget)
    return plan
