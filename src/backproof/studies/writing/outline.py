"""A network as lines: a module is one line that opens, modules in a row that compute the same are one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ...errors import InputError
from ...graph import Graph, Node
from .repeats import signature

__all__ = ["Line", "outline"]

COMFORTABLE = 26
"""So many lines are read at a glance; a network is opened as far as they suffice."""
DEEPEST = 4
MOST = 200
"""Lines of one outline; the middle of a longer one is left out."""


@dataclass(frozen=True)
class Line:
    """A module, modules that compute the same, or one value.

    Args:
        level: how deep it lies, from 0.
        title: what it is called: a module's path, "layers.0 … 11", or a value's name.
        members: for each module that the line stands for, its operations in order; one for a single module or value.
        module: the path of the first module, "" for a value.
        opened: whether the lines of its parts follow.
    """

    level: int
    title: str
    members: tuple[tuple[Node, ...], ...]
    module: str = ""
    opened: bool = False

    @property
    def times(self) -> int:
        """How many modules it stands for."""
        return len(self.members)

    @property
    def first(self) -> tuple[Node, ...]:
        """The operations of the first of them."""
        return self.members[0]

    @property
    def value(self) -> Node:
        """The last named value of the first."""
        return _named_last(self.first)

    @property
    def last_value(self) -> Node:
        """The last named value of the last."""
        return _named_last(self.members[-1])


def _named_last(nodes: Sequence[Node]) -> Node:
    return next((n for n in reversed(nodes) if n.role == "value"), nodes[-1])


def outline(graph: Graph, depth: int | None = None, module: str = "") -> tuple[Line, ...]:
    """Return a network as lines.

    Args:
        graph: the network.
        depth: how many levels are opened; None for as many as are read at a glance.
        module: the module whose inside is shown; "" for the network.

    Raises:
        InputError: there is no such module.
    """
    nodes = [n for n in graph.nodes if not n.is_leaf and _within(n.module, module)]
    if not nodes:
        raise InputError(_unknown(graph, module))
    if depth is not None:
        return tuple(_lines(nodes, module, depth, 0))
    found = tuple(_lines(nodes, module, 1, 0))
    for deeper in range(2, DEEPEST + 1):
        more = tuple(_lines(nodes, module, deeper, 0, whole=True))
        if len(more) > COMFORTABLE:
            break
        found = more
    return found


def _within(path: str, module: str) -> bool:
    return not module or path == module or path.startswith(f"{module}.")


def _unknown(graph: Graph, module: str) -> str:
    known = {".".join(n.module.split(".")[:k]) for n in graph.nodes for k in range(1, n.module.count(".") + 2)} - {""}
    near = difflib.get_close_matches(module, known, 3) or sorted(known)[:6]
    return f"there is no module '{module}' that computes anything" + (f"; there are {', '.join(near)}" if near else "")


def _part(node: Node, module: str) -> str:
    """The part of a module that an operation belongs to; "" for one of its own. A list's number belongs to its name."""
    rest = node.module.removeprefix(module).removeprefix(".").split(".") if node.module != module else []
    if not rest:
        return ""
    taken = next((i for i, word in enumerate(rest) if not word.isdecimal() and i), len(rest)) if len(rest) > 1 else 1
    return ".".join(filter(None, (module, *rest[:taken])))


def _lines(nodes: Sequence[Node], module: str, depth: int, level: int, whole: bool = False) -> Iterator[Line]:
    """The lines of a module's parts; with ``whole`` those without parts of their own, such as a norm, stay closed."""
    runs = [(part, tuple(run)) for part, run in groupby(nodes, lambda n: _part(n, module))]
    for alike in _alike(runs):
        part, first = alike[0]
        if not part:
            yield from _values(first, level)
            continue
        title = part if len(alike) == 1 else f"{part} … {alike[-1][0].rpartition('.')[2]}"
        opens = depth > 1 and len([n for n in first if n.role == "value"]) > 1
        opens = opens and not (whole and all(n.module == part for n in first))
        yield Line(level, title, tuple(run for _, run in alike), part, opens)
        if opens:
            yield from _lines(first, part, depth - 1, level + 1, whole)


def _alike(runs: Iterable[tuple[str, tuple[Node, ...]]]) -> list[list[tuple[str, tuple[Node, ...]]]]:
    """Runs in a row whose modules differ in their number alone and compute the same."""
    found: list[list[tuple[str, tuple[Node, ...]]]] = []
    last: object = None
    for part, run in runs:
        key = (part.rpartition(".")[0], signature(part, run)) if part.rpartition(".")[2].isdecimal() else None
        if key is not None and key == last:
            found[-1].append((part, run))
        else:
            found.append([(part, run)])
        last = key
    return found


def _values(nodes: Sequence[Node], level: int) -> Iterator[Line]:
    """A line for each named value, with the steps inside its formula."""
    steps: list[Node] = []
    for node in nodes:
        steps.append(node)
        if node.role == "value":
            yield Line(level, node.name, (tuple(steps),))
            steps = []
