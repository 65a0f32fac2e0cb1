"""Train a network many times at once, each time without some of its samples, and measure it on those.

The copies differ in their samples only, so they are trained together: parameters are stacked, ``torch.func.vmap`` runs
the user's own program on all copies, and one step of torch.optim updates all (its rules work entry by entry).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...graph import Graph
from ..program import Program, run_eagerly
from ..trace import run

__all__ = ["Diverged", "Fits", "Split", "fit_alone", "fit_many", "fit_ourselves", "leave_out", "rows_of", "whole_fit"]

_TOGETHER = frozenset(
    {"sgd", "adam", "adamw", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "radam", "asgd", "rprop"}
)
"""The rules that treat every entry by itself, so that stacked copies don't feel each other."""
EVERY = 25
"""How often a run is looked at for divergence, in updates."""


class Diverged(Exception):
    """A run whose loss is no longer a number."""

    def __init__(self, update: int) -> None:
        super().__init__(f"diverged by update {update}")


@dataclass(frozen=True)
class Split:
    """Which rows each copy trains on, and which it is measured on: tensors of shape [copies, rows]."""

    train: Tensor
    test: Tensor


@dataclass(frozen=True)
class Fits:
    """Trained copies: losses on their own rows [copies], and on the rows left out [copies, rows]."""

    train: Tensor
    test: Tensor
    parameters: dict[str, Tensor]


def rows_of(program: Program) -> int:
    """How many samples there are; 0 where none can be left out."""
    return int(program.start[program.samples[0]].shape[0]) if program.samples else 0


def leave_out(rows: int, count: int = 1) -> Split:
    """Every way to leave out ``count`` of the rows."""
    out = list(itertools.combinations(range(rows), count))
    kept = [[i for i in range(rows) if i not in left] for left in out]
    return Split(torch.tensor(kept), torch.tensor(out))


def fit_many(program: Program, split: Split) -> Fits:
    """Train one copy for each row of the split, all at once where that is possible.

    Raises:
        Diverged: the loss of a copy is no longer a number.
    """
    assert program.optimizer is not None
    if program.optimizer.rule.name in _TOGETHER:
        try:
            return _together(program, split)
        except RuntimeError:  # what vmap cannot run: in-place state, random numbers, data-dependent branches
            pass
    return fit_alone(program, split)


def fit_alone(program: Program, split: Split) -> Fits:
    """Train the copies one after another, each by itself: slower, and nothing in common with stacking."""
    parts = [_alone(program, a, b) for a, b in zip(split.train, split.test, strict=True)]
    return _stacked(parts)


def fit_ourselves(program: Program, split: Split) -> Fits:
    """The same by Backproof's own graph, gradients and update formulas; no autograd, no torch.optim."""
    parts = []
    for kept, out in zip(split.train, split.test, strict=True):
        leaves = _rows(program, program.start, kept)
        assert program.capture_for is not None
        twin = replace(program, graph=program.capture_for(leaves), start=leaves, _joints={}, _single=None)
        steps, _ = run(twin)
        after = {n: steps[-1].parameters[n].after for n in program.trained}
        parts.append(_measured(program, after, kept, out))
    return _stacked(parts)


def whole_fit(program: Program) -> Fits:
    """One copy trained on all rows."""
    everything = torch.arange(max(rows_of(program), 1))
    return fit_alone(program, Split(everything.unsqueeze(0), everything[None, :1]))


def _stacked(parts: list[Fits]) -> Fits:
    parameters = {n: torch.stack([p.parameters[n] for p in parts]) for n in parts[0].parameters}
    return Fits(torch.stack([p.train for p in parts]), torch.stack([p.test for p in parts]), parameters)


# --- all copies at once ------------------------------------------------------------------------------------------------
def _together(program: Program, split: Split) -> Fits:
    copies = split.train.shape[0]
    stacked = {n: _parameter(program.start[n].expand(copies, *program.start[n].shape)) for n in program.trained}
    losses = torch.func.vmap(_loss_of(program.graph), in_dims=(0, 0, None))
    data, fixed = {n: program.start[n][split.train] for n in program.samples}, _fixed(program)
    assert program.optimizer is not None
    rule = program.optimizer.torch(list(stacked.values()))
    for number, batch in enumerate(_batches(program, data)):
        rule.zero_grad()
        loss = losses(stacked, batch, fixed)
        if number % EVERY == 0:
            _check(loss, number)
        loss.sum().backward()
        rule.step()
    with torch.no_grad():
        train = losses(stacked, data, fixed)
        columns = [
            losses(stacked, {n: program.start[n][part] for n in program.samples}, fixed) for part in _parts(split.test)
        ]
    _check(torch.cat([train, *columns]), program.steps)
    return Fits(train, torch.stack(columns, 1) / _weight(program, split.test), _detached(stacked))


def _parts(test: Tensor) -> list[Tensor]:
    """One or two rows left out are measured one by one, more of them as one batch."""
    return list(test.split(1, dim=1)) if test.shape[1] <= 2 else [test]


def _weight(program: Program, test: Tensor) -> int:
    """What turns the loss on the rows left out into a loss per row, where the loss is a sum over rows."""
    return test.shape[1] if test.shape[1] > 2 and _is_sum(program) else 1


def _is_sum(program: Program) -> bool:
    """Whether the loss adds up over samples: on every row twice it is twice as large."""
    rows = torch.arange(rows_of(program))
    call = _loss_of(program.graph)
    values = {n: program.start[n] for n in program.trained}
    with torch.no_grad():
        once, twice = (
            float(call(values, {n: program.start[n][r] for n in program.samples}, _fixed(program)))
            for r in (rows, torch.cat([rows, rows]))
        )
    return abs(twice - 2 * once) < 1e-6 * abs(twice)


def _batches(program: Program, data: Mapping[str, Tensor]) -> Any:
    """The rows of each update: all of a copy's, or one after another."""
    one_by_one = program.batch == "sample"
    rows = next(iter(data.values())).shape[1]
    for _ in range(program.steps):
        yield from ({n: t[:, i : i + 1] for n, t in data.items()} for i in range(rows)) if one_by_one else (data,)


def _loss_of(graph: Graph) -> Any:
    def loss(trained: dict[str, Tensor], data: dict[str, Tensor], fixed: dict[str, Tensor]) -> Tensor:
        value = run_eagerly(graph, {**fixed, **data, **trained})
        assert value is not None
        return value

    return loss


def _fixed(program: Program) -> dict[str, Tensor]:
    return {n: t for n, t in program.start.items() if n not in program.trained and n not in program.samples}


def _parameter(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in tensors.items()}


def _check(losses: Tensor, update: int) -> None:
    if not bool(torch.isfinite(losses.detach()).all()) or float(losses.detach().abs().max()) > 1e30:
        raise Diverged(update)


# --- one copy ----------------------------------------------------------------------------------------------------------
def _rows(program: Program, leaves: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {n: t[rows] if n in program.samples else t for n, t in leaves.items()}


def _alone(program: Program, kept: Tensor, out: Tensor) -> Fits:
    values = {n: _parameter(program.start[n]) for n in program.trained}
    data = {n: program.start[n][kept].unsqueeze(0) for n in program.samples}
    assert program.optimizer is not None
    rule, call, fixed = program.optimizer.torch(list(values.values())), _loss_of(program.graph), _fixed(program)
    batches = _batches(program, data) if data else ({} for _ in range(program.steps))
    for number, batch in enumerate(batches):
        rule.zero_grad()
        loss = call(values, {n: t[0] for n, t in batch.items()}, fixed)
        if number % EVERY == 0:
            _check(loss, number)
        loss.backward()
        rule.step()
    return _measured(program, _detached(values), kept, out)


def _measured(program: Program, values: Mapping[str, Tensor], kept: Tensor, out: Tensor) -> Fits:
    call, fixed = _loss_of(program.graph), _fixed(program)

    def at(rows: Tensor) -> Tensor:
        found: Tensor = call(values, {n: program.start[n][rows] for n in program.samples}, fixed)
        return found.detach()

    with torch.no_grad():
        train = at(kept)
        test = torch.stack([at(part[0]) for part in _parts(out.unsqueeze(0))]) / _weight(program, out.unsqueeze(0))
    _check(torch.cat([train.reshape(1), test]), program.steps)
    return Fits(train, test, dict(values))
