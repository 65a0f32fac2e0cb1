"""An optimizer under a constant gradient: closed forms, their numbers, and two checks of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import sympy
import torch

from ...errors import InputError
from ...optimizers import Optimizer
from ...optimizers.witness import hand_sparse, scalars_like, torch_class, torch_settings
from ..verdicts import TOLERANCE, Evidence
from .digits import CONTEXT, Evaluation, TooManyTerms, mpf
from .recurrence import Closed, T, read, solve_recurrence, symbol_of, turning_point

__all__ = ["GRADIENT", "LATEST", "START", "closed_forms", "confirmed", "numbers_at", "stepped", "symbols_of"]

GRADIENT = sympy.Symbol("g", real=True, nonzero=True)
START = sympy.Symbol("w0", real=True)
LATEST = 10**15
"""The largest number of updates for which a formula is evaluated."""
MOST_UPDATES = 20_000
"""The most updates that are made one by one."""
MOST_CHECKED = 30
"""The most updates with which a change of the equations is looked for by the check."""


def closed_forms(optimizer: Optimizer, gradient: Any = GRADIENT, start: Any = START) -> Closed:
    """The closed forms of a rule, with a symbol for every setting that is not zero."""
    return solve_recurrence(optimizer, symbols_of(optimizer), gradient, start)


def symbols_of(optimizer: Optimizer) -> dict[str, Any]:
    """A symbol for every setting that is not zero."""
    return {k: _symbol(k, v) if v else sympy.Integer(0) for k, v in optimizer.numbers().items()}


def _symbol(name: str, value: Any) -> Any:
    """A positive symbol; a setting below 0, or of 1 (another one than the rate), stands as its number."""
    plain = float(value) < 0 or (float(value) == 1 and name != "lr")
    return _rational(value) if plain else symbol_of(name)


def numbers_at(closed: Closed, optimizer: Optimizer, values: Mapping[Any, Any], t: int) -> dict[str, float]:
    """Every quantity after ``t`` updates, from the formulas, in 50 digits; what has none is computed step by step.

    Args:
        values: the numbers of the symbols in the formulas.
        t: the number of updates.

    Raises:
        InputError: a quantity has no closed form and t is too large to make all updates.
    """
    found: dict[str, float] = {}
    walked: dict[str, float] = {}
    formulas = _Numbers(closed, values, t)
    for name in dict.fromkeys([*closed.forms, *closed.unsolved]):
        if t < closed.since.get(name, 1):
            continue
        value = formulas.of(name)
        if value is None:  # no formula, one that divides by 1 - 1, or a sum of too many terms
            walked = walked or stepped(optimizer, values, t)
            value = walked[name]
        found[name] = value
    return found


class _Numbers:
    """The numbers of the closed forms, as they are shown, after t updates."""

    def __init__(self, closed: Closed, values: Mapping[Any, Any], t: int) -> None:
        self.every = {n: closed.written(n) for n in closed.forms}
        self.evaluation = Evaluation({**values, T: t}, self.every, T)

    def of(self, name: str) -> float | None:
        """A value's number; None where it has no form, or that divides by 0, or adds up too many terms."""
        if name not in self.every:
            return None
        try:
            return float(CONTEXT.mpmathify(self.evaluation(self.every[name])).real)
        except (ZeroDivisionError, TooManyTerms):
            return None


def stepped(optimizer: Optimizer, values: Mapping[Any, Any], t: int, exact: bool = False) -> dict[str, Any]:
    """Every quantity after ``t`` updates made one by one, in 50 digits or in exact rational numbers."""
    if t > MOST_UPDATES:
        raise InputError(
            f"{optimizer.rule.name} has no closed form for all its quantities, and t = {t} is too many updates to make "
            f"one by one; give t up to {MOST_UPDATES}"
        )
    number: Any = _rational if exact else mpf
    given: dict[str, Any] = {k: number(v) for k, v in optimizer.numbers().items()}
    state: dict[str, Any] = {n: number(0) for n in optimizer.state} | {"w": number(values.get(START, 0))}
    seen: dict[str, Any] = {}
    for k in range(1, t + 1):
        leaves = {**given, "g": number(values[GRADIENT]), "t": number(k), **state}
        graph = optimizer.graph((), k if k < 3 or optimizer.rule.changes else 3)
        result = read(graph, leaves) if exact else _read_fast(optimizer, graph, leaves)
        state = dict(zip(("w", *optimizer.state), (result[n] for n in graph.outputs), strict=True))
        seen = {n.name.partition("#")[0]: v for n, v in result.items() if n.role == "value" and not n.is_leaf}
    found = {**seen, **state}
    return found if exact else {n: float(v) for n, v in found.items()}


def _read_fast(optimizer: Optimizer, graph: Any, leaves: Mapping[str, Any]) -> dict[Any, Any]:
    from ...domains.digits import compiled

    values: dict[Any, Any] = {}
    for node in graph.nodes:
        if node.is_leaf:
            values[node] = leaves[node.name] if node.name in leaves else mpf(node.value)
        else:
            values[node] = compiled(node.op, len(node.inputs), tuple(sorted(node.attrs.items())))(
                *(values[x] for x in node.inputs)
            )
    return values


# --- checks -----------------------------------------------------------------------------------------------------------------
def confirmed(
    optimizer: Optimizer, closed: Closed, what: str, t: int = 57, gradient: Any = 1.7, start: Any = 0.25
) -> tuple[Evidence, ...]:
    """The closed forms against updates made one by one in exact numbers, and against torch.optim in float64."""
    values: dict[Any, Any] = {symbol_of(k): _rational(v) for k, v in optimizer.numbers().items()}
    values |= {GRADIENT: _rational(gradient), START: _rational(start)}
    rows = [_exactly(optimizer, closed, values, what)]
    try:
        rows.append(_with_torch(optimizer, closed, values, what, t))
    except ValueError:  # torch's class refuses these settings, such as eps = 0
        pass
    return tuple(row for row in rows if row.looked_at)


def _rational(value: Any) -> Any:
    return value if isinstance(value, sympy.Basic) else sympy.Rational(repr(float(value)))


def _exactly(optimizer: Optimizer, closed: Closed, values: Mapping[Any, Any], what: str) -> Evidence:
    """t = 1 to 6, and past the update where the equations change: the closed form must give what the updates do.

    The updates are made in exact numbers; in 50 digits for a rule that takes roots of the count of updates.
    """
    worst, count, turn = 0.0, 0, turning_point(optimizer) or 0
    exact = not optimizer.rule.changes
    for t in range(1, turn + 4 if 0 < turn < MOST_CHECKED else 7):
        walked, formulas = stepped(optimizer, values, t, exact=exact), _Numbers(closed, values, t)
        for name in closed.forms:
            if t < closed.since.get(name, 1):
                continue
            ours, theirs = formulas.of(name), float(sympy.N(walked[name], 30))
            if ours is not None:
                worst = max(worst, abs(ours - theirs) / max(abs(theirs), 1e-12))
                count += 1
    return Evidence(
        f"closed forms of {what}",
        f"the updates made one by one in {'exact numbers' if exact else '50 digits'}",
        worst <= TOLERANCE,
        worst,
        count,
        count,
    )


def _with_torch(optimizer: Optimizer, closed: Closed, values: Mapping[Any, Any], what: str, t: int) -> Evidence:
    ours = numbers_at(closed, optimizer, values, t)
    theirs = _torch_run(optimizer, float(values[GRADIENT]), float(values[START]), t)
    shared = [n for n in theirs if n in ours]
    error = max((abs(ours[n] - theirs[n]) / max(abs(theirs[n]), 1e-12) for n in shared), default=math.inf)
    return Evidence(
        f"{what} after {t} updates", "torch.optim in float64", error <= TOLERANCE, error, len(shared), len(shared)
    )


def _torch_run(optimizer: Optimizer, gradient: float, start: float, t: int) -> dict[str, float]:
    """w and the state that torch.optim's own class has after t updates."""
    parameter = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    rule = optimizer.rule
    theirs = torch_class(rule.name)([parameter], **torch_settings(rule, optimizer.hyper))
    with scalars_like(parameter):
        for _ in range(t):
            parameter.grad = torch.tensor([gradient], dtype=torch.float64)
            hand_sparse(theirs)
            theirs.step()
    state = theirs.state[parameter]
    kept = {n: float(state[k]) for n, k in rule.kept.items() if n in optimizer.state and state.get(k) is not None}
    return {"w": float(parameter.detach()), **kept}
