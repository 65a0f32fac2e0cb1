"""What the learning rate does: runs at many rates, and the interval of reasonable ones, found from curvature and runs.

The upper end is the largest rate at which every update of the run is shorter than the curvature where it starts allows
(for plain gradient descent lr < 2 / lambda, lambda the largest eigenvalue of the second derivatives there) and no update
raises the loss. The lower end is the rate from which on the run makes nine tenths of the decrease that the best rate up to
the upper end makes in as many updates. Both are confirmed by running torch.optim at rates between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from ...document.blocks import Block, Callout, Paragraph, Plot, Section, Series, Table
from ...document.math import Num, Rel, Sym
from ...errors import InputError
from ...optimizers import Optimizer
from ...progress import track
from ..answer import Answer
from ..optimizer.stability import stability
from ..prepare import Prepared
from ..program import Program, run_eagerly
from ..trace import Step
from ..verdicts import TOLERANCE, Evidence
from .general import _flat, _unflat, gradient, hessian, loss_at

__all__ = ["Run", "rates", "walked"]

MOST_UPDATES = 200
MOST_PARAMETERS = 60
SHARE = 0.9
PER_DECADE = 3
BISECTIONS = 7


@dataclass(frozen=True)
class Run:
    """A run at one rate.

    Args:
        lr: the rate.
        losses: before each update and after the last; cut short where it is no longer finite.
        curvatures: the largest eigenvalue of the second derivatives before each update (empty if not asked for).
        finite: whether all updates could be made.
    """

    lr: float
    losses: tuple[float, ...]
    curvatures: tuple[float, ...]
    finite: bool

    @property
    def final(self) -> float:
        """The loss after the last update."""
        return self.losses[-1] if self.finite else math.inf

    @property
    def rises(self) -> int:
        """How many updates raised the loss."""
        return sum(b > a + 1e-12 * abs(a) + 1e-300 for a, b in pairwise(self.losses)) + (not self.finite)


def walked(program: Program, lr: float, count: int, curved: bool = True) -> Run:
    """Make ``count`` updates on all samples with the problem's optimizer at another rate."""
    rule = _at_rate(program.optimizer, lr)
    at = _flat(program, program.start)
    state = {s: torch.zeros_like(at) for s in rule.state}
    losses, curvatures = [loss_at(program, _unflat(program, at))], []
    for t in range(1, count + 1):
        here = _unflat(program, at)
        if curved:
            matrix = hessian(program, here)
            curvatures.append(float(torch.linalg.eigvalsh((matrix + matrix.T) / 2).max()))
        at, state = _updated(rule, at, gradient(program, here), state, t)
        value = loss_at(program, _unflat(program, at))
        if not (math.isfinite(value) and bool(torch.isfinite(at).all())):
            return Run(lr, tuple(losses), tuple(curvatures), False)
        losses.append(value)
    return Run(lr, tuple(losses), tuple(curvatures), True)


def _at_rate(rule: Optimizer | None, lr: float) -> Optimizer:
    assert rule is not None
    return Optimizer(rule.rule, {**rule.hyper, "lr": lr})


def _updated(rule: Optimizer, at: Any, slope: Any, state: Any, t: int) -> tuple[Any, Any]:
    from ...domains.numbers import evaluate

    graph = rule.graph(tuple(at.shape), t)
    given = {"w": at, "g": slope, **state}
    values = evaluate(graph, {n: given[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"})
    return values[graph.outputs[0]], dict(zip(rule.state, (values[n] for n in graph.outputs[1:]), strict=True))


# --- the interval -----------------------------------------------------------------------------------------------------------
class _Search:
    """Runs at rates, each made once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.count = min(program.steps, MOST_UPDATES)
        self.allowed = _allowed(program.optimizer)
        self.runs: dict[float, Run] = {}

    def run(self, lr: float) -> Run:
        if lr not in self.runs:
            self.runs[lr] = walked(self.program, lr, self.count, curved=self.allowed is not None)
        return self.runs[lr]

    def is_calm(self, lr: float) -> bool:
        """Whether every update is short enough for the curvature where it starts, and none raises the loss."""
        run = self.run(lr)
        short = self.allowed is None or all(c * lr < self.allowed for c in run.curvatures)
        return run.finite and run.rises == 0 and short

    def scale(self) -> float:
        """A rate to look around: what the curvature at the start allows, or the problem's own."""
        rule = self.program.optimizer
        assert rule is not None
        own = float(rule.hyper["lr"]) or 1e-3
        if self.allowed is None:
            return own
        matrix = hessian(self.program, self.program.start)
        largest = float(torch.linalg.eigvalsh((matrix + matrix.T) / 2).abs().max())
        return self.allowed / largest if largest > 0 and math.isfinite(self.allowed / largest) else own


def _allowed(rule: Optimizer | None) -> float | None:
    """What rate times curvature must stay below: 2 for plain gradient descent; None where steps are divided by their size."""
    assert rule is not None
    if rule.rule.second or rule.hyper.get("weight_decay"):
        return None
    try:
        limit = stability(_at_rate(rule, 1.0)).value
    except InputError:
        return None
    return limit if 0 < limit < math.inf else None


def _grid(scale: float) -> list[float]:
    """Rates from a thousandth of the scale to a hundred times it, rounded to what one would write."""
    found = [scale * 10 ** (k / PER_DECADE) for k in range(-3 * PER_DECADE, 2 * PER_DECADE + 1)]
    return sorted({float(f"{v:.2g}") for v in found})


def _bisect(low: float, high: float, good: Any) -> float:
    """The last good rate between a good one and one that is not."""
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def _upper(search: _Search, grid: Sequence[float]) -> float | None:
    """The largest rate up to which all are calm."""
    calm = None
    for lr in grid:
        if not search.is_calm(lr):
            return calm if calm is None else _bisect(calm, lr, search.is_calm)
        calm = lr
    return calm


def _lower(search: _Search, grid: Sequence[float], high: float) -> float:
    """The smallest rate that makes nine tenths of the best decrease, going down from the upper end."""
    below = [lr for lr in grid if lr < high]
    start = search.run(high).losses[0]
    best = min(search.run(lr).final for lr in (*below, high))
    enough = start - SHARE * (start - best)
    reached = [lr for lr in (*below, high) if search.run(lr).final <= enough]
    first = min(reached)
    smaller = [lr for lr in below if lr < first]
    return first if not smaller else _bisect(first, max(smaller), lambda lr: search.run(lr).final <= enough)


def rates(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """The analysis ``rates``: what rates too small and too large do, and a reasonable interval."""
    program = prepared.program
    refused = _refused(program)
    if refused:
        return Answer(remarks=(refused,))
    program = replace(program, batch="full", _joints={}, _single=None, _seconds={})
    search = _Search(program)
    grid = _grid(search.scale())
    for lr in track(grid, "learning rates"):
        search.run(lr)
    high = _upper(search, grid)
    if high is None:
        return Answer(blocks=_section(search, grid, None, None), remarks=(_NONE,))
    low = _lower(search, grid, high)
    blocks = _section(search, grid, low, high)
    answers = {"lr": {"low": low, "high": high}, "rates": [_row(search.run(lr)) for lr in grid]}
    return Answer(answers, blocks, _confirmed(search, low, high), ())


_NONE = "At every rate that was tried, down to a thousandth of what the curvature suggests, an update raises the loss."


def _refused(program: Program) -> str:
    count = sum(program.start[n].numel() for n in program.trained)
    if program.graph.loss is None or program.optimizer is None or not count:
        return "Learning rates are compared for a problem with a loss and an optimizer."
    if count > MOST_PARAMETERS:
        return f"Learning rates are compared for up to {MOST_PARAMETERS} parameters."
    if program.optimizer.rule.variant_of:
        return "Learning rates are compared for the rules of torch.optim, which confirms them."
    if program.optimizer.rule.whole or len(program.rules) > 1:
        return "Learning rates are compared for one rule that treats every entry alike."
    if program.optimizer.hyper.get("maximize"):
        return "Learning rates are compared for a loss that is made smaller, not larger."
    return ""


def _row(run: Run) -> dict[str, Any]:
    final = run.final if run.finite else None
    return {"lr": run.lr, "loss_after": final, "smallest": min(run.losses), "rising_updates": run.rises}


def _confirmed(search: _Search, low: float, high: float) -> tuple[Evidence, ...]:
    """torch.optim on the user's own program at rates in the interval: the losses agree, and no update raises the loss."""
    found = []
    for lr in (low, math.sqrt(low * high), high):
        ours = search.run(lr).losses
        theirs = _with_torch(search.program, lr, len(ours) - 1)
        error = max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, theirs, strict=False))
        falls = all(b <= a + 1e-9 * abs(a) for a, b in pairwise(theirs))
        what = f"the loss falls in every update at lr = {lr:.4g}"
        found.append(Evidence(what, "torch.optim", falls and error <= TOLERANCE, error, len(theirs), len(theirs)))
    return tuple(found)


def _with_torch(program: Program, lr: float, count: int) -> list[float]:
    """The losses of the user's own program trained by torch.optim."""
    trained = {n: torch.nn.Parameter(program.start[n].detach().clone()) for n in program.trained}
    rule = _at_rate(program.optimizer, lr).torch(list(trained.values()))
    losses = []
    for k in range(count + 1):
        rule.zero_grad()
        loss = run_eagerly(program.graph, {**program.start, **trained})
        assert loss is not None
        losses.append(float(loss.detach()))
        if k < count:
            loss.backward()
            rule.step()
    return losses


# --- the page ---------------------------------------------------------------------------------------------------------------
def _section(search: _Search, grid: Sequence[float], low: float | None, high: float | None) -> tuple[Block, ...]:
    blocks: list[Block] = [_explained(search, low, high), _table(search, grid, low, high), _final_plot(search, grid)]
    if low is not None and high is not None:
        blocks.append(_curves(search, grid, low, high))
    return (Section("What the learning rate does", tuple(blocks), "result", "rates"),)


def _explained(search: _Search, low: float | None, high: float | None) -> Paragraph | Callout:
    if low is None or high is None:
        return Callout("warning", (_NONE,))
    by = (
        (
            "each update starts where rate times largest curvature is below ",
            Num(search.allowed),
            ", and none raises the loss",
        )
        if search.allowed is not None
        else ("no update raises the loss",)
    )
    return Paragraph(
        (
            "A reasonable interval is ",
            Rel("<=", Num(float(f"{low:.4g}")), Sym("eta")),
            " up to ",
            Rel("<=", Sym("eta"), Num(float(f"{high:.4g}"))),
            ". At its upper end, and at every smaller rate that was tried, ",
            *by,
            f". From its lower end on, {search.count} updates make nine tenths of the decrease that the best rate in the "
            "interval makes. Below it a run creeps; above it, it jumps: the loss rises now and then, or the run leaves for "
            "places where the loss is flat, or for infinity.",
        )
    )


def _table(search: _Search, grid: Sequence[float], low: float | None, high: float | None) -> Table:
    rows = []
    for lr in grid:
        run = search.run(lr)
        largest = max(run.curvatures, default=math.nan)
        bound = Num(search.allowed / largest) if search.allowed is not None and largest > 0 else None
        final = Num(run.final) if run.finite else "not finite"
        rows.append((Num(lr), final, Num(min(run.losses)), Num(run.rises), bound, _verdict(run, low, high)))
    heads = (("lr",), (f"loss after {search.count}",), ("smallest",), ("rising updates",), ("curvature allows",), ("",))
    return Table(heads, tuple(rows), "The same run at other rates", (0, 1, 2, 3, 4))


def _verdict(run: Run, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    if run.lr < low:
        return "too small"
    if run.lr <= high:
        return "reasonable"
    if not run.finite or run.final > run.losses[0]:
        return "too large: it diverges"
    if run.rises:
        return "too large: the loss rises on the way"
    return "too large: it lands where the loss is flat" if run.final > 0.05 * run.losses[0] else "beyond the curvature"


def _final_plot(search: _Search, grid: Sequence[float]) -> Plot:
    runs = [search.run(lr) for lr in grid if search.run(lr).finite]
    log = all(r.final > 0 for r in runs)
    series = Series(f"after {search.count} updates", tuple(r.lr for r in runs), tuple(r.final for r in runs))
    return Plot(
        (series,), "lr", "loss", ("The loss at the end of the run against the rate.",),
        "The final loss against the learning rate, which has a valley", True, log,
    )  # fmt: skip


def _curves(search: _Search, grid: Sequence[float], low: float, high: float) -> Plot:
    above = [lr for lr in grid if lr > high]
    small = max((lr for lr in grid if lr < low), default=low)
    wanted = [small / 1.0, low, high, *([above[len(above) // 2]] if above else [])]
    runs = [search.run(lr) for lr in dict.fromkeys(wanted)]
    log = all(v > 0 for r in runs for v in r.losses)
    series = tuple(Series(f"lr {r.lr:.3g}", tuple(float(i) for i in range(len(r.losses))), r.losses) for r in runs)
    return Plot(series, "updates", "loss", ("Too small, both ends of the interval, too large.",),
                "Loss curves at four rates", False, log)  # fmt: skip
