"""Confirm a derivation: the printed formulas with random numbers and random functions put in, and SymPy's own derivative.

- ``autograd``: torch differentiates the original program; the printed formulas, evaluated as they are printed, must agree;
- ``central differences in 50 digits`` of the original formulas: no derivative rule at all;
- ``SymPy``: differentiates the composed expression with the functions left arbitrary; the difference to the printed
  formula, with everything put in, must be zero identically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from ...differentiate import differentiate
from ...domains.digits import context, digits
from ...domains.numbers import evaluate
from ...errors import BackproofError, MissingRule
from ...formula.read import FormulaOrigin
from ...formula.witness import witness
from ...graph import Graph, Node
from ...ops import Elementwise
from ..confirming.coarse import torch_rounds
from ..confirming.comparing import compare, scale_of
from ..confirming.reach import furthest, shaken_reading
from ..confirming.tally import Tally
from ..program import run_eagerly, run_original
from ..verdicts import GRADIENT_FLOOR, Evidence
from .backward import Backward
from .by_sympy import TooMuch, difference_is_zero
from .functions import X, as_torch, concrete, put_in

__all__ = ["Draws", "confirm", "gradients_at", "random_place", "values_at"]

DRAWS = 3
MOST_DIFFERENCES = 12
MOST_WORK = 40_000
_LEAST_SLOPE = 1e-12  # differences with steps of 1e-16 tell no smaller slope from the third derivative
_SHAPES: tuple[Callable[[Any], Any], ...] = (
    sympy.sin,
    sympy.tanh,
    sympy.exp,
    lambda x: x**3 / 3 - x,
    sympy.atan,
    lambda x: sympy.log(1 + x**2),
    lambda x: 1 / (1 + sympy.exp(-x)),
)
AUTOGRAD, DIFFERENCES, SYMPY = "autograd", "central differences in 50 digits", "SymPy's own derivative"


@dataclass
class Draws:
    """Random numbers and functions, from a seed."""

    seed: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def function(self, name: str) -> Elementwise:
        """A random function: a f(b x + c) + d x, for one of several f."""
        a, b, c, d = (sympy.Rational(int(k), 8) for k in self.random.integers(3, 10, 4))
        sign = -1 if self.random.integers(2) else 1
        shape = _SHAPES[int(self.random.integers(len(_SHAPES)))]
        return concrete(name, a * shape(b * X + sign * c / 4) + d * X / 4)

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        """Random numbers between 0.2 and 1.5, of either sign."""
        size = self.random.uniform(0.2, 1.5, shape)
        return torch.tensor(size * self.random.choice([-1.0, 1.0, 1.0], shape), dtype=torch.float64)


@dataclass
class _Place:
    """Where a derivation is looked at: numbers of the leaves and functions; and how far rounding carries gradients there."""

    work: Backward
    leaves: Mapping[str, Tensor]
    chosen: Mapping[str, Elementwise]

    def reach(self, name: str) -> Tensor | None:
        """By how much each entry of a gradient may differ by rounding alone; None where that is not known."""
        return self._reach.get(name)

    @cached_property
    def _reach(self) -> dict[str, Tensor]:
        try:
            graph = put_in(self.work.program, self.chosen)
            joint = differentiate(graph, of=graph.by_name[self.work.of.name])
        except BackproofError:  # no rule for something on the way
            return {}
        leaves = {n: self.leaves[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}

        def gradients(unit: float, seed: int) -> dict[str, Tensor]:
            values = shaken_reading(unit, seed)(joint.graph, leaves)
            return {n.name: values[g] for n, g in joint.gradients.items() if g is not None}

        return furthest(gradients, 2.0**-53)

    def compare(
        self, tally: Tally, what: str, oracle: str, name: str, ours: Tensor, theirs: Tensor, least: float
    ) -> None:
        """Note how the gradient by a name compares."""
        compare(tally, what, oracle, ours, theirs.reshape(ours.shape), least, lambda: self.reach(name))


def confirm(
    work: Backward, start: Mapping[str, Tensor], functions: Sequence[str], draws: Draws
) -> tuple[Evidence, ...]:
    """Compare what a derivation prints with independent derivatives.

    Args:
        work: the derivation.
        start: numbers that are given; every other leaf gets random ones.
        functions: the arbitrary functions; each gets random ones.
        draws: where what is random comes from.
    """
    rows, free = Tally(), [n for n in work.program.nodes if n.is_leaf and n.role != "constant" and n.name not in start]
    notes: list[Evidence] = []
    seen: Mapping[str, Tensor] = {}
    for draw in range(DRAWS if free or functions else 1):
        try:
            leaves, chosen = _finite_draw(work, start, free, functions, draws)
            place = _Place(work, leaves, chosen)
            _compare(place, rows)
            if not draw:
                _differences(place, rows, draws)
                seen = leaves
        except BackproofError as reason:
            if not work.gaps and not isinstance(reason, MissingRule):
                raise
            notes.append(Evidence("printed formulas", AUTOGRAD, None, None, 0, 0, str(reason)[:200]))
            break
    left_out = [Evidence("printed formulas", AUTOGRAD, None, None, 0, 0, text[:200]) for text in work.gaps]
    compared = rows.results()
    if seen and not functions:
        compared = torch_rounds(compared, work.program, {**seen, **values_at(work, seen, {})})
    return (*compared, *notes, *left_out, *_by_sympy(work))


def random_place(
    work: Backward, start: Mapping[str, Tensor], functions: Sequence[str], draws: Draws
) -> tuple[dict[str, Tensor], dict[str, Elementwise]]:
    """Random numbers for all leaves without one, and random functions, at which every value is finite."""
    free = [n for n in work.program.nodes if n.is_leaf and n.role != "constant" and n.name not in start]
    return _finite_draw(work, start, free, functions, draws)


def values_at(work: Backward, leaves: Mapping[str, Tensor], chosen: Mapping[str, Elementwise]) -> dict[str, Tensor]:
    """Every named value with these numbers and functions."""
    values = _read(put_in(work.program, chosen), leaves)
    return {n.name: v for n, v in values.items() if n.role == "value"}


def _finite_draw(
    work: Backward, start: Mapping[str, Tensor], free: Sequence[Node], functions: Sequence[str], draws: Draws
) -> tuple[dict[str, Tensor], dict[str, Elementwise]]:
    """Random numbers and functions at which every value is finite (a logarithm may refuse some)."""
    for _ in range(40):
        chosen = {name: draws.function(name) for name in functions}
        leaves = {n: t.double() if t.is_floating_point() else t for n, t in start.items()}
        leaves |= {n.name: draws.tensor(n.shape) for n in free}
        values = _read(put_in(work.program, chosen), leaves)
        if not any(bool(v.isnan().any()) for v in values.values()) and _is_finite(values, work.of.name):
            return leaves, chosen
    raise MissingRule("at no random numbers is every value finite")


def _is_finite(values: Mapping[Node, Tensor], of: str) -> bool:
    """Whether the output is finite, and every value that no constant made infinite (a mask of -inf does so on purpose)."""
    masked = set[str]()
    for node, value in values.items():
        if not (value.is_floating_point() and bool(value.isinf().any())):
            continue
        if node.role != "constant" and not any(x.name in masked for x in node.inputs):
            return False
        masked.add(node.name)
    return of not in masked


def _read(graph: Graph, leaves: Mapping[str, Tensor]) -> dict[Node, Tensor]:
    return evaluate(graph, {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"})


def _compare(place: _Place, rows: Tally) -> None:
    work, leaves, chosen = place.work, place.leaves, place.chosen
    ours = work.evaluate(leaves, chosen)
    written_out = work.evaluate(leaves, chosen, expanded=True) if work.is_expandable else {}
    theirs = gradients_at(work, leaves, chosen)
    least, top = GRADIENT_FLOOR * scale_of(theirs.values()), work.of.name
    for name, gradient in theirs.items():
        if name in ours:
            is_signal = name in work.delta_names
            what = work.delta_names[name] if is_signal else f"d{top}/d{name}"
            place.compare(rows, what, AUTOGRAD, name, ours[name], gradient, least)
        if name in written_out and name not in work.delta_names:
            what = f"d{top}/d{name} written out"
            place.compare(rows, what, AUTOGRAD, name, written_out[name], gradient, least)


def gradients_at(work: Backward, leaves: Mapping[str, Tensor], chosen: Mapping[str, Elementwise]) -> dict[str, Tensor]:
    """torch's own gradients of the original program by every wanted quantity and every named error signal's value."""
    wanted = [n.name for n in [*work.wrt, *work.signals]]
    held = {n.name for n in work.program.of_role("buffer", "draw")}
    tracked = {n: t.detach().clone().requires_grad_(t.is_floating_point() and n not in held) for n, t in leaves.items()}
    origin = work.program.origin
    if isinstance(origin, FormulaOrigin):
        values = witness(origin, tracked, {n: as_torch(op) for n, op in chosen.items()})
    else:
        values = run_original(work.program, tracked)
        if work.of is work.program.loss and work.of.name not in values:
            loss = run_eagerly(work.program, tracked)
            values = values if loss is None else {**values, work.of.name: loss}
    sources = {n: {**tracked, **values}[n] for n in wanted if n in tracked or n in values}
    sources = {n: t for n, t in sources.items() if t.requires_grad}
    top = values[work.of.name].reshape(())
    grads = torch.autograd.grad(top, list(sources.values()), allow_unused=True)
    shapes = {n: work.program.by_name[n].shape for n in sources}
    return {
        n: torch.zeros(shapes[n], dtype=torch.float64) if g is None else g.detach().reshape(shapes[n])
        for (n, _), g in zip(sources.items(), grads, strict=True)
    }


# --- differences ------------------------------------------------------------------------------------------------------------
def _differences(place: _Place, rows: Tally, draws: Draws) -> None:
    """Central differences of the forward formulas in 50 digits, at random entries."""
    work, leaves, chosen = place.work, place.leaves, place.chosen
    graph = put_in(work.program, chosen)
    cost = sum(n.size * max((x.size for x in n.inputs), default=1) for n in graph.nodes)
    ours = work.evaluate(leaves, chosen)
    places = [(n.name, i) for n in work.wrt if n.is_leaf and n.name in ours for i in range(n.size)]
    if not places or cost > MOST_WORK:
        return
    if len(places) > MOST_DIFFERENCES:
        places = [places[int(i)] for i in draws.random.choice(len(places), MOST_DIFFERENCES, replace=False)]
    arrays = {n: digits.array(t.tolist(), tuple(t.shape)) for n, t in leaves.items()}
    least = max(GRADIENT_FLOOR * scale_of(ours.values()), _LEAST_SLOPE)
    for name, i in places:
        what, mine = f"d{work.of.name}/d{name}", ours[name].reshape(-1)[i]
        left, right = _slopes(graph, work.of.name, arrays, name, i)
        if abs(right - left) > max(1e-7 * max(abs(left), abs(right)), 1e-10):
            rows.kink(
                what, DIFFERENCES, f"entry {i}: a kink, with slope {left:.4g} to the left and {right:.4g} to the right"
            )
            continue

        def reach(name: str = name, i: int = i) -> Tensor | None:
            far = place.reach(name)
            return None if far is None else far.reshape(-1)[i]

        slope = torch.tensor((left + right) / 2, dtype=torch.float64)
        compare(rows, what, DIFFERENCES, mine, slope, least, reach)


def _slopes(graph: Graph, of: str, arrays: Mapping[str, Any], name: str, place: int) -> tuple[float, float]:
    """The slopes to the left and to the right."""
    step, ends = context.mpf(10) ** -16, []
    for sign in (-1, 0, 1):
        moved = arrays[name].copy()
        moved.reshape(-1)[place] = moved.reshape(-1)[place] + sign * step
        leaves = {**arrays, name: moved}
        values = digits.run(graph, {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"})
        ends.append(values[graph.by_name[of]].reshape(-1)[0])
    return float((ends[1] - ends[0]) / step), float((ends[2] - ends[1]) / step)


# --- SymPy --------------------------------------------------------------------------------------------------------------------
def _by_sympy(work: Backward) -> list[Evidence]:
    found = []
    for node in work.reached:
        if not node.is_leaf:
            continue
        what = f"d{work.of.name}/d{node.name}"
        try:
            same, count = difference_is_zero(work, node)
            found.append(Evidence(what, SYMPY, same, 0.0 if same else 1.0, count, node.size))
        except TooMuch as reason:
            found.append(Evidence(what, SYMPY, None, None, 0, node.size, str(reason)))
        except BackproofError:
            continue
    return found if any(e.agrees is not None for e in found) else []
