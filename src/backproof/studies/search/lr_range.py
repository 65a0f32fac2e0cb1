"""Find the learning rates with which a network trains: an interval with reasons, not a point read off a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...capturing.example import loss_function
from ...document.blocks import Block, Document, Items, Paragraph, Plot, Section, Series, Table
from ...document.math import Num
from ...errors import BackproofError, InputError
from ...progress import task as progress
from ...result import Result, plain
from ..plain_model import as_module
from ..verdicts import Evidence, summary
from ..writing.worked import evidence_section
from .sharpness import largest_curvature, stable_below
from .short_runs import Ran, Task, data_of, ramp, rule_of, short_run

__all__ = ["LearningRates", "lr_range"]

LOWEST, HIGHEST, PER_DECADE = 1e-7, 100.0, 12
SHARE = 0.01
CONTENDERS = 5
DECADES_BELOW = 4.5
"""How far below the rate at which the ramp breaks down the short runs begin."""
SMALL = 60
"""Up to this many parameters the curvature is confirmed by the eigenvalues of the whole matrix."""


@dataclass(frozen=True)
class LearningRates(Result):
    """What learning rates do to a network; see :func:`lr_range`.

    Args:
        low, suggested, high: the interval, and the rate with the smallest loss after a short run.
        reasons: why, in sentences.
        curvature: the largest second derivative at the start, None where it is not known.
        limit: the rate up to which the rule is stable on a quadratic of that curvature.
        swept: (rate, loss) of the run in which the rate grew.
        runs: the short runs, by rate.
        evidence: what was confirmed.
    """

    title: str
    low: float
    suggested: float
    high: float
    reasons: tuple[str, ...]
    curvature: float | None
    limit: float | None
    start: float
    swept: tuple[tuple[float, float], ...]
    runs: tuple[Ran, ...]
    evidence: tuple[Evidence, ...]

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether a confirmation failed."""
        return any(e.agrees is False for e in self.evidence)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The interval, the reasons and all runs as plain data."""
        runs = [{"lr": r.lr, "loss": r.loss, "updates": r.updates} for r in self.runs]
        found = {
            "model": self.title,
            **{k: getattr(self, k) for k in ("low", "suggested", "high", "curvature", "limit", "start")},
            "reasons": list(self.reasons),
            "runs": runs,
            "sweep": [list(pair) for pair in self.swept],
            "evidence": [e.to_dict() for e in self.evidence],
        }
        return plain(found, full)  # type: ignore[no-any-return]

    def document(self) -> Document:
        """The interval as a page."""
        rows = (("low", Num(self.low)), ("suggested", Num(self.suggested)), ("high", Num(self.high)))
        found: tuple[Block, ...] = (
            Table((("learning rate",), ("",)), rows, "", (1,)),
            Items(tuple((reason,) for reason in self.reasons)),
        )
        blocks = (
            Section("The interval", found, "result", "interval"),
            Section("The runs behind it", (_runs_plot(self), _sweep_plot(self), _table(self)), "forward", "runs"),
            evidence_section(self.evidence),
        )
        standing = "finding" if self.finding else "agrees"
        title = f"Learning rates for {self.title}"
        return Document(title, blocks, "", summary(self.evidence), standing, self.to_dict())  # type: ignore[arg-type]


def _runs_plot(found: LearningRates) -> Plot:
    kept = [r for r in found.runs if not r.diverged]
    rates = tuple(r.lr for r in kept)
    losses = tuple(r.loss for r in kept)
    ends = (min(rates), max(rates))
    return Plot(
        (Series("after a short run", rates, losses), Series("at the start", ends, (found.start, found.start))),
        "learning rate",
        "loss",
        ("The loss after a short run with each learning rate.",),
        f"{len(kept)} short runs that did not diverge, smallest loss {min(losses):.4g} at {found.suggested:.3g}",
        log_x=True,
        log_y=min(*losses, found.start) > 0,
    )


def _sweep_plot(found: LearningRates) -> Block:
    pairs = [(a, b) for a, b in found.swept if math.isfinite(b)]
    if len(pairs) < 2:
        return Paragraph(("The run with a growing learning rate ended at once.",))
    x, y = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
    return Plot(
        (Series("growing rate", x, y),),
        "learning rate",
        "loss",
        ("One run in which the learning rate grows from update to update.",),
        f"the loss of a run whose rate grows from {x[0]:.2g} to {x[-1]:.2g}",
        log_x=True,
        log_y=min(y) > 0,
    )


def _table(found: LearningRates) -> Table:
    rows = tuple(
        (Num(r.lr), "diverged" if r.diverged else Num(r.loss), str(r.updates), _mark(found, r.lr)) for r in found.runs
    )
    return Table((("learning rate",), ("loss after it",), ("updates",), ("",)), rows, "Every short run", (0, 1))


def _mark(found: LearningRates, rate: float) -> str:
    return next((n for n in ("suggested", "low", "high") if getattr(found, n) == rate), "")


def lr_range(
    model: Any,
    data: Any,
    *,
    loss: Any,
    optimizer: Any,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> LearningRates:
    """Find the learning rates with which a network trains, from runs of copies of it.

    First a run whose rate grows until the loss breaks down; then short runs at fixed rates below that, a quarter of a
    decade apart near the best; then the ends of the interval by halving. ``suggested`` has the smallest loss after a
    short run. Between ``low`` and ``high`` a short run gets at least half as far down as the best one, and to no more
    than twice its loss.

    Args:
        model: an nn.Module (or a plain class with ``parameters()`` and ``__call__``); it is not changed.
        data: (inputs, targets), a Dataset (of which up to 2,048 samples are used), or a path, as in :func:`backproof.train`.
        loss: a function of (output, targets) or its name.
        optimizer: a name, a torch.optim class with its arguments, or an instance; its own rate is not used.
        steps: updates of a short run; six passes over the data by default, from 50 to 400. Other lengths have
            other best rates.
        batch_size: samples per update; all up to 64 samples, else 32.
        seed: of the batches.

    Returns:
        :class:`LearningRates`: ``low``, ``suggested``, ``high``, ``reasons``.

    Raises:
        InputError: the data cannot be used, or no rate lowers the loss.

    Example:
        >>> import torch, backproof as bp
        >>> x = torch.linspace(-1, 1, 16).unsqueeze(1)
        >>> found = bp.lr_range(torch.nn.Linear(1, 1), (x, 3 * x), loss="mse", optimizer="sgd", steps=50)
        >>> found.low < found.suggested <= found.high < 4
        True

    Source: the growing rate is Smith 2017; the stability limit of gradient descent 2/lambda is textbook.
    """
    made = _task(model, data_of(data, seed), loss, optimizer, batch_size)
    updates = _whole("steps", steps, min(400, max(50, 6 * math.ceil(made.rows / made.batch))), 100_000)
    start = _start(made)
    with progress("learning rates") as advance:
        curvature = _curvature(made, seed)
        rates = [LOWEST * 10 ** (i / PER_DECADE) for i in range(round(PER_DECADE * math.log10(HIGHEST / LOWEST)) + 1)]
        swept = ramp(made, rates, seed)
        runs = _Runs(made, updates, seed, start, advance)
        runs.explore(swept[-1][0])
        low, suggested, high = runs.interval()
        again = [short_run(made, rate, updates, seed + 2) for rate in (low, suggested, high)]
    limit = None if curvature is None else stable_below(made.rule.name, made.rule.hyper, curvature)
    reasons = _reasons(made, runs, (low, suggested, high), swept, curvature, limit, again, start)
    evidence = _evidence(made, runs, again[1], curvature)
    title = type(made.model).__name__
    ran = tuple(sorted(runs.known.values(), key=lambda r: r.lr))
    return LearningRates(
        title, low, suggested, high, reasons, curvature, limit, start, tuple(swept), ran, tuple(evidence)
    )


def _task(model: Any, data: tuple[Tensor, Tensor], loss: Any, optimizer: Any, batch_size: int | None) -> Task:
    inputs, targets = data
    module = as_module(model)
    if not isinstance(module, nn.Module) or not any(p.requires_grad for p in module.parameters()):
        raise InputError("the model has no parameters to train: give an nn.Module, or a class with parameters()")
    function = loss_function(loss)
    if function is None:
        raise InputError('a learning rate needs a loss: loss="mse", or a function of (output, targets)')
    batch = _whole("batch_size", batch_size, len(inputs) if len(inputs) <= 64 else 32, 10**9)
    return Task(module, inputs, targets, function, rule_of(optimizer), min(batch, len(inputs)))


def _whole(name: str, value: int | None, default: int, most: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"{name} must be a whole number from 1 to {most:,}, not {value!r}")
    return value


def _start(task: Task) -> float:
    try:
        start = task.measured(task.model)
    except BackproofError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"the model and its loss fail on this data: {str(error)[:300]}") from None
    if not math.isfinite(start):
        raise InputError(f"the loss is {start} before any update; no learning rate can be judged from there")
    return start


class _Runs:
    """The short runs so far, and what is still to be tried."""

    def __init__(self, task: Task, updates: int, seed: int, start: float, advance: Callable[..., None]) -> None:
        self.task, self.updates, self.seed, self.start, self.advance = task, updates, seed, start, advance
        self.known: dict[float, Ran] = {}

    def at(self, rate: float) -> Ran:
        rate = float(f"{rate:.3g}")
        if rate not in self.known:
            self.known[rate] = short_run(self.task, rate, self.updates, self.seed)
            self.advance(note=f"lr {rate:g}")
        return self.known[rate]

    def explore(self, broken: float) -> None:
        """Half decades from above the breakdown downwards, then quarters around the best; wider if it is at an end."""
        self._all(broken * 10 ** (0.5 - i / 2) for i in range(round(2 * DECADES_BELOW) + 2))
        for _ in range(4):
            rates = sorted(self.known)
            if self.best().lr == rates[0]:
                self._all(rates[0] / 10 ** (i / 2) for i in range(1, 4))
            elif self.best().lr == rates[-1] and rates[-1] < HIGHEST * 100:
                self._all(rates[-1] * 10 ** (i / 2) for i in range(1, 4))
        centre = self.best().lr
        self._all(centre * 10**shift for shift in (-0.25, 0.25))
        self._average()
        if not self.best().loss < self.start:
            raise InputError(
                f"no learning rate from {min(self.known):.2g} to {max(self.known):.2g} lowers the loss of {self.start:.6g}: "
                "the gradient may be zero, or the network is trained already"
            )

    def _average(self) -> None:
        """The contenders once more with other batches, so that the choice does not hang on one order of the samples."""
        if self.task.batch >= self.task.rows:
            return
        for run in sorted((r for r in self.known.values() if not r.diverged), key=lambda r: r.loss)[:CONTENDERS]:
            other = short_run(self.task, run.lr, self.updates, self.seed + 1)
            self.known[run.lr] = replace(run, loss=(run.loss + other.loss) / 2)

    def _all(self, rates: Iterable[float]) -> None:
        for rate in rates:
            self.at(rate)

    def best(self) -> Ran:
        return min(self.known.values(), key=lambda r: (r.loss, r.lr))

    def bar(self) -> float:
        """The loss that a rate must reach to belong to the interval."""
        best, gained = self.best().loss, self.start - self.best().loss
        return min(best + gained / 2, max(2 * best, best + SHARE * gained)) if best > 0 else best + gained / 2

    def half(self) -> float:
        """The loss half as far down as the best run's: what a run with other batches must reach."""
        return (self.start + self.best().loss) / 2

    def interval(self) -> tuple[float, float, float]:
        """The ends of the stretch around the best whose runs reach the bar, each halved twice towards the first that fails."""
        best = self.best().lr
        return self._end(best, -1), best, self._end(best, 1)

    def _end(self, best: float, side: int) -> float:
        beyond = sorted((r for r in self.known if side * (r - best) > 0), reverse=side < 0)
        inside, outside = best, None
        for rate in beyond:
            if self.known[rate].loss > self.bar():
                outside = rate
                break
            inside = rate
        for _ in range(2 if outside is not None else 0):
            assert outside is not None
            middle = self.at(math.sqrt(inside * outside))
            inside, outside = (middle.lr, outside) if middle.loss <= self.bar() else (inside, middle.lr)
        return inside


# --- reasons and evidence -------------------------------------------------------------------------------------------------
def _functional(task: Task) -> Callable[[dict[str, Tensor]], Tensor]:
    rows = torch.arange(min(task.rows, 512))
    buffers = {n: b.clone() for n, b in task.model.named_buffers()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        output = torch.func.functional_call(task.model, {**parameters, **buffers}, (task.inputs[rows],))
        value: Tensor = task.loss(output, task.targets[rows])
        return value.reshape(())

    return loss


def _trained(task: Task) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in task.model.named_parameters() if p.requires_grad}


def _curvature(task: Task, seed: int) -> float | None:
    try:
        with torch.random.fork_rng(devices=[]):
            return largest_curvature(_functional(task), _trained(task), seed=seed)
    except (RuntimeError, NotImplementedError):  # an operation without a second derivative
        return None


def _reasons(
    task: Task, runs: _Runs, ends: tuple[float, float, float], swept: list[tuple[float, float]],
    curvature: float | None, limit: float | None, again: list[Ran], start: float,
) -> tuple[str, ...]:  # fmt: skip
    low, suggested, high = ends
    best, lost = runs.known[suggested], [r.lr for r in runs.known.values() if r.diverged]
    batch = "all samples" if task.batch == task.rows else f"{task.batch} of {task.rows} samples"
    found = [
        f"Short runs of {runs.updates} updates, each on {batch}, start from a loss of {start:.4g}. The smallest loss "
        f"after one is {best.loss:.4g}, with {suggested:g}. A longer run may want another rate.",
        f"From {low:g} to {high:g} a run gets below {runs.bar():.4g}: at least half as far down as the best, and to no "
        "more than twice its loss or the last hundredth of the way.",
        f"A run whose rate grows breaks down at {swept[-1][0]:.2g}."
        if swept[-1][0] < HIGHEST / 1.2
        else f"A run whose rate grows does not break down up to {HIGHEST:g}.",
        f"The smallest rate of a short run that diverges is {min(lost):.3g}." if lost else "No short run diverged.",
    ]
    if limit is not None and curvature is not None:
        found.append(
            f"The largest curvature at the start is {curvature:.4g}; on a quadratic of that curvature the rule is stable "
            f"below {limit:.3g}. The curvature changes in training, so the runs decide."
        )
    elif curvature is not None:
        found.append(
            f"The largest curvature at the start is {curvature:.4g}; for this rule it sets no limit by itself."
        )
    if task.batch < task.rows:
        found.append("With other batches: " + ", ".join(f"{r.lr:g} gives {_said(r)}" for r in again) + ".")
    return tuple(found)


def _said(run: Ran) -> str:
    return "a diverged run" if run.diverged else f"{run.loss:.4g}"


def _evidence(task: Task, runs: _Runs, again: Ran, curvature: float | None) -> list[Evidence]:
    found = []
    if task.batch < task.rows:
        oracle = "a short run with other batches gets at least half as far down"
        error = max(0.0, again.loss - runs.best().loss) / (runs.start - runs.best().loss)
        found.append(Evidence("suggested learning rate", oracle, again.loss <= runs.half(), error, 1, 1))
    if curvature is not None and sum(t.numel() for t in _trained(task).values()) <= SMALL:
        found.append(_eigenvalues(task, curvature))
    return found


def _eigenvalues(task: Task, curvature: float) -> Evidence:
    """The curvature against the eigenvalues of the whole matrix of second derivatives."""
    at, loss = _trained(task), _functional(task)
    sizes = [t.numel() for t in at.values()]

    def flat(vector: Tensor) -> Tensor:
        parts = zip(at.items(), vector.split(sizes), strict=True)
        return loss({n: part.reshape(t.shape) for (n, t), part in parts})

    matrix = torch.autograd.functional.hessian(flat, torch.cat([t.reshape(-1) for t in at.values()]))
    assert isinstance(matrix, Tensor)
    largest = float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
    error = abs(largest - curvature) / max(abs(largest), 1e-300)
    return Evidence("largest curvature", "eigenvalues of the whole matrix", error < 1e-2, error, 1, 1)
