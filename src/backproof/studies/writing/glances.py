"""A step of a network that is too large to be written out: by module, each tensor at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ...document.blocks import Block, Details, Glance, Instant, Parts, Phase, Section, Table
from ...document.math import Expr, Num, Ref
from ...graph import Node
from ...notation import named
from ..statistics import Statistics
from .inside import module_figure
from .instants import computed, read, update_title
from .written import StepWriter

if TYPE_CHECKING:
    from .worked import Page

__all__ = ["glance", "summary_step"]

_MOST_LINES = 12
"""Instants of one pass; beyond it modules are gathered one level higher."""

Member = tuple[Expr, Tensor | Statistics, Ref]


def summary_step(page: Page, writer: StepWriter) -> Section:
    """One update of a larger network, an instant for each module in each pass, in it one for each of its parts."""
    parts = [_passed(page, writer, "forward")]
    if writer.step.graph.loss is not None:
        parts.append(_passed(page, writer, "backward"))
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


def _parts(name: str, nodes: Sequence[Node]) -> list[Group]:
    """A module's values one level deeper; what it computes itself is named by the values."""
    return [
        (", ".join(n.name for n in run) if part == name else part, run)
        for part, run in _runs(nodes, name.count(".") + 2)
    ]


def _passed(page: Page, writer: StepWriter, phase: Phase) -> Section:
    groups = _groups(page.values(writer))
    instants = _in_order(page, writer, phase, groups)
    title = {"forward": "Forward pass", "backward": "Backward pass"}[phase]
    return Section(title, instants, phase, f"update-{writer.step.number}-{phase}")


def _in_order(page: Page, writer: StepWriter, phase: Phase, groups: Sequence[Group]) -> tuple[Instant, ...]:
    turned = groups[::-1] if phase == "backward" else groups
    found = (_instant(page, writer, phase, *group) for group in turned)
    return tuple(instant for instant in found if instant is not None)


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
    within = _parts(name, nodes) if nodes[0].module else []
    parts = _in_order(page, writer, phase, within) if len(within) > 1 else ()
    first = phase == "forward" and writer is page.writers[0]
    drawn = module_figure(page, writer, name) if parts and first else ()
    number, blocks = writer.step.number, _folded(name, parts, drawn) or _blocks(members, title)
    return Instant(title, blocks, phase, number, computed(writer, shown), read(writer, shown), name)


def _folded(name: str, parts: Sequence[Instant], drawn: Sequence[Block] = ()) -> tuple[Block, ...]:
    """A module as its parts, which a page opens when asked to; nothing where there is one part alone."""
    if len(parts) < 2:
        return ()
    names = [part.name.removeprefix(f"{name}.") for part in parts]
    return (Details(f"{name} in {len(parts)} parts: {', '.join(names)}", (*drawn, *parts)),)


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
    modules = {name: name.rpartition(".")[0] or name for name in writer.step.parameters}
    depth = 2 if len({_top(module, 2) for module in modules.values()}) <= _MOST_LINES else 1
    instants = []
    for top in dict.fromkeys(_top(module, depth) for module in modules.values()):
        own = {name: module for name, module in modules.items() if _top(module, depth) == top}
        within = dict.fromkeys(own.values())
        parts = [_update(page, writer, m, [n for n in own if own[n] == m]) for m in within] if len(within) > 1 else []
        instants.append(_update(page, writer, top, list(own), parts))
    return Section("Update", tuple(instants), "update", f"update-{writer.step.number}-update")


def _top(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def _update(
    page: Page, writer: StepWriter, module: str, names: Sequence[str], parts: Sequence[Instant] = ()
) -> Instant:
    number, members, old = writer.step.number, list[Member](), list[Ref]()
    for name in names:
        after = writer.step.parameters[name].after
        members.append((named(name, symbols=page.names), after, Ref(name, (), "after", number)))
        old += [Ref(name, (), "before", number), Ref(name, (), "gradient", number)]
    title = f"update of {module}"
    blocks, new = _folded(module, parts) or _blocks(members, title), tuple(member[2] for member in members)
    return Instant(title, blocks, "update", number, new, tuple(old), module)


# --- tensors ----------------------------------------------------------------------------------------------------------
_COLUMNS: tuple[Parts, ...] = (("quantity",), ("shape",), ("mean size",), ("largest",), ("norm",))


def _blocks(members: Sequence[Member], title: str) -> tuple[Block, ...]:
    """Numbers that describe the tensors as a table, then each at a glance."""
    found = [(symbol, _known(tensor), ref) for symbol, tensor, ref in members]
    rows = tuple((symbol, _shape(s), Num(s.mean_size), Num(s.largest), Num(s.norm)) for symbol, s, _ in found)
    table = Table(_COLUMNS, rows, title, (2, 3, 4))
    return (table, *(glance(*member) for member in found if member[1].numel() > 1))


def _known(tensor: Tensor | Statistics) -> Statistics:
    return tensor if isinstance(tensor, Statistics) else Statistics.of(tensor)


def _shape(tensor: Statistics) -> str:
    return "×".join(map(str, tensor.shape)) or "1"


def glance(symbol: Expr, tensor: Tensor | Statistics, ref: Ref | None = None) -> Glance:
    """A tensor as a histogram and a heat map of block means: of a matrix, or of the first few feature maps side by side."""
    known = _known(tensor)
    words: Parts = (f"{_shape(known)} numbers from ", Num(known.min), " to ", Num(known.max))
    return Glance(symbol, words, known.counts, known.min, known.max, known.cells, ref)
