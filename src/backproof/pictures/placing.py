"""Places for labels on lines, so that no label covers another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .routes import Box, Point, crosses

__all__ = ["Line", "label_places"]

_PLACES = tuple(0.12 + 0.04 * i for i in range(20))
"""Where along its line a label may stand."""

_WISHES = 0.3, 0.68, 0.44, 0.56
"""Where neighbouring lines would like to have theirs, in turn."""


@dataclass(frozen=True)
class Line:
    """A straight line between two points."""

    start: Point
    end: Point

    def at(self, part: float) -> Point:
        """The point at a part of its length."""
        (x, y), (to_x, to_y) = self.start, self.end
        return x + (to_x - x) * part, y + (to_y - y) * part


def label_places(
    lines: Sequence[Line], sizes: Sequence[tuple[float, float] | None], boxes: Sequence[Box]
) -> list[Box | None]:
    """Return for each line a box for its label; None where it has none or there is no free place.

    Args:
        lines: the lines.
        sizes: the labels' widths and heights.
        boxes: what no label may cover.
    """
    taken: list[Box] = []
    found: list[Box | None] = []
    for i, (line, size) in enumerate(zip(lines, sizes, strict=True)):
        best = None if size is None else _best(i, line, size, [*boxes, *taken], lines)
        found.append(best)
        taken += [best] if best else []
    return found


def _best(
    number: int, line: Line, size: tuple[float, float], taken: Sequence[Box], lines: Sequence[Line]
) -> Box | None:
    """The free place that covers the fewest other lines, near where it is wished."""
    wish = _WISHES[number % len(_WISHES)]
    boxes = [(abs(part - wish), Box(*line.at(part), *size)) for part in _PLACES]
    free = [(far, box) for far, box in boxes if not any(_overlap(box, other) for other in taken)]
    if not free:
        return None
    return min(free, key=lambda found: found[0] + 0.5 * _covered(found[1], line, lines))[1]


def _overlap(a: Box, b: Box) -> bool:
    return abs(a.x - b.x) < (a.width + b.width) / 2 + 1 and abs(a.y - b.y) < (a.height + b.height) / 2 + 1


def _covered(box: Box, own: Line, lines: Sequence[Line]) -> float:
    """How many other lines pass under a label; those that come near count a little."""
    others = [line for line in lines if line != own]
    return sum(crosses(line.start, line.end, box) + 0.2 * crosses(line.start, line.end, box, 4) for line in others)
