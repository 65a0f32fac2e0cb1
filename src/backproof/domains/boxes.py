"""The boxes domain: which indices of the input each entry of a tensor can see, axis by axis.

The value of a node says, for each spatial axis of the network's input, at which digits of the node's own indices its
positions are found again (:mod:`.positions`) and by which relation (:mod:`.relations`), and what has made the field global.
None: the node does not depend on the input.

What it reads exactly: windows of all kinds, padding, slices, rolls, enlargements, changes of shape such as pixel shuffle or
windows of tokens, sums, and branches that move at one speed. Channels are taken together; paddings that look back into the
input (reflection, a circle) are followed away from the borders. What it cannot follow is said as a reason, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from math import prod
from typing import Any

from ..graph import Node
from .base import Domain
from .positions import Track, moved, promoted, removed, reshaped, through, united, whole
from .relations import Relation, adaptive, gathered, offsets, transposed, windows

__all__ = [
    "Axis", "Seen", "boxes", "index_of", "local_relation", "place_of", "pointwise", "relabelled", "seen_input", "together",
]  # fmt: skip

boxes = Domain("boxes", "index sets of the input, axis by axis")


@dataclass(frozen=True)
class Axis:
    """One spatial axis of the input, as a tensor sees it.

    Args:
        tracks: where its positions are told apart, and what is seen; more than one where a unit sees two places that
            move independently (the scores of an attention: that of the query and that of the key).
        reasons: what has made the field global, node by node; empty if it is local.
    """

    tracks: tuple[Track, ...]
    reasons: tuple[str, ...] = ()

    @property
    def relation(self) -> Relation | None:
        """Which indices of the input are seen; None if that is not known."""
        return self.tracks[0].relation if len(self.tracks) == 1 else None

    def lost(self, reason: str) -> Axis:
        """An axis whose positions are told apart no longer; why it is global is known from before, or it is this."""
        return Axis((), self.reasons or (reason,))

    def with_reason(self, reason: str) -> Axis:
        """The same axis, seen as a whole from here on."""
        return replace(self, reasons=tuple(dict.fromkeys((*self.reasons, reason))))

    def each(self, change: Callable[[Track], Track | None], reason: str) -> Axis:
        """Every track changed; where one can't be, that is the reason why the axis is lost."""
        if not self.tracks:
            return self
        try:
            found = [change(track) for track in self.tracks]
        except ValueError as error:
            return self.lost(f"{reason}: {error}")
        kept = tuple(track for track in found if track is not None)
        same = Axis(kept, self.reasons)
        return same if len(kept) == len(found) else same.with_reason(reason) if kept else self.lost(reason)


Seen = tuple[Axis, ...]
"""One :class:`Axis` for each spatial axis of the input."""


def seen_input(shape: Sequence[int]) -> Seen:
    """The value of the input itself: samples, channels, then spatial axes."""
    return tuple(Axis((whole(i, shape[i]),)) for i in range(2, len(shape)))


def place_of(node: Node) -> str:
    """Where a node is, for a reason: its module, or its name at the top."""
    return node.module or node.name


# --- branches -----------------------------------------------------------------------------------------------------------
def together(node: Node, operands: Sequence[Seen]) -> Seen | None:
    """What is seen through any of the operands, whose axes are the node's; None where there is none."""
    if not operands:
        return None
    return reduce(lambda a, b: tuple(_union(node, x, y) for x, y in zip(a, b, strict=True)), operands)


def _union(node: Node, a: Axis, b: Axis) -> Axis:
    reasons = tuple(dict.fromkeys((*a.reasons, *b.reasons)))
    if not a.tracks or not b.tracks or a.tracks == b.tracks:
        return Axis(a.tracks or b.tracks, reasons)
    tracks = [*a.tracks, *b.tracks]
    apart = [t for t in tracks if t.digits]
    if apart and len(apart) < len(tracks):
        reasons = tuple(dict.fromkeys((*reasons, f"a value spread over all positions in {place_of(node)}")))
        tracks = apart
    try:
        found, clash = united(tracks, node.shape)
    except ValueError as error:
        return Axis((), (*reasons, f"{error} ({place_of(node)})"))
    if clash:
        return Axis((), (*reasons, f"paths that move at different speeds meet in {place_of(node)}"))
    return Axis(tuple(found), reasons)


# --- entry by entry -----------------------------------------------------------------------------------------------------
@boxes.rule(
    "elementwise", "arithmetic", "comparison", "loss", "normalisation", "stop_gradient", "cast", "where", "expand"
)
def pointwise(node: Node, *operands: Seen | None) -> Seen | None:
    """Entry by entry: what the operands see, their axes aligned as broadcasting does."""
    return together(node, [_aligned(node, x, v) for x, v in zip(node.inputs, operands, strict=False) if v is not None])


def _aligned(node: Node, operand: Node, seen: Seen) -> Seen:
    """The operand's axes as axes of the result (broadcasting aligns them from the last one on)."""
    if operand.shape == node.shape:
        return seen
    if node.op.name == "batch_norm" and len(operand.shape) == 1:
        places = {0: 1}
    else:
        shift = len(node.shape) - len(operand.shape)
        places = {i: i + shift for i, n in enumerate(operand.shape) if n == node.shape[i + shift]}
    return tuple(axis.each(lambda t: moved(t, places), "") for axis in seen)


# --- windows ------------------------------------------------------------------------------------------------------------
def local_relation(node: Node, axis: int) -> Relation:
    """What one output of a convolution or pool sees of its own input, along a spatial axis counted from 0."""
    attrs = node.attrs
    if node.op.name == "adaptive_avg_pool":
        return adaptive(node.inputs[0].shape[axis + 2], node.shape[axis + 2])
    kernel = attrs["kernel"][axis] if "kernel" in attrs else node.inputs[1].shape[axis + 2]
    dilation = attrs["dilation"][axis] if attrs.get("dilation") else 1
    form = transposed if node.op.name == "conv_transpose" else windows
    return form(kernel, attrs["stride"][axis], attrs["padding"][axis], dilation)


@boxes.rule("conv", "conv_transpose", "max_pool", "max_pool_index", "avg_pool", "adaptive_avg_pool")
def _windows(node: Node, x: Seen | None, *_: Any) -> Seen | None:
    if x is None:
        return None
    if len(node.inputs) > 1 and not _by_channel(node):
        x = tuple(axis.each(lambda t: removed(t, 1), f"{place_of(node)} mixes the axis") for axis in x)
    return tuple(_through(node, axis) for axis in x)


def _by_channel(node: Node) -> bool:
    """Whether each channel has a kernel of its own."""
    return bool(node.attrs["groups"] == node.shape[1] == node.inputs[0].shape[1])


def _through(node: Node, axis: Axis) -> Axis:
    if not axis.tracks:
        return axis
    inputs, outputs = node.inputs[0].shape, node.shape
    if node.op.name == "adaptive_avg_pool":
        gone = [i for i in range(2, len(outputs)) if outputs[i] == 1 < inputs[i]]
        if any(t.axes & set(gone) for t in axis.tracks):
            return axis.lost(f"the pool over all positions in {place_of(node)}")

    def change(track: Track) -> Track | None:
        found: Track | None = track
        for i in range(2, len(outputs)):
            if found is not None and i in track.axes:
                found = through(found, i, local_relation(node, i - 2), outputs[i], inputs[i])
        return found

    return axis.each(change, f"positions are mixed with other axes in {place_of(node)}")


def _along(node: Node, axis: Axis, dim: int, local: Relation) -> Axis:
    """Every track through windows along one axis."""
    inputs, outputs = node.inputs[0].shape[dim], node.shape[dim]
    return axis.each(lambda t: through(t, dim, local, outputs, inputs), f"positions are mixed in {place_of(node)}")


# --- axes that are folded, moved, cut -----------------------------------------------------------------------------------
@boxes.rule("reduce", "softmax", "argmax", "argmin")
def _folded(node: Node, x: Seen | None) -> Seen | None:
    if x is None:
        return None
    rank, dim = len(node.inputs[0].shape), node.attrs.get("dim")
    dims = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % rank for d in dims} if rank else set()
    soft = node.op.family == "softmax"
    keeps = bool(node.attrs.get("keepdim")) or soft
    rest = {i: i if keeps else i - sum(d < i for d in gone) for i in range(rank) if i not in gone}
    return tuple(_fold(node, axis, gone, rest, soft) for axis in x)


def _fold(node: Node, axis: Axis, gone: set[int], rest: dict[int, int], soft: bool) -> Axis:
    if not any(t.axes & gone for t in axis.tracks):
        return axis.each(lambda t: moved(t, rest), "")
    reason = f"{node.op.name} over all positions in {place_of(node)}"
    found = axis.each(lambda t: _without(t, gone), reason)
    if soft and not found.tracks:
        return axis.with_reason(reason)  # what is seen as a whole is seen besides the local part
    return found.each(lambda t: moved(t, rest), "")


def _without(track: Track, gone: Iterable[int]) -> Track | None:
    found: Track | None = track
    for axis in sorted(gone):
        found = None if found is None else removed(found, axis)
    return found


@boxes.rule("linear", "matmul")
def _product(node: Node, a: Seen | None, b: Seen | None = None, *_: Any) -> Seen | None:
    found = []
    ranks = [len(x.shape) for x in node.inputs[:2]]
    for number, seen in enumerate((a, b)):
        if seen is not None and node.op.name == "outer":
            found.append(relabelled(node, seen, {i: i + number * ranks[0] for i in range(ranks[number])}))
        elif seen is not None:
            found.append(_contracted(node, seen, number, ranks))
    return together(node, found)


def _contracted(node: Node, seen: Seen, number: int, ranks: Sequence[int]) -> Seen:
    """A factor of a product: the axis that is summed over is seen as a whole."""
    rank, other, result = ranks[number], ranks[1 - number], len(node.shape)
    operand = node.inputs[number].shape
    summed = rank - 1 if number == 0 or rank == 1 else rank - 2
    kept = [i for i in range(rank) if i != summed]
    end = result - (1 if number == 0 and other > 1 else 0)  # where the factor's own axis stands in the product
    batch = end - len(kept) if number == 0 else result - len(kept) - (1 if other > 1 and rank > 1 else 0)
    places = {axis: batch + place for place, axis in enumerate(kept)}
    if number == 1 and rank > 1:
        places[rank - 1] = result - 1
    places = {i: p for i, p in places.items() if operand[i] == node.shape[p]}
    reason = f"the sum over all positions in {place_of(node)}"
    cut = tuple(axis.each(lambda t: removed(t, summed), reason) for axis in seen)
    return relabelled(node, cut, places)


def relabelled(node: Node, seen: Seen, places: dict[int, int]) -> Seen:
    """The same with each axis of the operand at another place of the result."""
    return tuple(axis.each(lambda t: moved(t, places), "") for axis in seen)


@boxes.rule("reshape")
def _reshaped(node: Node, x: Seen | None) -> Seen | None:
    if x is None:
        return None
    old, new = node.inputs[0].shape, node.shape
    return tuple(a.each(lambda t: reshaped(t, old, new), f"positions are cut up in {place_of(node)}") for a in x)


@boxes.rule("permute")
def _permuted(node: Node, x: Seen | None) -> Seen | None:
    places = {d % len(node.shape): i for i, d in enumerate(node.attrs["dims"])}
    return None if x is None else relabelled(node, x, places)


def _shifted(by: int, step: int = 1) -> Relation:
    return Relation(step, (offsets([by]),))


@boxes.rule("pad")
def _padded(node: Node, x: Seen | None) -> Seen | None:
    pad, rank = node.attrs["pad"], len(node.shape)
    for i in range(len(pad) // 2):
        dim = rank - 1 - i
        if (x is not None and node.shape[dim] != node.inputs[0].shape[dim]) or pad[2 * i]:
            x = None if x is None else tuple(_padded_along(node, axis, dim, int(pad[2 * i])) for axis in x)
    return x


def _padded_along(node: Node, axis: Axis, dim: int, before: int) -> Axis:
    inputs, outputs = node.inputs[0].shape[dim], node.shape[dim]
    reason = f"positions are mixed in {place_of(node)}"
    return axis.each(lambda t: through(t, dim, _shifted(-before), outputs, inputs), reason)


@boxes.rule("slice")
def _sliced(node: Node, x: Seen | None) -> Seen | None:
    dim = node.attrs["dim"] % len(node.shape)
    start = range(node.inputs[0].shape[dim])[slice(node.attrs["start"], node.attrs["end"])].start
    return None if x is None else tuple(_along(node, a, dim, _shifted(start, node.attrs["step"])) for a in x)


@boxes.rule("select")
def _selected(node: Node, x: Seen | None) -> Seen | None:
    shape = node.inputs[0].shape
    dim = node.attrs["dim"] % len(shape)
    places = {i: i - (i > dim) for i in range(len(shape)) if i != dim}

    def pick(track: Track) -> Track | None:
        if dim not in track.axes:
            return moved(track, places)
        found = promoted(track, dim, shape[dim])
        if found is None or len(found.digits) > 1:
            return None
        return Track((), Relation(0, (found.relation.at(node.attrs["index"] % shape[dim]),)))

    return None if x is None else tuple(a.each(pick, f"one position is picked in {place_of(node)}") for a in x)


# --- entries picked by index ----------------------------------------------------------------------------------------------
def index_of(node: Node) -> list[int] | None:
    """The values of an index of one axis that is written in the network; None where it is computed."""
    value = node.value
    if node.role != "constant" or value is None or len(node.shape) != 1:
        return None
    return [int(v) for v in value.tolist()] if hasattr(value, "tolist") else [int(v) for v in value]


@boxes.rule("embedding")
def _picked(node: Node, x: Seen | None, index: Seen | None) -> Seen | None:
    found = [] if index is None else [tuple(a.each(lambda t: t, "") for a in index)]
    if x is not None:
        found.append(tuple(_picked_along(node, axis) for axis in x))
    return together(node, found)


def _picked_along(node: Node, axis: Axis) -> Axis:
    entries, grown = index_of(node.inputs[1]), len(node.inputs[1].shape) - 1
    rank = len(node.inputs[0].shape)
    if any(0 in t.axes for t in axis.tracks) and entries is None:
        return axis.lost(f"positions are picked by what is computed in {place_of(node)}")
    if entries is not None:
        axis = _along(node, axis, 0, gathered(entries, node.inputs[0].shape[0]))
    return axis.each(lambda t: moved(t, {i: i + grown if i else 0 for i in range(rank)}), "")


@boxes.rule("gather")
def _gathered(node: Node, x: Seen | None, index: Seen | None) -> Seen | None:
    dim = node.attrs["dim"] % len(node.shape)
    found = [] if index is None else [index]
    if x is not None:
        reason = f"positions are picked by what is computed in {place_of(node)}"
        found.append(tuple(a.each(lambda t: removed(t, dim), reason) for a in x))
    return together(node, found)


# --- side by side ---------------------------------------------------------------------------------------------------------
@boxes.rule("cat", "stack")
def _joined(node: Node, *xs: Seen | None) -> Seen | None:
    dim = node.attrs["dim"] % len(node.shape)
    present = [x for x in xs if x is not None]
    if not present:
        return None
    if node.op.name == "stack":
        places = {i: i + (i >= dim) for i in range(len(node.shape) - 1)}
        found = together(node, [relabelled(node, x, places) for x in present])
        return None if found is None else tuple(_stepped(node, a, [x[k] for x in present]) for k, a in enumerate(found))
    return tuple(_side_by_side(node, dim, [None if x is None else x[k] for x in xs]) for k in range(len(present[0])))


def _stepped(node: Node, whole: Axis, steps: Sequence[Axis]) -> Axis:
    """The steps of a recurrence, one after another: each sees what the one before it sees, and more."""
    fields = [
        set(axis.tracks[0].relation.at(0)) for axis in steps if len(axis.tracks) == 1 and not axis.tracks[0].digits
    ]
    grows = len(fields) == len(steps) > 2 and (_nested(fields) or _nested(fields[::-1]))
    return whole.with_reason(f"the recurrence in {place_of(node.inputs[0])}") if grows else whole


def _nested(fields: Sequence[set[int]]) -> bool:
    return all(a <= b for a, b in pairwise(fields)) and fields[0] < fields[-1]


def _side_by_side(node: Node, dim: int, pieces: Sequence[Axis | None]) -> Axis:
    axes = [p for p in pieces if p is not None]
    if not any(dim in t.axes for axis in axes for t in axis.tracks):
        return reduce(lambda a, b: _union(node, a, b), axes)
    reasons = tuple(dict.fromkeys(r for axis in axes for r in axis.reasons))
    lost = Axis((), (*reasons, f"pieces are set side by side along the axis in {place_of(node)}"))
    found, start = [], 0
    for operand, piece in zip(node.inputs, pieces, strict=True):
        size = operand.shape[dim]
        if piece is not None:
            if len(piece.tracks) != 1 or (track := promoted(piece.tracks[0], dim, size)) is None:
                return lost
            if not track.digits or track.digits[0].axis != dim:
                return lost
            found.append((start, size, track))
        start += size
    return _listed(node, dim, found, reasons) or lost


def _on_a_circle(pieces: Sequence[tuple[int, int, Track]], total: int) -> Relation | None:
    """The law of the longest piece if all others follow it on the circle: a roll, written as two slices set side by side."""
    start, _, track = max(pieces, key=lambda piece: piece[1])
    law = track.relation
    turn = law.stride * total
    if sum(count for _, count, _ in pieces) != total or not turn or turn.denominator > 1:
        return None
    for begin, _, other in pieces:
        for o in range(law.period * other.relation.period):
            here, there = law.at(o - start), other.relation.at(o - begin)
            if here.mask != there.mask or (here.low - there.low) % turn:
                return None
    return Relation(law.advance, tuple(law.at(o - start) for o in range(law.period)))


def _listed(node: Node, dim: int, pieces: Sequence[tuple[int, int, Track]], reasons: tuple[str, ...]) -> Axis | None:
    """Pieces of one axis as one: a shift where there is one piece, else the relation entry by entry."""
    start, size, first = pieces[0]
    total = node.shape[dim]
    if len(pieces) == 1:
        found = through(first, dim, _shifted(-start), total, size)
        return None if found is None else Axis((found,), reasons)
    if any(track.digits[1:] != first.digits[1:] for _, _, track in pieces):
        return None
    if len(first.digits) == 1 and (law := _on_a_circle(pieces, total)) is not None:
        return Axis((Track((replace(first.digits[0], size=total),), law),), reasons)
    inner = prod(digit.size for digit in first.digits[1:])
    if total * inner > 4096:
        return None
    rows = [offsets(()) for _ in range(total * inner)]
    for begin, count, track in pieces:
        for o in range(count * inner):
            rows[begin * inner + o] = track.relation.at(o)
    advance = round(first.relation.stride * total * inner)
    digits = (replace(first.digits[0], size=total), *first.digits[1:])
    return Axis((Track(digits, Relation(advance, tuple(rows)).normal()),), reasons)
