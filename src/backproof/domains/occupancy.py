"""How many bytes a plan's values take while it runs, before it does: storages, and who still holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch

from ..graph import Node

__all__ = ["Occupancy", "occupancy"]

Drops = tuple[tuple[int, ...], ...]
_VIEWS = ("permute", "select", "slice")
_SCRATCH = {"torch.spread": 1, "torch.layer_norm_statistics_grad": 3, "conv": 1, "torch.conv_grad": 1}
"""Tensors of the first operand's size that a kernel makes on its way; a convolution may put its operand into another order."""


@dataclass(frozen=True)
class Occupancy:
    """Which storages each call of a plan makes.

    Args:
        sizes: the bytes of each storage.
        held: the storages that the value at each place holds.
        results: the place of each call's result, in order.
        scratch: the bytes that each call needs besides for itself.
    """

    sizes: tuple[int, ...]
    held: Mapping[int, tuple[int, ...]]
    results: tuple[int, ...]
    scratch: tuple[int, ...]

    def peak(self, drops: Drops) -> tuple[int, int]:
        """The largest number of bytes at a time when places are dropped like this after each call, and those at the end."""
        holders: Counter[int] = Counter()
        alive = most = 0
        for place, scratch, dropped in zip(self.results, self.scratch, drops, strict=True):
            for storage in self.held.get(place, ()):
                alive += 0 if holders[storage] else self.sizes[storage]
                holders[storage] += 1
            most = max(most, alive + scratch)
            for storage in (s for other in dropped for s in self.held.get(other, ())):
                holders[storage] -= 1
                alive -= 0 if holders[storage] else self.sizes[storage]
        return most, alive


def occupancy(
    order: Iterable[Node], acts: Collection[Node], place: Mapping[Node, int], stands: Mapping[Node, Node]
) -> Occupancy:
    """Work out the storages behind a plan.

    Args:
        order: the plan's nodes, operands first.
        acts: those of them that are computed, in order.
        place: where each node's value lies.
        stands: for some nodes another one that stands for its value.
    """
    ledger = _Ledger(place, stands)
    for node in acts:
        if node.op.name == "item":
            ledger.item(node)
    for node in order:
        if node in acts:
            ledger.add(node)
    results = tuple(place[n] for n in acts)
    scratch = tuple(_SCRATCH.get(n.op.name, 0) * _bytes(n.inputs[0]) if n.inputs else 0 for n in acts)
    return Occupancy(tuple(ledger.sizes), ledger.held, results, scratch)


class _Ledger:
    def __init__(self, place: Mapping[Node, int], stands: Mapping[Node, Node]) -> None:
        self.place, self.stands = place, stands
        self.sizes: list[int] = []
        self.held: dict[int, tuple[int, ...]] = {}
        self.torn: set[int] = set()  # places whose entries do not lie one after another

    def item(self, node: Node) -> None:
        """One of several results, there from the call on."""
        call = self.place[node.inputs[0]]
        self.held[self.place[node]] = (len(self.sizes),)
        self.held[call] = (*self.held.get(call, ()), len(self.sizes))
        self.sizes.append(_bytes(node))

    def add(self, node: Node) -> None:
        """A call with one result: a storage of its own, or its operand's."""
        here = self.place[node]
        if here in self.held:
            return
        operand = self.place[self.stands.get(node.inputs[0], node.inputs[0])] if node.inputs else -1
        if self._is_view(node, operand):
            self.held[here] = self.held.get(operand, ())
            if node.op.name != "reshape":
                self.torn.add(here)
            return
        self.held[here] = (len(self.sizes),)
        self.sizes.append(_bytes(node))

    def _is_view(self, node: Node, operand: int) -> bool:
        return node.op.name in (*_VIEWS, "expand") or (node.op.name == "reshape" and operand not in self.torn)


def _bytes(node: Node) -> int:
    return int(node.size * getattr(torch, node.dtype).itemsize)
