"""MODEL on the command line: what it may be, and the inputs that go with it."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backproof.errors import InputError

from .loading import load_object
from .tensors import SPELLING, tensor_from

if TYPE_CHECKING:
    import torch

__all__ = ["Inputs", "Model", "Request", "add_inputs", "add_model", "model_at", "requested"]

Model = Callable[..., Any]
Inputs = tuple[Any, ...] | dict[str, Any]

WHAT_A_MODEL_IS = (
    "a model is an nn.Module, a subclass of it that needs no arguments, a function of tensors, a function "
    "without arguments that returns a module, or (module, example_inputs)"
)


@dataclass(frozen=True)
class Request:
    """A model with the inputs, loss and targets that the command line named."""

    model: Model
    inputs: Inputs
    loss: Callable[..., Any] | None
    targets: torch.Tensor | None


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``MODEL --input --loss --targets``."""
    parser.add_argument("model", metavar="MODEL", help="path/to/file.py:name or package.module:name")
    add_inputs(parser)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add ``--input --loss --targets``."""
    parser.add_argument("--input", action="append", default=[], metavar="TENSOR", help=f"{SPELLING} (repeatable)")
    parser.add_argument("--loss", metavar="LOSS", help="mse, cross_entropy, l1, huber, ... or FILE.py:name")
    parser.add_argument("--targets", metavar="TENSOR", help="what the loss compares with; written like --input")


def requested(arguments: argparse.Namespace) -> Request:
    """Load what the command line names; the seed (0 by default) makes all that is random repeatable."""
    import torch

    from .training import loss_named

    seed = arguments.seed or 0
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    loss = loss_named(arguments.loss, has_targets=arguments.targets is not None) if arguments.loss else None
    model, examples = _model(arguments.model)
    inputs = tuple(tensor_from(text, generator) for text in arguments.input) or examples
    if inputs is None:
        raise InputError(f"{arguments.model} needs inputs: add --input, once for each: {SPELLING}.")
    targets = tensor_from(arguments.targets, generator) if arguments.targets is not None else None
    return Request(model, inputs, loss, targets)


def model_at(address: str) -> Model:
    """Load a model alone, for a command that brings its own inputs."""
    return _model(address)[0]


def _model(address: str) -> tuple[Model, Inputs | None]:
    """Load a model, and its example inputs where it brings them."""
    found = load_object(address)
    if _makes_a_model(found):
        found = _made(found, address)
    if isinstance(found, tuple) and len(found) == 2 and callable(found[0]):
        return found[0], _as_inputs(found[1])
    if not callable(found) or isinstance(found, type):
        raise InputError(f"{address} is {_article(found)}, not a model: {WHAT_A_MODEL_IS}.")
    return found, None


def _makes_a_model(found: object) -> bool:
    """Say whether this is something that can be called without arguments to get a model."""
    from torch import nn

    if isinstance(found, type):
        return issubclass(found, nn.Module)
    if isinstance(found, nn.Module) or not callable(found):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # it takes tensors, or does not say what it takes
        return False
    return True


def _made(maker: Any, address: str) -> object:
    try:
        return maker()
    except Exception as error:
        raise InputError(f"{address}: calling it without arguments raised {type(error).__name__}: {error}.") from None


def _as_inputs(examples: object) -> Inputs:
    return examples if isinstance(examples, tuple | dict) else (examples,)


def _article(found: object) -> str:
    return f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
