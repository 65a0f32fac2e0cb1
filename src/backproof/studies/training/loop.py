"""The training loop: batches in an order drawn from the seed, one update each, and a row per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...capturing.example import loss_function
from ...data import Samples, samples_of
from ...errors import BackproofError, InputError
from ...progress import task
from ..numbers_in import number_in
from .chance import drawn_from, generator_for
from .checkpoint import load_checkpoint, refuse_place, save_checkpoint
from .history import History
from .schedule import optimizer_for, schedule_for

__all__ = ["MOST_EPOCHS", "evaluated", "train"]

MOST_EPOCHS = 100_000
_TEST_BATCH = 256
Augment = Callable[[Tensor, torch.Generator], Tensor]
Observe = Callable[[int, nn.Module], Mapping[str, Any]]


def train(
    model: nn.Module,
    data: Any,
    *,
    loss: Any = "cross_entropy",
    optimizer: Any = "adamw",
    epochs: int = 1,
    batch_size: int = 32,
    schedule: Any = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    resume: bool = True,
    validation: Any = None,
    validate_every: int = 1,
    augment: Augment | None = None,
    observe: Observe | None = None,
    title: str = "",
) -> History:
    """Train a copy of a model, and record every epoch.

    All that is drawn at random (the order of the samples, ``augment``, dropout) comes from ``seed`` and the number of
    the epoch, so that the same call gives the same numbers, bit by bit, whether or not it was interrupted. The
    model and the program's own generators stay as they were.

    Args:
        model: an nn.Module; it is copied, with its weights as they are.
        data: a pair (inputs, targets) of arrays, tensors or .npy files, N samples first; a torch Dataset; an .npz
            file with x and y; a folder in the format of MNIST, plain or gzipped (as [N, 1, H, W] from 0 to 1); "digits".
        loss: a function of (output, targets) that averages over the batch, or its name ("mse", "cross_entropy"...).
        optimizer: "adamw", a torch.optim class, (class, settings), functools.partial, or an instance.
        epochs: passes over the data, 1 to 100,000.
        batch_size: samples per update; the last batch of an epoch may be shorter.
        schedule: of the learning rate, per update: None, "cosine", a function of (update, updates in all) that gives
            a factor, a torch scheduler class or (class, settings).
        seed: of everything random.
        checkpoint: a file that is written after every epoch; a run that finds it goes on from there.
        resume: False begins again.
        validation: data to test with, in the same forms.
        validate_every: after how many epochs it is tested with; always after the last.
        augment: (inputs, generator) -> inputs, applied to each batch, so that every epoch sees other samples.
        observe: (epoch, model) -> mapping, called after each epoch; what it gives joins the row.
        title: the run's name on the page; the model's class by default.

    Returns:
        A History: ``.rows``, ``.model`` (the trained copy), and pages with the curves. Where the loss is no longer a
        finite number the run stops, and the last row says at which batch.

    Raises:
        InputError: data, settings or the checkpoint cannot be used, or the model does not run on the data.

    Example:
        >>> import torch, backproof as bp
        >>> x = torch.linspace(-1, 1, 32)[:, None]
        >>> history = bp.train(torch.nn.Linear(1, 1), (x, 3 * x), loss="mse", optimizer="adamw", epochs=2, batch_size=8)
        >>> [row["epoch"] for row in history.rows]
        [1, 2]
    """
    _check(model, epochs, batch_size, seed)
    samples, brought = samples_of(data, seed)
    tested = samples_of(validation, seed)[0] if validation is not None else brought
    run = _Run(model, samples, tested, loss, optimizer, schedule, (epochs, batch_size, seed), augment, title)
    run.validate_every = number_in("validate_every", validate_every, 1, MOST_EPOCHS)
    return run.through(Path(checkpoint) if checkpoint is not None else None, resume, observe)


def _check(model: Any, epochs: Any, batch_size: Any, seed: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"what is trained must be an nn.Module, not a {type(model).__name__}")
    for name, value, most in (("epochs", epochs, MOST_EPOCHS), ("batch_size", batch_size, 2**31)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InputError(f"{name} must be a whole number from 1 to {most:,}, not {value!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed is a whole number, not {seed!r}")


class _Run:
    """One run: the copy that is trained, and how."""

    def __init__(
        self,
        model: nn.Module,
        samples: Samples,
        tested: Samples | None,
        loss: Any,
        optimizer: Any,
        schedule: Any,
        numbers: tuple[int, int, int],
        augment: Augment | None,
        title: str,
    ) -> None:
        self.epochs, self.batch_size, self.seed = numbers
        self.samples, self.tested, self.augment = samples, tested, augment
        self.validate_every = 1
        function = loss_function(loss)
        if function is None:
            raise InputError("training needs a loss: a function of (output, targets), or a name such as 'mse'")
        self.loss: Callable[..., Any] = function
        self.model = deepcopy(model)
        pairs = zip(model.parameters(), self.model.parameters(), strict=True)
        self.optimizer = optimizer_for(optimizer, self.model, dict(pairs))
        self.batches = -(-samples.count // self.batch_size)
        self.schedule = schedule_for(schedule, self.optimizer, self.epochs * self.batches)
        self.title = title or type(model).__name__
        self.device = next(self.model.parameters()).device
        self.names = (_name(loss), _described(self.optimizer), "constant" if schedule is None else _name(schedule))

    # --- what belongs to it ---------------------------------------------------------------------------------------------
    def settings(self) -> dict[str, Any]:
        """With what it is trained, for the record."""
        loss, optimizer, schedule = self.names
        named = {"optimizer": optimizer, "loss": loss, "schedule": schedule}
        return {
            **named,
            "epochs": self.epochs,
            "batch": self.batch_size,
            "samples": self.samples.count,
            "seed": self.seed,
        }

    def about(self) -> dict[str, str]:
        """What a checkpoint must have in common with the run."""
        shapes = {k: (tuple(v.shape), str(v.dtype)) for k, v in self.model.state_dict().items()}
        data = [s.digest() for s in (self.samples, self.tested) if s is not None]
        found = {"model": f"{self.title} with {_count(self.model):,} parameters", "shapes": _short(shapes)}
        augment = "none" if self.augment is None else _name(self.augment)
        found |= {k: str(v) for k, v in self.settings().items()} | {"data": " ".join(data), "augmentation": augment}
        if self.names[2] == "constant":
            found.pop("epochs")  # more epochs at a constant rate are the same run, continued
        return found

    # --- running --------------------------------------------------------------------------------------------------------
    def through(self, checkpoint: Path | None, resume: bool, observe: Observe | None) -> History:
        """Run all epochs, from the checkpoint on if there is one."""
        about = self.about() if checkpoint is not None else {}
        rows: list[dict[str, Any]] = []
        if checkpoint is not None:
            refuse_place(checkpoint)
            rows = self._resumed(load_checkpoint(checkpoint, about)) if resume else []
        seconds: list[float] = []
        with task(self.title, (self.epochs - len(rows)) * self.batches) as advance:
            for epoch in range(len(rows) + 1, self.epochs + 1):
                start = time.perf_counter()
                row = self._epoch(epoch, advance)
                if observe is not None and "stopped" not in row:
                    row |= observe(epoch, self.model)
                rows.append(row)
                seconds.append(time.perf_counter() - start)
                if "stopped" in row:
                    break
                if checkpoint is not None:
                    save_checkpoint(checkpoint, about, self._state(rows))
        remarks = tuple(f"The training broke off: {row['stopped']}" for row in rows if "stopped" in row)
        return History(tuple(rows), self.model, self.title, self.settings(), remarks, tuple(seconds))

    def _state(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        scheduler = self.schedule.scheduler
        return {
            "epoch": len(rows),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if scheduler is None else scheduler.state_dict(),
            "rows": rows,
        }

    def _resumed(self, state: dict[str, Any] | None) -> list[dict[str, Any]]:
        if state is None:
            return []
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule.scheduler is not None:
            self.schedule.scheduler.load_state_dict(state["schedule"])
        rows: list[dict[str, Any]] = state["rows"][: self.epochs]
        return rows

    def _epoch(self, epoch: int, advance: Callable[..., None]) -> dict[str, Any]:
        """One pass over the data; its row."""
        generator = generator_for(self.seed, "epoch", epoch)
        order = torch.randperm(self.samples.count, generator=generator)
        seen, total, right, classes = 0, 0.0, 0, False
        with drawn_from(self.seed, "model", epoch):
            self.model.train()
            for number, part in enumerate(order.split(self.batch_size)):
                loss, hits = self._update((epoch - 1) * self.batches + number, part, generator)
                if not math.isfinite(loss):
                    return {"epoch": epoch, "loss": loss, "lr": self._rate(), "stopped": _diverged(epoch, number, loss)}
                seen, total, right = seen + len(part), total + loss * len(part), right + (hits or 0)
                classes = classes or hits is not None
                advance(note=f"loss {loss:.3g}")
            row = {"epoch": epoch, "loss": total / seen, "lr": self._rate()}
            if classes:
                row["accuracy"] = right / seen
            if self.tested is not None and (epoch % self.validate_every == 0 or epoch == self.epochs):
                found = evaluated(self.model, self.tested, self.loss)
                row |= {f"validation_{k}": v for k, v in found.items()}
        return row

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _update(self, step: int, part: Tensor, generator: torch.Generator) -> tuple[float, int | None]:
        """One update; the loss before it, and how many samples were classified rightly (None: no classes)."""
        inputs, targets = self.samples.batch(part)
        found: list[tuple[float, int | None]] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            output = self.model(inputs)
            _refuse_shapes(self.loss, output, targets)
            loss: Tensor = self.loss(output, targets)
            loss.backward()
            found.append((float(loss.detach()), _hits(output, targets)))
            return loss

        try:
            if self.augment is not None:
                inputs = self.augment(inputs, generator)
            inputs, targets = _to(inputs, self.device), _to(targets, self.device)
            self.schedule.before(step)
            self.optimizer.step(closure)  # type: ignore[arg-type]
            self.schedule.after()
        except BackproofError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InputError(_failed(error, inputs, targets)) from error
        return found[0]


def evaluated(model: nn.Module, samples: Samples, loss: Callable[..., Any]) -> dict[str, float]:
    """The mean loss of a model in evaluation mode, and its accuracy where the targets are classes."""
    was, device = model.training, next(model.parameters()).device
    model.eval()
    total, right, classes = 0.0, 0, False
    try:
        with torch.no_grad():
            for part in torch.arange(samples.count).split(_TEST_BATCH):
                inputs, targets = (_to(x, device) for x in samples.batch(part))
                output = model(inputs)
                _refuse_shapes(loss, output, targets)
                total += float(loss(output, targets)) * len(part)
                hits = _hits(output, targets)
                right, classes = right + (hits or 0), classes or hits is not None
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(_failed(error, inputs, targets)) from error
    finally:
        model.train(was)
    return {"loss": total / samples.count, **({"accuracy": right / samples.count} if classes else {})}


def _hits(output: Any, targets: Any) -> int | None:
    """How many rows of scores [N, classes] are largest at their class [N]."""
    if not isinstance(output, Tensor) or not isinstance(targets, Tensor):
        return None
    if output.ndim != 2 or targets.ndim != 1 or targets.is_floating_point() or len(output) != len(targets):
        return None
    return int((output.detach().argmax(1) == targets).sum())


_ENTRYWISE = {"mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss"}


def _refuse_shapes(loss: Any, output: Any, targets: Any) -> None:
    """Refuse what torch would broadcast with no more than a warning: [N, 1] against [N] compares all with all."""
    if getattr(loss, "__name__", type(loss).__name__) not in _ENTRYWISE:
        return
    shapes = [list(x.shape) for x in (output, targets) if isinstance(x, Tensor)]
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        raise InputError(
            f"the model gives {shapes[0]} and the targets are {shapes[1]}; this loss compares entry by entry, so give both "
            "the same shape (targets[:, None], or squeeze the output)"
        )


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _diverged(epoch: int, number: int, loss: float) -> str:
    return (
        f"the loss was {loss} at batch {number + 1} of epoch {epoch}; the learning rate is probably too large, or the "
        "loss has a pole (the logarithm or the root of something that reaches 0)."
    )


def _failed(error: Exception, inputs: Any, targets: Any) -> str:
    shapes = " and ".join(str(list(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in (inputs, targets))
    reason = (str(error).strip().splitlines() or [""])[0][:300]
    return (
        f"the model could not be trained on a batch of {shapes} (inputs and targets): {type(error).__name__}: {reason}"
    )


def _name(thing: Any) -> str:
    if isinstance(thing, (tuple, list)):
        return " ".join(_name(part) for part in thing)
    return str(
        getattr(thing, "__qualname__", "") or (thing if isinstance(thing, (str, dict)) else type(thing).__name__)
    )


def _described(optimizer: torch.optim.Optimizer) -> str:
    keys = ("lr", "momentum", "betas", "weight_decay")
    shown = (f"{k} {optimizer.defaults[k]}" for k in keys if optimizer.defaults.get(k))
    return " ".join([type(optimizer).__name__, *shown])


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _short(value: Any) -> str:
    import hashlib

    return hashlib.blake2b(repr(value).encode(), digest_size=6).hexdigest()
