"""Receptive fields as a document: the table of layers, the way to the last field, pictures, tiles and inputs that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...document.blocks import Block, Callout, Document, Figure, Items, Paragraph, Section, Table
from ...document.math import Num
from ...domains.cells import seen_cells
from ...errors import BackproofError
from ...pictures.fields import Row, cone, heat
from ..caveats import caveats
from ..verdicts import summary

if TYPE_CHECKING:
    from .effective import Effective
    from .receptive import FieldLayer, ReceptiveField

__all__ = ["field_blocks", "field_document", "field_facts", "layers_table", "table_of", "way_blocks"]

MOST_ROWS, MOST_SQUARES = 9, 40
LARGEST_PICTURE = 2_000_000


def field_facts(found: ReceptiveField) -> dict[str, Any]:
    """What belongs to the network as a whole, as plain data: halo, inputs that fit, unproductive layers."""
    halo = [h.to_dict() for h in found.halo] if found.tiles else None
    try:
        valid: Any = [v.to_dict() for v in found.valid_inputs]
        smallest: Any = list(found.minimum_input)
    except BackproofError:
        valid = smallest = None
    return {"halo": halo, "minimum_input": smallest, "valid_inputs": valid, "unproductive": list(found.unproductive())}


def field_document(found: ReceptiveField) -> Document:
    """Everything about the fields of a network."""
    from ..writing.worked import evidence_section

    blocks: list[Block] = [*field_blocks(found), *(Callout("note", (r,)) for r in caveats(found.graph))]
    if found.evidence:
        blocks.append(evidence_section(found.evidence))
    size = "×".join(map(str, found.source.shape[2:]))
    verdict = summary(found.evidence) if found.evidence else ""
    standing: Any = "finding" if found.finding else "agrees" if found.evidence else ""
    title = f"What the units of {found.title} see"
    return Document(title, tuple(blocks), f"input {size}", verdict, standing, found.to_dict())


def field_blocks(found: ReceptiveField) -> list[Block]:
    """The sections without the evidence."""
    blocks: list[Block] = [
        Section("What each layer sees", (_words(), found.table(), *_global(found)), "result", "layers")
    ]
    local = [layer for layer in found.layers if layer.is_local]
    if local:
        row = local[-1]
        shown = [*way_blocks(found, row), *_effective(found, row)]
        if shown:
            blocks.append(Section(f"How {row.name} comes to see so much", tuple(shown), "forward", "way"))
    blocks.append(Section("Inputs that fit, and tiles", tuple(_uses(found)), "result", "uses"))
    return blocks


def _words() -> Paragraph:
    return Paragraph(
        (
            "One entry per spatial axis. The size counts from the first to the last index that is seen, away from the "
            "borders; the stride says how far the field moves from one position to the next; the padding, how far the "
            "field of position 0 begins before the input.",
        )
    )


def layers_table(found: ReceptiveField) -> Table:
    """A row per layer."""
    return table_of(found.layers, f"Receptive fields, {found.title}")


def table_of(layers: Sequence[FieldLayer], caption: str) -> Table:
    """A row for each of some layers."""
    columns = (("layer",), ("positions",), ("size",), ("stride",), ("padding",), ("of these seen",), ("global",))
    return Table(columns, tuple(_row(layer) for layer in layers), caption)


def _row(layer: FieldLayer) -> tuple[Any, ...]:
    used = layer.used if layer.used != layer.size else None
    return (
        layer.name,
        _axes(layer.output_size),
        _axes(tuple(_sizes(layer, i) for i in range(len(layer.size)))),
        _axes(layer.stride),
        _axes(layer.padding),
        _axes(used) if used is not None else None,
        "yes" if layer.is_global else None,
    )


def _sizes(layer: FieldLayer, axis: int) -> Any:
    """The size, or both where it depends on the position."""
    phases = sorted(set(layer.sizes_by_phase[axis])) if layer.sizes_by_phase[axis] else []
    return layer.size[axis] if len(phases) < 2 else f"{phases[0]} to {phases[-1]}"


def _axes(values: tuple[Any, ...]) -> Any:
    if not values:
        return None
    if len(set(values)) == 1 and isinstance(values[0], int):
        return Num(values[0])
    return " × ".join("?" if v is None else str(v) for v in (values if len(set(values)) > 1 else values[:1]))


def _global(found: ReceptiveField) -> list[Block]:
    reasons = list(dict.fromkeys(layer.reason for layer in found.layers if layer.is_global))
    return [Callout("note", (reason,), "Seen as a whole") for reason in reasons[:5]]


# --- the way there --------------------------------------------------------------------------------------------------------
def way_blocks(found: ReceptiveField, row: FieldLayer) -> list[Block]:
    """How a layer's field comes about: the widest way as a table, and the cone from its middle unit to the input."""
    return [*_way(found, row), *_cone(found, row)]


def _way(found: ReceptiveField, row: FieldLayer) -> list[Block]:
    blocks: list[Block] = []
    for axis in range(len(row.size)):
        steps = found.way(row.name, axis)
        if axis and steps == found.way(row.name, 0):
            continue
        rows = tuple(
            (s.name, Num(s.kernel), Num(s.dilation), Num(s.stride), str(s.jump), Num(s.growth), Num(s.size))
            for s in steps
        )
        heads = ("layer", "kernel", "dilation", "stride", "jump before", "adds", "field")
        caption = "The widest way from the input: each layer adds (kernel - 1) · dilation · jump"
        axis_words = f", axis {axis}" if len(row.size) > 1 and axis else ""
        if rows:
            blocks.append(Table(tuple((h,) for h in heads), rows, caption + axis_words, (1, 2, 3, 5, 6)))
    return blocks


def _cone(found: ReceptiveField, row: FieldLayer) -> list[Block]:
    """The cone of the middle unit along the first axis."""
    graph, target = found.graph, found.graph.by_name[row.name]
    middle = tuple(n // 2 for n in row.output_size)
    names = list(dict.fromkeys(s.name for s in reversed(found.way(row.name, 0))))
    step = max(-(-len(names) // MOST_ROWS), 1)
    nodes = [n for n in dict.fromkeys([row.name, *names[::step]]) if found[n].is_local]
    rows = []
    for name in nodes:
        layer, node = found[name], graph.by_name[name]
        track = layer.tracks[0]
        if (
            track is None
            or layer.places is None
            or len(track.axes) != 1
            or min(track.axes) < 2
            or node.size > LARGEST_PICTURE
        ):
            continue
        if node is target:
            seen = [middle[0]]
        else:
            mask = seen_cells(graph, target, [middle], node, row.places)[0]
            seen = mask.nonzero()[min(track.axes) - 2].tolist()
        sets = [track.relation.at(p) for p in sorted(set(seen))]
        places = tuple(s.low + (s.size - 1) / 2 for s in sets if s.mask)
        if places:
            rows.append(Row(name, tuple(sorted(places)), f"{len(places)} of {node.shape[min(track.axes)]}"))
    seen_input = sorted(found.indices(row.name, middle, 0))
    if not rows or not seen_input:
        return []
    size = found.source.shape[2]
    rows.append(Row(found.source.name, tuple(float(i) for i in seen_input), f"{len(seen_input)} of {size}"))
    words = (
        f"What the unit at {middle[0]} of {row.name} sees, layer by layer down to the input: {len(seen_input)} indices, "
        f"from {seen_input[0]} to {seen_input[-1]}."
    )
    return [Figure(cone(rows, size), (words,), words)]


# --- what counts ----------------------------------------------------------------------------------------------------------
def _effective(found: ReceptiveField, row: FieldLayer) -> list[Block]:
    node = found.graph.by_name[row.name]
    if max(node.size, found.source.size) > LARGEST_PICTURE:
        return []
    counted = found.effective(row.name)
    if not counted.paths.any():
        return []
    heads = (
        ("axis",),
        ("theoretical",),
        ("95 % of the paths",),
        ("95 % of the gradient",),
        ("deviation of the paths",),
    )
    measured = counted.gradient_width
    rows = tuple(
        (Num(i), Num(n), Num(w), Num(measured[i]) if measured else None, Num(round(d, 2)))
        for i, (n, w, d) in enumerate(zip(counted.size, counted.width, counted.deviation, strict=True))
    )
    words = Paragraph(
        (
            "Not all that is seen counts alike: most paths from the input to a unit begin near the middle of its field. The "
            "gradient is measured with the present parameters on random inputs.",
        )
    )
    table = Table(heads, rows, f"The effective field of {row.name} at {list(counted.position)}", (0, 1, 2, 3, 4))
    return [words, table, *_heat(counted)]


def _heat(counted: Effective) -> list[Block]:
    counts = counted.paths
    if counts.ndim != 2:
        return []
    y, x = counts.nonzero()
    box = (int(y.min()), int(x.min()), int(y.max()), int(x.max()))
    cell = -(-max(box[2] - box[0] + 1, box[3] - box[1] + 1) // MOST_SQUARES)
    cut = counts[box[0] : box[2] + 1, box[1] : box[3] + 1]
    padded = np.pad(cut, [(0, -n % cell) for n in cut.shape])
    binned = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).sum((1, 3))
    drawing = heat((binned / binned.max()).tolist(), (box[0], box[1]), box, cell)
    each = f", each square {cell}×{cell} cells," if cell > 1 else ""
    words = (
        f"How many paths lead from each cell of the input{each} to the unit at {list(counted.position)}; the area is the "
        f"share, the outline the theoretical field: rows {box[0]} to {box[2]}, columns {box[1]} to {box[3]}."
    )
    return [Figure(drawing, (words,), words)]


# --- inputs and tiles -------------------------------------------------------------------------------------------------------
def _uses(found: ReceptiveField) -> list[Block]:
    items: list[tuple[Any, ...]] = []
    try:
        for axis, fit in enumerate(found.valid_inputs):
            below = f" One less fails in {fit.failing}." if fit.failing else ""
            items.append((f"Axis {axis}: the network runs on inputs of size {fit}.{below}",))
    except BackproofError as error:
        items.append((str(error),))
    if found.tiles:
        for axis, halo in enumerate(found.halo):
            items.append(
                (
                    f"Axis {axis}: a tile of the input needs {halo.before} before it and {halo.after} after it, and begins at a "
                    f"multiple of {halo.grid}.",
                )
            )
    elif found.last.reason:
        items.append((f"Tiles would not give what the whole gives: {found.last.reason}.",))
    if idle := found.unproductive():
        items.append((f"Layers whose input already sees everything on every way: {', '.join(idle[:12])}.",))
    return [Items(tuple(items))]
