"""What watching costs."""

from __future__ import annotations

import math
import time

__all__ = ["Clock"]


class Clock:
    """What watching costs: the steps that are looked at against those that are not.

    Other programs make some steps slow; what a step takes by itself is best seen in the quickest of them.
    """

    def __init__(self) -> None:
        self.usual, self.looked, self.looks, self._began, self._last, self._steps = math.inf, 0.0, 0, 0.0, 0.0, 0

    def tick(self, step: int) -> None:
        """Between two looks: how long the steps since the last call took."""
        now = time.perf_counter()
        if step > self._steps and self._last:
            self.usual = min(1.002 * self.usual, (now - self._last) / (step - self._steps))
        self._last, self._steps = now, step

    def look_begins(self) -> None:
        """A step that is seen closely begins."""
        self._began = time.perf_counter()

    def look_ends(self, step: int) -> None:
        """It is over, and the next one begins."""
        self._last, self._steps = time.perf_counter(), step
        self.looked += self._last - self._began
        self.looks += 1

    @property
    def knows(self) -> bool:
        """Whether it has seen how long a step takes by itself."""
        return math.isfinite(self.usual)

    def share(self, steps: int, more: int = 0) -> float:
        """What looks, and so many more, take beyond the steps themselves, as a share of those."""
        if not steps or not self.looks or not self.knows:
            return 0.0
        own = max(0.0, self.looked - self.looks * self.usual)
        return own * (1 + more / self.looks) / (self.usual * steps)
