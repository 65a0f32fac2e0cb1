"""A graph read over tensors again and again: worked out once into a list of calls with numbered places.

:func:`~.numbers.evaluate` looks each node's rule up as it goes; a plan has done so before. Only what is asked for is
computed, a number that is written in the program goes to torch as a number, and a node that only passes its operand
on shares its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..graph import Graph, Node
from ..ops import Elementwise
from . import numbers as tensors
from .fused import kernel_of
from .occupancy import Drops, Occupancy, occupancy

__all__ = ["Plan", "planned"]

_WITH_NUMBERS = {"add", "sub", "mul", "div", "pow"}
"""Operations that torch takes a plain number in; the others get a tensor without axes."""
Act = tuple[Callable[..., Any], tuple[int, ...], int]


@dataclass(frozen=True)
class Plan:
    """A list of calls.

    Args:
        places: where the values that are asked for lie.
        given: the leaves that have to be filled in, by name, and their places.
        constants: values that are there from the start.
        acts: the calls: a function, the places of its operands and that of its result.
        size: the number of places.
        last: for each call the places that nothing reads afterwards.
        occupancy: the memory that it takes.
    """

    places: Mapping[Node, int]
    given: tuple[tuple[str, int], ...]
    constants: tuple[tuple[int, Any], ...]
    acts: tuple[Act, ...]
    size: int
    last: Drops
    occupancy: Occupancy

    def drops(self, kept: Container[int]) -> Drops:
        """For each call the places whose values can go after it, if some are kept."""
        return tuple(tuple(place for place in places if place not in kept) for places in self.last)

    def run(
        self, leaves: Mapping[str, Tensor], drops: Drops, show: Callable[[int, Any], None] | None = None
    ) -> list[Any]:
        """The values at each place, None where they were dropped; torch.autograd takes no part.

        Args:
            leaves: the leaves by name.
            drops: what to drop after each call, see :meth:`drops`.
            show: called with each place and its value as soon as it is there.
        """
        values: list[Any] = [None] * self.size
        for name, place in self.given:
            values[place] = leaves[name]
        device = values[self.given[0][1]].device if self.given else torch.device("cpu")
        for place, value in self.constants:
            values[place] = value if value.device == device else value.to(device)
        if show is not None:
            for place in (*(p for p, _ in self.constants), *(p for _, p in self.given)):
                show(place, values[place])
        with torch.no_grad():
            for (function, operands, place), dropped in zip(self.acts, drops, strict=True):
                values[place] = function(*[values[i] for i in operands])
                if show is not None:
                    show(place, values[place])
                for other in dropped:
                    values[other] = None
        return values


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
    computed = [n for n in order if not n.is_leaf and not _passes_on(n, stands)]
    acts = tuple(_act(node, place, stands) for node in computed)
    return Plan(
        {n: place[stands.get(n, n)] for n in wanted},
        tuple((n.name, place[n]) for n in order if n.is_leaf and n.role != "constant"),
        tuple((place[n], tensors.tensor_of(n)) for n in order if n.role == "constant"),
        acts,
        len(order),
        _last_uses(acts),
        occupancy(order, dict.fromkeys(computed), place, stands),
    )


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
    return _items_at_once(order)


def _items_at_once(order: Iterable[Node]) -> list[Node]:
    """The results of a call right behind it, so that those that are not needed any more can go."""
    items: dict[Node, list[Node]] = {}
    for node in order:
        if node.op.name == "item":
            items.setdefault(node.inputs[0], []).append(node)
    return [x for node in order if node.op.name != "item" for x in (node, *items.get(node, ()))]


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


def _last_uses(acts: Sequence[Act]) -> Drops:
    seen: set[int] = set()
    found: list[tuple[int, ...]] = []
    for _, operands, result in reversed(acts):
        fresh = {*operands, result} - seen
        seen |= fresh
        found.append(tuple(fresh))
    return tuple(reversed(found))
