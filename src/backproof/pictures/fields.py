"""Pictures of receptive fields: the cone from one unit back to the input, and how much each cell of an image counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..document.drawing import Drawing, Hint, Label, Path, Pixels, Rectangle, Shape

__all__ = ["Heat", "Row", "cone", "heat"]

WIDTH, MARGIN, STEP, TOP = 460.0, 76.0, 50.0, 30.0
MOST_CELLS = 60


@dataclass(frozen=True)
class Row:
    """One layer of a cone.

    Args:
        name: of the layer.
        places: for each of its positions that the unit sees, where its own field is centred in the input.
        note: what stands on the right of it.
        said: what the pointer or the keyboard brings up for it.
    """

    name: str
    places: tuple[float, ...]
    note: str
    said: str = ""


def cone(rows: Sequence[Row], size: int) -> Drawing:
    """Layers from the input (below) to one unit (on top); each cell that the unit sees stands over its field's centre.

    Args:
        rows: from the unit down to the input.
        size: how many indices the input has along the axis.
    """
    seen = [p for row in rows for p in row.places]
    low, high = max(min(seen) - 2, -1), min(max(seen) + 2, size)
    unit = (WIDTH - 2 * MARGIN) / max(high - low, 1)
    shapes: list[Shape] = []
    for i, (row, below) in enumerate(pairwise(rows)):
        shapes += _lines(row, below, TOP + i * STEP, low, unit)
    for i, row in enumerate(rows):
        shapes += _cells(row, TOP + i * STEP, low, unit, first=i == 0)
    foot = TOP + len(rows) * STEP - 20
    shapes += [_row_hint(row, TOP + i * STEP, foot) for i, row in enumerate(rows) if row.said]
    answers = any(row.said for row in rows)
    return Drawing(WIDTH, foot + (20 if answers else -14), tuple(shapes))


def _row_hint(row: Row, y: float, foot: float) -> Hint:
    return Hint(0, y - 22, WIDTH, 32, row.said, (2, foot))


def _x(place: float, low: float, unit: float) -> float:
    return MARGIN + (place - low) * unit


def _lines(row: Row, below: Row, y: float, low: float, unit: float) -> list[Shape]:
    """From the outermost cells of a layer to the outermost ones of the layer below: the edge of the cone."""
    ends = ((row.places[0], below.places[0]), (row.places[-1], below.places[-1]))
    return [Path(((_x(a, low, unit), y), (_x(b, low, unit), y + STEP)), "series0", width=1.2) for a, b in ends]


def _cells(row: Row, y: float, low: float, unit: float, first: bool) -> list[Shape]:
    role = "series1 solid" if first else "series0 solid"
    shapes: list[Shape] = [
        Label(2, y - 13, row.name, "start", 12),
        Label(WIDTH - 2, y - 13, row.note, "end", 12),
    ]
    if len(row.places) > MOST_CELLS:
        start, end = _x(row.places[0], low, unit), _x(row.places[-1], low, unit)
        return [*shapes, Rectangle(start, y - 4, end - start, 8, 2, role)]
    side = max(min(unit * 0.7, 9), 2)
    return [*shapes, *(Rectangle(_x(p, low, unit) - side / 2, y - side / 2, side, side, 1, role) for p in row.places)]


@dataclass(frozen=True)
class Heat:
    """How much each cell of an input counts for one unit, binned.

    Args:
        shares: rows of numbers from 0 to 1 (1 for the largest); cells of ``cell`` by ``cell`` entries of the input.
        origin: the row and column of the input at which they begin.
        box: first row, first column, last row, last column of the field in the input.
        cell: how many entries of the input a square stands for along each axis.
        said: what the pointer or the keyboard brings up for the field as a whole.
        image: the same part of the input as grey pixels, from 0 to 255; empty for none.
    """

    shares: Sequence[Sequence[float]]
    origin: tuple[int, int]
    box: tuple[int, int, int, int]
    cell: int
    said: str = ""
    image: tuple[tuple[int, ...], ...] = ()

    @property
    def side(self) -> float:
        """The side of a square in the drawing."""
        return min(360 / max(len(self.shares), len(self.shares[0])), 24)


LEFT, ABOVE = 56.0, 24.0


def heat(counted: Heat) -> Drawing:
    """A square for each cell of the input, its area the cell's share; the outline is the theoretical field."""
    rows, columns, side = len(counted.shares), len(counted.shares[0]), counted.side
    foot = ABOVE + rows * side + 20
    hints = [_field_hint(counted, foot), *_square_hints(counted, foot)] if counted.said else []
    picture = [Pixels(LEFT, ABOVE, columns * side, rows * side, counted.image)] if counted.image else []
    shapes = (*picture, *_squares(counted), *_outline(counted), *hints)
    return Drawing(max(LEFT + columns * side + 24, 420 if hints else 0), foot + (16 if hints else -4), shapes)


def _corner(counted: Heat, i: int, j: int) -> tuple[float, float]:
    return LEFT + j * counted.side, ABOVE + i * counted.side


def _squares(counted: Heat) -> list[Shape]:
    found: list[Shape] = []
    # over a picture smaller squares, in a colour that stands out from grey
    role, most = ("backward solid", 0.62) if counted.image else ("series0 solid", 0.94)
    for i, line in enumerate(counted.shares):
        for j, share in enumerate(line):
            if share > 0:
                length = max(counted.side * most * share**0.5, 0.9)
                x, y = (v + (counted.side - length) / 2 for v in _corner(counted, i, j))
                found.append(Rectangle(x, y, length, length, 0, role))
    return found


def _edges(counted: Heat) -> tuple[float, float, float, float]:
    """The field's first and last rows and columns in the drawing: left, top, right, bottom."""
    top, left, bottom, right = counted.box
    (row, column), scale = counted.origin, counted.side / counted.cell
    return (
        LEFT + (left - column) * scale,
        ABOVE + (top - row) * scale,
        LEFT + (right + 1 - column) * scale,
        ABOVE + (bottom + 1 - row) * scale,
    )


def _outline(counted: Heat) -> list[Shape]:
    x0, y0, x1, y1 = _edges(counted)
    top, left, bottom, right = counted.box
    return [
        Path(((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)), "series1", width=1.5),
        Label(x0, ABOVE - 8, str(left), "middle", 12),
        Label(x1, ABOVE - 8, str(right), "middle", 12),
        Label(LEFT - 8, y0 + 10, str(top), "end", 12),
        Label(LEFT - 8, y1, str(bottom), "end", 12),
    ]


def _field_hint(counted: Heat, foot: float) -> Hint:
    x0, y0, x1, y1 = _edges(counted)
    return Hint(x0, y0, x1 - x0, y1 - y0, counted.said, (2, foot))


def _square_hints(counted: Heat, foot: float) -> list[Shape]:
    total = sum(map(sum, counted.shares))
    found: list[Shape] = []
    for i, line in enumerate(counted.shares):
        for j, share in enumerate(line):
            if share > 0:
                row, column = counted.origin[0] + i * counted.cell, counted.origin[1] + j * counted.cell
                words = f"{_span('row', row, counted.cell)}, {_span('column', column, counted.cell)}: "
                said = words + f"{100 * share / total:.3g} % of all paths"
                side = counted.side
                found.append(Hint(*_corner(counted, i, j), side, side, said, (2, foot), focus=False))
    return found


def _span(name: str, first: int, count: int) -> str:
    return f"{name} {first}" if count == 1 else f"{name}s {first} to {first + count - 1}"
