"""Drawings as primitives in a plane with y downwards and units of CSS pixels; ``render`` prints SVG or TikZ.

``role`` is a word that the style sheet (or the TikZ style) turns into a colour and a dash: "given", "forward",
"loss", "backward", "update", "parameter", "positive", "negative", "muted", "axis", "series0".. "series5".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .math import Expr, Ref

__all__ = ["Drawing", "Ellipse", "Hint", "Label", "Path", "Pixels", "Rectangle", "Shape"]


@dataclass(frozen=True)
class Path:
    """A polyline through points, with an arrow head at its end if wanted; ``width`` is the stroke's."""

    points: tuple[tuple[float, float], ...]
    role: str = ""
    arrow: bool = False
    width: float = 1.5
    curved: bool = False
    ref: Ref | None = None


@dataclass(frozen=True)
class Rectangle:
    """A box with its top left corner, size and corner radius."""

    x: float
    y: float
    width: float
    height: float
    radius: float = 4
    role: str = ""
    ref: Ref | None = None


@dataclass(frozen=True)
class Ellipse:
    """An ellipse with its centre and radii."""

    x: float
    y: float
    rx: float
    ry: float
    role: str = ""
    ref: Ref | None = None


@dataclass(frozen=True)
class Label:
    """Text or a formula at a point; ``anchor`` says which side of the text the point is."""

    x: float
    y: float
    content: str | Expr
    anchor: Literal["start", "middle", "end"] = "middle"
    size: float = 13
    role: str = ""
    ref: Ref | None = None


@dataclass(frozen=True)
class Hint:
    """An area that answers to the pointer, and to the keyboard if ``focus``: ``said`` then stands at a point.

    Each line of ``said`` is a line; on paper there is none of it.
    """

    x: float
    y: float
    width: float
    height: float
    said: str
    at: tuple[float, float]
    focus: bool = True


@dataclass(frozen=True)
class Pixels:
    """A grey picture: rows of numbers from 0 (black) to 255 (white), stretched over a box."""

    x: float
    y: float
    width: float
    height: float
    rows: tuple[tuple[int, ...], ...]


Shape = Path | Rectangle | Ellipse | Label | Hint | Pixels


@dataclass(frozen=True)
class Drawing:
    """Shapes in painting order on a canvas of the given size."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
