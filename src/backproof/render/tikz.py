"""Drawings as TikZ pictures, scaled down where they are wider than the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backproof.document.drawing import Drawing, Ellipse, Hint, Label, Path, Pixels, Rectangle, Shape
from backproof.document.math import Expr

from .escape import latex as escape
from .math_latex import latex_of
from .palette import DASHES, LIGHT

__all__ = ["render_tikz", "tikz_colors"]

_POINTS_PER_PIXEL = 0.75
_PAGE_WIDTH = 440.0


def tikz_colors() -> str:
    """Return the LaTeX definitions of the colours that drawings and phases use."""
    lines = [rf"\definecolor{{bp-{role}}}{{HTML}}{{{color[1:].upper()}}}" for role, color in LIGHT.items()]
    return "\n".join([*lines, r"\colorlet{bp-grid}{bp-line}"])


def render_tikz(drawing: Drawing) -> str:
    """Return a drawing as a tikzpicture; the preamble needs tikz and :func:`tikz_colors`."""
    scale = min(_POINTS_PER_PIXEL, _PAGE_WIDTH / max(drawing.width, 1))
    clip = rf"\path[use as bounding box] (0,0) rectangle ({_n(drawing.width)},{_n(drawing.height)});"
    shapes = "\n".join(_SHAPES[type(shape)](shape, scale) for shape in drawing.shapes)
    return f"\\begin{{tikzpicture}}[x={_n(scale)}pt,y=-{_n(scale)}pt]\n{clip}\n{shapes}\n\\end{{tikzpicture}}"


def _n(number: float) -> str:
    return f"{number:.4f}".rstrip("0").rstrip(".")


def _color(role: str) -> str:
    known = [word for word in role.split() if word in LIGHT or word == "grid"]
    return f"bp-{known[0]}" if known else "bp-ink"


def _dash(role: str) -> str:
    lengths = () if "mark" in role.split() else next((DASHES[w] for w in role.split() if w in DASHES), ())
    words = [f"{'off' if place % 2 else 'on'} {length * 0.6:.1f}pt" for place, length in enumerate(lengths)]
    return f",dash pattern={' '.join(words)}" if words else ""


def _path(path: Path, scale: float) -> str:
    if not path.points:
        return ""
    if "area" in path.role.split():
        return rf"\fill[{_color(path.role)},fill opacity=0.16] {_route(path)};"
    arrow = ",-latex" if path.arrow and len(path.points) > 1 else ""
    width = f"line width={_n(path.width * scale)}pt"
    style = f"[draw={_color(path.role)},{width}{_dash(path.role)}{arrow},line join=round]"
    return rf"\draw{style} {_route(path)};"


def _route(path: Path) -> str:
    points = [f"({_n(x)},{_n(y)})" for x, y in path.points]
    if not path.curved:
        return " -- ".join(points)
    route = points[0]
    for (x, y), (next_x, next_y) in zip(path.points, path.points[1:], strict=False):
        middle = _n((x + next_x) / 2)
        route += f" .. controls ({middle},{_n(y)}) and ({middle},{_n(next_y)}) .. ({_n(next_x)},{_n(next_y)})"
    return route


def _style(role: str) -> str:
    color = _color(role)
    return f"[fill={color}]" if "solid" in role.split() else f"[draw={color},fill=bp-panel,line width=0.9pt]"


def _rectangle(box: Rectangle, scale: float) -> str:
    corner = f"[rounded corners={_n(min(box.radius, box.width / 2, box.height / 2) * scale)}pt]"
    far = f"({_n(box.x + box.width)},{_n(box.y + box.height)})"
    return rf"\path{_style(box.role)}{corner} ({_n(box.x)},{_n(box.y)}) rectangle {far};"


def _ellipse(ellipse: Ellipse, scale: float) -> str:
    size = f"x radius={_n(ellipse.rx * scale)}pt,y radius={_n(ellipse.ry * scale)}pt"
    return rf"\path{_style(ellipse.role)} ({_n(ellipse.x)},{_n(ellipse.y)}) ellipse [{size}];"


_ANCHORS = {"start": "west", "middle": "center", "end": "east"}


def _label(label: Label, scale: float) -> str:
    size = label.size * scale
    font = rf"\fontsize{{{_n(size)}}}{{{_n(size * 1.2)}}}\selectfont"
    style = f"anchor={_ANCHORS[label.anchor]},inner sep=0pt,text={_color(label.role)},font={font}"
    return rf"\node[{style}] at ({_n(label.x)},{_n(label.y)}) {{{_content(label.content)}}};"


def _content(content: str | Expr) -> str:
    return escape(content) if isinstance(content, str) else f"${latex_of(content)}$"


def _no_hint(hint: Hint, scale: float) -> str:
    """Paper answers to no pointer; what a hint says stands in the words and tables beside the drawing."""
    return ""


_COARSE = 32


def _pixels(picture: Pixels, scale: float) -> str:
    """A grey box for each pixel, of large pictures for some."""
    some = picture.rows[:: -(-len(picture.rows) // _COARSE)]
    rows = [row[:: -(-len(row) // _COARSE)] for row in some]
    wide, high = picture.width / len(rows[0]), picture.height / len(rows)
    boxes = []
    for i, row in enumerate(rows):
        for j, grey in enumerate(row):
            x, y = picture.x + j * wide, picture.y + i * high
            far = f"({_n(x + wide)},{_n(y + high)})"
            boxes.append(rf"\path[fill=black!{round(100 - grey / 2.55)}] ({_n(x)},{_n(y)}) rectangle {far};")
    return "\n".join(boxes)


_SHAPES: dict[type[Shape], Callable[[Any, float], str]] = {
    Path: _path,
    Rectangle: _rectangle,
    Ellipse: _ellipse,
    Label: _label,
    Hint: _no_hint,
    Pixels: _pixels,
}
