"""Arrays in files: .npy, .npz, and the idx format of MNIST (plain or gzipped).

A file is somebody else's word. What it declares is compared with what it holds before any memory is taken, so that a
header of a few bytes cannot ask for a terabyte, and every refusal is one sentence with the file's name.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from ..errors import InputError

__all__ = ["MOST_BYTES", "read_idx", "read_npy", "read_npz"]

MOST_BYTES = 2**32
"""The largest array that is read: 4 GB."""

_DEFLATE = 1032  # no gzip or zip file grows by more than this factor
_CHUNK = 2**20
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_BROKEN = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, struct.error, NotImplementedError)
Array = np.ndarray[Any, Any]


def read_idx(path: Path) -> Array:
    """Read an idx file, such as ``train-images-idx3-ubyte`` or the same with ``.gz``.

    The format: two zero bytes, one for the kind of number, one for the number of dimensions, each size as four
    bytes, the entries in row order (LeCun, "The MNIST database").

    Raises:
        InputError: no such file, another magic number, sizes that do not fit the file's length, a damaged gzip.
    """
    packed = path.suffix == ".gz"
    try:
        size = path.stat().st_size
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            dtype, shape, header = _idx_header(file, path)
            wanted = math.prod(shape) * dtype.itemsize
            _refuse_size(path, shape, wanted, size * _DEFLATE if packed else size - header, packed)
            data = _exactly(file, wanted)
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    if len(data) != wanted:
        found = "more" if len(data) > wanted else f"{len(data):,}"
        raise InputError(f"{path}: the header says {_sizes(shape)}, that is {wanted:,} bytes, and there are {found}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _idx_header(file: Any, path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not 1 <= magic[3] <= 4:
        raise InputError(
            f"{path} is no idx file: it begins with {magic.hex(' ') or 'nothing'}, and images begin with 00 00 08 03, "
            "labels with 00 00 08 01"
        )
    sizes = file.read(4 * magic[3])
    shape = struct.unpack(f">{magic[3]}I", sizes)
    return np.dtype(_IDX_TYPES[magic[2]]), shape, 4 + len(sizes)


def _refuse_size(path: Path, shape: tuple[int, ...], wanted: int, there: int, packed: bool = False) -> None:
    if wanted > MOST_BYTES or wanted > there or (wanted < there and not packed):
        can = f"at most {there:,} can come out of it" if packed else f"{there:,} follow"
        raise InputError(
            f"{path}: the header says {_sizes(shape)}, that is {wanted:,} bytes, and {can}; at most {MOST_BYTES:,} are "
            "read. The file is damaged or not what its name says: get it again"
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{n:,}" for n in shape) if shape else "one number"


def _exactly(file: Any, count: int) -> bytearray:
    """Read ``count`` bytes and one more, which should not be there; memory grows with what is read."""
    data = bytearray()
    while len(data) <= count and (part := file.read(min(_CHUNK, count + 1 - len(data)))):
        data += part
    return data


def _unreadable(path: Path, error: BaseException) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {path}")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return InputError(f"{path} could not be read: {reason[:200]}. It may be cut off or damaged: get it again")


def read_npy(path: Path) -> Array:
    """Read an .npy file that holds numbers (pickled objects are refused).

    Raises:
        InputError: no such file, it is damaged, or it holds no plain numbers.
    """
    try:
        with path.open("rb") as file:
            return _npy(file, path.stat().st_size, path, str(path))
    except _BROKEN as error:
        raise _unreadable(path, error) from None


def read_npz(path: Path) -> dict[str, Array]:
    """Read every array of an .npz file by its name.

    Raises:
        InputError: no such file, it is damaged, or an array is larger than what is stored.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = path.stat().st_size
            for info in archive.infolist():
                if info.file_size > min(MOST_BYTES, packed * _DEFLATE):
                    raise InputError(f"{path}: '{info.filename[:80]}' claims {info.file_size:,} bytes; it is refused")
            return {i.filename.removesuffix(".npy"): _member(archive, i, path) for i in archive.infolist()}
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    except RuntimeError as error:  # an encrypted member
        raise _unreadable(path, error) from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    data = archive.read(info)  # checks the sum of the bytes
    return _npy(io.BytesIO(data), len(data), path, f"'{info.filename[:80]}' in {path}")


def _npy(file: IO[bytes], size: int, path: Path, what: str) -> Array:
    version = npy_format.read_magic(file)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise InputError(f"{what} holds {dtype}, not plain numbers")
    wanted = math.prod(shape) * dtype.itemsize
    _refuse_size(path, shape, wanted, size - file.tell())
    array = np.frombuffer(file.read(wanted), dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()
