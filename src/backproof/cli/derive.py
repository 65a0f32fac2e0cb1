"""``backproof derive``: a network's gradients as formulas."""

from __future__ import annotations

import argparse

from backproof.errors import InputError

from .models import add_model, requested
from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof derive net.py:Net --input 4x2 --targets 4x1 --loss mse --out derivation.pdf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and its inputs, or PROBLEM."""
    add_model(parser)
    parser.add_argument("--wrt", action="append", metavar="NAME", help="what to derive by (repeatable); all parameters")
    parser.add_argument(
        "--view", choices=("matrices", "entries"), default="matrices", help="entries: with indices and sums too"
    )
    parser.add_argument(
        "--depth", metavar="LETTER", help="the repeated part of the model stands LETTER times, as in --depth L"
    )
    add_common(parser)
    for action in parser._actions:
        if action.dest == "model":
            action.help = (
                "path/to/file.py:name or package.module:name; or a problem: a built-in id, FILE.toml or FILE.py"
            )


def run(arguments: argparse.Namespace) -> int:
    """Derive and show the derivation."""
    return present(arguments, lambda: _derived(arguments))


def _derived(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    if _is_problem(arguments.model):
        for name in ("input", "loss", "targets"):
            if getattr(arguments, name):
                raise InputError(f"{arguments.model} is a problem and brings its own data; leave --{name} out.")
        derived: Shown = bp.derive(arguments.model, wrt=arguments.wrt, depth=arguments.depth, view=arguments.view)
        return derived
    request = requested(arguments)
    inputs = (request.inputs,) if isinstance(request.inputs, dict) else request.inputs
    derived = bp.derive(
        request.model, *inputs, loss=request.loss, targets=request.targets, wrt=arguments.wrt, depth=arguments.depth,
        view=arguments.view,
    )  # fmt: skip
    return derived


def _is_problem(text: str) -> bool:
    """Say whether this names a problem: a file without ``:name``, or something without a colon."""
    return text.endswith((".toml", ".py")) or ":" not in text
