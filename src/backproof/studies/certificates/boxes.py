"""Which weights a certificate speaks about: a box for every parameter and input of a captured network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...differentiate import differentiate
from ...domains.balls import Box
from ...domains.curves import as_fraction, rational
from ...errors import InputError
from ...graph import Builder, Graph, Node

__all__ = ["Region", "Target", "is_bias", "pruned", "region_of", "targets_of"]

Limits = tuple[Any, Any]
MOST_OUTPUTS, LARGEST = 64, 10**100


@dataclass(frozen=True)
class Region:
    """The box of every leaf, and which leaves vary.

    Args:
        boxes: the box of each leaf, constants aside; one point where it is held.
        free: the leaves that vary.
        held: the present values of all leaves, in float64.
    """

    boxes: Mapping[Node, Box]
    free: tuple[Node, ...]
    held: Mapping[Node, Tensor]

    @property
    def exact(self) -> dict[Node, Tensor]:
        """The leaves that are held at the float64 tensors they are."""
        return {n: self.held[n] for n, box in self.boxes.items() if box.is_known}

    def ends(self, node: Node) -> tuple[Tensor, Tensor]:
        """The ends of a leaf's box in float64."""
        return _nearest(self.boxes[node])

    def clamped(self, node: Node) -> Tensor:
        """A leaf's own value, or the nearest to it in the box: for leaves on which a derivative does not depend."""
        lo, hi = self.ends(node)
        return torch.minimum(torch.maximum(self.held[node], lo), hi)

    def point(self, values: Mapping[Node, Tensor]) -> dict[Node, Box]:
        """The leaves at given float64 values, each within its box; the float nearest to an end stands for the end."""
        found = dict(self.boxes)
        for node in self.free:
            box, flat = self.boxes[node], values[node].reshape(-1).tolist()
            ends = [box.one] * len(flat) if box.one else zip(box.lo.reshape(-1), box.hi.reshape(-1), strict=True)
            inside = [_inside(lo, hi, v) for (lo, hi), v in zip(ends, flat, strict=True)]
            found[node] = Box.exactly(inside, node.shape)
        return found


def _inside(lo: Any, hi: Any, value: float) -> Any:
    for end in (lo, hi):
        if value == int(end.p) / int(end.q):
            return end
    return max(lo, min(hi, as_fraction(value)))


def _nearest(box: Box) -> tuple[Tensor, Tensor]:
    """The ends as the nearest float64 numbers."""
    if box.floats is not None:
        return box.floats
    if box.one is not None:
        lo, hi = (torch.full(box.shape, int(v.p) / int(v.q), dtype=torch.float64) for v in box.one)
        return lo, hi
    flat = ([int(v.p) / int(v.q) for v in end.reshape(-1)] for end in (box.lo, box.hi))
    lo, hi = (torch.tensor(v, dtype=torch.float64).reshape(box.shape) for v in flat)
    return lo, hi


def is_bias(graph: Graph, node: Node) -> bool:
    """Whether a parameter is only ever added: the bias of a linear map, or a term of a sum."""
    users = [u for u in graph.users[node] if u.role != "adjoint"]
    return bool(users) and all(u.op.name == "add" or (u.op.name == "linear" and node in u.inputs[2:]) for u in users)


def _limits(limits: Any, what: str) -> Limits:
    try:
        lo, hi = limits
    except (TypeError, ValueError):
        raise InputError(f"{what} takes the two ends of an interval, as in (-1, 1), not {limits!r}") from None
    return lo, hi


def _box(limits: Any, shape: tuple[int, ...], what: str) -> Box:
    lo, hi = _limits(limits, what)
    made = [_ends(end, shape, what) for end in (lo, hi)]
    box = _from_to(*made)
    if any(a > b for a, b in box.distinct()):
        raise InputError(f"{what}: the lower end {lo} is above the upper end {hi}")
    return box


def _from_to(low: Box, high: Box) -> Box:
    """From the values of one box to those of another."""
    if low.one is not None and high.one is not None:
        return Box.filled(low.one[0], high.one[0], low.shape)
    if low.floats is not None and high.floats is not None:
        return Box.between(low.floats[0], high.floats[0])
    return Box(low.lo, high.lo)


def _ends(end: Any, shape: tuple[int, ...], what: str) -> Box:
    """One end for all entries, or one per entry (numbers as a person means them, tensors as they are)."""
    if isinstance(end, Tensor) and end.ndim:
        if end.shape != torch.Size(shape):
            raise InputError(f"{what}: an end of shape {list(end.shape)} for a tensor of shape {list(shape)}")
        if not bool(end.isfinite().all()):
            raise InputError(f"{what}: an end holds a number that is not finite")
        wide = end.detach().double()
        return Box.between(wide, wide)
    if not isinstance(end, (list, tuple)):
        number = as_fraction(float(end)) if isinstance(end, Tensor) else rational(end)
        if abs(number) > LARGEST:
            raise InputError(f"{what}: {end} is beyond 1e100, and nothing could be said about it")
        return Box.filled(number, number, shape)
    flat = [rational(v) for v in _flat(end)]
    if len(flat) != torch.Size(shape).numel():
        raise InputError(f"{what}: {len(flat)} numbers for a tensor of shape {list(shape)}")
    return Box.exactly(flat, shape)


def _flat(value: Any) -> list[Any]:
    return [v for item in value for v in _flat(item)] if isinstance(value, (list, tuple)) else [value]


def region_of(graph: Graph, weights: Any, biases: Any, inputs_in: Any) -> Region:
    """The box that ``bp.certify`` is asked about.

    Args:
        graph: the network.
        weights: (lo, hi) for every weight, a mapping name -> (lo, hi), or None to hold the model's own.
        biases: the same for the parameters that are only added.
        inputs_in: (lo, hi) for every input, a mapping name -> (lo, hi), or None to hold the inputs given.
    """
    given = {k: v.double() if v.is_floating_point() else v for k, v in graph.origin.leaves().items()}
    leaves = [n for n in graph.nodes if n.is_leaf and n.role != "constant"]
    asked = {"weights": weights, "biases": biases, "inputs_in": inputs_in}
    _refuse_unknown(asked, leaves)
    boxes: dict[Node, Box] = {}
    made: dict[tuple[int, tuple[int, ...]], Box] = {}
    free = []
    for node in leaves:
        kind = "inputs_in" if node.role != "parameter" else "biases" if is_bias(graph, node) else "weights"
        limits = _asked_for(asked, kind, node) if node.role != "buffer" else None
        if limits is None or not node.is_float:
            boxes[node] = _held(given[node.name], node)
            continue
        key = (id(limits), node.shape)
        if key not in made:
            made[key] = _box(limits, node.shape, f"{kind} of {node.name}")
        boxes[node] = made[key]
        if _varies(boxes[node]):
            free.append(node)
    held = {n: given[n.name] for n in leaves}
    varies = set(free)
    for node in leaves:
        if node not in varies and node.is_float:
            held[node] = _nearest(boxes[node])[0]
    return Region(boxes, tuple(free), held)


def _held(value: Tensor, node: Node) -> Box:
    """A leaf as it is."""
    if not node.is_float:
        return Box.exactly(value.tolist(), node.shape)
    if not bool(value.isfinite().all()):
        raise InputError(f"{node.name} holds a number that is not finite")
    return Box.between(value, value)


def _varies(box: Box) -> bool:
    if box.floats is not None:
        return not box.is_known and bool((box.floats[0] != box.floats[1]).any())
    return any(a != b for a, b in box.distinct())


def _asked_for(asked: Mapping[str, Any], kind: str, node: Node) -> Any:
    for limits in asked.values():
        if limits is not None and type(limits) is not tuple and isinstance(limits, Mapping) and node.name in limits:
            return limits[node.name]
    return None if isinstance(asked[kind], Mapping) else asked[kind]


def _refuse_unknown(asked: Mapping[str, Any], leaves: list[Node]) -> None:
    known = {n.name for n in leaves}
    for what, limits in asked.items():
        if isinstance(limits, Mapping) and (unknown := sorted(set(map(str, limits)) - known)):
            raise InputError(f"{what} names '{unknown[0]}', which the network does not have; it has {', '.join(known)}")
        if limits is not None and not isinstance(limits, Mapping):
            lo, hi = (rational(v) if not isinstance(v, (list, tuple, Tensor)) else None for v in _limits(limits, what))
            if lo is not None and hi is not None and lo > hi:
                raise InputError(f"{what}: the lower end {limits[0]} is above the upper end {limits[1]}")


@dataclass(frozen=True)
class Target:
    """One derivative to bound: the part of the joint graph that makes it, its node, and the entry (None: all of them).

    ``whole`` is the network itself, up to the output ``of`` that is differentiated.
    """

    graph: Graph
    whole: Graph
    node: Node
    wrt: Node
    of: Node
    index: tuple[int, ...] | None = None

    def pick(self, box: Box) -> Box:
        """The entries in question of a box of the adjoint."""
        if self.index is None:
            return box
        if box.one is not None:
            return Box.filled(*box.one, ())
        cut = tuple(slice(i, i + 1) for i in self.index)
        return Box(box.lo[cut].reshape(()), box.hi[cut].reshape(()))


def targets_of(graph: Graph, wrt: Any) -> tuple[Target, ...]:
    """The derivatives of the loss (or of each output) with respect to what ``wrt`` names."""
    wanted = [_named(graph, name) for name in (wrt if isinstance(wrt, (list, tuple)) else [wrt])]
    found = []
    for full, output in _outputs(graph):
        joint = differentiate(full, output, [node for node, _ in wanted])
        for node, index in wanted:
            gradient = joint.gradients[node]
            if gradient is None:
                raise InputError(f"{output.name} does not depend on {node.name}: the derivative is 0 everywhere")
            found.append(Target(pruned(joint.graph, gradient), pruned(full, output), gradient, node, output, index))
    return tuple(found)


def _outputs(graph: Graph) -> list[tuple[Graph, Node]]:
    """What is differentiated: the loss, or every entry of the output, each as one number of its own."""
    output = graph.loss or graph.outputs[0]
    if output.size == 1:
        return [(graph, output)]
    if output.size > MOST_OUTPUTS:
        raise InputError(
            f"the output {output.name} has {output.size} entries and at most {MOST_OUTPUTS} are bounded one by one; "
            "name a loss, or return fewer"
        )
    builder = Builder(graph.nodes)
    flat = builder.emit("reshape", output, shape=(output.size,))
    entries = [builder.emit("select", flat, dim=0, index=i, name=f"{output.name}[{i}]") for i in range(output.size)]
    return [(replace(graph, nodes=tuple(builder.nodes)), entry) for entry in entries]


def _named(graph: Graph, wrt: Any) -> tuple[Node, tuple[int, ...] | None]:
    """A parameter, an input or a value by its name, perhaps with an entry: ``layers.0.weight[0, 0]``."""
    if isinstance(wrt, Tensor):
        wrt = _name_of(graph, wrt)
    if not isinstance(wrt, str):
        raise InputError(f"wrt is the name of a parameter or input, as in 'layers.0.weight[0, 0]', not {wrt!r}")
    name, _, entry = wrt.partition("[")
    node = graph.by_name.get(name.strip())
    if node is None or node.role in ("constant", "adjoint") or not node.is_float:
        known = ", ".join(n.name for n in graph.nodes if n.role in ("parameter", "input"))
        raise InputError(f"wrt names '{name}', which the network does not have; its parameters and inputs: {known}")
    return node, _index(entry.rstrip("] "), node) if entry else None


def _index(text: str, node: Node) -> tuple[int, ...]:
    try:
        index = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"an entry of {node.name} is written as in {node.name}[0, 0], not [{text}]") from None
    if len(index) != len(node.shape) or any(not -n <= i < n for i, n in zip(index, node.shape, strict=True)):
        raise InputError(f"{node.name} has shape {list(node.shape)}; it has no entry [{text}]")
    return tuple(i % n for i, n in zip(index, node.shape, strict=True))


def _name_of(graph: Graph, tensor: Tensor) -> str:
    from ...capturing.origin import tensors_of

    wrapped = getattr(graph.origin, "wrapped", None)
    for name, own in tensors_of(wrapped).items() if wrapped is not None else ():
        if own is tensor:
            return name
    raise InputError("wrt is a tensor that is no parameter of the network; give its name")


def pruned(graph: Graph, node: Node) -> Graph:
    """The part of a graph that a node depends on."""
    needed = {node}
    for other in reversed(graph.nodes):
        if other in needed:
            needed.update(other.inputs)
    return replace(graph, nodes=tuple(n for n in graph.nodes if n in needed), outputs=(node,), loss=None)
