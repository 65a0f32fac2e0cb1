"""Write a step out: each quantity's formula, the same with the numbers put in, and the result.

Every formula with its numbers is evaluated again as it stands and compared with the recorded number, so that what is
printed is what was computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...document.blocks import Equation
from ...document.math import Expr, Matrix, Num, Ref, Sym, Words, leaves, map_leaves
from ...domains.printed import Unreadable, value_of
from ...domains.symbols import Layout, Writer
from ...errors import MissingRule
from ...graph import Node
from ...ops.chance import spelled
from ..program import Program
from ..trace import Step
from ..verdicts import GRADIENT_FLOOR, TOLERANCE, VALUE_FLOOR
from .why import why_value

__all__ = ["MOST_ENTRIES", "StepWriter", "matrix_of", "number_of"]

MOST_ENTRIES = 64
MOST_LEAVES = 40


def number_of(value: Any, exact: Any = None, ref: Ref | None = None) -> Num:
    """The number of a tensor's entry."""
    spelled = None if exact is None else str(exact)
    return Num(float(value), spelled, ref)


def matrix_of(tensor: Tensor, exact: Any = None, ref: Ref | None = None, flipped: bool = False) -> Expr:
    """A tensor of up to two axes as a number, a row, or a matrix."""
    if tensor.ndim == 0 or tensor.numel() == 1:
        place = (0,) * tensor.ndim
        return number_of(tensor.reshape(()), None if exact is None else exact.reshape(-1)[0], _at(ref, place))
    rows = tensor.reshape(1, -1) if tensor.ndim == 1 else tensor.reshape(-1, tensor.shape[-1])
    twin = None if exact is None else np.asarray(exact, dtype=object).reshape(tuple(rows.shape))
    cells = [
        [
            number_of(rows[i, j], None if twin is None else twin[i, j], _at(ref, (j,) if tensor.ndim == 1 else (i, j)))
            for j in range(rows.shape[1])
        ]
        for i in range(rows.shape[0])
    ]
    turned = [list(row) for row in zip(*cells, strict=True)] if flipped and tensor.ndim == 2 else cells
    return Matrix(tuple(tuple(row) for row in turned))


def _at(ref: Ref | None, place: tuple[int, ...]) -> Ref | None:
    return None if ref is None else Ref(ref.name, place, ref.kind, ref.step, ref.state)


def _is_index(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype != torch.bool


@dataclass
class StepWriter:
    """Writes the equations of one step and checks what it writes.

    Args:
        program, step: what was run.
        names: symbols that the reader writes differently.
    """

    program: Program
    step: Step
    names: Mapping[str, str]
    layout: str = "own"
    base: int = 1
    checked: int = 0
    unread: int = 0
    worst: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        joint = self.program.joint(self.step.graph)
        self.joint = joint
        graph = joint.graph if joint else self.step.graph
        given = {n: t for n, t in self.step.leaves.items() if _is_index(t)}
        known = {n.name: self.step.values.get(n.name) for n in self.step.graph.of_role("value") if not n.is_float}
        integers = {n: t.tolist() for n, t in {**known, **given}.items() if isinstance(t, Tensor) and _is_index(t)}
        layout = Layout.of(self.step.graph, self.layout)
        self.writer = Writer(graph, layout, self.base, self.names, self.step.number, integers=integers)

    @cached_property
    def is_complex(self) -> bool:
        """Whether complex numbers are at work: formulas of single entries are for real ones."""
        return any(n.is_complex for n in self.step.graph.nodes)

    # --- numbers ------------------------------------------------------------------------------------------------------
    def tensor(self, ref: Ref) -> Tensor | None:
        """The recorded tensor that a reference means."""
        if ref.kind == "gradient":
            return self.step.gradients.get(ref.name)
        if ref.name in self.step.values:
            return self.step.values[ref.name]
        return self.step.leaves.get(ref.name)

    def number(self, leaf: Num | Sym) -> Expr:
        """A symbol's number, exact where known."""
        if not isinstance(leaf, Sym) or leaf.ref is None:
            return leaf
        tensor = self.tensor(leaf.ref)
        if tensor is None:
            return leaf
        exact = self.exact(leaf.ref)
        return number_of(tensor[leaf.ref.index], None if exact is None else exact[leaf.ref.index], leaf.ref)

    def exact(self, ref: Ref) -> Any:
        """The exact numbers behind a reference, if the step has them."""
        key = f"grad.{ref.name}" if ref.kind == "gradient" else ref.name
        if key not in self.step.exact and ref.kind in ("before", "value") and f"before.{ref.name}" in self.step.exact:
            key = f"before.{ref.name}"
        if key in self.step.exact:
            return self.step.exact[key]
        if (
            self.step.exact
            and self.program.exact
            and ref.name in self.program.exact
            and ref.name not in self.program.trained
        ):
            return self.program.exact[ref.name]
        return None

    # --- equations ----------------------------------------------------------------------------------------------------
    def whole(self, node: Node) -> Equation:
        """The equation of a whole quantity: S = X W."""
        if node.role == "draw":
            words = Words(f"a draw from {spelled(node.attrs)}")
            return Equation(self.writer.symbol(node), (words,), "drawn anew in every update", self.ref(node))
        why = why_value(node, self.step.graph)
        return Equation(self.writer.symbol(node), (self.writer.matrix(node),), why, self.ref(node))

    def ref(self, node: Node) -> Ref:
        """What a node's number is called in the record."""
        if node.of is not None:
            return Ref(node.of.name, (), "gradient", self.step.number)
        return Ref(node.name, (), "value", self.step.number)

    def entries(self, node: Node) -> Iterable[Equation]:
        """For each entry: its formula, the formula with its numbers, the result. Long ones give the result alone."""
        if node.size > MOST_ENTRIES or node.role == "draw" or self.is_complex:
            return
        try:
            formulas = self.writer.entries(node)
        except MissingRule:
            return  # a step of the user's own code, of which there is no formula
        tensor, exact = self.tensor(self.ref(node)), self.exact(self.ref(node))
        for place in np.ndindex(*node.shape):
            result = self._result(node, place, tensor, exact)
            formula: Any = formulas[place]
            yield Equation(self.writer.entry(node, place), self._chain(node, formula, result), "", result.ref)

    def _result(self, node: Node, place: tuple[int, ...], tensor: Tensor | None, exact: Any) -> Num:
        assert tensor is not None
        ref = self.ref(node)
        return number_of(
            tensor[place], None if exact is None else exact[place], Ref(ref.name, place, ref.kind, ref.step)
        )

    def _chain(self, node: Node, formula: Expr, result: Num) -> tuple[Expr, ...]:
        put_in = map_leaves(formula, self.number)
        self._check(node, put_in, result)
        if sum(1 for _ in leaves(formula)) > MOST_LEAVES:
            return (result,)
        steps = (formula, put_in, result) if put_in != formula else (formula, result)
        if isinstance(put_in, Num) and put_in.value == result.value:
            steps = (formula, result)
        return (result,) if isinstance(formula, Num) else steps

    def _check(self, node: Node, put_in: Expr, result: Num) -> None:
        """Evaluate the formula as it is printed and compare with the recorded number."""
        try:
            value = float(value_of(put_in))
        except (Unreadable, ZeroDivisionError, StopIteration):
            self.unread += 1
            return
        if not math.isfinite(result.value):
            return  # a run that has diverged; the remarks say so
        tensor = self.tensor(self.ref(node))
        size = float(tensor.abs().max()) if tensor is not None and tensor.numel() else 0.0
        kind = self.step.gradients if node.of is not None else self.step.values
        largest = max(
            (float(t.abs().max()) for t in kind.values() if t is not None and t.numel() and t.is_floating_point()),
            default=1.0,
        )
        floor = GRADIENT_FLOOR if node.of is not None else VALUE_FLOOR
        error = abs(value - result.value) / max(size, floor * largest, 1e-300)
        self.checked += 1
        self.worst = max(self.worst, error)
        allowed = TOLERANCE if tensor is None or tensor.dtype == torch.float64 else 1e-4
        if not error <= allowed or math.isnan(error):
            self.wrong.append(node.name)
