"""A derivation as a page: given, symbols, the graph, functions, forward, error signals, gradients, all put in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...document.blocks import (
    Block,
    Callout,
    Derivation,
    Details,
    Equation,
    Figure,
    Items,
    Paragraph,
    Part,
    Parts,
    Section,
    Table,
)  # fmt: skip
from ...document.math import Call, Expr, Function, Mul, Sym
from ...graph import Node
from ...notation import named, symbol
from ...ops.arbitrary import arbitrary
from ..writing.worked import evidence_section
from ..writing.written import MOST_ENTRIES, matrix_of
from .backward import Backward, Line
from .folding import for_each
from .functions_used import functions_section

if TYPE_CHECKING:
    from .depth import General
    from .derived import Derived

__all__ = ["blocks_of"]

MOST_NAMED = 60


def blocks_of(derived: Derived) -> list[Block]:
    """The blocks of the page, in the order of the question."""
    work = derived.work
    blocks: list[Block] = [Paragraph((derived.about,))] if derived.about else []
    if derived.by_depth is None:
        blocks += [_given(derived), *_symbols(work), _network(work)]
    blocks += [*_conventions(work), *functions_section(work)]
    if derived.by_depth is not None:
        blocks += _general(derived.by_depth.general)
        return [*blocks, evidence_section(derived.evidence)]
    blocks.append(Section("Forward", _equations(work, work.forward), "forward", "forward"))
    blocks.append(_backward(work))
    blocks.append(_gradients(work))
    if derived.view == "entries":
        from .by_entries import entries_section

        blocks.append(entries_section(work))
    if work.expanded:
        blocks.append(_expanded(work))
    if derived.remarks:
        blocks.append(Section("Remarks", tuple(Callout("note", (r,)) for r in derived.remarks), "result", "remarks"))
    return [*blocks, evidence_section(derived.evidence)]


# --- equations, with what repeats written once ------------------------------------------------------------------------
def _equations(work: Backward, lines: Sequence[Line]) -> tuple[Block, ...]:
    """The equations in order; a run of alike ones stands once, with its index."""
    plain = dict(enumerate(lines))
    blocks: list[Block] = []
    place = 0
    for fold in work.folds(lines):
        count = len(fold.entries) * max(len(fold.values), 1)
        if fold.values:
            made = tuple(Equation(e.left, (e.right,), e.rule) for e in fold.entries)
            blocks += [Paragraph(for_each(fold)), Derivation(made)]
        elif blocks and isinstance(blocks[-1], Derivation) and not _after_fold(blocks):
            blocks[-1] = Derivation((*blocks[-1].equations, plain[place].equation()))
        else:
            blocks.append(Derivation((plain[place].equation(),)))
        place += count
    return tuple(blocks)


def _general(general: General) -> list[Block]:
    """The equations for every depth."""
    symbol = Sym(general.symbol)
    said = Paragraph(
        ("For a network of any depth ", symbol, ". What holds at its ends alone is written with its number.")
    )
    sections: list[Block] = [said]
    titles = (("Forward", "forward"), ("Error signals", "backward"), ("Gradients", "backward"))
    for (title, phase), section in zip(titles, general.sections(), strict=True):
        blocks: list[Block] = []
        for part in section:
            made = Derivation(tuple(Equation(e.left, (e.right,), e.rule) for e in part.entries))
            if part.index:
                first, last = part.first, part.last
                blocks += [Paragraph(("For ", Sym(part.index), f" = {first}, ..., {last}:")), made]
            elif blocks and isinstance(blocks[-1], Derivation) and not _after_fold(blocks):
                blocks[-1] = Derivation((*blocks[-1].equations, *made.equations))
            else:
                blocks.append(made)
        sections.append(_section(title, blocks, phase, title.lower().replace(" ", "-")))
    return sections


def _after_fold(blocks: Sequence[Block]) -> bool:
    return len(blocks) > 1 and isinstance(blocks[-2], Paragraph)


def _section(title: str, blocks: Iterable[Block], phase: str, anchor: str) -> Section:
    return Section(title, tuple(blocks), phase, anchor)  # type: ignore[arg-type]


# --- what is given --------------------------------------------------------------------------------------------------------
def _given(derived: Derived) -> Section:
    work = derived.work
    leaves = [n for n in work.graph.nodes if n.is_leaf and n.role != "constant" and n in work.behind]
    free = [n for n in leaves if n.name not in derived.start]
    blocks: list[Block] = []
    if free:
        blocks.append(Paragraph(_listed("Quantities without a number: ", work, free)))
    if derived.functions:
        parts: list[Part] = ["Arbitrary differentiable functions, with their derivatives: "]
        for i, name in enumerate(derived.functions):
            parts += [", " if i else "", _called(name, 0), " with ", _called(name, 1)]
        blocks.append(Paragraph((*parts, ".")))
    known = [n for n in leaves if n.name in derived.start]
    small = [n for n in known if _is_small(derived, n)]
    large = [n for n in known if not _is_small(derived, n)]
    if small:
        blocks.append(Derivation(tuple(_number(derived, n) for n in small)))
    if large:
        blocks.append(Paragraph(_listed("Numbers of the capture, too many to print: ", work, large)))
    return Section("Given", tuple(blocks), "given", "given")


def _is_small(derived: Derived, node: Node) -> bool:
    tensor = derived.start[node.name]
    return tensor.numel() <= MOST_ENTRIES and tensor.ndim <= 2 and len(derived.work.behind) <= 60


def _listed(words: str, work: Backward, nodes: Sequence[Node]) -> Parts:
    parts: list[Part] = [words]
    for i, node in enumerate(nodes):
        parts += [", "] if i else []
        parts.append(symbol(node, work.names))
        if node.shape:
            parts.append(f" ({' × '.join(map(str, node.shape))})")
    return (*parts, ".")


def _called(name: str, primes: int) -> Expr:
    op = arbitrary(name)
    return Call(Function(name, op.text, op.latex, primes), (Sym("s"),), name)


def _number(derived: Derived, node: Node) -> Equation:
    return Equation(symbol(node, derived.work.names), (matrix_of(derived.start[node.name]),), "")


def _symbols(work: Backward) -> list[Block]:
    """Which symbol stands for which name of the program, where the two differ."""
    made = [n for n in work.graph.nodes if n in work.behind and work.names.get(n.name, n.name) != n.name]
    renamed = [n for n in made if n.role not in ("constant", "helper") and n.name not in work.given_names]
    if not renamed:
        return []
    rows = tuple(
        (symbol(n, work.names), n.name, " × ".join(map(str, n.shape)) or "a number") for n in renamed[:MOST_NAMED]
    )
    more = f" The first {MOST_NAMED} of {len(renamed)}." if len(renamed) > MOST_NAMED else ""
    table = Table((("symbol",), ("name in the program",), ("shape",)), rows, f"Which symbol is which value.{more}")
    return [Section("Symbols", (Details(f"{len(renamed)} symbols", (table,)),), "given", "symbols")]


def _network(work: Backward) -> Section:
    from ...pictures.operations import operations

    drawing = operations(work.program, symbols=lambda n: symbol(n, work.names), max_nodes=30, each=True)
    count = sum(n.is_operation for n in work.program.nodes)
    figure = Figure(
        drawing,
        ("The computational graph: every operation, from what is given to the loss.",),
        f"Computational graph with {count} operations",
        "operations",
    )
    return Section("The network", (figure,), "", "network")


def _conventions(work: Backward) -> list[Block]:
    """What the formulas of this page leave unsaid."""
    shapes = [n.shape for n in work.graph.nodes if n in work.behind]
    said: list[Parts] = []
    if any(len(s) > 1 for s in shapes):
        said.append(("A gradient has the shape of its quantity. Samples are rows; a vector is a column.",))
    if any(shapes):
        said.append(("⊙ goes entry by entry. A quantity with fewer axes is repeated along those that it lacks, and what "
                     "was repeated going forward is summed going back.",))  # fmt: skip
    if any(len(s) > 2 for s in shapes) and not all(n.op.name == "conv" for n in work.graph.nodes if len(n.shape) > 2):
        said.append(("A tensor with more than two axes is a stack of matrices: products and transposes act on its last "
                     "two axes, and a gradient of one matrix that the whole stack used is a sum over the stack.",))  # fmt: skip
    if any(n.op.name == "unselect" and len(n.shape) == 1 for n in work.joint.graph.nodes):
        said.append((Sym("e", ("k",)), " is the k-th unit vector: 1 at entry k and 0 elsewhere."))
    if any(n.op.family == "convolution" for n in work.graph.nodes):
        said.append(("∗ is the convolution of the field (the kernel is not flipped), ⋆ its adjoint, which carries error "
                     "signals back along the same weights; δ ∗ x is the input seen through a kernel of error signals.",))  # fmt: skip
    return [Section("Conventions", (Items(tuple(said)),), "given", "conventions")] if said else []


def _top(work: Backward) -> Sym:
    return named(work.of.name, symbols=work.names)


# --- backward -----------------------------------------------------------------------------------------------------------------
def _backward(work: Backward) -> Section:
    if not work.signals:
        text = Paragraph(
            ("No error signal is needed more than once: each gradient follows by the chain rule at once.",)
        )
        return Section("Error signals", (text, *_missing(work)), "backward", "backward")
    first = work.backward[-1]
    assert first.node.of is not None
    parts: list[Part] = [
        "The error signal of a quantity is the derivative of ", _top(work), " with respect to it: ", first.left, " for ",
        symbol(first.node.of, work.names),
        ". Each follows from the ones before it in this list, by the rule at its side, and is not put into the next.",
    ]  # fmt: skip
    blocks: list[Block] = [Paragraph(tuple(parts)), *_missing(work), *_equations(work, work.backward)]
    if _is_chain(work):
        blocks.append(Paragraph(("All of them after the first have one form, the recursion ", *_recursion(), ".")))
    return Section("Error signals", tuple(blocks), "backward", "backward")


def _missing(work: Backward) -> list[Block]:
    """What has no textbook form, by name."""
    return [Callout("warning", (text,)) for text in work.gaps]


def _is_chain(work: Backward) -> bool:
    from .derived import recursion_of

    return recursion_of(work) is not None


def _recursion() -> tuple[str | Expr, ...]:
    slope = Call(Function("f", "f", "f", 1, ("k-1",)), (Sym("s", ("k-1",)),), "f")
    return Sym("delta", ("k-1",)), " = ", Mul((Sym("delta", ("k",)), Sym("W", ("k",)), slope))


def _gradients(work: Backward) -> Section:
    if not work.gradients:
        text = Paragraph((_top(work), " depends on none of the quantities asked for: each gradient is 0."))
        return Section("Gradients", (text,), "backward", "gradients")
    unreached = [n for n in work.wrt if n not in work.reached]
    more: list[Block] = []
    if unreached:
        more.append(Paragraph((*_listed("The loss does not depend on ", work, unreached), " Their gradients are 0.")))
    return Section("Gradients", (*_equations(work, work.gradients), *more), "backward", "gradients")


def _expanded(work: Backward) -> Section:
    text = Paragraph(
        (
            "The same with every error signal put in. This form grows faster than the depth; the one above, in which no "
            "formula is written twice, does not.",
        )
    )
    lines = tuple(Equation(line.left, (line.right,)) for line in work.expanded)
    return Section("Written out", (text, Derivation(lines)), "result", "expanded")
