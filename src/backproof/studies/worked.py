"""The worked solution as a document: givens, pictures, equations, every step with its numbers, results, evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..document.blocks import (
    Block,
    Callout,
    Derivation,
    Details,
    Document,
    Equation,
    Figure,
    Instant,
    Paragraph,
    Parts,
    Plot,
    Section,
    Series,
    Table,
)
from ..document.math import Expr, Num, Ref, Sym, Words
from ..graph import Graph, Node
from ..notation import layer_symbols, named, symbol
from ..result import written
from .glances import summary_step
from .instants import range_of, worked_step
from .program import Program
from .trace import Step, Trace
from .updates import HYPER, rule_equations
from .verdicts import Evidence, gathered, summary
from .whatif import play_of
from .why import why_gradient
from .written import MOST_ENTRIES, StepWriter, matrix_of

__all__ = ["Page", "document_of_trace"]

MOST_EQUATIONS = 700
MOST_COMPARISONS = 300


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
        for node in self.program.given:
            tensor = self.program.start[node.name]
            twin = None if exact is None else exact.get(node.name)
            flipped = bool(self.writers) and node.name in self.writers[0].writer.layout.flipped
            shown: Expr = (
                matrix_of(tensor, twin, Ref(node.name, (), "value"), flipped)
                if tensor.numel() <= MOST_ENTRIES and tensor.ndim <= 2
                else Words(f"{' × '.join(map(str, tensor.shape))} numbers, {range_of(tensor)}")
            )
            equations.append(Equation(symbol(node, self.names), (shown,), _role(node, self.program)))
        refs = tuple(Ref(node.name) for node in self.program.given)
        instant = Instant("what is given", (Derivation(tuple(equations)),), "given", 0, refs, (), "numbers")
        vectors = [
            x for n in self.graph.nodes if n.op.name in ("matmul", "outer") for x in n.inputs if len(x.shape) == 1
        ]
        note = Paragraph(("A vector is a column; to save space its entries are listed in a row.",))
        return Section("Given", (instant, note) if vectors else (instant,), "given", "given")

    def pictures(self) -> Section | None:
        """The computational graph of operations, and the network of units where there is one."""
        from ..pictures.network import units
        from ..pictures.operations import operations

        def write(node: Node) -> Expr:
            return symbol(node, self.names)

        blocks: list[Block] = []
        joint = self.program.joint(self.graph)
        drawing = operations(self.graph, joint=joint, symbols=write, max_nodes=30, each=True)
        blocks.append(
            Figure(
                drawing,
                ("The computational graph: every operation, from what is given to the loss.",),
                f"Computational graph with {len([n for n in self.graph.nodes if not n.is_leaf])} operations",
                "operations",
            )
        )
        weights = {n: t.tolist() for n, t in self.program.start.items() if n in {p.name for p in self.graph.parameters}}
        net = units(self.graph, symbols=write, weights=weights, room=34)
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
        forward = tuple(writer.whole(n) for n in self.values(writer))
        sections = [Section("Forward", (Derivation(forward),), "forward", "forward")]
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
            back = tuple(self.gradient_equation(writer, n) for n in self.adjoints(writer))
            sections.append(Section("Backward", (text, Derivation(back)), "backward", "backward"))
        if self.program.optimizer is not None:
            sections.append(self._rule(writer))
        return tuple(sections)

    def _rule(self, writer: StepWriter) -> Section:
        rule = self.program.optimizer
        assert rule is not None
        hyper = [
            Equation(HYPER[k], (Num(float(v)),), k)
            for k, v in rule.hyper.items()
            if k in HYPER and not isinstance(v, bool) and (k == "lr" or v)
        ]
        text = Paragraph(
            (f"{rule.described()}. {rule.rule.source if rule.state else 'One step against the gradient.'}",)
        )
        return Section(
            "Update rule",
            (text, Derivation(rule_equations(writer)), Derivation(tuple(hyper))),
            "update",
            "rule",
        )

    def values(self, writer: StepWriter) -> list[Node]:
        """The named values in the order of the forward pass."""
        return [n for n in writer.step.graph.nodes if n.role == "value"]

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
        count = max(1, MOST_EQUATIONS // per_step)
        shown = (
            list(range(len(self.writers)))
            if len(self.writers) <= count
            else [*range(max(count - 1, 1)), len(self.writers) - 1]
        )
        return [worked_step(self, self.writers[i]) for i in sorted(set(shown))]

    @property
    def is_large(self) -> bool:
        """Whether an update has too many numbers to be written out one by one."""
        return bool(self.writers) and self._count(self.writers[0]) > MOST_EQUATIONS

    def _count(self, writer: StepWriter) -> int:
        nodes = self.values(writer) + (self.adjoints(writer) if writer.joint else [])
        return sum(n.size for n in nodes if n.size <= MOST_ENTRIES) + sum(
            p.before.numel() for p in writer.step.parameters.values()
        )

    # --- all updates ------------------------------------------------------------------------------------------------------
    def losses(self, loss_after: float | None) -> list[Block]:
        """The loss over the updates, as a table and a curve."""
        losses = [s.loss for s in self.steps]
        if not losses or losses[0] is None:
            return []
        numbers = [float(v) for v in losses if v is not None]
        by_sample = any(s.sample is not None for s in self.steps)
        after = [] if loss_after is None or by_sample else [loss_after]
        at = [*range(1, len(numbers) + 1)] + ([len(numbers) + 1] if after else [])
        both = numbers + after
        keep = (
            range(len(both)) if len(both) <= 60 else sorted({*range(0, len(both), -(-len(both) // 50)), len(both) - 1})
        )
        rows = tuple((_before(i, len(numbers)), Num(both[i])) for i in keep)
        blocks: list[Block] = [Table((("at",), (self._loss_name(),)), rows, "The loss", (1,))]
        if len(both) > 2:
            wide = max(both) / max(min(both), 1e-300) > 1e3 and min(both) > 0
            blocks.insert(
                0,
                Plot(
                    (Series("loss", tuple(float(v) for v in at), tuple(both)),),
                    "update",
                    "loss",
                    ("The loss before each update.",),
                    f"The loss falls from {both[0]:.4g} to {both[-1]:.4g}"
                    if both[-1] < both[0]
                    else f"The loss goes from {both[0]:.4g} to {both[-1]:.4g}",
                    log_y=wide,
                ),
            )
        return [Instant("the loss over the updates", tuple(blocks), "result", 0, (), (), "loss")]

    def _loss_name(self) -> Expr:
        loss = self.graph.loss
        return Sym("L") if loss is None else named(loss.name, symbols=self.names)

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


def _before(i: int, count: int) -> str:
    return f"before update {i + 1}" if i < count else f"after update {count}"


def _role(node: Node, program: Program) -> str:
    if node.name in program.trained:
        return "trained"
    return {"input": "", "target": "target", "buffer": "buffer"}.get(node.role, "")


def evidence_section(evidence: Sequence[Evidence]) -> Section:
    """All comparisons as a table behind one sentence."""
    text = summary(evidence)
    wrong = any(e.agrees is False for e in evidence)
    rows = tuple(
        (
            e.what,
            e.oracle,
            {True: "agrees", False: "DISAGREES", None: "does not apply"}[e.agrees],
            None if e.error is None else Num(e.error),
            f"{e.looked_at:,} of {e.of:,}",
            e.note,
        )
        for e in (evidence if len(evidence) <= MOST_COMPARISONS else gathered(evidence))
    )
    columns: tuple[Parts, ...] = (
        ("what",),
        ("independent way",),
        ("outcome",),
        ("largest error",),
        ("looked at",),
        ("note",),
    )
    table = Table(
        columns, rows, "Every comparison that was made; errors are relative to the size of the quantity", (3,)
    )
    callout = Callout("finding" if wrong else "agrees", (text,), "Evidence")
    return Section("Evidence", (callout, Details("Every comparison", (table,))), "result", "evidence")


def document_of_trace(trace: Trace) -> Document:
    """The record of bp.trace as a document."""
    page = Page(trace.program, trace.steps, names={})
    blocks: list[Block] = []
    if (pictures := page.pictures()) is not None:
        blocks.append(pictures)
    blocks += page.derivation()
    blocks += page.worked_steps()
    if losses := page.losses(None):
        blocks.append(Section("The loss", tuple(losses), "result", "losses"))
    blocks += [Callout("note", (r,)) for r in trace.remarks]
    evidence = (*trace.evidence, *(page.printed_evidence() if trace.evidence else ()))
    if evidence:
        blocks.append(evidence_section(evidence))
    rule = trace.program.optimizer
    subtitle = " · ".join(
        [rule.described() if rule else "no update", f"{len(trace.steps)} updates" if rule else "one pass"]
    )
    wrong = any(e.agrees is False for e in evidence)
    return Document(
        f"Trace of {trace.title}",
        tuple(blocks),
        subtitle,
        summary(evidence) if evidence else "",
        "finding" if wrong else "agrees" if evidence else "",
        trace.to_dict(),
        play_of(page),
    )


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
