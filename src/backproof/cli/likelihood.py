"""``backproof likelihood``: the loss that maximum likelihood under a noise leads to."""

from __future__ import annotations

import argparse

from .options import add_common
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof likelihood bernoulli --out loss.pdf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add NOISE and the names of a density of one's own."""
    parser.add_argument(
        "noise",
        metavar="NOISE",
        help='gaussian, gaussian-unknown, laplace, bernoulli, categorical, poisson, or a density such as "exp(-(y - f)**2)"',
    )
    parser.add_argument("--y", default="y", metavar="NAME", help="what is observed, in a density of one's own")
    parser.add_argument(
        "--known", action="append", default=[], metavar="NAME", help="a name that is not learned (repeatable)"
    )
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Derive and show the loss."""
    return present(arguments, lambda: _derived(arguments))


def _derived(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    found: Shown = bp.likelihood(arguments.noise, y=arguments.y, known=arguments.known)
    return found
