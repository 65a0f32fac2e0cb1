"""The derivation of a network as blocks: an equation for each quantity, those of repeated modules once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ...document.blocks import Block, Derivation, Equation, Paragraph, Part, Parts, Table
from ...graph import Node
from ...notation import symbol
from .repeats import Repeat
from .written import StepWriter

if TYPE_CHECKING:
    from .worked import Page

__all__ = ["backward_blocks", "forward_blocks", "names_of"]


def forward_blocks(page: Page, writer: StepWriter) -> tuple[Block, ...]:
    """The equations of the forward pass."""
    skipped = {n: repeat for repeat in page.repeated for n in repeat.twins}
    return _blocks(page.values(writer), skipped, writer.whole, lambda repeat: _told(page, repeat))


def backward_blocks(page: Page, writer: StepWriter) -> tuple[Block, ...]:
    """The equations of the backward pass; of a repeated module those at its border are written too."""
    users = writer.step.graph.users

    def inner(repeat: Repeat, node: Node) -> bool:
        twin = repeat.twins[node]
        return {repeat.twins.get(u) for u in users[node]} == set(users[twin])

    skipped = {n: repeat for repeat in page.repeated for n in repeat.twins if inner(repeat, n)}
    return _blocks(
        page.adjoints(writer),
        skipped,
        lambda adjoint: page.gradient_equation(writer, adjoint),
        lambda repeat: (Paragraph((f"Inside {names_of(repeat)} the equations are those of {repeat.first}.",)),),
    )


def _blocks(
    nodes: Sequence[Node],
    skipped: dict[Node, Repeat],
    equation: Callable[[Node], Equation],
    told: Callable[[Repeat], Iterable[Block]],
) -> tuple[Block, ...]:
    """The equations in order; in place of those that are left out, one word about all of them."""
    blocks: list[Block] = []
    said: list[Repeat] = []
    run: list[Equation] = []
    for node in nodes:
        repeat = skipped.get(node.of or node)
        if repeat is None:
            run.append(equation(node))
        elif not any(repeat is other for other in said):
            said.append(repeat)
            blocks += [*([Derivation(tuple(run))] if run else []), *told(repeat)]
            run = []
    return (*blocks, Derivation(tuple(run))) if run or not blocks else tuple(blocks)


def _told(page: Page, repeat: Repeat) -> tuple[Block, ...]:
    """What the repeated modules read and give."""
    rows = tuple(
        (name, _symbols(page, repeat.reads[name]), _symbols(page, repeat.gives[name]))
        for name in (repeat.others if not repeat.shares else dict.fromkeys((repeat.others[0], repeat.others[-1])))
    )
    own = "one after another" if repeat.shares else "each with parameters of its own"
    words = f"The equations of {repeat.first} hold for {names_of(repeat)} too, {own}."
    return Paragraph((words,)), Table((("module",), ("reads",), ("gives",)), rows, f"Modules like {repeat.first}")


def _symbols(page: Page, nodes: Sequence[Node]) -> Parts:
    parts: list[Part] = []
    for node in nodes:
        parts += [", ", symbol(node, page.names)]
    return tuple(parts[1:])


def names_of(repeat: Repeat) -> str:
    """The modules that repeat the first, in words."""
    if len(repeat.others) < 3:
        return " and ".join(repeat.others)
    return f"{repeat.others[0]} to {repeat.others[-1]}"
