"""What a network learns from: pairs of arrays, a Dataset, or files, all as something that gives batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..errors import InputError
from .arrays import read_npy, read_npz
from .pictures import digits, pictures

__all__ = ["Samples", "samples_of"]

_FORMS = (
    "a pair (inputs, targets) of arrays, tensors or .npy files; a torch Dataset with a length; an .npz file with x and "
    "y; a folder in the format of MNIST; or 'digits'"
)


@dataclass(frozen=True)
class Samples:
    """Samples that can be asked for by their numbers.

    Args:
        count: how many there are.
        pair: inputs and targets as whole tensors, or None for a Dataset.
        dataset: what is asked sample by sample, where there is no pair.
    """

    count: int
    pair: tuple[Tensor, Tensor] | None = None
    dataset: Any = None

    def batch(self, numbers: Tensor) -> tuple[Any, Any]:
        """Inputs and targets of the samples with these numbers."""
        if self.pair is not None:
            return self.pair[0][numbers], self.pair[1][numbers]
        collated = default_collate([self.dataset[i] for i in numbers.tolist()])
        if not isinstance(collated, (tuple, list)) or len(collated) != 2:
            raise InputError("each sample of the Dataset must be a pair (input, target)")
        return collated[0], collated[1]

    def digest(self) -> str:
        """A fingerprint of the samples, so that a checkpoint knows its data."""
        state = hashlib.blake2b(str(self.count).encode(), digest_size=8)
        for tensor in self.pair or _tensors(self.dataset[0]):
            state.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return state.hexdigest()


def _tensors(sample: Any) -> list[Tensor]:
    return [x for x in (sample if isinstance(sample, (tuple, list)) else [sample]) if isinstance(x, Tensor)]


def samples_of(data: Any, seed: int = 0) -> tuple[Samples, Samples | None]:
    """The samples to learn from, and those to test with where the data bring them.

    Raises:
        InputError: it is none of the forms, inputs and targets do not fit, there are none, or a file is damaged.
    """
    if isinstance(data, Samples):
        return data, None
    if isinstance(data, (str, Path)):
        return _from_path(data, seed)
    if isinstance(data, Dataset):
        return _from_dataset(data), None
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return _paired(*(_tensor(part) for part in data)), None
    raise InputError(f"data is {_FORMS}; this is a {type(data).__name__}")


def _from_dataset(data: Any) -> Samples:
    try:
        count = len(data)
    except TypeError:
        raise InputError(
            "the Dataset has no length (an IterableDataset?); give one that can be asked by number"
        ) from None
    if count < 1:
        raise InputError("the Dataset is empty")
    tensors = getattr(data, "tensors", None)
    if isinstance(tensors, tuple) and len(tensors) == 2:
        return _paired(*tensors)
    return Samples(count, dataset=data)


def _from_path(data: str | Path, seed: int) -> tuple[Samples, Samples | None]:
    path = Path(data)
    if str(data) == "digits" and not path.exists():
        found = digits(seed)
    elif path.suffix == ".npz":
        arrays = read_npz(path)
        if {"x", "y"} <= set(arrays):
            return _paired(_tensor(arrays["x"]), _tensor(arrays["y"])), None
        found = pictures(path, seed)
    else:
        found = pictures(path, seed)
    train = _paired(found.train[:, None], found.train_labels)
    return train, _paired(found.test[:, None], found.test_labels)


def _tensor(part: Any) -> Tensor:
    if isinstance(part, (str, Path)):
        part = read_npy(Path(part))
    try:
        tensor = torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the data are no array of numbers: {str(error)[:200]}") from None
    is_plain = not isinstance(part, Tensor) and tensor.dtype == torch.float64
    return (tensor.float() if is_plain else tensor).detach()


def _paired(inputs: Tensor, targets: Tensor) -> Samples:
    if not inputs.shape or not targets.shape or len(inputs) != len(targets):
        shapes: Sequence[object] = (list(inputs.shape), list(targets.shape))
        raise InputError(f"inputs {shapes[0]} and targets {shapes[1]} must have the same number of samples first")
    if len(inputs) == 0:
        raise InputError("there are no samples to learn from")
    for what, tensor in (("inputs", inputs), ("targets", targets)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            place = (~torch.isfinite(tensor)).nonzero()[0].tolist()
            raise InputError(
                f"the {what} contain {tensor[tuple(place)].item()} at {place}; they must be finite numbers"
            )
    return Samples(len(inputs), (inputs, targets))
