"""The worked solution as a document: givens, pictures, equations, every step with its numbers, results, evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ...document.blocks import (
    Block,
    Callout,
    Derivation,
    Details,
    Document,
    Equation,
    Figure,
    Instant,
    Paragraph,
    Part,
    Parts,
    Section,
    Table,
)
from ...document.math import Expr, Num, Ref, Sym, Words
from ...graph import Graph, Node
from ...notation import layer_symbols, symbol
from ...optimizers import Optimizer
from ...result import written
from ..caveats import caveats, marks
from ..program import Program
from ..statistics import Statistics
from ..trace import Step, Trace
from ..verdicts import Evidence, gathered, standing, summary
from .derived import backward_blocks, forward_blocks
from .glances import summary_step
from .instants import range_of, worked_step
from .over_time import over_time
from .own import own_section
from .repeats import Repeat, repeats
from .updates import HYPER, rule_equations
from .whatif import play_of
from .why import why_gradient
from .written import MOST_ENTRIES, StepWriter, matrix_of

__all__ = ["Page", "document_of_trace"]

MOST_EQUATIONS = 700
"""Of all updates together; a longer run is written out in part."""
SOME_EQUATIONS = 150
"""Of the updates of such a run that are written out."""
MOST_COMPARISONS = 300
MOST_WEIGHTS = 20_000
"""A network of units has fewer: each is an edge."""


class Page:
    """Puts a document together, section by section; the writers it used hold the evidence of what was printed."""

    def __init__(
        self,
        program: Program,
        steps: Sequence[Step],
        *,
        names: Mapping[str, str],
        layout: str = "own",
        base: int = 1,
    ) -> None:
        names = {**layer_symbols(program.graph), **names}
        self.program, self.steps, self.names = program, steps, names
        self.layout, self.base = layout, base
        self.writers = [StepWriter(program, s, names, layout, base) for s in steps]
        self.graph = program.graph

    # --- givens ---------------------------------------------------------------------------------------------------------
    def givens(self, exact: Mapping[str, Any] | None) -> Section:
        """What is given, as symbols and numbers."""
        equations = []
        for node in (n for n in self.program.given if n.role != "draw"):
            tensor = self.program.start[node.name]
            twin = None if exact is None else exact.get(node.name)
            flipped = bool(self.writers) and node.name in self.writers[0].writer.layout.flipped
            shown: Expr = (
                matrix_of(tensor, twin, Ref(node.name, (), "value"), flipped)
                if tensor.numel() <= MOST_ENTRIES and tensor.ndim <= 2 and not tensor.is_complex()
                else Words(f"{' × '.join(map(str, tensor.shape))} numbers, {range_of(tensor)}")
            )
            equations.append(Equation(symbol(node, self.names), (shown,), _role(node, self.program)))
        refs = tuple(Ref(node.name) for node in self.program.given if node.role != "draw")
        instant = Instant("what is given", (Derivation(tuple(equations)),), "given", 0, refs, (), "numbers")
        vectors = [
            x for n in self.graph.nodes if n.op.name in ("matmul", "outer") for x in n.inputs if len(x.shape) == 1
        ]
        note = Paragraph(("A vector is a column; to save space its entries are listed in a row.",))
        return Section("Given", (instant, note) if vectors else (instant,), "given", "given")

    def pictures(self) -> Section | None:
        """The computational graph of operations, and the network of units where there is one."""
        from ...pictures.network import units
        from ...pictures.operations import operations

        def write(node: Node) -> Expr:
            return symbol(node, self.names)

        blocks: list[Block] = []
        joint = self.program.joint(self.graph)
        drawing = operations(self.graph, joint=joint, symbols=write, max_nodes=30, each=True)
        blocks.append(
            Figure(
                drawing,
                ("The computational graph: every operation, from what is given to the loss.",),
                f"Computational graph with {sum(n.is_operation for n in self.graph.nodes)} operations",
                "operations",
            )
        )
        trained = {p.name: self.program.start[p.name] for p in self.graph.parameters}
        small = sum(t.numel() for t in trained.values()) <= MOST_WEIGHTS
        weights = {n: t.tolist() for n, t in trained.items()} if small else {}
        net = units(self.graph, symbols=write, weights=weights, room=34) if small else None
        if net is not None:
            blocks.append(
                Figure(
                    net,
                    ("The network of units: each edge carries a weight.",),
                    "Network of units with its weights at the start",
                    "units",
                )
            )
        return Section("The network", tuple(blocks), "", "network")

    # --- equations ------------------------------------------------------------------------------------------------------
    def derivation(self) -> tuple[Section, ...]:
        """Forward equations, error signals and gradients with their reasons, and the update rule."""
        if not self.writers:
            return ()
        writer = self.writers[0]
        sections = [Section("Forward", forward_blocks(self, writer), "forward", "forward")]
        if writer.joint is not None:
            text = Paragraph(
                (
                    "The error signal of a quantity is the derivative of the loss with respect to it, ",
                    Sym("delta", sup=("s",)),
                    " for ",
                    Sym("s"),
                    ". Each follows from the ones after it; products of equal shape (⊙) are taken entry by entry.",
                )
            )
            sections.append(Section("Backward", (text, *backward_blocks(self, writer)), "backward", "backward"))
        if self.program.optimizer is not None:
            sections.append(self._rule(writer))
        return tuple(sections)

    def _rule(self, writer: StepWriter) -> Section:
        blocks = [b for rule in self.program.rules for b in self._one_rule(writer, rule)]
        return Section("Update rule", tuple(blocks), "update", "rule")

    def _one_rule(self, writer: StepWriter, rule: Optimizer) -> Iterable[Block]:
        """A rule, for which parameters it is where there are several, and its settings."""
        hyper = [
            Equation(HYPER[k], (Num(float(v)),), k)
            for k, v in rule.hyper.items()
            if k in HYPER and not isinstance(v, bool) and (k == "lr" or v)
        ]
        own = [n for n in self.program.trained if self.program.rule_of(n) == rule]
        whose = f" For {', '.join(own)}." if len(self.program.rules) > 1 else ""
        source = rule.rule.source if rule.state else "One step against the gradient."
        yield Paragraph((f"{rule.described()}. {source}{whose}",))
        yield Derivation(rule_equations(writer, None, rule))
        yield Derivation(tuple(hyper))

    def values(self, writer: StepWriter) -> list[Node]:
        """What is drawn and the named values, in the order of the forward pass."""
        return [n for n in writer.step.graph.nodes if n.role in ("value", "draw")]

    def adjoints(self, writer: StepWriter) -> list[Node]:
        """The error signals in the order of the backward pass, then the gradients of what is trained."""
        assert writer.joint is not None
        gradients = writer.joint.gradients
        values = [gradients[n] for n in reversed(writer.step.graph.nodes) if n.role == "value"]
        trained = [gradients[writer.step.graph.by_name[n]] for n in self.program.trained]
        return [g for g in (*values, *trained) if g is not None]

    def gradient_equation(self, writer: StepWriter, adjoint: Node) -> Equation:
        """The equation of an error signal or a gradient, with the rule that gives it."""
        node = adjoint.of
        assert node is not None
        graph = writer.step.graph
        reached = tuple(u for u in graph.users[node] if writer.joint and writer.joint.gradients.get(u) is not None)
        whole = writer.whole(adjoint)
        return Equation(whole.left, whole.steps, why_gradient(node, reached, graph, self.names), whole.ref)

    def equations_dict(self) -> list[dict[str, str]]:
        """The derivation as data: name, formula in LaTeX, rule."""
        if not self.writers:
            return []
        writer = self.writers[0]
        equations = [writer.whole(n) for n in self.values(writer)]
        if writer.joint is not None:
            equations += [self.gradient_equation(writer, n) for n in self.adjoints(writer)]
        equations += [replace(e, why="update rule") for e in rule_equations(writer)]
        return [_equation_dict(e) for e in equations]

    # --- steps ------------------------------------------------------------------------------------------------------------
    def worked_steps(self) -> list[Block]:
        """Every step with its numbers, as many as a page holds; the rest is in the tables."""
        if not self.writers:
            return []
        per_step = max(self._count(self.writers[0]), 1)
        if self.is_large:
            return [summary_step(self, self.writers[i]) for i in sorted({0, len(self.writers) - 1})]
        shown = written_out(len(self.writers), per_step)
        blocks: list[Block] = []
        for before, i in zip((-1, *shown), shown, strict=False):
            if i > before + 1:
                blocks.append(_left_out(before + 2, i))
            blocks.append(worked_step(self, self.writers[i]))
        return blocks

    @cached_property
    def repeated(self) -> tuple[Repeat, ...]:
        """Of a large network the modules that repeat one another."""
        return repeats(self.writers[0].step.graph) if self.is_large else ()

    @property
    def is_large(self) -> bool:
        """Whether an update has too many numbers to be written out one by one."""
        if not self.writers:
            return False
        kept = self.steps[0].values if isinstance(self.steps[0].values, dict) else {}
        return any(isinstance(v, Statistics) for v in kept.values()) or self._count(self.writers[0]) > MOST_EQUATIONS

    def _count(self, writer: StepWriter) -> int:
        nodes = self.values(writer) + (self.adjoints(writer) if writer.joint else [])
        return sum(n.size for n in nodes if n.size <= MOST_ENTRIES) + sum(
            p.before.numel() for p in writer.step.parameters.values()
        )

    # --- evidence ---------------------------------------------------------------------------------------------------------
    def printed_evidence(self) -> list[Evidence]:
        """What the writers found when they evaluated what they printed."""
        used = [w for w in self.writers if w.checked]
        if not used:
            return []
        wrong = list(dict.fromkeys(name for w in used for name in w.wrong))
        what = "printed formulas" + (f" ({', '.join(wrong)})" if wrong else "")
        count = sum(w.checked for w in used)
        there = count + sum(w.unread for w in used)
        return [
            Evidence(what, "each formula evaluated as printed", not wrong, max(w.worst for w in used), count, there)
        ]


def _equation_dict(equation: Equation) -> dict[str, str]:
    name, left = written(equation.left)
    return {"name": name, "formula": f"{left} = {written(equation.steps[0])[1]}", "rule": equation.why}


def written_out(updates: int, per_update: int) -> list[int]:
    """The updates that are written out: all while there is room, else the first ones, some in between, and the last.

    >>> written_out(3, 30), written_out(50, 36)
    ([0, 1, 2], [0, 1, 25, 49])
    """
    if updates * per_update <= MOST_EQUATIONS:
        return list(range(updates))
    count = min(updates, max(4, min(6, SOME_EQUATIONS // per_update)))
    first = count // 2
    spread = [first + round((updates - 1 - first) * k / (count - first)) for k in range(1, count - first + 1)]
    return sorted({*range(first), *spread})


def _left_out(first: int, last: int) -> Paragraph:
    which = f"Update {first} is" if first == last else f"Updates {first} to {last} are"
    return Paragraph((f"{which} computed in the same way; the table under “The loss” has the numbers.",))


def _role(node: Node, program: Program) -> str:
    if node.name in program.trained:
        return "trained"
    return {"input": "", "target": "target", "buffer": "buffer"}.get(node.role, "")


def evidence_section(evidence: Sequence[Evidence], every: bool = False) -> Section:
    """All comparisons as a table behind one sentence."""
    text = summary(evidence, every)
    shown = evidence if len(evidence) <= MOST_COMPARISONS else gathered(evidence)
    columns: tuple[Parts, ...] = (("what",), ("independent way",), ("outcome",), ("largest error",), ("looked at",))
    if any(e.note for e in shown):
        columns += (("note",),)
    rows = tuple(_comparison(e)[: len(columns)] for e in shown)
    table = Table(
        columns, rows, "Every comparison that was made; errors are relative to the size of the quantity", (3,)
    )
    callout = Callout(standing(evidence) or "warning", (text,), "Evidence")
    return Section("Evidence", (callout, Details("Every comparison", (table,))), "result", "evidence")


def _comparison(e: Evidence) -> tuple[Part | None, ...]:
    outcome = {True: "agrees", False: "DISAGREES", None: "does not apply"}[e.agrees]
    error = None if e.error is None else Num(e.error)
    return e.what, e.oracle, outcome, error, f"{e.looked_at:,} of {e.of:,}", e.note


def document_of_trace(trace: Trace) -> Document:
    """The record of bp.trace as a document."""
    page = Page(trace.program, trace.steps, names={})
    captured = caveats(trace.graph, own_backward=True)
    blocks: list[Block] = [Callout("note", (r,)) for r in captured]
    if (pictures := page.pictures()) is not None:
        blocks.append(pictures)
    blocks += _by_module(page)
    blocks += page.derivation()
    blocks += page.worked_steps()
    blocks += own_section(trace.steps)
    if losses := over_time(page, None):
        blocks.append(Section("The loss", tuple(losses), "result", "losses"))
    blocks += [Callout("note", (r,)) for r in trace.remarks if r not in captured]
    evidence = (*trace.evidence, *(page.printed_evidence() if trace.evidence else ()))
    if evidence:
        blocks.append(evidence_section(evidence, True))
    rule = trace.program.optimizer
    subtitle = " · ".join(
        [
            rule.described() if rule else "no update",
            f"{len(trace.steps)} update{'s' if len(trace.steps) > 1 else ''}" if rule else "one pass",
            *marks(trace.graph),
        ]
    )
    wrong = any(e.agrees is False for e in evidence)
    return Document(
        f"Trace of {trace.title}",
        tuple(blocks),
        subtitle,
        summary(evidence, True) if evidence else "",
        "finding" if wrong else "agrees" if evidence else "",
        trace.to_dict(),
        play_of(page),
    )


def _by_module(page: Page) -> list[Block]:
    """Of a large network its modules as a table, with the sizes of the first update."""
    if not page.is_large:
        return []
    from .opened import modules_table, sizes_said

    step = page.steps[0]
    return [Section("By module", (modules_table(step, None, ""), sizes_said(step)), "", "modules")]


def graph_listing(graph: Graph) -> Table:
    """The graph as a table: one row per node."""
    rows = tuple(
        (
            n.name,
            n.role,
            n.op.name,
            "×".join(map(str, n.shape)) or "1",
            ", ".join(x.name for x in n.inputs),
            n.module,
            str(n.source or ""),
        )
        for n in graph.nodes
    )
    columns: tuple[Parts, ...] = (
        ("name",),
        ("role",),
        ("operation",),
        ("shape",),
        ("from",),
        ("module",),
        ("line",),
    )
    return Table(columns, rows, f"The graph of {graph.title}")
