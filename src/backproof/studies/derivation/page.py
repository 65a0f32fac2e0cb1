"""A derivation as a page: what is given, the graph, forward, error signals, gradients, the same with everything put in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...document.blocks import Block, Callout, Derivation, Equation, Figure, Paragraph, Section
from ...document.math import Call, Expr, Function, Mul, Sym, Words
from ...graph import Node
from ...notation import named, symbol
from ...ops.arbitrary import arbitrary
from ..writing.worked import evidence_section
from ..writing.written import MOST_ENTRIES, matrix_of
from .backward import Backward, Line

if TYPE_CHECKING:
    from .derive import Derived

__all__ = ["blocks_of"]


def blocks_of(derived: Derived) -> list[Block]:
    """The blocks of the page, in the order of the question."""
    work = derived.work
    blocks: list[Block] = [Paragraph((derived.about,))] if derived.about else []
    blocks += [_given(derived), _network(work), _section("Forward", work.forward, "forward")]
    blocks.append(_backward(work))
    blocks.append(_gradients(work))
    if work.is_expandable:
        blocks.append(_expanded(work))
    if derived.remarks:
        blocks.append(Section("Remarks", tuple(Callout("note", (r,)) for r in derived.remarks), "result", "remarks"))
    return [*blocks, evidence_section(derived.evidence)]


def _section(title: str, lines: list[Line], phase: str) -> Section:
    return Section(title, (Derivation(tuple(line.equation() for line in lines)),), phase, phase)  # type: ignore[arg-type]


def _given(derived: Derived) -> Section:
    work = derived.work
    leaves = [n for n in work.graph.nodes if n.is_leaf and n.role != "constant"]
    free = [n for n in leaves if n.name not in derived.start]
    blocks: list[Block] = []
    if free:
        parts: list[str | Expr] = ["Quantities without a number: "]
        for i, node in enumerate(free):
            parts += [", "] if i else []
            parts.append(symbol(node, work.names))
            if node.shape:
                parts.append(f" ({' × '.join(map(str, node.shape))})")
        blocks.append(Paragraph((*parts, ".")))
    if derived.functions:
        parts = ["Arbitrary differentiable functions, with their derivatives: "]
        for i, name in enumerate(derived.functions):
            parts += [", " if i else "", _called(name, 0), " with ", _called(name, 1)]
        blocks.append(Paragraph((*parts, ".")))
    numbers = [_number(derived, n) for n in leaves if n.name in derived.start]
    if numbers:
        blocks.append(Derivation(tuple(numbers)))
    return Section("Given", tuple(blocks), "given", "given")


def _called(name: str, primes: int) -> Expr:
    op = arbitrary(name)
    return Call(Function(name, op.text, op.latex, primes), (Sym("s"),), name)


def _number(derived: Derived, node: Node) -> Equation:
    tensor = derived.start[node.name]
    small = tensor.numel() <= MOST_ENTRIES and tensor.ndim <= 2
    shown: Expr = matrix_of(tensor) if small else Words(f"{' × '.join(map(str, tensor.shape))} numbers")
    return Equation(symbol(node, derived.work.names), (shown,), "")


def _network(work: Backward) -> Section:
    from ...pictures.operations import operations

    drawing = operations(work.graph, symbols=lambda n: symbol(n, work.names), max_nodes=30, each=True)
    count = sum(not n.is_leaf for n in work.graph.nodes)
    figure = Figure(
        drawing,
        ("The computational graph: every operation, from what is given to the loss.",),
        f"Computational graph with {count} operations",
        "operations",
    )
    return Section("The network", (figure,), "", "network")


def _top(work: Backward) -> Sym:
    return named(work.of.name, symbols=work.names)


def _backward(work: Backward) -> Section:
    if not work.signals:
        text = Paragraph(
            ("No error signal is needed more than once: each gradient follows by the chain rule at once.",)
        )
        return Section("Error signals", (text,), "backward", "backward")
    first = work.backward[-1]
    assert first.node.of is not None
    parts: list[str | Expr] = [
        "The error signal of a quantity is the derivative of ", _top(work), " with respect to it: ", first.left, " for ",
        symbol(first.node.of, work.names),
        ". Each follows from the ones before it in this list, by the rule at its side, and is not put into the next.",
    ]  # fmt: skip
    blocks: list[Block] = [Paragraph(tuple(parts))]
    if any(line.node.shape for line in work.backward):
        blocks.append(
            Paragraph(("A product of equal shapes (⊙) goes entry by entry; a vector is a column; samples are rows.",))
        )
    blocks.append(Derivation(tuple(line.equation() for line in work.backward)))
    if _is_chain(work):
        blocks.append(Paragraph(("All of them after the first have one form, the recursion ", *_recursion(), ".")))
    return Section("Error signals", tuple(blocks), "backward", "backward")


def _is_chain(work: Backward) -> bool:
    from .derive import recursion_of

    return recursion_of(work) is not None


def _recursion() -> tuple[str | Expr, ...]:
    slope = Call(Function("f", "f", "f_{k-1}", 1), (Sym("s", ("k-1",)),), "f")
    return Sym("delta", ("k-1",)), " = ", Mul((Sym("delta", ("k",)), Sym("W", ("k",)), slope))


def _gradients(work: Backward) -> Section:
    if not work.gradients:
        text = Paragraph((_top(work), " depends on none of the quantities asked for: each gradient is 0."))
        return Section("Gradients", (text,), "backward", "gradients")
    return Section(
        "Gradients", (Derivation(tuple(line.equation() for line in work.gradients)),), "backward", "gradients"
    )


def _expanded(work: Backward) -> Section:
    text = Paragraph(
        (
            "The same with every error signal put in. This form grows faster than the depth; the one above, in which no "
            "formula is written twice, does not.",
        )
    )
    lines = tuple(Equation(line.left, (line.right,)) for line in work.expanded)
    return Section("Written out", (text, Derivation(lines)), "result", "expanded")
