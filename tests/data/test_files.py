"""Files in the format of MNIST: read as they are, and refused in one sentence where they are not what they say."""

from __future__ import annotations

import gzip
import io
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backproof as bp
from backproof.data import digits, pictures
from backproof.data.arrays import read_idx, read_npy, read_npz

from .files import folder, idx

IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_is_read(tmp_path: Path, zipped: bool) -> None:
    found = pictures(folder(tmp_path / "raw", zipped=zipped).parent)
    assert found.train.shape == (60, 6, 6) and found.test.shape == (20, 6, 6) and found.classes == 3
    assert found.train.dtype == torch.float32 and 0 <= found.train.min() and found.train.max() <= 1
    assert torch.equal(found.train.mean(2).argmax(1), found.train_labels)


def test_the_same_as_npz(tmp_path: Path) -> None:
    a = pictures(folder(tmp_path / "idx"))
    bytes_of = {k: (getattr(a, k) * 255).round().byte().numpy() for k in ("train", "test")}
    names = {
        "x_train": bytes_of["train"],
        "y_train": a.train_labels,
        "x_test": bytes_of["test"],
        "y_test": a.test_labels,
    }
    np.savez_compressed(tmp_path / "mnist.npz", **names)
    b = pictures(tmp_path / "mnist.npz")
    assert torch.equal(a.train, b.train) and torch.equal(a.test_labels, b.test_labels)


def test_numbers_of_every_kind(tmp_path: Path) -> None:
    for kind, dtype in ((8, ">u1"), (9, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")):
        array = np.array([[1, 2, 3], [4, 5, 100]], dtype)
        (tmp_path / "x").write_bytes(idx(array, kind=kind))
        assert np.array_equal(read_idx(tmp_path / "x"), array)


def huge_npy() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (2**30, 2**10)})
    return buffer.getvalue()


def pickled_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


GOOD = idx(IMAGES)
WRONG: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x", b"", "no idx file"),
    "magic": ("x", b"\x89PNG" + GOOD, "no idx file"),
    "kind": ("x", idx(IMAGES, kind=7), "no idx file"),
    "header cut": ("x", GOOD[:9], "could not be read"),
    "cut off": ("x", GOOD[:-1], "damaged"),
    "too long": ("x", GOOD + b"0", "damaged"),
    "huge": ("x", idx(IMAGES, sizes=(2**31, 2**31, 2**31)), "damaged"),
    "zipped, cut off": ("x.gz", gzip.compress(GOOD)[:-6], "could not be read"),
    "zipped, changed": ("x.gz", gzip.compress(GOOD)[:-8] + b"\0\0\0\0" + gzip.compress(GOOD)[-4:], "could not be read"),
    "zipped, no gzip": ("x.gz", GOOD, "could not be read"),
    "zipped, short": ("x.gz", gzip.compress(GOOD[:-3]), "the header says"),
    "zipped, long": ("x.gz", gzip.compress(GOOD + b"0"), "the header says"),
    "zipped, huge": ("x.gz", gzip.compress(idx(IMAGES, sizes=(60000, 1000, 1000))), "damaged"),
    "npy, huge": ("x.npy", huge_npy(), "damaged"),
    "npy, pickled": ("x.npy", pickled_npy(), "not plain numbers"),
    "npy, text": ("x.npy", b"hello", "could not be read"),
    "npz, text": ("x.npz", b"hello", "could not be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_damaged_is_refused_at_once_and_without_memory(tmp_path: Path, name: str) -> None:
    file, content, words = WRONG[name]
    path = tmp_path / file
    path.write_bytes(content)
    read: Any = {".npy": read_npy, ".npz": read_npz}.get(path.suffix, read_idx)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(bp.InputError, match=words) as refused:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 2 and peak < 20e6
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_an_archive_that_would_grow_without_end_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", huge_npy() + bytes(10**6))
    with pytest.raises(bp.InputError, match="damaged"):
        read_npz(tmp_path / "x.npz")


def rewrite(path: Path, name: str, content: bytes) -> None:
    (path / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-labels-idx1-ubyte", idx(np.zeros(59, np.uint8)), "59"),
        ("train-labels-idx1-ubyte", idx(np.full(60, -1, np.int8), kind=9), "label of picture 0"),
        ("train-labels-idx1-ubyte", idx(np.full(60, 5000, ">i2"), kind=0x0B), "5000"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((20, 7, 7), np.uint8)), "7 x 7"),
        ("train-images-idx3-ubyte", idx(np.zeros(60, np.uint8)), "shape 60"),
        ("train-images-idx3-ubyte", idx(np.full((60, 6, 6), np.nan, ">f4"), kind=0x0D), "nan"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    rewrite(folder(tmp_path), name, content)
    with pytest.raises(bp.InputError, match=words):
        pictures(tmp_path)


def test_a_folder_without_pictures_says_what_it_should_hold(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(bp.InputError, match="train-images-idx3-ubyte"):
            pictures(place)


def test_digits_are_split_by_the_seed() -> None:
    a, b, c = digits(0), digits(0), digits(1)
    assert torch.equal(a.train, b.train) and not torch.equal(a.train, c.train)
    assert len(a.train) + len(a.test) == 1797 and a.classes == 10 and a.train.max() == 1.0
    assert struct.calcsize("f") == a.train.element_size()
