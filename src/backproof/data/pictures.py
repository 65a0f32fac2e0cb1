"""Labelled pictures: the handwritten digits that come with scikit-learn, and folders in the format of MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .arrays import Array, read_idx, read_npz

__all__ = ["Pictures", "digits", "pictures"]

MOST_CLASSES = 1000
_PLACES = ("", "raw", "MNIST/raw", "FashionMNIST/raw", "EMNIST/raw", "KMNIST/raw")
_EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each plain "
    "or .gz), or one .npz with x_train, y_train, x_test and y_test"
)


@dataclass(frozen=True)
class Pictures:
    """Grey pictures with labels, split into those to learn from and those to test with.

    Args:
        train, test: intensities from 0 to 1, [N, height, width], float32.
        train_labels, test_labels: classes counted from 0, [N], int64.
        name: where they come from, in words.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    name: str

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.train.shape[1], self.train.shape[2]

    def limited(self, train: int, test: int = 0) -> Pictures:
        """The first ``train`` and ``test`` of them; 0 keeps all."""
        a, b = train or len(self.train), test or len(self.test)
        return Pictures(self.train[:a], self.train_labels[:a], self.test[:b], self.test_labels[:b], self.name)

    def resized(self, size: int) -> Pictures:
        """Every picture drawn ``size`` x ``size`` large, by bilinear interpolation."""

        def drawn(images: Tensor) -> Tensor:
            how = {"mode": "bilinear", "align_corners": False}
            return torch.nn.functional.interpolate(images[:, None], (size, size), **how)[:, 0]  # type: ignore[arg-type]

        if self.size == (size, size):
            return self
        return Pictures(drawn(self.train), self.train_labels, drawn(self.test), self.test_labels, self.name)


def digits(seed: int = 0, share: float = 0.2) -> Pictures:
    """The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn; a random share is kept for testing.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set).

    Example:
        >>> digits().train.shape, digits().test.shape
        (torch.Size([1437, 8, 8]), torch.Size([360, 8, 8]))
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images / 16.0, dtype=torch.float32)
    labels = torch.tensor(found.target, dtype=torch.int64)
    return split(images, labels, seed, share, "scikit-learn's digits")


def split(images: Tensor, labels: Tensor, seed: int, share: float, name: str) -> Pictures:
    """Keep a random share of the pictures for testing."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    cut = len(images) - max(1, round(share * len(images)))
    if cut < 1:
        raise InputError(f"{name}: {len(images)} pictures are too few to learn from some and test with others")
    a, b = order[:cut], order[cut:]
    return Pictures(images[a], labels[a], images[b], labels[b], name)


def pictures(folder: str | Path, seed: int = 0) -> Pictures:
    """Read a folder (or one .npz file) in the format of MNIST, FashionMNIST and their relatives.

    Args:
        folder: with the four idx files, plain or gzipped, or an .npz file; torchvision's subfolders are looked into.
        seed: which pictures are kept for testing, where the folder has no test files.

    Raises:
        InputError: a file is missing, damaged, or does not fit the others.
    """
    path = Path(folder)
    if path.is_file() and path.suffix == ".npz":
        return _from_npz(path, seed)
    if not path.is_dir():
        raise InputError(f"there is no folder '{folder}' with data; it should hold {_EXPECTED}")
    for place in [path / p for p in _PLACES]:
        if place.is_dir() and (images := _one(place, "train", "images")):
            return _from_idx(place, images, seed)
    found = sorted(path.glob("*.npz"))
    if len(found) == 1:
        return _from_npz(found[0], seed)
    raise InputError(f"the folder '{folder}' holds no pictures that could be read; it should hold {_EXPECTED}")


def _one(folder: Path, part: str, what: str) -> Path | None:
    """The file of a part's images or labels; an unpacked one is preferred to its .gz."""
    found = [p for p in sorted(folder.glob(f"{part}*{what}*")) if p.is_file()]
    return min(found, key=lambda p: (p.suffix == ".gz", len(p.name))) if found else None


def _from_idx(folder: Path, images: Path, seed: int) -> Pictures:
    labels = _one(folder, "train", "labels")
    if labels is None:
        raise InputError(f"{folder} holds {images.name} and no labels that go with it (train-labels-idx1-ubyte)")
    train = _checked(read_idx(images), read_idx(labels), str(images), str(labels))
    parts = [_one(folder, part, what) for part in ("t10k", "test") for what in ("images", "labels")]
    pairs = [(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True) if a and b]
    if not pairs:
        return split(*train, seed, 0.2, str(folder))
    a, b = pairs[0]
    return _joined(train, _checked(read_idx(a), read_idx(b), str(a), str(b)), str(folder))


def _from_npz(path: Path, seed: int) -> Pictures:
    arrays = read_npz(path)
    names = {
        part: [_named(arrays, a, part) for a in ("x images image", "y labels label")] for part in ("train", "test")
    }
    if None in names["train"]:
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; it should hold x_train and y_train")
    read = {
        part: _checked(arrays[x], arrays[y], f"{x} in {path}", f"{y} in {path}")
        for part, (x, y) in names.items()
        if x and y
    }
    if "test" not in read:
        return split(*read["train"], seed, 0.2, str(path))
    return _joined(read["train"], read["test"], str(path))


def _named(arrays: dict[str, Array], words: str, part: str) -> str | None:
    for word in words.split():
        for name in (f"{word}_{part}", f"{part}_{word}", *([word] if part == "train" else [])):
            if name in arrays:
                return name
    return None


def _joined(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], name: str) -> Pictures:
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = [" x ".join(map(str, x.shape[1:])) for x in (train[0], test[0])]
        raise InputError(f"{name}: the pictures to learn from are {sizes[0]} and those to test with {sizes[1]}")
    return Pictures(*train, *test, name)


def _checked(images: Array, labels: Array, images_name: str, labels_name: str) -> tuple[Tensor, Tensor]:
    """Pictures and labels that fit each other, as tensors."""
    if images.ndim == 4 and 1 in (images.shape[1], images.shape[3]):
        images = images.squeeze(1 if images.shape[1] == 1 else 3)
    if images.ndim != 3 or 0 in images.shape or max(images.shape[1:]) > 1024:
        shape = " x ".join(map(str, images.shape))
        raise InputError(f"{images_name} has the shape {shape}; grey pictures of at most 1024 pixels are [N, H, W]")
    if labels.shape != images.shape[:1]:
        raise InputError(f"{images_name} has {len(images):,} pictures and {labels_name} the shape {labels.shape}")
    _check_labels(labels, labels_name)
    return _intensities(images, images_name), torch.from_numpy(labels.astype(np.int64))


def _check_labels(labels: Array, name: str) -> None:
    wrong = (labels < 0) | (labels >= MOST_CLASSES) | (labels != np.floor(labels))
    if bool(np.any(wrong)):
        place = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{name}: the label of picture {place} (from 0) is {labels[place]}; labels are 0 to {MOST_CLASSES - 1}"
        )


def _intensities(images: Array, name: str) -> Tensor:
    """From 0 to 1: bytes are divided by 255, other numbers must be finite and are divided by their maximum."""
    if images.dtype == np.uint8:
        return torch.from_numpy(images.astype(np.float32) / np.float32(255))
    largest: Any = np.abs(images).max()
    if not np.isfinite(largest):
        raise InputError(f"{name} holds {largest} among its pixels")
    return torch.from_numpy((images / (largest or 1)).astype(np.float32))
