"""Receptive fields as a document: the table of layers, the way to the last field, pictures, tiles and inputs that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...document.blocks import Block, Callout, Document, Figure, Items, Paragraph, Section, Table
from ...document.math import Num
from ...domains.cells import seen_cells
from ...errors import BackproofError
from ...pictures.fields import Heat, Row, cone, heat
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

    blocks: list[Block] = [*field_blocks(found), *(Callout("note", (r,)) for r in found.remarks)]
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
    middle = tuple(n // 2 for n in row.output_size)
    names = list(dict.fromkeys(s.name for s in reversed(found.way(row.name, 0))))
    step = max(-(-len(names) // MOST_ROWS), 1)
    layers = [found[n] for n in dict.fromkeys([row.name, *names[::step]]) if found[n].is_local]
    rows = [drawn for layer in layers if (drawn := _cone_row(found, layer, row, middle))]
    seen_input = sorted(found.indices(row.name, middle, 0))
    if not rows or not seen_input:
        return []
    size = found.source.shape[2]
    reach = f"from {seen_input[0]} to {seen_input[-1]}"
    said = f"{found.source.name}: {len(seen_input)} of {size} indices seen, {reach}"
    rows.append(Row(found.source.name, tuple(map(float, seen_input)), f"{len(seen_input)} of {size}", said))
    words = (
        f"What the unit at {middle[0]} of {row.name} sees, layer by layer down to the input: {len(seen_input)} indices, "
        f"{reach}."
    )
    return [Figure(cone(rows, size), (words,), words)]


def _cone_row(found: ReceptiveField, layer: FieldLayer, top: FieldLayer, middle: tuple[int, ...]) -> Row | None:
    """The positions of one layer that the unit sees along the first axis, each over the centre of its own field."""
    track, node = layer.tracks[0], found.graph.by_name[layer.name]
    if track is None or layer.places is None or len(track.axes) != 1 or min(track.axes) < 2:
        return None
    if node.size > LARGEST_PICTURE:
        return None
    seen = [middle[0]]
    if layer.name != top.name:
        mask = seen_cells(found.graph, found.graph.by_name[top.name], [middle], node, top.places)[0]
        seen = sorted(set(mask.nonzero()[min(track.axes) - 2].tolist()))
    sets = [track.relation.at(p) for p in seen]
    places = tuple(s.low + (s.size - 1) / 2 for s in sets if s.mask)
    if not places:
        return None
    total = node.shape[min(track.axes)]
    reach = f"from {seen[0]} to {seen[-1]}" if len(seen) > 1 else f"at {seen[0]}"
    facts = f"field {layer.size[0]}, stride {layer.stride[0]}, padding {layer.padding[0]}"
    said = f"{layer.name}: {len(places)} of {total} positions seen, {reach}; {facts}"
    return Row(layer.name, tuple(sorted(places)), f"{len(places)} of {total}", said)


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
    return [words, table, *_heat(found, counted)]


def _heat(found: ReceptiveField, counted: Effective) -> list[Block]:
    counts = counted.paths
    if counts.ndim != 2:
        return []
    y, x = counts.nonzero()
    box = (int(y.min()), int(x.min()), int(y.max()), int(x.max()))
    grey = _picture_given(found)
    window = box if grey is None else _around(box, counts.shape)
    cell = -(-max(window[2] - window[0] + 1, window[3] - window[1] + 1) // MOST_SQUARES)
    binned = _binned(_cut(counts, window), cell)
    place = f"rows {box[0]} to {box[2]}, columns {box[1]} to {box[3]}"
    inner = " × ".join(f"{w} of {n}" for w, n in zip(counted.width, counted.size, strict=True))
    said = f"{counted.layer} at {list(counted.position)}: {place}; 95 % of the paths from {inner}"
    image = () if grey is None else _pixels(_cut(grey, window), binned.shape, cell)
    drawing = heat(Heat((binned / binned.max()).tolist(), (window[0], window[1]), box, cell, said, image))
    each = f", each square {cell}×{cell} cells," if cell > 1 else ""
    over = " Below it, the input that was given." if image else ""
    words = (
        f"How many paths lead from each cell of the input{each} to the unit at {list(counted.position)}; the area is the "
        f"share, the outline the theoretical field: {place}.{over}"
    )
    return [Figure(drawing, (words,), words)]


def _binned(counts: Any, cell: int) -> Any:
    """The sums over squares of ``cell`` by ``cell`` entries."""
    padded = np.pad(counts, [(0, -n % cell) for n in counts.shape])
    return padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).sum((1, 3))


def _cut(entries: Any, window: tuple[int, ...]) -> Any:
    """The part from the first to the last row and column of the window."""
    return entries[window[0] : window[2] + 1, window[1] : window[3] + 1]


def _around(box: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The field with as much of the picture around it as it is wide itself."""
    margins = [(box[2] - box[0] + 1), (box[3] - box[1] + 1)]
    first = [max(box[i] - margins[i], 0) for i in (0, 1)]
    last = [min(box[i + 2] + margins[i], shape[i] - 1) for i in (0, 1)]
    return (*first, *last)


def _picture_given(found: ReceptiveField) -> Any:
    """The given input, its channels averaged; None if it is no picture."""
    leaves = found.graph.origin.leaves() if hasattr(found.graph.origin, "leaves") else {}
    given = leaves.get(found.source.name)
    if given is None or given.is_complex():
        return None
    grey = given[0].detach().double().mean(0).cpu().numpy()
    return None if not np.isfinite(grey).all() or grey.min() == grey.max() or _is_noise(grey) else grey


def _pixels(grey: Any, squares: tuple[int, ...], cell: int) -> tuple[tuple[int, ...], ...]:
    """A picture as grey pixels, as large as the squares over it."""
    low, high = float(grey.min()), float(grey.max())
    whole = np.full((squares[0] * cell, squares[1] * cell), high)
    whole[: grey.shape[0], : grey.shape[1]] = grey
    return tuple(tuple(int(v) for v in row) for row in np.rint(255 * (whole - low) / (high - low or 1)))


def _is_noise(grey: Any) -> bool:
    """Whether neighbours differ as independent numbers do, whose mean squared difference is twice their variance."""
    steps = np.concatenate([np.diff(grey, axis=axis).ravel() for axis in (0, 1)])
    return bool(len(steps) and (steps**2).mean() > grey.var())


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
