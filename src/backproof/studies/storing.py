"""Tensors written to a safetensors file one by one as they are computed, and read back when somebody looks at them.

The format (github.com/huggingface/safetensors, "Format"): the length of a header in eight bytes, the header as JSON with
the place of every tensor, the bytes of the tensors. All shapes are known before a run, so the header can be written
first; the library itself, which has no writer of this kind, reads the file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .machine import spelled

__all__ = ["Store", "Stored"]

_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}  # fmt: skip
_ALIGNED = 8
Shape = tuple[tuple[int, ...], str]
"""The shape of a tensor and its dtype."""


class Store:
    """A file of tensors under construction; it has its name when it is complete.

    Args:
        path: the file; one of that name is replaced.
        shapes: shape and dtype of each tensor that will come, by name, in about the order in which they come.

    Raises:
        InputError: the file cannot be written, or the disk has no room for it.
    """

    def __init__(self, path: str | os.PathLike[str], shapes: Mapping[str, Shape]) -> None:
        self.path = Path(path)
        self.places, self.total = _places(shapes)
        self._check()
        entries = {name: _entry(*shapes[name], *place) for name, place in self.places.items()}
        header = json.dumps(entries, separators=(",", ":")).encode()
        header += b" " * (-len(header) % _ALIGNED)
        self._room, self._begin = len(header), 8 + len(header)
        self._part = self.path.with_name(f".{self.path.name[:80]}.{os.getpid()}.part")
        try:
            self._file = self._part.open("w+b")
        except OSError as error:
            raise InputError(f"'{self.path}' cannot be written: {error.strerror}") from None
        self._file.write(len(header).to_bytes(8, "little") + header)
        self._file.truncate(self._begin + self.total)
        self.written: set[str] = set()

    def _check(self) -> None:
        folder = self.path.parent
        if self.path.suffix != ".safetensors":
            raise InputError(f"a store is a file that ends in .safetensors, not '{self.path.name}'")
        if not folder.is_dir():
            raise InputError(f"the folder '{folder}' does not exist; make it first, or give another path")
        if (free := shutil.disk_usage(folder).free) < self.total:
            raise InputError(
                f"the record takes {spelled(self.total)}, and the disk behind '{folder}' has {spelled(free)} left; keep less "
                "(keep='statistics', or a list of modules)"
            )

    def put(self, name: str, tensor: Tensor) -> None:
        """Write a tensor to its place."""
        start, end = self.places[name]
        data = (
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0)
        )
        if data.nbytes != end - start:
            raise InputError(f"'{name}' has another size than was planned for it")
        self._file.seek(self._begin + start)
        self._file.write(data.data)
        self.written.add(name)

    def close(self) -> None:
        """Finish the file; what never came is taken out of its header."""
        if missing := set(self.places) - self.written:
            self._file.seek(8)
            entries = json.loads(self._file.read(self._room))
            kept = json.dumps({k: v for k, v in entries.items() if k not in missing}, separators=(",", ":")).encode()
            self._file.seek(8)
            self._file.write(kept.ljust(self._room))
            last = max((self.places[n][1] for n in self.written), default=0)
            self._file.truncate(self._begin + last)
        self._file.close()
        self._part.replace(self.path)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def _places(shapes: Mapping[str, Shape]) -> tuple[dict[str, tuple[int, int]], int]:
    places, end = {}, 0
    for name, (shape, dtype) in shapes.items():
        if dtype not in _NAMES:
            raise InputError(f"'{name}' is {dtype}, which a safetensors file has no name for; keep it in memory")
        size = torch.Size(shape).numel() * getattr(torch, dtype).itemsize
        places[name] = (end, end + size)
        end += size
    return places, end


def _entry(shape: tuple[int, ...], dtype: str, start: int, end: int) -> dict[str, Any]:
    return {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}


class Stored(Mapping[str, Any]):
    """Tensors by name, each read from the file when it is asked for; others lie in memory.

    Args:
        path: a safetensors file.
        prefix: what their names begin with in the file.
        names: all names, in order.
        near: those that are in memory, which may be None.
    """

    def __init__(self, path: Path, prefix: str, names: tuple[str, ...], near: Mapping[str, Any]) -> None:
        self.path, self.prefix, self.names, self.near = path, prefix, dict.fromkeys(names), near

    def __getitem__(self, name: str) -> Any:
        if name in self.near:
            return self.near[name]
        if name not in self.names:
            raise KeyError(name)
        from safetensors import safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                return file.get_tensor(self.prefix + name)
        except OSError as error:
            raise InputError(f"'{self.path}', where '{name}' was stored, cannot be read: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"<{len(self)} tensors, in {self.path}>"
