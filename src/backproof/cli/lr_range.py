"""``backproof lr-range``: find the learning rates with which a network trains."""

from __future__ import annotations

import argparse
from typing import Any

from backproof.errors import InputError

from .models import add_model, requested
from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof lr-range net.py:Net --data digits --loss cross_entropy --optimizer sgd --set momentum=0.9"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, its data and how it is trained."""
    add_model(parser)
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="in place of --input: a folder in MNIST's format, an .npz file with x and y, an .npy file (with --targets), "
        "FILE.py:name for a Dataset or a pair, or digits",
    )
    parser.add_argument("--optimizer", metavar="NAME", default="sgd", help="sgd, adam, ... (sgd)")
    add_settings(parser, "a hyper-parameter of the optimizer")
    parser.add_argument("--steps", type=_count, metavar="N", help="updates of a short run (six passes, 50 to 400)")
    parser.add_argument("--batch-size", type=_count, metavar="N", help="samples per update (all up to 64, else 32)")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find the interval and show it."""
    if arguments.loss is None or (arguments.data is None and arguments.targets is None):
        raise InputError("lr-range trains the model: it needs --loss, and --data or --input with --targets.")
    if arguments.data is not None and arguments.input:
        raise InputError("--data and --input both name the inputs: give one of them.")
    return present(arguments, lambda: _found(arguments))


def _found(arguments: argparse.Namespace) -> Shown:
    import backproof as bp

    from .training import optimizer_named

    model, data, loss = _named(arguments)
    found: Shown = bp.lr_range(
        model,
        data,
        loss=loss,
        optimizer=optimizer_named(arguments.optimizer, model, settings_of(arguments)),
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=arguments.seed or 0,
    )
    return found


def _named(arguments: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The model, the data and the loss."""
    if arguments.data is not None:
        import torch

        from .models import model_at
        from .train import data_named
        from .training import loss_named

        torch.manual_seed(arguments.seed or 0)
        model = model_at(arguments.model)
        return model, data_named(arguments), loss_named(arguments.loss, has_targets=True)
    request = requested(arguments)
    if not isinstance(request.inputs, tuple) or len(request.inputs) != 1:
        raise InputError("lr-range trains models with one input tensor; its first axis counts the samples.")
    return request.model, (request.inputs[0], request.targets), request.loss


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 9 and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)
