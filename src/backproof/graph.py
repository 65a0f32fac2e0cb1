"""The Graph: a network as a list of textbook operations in topological order.

Nodes are frozen and compared by identity (structural hashing took 79 s on ResNet-50). A node carries the name,
module path and source line of the user's own program, and these stay the same in every reading.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, Literal

from .errors import BackproofError
from .ops import OPS, Op, Shape

__all__ = ["Builder", "Graph", "Node", "Role", "Source", "Surrogate"]

Role = Literal["input", "target", "parameter", "buffer", "constant", "draw", "value", "helper", "adjoint"]


@dataclass(frozen=True)
class Source:
    """A line of the user's program or formula."""

    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        here = str(Path.cwd()) + os.sep
        file = self.file.removeprefix(here)
        return f"{file}:{self.line}" if self.line else file


@dataclass(frozen=True, eq=False)
class Node:
    """One operation, or one leaf.

    Args:
        op: the operation's record; ``leaf`` and ``constant`` for the leaves.
        inputs: its operands.
        attrs: its attributes, complete with defaults.
        shape, dtype: of its result ("float64", "int64", "bool"...).
        name: unique in the graph; the user's own where the source gives it.
        role: what kind of node it is; a "draw" is what a run draws at random, a "helper" a step inside a formula
            that has no name of its own, an "adjoint" the gradient of the loss with respect to ``of``.
        module: the path of the module it belongs to ("layer1.0.conv1"), "" at the top.
        source: where the user wrote it.
        value: a constant's value (a number or nested tuple); None otherwise.
    """

    op: Op
    inputs: tuple[Node, ...]
    attrs: Mapping[str, Any]
    shape: Shape
    dtype: str
    name: str
    role: Role = "value"
    module: str = ""
    source: Source | None = None
    value: Any = None
    of: Node | None = None

    def __repr__(self) -> str:
        return f"<{self.name}: {self.op.name}{list(self.shape)}>"

    @property
    def size(self) -> int:
        """The number of entries."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def is_leaf(self) -> bool:
        """Whether it is given rather than computed."""
        return self.op.family == "leaf"

    @property
    def is_operation(self) -> bool:
        """Whether it counts as an operation of the program: a step that only fits another one's operands does not."""
        return not self.is_leaf and self.role != "helper"

    @property
    def is_frozen(self) -> bool:
        """Whether it is a parameter that is held fixed."""
        return bool(self.attrs.get("frozen"))

    @property
    def is_float(self) -> bool:
        """Whether its entries are real numbers."""
        return self.dtype.startswith(("float", "bfloat"))

    @property
    def is_complex(self) -> bool:
        """Whether its entries are complex numbers."""
        return self.dtype.startswith("complex")

    @property
    def is_number(self) -> bool:
        """Whether its entries are real or complex numbers, so that a gradient can reach it."""
        return self.is_float or self.is_complex


class _Memo(dict[str, Any]):
    """What can be worked out again: a copy of its graph begins without it."""

    def __reduce__(self) -> Any:
        return _Memo, ()


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A value whose gradient goes back as the user's own code says, not as the derivative of its forward pass.

    Args:
        kind: "function" (a custom ``autograd.Function``) or "hook" (a gradient hook on a tensor).
        name: what it is called.
        operands: what went in, in the order of its arguments; None for what is no tensor.
        place, count: which of how many results the value is.
        gradients: from (the gradients of all results, the operands' values) to what is sent to each operand.
        written: where the backward pass is written, "file:line".
    """

    kind: str
    name: str
    operands: tuple[Node | None, ...]
    place: int
    count: int
    gradients: Callable[..., Any]
    written: str = ""


@dataclass(frozen=True)
class Graph:
    """A captured network: nodes in topological order, what goes in, what comes out.

    Args:
        nodes: every node, each after its inputs.
        outputs: the nodes that the model returns.
        loss: the node of the loss, if there is one.
        title: the model's name.
        origin: what it was captured from, for capturing again with other shapes; not part of the mathematics.
        state: for each buffer that a forward pass changes (batch norm's running statistics) the node of its new value.
        noted: what capturing found out besides: "recorded", "custom_functions", "checkpoints", "gradient_hooks"...
        surrogates: the values with a backward pass of the user's own.
        memo: what readings have worked out about this graph and may use again.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]
    loss: Node | None = None
    title: str = ""
    origin: Any = field(default=None, compare=False, repr=False)
    state: Mapping[Node, Node] = field(default_factory=dict)
    noted: Mapping[str, Any] = field(default_factory=dict)
    surrogates: Mapping[Node, Surrogate] = field(default_factory=dict)
    memo: _Memo = field(default_factory=lambda: _Memo(), init=False, compare=False, repr=False)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by their names."""
        return {node.name: node for node in self.nodes}

    def of_role(self, *roles: Role) -> tuple[Node, ...]:
        """The nodes of the given roles, in order."""
        return tuple(node for node in self.nodes if node.role in roles)

    @cached_property
    def parameters(self) -> tuple[Node, ...]:
        """The parameters, in order."""
        return self.of_role("parameter")

    @cached_property
    def values(self) -> tuple[Node, ...]:
        """The named results, in order."""
        return self.of_role("value")

    @cached_property
    def users(self) -> dict[Node, tuple[Node, ...]]:
        """For each node the nodes that take it as an operand."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for operand in dict.fromkeys(node.inputs):
                users[operand].append(node)
        return {node: tuple(found) for node, found in users.items()}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the structure says: tied weights, parameters that the outputs do not depend on, identity paths."""
        needed = self._needed
        return {
            "tied_weights": dict(getattr(self.origin, "ties", {})),
            "unused_parameters": [n.name for n in self.parameters if n not in needed],
            "identity_paths": [n.name for n in self.of_role("input") if self._identity_from(n)],
            "skips": [skip for node in self.nodes if (skip := self._skip(node))],
            "opaque_nodes": [n.name for n in self.nodes if n.op.family == "opaque"],
            **self.noted,
        }

    @cached_property
    def _needed(self) -> set[Node]:
        """The nodes on which an output or the loss depends."""
        needed = set(self.outputs) | ({self.loss} if self.loss is not None else set())
        for node in reversed(self.nodes):
            if node in needed:
                needed.update(node.inputs)
        return needed

    def _identity_from(self, start: Node) -> bool:
        """Whether an output is ``start`` plus something: a path of sums and changes of shape alone."""
        carried = {start}
        for node in self.nodes:
            passes = node.op.name in ("add", "identity", "reshape", "permute", "cast") or (
                node.op.name == "sub" and node.inputs[0] in carried
            )
            if passes and any(x in carried for x in node.inputs):
                carried.add(node)
        return any(node in carried and node is not start for node in self.outputs)

    def _skip(self, node: Node) -> dict[str, str] | None:
        """For a sum of two branches of one value: where it is, where the branches part, and what the shorter one does."""
        if _IN_TIME.search(node.module):
            return None  # what a recurrent step adds up are its gates
        if node.op.name != "add" or any(
            x.shape != node.shape or (x.is_leaf and x.role != "input") for x in node.inputs[1:]
        ):
            return None
        a, b = node.inputs
        if a is b or not node.is_float or (fork := self._fork(a, b)) is None:
            return None
        start, branches = fork
        steps = min(([n.op.name for n in branch if not n.is_leaf] for branch in branches), key=len)
        named = [s for s in steps if s not in _MOVES]
        kind = "identity" if not named else next((s for s in _PROJECTIONS if s in named), ", ".join(sorted(set(named))))
        return {"module": node.module, "sum": node.name, "from": start.name, "skip": kind}

    @cached_property
    def _place(self) -> dict[Node, int]:
        return {node: i for i, node in enumerate(self.nodes)}

    def _fork(self, a: Node, b: Node) -> tuple[Node, tuple[list[Node], list[Node]]] | None:
        """The last value that both nodes are computed from, and what is between it and each of them.

        Walks back from both at once, latest node first, so that a block of a deep network costs no more than the block.
        """
        seen_from, branches = {a: 1, b: 2}, ([], [])  # type: ignore[var-annotated]
        heap = [(-self._place[x], x) for x in (a, b)]
        heapify(heap)
        while heap:
            _, node = heappop(heap)
            marks = seen_from[node]
            if marks == 3 and (node.role == "input" or not node.is_leaf):
                return node, branches
            if marks < 3:
                branches[marks - 1].append(node)
            for x in node.inputs:
                if x not in seen_from:
                    heappush(heap, (-self._place[x], x))
                seen_from[x] = seen_from.get(x, 0) | marks
        return None

    def check(self) -> Graph:
        """Return the graph if it is well formed, else raise.

        Every operand comes before its user, names are unique, and each shape is what the op's rule says.
        """
        seen: set[Node] = set()
        names: set[str] = set()
        for node in self.nodes:
            if missing := [x.name for x in node.inputs if x not in seen]:
                raise BackproofError(f"{node.name} uses {missing[0]} before it is computed")
            if node.name in names:
                raise BackproofError(f"two nodes are called {node.name}")
            if not node.is_leaf and node.op.family != "opaque":
                _check_shape(node)
            seen.add(node)
            names.add(node.name)
        return self


_IN_TIME = re.compile(r"(^|\.)t\d+$")
_MOVES = ("identity", "reshape", "cast")
_PROJECTIONS = ("conv", "linear", "matmul")


def _check_shape(node: Node) -> None:
    expected = node.op.shape([x.shape for x in node.inputs], node.attrs)
    if tuple(expected) != tuple(node.shape):
        raise BackproofError(
            f"{node.name}: {node.op.name} gives shape {list(expected)}, the graph says {list(node.shape)}"
        )


_RANK = {"bool": 0, "int8": 1, "uint8": 1, "int16": 2, "int32": 3, "int64": 4, "float16": 5, "bfloat16": 5,
         "float32": 6, "float64": 7, "complex64": 8, "complex128": 9}  # fmt: skip


def _result_dtype(op: Op, inputs: Sequence[Node], attrs: Mapping[str, Any]) -> str:
    if op.dtype == "attr":
        return str(attrs["dtype"])
    if op.dtype in ("real", "complex"):
        pairs = _REAL if op.dtype == "real" else {real: other for other, real in _REAL.items()}
        given = promote(inputs)
        return pairs.get(given, given)
    if op.dtype != "same":
        return op.dtype
    return promote(inputs)


_REAL = {"complex64": "float32", "complex128": "float64"}


def promote(inputs: Iterable[Node]) -> str:
    """The dtype of an operation on these operands: a number written in the program does not widen a tensor."""
    nodes = list(inputs)
    tensors = [x for x in nodes if not (x.role == "constant" and x.shape == ())] or nodes
    best = max((x.dtype for x in tensors), key=lambda d: _RANK.get(d, 6), default="float64")
    if any(x.is_complex for x in nodes) and best != "complex128":
        return "complex128" if any(x.dtype == "float64" for x in tensors) else "complex64"
    floats = [x.dtype for x in nodes if x.is_float]
    return floats[0] if floats and not best.startswith(("float", "bfloat", "complex")) else best


class Builder:
    """Adds nodes one after another, inferring shapes and dtypes and keeping names unique."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes: list[Node] = list(nodes)
        self._names: set[str] = {node.name for node in self.nodes}
        self._next: dict[str, int] = {}  # the first number of each name that may be free

    def unique(self, name: str) -> str:
        """Return the name, numbered (#2, #3...) if it is taken."""
        if name not in self._names:
            return name
        count = self._next.get(name, 2)
        while f"{name}#{count}" in self._names:
            count += 1
        self._next[name] = count
        return f"{name}#{count}"

    def release(self, name: str) -> None:
        """Free the name of a node that was taken out again."""
        self._names.discard(name)
        base, _, number = name.rpartition("#")
        if base and number.isdecimal():
            self._next[base] = min(self._next.get(base, 2), int(number))

    def rename(self, node: Node, name: str, role: Role) -> Node:
        """Give a node that nothing uses yet another name and role."""
        place = self.nodes.index(node, max(0, len(self.nodes) - 8))
        if any(node in other.inputs for other in self.nodes[place:]):
            raise BackproofError(f"{node.name} is in use and keeps its name")
        self.release(node.name)
        renamed = replace(node, name=self.unique(name), role=role)
        self.nodes[place] = renamed
        self._names.add(renamed.name)
        return renamed

    def rename_new(self, start: int, names: Mapping[Node, str]) -> dict[Node, Node]:
        """Make nodes among those from ``start`` on values with names; what uses them there uses the renamed ones.

        Returns:
            For every node from ``start`` on what has taken its place.
        """
        new: dict[Node, Node] = {}
        if not names:
            return new
        for place in range(start, len(self.nodes)):
            node = self.nodes[place]
            changes: dict[str, Any] = {"inputs": tuple(new.get(x, x) for x in node.inputs)}
            if node in names:
                self.release(node.name)
                changes |= {"name": self.unique(names[node]), "role": "value"}
                self._names.add(changes["name"])
            new[node] = self.nodes[place] = replace(node, **changes)
        return new

    def add(self, node: Node) -> Node:
        """Append a node; its name is made unique."""
        name = self.unique(node.name)
        node = node if name == node.name else replace(node, name=name)
        self.nodes.append(node)
        self._names.add(name)
        return node

    def leaf(self, name: str, role: Role, shape: Shape, dtype: str, **more: Any) -> Node:
        """Append an input, target, parameter or buffer."""
        return self.add(Node(OPS["leaf"], (), {"shape": tuple(shape)}, tuple(shape), dtype, name, role, **more))

    def constant(self, value: Any, shape: Shape = (), dtype: str = "float64", name: str = "") -> Node:
        """Append a constant; ``value`` is a number, a SymPy number or nested tuples of them."""
        label = name or (f"{value}" if shape == () else "constant")
        attrs = {"shape": tuple(shape)}
        return self.add(Node(OPS["constant"], (), attrs, tuple(shape), dtype, label, "constant", value=value))

    def freeze(self, node: Node) -> Node:
        """Mark the parameter that was just added as one that no gradient is wanted for (requires_grad=False)."""
        self.nodes[-1] = replace(node, attrs={**node.attrs, "frozen": True})
        return self.nodes[-1]

    def emit(self, op: str | Op, *inputs: Node, name: str = "", role: Role = "helper", **more: Any) -> Node:
        """Append an operation on nodes; keywords that name attributes of the op become its attributes."""
        record = OPS[op] if isinstance(op, str) else op
        attrs = {key: more.pop(key, default) for key, default in record.attrs.items()}
        shape = tuple(record.shape([x.shape for x in inputs], attrs))
        dtype = _result_dtype(record, inputs, attrs)
        return self.add(Node(record, tuple(inputs), attrs, shape, dtype, name or record.name, role, **more))
