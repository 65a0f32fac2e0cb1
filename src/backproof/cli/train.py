"""``backproof train``: train a network on data from files, and record every epoch."""

from __future__ import annotations

import argparse
from pathlib import Path

from backproof.errors import InputError

from .options import add_common, add_settings, settings_of
from .output import Shown, present

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = (
    "backproof train net.py:Net --data digits --loss cross_entropy --optimizer adamw --set lr=0.001 --epochs 5 "
    "--schedule cosine --checkpoint net.ckpt --out training.html"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, the data and how it is trained."""
    parser.add_argument("model", metavar="MODEL", help="path/to/file.py:name or package.module:name")
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="a folder in MNIST's format, an .npz file with x and y, an .npy file (with --targets), FILE.py:name for "
        "a Dataset or a pair, or digits (scikit-learn's, 8 x 8)",
    )
    parser.add_argument("--targets", metavar="FILE.npy", help="the targets, where --data is an .npy file")
    parser.add_argument(
        "--loss", default="cross_entropy", metavar="LOSS", help="cross_entropy, mse, ... or FILE.py:name"
    )
    parser.add_argument("--optimizer", default="adamw", metavar="NAME", help="adamw, sgd, ... of torch.optim")
    add_settings(parser, "a hyper-parameter of the optimizer")
    parser.add_argument("--epochs", type=_whole, default=1, metavar="N", help="passes over the data (1)")
    parser.add_argument("--batch-size", type=_whole, default=32, metavar="N", help="samples per update (32)")
    parser.add_argument(
        "--schedule", choices=("constant", "cosine"), default="constant", help="of the learning rate (constant)"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="written every epoch; found, it is resumed")
    parser.add_argument("--no-resume", action="store_true", help="begin again although the checkpoint is there")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train the model and show its history."""
    return present(arguments, lambda: _trained(arguments))


def _trained(arguments: argparse.Namespace) -> Shown:
    import torch

    import backproof as bp

    from .models import model_at
    from .training import loss_named, optimizer_class

    torch.manual_seed(arguments.seed or 0)  # a model that draws its weights draws the same ones again
    history: Shown = bp.train(
        model_at(arguments.model),  # type: ignore[arg-type]  # train says what a model is
        _data(arguments),
        loss=loss_named(arguments.loss, has_targets=True),
        optimizer=(optimizer_class(arguments.optimizer), settings_of(arguments)),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        schedule=arguments.schedule,
        seed=arguments.seed or 0,
        checkpoint=arguments.checkpoint,
        resume=not arguments.no_resume,
    )
    return history


def _data(arguments: argparse.Namespace) -> object:
    """What ``--data`` and ``--targets`` mean."""
    from .loading import is_address, load_object

    if arguments.targets is not None:
        return (arguments.data, arguments.targets)
    if arguments.data.endswith(".npy"):
        raise InputError(f"--data {arguments.data} holds the inputs: add --targets with the .npy file of the targets.")
    if is_address(arguments.data) and not Path(arguments.data).exists():
        found = load_object(arguments.data)
        return found() if callable(found) and not hasattr(found, "__getitem__") else found
    return arguments.data


def _whole(text: str) -> int:
    if not (text.isdecimal() and len(text) < 10 and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)
