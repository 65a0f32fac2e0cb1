"""``backproof certify``: bound a derivative for every weight in a box."""

from __future__ import annotations

import argparse

from backproof.errors import InputError

from .models import add_model, requested
from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof certify net.py:Net --input 1x3 --wrt 'layers.0.weight[0, 0]' --weights -1 1 --biases -0.5 0.5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, what the derivative is taken with respect to, and the box."""
    add_model(parser)
    parser.add_argument("--wrt", required=True, action="append", metavar="NAME",
                        help="a parameter or input, or one entry: layers.0.weight[0, 0] (repeatable)")  # fmt: skip
    ends = {"nargs": 2, "metavar": ("LOW", "HIGH")}
    parser.add_argument("--weights", default=("-1", "1"), help="the interval of every weight (-1 1)", **ends)  # type: ignore[arg-type]
    parser.add_argument("--biases", help="the interval of every bias; without it they are held", **ends)  # type: ignore[arg-type]
    parser.add_argument("--inputs-in", help="the interval of every input; without it they are held", **ends)  # type: ignore[arg-type]
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Certify and show the bracket with its proof."""
    return present(arguments, lambda: _certified(arguments))


def _certified(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    request = requested(arguments)
    inputs = (request.inputs,) if isinstance(request.inputs, dict) else request.inputs
    certificate: Shown = bp.certify(
        request.model,
        *inputs,
        wrt=arguments.wrt if len(arguments.wrt) > 1 else arguments.wrt[0],
        weights=_pair(arguments.weights, "--weights"),
        biases=_pair(arguments.biases, "--biases"),
        inputs_in=_pair(arguments.inputs_in, "--inputs-in"),
        loss=request.loss,
        targets=request.targets,
        seed=arguments.seed or 0,
    )
    return certificate


def _pair(ends: list[str] | None, option: str) -> tuple[str, str] | None:
    if ends is None:
        return None
    for end in ends:
        if len(end) > 40:
            raise InputError(f"{option} takes two numbers, such as -1 and 1, and this one is too long.")
    return ends[0], ends[1]
