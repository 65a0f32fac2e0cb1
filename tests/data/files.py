"""Writes files in the format of MNIST, independently of the code that reads them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np


def idx(array: np.ndarray, *, kind: int = 8, sizes: tuple[int, ...] | None = None) -> bytes:
    """The bytes of an idx file; ``kind`` and ``sizes`` can be made to lie."""
    sizes = array.shape if sizes is None else sizes
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, kind, len(sizes), *sizes) + array.tobytes()


def folder(path: Path, train: int = 60, test: int = 20, side: int = 6, classes: int = 3, zipped: bool = False) -> Path:
    """A folder with small pictures: the class is the row that is bright."""
    path.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        labels = generator.integers(0, classes, count).astype(np.uint8)
        images = generator.integers(0, 60, (count, side, side)).astype(np.uint8)
        images[np.arange(count), labels] += 180
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(array)
            name = f"{part}-{what}-ubyte" + (".gz" if zipped else "")
            (path / name).write_bytes(gzip.compress(data) if zipped else data)
    return path
