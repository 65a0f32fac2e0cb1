"""A graph read over tensors again and again: worked out once into a list of calls with numbered places.

:func:`~.numbers.evaluate` looks each node's rule up as it goes; a plan has done so before. Only what is asked for is
computed, a number that is written in the program goes to torch as a number, and a node that only passes its operand
on shares its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..graph import Graph, Node
from ..ops import Elementwise
from . import numbers as tensors
from .fused import kernel_of

__all__ = ["Plan", "planned"]

_WITH_NUMBERS = {"add", "sub", "mul", "div", "pow"}
"""Operations that torch takes a plain number in; the others get a tensor without axes."""
Act = tuple[Callable[..., Any], tuple[int, ...], int]


@dataclass(frozen=True)
class Plan:
    """A list of calls.

    Args:
        places: where the value of each node lies.
        given: the leaves that have to be filled in, by name, and their places.
        constants: values that are there from the start.
        acts: the calls: a function, the places of its operands and that of its result.
        size: the number of places.
        last: for each call the places that nothing reads afterwards.
    """

    places: Mapping[Node, int]
    given: tuple[tuple[str, int], ...]
    constants: tuple[tuple[int, Any], ...]
    acts: tuple[Act, ...]
    size: int
    last: tuple[tuple[int, ...], ...]

    def run(self, leaves: Mapping[str, Tensor]) -> list[Any]:
        """The value at each place from the leaves by name; torch.autograd takes no part."""
        values: list[Any] = [None] * self.size
        for place, value in self.constants:
            values[place] = value
        for name, place in self.given:
            values[place] = leaves[name]
        with torch.no_grad():
            for function, operands, place in self.acts:
                values[place] = function(*[values[i] for i in operands])
        return values

    def passing(self, leaves: Mapping[str, Tensor], show: Callable[[int, Tensor], None]) -> None:
        """Run without keeping: each value is shown with its place when it is there, and dropped after its last use."""
        values: list[Any] = [None] * self.size
        for place, value in self.constants:
            values[place] = value
        for name, place in self.given:
            values[place] = leaves[name]
            show(place, values[place])
        with torch.no_grad():
            for (function, operands, place), dropped in zip(self.acts, self.last, strict=True):
                values[place] = function(*[values[i] for i in operands])
                show(place, values[place])
                for other in dropped:
                    values[other] = None


def planned(graph: Graph, wanted: Iterable[Node], instead: Mapping[Node, Node] | None = None) -> Plan:
    """Work out the calls that give the wanted nodes.

    Args:
        graph: what is read.
        wanted: the nodes whose values are asked for.
        instead: for some nodes another node of the graph that stands for its value.
    """
    stands = dict(instead or {})
    wanted = list(wanted)
    tensors.numbers.require(Graph(tuple(n for n in graph.nodes if n not in stands), ()))
    order = _in_order([stands.get(n, n) for n in wanted], stands)
    place = {node: i for i, node in enumerate(order)}
    _pass_on(order, place, stands)
    constants, acts = [], []
    for node in order:
        if node.role == "constant":
            constants.append((place[node], tensors.tensor_of(node)))
        elif not node.is_leaf and not _passes_on(node, stands):
            acts.append(_act(node, place, stands))
    given = tuple((n.name, place[n]) for n in order if n.is_leaf and n.role != "constant")
    places = {n: place[stands.get(n, n)] for n in wanted}
    return Plan(places, given, tuple(constants), tuple(acts), len(order), _last_uses(acts))


def _in_order(wanted: Sequence[Node], stands: Mapping[Node, Node]) -> list[Node]:
    """The wanted nodes and all that they need, operands first."""
    order: dict[Node, None] = {}
    for start in wanted:
        stack = [(start, False)]
        while stack:
            node, ready = stack.pop()
            if node in order:
                continue
            if ready:
                order[node] = None
            else:
                stack.append((node, True))
                stack += [(stands.get(x, x), False) for x in reversed(node.inputs)]
    return list(order)


def _passes_on(node: Node, stands: Mapping[Node, Node]) -> bool:
    """Whether its value is its operand's as it stands."""
    if node.op.name == "expand" and node.shape == stands.get(node.inputs[0], node.inputs[0]).shape:
        return True
    return node.op.name in ("identity", "stop_gradient") and node.dtype == node.inputs[0].dtype


def _pass_on(order: Iterable[Node], place: dict[Node, int], stands: Mapping[Node, Node]) -> None:
    for node in order:
        if not node.is_leaf and _passes_on(node, stands):
            place[node] = place[stands.get(node.inputs[0], node.inputs[0])]


def _act(node: Node, place: Mapping[Node, int], stands: Mapping[Node, Node]) -> Act:
    operands = [stands.get(x, x) for x in node.inputs]
    function = _function(node, operands)
    if (
        node.op.name in _WITH_NUMBERS
        and sum(_is_number(x) for x in operands) == 1
        and all(x.is_float for x in operands)
    ):
        return _with_number(function, operands, place, place[node])
    return function, tuple(place[x] for x in operands), place[node]


def _is_number(node: Node) -> bool:
    return node.role == "constant" and not node.shape and node.is_float and not isinstance(node.value, Tensor)


def _with_number(function: Callable[..., Any], operands: Sequence[Node], place: Mapping[Node, int], result: int) -> Act:
    """The call of a function of two with a number in the place of one of them."""
    a, b = operands
    number = float(a.value if _is_number(a) else b.value)
    if _is_number(a):
        return (lambda x: function(number, x)), (place[b],), result
    return (lambda x: function(x, number)), (place[a],), result


def _function(node: Node, operands: Sequence[Node]) -> Callable[..., Any]:
    """What the numbers domain does at a node, with all that can be looked up before looked up."""
    if node.op.family == "kernel":
        return kernel_of(node)
    if tensors.numbers.lookup(node.op) is not tensors.plain_rule or not _is_simple(node):
        return partial(tensors.numbers.apply, node)
    kernel = tensors.kernel_at(node)
    if kernel is None:
        return partial(tensors.numbers.apply, node)
    return _FORMS.get(node.op.name, _with_attrs)(kernel, node)


def _is_simple(node: Node) -> bool:
    """Whether nothing has to be stretched or brought to another dtype around the kernel."""
    numbers_alone = any(_is_number(x) for x in node.inputs) and node.op.name not in _WITH_NUMBERS
    one_dtype = len({x.dtype for x in node.inputs if x.is_float and not _is_number(x)}) <= 1
    slope_of_stretched = isinstance(node.op, Elementwise) and (
        "'" in node.op.name and any(x.shape != node.shape for x in node.inputs)
    )
    stretched_loss = node.op.family == "loss" and len({x.shape for x in node.inputs}) > 1
    return not (numbers_alone or slope_of_stretched or stretched_loss) and one_dtype


def _with_attrs(kernel: Callable[..., Any], node: Node) -> Callable[..., Any]:
    return partial(kernel, **node.attrs) if node.attrs else kernel


def _reshape(kernel: Callable[..., Any], node: Node) -> Callable[..., Any]:
    shape = tuple(node.attrs["shape"])
    return lambda x: x.reshape(shape)


def _permute(kernel: Callable[..., Any], node: Node) -> Callable[..., Any]:
    dims = tuple(node.attrs["dims"])
    return torch.t if dims == (1, 0) else lambda x: x.permute(dims)


_FORMS: dict[str, Callable[[Callable[..., Any], Node], Callable[..., Any]]] = {
    "reshape": _reshape,
    "permute": _permute,
    "linear": lambda kernel, node: torch.nn.functional.linear,
    "matmul": lambda kernel, node: torch.matmul,
    "tanh": lambda kernel, node: torch.tanh,
}


def _last_uses(acts: Sequence[Act]) -> tuple[tuple[int, ...], ...]:
    seen: set[int] = set()
    found: list[tuple[int, ...]] = []
    for _, operands, result in reversed(acts):
        fresh = {*operands, result} - seen
        seen |= fresh
        found.append(tuple(fresh))
    return tuple(reversed(found))
