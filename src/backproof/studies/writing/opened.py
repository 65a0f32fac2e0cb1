"""A capture or a trace of a larger network in a screen or two: a table with a line for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...document.blocks import Block, Callout, Document, Paragraph, Part, Parts, Table
from ...document.math import Num
from ...graph import Graph, Node
from ...notation import layer_symbols
from ...result import Result
from ..machine import spelled
from ..statistics import Statistics
from ..steps import Step
from ..trace import Trace
from ..verdicts import summary
from .outline import MOST, Line, outline
from .written import StepWriter

__all__ = ["HINT", "Opened", "is_long", "modules_dict", "modules_table", "network_table"]

WIDE = 26
LONG = 60
"""A graph with more operations is shown by module unless something else is asked for."""


def is_long(graph: Graph) -> bool:
    """Whether a graph has more operations than a person reads one by one."""
    return sum(n.is_operation for n in graph.nodes) > LONG


@dataclass(frozen=True)
class Opened(Result):
    """A result seen at the level of its modules; what is saved is the result itself.

    Args:
        result: a capture or a trace.
        shown: its document at that level.
        modules: the same as plain data.
    """

    result: Result
    shown: Document
    modules: tuple[dict[str, Any], ...]

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether the result has one."""
        return self.result.finding

    def document(self) -> Document:
        """The table of modules."""
        return self.shown

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The result as plain data, with the modules that are shown."""
        return {**self.result.to_dict(full), "modules": list(self.modules)}

    def save(self, path: Any) -> Path:
        """Write the whole result."""
        return self.result.save(path)


# --- the structure --------------------------------------------------------------------------------------------------
def network_table(graph: Graph, depth: int | None, module: str) -> Table:
    """A line for each module: what it computes, its parameters, the shape of what leaves it."""
    heads: tuple[Parts, ...] = (("module",), ("computes",), ("ops",), ("parameters",), ("gives",))
    rows = _shortened(
        [(_title(line), _computes(line), *_counts(graph, line)) for line in outline(graph, depth, module)]
    )
    return Table(heads, tuple(rows), _caption(module))


def _caption(module: str) -> str:
    return f"Inside {module}" if module else "The network by module"


def _title(line: Line) -> str:
    times = f" (×{line.times})" if line.times > 1 else ""
    return f"{'· ' * line.level}{line.title}{times}"


def _computes(line: Line) -> str:
    if line.opened:
        return ""
    names = list(dict.fromkeys(n.op.name for n in line.first if n.role == "value"))
    shown = (
        names
        if len(", ".join(names)) <= WIDE
        else [n for i, n in enumerate(names) if len(", ".join(names[: i + 1])) < WIDE]
    )
    return ", ".join(shown) + (", …" if len(shown) < len(names) else "")


def _counts(graph: Graph, line: Line) -> tuple[str, ...]:
    size = sum(p.size for p in _parameters(graph, line.first))
    operations = sum(n.is_operation for n in line.first)
    return str(operations), f"{size:,}" if size else "", _shape(line.value)


def _shape(node: Node) -> str:
    return "×".join(map(str, node.shape)) or "1"


def _parameters(graph: Graph, nodes: Iterable[Node]) -> list[Node]:
    return list(dict.fromkeys(x for n in nodes for x in n.inputs if x.role == "parameter"))


def _shortened(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The first and the last lines of a table that is too long, and how many lie between."""
    if len(rows) <= MOST:
        return rows
    half, width = MOST // 2, len(rows[0])
    return [*rows[:half], (f"… {len(rows) - 2 * half} more …", *("",) * (width - 1)), *rows[-half:]]


# --- with numbers -----------------------------------------------------------------------------------------------------
def modules_table(step: Step, depth: int | None, module: str, formula: Callable[[Node], Parts] | None = None) -> Table:
    """A line for each module with the size of its value, error signal, gradient and update.

    Args:
        step: the update.
        depth, module: see :func:`~.outline.outline`.
        formula: for a value, its formula; given where the values of one module are shown one by one.
    """
    heads: list[Parts] = [("module" if formula is None else "value",)]
    heads += [("formula",)] if formula else []
    heads += [("size",), ("error signal",), ("gradient",)]
    changes = _changes(step)
    heads += [("change",)] if changes else []
    rows = []
    for line in outline(step.graph, depth, module):
        cells: list[Part | Parts | None] = [_title(line)]
        cells += [formula(line.value) if _is_one(line) else ()] if formula else []
        cells += [_range(s) for s in _sizes(step, line)]
        rows.append(tuple(cells if changes else cells[: len(heads)]))
    return Table(
        tuple(heads), tuple(_shortened(rows)), _caption(module), tuple(range(len(heads) - 3 - changes, len(heads)))
    )


def _is_one(line: Line) -> bool:
    return sum(n.role == "value" for n in line.first) == 1


Span = tuple[float, float] | None
"""What a size is in the first and in the last of the modules of a line."""


def _sizes(step: Step, line: Line) -> tuple[Span, Span, Span, Span]:
    """Mean size of the value and of its error signal; norm of the gradients; change of the parameters over their norm."""
    ends = (line.first, line.members[-1])
    values = [_mean_size(step.values.get(n.name)) for n in (line.value, line.last_value)]
    signals = [_mean_size(step.gradients.get(n.name)) for n in (line.value, line.last_value)]
    gradients = [_norm(step.gradients.get(p.name) for p in _parameters(step.graph, nodes)) for nodes in ends]
    changes = [_change(step, _parameters(step.graph, nodes)) for nodes in ends]
    return _span(values), _span(signals), _span(gradients), _span(changes)


def _span(pair: Sequence[float | None]) -> Span:
    a, b = pair
    return None if a is None or b is None else (a, b)


def _mean_size(tensor: Tensor | Statistics | None) -> float | None:
    if tensor is None or not tensor.numel():
        return None
    if isinstance(tensor, Statistics):
        return tensor.mean_size
    return tensor.detach().to("cpu").double().abs().mean().item()


def _norm(tensors: Iterable[Any]) -> float | None:
    found = [t.norm if isinstance(t, Statistics) else t.double().norm().item() for t in tensors if t is not None]
    return sum(x**2 for x in found) ** 0.5 if found else None


def _change(step: Step, parameters: Iterable[Node]) -> float | None:
    records = [step.parameters[p.name] for p in parameters if p.name in step.parameters]
    before, moved = _norm(r.before for r in records), _norm(r.after - r.before for r in records)
    return None if before is None or moved is None or not before else moved / before


def _range(span: Span) -> Part | Parts | None:
    """One number, or that of the first and the last module."""
    if span is None:
        return None
    first, last = span
    return Num(first) if first == last else (Num(_rounded(first)), " … ", Num(_rounded(last)))


def _rounded(x: float) -> float:
    return float(f"{x:.2g}")


# --- both as plain data -------------------------------------------------------------------------------------------------
def modules_dict(graph: Graph, depth: int | None, module: str, step: Step | None = None) -> tuple[dict[str, Any], ...]:
    """The lines as data: modules, how often, what they compute, their sizes."""
    found = []
    for line in outline(graph, depth, module):
        entry: dict[str, Any] = {
            "module" if line.module else "value": line.module or line.title,
            "title": line.title,
            "level": line.level,
            "times": line.times,
            "operations": sum(n.is_operation for n in line.first),
            "parameters": sum(p.size for p in _parameters(graph, line.first)),
            "shape": list(line.value.shape),
            "gives": line.value.name,
        }
        if step is not None:
            names = ("value", "error_signal", "gradient", "change")
            entry["sizes"] = {k: None if s is None else list(s) for k, s in zip(names, _sizes(step, line), strict=True)}
        found.append(entry)
    return tuple(found)


HINT = (
    "A line with ×12 stands for twelve modules in a row that compute the same, each with parameters of its own: numbers "
    "are of each of them, and of two numbers the first is that of the first of them, the second that of the last. "
    "--module PATH shows the inside of one, --depth N opens all of them N levels deep, --out FILE.html has everything."
)
SIZES = (
    "Size: the mean absolute value of what a module gives; error signal: that of the loss's derivative with respect to it; "
    "gradient: the norm of those of its parameters"
)
CHANGE = "; change: how far the update moved them, over their own norm"


def sizes_said(step: Step) -> Paragraph:
    """What the columns of the table are."""
    return Paragraph((SIZES + (CHANGE if _changes(step) else "") + ".",))


def _changes(step: Step) -> bool:
    return any(p.after is not p.before for p in step.parameters.values())


def _formulas(trace: Trace) -> Callable[[Node], Parts]:
    """The formula of a value."""
    writer = StepWriter(trace.program, trace.steps[0], layer_symbols(trace.graph))
    return lambda node: (writer.writer.matrix(node),)


def outline_of_trace(trace: Trace, depth: int | None, module: str) -> Opened:
    """The first update of a trace by module, the loss, what the evidence says."""
    rule, step = trace.program.optimizer, trace.steps[0]
    write = _formulas(trace) if module else None
    blocks: list[Block] = [modules_table(step, depth, module, write), sizes_said(step), Paragraph((HINT,))]
    losses = [s.loss for s in trace.steps if s.loss is not None]
    if losses:
        blocks.append(Paragraph((_losses(losses),)))
    blocks.append(
        Paragraph((f"Memory: {spelled(trace.predicted_bytes)} at most beyond the model, worked out before the run.",))
    )
    blocks += [Callout("note", (remark,)) for remark in trace.remarks]
    wrong = trace.finding
    shown = Document(
        f"Trace of {trace.title}",
        tuple(blocks),
        f"{rule.described() if rule else 'no update'} · update {step.number} by module",
        summary(trace.evidence, True) if trace.evidence else "",
        "finding" if wrong else "agrees" if trace.evidence else "",
    )
    return Opened(trace, shown, modules_dict(step.graph, depth, module, step))


def _losses(losses: Sequence[float]) -> str:
    if len(losses) == 1:
        return f"The loss is {losses[0]:.6g}."
    return f"The loss goes from {losses[0]:.6g} before update 1 to {losses[-1]:.6g} before update {len(losses)}."
