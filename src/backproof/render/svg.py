"""Drawings as SVG: inside a page (which has the style sheet), or standing alone with its own colours."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from backproof.document.drawing import Drawing, Ellipse, Hint, Label, Path, Pixels, Rectangle, Shape
from backproof.document.math import Expr, Sym

from .escape import xml
from .math_mathml import reference
from .math_text import text_of
from .notation import character
from .page import asset
from .palette import DASHES, LIGHT, css_variables
from .printer import is_numeric

__all__ = ["drawing_css", "render_svg", "svg"]

Point = tuple[float, float]


def render_svg(drawing: Drawing, alt: str = "") -> str:
    """Return a drawing as an SVG file of its own, in the light colours."""
    style = f"svg{{{css_variables(LIGHT)}background:var(--paper)}}{drawing_css()}"
    return svg(drawing, alt, "drawing", f"<style>{style}</style>")


def svg(drawing: Drawing, alt: str, key: str, style: str = "", over: str = "") -> str:
    """Return a drawing as an <svg> element that a screen reader names by its description.

    Args:
        drawing: the shapes.
        alt: what the drawing shows, in words.
        key: an id that is unique in the page.
        style: a <style> element, for an SVG file of its own.
        over: more of the picture's markup, above its shapes.
    """
    size = f'width="{_px(drawing.width)}" height="{_px(drawing.height)}"'
    box = f'viewBox="0 0 {_px(drawing.width)} {_px(drawing.height)}"'
    wide = " wide" if drawing.width > 560 else ""
    name = f'<title id="{key}-title">{xml(alt)}</title>' if alt else ""
    answers = any(isinstance(shape, Hint) for shape in drawing.shapes)  # a picture with parts that one can go to
    label = f' role="{"group" if answers else "img"}"' + (f' aria-labelledby="{key}-title"' if alt else "")
    shapes = "".join(_SHAPES[type(shape)](shape) for shape in drawing.shapes)
    plain = 'fill="none" stroke="currentColor"'  # where no style sheet is let in
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing{wide}" {size} {box} {plain}{label}>'
    return f"{head}{name}{style}{shapes}{over}</svg>"


def _px(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") if math.isfinite(number) else "0"


def _class(kind: str, role: str) -> str:
    words = "".join(f" role-{word}" for word in xml(role).split())
    return f'class="{kind}{words}"'


def _path(path: Path) -> str:
    if not path.points:
        return ""
    line = _curve(path.points) if path.curved else "L".join(f"{_px(x)} {_px(y)}" for x, y in path.points)
    width = f' stroke-width="{_px(path.width)}"'
    dash = DASHES.get(path.role)
    width += f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""
    drawn = f'<path {_class("stroke", path.role)}{width}{reference(path.ref)} d="M{line}"></path>'
    return drawn + (_head(path) if path.arrow and len(path.points) > 1 else "")


def _curve(points: Sequence[Point]) -> str:
    """Return a smooth line through the points: level at both ends, as edges between layers are drawn."""
    (x, y), parts = points[0], []
    for next_x, next_y in points[1:]:
        middle = (x + next_x) / 2
        parts.append(f"C{_px(middle)} {_px(y)} {_px(middle)} {_px(next_y)} {_px(next_x)} {_px(next_y)}")
        x, y = next_x, next_y
    return f"{_px(points[0][0])} {_px(points[0][1])}" + "".join(parts)


def _head(path: Path) -> str:
    (x0, y0), (x, y) = path.points[-2:]
    angle = 0.0 if path.curved and x > x0 else math.atan2(y - y0, x - x0)
    angle = math.pi if path.curved and x < x0 else angle
    size = 5 + 1.5 * path.width
    wings = [(x - size * math.cos(angle + turn), y - size * math.sin(angle + turn)) for turn in (0.42, -0.42)]
    corners = " ".join(f"{_px(a)},{_px(b)}" for a, b in [(x, y), *wings])
    return f'<polygon {_class("head", path.role)} points="{corners}"></polygon>'


def _rectangle(box: Rectangle) -> str:
    place = f'x="{_px(box.x)}" y="{_px(box.y)}" width="{_px(box.width)}" height="{_px(box.height)}"'
    return f'<rect {_class("shape", box.role)}{reference(box.ref)} {place} rx="{_px(box.radius)}"></rect>'


def _ellipse(ellipse: Ellipse) -> str:
    place = f'cx="{_px(ellipse.x)}" cy="{_px(ellipse.y)}" rx="{_px(ellipse.rx)}" ry="{_px(ellipse.ry)}"'
    return f"<ellipse {_class('shape', ellipse.role)}{reference(ellipse.ref)} {place}></ellipse>"


def _label(label: Label) -> str:
    place = f'x="{_px(label.x)}" y="{_px(label.y)}" dy=".35em" text-anchor="{label.anchor}"'
    ref = reference(label.ref or getattr(label.content, "ref", None))
    size = f'font-size="{_px(label.size)}" fill="currentColor" stroke="none"'
    return f"<text {_class('label', label.role)}{ref} {place} {size}>{_words(label.content)}</text>"


def _words(content: str | Expr) -> str:
    if isinstance(content, str):
        return xml(content)
    if isinstance(content, Sym) and not content.sup and not content.accent:
        return _scripted(content)
    shown = xml(text_of(content))
    return shown if is_numeric(content) else f'<tspan class="formula">{shown}</tspan>'


def _scripted(sym: Sym) -> str:
    name = f'<tspan class="letter">{xml(character(sym.name))}</tspan>'
    sub = ",".join(xml(character(part)) for part in sym.sub)
    return f'{name}<tspan dy=".3em" font-size="72%">{sub}</tspan>' if sub else name


def _hint(hint: Hint) -> str:
    """An area and the words that the style sheet shows while the pointer is on it or it has the focus."""
    lines = hint.said.split("\n")
    x, y = _px(hint.at[0]), _px(hint.at[1])
    words = "".join(f'<tspan x="{x}" dy="{1.3 if i else 0.35}em">{xml(line)}</tspan>' for i, line in enumerate(lines))
    area = f'<rect x="{_px(hint.x)}" y="{_px(hint.y)}" width="{_px(hint.width)}" height="{_px(hint.height)}"></rect>'
    name = f' tabindex="0" role="img" aria-label="{xml(", ".join(lines))}"' if hint.focus else ' aria-hidden="true"'
    text = f'<text class="label said" aria-hidden="true" x="{x}" y="{y}" font-size="12">{words}</text>'
    return f'<g class="hint"{name}>{area}{text}</g>'


def _pixels(picture: Pixels) -> str:
    place = f'x="{_px(picture.x)}" y="{_px(picture.y)}" width="{_px(picture.width)}" height="{_px(picture.height)}"'
    data = base64.b64encode(_png(picture.rows)).decode()
    how = 'preserveAspectRatio="none" image-rendering="pixelated"'
    return f'<image {place} {how} href="data:image/png;base64,{data}"></image>'


def _png(rows: Sequence[Sequence[int]]) -> bytes:
    """A grey PNG file with 8 bits for each pixel (ISO/IEC 15948)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


_SHAPES: dict[type[Shape], Callable[[Any], str]] = {
    Path: _path,
    Rectangle: _rectangle,
    Ellipse: _ellipse,
    Label: _label,
    Hint: _hint,
    Pixels: _pixels,
}


def drawing_css() -> str:
    """Return the style sheet of drawings: shapes and strokes, then a colour and a dash for each role."""
    rules = [asset("drawing.css")]
    for role in LIGHT:
        dash = f"stroke-dasharray:{' '.join(str(length) for length in DASHES[role])}" if role in DASHES else ""
        rules.append(f".stroke.role-{role}{{stroke:var(--{role});{dash}}}")
        rules.append(f".head.role-{role},.role-{role}.role-solid{{fill:var(--{role})}}")
        rules.append(f".stroke.role-area.role-{role}{{fill:var(--{role});fill-opacity:.16;stroke:none}}")
        rules.append(f".shape.role-{role}{{stroke:var(--{role})}}.label.role-{role}{{fill:var(--{role})}}")
    return "\n".join(rules)
