"""Keep the user's whole stack while torch.export records it.

torch keeps only frames of functions named ``forward``; a helper method, a plain function or a ``__call__`` would lose
its lines. The filter is replaced for the time of one export where torch has it, and left alone where it does not.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx.proxy import TracerBase

__all__ = ["whole_stacks"]

_FILTER = "_filter_traceback_frames"


@contextmanager
def whole_stacks(entry: str, is_library: Callable[[str], bool]) -> Iterator[None]:
    """Record every frame of the user's inside the model, innermost last.

    Args:
        entry: the file of the ``forward`` from which the model is called; what is above it is not the model.
        is_library: whether a file belongs to torch, Python or this program.
    """
    original = getattr(TracerBase, _FILTER, None)
    if original is None:
        yield
        return

    def kept(self: Any, stack: traceback.StackSummary) -> traceback.StackSummary:
        entries = [i for i, frame in enumerate(stack) if frame.filename == entry and frame.name == "forward"]
        inside = list(stack)[entries[-1] + 1 :] if entries else []
        return traceback.StackSummary.from_list([f for f in inside if not is_library(f.filename)])

    setattr(TracerBase, _FILTER, kept)
    try:
        yield
    finally:
        setattr(TracerBase, _FILTER, original)
