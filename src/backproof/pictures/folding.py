"""Fewer boxes for a large graph: operations of one module in one box, equal boxes in a row drawn once.

The boxes form a graph without a cycle again: where a module's operations lie before and after something else
(a module that is called twice), it becomes two boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..graph import Graph, Node

__all__ = ["Group", "apart", "folded_by_module", "links"]

_COMFORTABLE = 24
"""So many boxes are read at a glance; beyond it modules are folded one level higher."""


@dataclass(frozen=True, eq=False)
class Group:
    """What one shape of the picture stands for: one node, or the operations of a module.

    Args:
        nodes: the nodes, in order.
        title: the module's path; "" for a single node.
        times: how many equal boxes in a row it stands for.
    """

    nodes: tuple[Node, ...]
    title: str = ""
    times: int = 1

    @property
    def last(self) -> Node:
        """The node whose value leaves it."""
        return self.nodes[-1]

    @property
    def operations(self) -> int:
        """The number of its operations; one at least, if it computes anything."""
        counted = sum(node.is_operation for node in self.nodes)
        return counted or int(any(not node.is_leaf for node in self.nodes))


def apart(nodes: Iterable[Node]) -> list[Group]:
    """Return every node as a group of its own."""
    return [Group((node,)) for node in nodes]


def links(groups: Sequence[Group]) -> dict[tuple[Group, Group], list[tuple[Node, Node]]]:
    """Return the edges between groups, each with the operands and users behind it."""
    home = {node: group for group in groups for node in group.nodes}
    found: dict[tuple[Group, Group], list[tuple[Node, Node]]] = {}
    for group in groups:
        for node in group.nodes:
            for operand in dict.fromkeys(node.inputs):
                start = home.get(operand)
                if start is not None and start is not group:
                    found.setdefault((start, group), []).append((operand, node))
    return found


def folded_by_module(graph: Graph, nodes: Sequence[Node], most: int, each: bool = False) -> list[Group]:
    """Return the nodes in at most ``most`` groups of operations, by module path, two levels deep or one.

    Args:
        graph: the graph.
        nodes: those of its nodes that are drawn, in order.
        most: the number of groups that may not be passed.
        each: whether equal boxes in a row are all drawn as long as they are read at a glance.
    """
    found: list[Group] = []
    for depth in (2, 1):
        single = _by_module(graph, nodes, depth)
        if each and _size(single) <= min(most, _COMFORTABLE):
            return single
        found = _repeated(single)
        if _size(found) <= min(most, _COMFORTABLE):
            return found
    return found if _size(found) <= most else _in_runs(nodes, most)


def _size(groups: Iterable[Group]) -> int:
    return sum(group.operations > 0 for group in groups)


# --- by module -----------------------------------------------------------------------------------------
def _by_module(graph: Graph, nodes: Sequence[Node], depth: int) -> list[Group]:
    runs = _Runs()
    for node in nodes:
        if not node.is_leaf:
            runs.add(node, ".".join(node.module.split(".")[:depth]))
    owners = {leaf: _owner(graph, runs, leaf) for leaf in nodes if leaf.is_leaf}
    groups = [Group((leaf,)) for leaf, owner in owners.items() if owner is None]
    for run, (key, members) in enumerate(runs.members):
        inside = [leaf for leaf, owner in owners.items() if owner == run]
        groups.append(Group((*inside, *members), key if len(members) + len(inside) > 1 else ""))
    return groups


def _owner(graph: Graph, runs: _Runs, leaf: Node) -> int | None:
    """The box that a parameter or constant disappears into: that of all its users, if it is a module's."""
    homes = {runs.home[user] for user in graph.users[leaf] if user in runs.home}
    home = homes.pop() if len(homes) == 1 else None
    inside = home is not None and runs.members[home][0] and leaf.role in ("parameter", "buffer", "constant", "draw")
    return home if inside else None


class _Runs:
    """Boxes under construction, with the boxes that each depends on as the bits of a number."""

    def __init__(self) -> None:
        self.members: list[tuple[str, list[Node]]] = []
        self.home: dict[Node, int] = {}
        self._before: list[int] = []
        self._open: dict[str, int] = {}

    def add(self, node: Node, key: str) -> None:
        """Put an operation into the open box of its module, or a new one where that would close a cycle."""
        operands = {self.home[x] for x in node.inputs if x in self.home}
        run = self._open.get(key) if key else None
        if run is None or any(self._before[x] >> run & 1 for x in operands if x != run):
            run = self._new(key)
        self.members[run][1].append(node)
        self.home[node] = run
        self._depend(run, operands - {run})

    def _new(self, key: str) -> int:
        self.members.append((key, []))
        self._before.append(0)
        self._open[key] = len(self.members) - 1
        return self._open[key]

    def _depend(self, run: int, operands: set[int]) -> None:
        more = 0
        for x in operands:
            more |= 1 << x | self._before[x]
        if more & ~self._before[run]:
            self._before = [b | more if i == run or b >> run & 1 else b for i, b in enumerate(self._before)]


# --- repetition ----------------------------------------------------------------------------------------
def _repeated(groups: list[Group]) -> list[Group]:
    """Equal boxes in a row as one; a box follows another if nothing else takes the other's result."""
    edges = links(groups)
    after: dict[Group, list[Group]] = {group: [] for group in groups}
    before: dict[Group, list[Group]] = {group: [] for group in groups}
    for a, b in edges:
        after[a].append(b)
        before[b].append(a)

    def next_equal(group: Group) -> Group | None:
        if len(after[group]) != 1 or not group.title:
            return None
        follower = after[group][0]
        elsewhere = set(before[follower]) - {group}
        return follower if elsewhere <= set(before[group]) and _kind(follower) == _kind(group) else None

    following = {group: next_equal(group) for group in groups}
    followers = set(following.values())
    return [_run(group, following) for group in groups if group not in followers]


def _kind(group: Group) -> tuple[object, ...]:
    """Equal kinds differ at most in the numbers of their titles: blocks.0 and blocks.1."""
    return re.sub(r"\d+", "", group.title), *((node.op.name, node.shape) for node in group.nodes)


def _run(group: Group, following: dict[Group, Group | None]) -> Group:
    members = [group]
    while (follower := following[members[-1]]) is not None:
        members.append(follower)
    if len(members) == 1:
        return group
    nodes = tuple(node for member in members for node in member.nodes)
    return Group(nodes, f"{group.title} … {members[-1].title}", len(members))


# --- the last resort -----------------------------------------------------------------------------------
def _in_runs(nodes: Sequence[Node], most: int) -> list[Group]:
    """Operations that no module gathers: equal numbers of them, in the order of computation."""
    computed = [node for node in nodes if not node.is_leaf]
    count = min(most, _COMFORTABLE)
    cuts = [len(computed) * i // count for i in range(count + 1)]
    runs = [computed[a:b] for a, b in pairwise(cuts) if b > a]
    leaves = [node for node in nodes if node.role in ("input", "target")]
    return apart(leaves) + [Group(tuple(run), f"{run[0].name} … {run[-1].name}") for run in runs]
