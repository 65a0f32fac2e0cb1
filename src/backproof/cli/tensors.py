"""Example tensors from the command line: a shape, a list of numbers, an .npy file or an object in a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from backproof.errors import InputError

from .loading import is_address, load_object
from .settings import parse_value

if TYPE_CHECKING:
    import torch

__all__ = ["SPELLING", "tensor_from"]

SPELLING = "a shape (4x2, 1x16:int64, or 8:int64:10 for 0 to 9), [1, 2, 3], data.npy or FILE.py:name"

_SHAPE = re.compile(r"(?P<sizes>\d+(x\d+)*)(:(?P<dtype>[a-z]+\d*))?(:(?P<below>\d+))?")
_MOST_ENTRIES = 2**31


def tensor_from(text: str, generator: torch.Generator) -> torch.Tensor:
    """Make the tensor that a text asks for; what is drawn at random comes from ``generator``."""
    if match := _SHAPE.fullmatch(text):
        sizes = [int(size) for size in match["sizes"].split("x")]
        return _drawn(text, sizes, match["dtype"] or "float32", int(match["below"] or 2), generator)
    if text.startswith("["):
        return _from_list(text)
    if text.endswith(".npy"):
        return _from_npy(Path(text))
    if is_address(text):
        return _from_object(load_object(text), text)
    raise InputError(f"{text!r} is not a tensor: write {SPELLING}.")


def _drawn(text: str, sizes: list[int], name: str, below: int, generator: torch.Generator) -> torch.Tensor:
    """Draw from a standard Gaussian, or whole numbers from 0 to ``below`` - 1."""
    import math

    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"{text!r}: torch has no dtype {name!r}; float32, float64 and int64 are some.")
    if not 0 < math.prod(sizes) <= _MOST_ENTRIES:
        raise InputError(f"{text!r}: each size is at least 1, and together they give at most 2**31 entries.")
    if below < 1:
        raise InputError(f"{text!r}: there are no whole numbers from 0 to below {below}.")
    if dtype.is_floating_point or dtype.is_complex:
        drawn_as = torch.promote_types(dtype, torch.float32)
        return torch.randn(sizes, generator=generator, dtype=drawn_as).to(dtype)
    return torch.randint(0, below, sizes, generator=generator).to(dtype)


def _from_list(text: str) -> torch.Tensor:
    try:
        return _tensor(parse_value(text), text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a tensor: {error}.") from None


def _from_npy(path: Path) -> torch.Tensor:
    import numpy as np

    try:
        return _tensor(np.load(path, allow_pickle=False), str(path))
    except FileNotFoundError:
        raise InputError(f"there is no file {path}.") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} could not be read as an .npy file: {error}.") from None


def _from_object(found: object, text: str) -> torch.Tensor:
    return _tensor(found() if callable(found) else found, text)


def _tensor(data: object, text: str) -> torch.Tensor:
    """Turn numbers into a tensor; Python's floats become float32, as torch has it."""
    import torch

    try:
        return torch.as_tensor(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{text!r} is not a tensor: {error}.") from None
