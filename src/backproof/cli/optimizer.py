"""``backproof optimizer``: what an update rule does, keeps and needs, and whether one's own is what it claims to be."""

from __future__ import annotations

import argparse
from typing import Any

from backproof.errors import InputError

from .loading import is_address, load_object
from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof optimizer adam --set lr=0.1 --compare adam/eps-hat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add NAME, its settings, and what it is compared with."""
    parser.add_argument(
        "name", metavar="NAME", help="sgd, adam, rmsprop, ...: an optimizer of torch.optim; or FILE.py:Class, one's own"
    )
    add_settings(parser, "a hyper-parameter")
    parser.add_argument("--variant", metavar="FORM", default="", help="another published form, such as eps-hat of adam")
    parser.add_argument(
        "--compare", metavar="OTHER", help="another optimizer, shown beside it (adam/eps-hat is a variant)"
    )
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help="the rule that it should be: the first step that differs, and the deviation; 1 if any",
    )
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Study the optimizer, or compare it with the rule that it should be."""
    if arguments.against and (arguments.compare or arguments.variant):
        raise InputError("--against checks an optimizer; --compare and --variant show one: give one of them.")
    return present(arguments, lambda: _checked(arguments) if arguments.against else _studied(arguments))


def _named(name: str) -> Any:
    return load_object(name) if is_address(name) else name


def _checked(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    settings: dict[str, Any] = dict(settings_of(arguments))
    shown: Shown = bp.check_optimizer(_named(arguments.name), arguments.against, **settings)
    return shown


def _studied(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    study = bp.optimizer(_named(arguments.name), variant=arguments.variant, **settings_of(arguments))
    shown: Shown = study.compare(_named(arguments.compare)) if arguments.compare else study
    return shown
