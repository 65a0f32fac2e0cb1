"""``backproof check``: check a gradient entry by entry."""

from __future__ import annotations

import argparse
from typing import Any

from backproof.errors import InputError

from .loading import load_object
from .options import add_common
from .output import Shown, present
from .tensors import SPELLING, tensor_from

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof check layers.py:MyFunction --inputs layers.py:inputs --reference layers.py:slow_version"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is checked, its inputs, and what it is compared with."""
    parser.add_argument(
        "function",
        metavar="FILE:NAME",
        help="a function, an nn.Module, an autograd.Function or its apply, or (function, inputs)",
    )
    parser.add_argument(
        "--inputs", metavar="FILE:NAME", help="a tensor, a tuple, a dict, or a function that returns one"
    )
    parser.add_argument("--input", action="append", default=[], metavar="TENSOR", help=f"{SPELLING} (repeatable)")
    parser.add_argument("--reference", metavar="FILE:NAME", help="a trusted implementation of the same function")
    parser.add_argument(
        "--surrogate", metavar="FILE:NAME", help="the function whose gradient is meant (straight-through)"
    )
    parser.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="NAME=FORMULA",
        help=r"a claimed gradient, as in 'W1=\delta x^\top' or 'w=cos(w * x) * x', or what it uses, as in 'delta=y - t' "
        "(repeatable); or FILE:NAME, a dict by name or a tensor",
    )
    parser.add_argument("--second", action="store_true", help="check the gradient of the gradient")
    parser.add_argument("--compiled", action="store_true", help="check what torch.compile makes of it against itself")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check and show the verdict; 1 if the gradient is wrong or undecided."""
    return present(arguments, lambda: _checked(arguments))


def _checked(arguments: argparse.Namespace) -> Shown:
    import torch

    import backproof as bp

    torch.manual_seed(arguments.seed or 0)
    fn, inputs = _function(load_object(arguments.function), arguments.function)
    found: Shown = bp.check(
        fn,
        _inputs(arguments, inputs),
        reference=_loaded(arguments.reference),
        surrogate=_loaded(arguments.surrogate),
        claim=_claim(arguments.claim),
        second=arguments.second,
        compiled=arguments.compiled,
        seed=arguments.seed or 0,
    )
    return found


def _function(found: Any, address: str) -> tuple[Any, Any]:
    """What is checked, and the inputs that come with it."""
    from torch import autograd, nn

    if isinstance(found, tuple) and len(found) == 2:
        return _function(found[0], address)[0], found[1]
    if isinstance(found, type) and issubclass(found, autograd.Function):
        return found.apply, None
    if isinstance(found, type) and issubclass(found, nn.Module):
        try:
            return found(), None
        except Exception as error:
            raise InputError(
                f"{address}: calling it without arguments raised {type(error).__name__}: {error}."
            ) from None
    if not callable(found):
        raise InputError(
            f"{address} is of type {type(found).__name__}; name a function, a module or an autograd.Function."
        )
    return found, None


def _inputs(arguments: argparse.Namespace, given: object) -> object:
    import torch

    if arguments.inputs:
        found = load_object(arguments.inputs)
        if callable(found):
            try:
                return found()
            except Exception as error:
                raise InputError(f"{arguments.inputs}: calling it raised {type(error).__name__}: {error}.") from None
        return found
    if arguments.input:
        generator = torch.Generator().manual_seed(arguments.seed or 0)
        return tuple(tensor_from(text, generator) for text in arguments.input)
    if given is None:
        raise InputError(f"{arguments.function} needs inputs: add --inputs FILE:NAME, or --input for each: {SPELLING}.")
    return given


def _claim(given: list[str]) -> Any:
    """Formulas by name, or what a file holds."""
    formulas = [text for text in given if "=" in text]
    if len(formulas) == len(given):
        return {name.strip(): formula for name, _, formula in (text.partition("=") for text in given)} or None
    if len(given) > 1:
        raise InputError("--claim takes one FILE:NAME, or NAME=FORMULA any number of times, not both.")
    return _loaded(given[0])


def _loaded(address: str | None) -> Any:
    return None if address is None else load_object(address)
