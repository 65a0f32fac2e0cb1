"""The canvas around shapes: as large as they need, with a margin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..document.drawing import Drawing, Ellipse, Hint, Label, Path, Pixels, Rectangle, Shape
from .routes import Box
from .signs import text_width

__all__ = ["bounds", "framed", "label_box"]

_ANCHORS = {"start": 0.5, "middle": 0.0, "end": -0.5}


def framed(shapes: Iterable[Shape], margin: float = 10) -> Drawing:
    """Return a drawing of the shapes, moved so that they begin at the margin.

    Example:
        >>> framed([Ellipse(100, 100, 5, 5)], margin=2)
        Drawing(width=14, height=14, shapes=(Ellipse(x=7, y=7, rx=5, ry=5, role='', ref=None),))
    """
    found = list(shapes)
    edges = [bounds(shape) for shape in found] or [(0.0, 0.0, 0.0, 0.0)]
    left, top = (min(edge[i] for edge in edges) - margin for i in (0, 1))
    right, bottom = (max(edge[i] for edge in edges) + margin for i in (2, 3))
    return Drawing(right - left, bottom - top, tuple(_moved(shape, -left, -top) for shape in found))


def bounds(shape: Shape) -> tuple[float, float, float, float]:
    """Return the left, top, right and bottom end of a shape; of a label, about."""
    if isinstance(shape, Path):
        xs, ys = zip(*shape.points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)
    if isinstance(shape, (Rectangle, Pixels, Hint)):
        return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
    if isinstance(shape, Ellipse):
        return shape.x - shape.rx, shape.y - shape.ry, shape.x + shape.rx, shape.y + shape.ry
    box = label_box(shape)
    return box.x - box.width / 2, box.y - box.height / 2, box.x + box.width / 2, box.y + box.height / 2


def label_box(label: Label) -> Box:
    """Return about the room that a label takes."""
    width = text_width(label.content, label.size)
    return Box(label.x + _ANCHORS[label.anchor] * width, label.y, width, label.size + 2)


def _moved(shape: Shape, dx: float, dy: float) -> Shape:
    if isinstance(shape, Path):
        return replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))
    moved = replace(shape, x=shape.x + dx, y=shape.y + dy)
    return replace(moved, at=(moved.at[0] + dx, moved.at[1] + dy)) if isinstance(moved, Hint) else moved
