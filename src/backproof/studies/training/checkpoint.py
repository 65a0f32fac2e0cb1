"""A checkpoint: one file, written whole or not at all after every epoch, that knows what run it belongs to.

The file is a line with its kind, the SHA-256 of the rest, and the rest, which torch reads without running any code
(``weights_only``). A file that was cut off or changed is recognised by its sum.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError
from ...result import write

__all__ = ["load_checkpoint", "refuse_place", "save_checkpoint"]

_KIND = b"backproof checkpoint 1\n"
_SUM = 32
_REST = "give another path, or say resume=False (--no-resume) to begin again and overwrite it"


def refuse_place(path: Path) -> None:
    """Refuse a place where no checkpoint could be written, before any work is done."""
    if not path.parent.is_dir():
        raise InputError(f"the checkpoint's folder '{path.parent}' does not exist; make it first, or give another path")
    if path.is_dir():
        raise InputError(f"the checkpoint '{path}' is a folder; give the path of a file")


def save_checkpoint(path: Path, about: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Write a run's state; what was there before stays until the new file is complete."""
    buffer = io.BytesIO()
    torch.save({"about": dict(about), **state}, buffer)
    data = buffer.getvalue()
    write(path, _KIND + hashlib.sha256(data).digest() + data)


def load_checkpoint(path: Path, about: Mapping[str, str]) -> dict[str, Any] | None:
    """The state of the run that ``about`` describes; None where there is no file yet.

    Raises:
        InputError: the file is damaged, is no checkpoint, or belongs to another run; the message says what differs.
    """
    if not path.exists():
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the checkpoint '{path}' could not be read: {error.strerror}") from None
    state = _read(content, path)
    theirs = state["about"]
    differs = [k for k in about if theirs.get(k) != about[k]]
    if differs:
        k = differs[0]
        more = f" ({', '.join(differs[1:])} differ too)" if differs[1:] else ""
        raise InputError(
            f"the checkpoint '{path}' belongs to another run: its {k} is {theirs.get(k, 'unknown')}, and here it is "
            f"{about[k]}{more}; {_REST}"
        )
    return state


def _read(content: bytes, path: Path) -> dict[str, Any]:
    if not content.startswith(_KIND):
        raise InputError(f"'{path}' is no checkpoint of Backproof; {_REST}")
    data = content[len(_KIND) + _SUM :]
    if hashlib.sha256(data).digest() != content[len(_KIND) : len(_KIND) + _SUM]:
        raise InputError(f"the checkpoint '{path}' is damaged or cut off: its bytes do not add up to its sum; {_REST}")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
        assert {"about", "epoch", "model", "optimizer", "schedule", "rows"} <= set(state)
    except Exception as error:  # whatever a file with a right sum and a wrong content can raise
        raise InputError(f"the checkpoint '{path}' holds no run: {type(error).__name__}; {_REST}") from None
    return state
