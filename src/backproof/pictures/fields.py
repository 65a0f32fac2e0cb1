"""Pictures of receptive fields: the cone from one unit back to the input, and how much each cell of an image counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..document.drawing import Drawing, Label, Path, Rectangle, Shape

__all__ = ["Row", "cone", "heat"]

WIDTH, MARGIN, STEP, TOP = 460.0, 76.0, 50.0, 30.0
MOST_CELLS = 60


@dataclass(frozen=True)
class Row:
    """One layer of a cone.

    Args:
        name: of the layer.
        places: for each of its positions that the unit sees, where its own field is centred in the input.
        note: what stands on the right of it.
    """

    name: str
    places: tuple[float, ...]
    note: str


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
    return Drawing(WIDTH, TOP + len(rows) * STEP - 34, tuple(shapes))


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


def heat(
    shares: Sequence[Sequence[float]], origin: tuple[int, int], box: tuple[int, int, int, int], cell: int
) -> Drawing:
    """A square for each cell of the input, its area the cell's share; the outline is the theoretical field.

    Args:
        shares: rows of numbers from 0 to 1 (1 for the largest); cells of ``cell`` by ``cell`` entries of the input.
        origin: the row and column of the input at which they begin.
        box: first row, first column, last row, last column of the field in the input.
        cell: how many entries of the input a square stands for along each axis.
    """
    rows, columns = len(shares), len(shares[0])
    side = min(360 / max(rows, columns), 24)
    shapes: list[Shape] = []
    left, top = 56.0, 24.0
    for i, line in enumerate(shares):
        for j, share in enumerate(line):
            if share > 0:
                length = max(side * 0.94 * share**0.5, 0.9)
                corner = (left + (j + 0.5) * side - length / 2, top + (i + 0.5) * side - length / 2)
                shapes.append(Rectangle(*corner, length, length, 0, "series0 solid"))
    y0, x0, y1, x1 = ((v - origin[i % 2]) / cell * side for i, v in enumerate((box[0], box[1], box[2] + 1, box[3] + 1)))
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))
    shapes.append(Path(tuple((left + x, top + y) for x, y in corners), "series1", width=1.5))
    shapes += [
        Label(left + x0, top - 8, str(box[1]), "middle", 12),
        Label(left + x1, top - 8, str(box[3]), "middle", 12),
        Label(left - 8, top + y0 + 10, str(box[0]), "end", 12),
        Label(left - 8, top + y1, str(box[2]), "end", 12),
    ]
    return Drawing(left + columns * side + 24, top + rows * side + 16, tuple(shapes))
