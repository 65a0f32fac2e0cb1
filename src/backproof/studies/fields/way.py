"""How a field comes about, layer by layer, and what would change it: the widest way back, layers that add nothing, changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ...domains import mixing
from ...domains.boxes import Seen, boxes, local_relation, seen_input
from ...domains.positions import Track
from ...domains.relations import Relation
from ...errors import InputError
from ...graph import Graph, Node

__all__ = ["Change", "Step", "changes", "read_fields", "unproductive", "way"]

_ = mixing  # imported for what it registers

WINDOWS = ("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool")
CONFIRMED = 12

Values = Mapping[Node, Seen | None]


def read_fields(graph: Graph, source: Node) -> dict[Node, Seen | None]:
    """What every node sees of ``source``, which may be any tensor with spatial axes from 2 on."""
    values: dict[Node, Seen | None] = {n: None for n in graph.nodes if n.is_leaf}
    values[source] = seen_input(source.shape)
    return boxes.run(graph, values)


def relation_of(seen: Seen | None, axis: int) -> Relation | None:
    """The relation of a node along a spatial axis of the input, where it has one."""
    return None if seen is None else seen[axis].relation


@dataclass(frozen=True)
class Step:
    """A layer of windows on the widest way from the input to a unit, along one axis.

    Args:
        name, module: the layer.
        kernel, dilation, stride: its own.
        jump: how far neighbouring positions before it are apart in the input.
        before, size: the field before and after it.
    """

    name: str
    module: str
    kernel: int
    dilation: int
    stride: int
    jump: Fraction
    before: int
    size: int

    @property
    def growth(self) -> int:
        """What it adds to the field: (kernel - 1) dilation jump, for a plain window."""
        return self.size - self.before


def way(values: Values, target: Node, axis: int) -> tuple[Step, ...]:
    """The way back from a layer on which the field is widest at each meeting of branches, from the input on."""
    steps: list[Step] = []
    node: Node | None = target
    while node is not None and not node.is_leaf:
        known = [
            (r.size, -i, x) for i, x in enumerate(node.inputs) if (r := relation_of(values.get(x), axis)) is not None
        ]
        before = max(known, default=None, key=lambda k: k[:2])
        here = relation_of(values[node], axis)
        if before is not None and here is not None and node.op.name in WINDOWS:
            step = _step(node, before[2], here, values, axis)
            steps += [step] if step is not None else []
        node = before[2] if before is not None else None
    return tuple(reversed(steps))


def _step(node: Node, operand: Node, here: Relation, values: Values, axis: int) -> Step | None:
    seen = values[operand]
    assert seen is not None and seen[axis].relation is not None
    place = _place(seen[axis].tracks[0])
    below = seen[axis].relation
    assert below is not None
    if place is None:
        return None
    local = local_relation(node, place)
    dilation = node.attrs["dilation"][place] if node.attrs.get("dilation") else 1
    kernel = node.attrs["kernel"][place] if "kernel" in node.attrs else local.size
    if node.op.family == "convolution":
        kernel = node.inputs[1].shape[place + 2]
    stride = node.attrs["stride"][place] if node.attrs.get("stride") else local.advance
    return Step(node.name, node.module, kernel, dilation, stride, below.stride, below.size, here.size)


def _place(track: Track) -> int | None:
    """The spatial axis of the tensor, counted from 0, along which a track's positions lie."""
    (axis,) = track.axes if len(track.axes) == 1 else (0,)
    return axis - 2 if axis >= 2 else None


# --- layers that add nothing ----------------------------------------------------------------------------------------------
def unproductive(graph: Graph, values: Values, source: Node) -> tuple[str, ...]:
    """Layers of windows whose input sees, on its narrowest way already, as much as there is along every axis.

    Their windows mix positions that each know the whole input (Richter and others, 2021, arXiv 2106.12307).
    """
    narrow: dict[Node, list[int]] = {source: [1] * (len(source.shape) - 2)}
    found = []
    for node in graph.nodes:
        seen = values.get(node)
        befores = [narrow[x] for x in node.inputs if x in narrow]
        if seen is None or node.is_leaf or not befores:
            continue
        narrow[node] = [min(column) for column in zip(*befores, strict=True)]
        if node.op.name not in WINDOWS:
            continue
        grows = [_growth(node, values.get(node.inputs[0]), axis) for axis in range(len(seen))]
        enough = all(r >= n for r, n in zip(narrow[node], source.shape[2:], strict=True))
        if enough and any(grows):
            found.append(node.name)
        narrow[node] = [r + g for r, g in zip(narrow[node], grows, strict=True)]
    return tuple(found)


def _growth(node: Node, seen: Seen | None, axis: int) -> int:
    relation = relation_of(seen, axis)
    if seen is None or relation is None or not seen[axis].tracks:
        return 0
    place = _place(seen[axis].tracks[0])
    return 0 if place is None else int((local_relation(node, place).size - 1) * relation.stride)


# --- what would reach a wanted field ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Change:
    """One number of one layer that, changed, makes the field at least as large as is wanted.

    Args:
        layer: which.
        what: "kernel", "dilation" or "stride".
        before, after: the number as it is and as it would have to be.
        size: the field then, read from the changed network.
    """

    layer: str
    what: str
    before: int
    after: int
    size: int


def changes(graph: Graph, values: Values, source: Node, target: Node, axis: int, wanted: int) -> tuple[Change, ...]:
    """The least changes of single layers on the widest way that reach a field, each confirmed on the changed network."""
    steps = way(values, target, axis)
    now = relation_of(values[target], axis)
    if now is None:
        raise InputError(f"the field of {target.name} has no size that a change of one layer could be reckoned from")
    missing = wanted - now.size
    if missing <= 0:
        return ()
    found: list[tuple[float, Step, str, int, int]] = []
    for i, step in enumerate(steps):
        later = sum(s.growth for s in steps[i + 1 :])
        found += [
            (after / before, step, what, before, after) for what, before, after in _candidates(step, missing, later)
        ]
    confirmed = []
    for _, step, what, before, after in sorted(found, key=lambda f: f[0])[:CONFIRMED]:
        size = _changed(graph, source, target, axis, step, what, after)
        if size is not None and size >= wanted:
            confirmed.append(Change(step.name, what, before, after, size))
    return tuple(confirmed)


def _candidates(step: Step, missing: int, later: int) -> list[tuple[str, int, int]]:
    """The least kernel (of the same parity), dilation and stride that add what is missing."""
    found = []
    each = step.dilation * step.jump
    more = -int(-missing // each)
    found.append(("kernel", step.kernel, step.kernel + more + more % 2))
    if step.kernel > 1:
        more = -int(-missing // ((step.kernel - 1) * step.jump))
        found.append(("dilation", step.dilation, step.dilation + more))
    if later > 0:
        more = -(-missing * step.stride // later)
        found.append(("stride", step.stride, step.stride + more))
    return found


def _changed(graph: Graph, source: Node, target: Node, axis: int, step: Step, what: str, after: int) -> int | None:
    """The field of a network with one number of one layer changed."""
    copies: dict[Node, Node] = {}
    for node in graph.nodes:
        copy = replace(node, inputs=tuple(copies[x] for x in node.inputs)) if node.inputs else node
        if node.name == step.name:
            seen_axis = axis + len(node.shape) - len(source.shape)
            copy = _with(copy, what, seen_axis, after)
            if copy is None:
                return None
        copies[node] = copy
    nodes = [x for node in graph.nodes for x in _new_weight(copies[node], copies)]
    found = read_fields(Graph(tuple(dict.fromkeys(nodes)), (copies[target],)), copies[source])
    relation = relation_of(found[copies[target]], axis)
    return None if relation is None else relation.size


def _new_weight(node: Node, copies: Mapping[Node, Node]) -> list[Node]:
    known = set(copies.values())
    return [*(x for x in node.inputs if x not in known), node]


def _with(node: Node, what: str, axis: int, after: int) -> Any:
    attrs = dict(node.attrs)
    if what == "kernel" and "kernel" not in attrs:
        weight = node.inputs[1]
        shape = tuple(after if i == axis + 2 else n for i, n in enumerate(weight.shape))
        return replace(node, inputs=(node.inputs[0], replace(weight, shape=shape), *node.inputs[2:]))
    if not attrs.get(what):
        return None
    attrs[what] = tuple(after if i == axis else n for i, n in enumerate(attrs[what]))
    return replace(node, attrs=attrs)
