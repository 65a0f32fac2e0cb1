"""What ``torch.compile`` makes of a function, beside the function itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

__all__ = ["compiled_notes", "compiled_of", "eager_of"]


def compiled_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function as torch compiles it: with its own compiler where there is one for C++, else traced and run eagerly."""
    import torch

    made: Callable[..., Any] = torch.compile(fn, backend=_backend())
    return made


def _backend() -> str:
    return "inductor" if any(shutil.which(name) for name in ("g++", "clang++", "c++")) else "aot_eager"


def eager_of(fn: Any) -> Callable[..., Any] | None:
    """The function that was compiled, if this one was."""
    found = getattr(fn, "_orig_mod", None) or getattr(fn, "_torchdynamo_orig_callable", None)
    return found if callable(found) else None


def compiled_notes(fn: Any) -> list[str]:
    """That a function was compiled, and how it is judged."""
    return (
        ["compiled by torch.compile: forward and backward are compared with the eager function"] if eager_of(fn) else []
    )
