"""A step of a network that is too large to be written out: by module, each tensor at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..document.blocks import Block, Glance, Instant, Parts, Phase, Section, Table
from ..document.math import Expr, Num, Ref
from ..graph import Node
from ..notation import named
from .instants import computed, read, update_title
from .written import StepWriter

if TYPE_CHECKING:
    from .worked import Page

__all__ = ["glance", "summary_step"]

_BINS, _CELLS = 24, 12
_MOST_LINES = 12
"""Instants of one pass; beyond it modules are gathered one level higher."""

Member = tuple[Expr, Tensor, Ref]


def summary_step(page: Page, writer: StepWriter) -> Section:
    """One update of a larger network, an instant for each module in each pass."""
    groups = _groups(page.values(writer))
    parts = [_passed(page, writer, "forward", groups)]
    if writer.step.graph.loss is not None:
        parts.append(_passed(page, writer, "backward", groups[::-1]))
    if page.program.optimizer is not None:
        parts.append(_updated(page, writer))
    return Section(update_title(page, writer), tuple(parts), "", f"update-{writer.step.number}")


# --- modules ----------------------------------------------------------------------------------------------------------
Group = tuple[str, list[Node]]


def _groups(nodes: Sequence[Node]) -> list[Group]:
    """The values in a row that belong to one module, two levels deep or one."""
    deep = _runs(nodes, 2)
    return deep if len(deep) <= 3 * _MOST_LINES else _runs(nodes, 1)


def _runs(nodes: Sequence[Node], depth: int) -> list[Group]:
    found: list[Group] = []
    for node in nodes:
        name = ".".join(node.module.split(".")[:depth]) or node.name
        if found and found[-1][0] == name:
            found[-1][1].append(node)
        else:
            found.append((name, [node]))
    return found


def _passed(page: Page, writer: StepWriter, phase: Phase, groups: Iterable[Group]) -> Section:
    instants = [_instant(page, writer, phase, *group) for group in groups]
    title = {"forward": "Forward pass", "backward": "Backward pass"}[phase]
    found = tuple(i for i in instants if i is not None)
    return Section(title, found, phase, f"update-{writer.step.number}-{phase}")


def _instant(page: Page, writer: StepWriter, phase: Phase, name: str, nodes: Sequence[Node]) -> Instant | None:
    loss = writer.step.graph.loss
    if phase == "forward":
        shown, members = list(nodes), list(_values(page, writer, nodes))
        phase, title = ("loss", "loss") if nodes[-1] is loss and len(nodes) == 1 else (phase, name)
    else:
        shown = _adjoints(writer, nodes)
        members, title = list(_gradients(page, writer, shown)), f"error signals of {name}"
    if not members:
        return None
    number = writer.step.number
    return Instant(title, _blocks(members, title), phase, number, computed(writer, shown), read(writer, shown), name)


def _values(page: Page, writer: StepWriter, nodes: Iterable[Node]) -> Iterator[Member]:
    for node in nodes:
        tensor = writer.step.values[node.name]
        yield named(node.name, symbols=page.names), tensor, Ref(node.name, (), "value", writer.step.number)


def _adjoints(writer: StepWriter, nodes: Sequence[Node]) -> list[Node]:
    """The error signals of a module's values, last first, then the gradients of its parameters."""
    assert writer.joint is not None
    graph, gradients = writer.step.graph, writer.joint.gradients
    own = [p for p in graph.parameters if set(graph.users[p]) & set(nodes)]
    return [g for n in (*reversed(nodes), *own) if (g := gradients.get(n)) is not None]


def _gradients(page: Page, writer: StepWriter, adjoints: Iterable[Node]) -> Iterator[Member]:
    for adjoint in adjoints:
        assert adjoint.of is not None
        tensor = writer.step.gradients[adjoint.of.name]
        if tensor is not None:
            yield writer.writer.symbol(adjoint), tensor, Ref(adjoint.of.name, (), "gradient", writer.step.number)


def _updated(page: Page, writer: StepWriter) -> Section:
    parents = dict.fromkeys(".".join(n.split(".")[:2]) if "." in n else n for n in writer.step.parameters)
    instants = tuple(_module_update(page, writer, parent) for parent in parents)
    return Section("Update", instants, "update", f"update-{writer.step.number}-update")


def _module_update(page: Page, writer: StepWriter, parent: str) -> Instant:
    number, members, old = writer.step.number, list[Member](), list[Ref]()
    for name, record in writer.step.parameters.items():
        if name == parent or name.startswith(f"{parent}."):
            symbol = named(name, symbols=page.names)
            members.append((symbol, record.after, Ref(name, (), "after", number)))
            old += [Ref(name, (), "before", number), Ref(name, (), "gradient", number)]
    title = f"update of {parent}"
    return Instant(title, _blocks(members, title), "update", number, tuple(m[2] for m in members), tuple(old), parent)


# --- tensors ----------------------------------------------------------------------------------------------------------
_COLUMNS: tuple[Parts, ...] = (("quantity",), ("shape",), ("mean size",), ("largest",), ("norm",))


def _blocks(members: Sequence[Member], title: str) -> tuple[Block, ...]:
    """Numbers that describe the tensors as a table, then each at a glance."""
    rows = tuple((symbol, _shape(tensor), *_sizes(tensor)) for symbol, tensor, _ in members)
    table = Table(_COLUMNS, rows, title, (2, 3, 4))
    return (table, *(glance(*member) for member in members if member[1].numel() > 1))


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "1"


def _sizes(tensor: Tensor) -> tuple[Num, Num, Num]:
    wide = tensor.double().abs()
    return Num(wide.mean().item()), Num(wide.max().item()), Num(wide.norm().item())


def glance(symbol: Expr, tensor: Tensor, ref: Ref | None = None) -> Glance:
    """A tensor as a histogram and, for a matrix, a heat map of block means."""
    wide = tensor.detach().double()
    low, high = wide.min().item(), wide.max().item()
    counts = torch.histc(wide.reshape(-1), _BINS, low, high) if low < high else torch.tensor([wide.numel()])
    words: Parts = (f"{_shape(tensor)} numbers from ", Num(low), " to ", Num(high))
    return Glance(symbol, words, tuple(int(c) for c in counts), low, high, _cells(wide), ref)


def _cells(wide: Tensor) -> tuple[tuple[float, ...], ...]:
    if wide.ndim < 2 or min(wide.shape[-2:]) < 2:
        return ()
    matrix = wide.reshape(-1, wide.shape[-1])
    size = min(_CELLS, matrix.shape[0]), min(_CELLS, matrix.shape[1])
    means: Any = torch.nn.functional.adaptive_avg_pool2d(matrix[None], size)[0]
    largest = means.abs().max().item() or 1.0
    return tuple(tuple(round(v / largest, 3) for v in row) for row in means.tolist())
