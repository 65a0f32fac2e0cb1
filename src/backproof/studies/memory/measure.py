"""Run a training step for real, in a process of its own, and compare it with what was predicted."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ...errors import InputError
from ..fresh import counted, in_fresh_process
from ..verdicts import Evidence
from .record import Case, make_optimizer
from .stepping import Way, train_step

if TYPE_CHECKING:
    from .memory import Memory

__all__ = ["PROFILER", "Measurement", "Run", "measured", "run_of"]

PROFILER, PLAIN = "torch.profiler's memory events", "autograd on the plain step"
WITHIN = 0.02
"""A prediction is confirmed if the measured peak differs by no more than this share of it."""


@dataclass(frozen=True)
class Run:
    """What one real run was: peaks of the first and second step, and the live bytes of the second against allocations."""

    first_peak: int
    peak: int
    allocated: tuple[int, ...]
    live: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Measurement:
    """Predicted against measured.

    Args:
        predicted_peak, measured_peak: the larger peak of the first two steps, in bytes.
        plain_peak: the measured peak of the plain step.
        error: predicted over measured, minus 1.
        predicted_overhead: the additional work, as a share of the plain step's.
        measured_overhead: the additional processor time, as a share of the plain step's (medians of alternating runs).
        gradients_equal: whether every gradient of one step is that of the plain step, to 1e-5 of the largest entry in float32 and
            1e-12 in float64; ``largest_difference`` is relative, 0.0 where they are equal to the bit.
        buffers_equal: whether running statistics are the same after the step.
        run: the run of the plan.
    """

    predicted_peak: int
    measured_peak: int
    plain_peak: int
    error: float
    predicted_overhead: float
    measured_overhead: float
    gradients_equal: bool
    largest_difference: float
    buffers_equal: bool
    run: Run

    @property
    def agrees(self) -> bool:
        """Whether the measured peak is the predicted one within 2 %."""
        return abs(self.error) <= WITHIN

    def evidence(self, changes_result: bool = False) -> tuple[Evidence, ...]:
        """The comparisons: the peak with the profiler's, the gradients with those of the plain step."""
        equal = None if changes_result else self.gradients_equal
        note = "parts with batch norm or random numbers make another update" if changes_result else ""
        return (
            Evidence("the peak of the plan", PROFILER, self.agrees, abs(self.error), 1, 1),
            Evidence("the gradients of the plan", PLAIN, equal, self.largest_difference, 1, 1, note),
        )


def measured(source: Memory, way: Way, predicted_peak: int, predicted_overhead: float) -> Measurement:
    """Run the plain step and one made in a way.

    Raises:
        InputError: the model is on the meta device, or the run fails.
    """
    case = _real(source.case)
    plain, run, difference, allowed, buffers = in_fresh_process(lambda: _both(case, way))
    peak = max(run.first_peak, run.peak)
    return Measurement(
        predicted_peak,
        peak,
        max(plain.first_peak, plain.peak),
        predicted_peak / peak - 1,
        predicted_overhead,
        run.seconds / plain.seconds - 1,
        difference <= allowed,
        difference,
        buffers,
        run,
    )


def run_of(source: Memory, way: Way) -> Run:
    """One run in a process of its own."""
    case = _real(source.case)
    found: Run = in_fresh_process(lambda: _run(case, way))
    return found


def _real(case: Case) -> Case:
    if any(p.device.type != "cpu" for p in case.model.parameters()):
        raise InputError("only a model on the CPU can be measured; this one is elsewhere, or only described (meta)")
    if any(t.device.type == "meta" for t in tree_leaves((case.inputs, case.targets)) if isinstance(t, Tensor)):
        raise InputError("the inputs are only described (on the meta device); give real ones to measure")
    return case


def _both(case: Case, way: Way) -> tuple[Run, Run, float, float, bool]:
    difference, allowed, buffers = _compare(case, way)
    plain, run = _run(case, Way()), _run(case, way)
    seconds = _times(case, (Way(), way))
    runs = [Run(r.first_peak, r.peak, r.allocated, r.live, s) for r, s in zip((plain, run), seconds, strict=True)]
    return runs[0], runs[1], difference, allowed, buffers


def _run(case: Case, way: Way) -> Run:
    """Two steps under the profiler, on a copy of the model."""
    model = copy.deepcopy(case.model)
    optimizer = make_optimizer(case.optimizer, case.model, model, way.optimizer)
    held = [*model.parameters(), *model.buffers(), *tree_leaves((case.inputs, case.targets)), *_tensors_of(case.loss)]
    base = sum(
        {s.data_ptr(): s.nbytes() for t in held if isinstance(t, Tensor) for s in [t.untyped_storage()]}.values()
    )
    start = time.perf_counter()
    with counted() as allocations:
        for step in ("1", "2"):
            with allocations.mark(step):
                train_step(model, optimizer, case.inputs, case.targets, case.loss, way)
    seconds = time.perf_counter() - start
    first, second = (base + allocations.before(s) for s in ("1", "2"))
    sums = allocations.inside("2")
    grown, clock = [0], 0
    for before, after in itertools.pairwise(sums):
        clock += max(0, after - before)
        grown.append(clock)
    live = tuple(second + s for s in sums)
    return Run(first + max(allocations.inside("1")), max(live), tuple(grown), live, seconds / 2)


def _tensors_of(loss: Any) -> list[Tensor]:
    return [*loss.parameters(), *loss.buffers()] if isinstance(loss, nn.Module) else []


def _times(case: Case, ways: tuple[Way, ...]) -> list[float]:
    """The median processor seconds of a step made in each way, taken in turn, after one that is not counted."""
    steps: list[Callable[[], Any]] = []
    for way in ways:
        model = copy.deepcopy(case.model)
        optimizer = make_optimizer(case.optimizer, case.model, model, way.optimizer)
        steps.append(partial(train_step, model, optimizer, case.inputs, case.targets, case.loss, way))
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(2 if max(way.parts for way in ways) > 32 else 6):
        for step, found in zip(steps, times, strict=True):
            start = time.process_time()
            step()
            if turn:
                found.append(time.process_time() - start)
    return [statistics.median(found) for found in times]


def _compare(case: Case, way: Way) -> tuple[float, float, bool]:
    """The largest relative difference of any gradient, what is allowed, and whether the buffers are the same."""
    plain, kept = _gradients(case, Way())
    found, moved = _gradients(case, way)
    pairs = [(plain[n], found[n]) for n in plain]
    difference = max((_relative(a, b) for a, b in pairs), default=0.0)
    allowed = max((1e-12 if a.dtype == torch.float64 else 1e-5 for a, _ in pairs), default=0.0)
    same = all(torch.equal(kept[n], moved[n]) for n in kept)
    return (difference if found.keys() == plain.keys() else float("inf")), allowed, same


def _relative(a: Tensor, b: Tensor) -> float:
    if torch.equal(a, b):
        return 0.0
    size = float(a.abs().max()) or 1.0
    return float((a - b).abs().max()) / size


def _gradients(case: Case, way: Way) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model = copy.deepcopy(case.model)
    torch.manual_seed(0)
    train_step(model, None, case.inputs, case.targets, case.loss, way)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found, dict(model.named_buffers())
