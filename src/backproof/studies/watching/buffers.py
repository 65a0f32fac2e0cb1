"""Buffers that somebody else than the optimizer wrote into, or should have: gradients and weights."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from torch import Tensor

from ...capturing.hooks import on_gradient

__all__ = ["Leftovers", "Writes"]

_VERSION = attrgetter("_version")


class Leftovers:
    """Gradients of the last step that are still there when the next arrive.

    Gradients that are set to None come back as new tensors, whose versions begin anew. Where the version is larger than before
    the last step, the tensor may be the old one, set to 0 or forgotten: then the next gradient that arrives is asked what it is
    added to. Several backward passes between two steps add to each other by right.
    """

    def __init__(self, first: Tensor) -> None:
        self.first = first
        self._version = 0
        self._usual: set[int] = set()
        self._suspect: int | None = None
        self._hook: Any = None
        self._arrived, self._left = False, False

    def since(self, grad: Tensor, step: int) -> int | None:
        """The step from which gradients were not cleared, once that is certain (called before each step)."""
        version = grad._version
        if version == self._version and self._hook is None:
            return None
        moved, self._version = version - self._version, version
        if moved < 0:  # a new tensor
            self.stop()
            return None
        if moved in self._usual and self._hook is None:
            return None
        if self._hook is None:
            self._suspect, self._arrived, self._left = step, False, False
            self._hook = on_gradient(self.first, self._ask)
            return None
        if not self._arrived:
            return None
        if not self._left:
            self._usual.add(moved)
        found = self._suspect if self._left else None
        self.stop()
        return found

    def stop(self) -> None:
        """Ask no more."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _ask(self, arriving: Tensor) -> None:
        before = self.first.grad
        if before is None or not bool(before.any()):
            self._left = False
        elif not self._arrived:
            self._left = True
        self._arrived = True


class Writes:
    """Whether weights were written to in another way than at the steps before.

    Each write in place raises a tensor's version, an optimizer's always by as much. A mask or a clamp after every step is usual
    after the first time.
    """

    MOST = 8

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = weights
        self._usual: set[int] = set()
        self._last = sum(map(_VERSION, weights))

    def unusual(self) -> bool:
        """Whether it was so since the last call (called before each step)."""
        last, self._last = self._last, sum(map(_VERSION, self._weights))
        if self._last - last in self._usual:
            return False
        self._usual.add(self._last - last)
        if len(self._usual) > self.MOST:  # as in a line search: nothing is usual
            self._weights = ()
        return True
