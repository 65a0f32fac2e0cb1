"""One update as instants of the time axis: each value, the loss, each error signal, each update, with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ...document.blocks import Block, Derivation, Details, Equation, Instant, Paragraph, Parts, Phase, Section, Table
from ...document.math import Num, Ref, Sym, Words
from ...graph import Node
from ...notation import named
from .updates import entry_updates
from .why import why_value
from .written import MOST_ENTRIES, StepWriter, matrix_of

if TYPE_CHECKING:
    from .worked import Page

__all__ = ["computed", "range_of", "read", "reference", "update_title", "worked_step"]


def update_title(page: Page, writer: StepWriter) -> str:
    """The heading of an update: its number, and its sample where it has one."""
    sample = writer.step.sample
    return f"Update {writer.step.number}" + ("" if sample is None else f", sample {sample + page.base}")


def worked_step(page: Page, writer: StepWriter) -> Section:
    """One update in full: forward, loss, backward, update."""
    step = writer.step
    values = [n for n in page.values(writer) if n is not step.graph.loss]
    parts: list[Block] = [_phase(page, writer, "Forward pass", "forward", values)]
    if step.graph.loss is not None:
        parts.append(_phase(page, writer, "Loss", "loss", [step.graph.loss]))
        parts.append(_phase(page, writer, "Backward pass", "backward", page.adjoints(writer)))
    if page.program.optimizer is not None:
        parts.append(_updates(page, writer))
    parts.append(Details(f"Update {step.number} as tables", tuple(_tables(page, writer))))
    return Section(update_title(page, writer), tuple(parts), "", f"update-{step.number}")


def _phase(page: Page, writer: StepWriter, title: str, phase: Phase, nodes: Iterable[Node]) -> Section:
    instants = tuple(_instant(page, writer, phase, node) for node in nodes)
    return Section(title, instants, phase, f"update-{writer.step.number}-{title.split()[0].lower()}")


def _instant(page: Page, writer: StepWriter, phase: Phase, node: Node) -> Instant:
    name = (node.of or node).name
    return Instant(
        _words(writer, node),
        tuple(_quantity(page, writer, node)),
        phase,
        writer.step.number,
        computed(writer, [node]),
        read(writer, [node]),
        name,
    )


def _words(writer: StepWriter, node: Node) -> str:
    if node.of is None:
        why = why_value(node, writer.step.graph)
        name = f"loss {node.name}" if node is writer.step.graph.loss else node.name
        return f"{name}: {why}" if why and len(why) < 60 else name
    return f"gradient of {node.of.name}" if node.of.is_leaf else f"error signal of {node.of.name}"


# --- what is computed from what ---------------------------------------------------------------------------------------
def reference(writer: StepWriter, node: Node) -> Ref:
    """The quantity that a node is, in this update."""
    if node.of is not None:
        return Ref(node.of.name, (), "gradient", writer.step.number)
    return Ref(node.name, (), "before" if node.role == "parameter" else "value", writer.step.number)


def computed(writer: StepWriter, nodes: Iterable[Node]) -> tuple[Ref, ...]:
    """The quantities that nodes are, with the steps without a name inside their formulas."""
    found = [x for node in nodes for x in (node, *_behind(writer, node, hidden=True))]
    return tuple(dict.fromkeys(reference(writer, x) for x in found))


def read(writer: StepWriter, nodes: Iterable[Node]) -> tuple[Ref, ...]:
    """The named quantities that nodes are computed from, the nodes themselves aside."""
    own = list(nodes)
    found = dict.fromkeys(x for node in own for x in _behind(writer, node, hidden=False))
    return tuple(reference(writer, x) for x in found if x not in own)


def _behind(writer: StepWriter, node: Node, hidden: bool) -> Iterator[Node]:
    """The operands of a node as its formula has them: those with a name, or the steps on the way to them."""
    for x in dict.fromkeys(node.inputs):
        if writer.writer.is_named(x) or x.role == "constant":
            if not hidden and x.role != "constant":
                yield x
            continue
        if hidden:
            yield x
        yield from _behind(writer, x, hidden)


# --- the work ---------------------------------------------------------------------------------------------------------
def _quantity(page: Page, writer: StepWriter, node: Node) -> list[Block]:
    tensor = writer.tensor(writer.ref(node))
    whole = writer.whole(node) if node.of is None else page.gradient_equation(writer, node)
    if tensor is None or tensor.ndim > 2 or node.size > MOST_ENTRIES or tensor.is_complex():
        size = (
            Words("no number")
            if tensor is None
            else Words(f"{' × '.join(map(str, tensor.shape))} numbers, {range_of(tensor)}")
        )
        written = Derivation((Equation(whole.left, (*whole.steps, size), whole.why, whole.ref),))
        return (
            [written]
            if tensor is None or tensor.ndim <= 2 or not node.is_float or tensor.is_complex()
            else [written, _at_a_glance(whole, tensor)]
        )
    entries = tuple(writer.entries(node))
    if len(entries) == 1:
        return [Derivation((Equation(entries[0].left, entries[0].steps, whole.why, entries[0].ref),))]
    flipped = (node.of or node).name in writer.writer.layout.flipped
    ref = writer.ref(node)
    result = matrix_of(tensor, writer.exact(ref), ref, flipped)
    written = Derivation((Equation(whole.left, (*whole.steps, result), whole.why, whole.ref),))
    return [written, Details("each entry", (Derivation(entries),), open=True)] if entries else [written]


def _at_a_glance(whole: Equation, tensor: Tensor) -> Block:
    from .glances import glance  # which builds its instants with this module

    return glance(whole.left, tensor, whole.ref)


def _updates(page: Page, writer: StepWriter) -> Section:
    instants = tuple(_update(page, writer, name) for name in writer.step.parameters)
    return Section("Update", instants, "update", f"update-{writer.step.number}-update")


def _update(page: Page, writer: StepWriter, name: str) -> Instant:
    number, record = writer.step.number, writer.step.parameters[name]
    entries = tuple(entry_updates(writer, name))
    block: Block = Derivation(entries)
    if record.gradient is None:
        block = Paragraph((named(name, symbols=page.names), " receives no gradient and stays as it is."))
    elif not entries:
        size = Words(f"{' × '.join(map(str, record.after.shape))} numbers, {range_of(record.after)}")
        block = Derivation((Equation(named(name, symbols=page.names), (size,), "after the update"),))
    states = tuple(Ref(name, (), "state", number, state) for state in record.state)
    old = Ref(name, (), "before", number), Ref(name, (), "gradient", number)
    return Instant(
        f"update of {name}", (block,), "update", number, (Ref(name, (), "after", number), *states), old, name
    )


# --- tables ---
def _tables(page: Page, writer: StepWriter) -> list[Block]:
    """The record of one step: values with error signals, parameters with gradients before and after."""
    blocks: list[Block] = []
    for node in page.values(writer):
        if node.size <= MOST_ENTRIES and node.is_float and len(node.shape) <= 2:
            blocks.append(_value_table(page, writer, node))
    for name, p in writer.step.parameters.items():
        if p.before.numel() <= MOST_ENTRIES and not p.before.is_complex():
            blocks.append(_parameter_table(writer, name))
    return blocks


def _value_table(page: Page, writer: StepWriter, node: Node) -> Table:
    value, grad = writer.step.values[node.name], writer.step.gradients.get(node.name)
    delta = writer.joint.gradients.get(node) if writer.joint else None
    rows = []
    for place in np.ndindex(*node.shape):
        cells: list[Any] = [
            writer.writer.entry(node, place),
            writer.number(Sym("", ref=Ref(node.name, place, "value", writer.step.number))),
        ]
        if grad is not None:
            cells.append(writer.number(Sym("", ref=Ref(node.name, place, "gradient", writer.step.number))))
        rows.append(tuple(cells))
    head: list[Parts] = [("entry",), (named(node.name, symbols=page.names),)]
    if grad is not None and delta is not None:
        head.append((writer.writer.symbol(delta),))
    assert value.shape == node.shape
    return Table(tuple(head), tuple(rows), f"{node.name} and its error signal", tuple(range(1, len(head))))


def _parameter_table(writer: StepWriter, name: str) -> Table:
    record, step = writer.step.parameters[name], writer.step
    node = step.graph.by_name[name]
    exact_after, exact_grad = step.exact.get(f"after.{name}"), step.exact.get(f"grad.{name}")
    rows = []
    for place in np.ndindex(*record.before.shape):
        row: list[Any] = [
            writer.writer.entry(node, place),
            writer.number(Sym("", ref=Ref(name, place, "before", step.number))),
        ]
        row.append(
            None
            if record.gradient is None
            else _num(record.gradient, exact_grad, Ref(name, place, "gradient", step.number))
        )
        row += [
            _num(t.expand(record.before.shape), None, Ref(name, place, "state", step.number, s))
            for s, t in record.state.items()
        ]
        row.append(_num(record.after, exact_after, Ref(name, place, "after", step.number)))
        rows.append(tuple(row))
    head: tuple[Parts, ...] = (
        ("entry",),
        ("before",),
        ("gradient",),
        *((named(s),) for s in record.state),
        ("after",),
    )
    return Table(head, tuple(rows), f"{name} before and after update {step.number}", tuple(range(1, len(head))))


def _num(tensor: Tensor, exact: Any, ref: Ref) -> Num:
    return Num(float(tensor[ref.index]), None if exact is None else str(exact[ref.index]), ref)


def range_of(tensor: Tensor) -> str:
    """The least and the largest entry in words."""
    if not tensor.numel():
        return "none"
    if tensor.is_complex():
        return f"complex, of absolute values up to {tensor.abs().max().item():.4g}"
    wide = tensor.double()
    return f"from {wide.min().item():.4g} to {wide.max().item():.4g}"
