"""Work a problem: run it, answer what it asks, confirm every number, and write the solution."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..differentiate import differentiate
from ..document.blocks import Block, Callout, Derivation, Document, Equation, Paragraph, Section
from ..document.math import Partial, Sym
from ..domains.entries import Array
from ..domains.exact import TooLarge, exact, spelled
from ..domains.numbers import evaluate
from ..errors import InputError
from ..graph import Builder, Graph, Node
from ..notation import named
from ..problems.catalogue import find_sheet
from ..problems.problem import Exercise, FormulaProblem, Problem
from ..result import Result, plain
from .analyses.asked import analyse
from .analyses.general import loss_at
from .answer import Answer, Solved
from .caveats import caveats
from .confirming.coarse import torch_rounds
from .confirming.evidence import confirm
from .derivation.derive import Derived, derive_problem, without_numbers
from .exercise import Answered, work_exercise
from .load import load_problem
from .optimizer.replay import Replay
from .prepare import Prepared, prepare
from .program import run_original
from .remarks import remarks_on
from .sheet import work_sheet
from .trace import Step, Trace, run
from .verdicts import TOLERANCE, Evidence, summary
from .writing.over_time import over_time
from .writing.whatif import play_of
from .writing.worked import Page, evidence_section
from .writing.written import matrix_of

__all__ = ["Solution", "solve"]


@dataclass(frozen=True)
class Slope:
    """An asked derivative d of / d wrt at the start: numbers, exact where possible, and its evidence."""

    of: str
    wrt: str
    value: Tensor
    exact: Array | None
    error: float


@dataclass(frozen=True)
class Solution(Result):
    """A worked problem: ``steps``, ``answers``, ``remarks``, ``evidence``; see :func:`solve`."""

    prepared: Prepared
    steps: tuple[Step, ...]
    answers: dict[str, Any]
    remarks: tuple[str, ...]
    own_evidence: tuple[Evidence, ...]
    slopes: tuple[Slope, ...]
    analyses: tuple[Answer, ...]
    loss_after: float | None

    @property
    def id(self) -> str:
        """The problem's id, or its file."""
        return self.prepared.id

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Every comparison, that of the printed formulas included."""
        return (*self.own_evidence, *self._page_blocks[1])

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether two independent ways to a number disagree."""
        return any(e.agrees is False for e in self.evidence)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record of INTERFACE: problem, settings, steps, derivation, answers, remarks, evidence."""
        return {
            "problem": self.id,
            "settings": plain(self.prepared.settings),
            "steps": [step.to_dict(full) for step in self.steps],
            "derivation": self._page.equations_dict(),
            "answers": plain(self.answers),
            "remarks": list(self.remarks),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def script(self) -> str:
        """A plain PyTorch program that recomputes the record."""
        from .writing.script import script_of

        return script_of(Trace(self.prepared.program, self.steps, title=self.prepared.title))

    def document(self) -> Document:
        """The worked solution."""
        evidence = self.evidence
        blocks = (*self._page_blocks[0], evidence_section(evidence, True))
        wrong = any(e.agrees is False for e in evidence)
        return Document(
            self.prepared.title,
            blocks,
            self._subtitle(),
            summary(evidence, True),
            "finding" if wrong else "agrees",
            self.to_dict(),
            play_of(self._page),
        )

    # --- putting the page together ------------------------------------------------------------------------------------------
    @cached_property
    def _page(self) -> Page:
        c = self.prepared.conventions
        names = {**self.prepared.answer_names, **c.symbols}
        return Page(self.prepared.program, self.steps, names=names, layout=c.layout, base=c.index_base)

    @cached_property
    def _page_blocks(self) -> tuple[tuple[Block, ...], list[Evidence]]:
        page = self._page
        blocks: list[Block] = [Paragraph((self.prepared.about,))] if self.prepared.about else []
        blocks.append(page.givens(self.prepared.program.exact))
        if (pictures := page.pictures()) is not None:
            blocks.append(pictures)
        blocks += page.derivation()
        if self.slopes:
            blocks.append(self._asked())
        blocks += page.worked_steps()
        if losses := over_time(page, self.loss_after):
            blocks.append(Section("The loss", tuple(losses), "result", "losses"))
        for analysis in self.analyses:
            blocks += analysis.blocks
        if self.remarks:
            blocks.append(Section("Remarks", tuple(Callout("note", (r,)) for r in self.remarks), "result", "remarks"))
        return tuple(blocks), page.printed_evidence()

    def _asked(self) -> Section:
        equations = tuple(
            Equation(
                Partial(named(s.of, symbols=self._page.names), named(s.wrt, symbols=self._page.names)),
                (matrix_of(s.value, s.exact),),
                "at the start",
            )
            for s in self.slopes
        )
        blocks: list[Block] = [Derivation(equations)]
        if "accumulated" in self.answers:
            blocks.append(self._accumulated())
        return Section("Asked derivatives", tuple(blocks), "backward", "asked")

    def _accumulated(self) -> Callout:
        name, total = self.slopes[0].wrt, torch.tensor(self.answers["accumulated"], dtype=torch.float64)
        parts = " and of ".join(s.of for s in self.slopes)
        after, loss = self.answers.get("accumulated_w_after"), self.answers.get("accumulated_loss_after")
        text: list[Any] = [
            f"The backward passes of {parts} must be made separately. Made one after the other without clearing, the gradients "
            f"of {name} add up to ",
            matrix_of(total),
            ", which is the derivative of neither.",
        ]
        if after is not None and loss is not None:
            text += [
                " A step with it would lead to ",
                Sym(name),
                " = ",
                matrix_of(torch.tensor(after, dtype=torch.float64)),
                f", where the loss is {loss:.6g} (before: {self.steps[0].loss:.6g}; after the right step: {self.loss_after:.6g}).",
            ]
        return Callout("warning", tuple(text), "If the gradients are not cleared in between")

    def _subtitle(self) -> str:
        c, program = self.prepared.conventions, self.prepared.program
        parts = [program.optimizer.described()] if program.optimizer else []
        if program.samples:
            parts.append("full batch" if c.batch == "full" else "sample by sample")
        if any("reduce(" in f for f in getattr(program.graph.origin, "formulas", {}).values()):
            parts.append(c.reduction)
        if c.layout != "own":
            parts.append({"rows": "S = X W", "columns": "s = W x", "torch": "s = x Wᵀ"}[c.layout])
        return " · ".join([*parts, "exact arithmetic" if any(s.exact for s in self.steps) else "float64"])


def solve(problem: str | os.PathLike[str] | Problem | FormulaProblem | Exercise, **settings: Any) -> Solved:
    """Work a problem.

    Args:
        problem: a built-in id ("uva-dl-1/relu-tanh-net") or sheet ("uva-dl-1"), the path of a .toml or .py file or of
            a folder with a ``_sheet.toml``, or a problem itself.
        **settings: what to change: any given, hyper-parameter or convention (lr=0.5, x=[1, 2, 3], reduction="mean");
            of a sheet, those of one exercise (``**{"relu-tanh-net.lr": 0.5}``).

    Returns:
        A :class:`Solution` (:class:`Answered` for an :class:`Exercise`, :class:`Derived` for givens without numbers,
        :class:`SheetSolution` for a sheet) with ``.steps``, ``.answers``, ``.remarks`` and ``.evidence``; it shows
        itself and saves as .html .tex .pdf .md .ipynb .txt .json .py.

    Raises:
        InputError, FormulaError, CaptureError: the request cannot be carried out; one paragraph says why.

    Example:
        >>> import backproof as bp
        >>> bp.solve("ctu-vir-3/sine-neuron").steps[0].loss
        4.0
    """
    if isinstance(problem, (str, os.PathLike)) and (sheet := find_sheet(os.fspath(problem))) is not None:
        return work_sheet(sheet, settings, _solved)
    return _solved(*load_problem(Path(problem) if isinstance(problem, os.PathLike) else problem), settings)


def _solved(
    problem: Problem | FormulaProblem | Exercise, id: str, settings: Mapping[str, Any]
) -> Solution | Answered | Derived:
    if isinstance(problem, Exercise):
        return work_exercise(problem, settings, id)
    if isinstance(problem, FormulaProblem) and without_numbers(problem, settings):
        return derive_problem(problem, settings, id)
    return _work(prepare(problem, settings, id))


def _work(prepared: Prepared) -> Solution:
    program = prepared.program
    steps, notes = run(program, use_exact=prepared.exact)
    _refuse_infinite(steps)
    after = _loss_after(prepared, steps)
    slopes = tuple(_slope(prepared, of, wrt) for of, wrt in prepared.gradients)
    evidence = confirm(program, steps, thorough=prepared.conventions.evidence == "full", seed=prepared.conventions.seed)
    asked = tuple(
        Evidence(f"d{s.of}/d{s.wrt}", "autograd", s.error <= TOLERANCE, s.error, s.value.numel(), s.value.numel())
        for s in slopes
    )
    evidence += torch_rounds(asked, program.graph, {**steps[0].leaves, **steps[0].values})
    analyses = tuple(analyse(prepared, steps))
    answers = _answers(prepared, steps, slopes, after)
    for analysis in analyses:
        answers |= analysis.answers
        evidence += analysis.evidence
    if program.graph.surrogates or program.graph.noted.get("hooks_outside"):
        from .confirming.own import own_backwards

        evidence = (*own_backwards(program, steps), *evidence)
    captured = caveats(program.graph, own_backward=True)
    remarks = (
        *prepared.remarks,
        *captured,
        *notes,
        *remarks_on(program, steps, after),
        *(r for a in analyses for r in a.remarks),
    )
    return Solution(prepared, steps, answers, remarks, evidence, slopes, analyses, after)


def _refuse_infinite(steps: Sequence[Step]) -> None:
    """A first step whose forward pass is not finite is a wrong problem, not a divergence; a mask of -inf is neither."""
    masks = {n.name for n in steps[0].graph.nodes if n.op.name == "where" and any(_is_minus_inf(x) for x in n.inputs)}
    for name, value in steps[0].values.items():
        allowed = torch.isfinite(value) | ((value == -math.inf) if name in masks else False)
        if value.is_floating_point() and not bool(allowed.all()):
            line = steps[0].graph.by_name[name].source
            raise InputError(
                f"'{name}' is {value.reshape(-1)[~torch.isfinite(value.reshape(-1))][0].item()} at the given numbers"
                + (f", at {line} ({line.text})" if line else "")
                + "; change a given so that every value is finite"
            )
    for name, gradient in steps[0].gradients.items():
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            raise InputError(
                f"the derivative of the loss with respect to '{name}' is not finite at the given numbers (as that of a "
                "square root at 0); move the givens off that point"
            )


def _is_minus_inf(node: Node) -> bool:
    return node.role == "constant" and not node.shape and node.value == -math.inf


def _loss_after(prepared: Prepared, steps: Sequence[Step]) -> float | None:
    if prepared.program.optimizer is None or prepared.program.graph.loss is None:
        return None
    value = loss_at(prepared.program, {n: p.after for n, p in steps[-1].parameters.items()})
    return value


# --- asked derivatives ------------------------------------------------------------------------------------------------------
def _slope(prepared: Prepared, of: str, wrt: str) -> Slope:
    """d of / d wrt at the start: a gradient for one number, the Jacobian (one row per entry) otherwise."""
    program = prepared.program
    graph = program.graph
    rows = [_row(prepared, entry, wrt) for entry in _scalars(graph, graph.by_name[of])]
    shape = (() if graph.by_name[of].size == 1 else graph.by_name[of].shape) + graph.by_name[wrt].shape
    value = torch.stack([r[0] for r in rows]).reshape(shape)
    exact_value = None
    if all(r[1] is not None for r in rows):
        import numpy as np

        exact_value = np.stack([r[1] for r in rows]).reshape(shape)  # type: ignore[misc]
        value = torch.tensor([float(x) for x in exact_value.reshape(-1)], dtype=value.dtype).reshape(shape)
    return Slope(of, wrt, value, exact_value, _autograd_error(prepared, of, wrt, value))


def _scalars(graph: Graph, node: Node) -> list[tuple[Graph, Node]]:
    if node.size == 1:
        return [(graph, node)]
    if node.size > 200:
        raise InputError(
            f"the derivative of '{node.name}' is asked, which has {node.size} entries; ask for one of at most 200"
        )
    found = []
    for i in range(node.size):
        builder = Builder(graph.nodes)
        entry = builder.emit("select", builder.emit("reshape", node, shape=(node.size,)), dim=0, index=i)
        found.append((Graph(tuple(builder.nodes), (entry,)), entry))
    return found


def _row(prepared: Prepared, scalar: tuple[Graph, Node], wrt: str) -> tuple[Tensor, Array | None]:
    graph, entry = scalar
    program = prepared.program
    target = graph.by_name[wrt]
    joint = differentiate(graph, of=entry, wrt=[target])
    delta = joint.gradients[target]
    if delta is None:
        return torch.zeros(target.shape, dtype=torch.float64), None
    leaves = [n for n in joint.graph.nodes if n.is_leaf and n.role != "constant"]
    value = evaluate(joint.graph, {n: program.start[n.name] for n in leaves})[delta]
    if program.exact is None:
        return value, None
    try:
        return value, exact.run(joint.graph, {n: program.exact[n.name] for n in leaves})[delta]
    except TooLarge:
        return value, None


def _autograd_error(prepared: Prepared, of: str, wrt: str, ours: Tensor) -> float:
    graph = prepared.program.graph
    real = {n.name for n in graph.nodes if n.is_leaf and n.is_float and n.role not in ("buffer", "constant", "draw")}
    leaves = {n: t.detach().clone().requires_grad_(n in real) for n, t in prepared.program.start.items()}
    values = {**leaves, **run_original(prepared.program.graph, leaves)}
    top, bottom = values[of], values[wrt]
    rows = [torch.autograd.grad(v, bottom, retain_graph=True, allow_unused=True)[0] for v in top.reshape(-1)]
    theirs = torch.stack([torch.zeros_like(bottom) if r is None else r for r in rows]).reshape(ours.shape)
    return float((ours - theirs).abs().max() / max(float(theirs.abs().max()), 1e-6))


# --- answers ------------------------------------------------------------------------------------------------------------------
def _answers(prepared: Prepared, steps: Sequence[Step], slopes: Sequence[Slope], after: float | None) -> dict[str, Any]:
    names, answers = prepared.answer_names, dict[str, Any]()
    for s in slopes:
        if s.of in steps[0].values:
            answers[names.get(s.of, s.of)] = plain(steps[0].values[s.of])
        answers[f"d{names.get(s.of, s.of)}/d{names.get(s.wrt, s.wrt)}"] = plain(s.value)
    if prepared.program.optimizer is not None:
        answers["losses"] = [s.loss for s in steps]
        for name, record in steps[-1].parameters.items():
            own = names.get(name, name)
            value = record.after.reshape(()) if name in names and record.after.numel() == 1 else record.after
            answers.setdefault(own, plain(value))
            answers[f"{own}_after"] = plain(value)
        answers["loss_after"] = after
    if exact_answers := _exact_answers(prepared, steps, slopes):
        answers["exact"] = exact_answers
    if "accumulated" in prepared.also:
        answers |= _accumulated(prepared, steps, slopes)
    return answers


def _exact_answers(prepared: Prepared, steps: Sequence[Step], slopes: Sequence[Slope]) -> dict[str, Any]:
    found = {f"d{s.of}/d{s.wrt}": spelled(s.exact) for s in slopes if s.exact is not None}
    found |= {s.of: spelled(steps[0].exact[s.of]) for s in slopes if s.of in steps[0].exact}
    return found | {
        f"{n}_after": spelled(steps[-1].exact[f"after.{n}"])
        for n in prepared.program.trained
        if f"after.{n}" in steps[-1].exact
    }


def _accumulated(prepared: Prepared, steps: Sequence[Step], slopes: Sequence[Slope]) -> dict[str, Any]:
    """What the asked derivatives of one quantity add up to when they are not cleared in between, and the step it makes."""
    same = [s for s in slopes if s.wrt == slopes[0].wrt] if slopes else []
    if len(same) < 2 or len({s.value.shape for s in same}) != 1:
        return {}
    total = torch.stack([s.value for s in same]).sum(0)
    found: dict[str, Any] = {"accumulated": plain(total)}
    program, name = prepared.program, same[0].wrt
    if program.optimizer is not None and name in program.trained:
        twin = replace(program, trained=(name,), _joints={}, _single=None)
        after = _stepped(twin, name, total)
        found |= {
            "accumulated_w_after": plain(after),
            "accumulated_loss_after": loss_at(program, {name: after}),
        }
    return found


def _stepped(program: Any, name: str, gradient: Tensor) -> Tensor:
    return Replay(program.rule_of(name), program.start[name]).step(gradient)
