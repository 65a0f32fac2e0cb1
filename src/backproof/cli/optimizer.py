"""``backproof optimizer``: what an update rule does, keeps and needs."""

from __future__ import annotations

import argparse

from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof optimizer adam --set lr=0.1 --compare sgd"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add NAME, its settings, and what it is compared with."""
    parser.add_argument("name", metavar="NAME", help="sgd, adam, rmsprop, ...: an optimizer of torch.optim")
    add_settings(parser, "a hyper-parameter")
    parser.add_argument("--compare", metavar="OTHER", help="another optimizer, shown beside it")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Study the optimizer and show what was found."""

    def studied() -> Shown:
        import backproof as bp

        study = bp.optimizer(arguments.name, **settings_of(arguments))
        shown: Shown = study.compare(arguments.compare) if arguments.compare else study
        return shown

    return present(arguments, studied)
