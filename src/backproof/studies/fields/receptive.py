"""What a unit can see: size, stride and padding of its receptive field, and exactly which cells of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

import torch

from ...document.blocks import Document, Table
from ...domains.boxes import Axis, Seen
from ...domains.cells import seen_cells, seen_channels
from ...domains.positions import Digit, Track, promoted
from ...errors import InputError
from ...graph import Graph, Node
from ...result import Result
from ..caveats import caveats
from ..verdicts import Evidence
from .effective import Effective, effective
from .gradients import by_gradient
from .page import field_document, field_facts, layers_table
from .poison import poisoned
from .uses import Fits, Halo, alignment, fits, halo_evidence, halo_of
from .way import Change, Step, changes, read_fields, unproductive, way

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
    values: Mapping[Node, Seen | None] = field(default_factory=dict, repr=False)
    evidence: tuple[Evidence, ...] = ()

    def __getitem__(self, name: str) -> FieldLayer:
        for layer in self.layers:
            if name == layer.name:
                return layer
        within = [layer for layer in self.layers if name == layer.module]
        if within:
            return within[-1]
        known = ", ".join(layer.name for layer in self.layers[:20])
        raise InputError(f"there is no layer '{name}'; known: {known}")

    @property
    def last(self) -> FieldLayer:
        """The last layer that still has positions."""
        return [layer for layer in self.layers if layer.output_size][-1]

    @property
    def sizes_by_phase(self) -> tuple[tuple[int, ...], ...]:
        """Of the last layer: per axis the sizes at successive positions, over one period."""
        return self.last.sizes_by_phase

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether a comparison disagrees."""
        return any(e.agrees is False for e in self.evidence)

    def indices(
        self,
        layer: str,
        position: int | tuple[int, ...],
        axis: int | None = None,
        channel: int | None = None,
        zeros: bool = False,
    ) -> frozenset[Any]:
        """Exactly which cells of the input one position of a layer sees, borders included.

        Args:
            layer: its name or module path.
            position: an index per spatial axis.
            axis: for the projection on one spatial axis, counted from 0.
            channel: one channel of the layer (groups make them differ); all by default.
            zeros: whether weights of convolutions that are exactly zero at present (a mask's) let nothing through.

        Returns:
            Whole numbers for one axis, else tuples.

        Raises:
            InputError: there is no such layer or position.
        """
        row = self[layer]
        node = self.graph.by_name[row.name]
        self._channel(node, channel)
        kernels = kernels_of(self.graph) if zeros else None
        mask = seen_cells(self.graph, node, [_position(position)], self.source, row.places, channel, kernels)[0]
        found = mask.nonzero()
        if axis is not None:
            if not 0 <= axis < mask.ndim:
                raise InputError(f"spatial axes are counted from 0 to {mask.ndim - 1}, not {axis}")
            return frozenset(found[axis].tolist())
        if mask.ndim == 1:
            return frozenset(found[0].tolist())
        return frozenset(zip(*(f.tolist() for f in found), strict=True))

    def channels(self, layer: str, channel: int) -> frozenset[int]:
        """Which channels of the input one channel of a layer sees, at its middle position."""
        row = self[layer]
        node = self.graph.by_name[row.name]
        self._channel(node, channel)
        middle = tuple(n // 2 for n in row.output_size)
        return frozenset(seen_channels(self.graph, node, middle, self.source, row.places, channel))

    def _channel(self, node: Node, channel: int | None) -> None:
        if channel is not None and not (len(node.shape) > 1 and 0 <= channel < node.shape[1]):
            raise InputError(f"{node.name} {list(node.shape)} has no channel {channel!r}")

    def between(self, before: str, after: str) -> FieldLayer:
        """The field of one layer in another layer before it, instead of in the input.

        Args:
            before: the layer whose positions are seen; it has samples, channels and spatial axes.
            after: the layer that sees.

        Raises:
            InputError: there is no such layer, or ``after`` does not depend on ``before``.
        """
        source, target = (self.graph.by_name[self[name].name] for name in (before, after))
        if len(source.shape) < 3:
            raise InputError(f"{source.name} {list(source.shape)} has no spatial axes from the third on")
        seen = read_fields(self.graph, source).get(target)
        order = self.graph.nodes
        if seen is None or order.index(target) <= order.index(source):
            raise InputError(f"{target.name} does not depend on {source.name}")
        return _layer(target, seen, source)

    def way(self, layer: str | None = None, axis: int = 0) -> tuple[Step, ...]:
        """How the field of a layer (the last local one by default) comes about: its steps on the widest way."""
        return way(self.values, self._node(layer), self._axis(axis))

    def unproductive(self) -> tuple[str, ...]:
        """The layers whose input already sees all there is on its narrowest way, so that their windows add nothing."""
        return unproductive(self.graph, self.values, self.source)

    def reaching(self, size: int, layer: str | None = None, axis: int = 0) -> tuple[Change, ...]:
        """The least change of one kernel, dilation or stride that makes a field at least so large, each confirmed."""
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 10**6:
            raise InputError(f"a field has a size from 1 to 10^6, not {size!r}")
        return changes(self.graph, self.values, self.source, self._node(layer), self._axis(axis), size)

    def effective(self, layer: str | None = None, position: int | tuple[int, ...] | None = None) -> Effective:
        """How much each cell that a unit sees counts: paths counted, the gradient measured; by default a middle unit."""
        row = self[layer] if layer else self._local()
        place = tuple(n // 2 for n in row.output_size) if position is None else _position(position)
        return effective(self, row, place)

    @cached_property
    def valid_inputs(self) -> tuple[Fits, ...]:
        """Per spatial axis the input sizes on which the network runs, the other axes as given."""
        return tuple(fits(self.graph, self.source, i, self._grid(i)) for i in range(len(self.source.shape) - 2))

    @property
    def minimum_input(self) -> tuple[int | None, ...]:
        """Per spatial axis the smallest input on which the network runs; ``valid_inputs`` names what fails below it."""
        return tuple(found.minimum for found in self.valid_inputs)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know: how it was captured, and whether fields are larger than the input."""
        return (*caveats(self.graph), *self._beyond())

    def _beyond(self) -> list[str]:
        """Sizes belong to an input that is large enough; from which layer on this one is not."""
        there = self.source.shape[2:]
        for layer in self.layers:
            sizes = zip(layer.size, there, strict=False)
            if any(size is not None and size > n for size, n in sizes):
                size, shape = ("×".join(map(str, x)) for x in (layer.size, there))
                return [
                    f"From {layer.name} on the field ({size}) is larger than the input ({shape}): sizes are those in a large "
                    "enough input, and a unit sees at most all of this one. Exactly which cells, `indices` says."
                ]
        return []

    @property
    def tiles(self) -> bool:
        """Whether the last layer with positions can be computed tile by tile."""
        return self.last.is_local and all(stride is not None and stride > 0 for stride in self.last.stride)

    @property
    def halo(self) -> tuple[Halo, ...]:
        """Per spatial axis what a tile of the input needs around it, for the last layer with positions.

        Raises:
            InputError: something makes the field global; the message names it.
        """
        row = self.last
        if not row.is_local:
            raise InputError(f"{row.name} can't be computed in tiles: {row.reason or 'its field has no known size'}")
        return tuple(halo_of(t, self._grid(i)) for i, t in enumerate(row.tracks) if t is not None)

    def _grid(self, axis: int) -> int:
        return alignment(self.values, axis)

    def _local(self) -> FieldLayer:
        local = [layer for layer in self.layers if layer.is_local]
        if not local:
            raise InputError("no layer of the network has a field of a known size")
        return local[-1]

    def _node(self, layer: str | None) -> Node:
        return self.graph.by_name[(self[layer] if layer else self._local()).name]

    def _axis(self, axis: int) -> int:
        if not 0 <= axis < len(self.source.shape) - 2:
            raise InputError(f"spatial axes are counted from 0 to {len(self.source.shape) - 3}, not {axis}")
        return axis

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record: a row per layer."""
        return {
            "model": self.title,
            "input_size": list(self.source.shape[2:]),
            "layers": [layer.to_dict() for layer in self.layers],
            **field_facts(self),
            "remarks": list(self.remarks),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The table of layers, the way there, the picture, what is global and why, tiles and inputs, and the evidence."""
        return field_document(self)

    def table(self) -> Table:
        """A row per layer."""
        return layers_table(self)


def kernels_of(graph: Graph) -> dict[Node, Any]:
    """Where the present kernels of convolutions are not zero; of a product with a mask too."""
    leaves = graph.origin.leaves() if hasattr(graph.origin, "leaves") else {}

    def values(node: Node) -> Any:
        if node.op.name == "mul":
            a, b = (values(x) for x in node.inputs)
            return None if a is None or b is None else a * b
        return node.value if isinstance(node.value, torch.Tensor) else leaves.get(node.name)

    found = {node: values(node.inputs[1]) for node in graph.nodes if node.op.name == "conv"}
    return {node: (value != 0).cpu().numpy() for node, value in found.items() if value is not None}


def _position(position: int | tuple[int, ...]) -> tuple[int, ...]:
    found = (position,) if isinstance(position, int) else tuple(position)
    if any(isinstance(p, bool) or not isinstance(p, int) for p in found):
        raise InputError(f"a position is a whole number per spatial axis, not {position!r}")
    return found


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
        evidence: whether to confirm the fields of some local layers, the last among them, by running the program.

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
    values = read_fields(graph, source)
    layers = fields_of(graph, source, values)
    if not any(layer.output_size for layer in layers):
        raise InputError("no layer of the network has positions; give an input with spatial axes, as 1x3x64x64")
    found = ReceptiveField(graph.title, layers, graph, source, values)
    return (
        replace(found, evidence=(*poisoned(found), *by_gradient(found), *halo_evidence(found))) if evidence else found
    )


def _captured(model: Any, given: tuple[Any, ...]) -> Graph:
    from ...capturing import capture

    return model if isinstance(model, Graph) else capture(model, *_inputs(model, given))


def _inputs(model: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    if not given:
        raise InputError("receptive_field needs an input or its shape, as in bp.receptive_field(model, (1, 3, 64, 64))")
    if all(isinstance(n, int) for n in given):
        given = (given,)
    tensors = model.parameters() if isinstance(model, torch.nn.Module) else ()
    like = next((p for p in tensors if p.is_floating_point()), torch.zeros(()))
    return tuple(_input(x, like) for x in given)


def _input(value: Any, like: torch.Tensor) -> Any:
    """An example input; for a shape, zeros of the model's dtype on its device."""
    if not isinstance(value, (tuple, list, torch.Size)) or not all(isinstance(n, int) for n in value):
        return value
    if not value or min(value) < 1:
        raise InputError(f"a shape has sizes from 1 on, not {list(value)}")
    total = 1
    for n in value:
        total *= n
    if total > 10**8:
        raise InputError(f"an input of shape {list(value)} has {total:,} entries; give a smaller one")
    return torch.zeros(*value, dtype=like.dtype, device=like.device)


def _source(graph: Graph) -> Node:
    for node in graph.of_role("input"):
        if len(node.shape) >= 3 and node.is_float:
            return node
    raise InputError("the network has no input with spatial axes: samples, channels, then one to three axes")


def fields_of(graph: Graph, source: Node, values: Mapping[Node, Seen | None]) -> tuple[FieldLayer, ...]:
    """The receptive field of every named value that depends on the input."""
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
    top = track.digits[0] if track.digits else None
    if top is not None and len(track.axes) == 1 and not track.axes & shared:
        (at,) = track.axes
        if top.below * top.size != node.shape[at]:
            return track
        return promoted(track, at, node.shape[at]) or track
    return track


def axis_size(track: Track) -> int:
    """How many positions the digits of a track tell apart."""
    return prod(d.size for d in track.digits)


def _of(track: Track | None, what: str) -> Any:
    return None if track is None else getattr(track.relation, what)
