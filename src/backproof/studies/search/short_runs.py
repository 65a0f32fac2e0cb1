"""Short training runs of a copy of a network, to see what a learning rate does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...data.samples import samples_of
from ...errors import InputError
from ...optimizers import RULES
from ...optimizers import optimizer as find_optimizer

__all__ = ["Ran", "Rule", "Task", "data_of", "ramp", "rule_of", "short_run"]

MEASURED = 2_048
"""On how many samples a run is measured at its end."""


@dataclass(frozen=True)
class Rule:
    """How an optimizer is made for some parameters at a learning rate; its name and settings as far as they are known."""

    name: str
    hyper: dict[str, Any]
    make: Callable[[list[Tensor], float], Any]


@dataclass(frozen=True)
class Task:
    """A network, its data, its loss and its optimizer; runs train copies of it."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Callable[..., Any]
    rule: Rule
    batch: int

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return int(self.inputs.shape[0])

    def batches(self, seed: int) -> Iterator[Tensor]:
        """Rows of one batch after another, in a new random order in each pass; all rows if the batch is full."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(self.rows, generator=generator)
            yield from order.split(self.batch) if self.batch < self.rows else (torch.arange(self.rows),)

    def loss_on(self, model: nn.Module, rows: Tensor) -> Tensor:
        """The loss of a network on some rows."""
        value = self.loss(model(self.inputs[rows]), self.targets[rows])
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError("the loss must be one number; reduce it with a mean or a sum")
        return value.reshape(())

    def measured(self, model: nn.Module) -> float:
        """The loss on up to 2,048 samples, evenly chosen."""
        rows = torch.linspace(0, self.rows - 1, min(self.rows, MEASURED)).long()
        with torch.no_grad():
            return float(self.loss_on(model, rows))


@dataclass(frozen=True)
class Ran:
    """One short run: its learning rate, the loss at its end (infinite if it diverged), and after how many updates."""

    lr: float
    loss: float
    updates: int

    @property
    def diverged(self) -> bool:
        """Whether the loss was lost."""
        return not math.isfinite(self.loss)


def short_run(task: Task, lr: float, updates: int, seed: int = 0) -> Ran:
    """Train a copy of the network for some updates, and measure its loss; the network itself is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = copy.deepcopy(task.model)
        rule = task.rule.make([p for p in model.parameters() if p.requires_grad], lr)
        for number, rows in zip(range(updates), task.batches(seed), strict=False):
            if not math.isfinite(_update(task, model, rule, rows)):
                return Ran(lr, math.inf, number)
        end = task.measured(model)
    return Ran(lr, end if math.isfinite(end) else math.inf, updates)


def _update(task: Task, model: nn.Module, rule: Any, rows: Tensor) -> float:
    model.zero_grad(set_to_none=True)
    loss = task.loss_on(model, rows)
    loss.backward()
    rule.step()
    return float(loss.detach())


def ramp(task: Task, rates: Sequence[float], seed: int = 0) -> list[tuple[float, float]]:
    """One run in which the learning rate grows from update to update; (rate, loss before the update) until it diverges.

    It stops once the loss is lost, or four times as far above its best as the start was, and larger than at the start.
    """
    found, best = list[tuple[float, float]](), math.inf
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = copy.deepcopy(task.model)
        rule = task.rule.make([p for p in model.parameters() if p.requires_grad], rates[0])
        for rate, rows in zip(rates, task.batches(seed), strict=False):
            _set_rate(rule, rate)
            loss = _update(task, model, rule, rows)
            found.append((rate, loss))
            best = min(best, loss)
            start = found[0][1]
            if not math.isfinite(loss) or loss > max(start, best) + 4 * max(start - best, abs(start), 1e-12):
                break
    return found


def _set_rate(rule: Any, rate: float) -> None:
    if hasattr(rule, "param_groups"):
        for group in rule.param_groups:
            group["lr"] = rate
    elif getattr(rule, "_class", None) is not None:
        _set_rate(rule._class, rate)
    else:
        rule.hyper["lr"] = rate


# --- what users give -----------------------------------------------------------------------------------------------------
def rule_of(spec: Any) -> Rule:
    """An optimizer from whatever :func:`backproof.trace` takes, or any torch.optim class with ``lr``."""
    kind, keywords = _class_of(spec)
    if kind is not None and kind.__name__.lower() not in RULES:
        return Rule(kind.__name__.lower(), keywords, lambda ps, lr: kind(ps, **{**keywords, "lr": lr}))
    found = find_optimizer(spec)

    def make(parameters: list[Tensor], lr: float) -> Any:
        return replace(found, hyper={**found.hyper, "lr": lr}).torch(parameters)

    return Rule(found.rule.name, found.hyper, make)


def _class_of(spec: Any) -> tuple[Any, dict[str, Any]]:
    kind, keywords = (spec[0], dict(spec[1])) if isinstance(spec, (tuple, list)) and len(spec) == 2 else (spec, {})
    if isinstance(spec, torch.optim.Optimizer) and len(spec.param_groups) == 1:
        kind, keywords = (
            type(spec),
            {k: v for k, v in spec.param_groups[0].items() if k not in ("params", "initial_lr")},
        )
    real = isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.LBFGS
    return (kind, keywords) if real else (None, {})


def data_of(data: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs and targets to learn from, in any form that :func:`backproof.train` takes.

    Raises:
        InputError: it is none of these forms, the lengths differ, there is nothing, or an entry is no finite number.
    """
    samples, _ = samples_of(data, seed)
    if samples.pair is not None:
        return samples.pair
    count = min(samples.count, MEASURED)
    inputs, targets = samples.batch(torch.linspace(0, samples.count - 1, count).long())
    return samples_of((inputs, targets))[0].pair or (inputs, targets)
