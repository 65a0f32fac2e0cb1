"""Somebody's optimizer as a black box: it is given small parameters and gradients, and tells where the parameters went."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...optimizers.witness import hand_sparse, scalars_like

__all__ = ["PATIENCE", "Box", "steerable"]

PATIENCE = 20.0
"""The seconds that one walk of a few dozen updates of small parameters may take."""
Array = Any
Gradients = Sequence[Sequence[Any]]
"""Per update, per parameter: an array, or None for a parameter without a gradient."""


@dataclass(frozen=True)
class Box:
    """A way to make an optimizer for a list of parameters."""

    make: Callable[[list[Any]], Any]

    def went(self, starts: Sequence[Array], gradients: Gradients, rates: Sequence[float] = ()) -> list[Array]:
        """Where each parameter goes: arrays [updates, *shape].

        Raises:
            InputError: the optimizer cannot be made, cannot take a step, or takes too long.
        """
        return self.watched(starts, gradients, rates)[0]

    def watched(
        self, starts: Sequence[Array], gradients: Gradients, rates: Sequence[float] = ()
    ) -> tuple[list[Array], Any, list[Any]]:
        """The same, with the optimizer and the parameters as they are at the end."""
        parameters = [torch.tensor(s, dtype=torch.float64).requires_grad_() for s in starts]
        found = [np.full((len(gradients), *np.shape(s)), np.nan) for s in starts]
        doing = "could not be made for small parameters"
        try:
            with scalars_like(parameters[0]), redirect_stdout(io.StringIO()), _limited(PATIENCE):
                optimizer = self.make(parameters)
                doing = "could not take a step on a small parameter"
                for t, now in enumerate(gradients):
                    for p, g in zip(parameters, now, strict=True):
                        p.grad = None if g is None else torch.tensor(g, dtype=torch.float64)
                    _set_rate(optimizer, rates[t] if len(rates) else None)
                    _step(optimizer)
                    for place, p in enumerate(parameters):
                        found[place][t] = p.detach().numpy()
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # a user's own code may raise anything
            raise InputError(f"the optimizer {doing}: {_told(error)}") from None
        return found, optimizer, parameters


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, TypeError) and "closure" in text:
        text += " (step() is called without a closure here: give it the default None, and read .grad)"
    return f"{type(error).__name__}: {text}"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Stop what takes too long; only the main thread can be stopped."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"a few dozen updates of small parameters took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _set_rate(optimizer: Any, lr: float | None) -> None:
    if lr is None:
        return
    for group in getattr(optimizer, "param_groups", ()):
        if "lr" in group and float(group["lr"]) != lr:
            group["lr"] = lr
    if steerable(optimizer) == "attribute" and float(optimizer.lr) != lr:
        optimizer.lr = lr


def steerable(optimizer: Any) -> str:
    """Where a schedule finds the learning rate of an optimizer: "groups", "attribute" (``.lr``), or "" for nowhere."""
    if getattr(optimizer, "param_groups", None) is not None:
        return "groups"
    return "attribute" if isinstance(getattr(optimizer, "lr", None), (int, float)) else ""


def _step(optimizer: Any) -> None:
    hand_sparse(optimizer)
    optimizer.step()
