"""What a unit can see: size, stride and padding of its receptive field, and exactly which cells of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Any

import torch

from ..document.blocks import Block, Callout, Document, Paragraph, Section, Table
from ..document.math import Num
from ..domains.boxes import Axis, Seen, boxes, seen_input
from ..domains.cells import seen_cells
from ..domains.positions import Digit, Track, promoted
from ..errors import InputError
from ..graph import Graph, Node
from ..result import Result
from .poison import poisoned
from .verdicts import Evidence, summary

__all__ = ["FieldLayer", "ReceptiveField", "fields_of", "receptive_field"]


@dataclass(frozen=True)
class FieldLayer:
    """The receptive field of one named value, one entry per spatial axis.

    Args:
        name, module: which value.
        output_size: how many positions it has.
        size: from the first to the last index seen, the largest over positions, borders apart; None where it is not
            known or all is seen.
        stride: how far the field moves from one position to the next (a fraction after upsampling).
        padding: how far the field of position 0 begins before the input.
        used: how many of the indices inside ``size`` are seen (dilation leaves gaps).
        sizes_by_phase: the sizes at successive positions, over one period.
        is_global: whether more than this, everything, is seen by another way.
        reason: what makes it global; "" if it is not.
    """

    name: str
    module: str
    output_size: tuple[int, ...]
    size: tuple[int | None, ...]
    stride: tuple[Fraction | None, ...]
    padding: tuple[int | None, ...]
    used: tuple[int | None, ...]
    sizes_by_phase: tuple[tuple[int, ...], ...]
    is_global: bool
    reason: str = ""
    tracks: tuple[Track | None, ...] = field(default=(), repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it has positions and sees nothing but a field of known size."""
        return bool(self.output_size) and not self.is_global and None not in self.size

    @property
    def places(self) -> list[tuple[Digit, ...]] | None:
        """Which indices of the tensor tell its positions apart; None for the axes from 2 on."""
        found = [track.digits for track in self.tracks if track is not None and track.digits]
        return found if len(found) == len(self.output_size) else None

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain data; a stride is a number, or text such as "1/2"."""
        return {
            "name": self.name,
            "module": self.module,
            "output_size": list(self.output_size),
            "size": list(self.size),
            "stride": [_plain(s) for s in self.stride],
            "padding": list(self.padding),
            "used": list(self.used),
            "sizes_by_phase": [list(s) for s in self.sizes_by_phase],
            "is_global": self.is_global,
            "reason": self.reason,
        }


def _plain(stride: Fraction | None) -> int | str | None:
    return None if stride is None else int(stride) if stride.denominator == 1 else str(stride)


@dataclass(frozen=True)
class ReceptiveField(Result):
    """The receptive fields of a network: ``layers`` in order; see :func:`receptive_field`."""

    title: str
    layers: tuple[FieldLayer, ...]
    graph: Graph = field(repr=False)
    source: Node = field(repr=False)
    evidence: tuple[Evidence, ...] = ()

    def __getitem__(self, name: str) -> FieldLayer:
        for layer in self.layers:
            if name in (layer.name, layer.module):
                return layer
        known = ", ".join(layer.name for layer in self.layers[:20])
        raise InputError(f"there is no layer '{name}'; known: {known}")

    @property
    def last(self) -> FieldLayer:
        """The last layer that still has positions."""
        return [layer for layer in self.layers if layer.output_size][-1]

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether a comparison disagrees."""
        return any(e.agrees is False for e in self.evidence)

    def indices(self, layer: str, position: int | tuple[int, ...], axis: int | None = None) -> frozenset[Any]:
        """Exactly which cells of the input one position of a layer sees, borders included.

        Args:
            layer: its name or module path.
            position: an index per spatial axis.
            axis: for the projection on one spatial axis, counted from 0.

        Returns:
            Whole numbers for one axis, else tuples.

        Raises:
            InputError: there is no such layer or position.
        """
        place = (position,) if isinstance(position, int) else tuple(position)
        row = self[layer]
        mask = seen_cells(self.graph, self.graph.by_name[row.name], [place], self.source, row.places)[0]
        found = mask.nonzero()
        if axis is not None:
            if not 0 <= axis < mask.ndim:
                raise InputError(f"spatial axes are counted from 0 to {mask.ndim - 1}, not {axis}")
            return frozenset(found[axis].tolist())
        if mask.ndim == 1:
            return frozenset(found[0].tolist())
        return frozenset(zip(*(f.tolist() for f in found), strict=True))

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record: a row per layer."""
        return {
            "model": self.title,
            "input_size": list(self.source.shape[2:]),
            "layers": [layer.to_dict() for layer in self.layers],
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The table of layers, what is global and why, and the evidence."""
        from .worked import evidence_section

        blocks: list[Block] = [
            Section("What each layer sees", (self._words(), self.table(), *self._global()), "result", "layers")
        ]
        if self.evidence:
            blocks.append(evidence_section(self.evidence))
        size = "×".join(map(str, self.source.shape[2:]))
        verdict = summary(self.evidence) if self.evidence else ""
        standing: Any = "finding" if self.finding else "agrees" if self.evidence else ""
        return Document(
            f"What the units of {self.title} see", tuple(blocks), f"input {size}", verdict, standing, self.to_dict()
        )

    def _words(self) -> Paragraph:
        return Paragraph(
            (
                "One entry per spatial axis. The size counts from the first to the last index that is seen, away from the "
                "borders; the stride says how far the field moves from one position to the next; the padding, how far the "
                "field of position 0 begins before the input.",
            )
        )

    def table(self) -> Table:
        """A row per layer."""
        columns = (("layer",), ("positions",), ("size",), ("stride",), ("padding",), ("of these seen",), ("global",))
        rows = tuple(_row(layer) for layer in self.layers)
        return Table(columns, rows, f"Receptive fields, {self.title}")

    def _global(self) -> list[Block]:
        reasons = list(dict.fromkeys(layer.reason for layer in self.layers if layer.is_global))
        return [Callout("note", (reason,), "Seen as a whole") for reason in reasons[:5]]


def _row(layer: FieldLayer) -> tuple[Any, ...]:
    used = layer.used if layer.used != layer.size else None
    return (
        layer.name,
        _axes(layer.output_size),
        _axes(layer.size),
        _axes(layer.stride),
        _axes(layer.padding),
        _axes(used) if used is not None else None,
        "yes" if layer.is_global else None,
    )


def _axes(values: tuple[Any, ...]) -> Any:
    if not values:
        return None
    if len(set(values)) == 1 and isinstance(values[0], int):
        return Num(values[0])
    return " × ".join("?" if v is None else str(v) for v in (values if len(set(values)) > 1 else values[:1]))


# --- the study --------------------------------------------------------------------------------------------------------------
def receptive_field(model: Any, *inputs_or_shape: Any, evidence: bool = True) -> ReceptiveField:
    """The receptive field of every layer of a network.

    Size, stride and padding follow from exact relations between indices: branches, dilation, upsampling and asymmetric
    padding included. They are confirmed by poisoning: a NaN in the input makes exactly those units NaN that see it.

    Args:
        model: an nn.Module or a captured Graph. Batch norm in training sees the whole batch; call ``.eval()`` first for
            what a unit sees at inference.
        *inputs_or_shape: example inputs, or one shape such as (1, 3, 224, 224): samples, channels, then one to three
            spatial axes.
        evidence: whether to confirm the field of the last local layer, at its middle position.

    Raises:
        InputError, CaptureError, MissingRule: there is no input with spatial axes, or an operation is not known.

    Example:
        >>> import torch, backproof as bp
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5, padding=2), torch.nn.Conv2d(4, 4, 3, stride=2))
        >>> bp.receptive_field(net, (1, 1, 20, 20)).last.size
        (7, 7)
    """
    graph = _captured(model, inputs_or_shape)
    source = _source(graph)
    layers = fields_of(graph, source)
    if not any(layer.output_size for layer in layers):
        raise InputError("no layer of the network has positions; give an input with spatial axes, as 1x3x64x64")
    found = ReceptiveField(graph.title, layers, graph, source)
    return replace(found, evidence=poisoned(found)) if evidence else found


def _captured(model: Any, given: tuple[Any, ...]) -> Graph:
    from ..capturing import capture

    return model if isinstance(model, Graph) else capture(model, *_inputs(given))


def _inputs(given: tuple[Any, ...]) -> tuple[Any, ...]:
    if not given:
        raise InputError("receptive_field needs an input or its shape, as in bp.receptive_field(model, (1, 3, 64, 64))")
    if all(isinstance(n, int) for n in given):
        given = (given,)
    return tuple(_input(x) for x in given)


def _input(value: Any) -> Any:
    shape = isinstance(value, (tuple, list, torch.Size)) and all(isinstance(n, int) and n > 0 for n in value)
    if not shape:
        return value
    total = 1
    for n in value:
        total *= n
    if total > 10**9:
        raise InputError(f"an input of shape {list(value)} has {total:,} entries; give a smaller one")
    return torch.zeros(*value)


def _source(graph: Graph) -> Node:
    for node in graph.of_role("input"):
        if len(node.shape) >= 3 and node.is_float:
            return node
    raise InputError("the network has no input with spatial axes: samples, channels, then one to three axes")


def fields_of(graph: Graph, source: Node) -> tuple[FieldLayer, ...]:
    """The receptive field of every named value that depends on the input."""
    leaves: dict[Node, Seen | None] = {n: None for n in graph.nodes if n.is_leaf}
    leaves[source] = seen_input(source.shape)
    values: Mapping[Node, Seen | None] = boxes.run(graph, leaves)
    named = [n for n in graph.nodes if n.role == "value" and not n.is_leaf]
    return tuple(_layer(n, seen, source) for n in named if (seen := values[n]) is not None)


def _layer(node: Node, seen: Seen, source: Node) -> FieldLayer:
    reasons = list(dict.fromkeys(r for axis in seen for r in axis.reasons))
    told = [_told(node, axis, [a for a in seen if a is not axis]) for axis in seen]
    plain = len(node.shape) == len(source.shape)
    sizes = [axis_size(track) for track in told if track is not None and track.digits]
    if len(sizes) < len(told):
        sizes = list(node.shape[2:]) if plain else []
    return FieldLayer(
        node.name,
        node.module,
        tuple(sizes),
        tuple(_of(track, "size") for track in told),
        tuple(_of(track, "stride") for track in told),
        tuple(_of(track, "padding") for track in told),
        tuple(_of(track, "used") for track in told),
        tuple(track.relation.sizes if track is not None else () for track in told),
        bool(reasons),
        "; ".join(reasons),
        tuple(told),
    )


def _told(node: Node, axis: Axis, others: Sequence[Axis]) -> Track | None:
    """The axis by the index along one axis of the tensor, where it has one to itself; else by its digits."""
    if len(axis.tracks) != 1:
        return None
    (track,) = axis.tracks
    shared = {i for other in others for t in other.tracks for i in t.axes}
    if len(track.axes) == 1 and not track.axes & shared:
        (at,) = track.axes
        return promoted(track, at, node.shape[at]) or track
    return track


def axis_size(track: Track) -> int:
    """How many positions the digits of a track tell apart."""
    return prod(d.size for d in track.digits)


def _of(track: Track | None, what: str) -> Any:
    return None if track is None else getattr(track.relation, what)
