"""A derivation as a result: its equations, answers, evidence, and the gradients from the printed formulas alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...document.blocks import Document
from ...errors import InputError
from ...result import Result, written
from ..verdicts import Evidence, standing, summary
from .backward import Backward, Line
from .by_depth import ByDepth
from .check import Draws, confirm
from .depth import General
from .folding import Entry, Fold
from .functions import function_of

__all__ = ["Derived", "DerivedEquation", "recursion_of"]


@dataclass(frozen=True)
class DerivedEquation:
    """One equation of a derivation.

    Args:
        name: what it gives, as text ("δ₂", "∂L/∂W₁").
        formula: the equation in LaTeX.
        rule: the rule behind it, in words.
        text: the equation as plain text.
        typed: its right side in the language of problems, where all quantities are single numbers; else "".
        phase: "forward", "backward" (an error signal), "gradient", or "expanded" (a gradient with all put in).
        of: the quantity: the value that is computed, or the one whose gradient it is.
    """

    name: str
    formula: str
    rule: str
    text: str
    typed: str
    phase: str
    of: str


@dataclass(frozen=True)
class Derived(Result):
    """A derivation: ``equations``, ``answers``, ``evidence``, ``evaluate``; see :func:`derive`."""

    id: str
    title: str
    about: str
    settings: dict[str, Any]
    work: Backward = field(repr=False)
    start: Mapping[str, Tensor] = field(repr=False)
    functions: tuple[str, ...]
    remarks: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    view: str = "matrices"
    by_depth: ByDepth | None = field(default=None, repr=False)

    @cached_property
    def equations(self) -> tuple[DerivedEquation, ...]:
        """Forward, error signals, gradients, in order; then each gradient with every error signal put in.

        With a symbol as the depth: the equations for every depth.
        """
        if self.by_depth is not None:
            return general_equations(self.by_depth.general)
        return tuple(self._equation(line) for line in [*self.work.lines, *self.work.expanded])

    @cached_property
    def folded(self) -> tuple[DerivedEquation, ...]:
        """The same without the expanded forms, and what repeats with another number written once, with its index."""
        if self.by_depth is not None:
            return self.equations
        sections = [(self.work.forward, "forward"), (self.work.backward, "backward"), (self.work.gradients, "gradient")]
        return tuple(e for lines, phase in sections for f in self.work.folds(lines) for e in folded_equations(f, phase))

    def at(self, depth: int) -> Derived:
        """The derivation at one depth, where the depth is a symbol.

        Raises:
            InputError: the depth is no symbol here, or too small.
        """
        if self.by_depth is None:
            raise InputError('this derivation has one depth; give depth="L" for one with a symbol in its place')
        repeats = depth - self.by_depth.general.offset
        if not isinstance(depth, int) or repeats < 1:
            raise InputError(f"the depth must be at least {1 + self.by_depth.general.offset}, not {depth!r}")
        made = self.by_depth.make(repeats)
        evidence = confirm(made.work, dict(made.start), made.functions, Draws(0))
        title = f"{self.title}, {self.by_depth.general.symbol} = {depth}"
        return Derived(self.id, title, self.about, self.settings, made.work, made.start, made.functions, self.remarks,
                       evidence, self.view)  # fmt: skip

    def _equation(self, line: Line) -> DerivedEquation:
        (name, left), (text, latex) = written(line.left), written(line.right)
        of = (line.node.of or line.node).name
        typed = self.work.typed(line.right) or ""
        return DerivedEquation(name, f"{left} = {latex}", line.rule, f"{name} = {text}", typed, line.phase, of)

    @cached_property
    def answers(self) -> dict[str, Any]:
        """The gradients written out, the error signals, and the gradients in terms of them, as typed formulas."""
        if self.by_depth is not None:
            return {e.name: e.text.partition(" = ")[2] for e in self.equations if e.phase != "forward"}
        top, work = self.work.of.name, self.work
        found: dict[str, Any] = {f"d{top}/d{n.name}": "0" for n in work.wrt if n not in work.reached}
        shown = "expanded" if work.is_expandable else "gradient"
        found |= {f"d{top}/d{e.of}": _formula(e) for e in self.equations if e.phase == shown}
        found["delta"] = {work.delta_names[e.of]: _formula(e) for e in self.equations if e.phase == "backward"}
        found["in_deltas"] = {f"d{top}/d{e.of}": _formula(e) for e in self.equations if e.phase == "gradient"}
        if recursion := recursion_of(work):
            found["recursion"] = recursion
        return found

    @property
    def steps(self) -> tuple[Any, ...]:
        """A derivation has no updates."""
        return ()

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether an independent way disagrees."""
        return any(e.agrees is False for e in self.evidence)

    def evaluate(self, values: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """The gradients, computed from the printed formulas alone; no autograd, no graph.

        Args:
            values: numbers for givens and parameters by name (what is missing is taken from the capture, names that
                the derivation has not are ignored), and for each arbitrary function what to put in: the name of a
                function (``"tanh"``), a formula in x (``"x**3 - x"``), or a function of a SymPy symbol.

        Returns:
            the gradient of every quantity derived by, and the error signal of every value that has one, by name.

        Raises:
            InputError: a symbol has no value, or a value has another shape.
            MissingRule: a printed formula has a part that cannot be read back.
        """
        given = dict(values or {})
        functions = {n: function_of(n, given[n]) for n in self.functions if n in given}
        leaves = {n.name: self._leaf(n.name, n.shape, given) for n in self.work.graph.nodes if self._is_wanted(n)}
        if missing := [n for n in self.functions if n not in functions]:
            raise InputError(
                f"the function '{missing[0]}' is arbitrary; say which to put in, as in {missing[0]}=\"tanh\""
            )
        return self.work.evaluate(leaves, functions)

    def _is_wanted(self, node: Any) -> bool:
        return bool(node.is_leaf and node.role != "constant")

    def _leaf(self, name: str, shape: tuple[int, ...], given: Mapping[str, Any]) -> Tensor:
        if name not in given and name not in self.start:
            raise InputError(f"'{name}' is a symbol without a number; give it one, as in evaluate({{'{name}': ...}})")
        value = given.get(name, self.start.get(name))
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"'{name}' must be numbers of the shape {list(shape)}, not {value!r}") from None
        tensor = tensor.detach()
        if tuple(tensor.shape) != shape:
            raise InputError(f"'{name}' has the shape {list(shape)}, and the value given has {list(tensor.shape)}")
        integers = name in self.start and not self.start[name].is_floating_point()
        return tensor if integers else tensor.double()

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record: problem, settings, derivation, answers, remarks, evidence; there are no steps."""
        return {
            "problem": self.id,
            "settings": self.settings,
            "steps": [],
            "derivation": [
                {
                    "name": e.name,
                    "formula": e.formula,
                    "rule": e.rule,
                    "text": e.text,
                    "typed": e.typed,
                    "phase": e.phase,
                }
                for e in self.equations
            ],
            "folded": [{"name": e.name, "formula": e.formula, "rule": e.rule, "for": e.of} for e in self.folded],
            "answers": self.answers,
            "remarks": list(self.remarks),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The derivation as a worked solution."""
        from .page import blocks_of

        free = bool(self.functions) or any(name not in self.start for name in self._leaf_names)
        return Document(
            self.title,
            tuple(blocks_of(self)),
            "derived, not computed" if free else "derived",
            summary(self.evidence),
            standing(self.evidence),
            self.to_dict(),
        )

    @property
    def _leaf_names(self) -> list[str]:
        return [n.name for n in self.work.graph.nodes if self._is_wanted(n)]


def general_equations(general: General) -> tuple[DerivedEquation, ...]:
    """The equations of a derivation whose depth is a symbol; ``of`` says for which values of the index they hold."""
    phases = ("forward", "backward", "gradient")
    return tuple(
        _written_entry(e, f"{g.index} = {g.first}..{g.last}" if g.index else "", phase)
        for section, phase in zip(general.sections(), phases, strict=True) for g in section for e in g.entries
    )  # fmt: skip


def folded_equations(fold: Fold, phase: str) -> tuple[DerivedEquation, ...]:
    """The equations of a fold; ``of`` says for which values of the index they hold."""
    values = f"{fold.index} = {fold.values[0]}..{fold.values[-1]}" if fold.values else ""
    return tuple(_written_entry(e, values, phase) for e in fold.entries)


def _written_entry(entry: Entry, of: str, phase: str) -> DerivedEquation:
    (name, left), (text, latex) = written(entry.left), written(entry.right)
    return DerivedEquation(name, f"{left} = {latex}", entry.rule, f"{name} = {text}", "", phase, of)


def _formula(equation: DerivedEquation) -> str:
    return equation.typed or equation.text.partition(" = ")[2]


def recursion_of(work: Backward) -> str | None:
    """The recursion of a chain, delta_{k-1} = delta_k W_k f_{k-1}'(s_{k-1}), where every error signal has that form."""
    from ...document.math import Call, Mul, Sym

    lines = work.backward
    if len(lines) < 3:
        return None
    for before, line in pairwise(lines):
        factors = line.right.factors if isinstance(line.right, Mul) else ()
        if len(factors) != 3 or factors[0] != before.left or not isinstance(factors[1], Sym):
            return None
        call = factors[2]
        own = line.node.of.name if line.node.of else ""
        if not (isinstance(call, Call) and call.function.primes == 1 and _stands_for(call.args[0], own)):
            return None
    return "delta_{k-1} = delta_k * W_k * f_{k-1}'(s_{k-1})"


def _stands_for(expr: Any, name: str) -> bool:
    ref = getattr(expr, "ref", None)
    return ref is not None and ref.name == name
