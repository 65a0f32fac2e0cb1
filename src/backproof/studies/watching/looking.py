"""What is seen of one training step, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...capturing.hooks import Seen, norm

__all__ = ["Event", "Look", "measure", "measure_ends"]

_GATES = (nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Hardsigmoid)
_CUTS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)


@dataclass(frozen=True)
class Event:
    """Something that began to go wrong.

    Args:
        step: the step (from 0) at which it began, as far as it was seen.
        kind: "not finite", "exploding", "vanishing", "dead", "saturated", "learning rate", "weight decay", "overwritten",
            "disconnected", "not trained", "evaluation mode", "loss scale" or "accumulating".
        layer: the module or parameter where it begins, "" for the whole.
        cause, remedy: in words.
        since: the last look at which it was not so (None: it was so from the start); the step itself where each step is
            looked at.
    """

    step: int
    kind: str
    layer: str
    cause: str
    remedy: str
    since: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The event as plain data."""
        return dict(self.__dict__)

    def __str__(self) -> str:
        since = "" if self.since is None or self.since >= self.step - 1 else f" (at step {self.since} it was not so)"
        where = f" in {self.layer}" if self.layer else ""
        return f"Step {self.step}{since}: {self.kind}{where}. {self.cause} {self.remedy}".strip()


@dataclass
class Look:
    """One step seen closely.

    Args:
        step: which.
        deltas, outputs: for each leaf module in the order of the calls, the norm of the error signal and the root mean
            square of the output.
        dead, saturated: for each activation the share of its units (entries) at rest.
        gradients, weights, updates: for each parameter the norms of its gradient, of itself, and of what the step
            changed (empty where that was not seen).
        floors: for each parameter the norm under which it counts as close to 0, a tenth of what is usual at the start.
        starts: for each parameter its norm at the first look.
        inputs: the root mean square of each input of the model.
        rates: the learning rates.
        lost: whether the loss used an entry of the model's output that is not finite.
        written: whether something else than the optimizer wrote into the weights before it.
        waking: whether weights began at 0 and the training has just begun: what is still without a gradient may yet get one.
        unmoved: the step since which no parameter changes.
        idle: for each weight matrix the share of its rows with a gradient of 0.
    """

    step: int
    deltas: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, float] = field(default_factory=dict)
    dead: dict[str, float] = field(default_factory=dict)
    saturated: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    updates: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    inputs: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    lost: bool = False
    written: bool = False
    waking: bool = False
    unmoved: int | None = None
    idle: dict[str, float] = field(default_factory=dict)

    def record(self, seen: Sequence[Seen]) -> None:
        """Take over what the hooks recorded; a module that is called again is named with the number of its call."""
        counts: dict[str, int] = {}
        for entry in seen:
            self.lost |= bool(entry.sizes.get("lost", False))
            calls = counts[entry.name] = counts.get(entry.name, 0) + 1
            name = entry.name if calls == 1 else f"{entry.name} (call {calls})"
            self.outputs[name] = float(entry.sizes["rms"])
            if entry.delta is not None:
                self.deltas[name] = float(entry.delta)
            for kind in ("dead", "saturated"):
                if kind in entry.sizes:
                    getattr(self, kind)[name] = float(entry.sizes[kind])

    @property
    def blank(self) -> bool:
        """Whether all that the model puts out is 0."""
        return bool(self.outputs) and list(self.outputs.values())[-1] == 0.0

    @property
    def still(self) -> bool:
        """Whether every gradient is 0."""
        return bool(self.gradients) and not any(self.gradients.values())

    @property
    def starts_at_zero(self) -> bool:
        """Whether some weights are 0."""
        return any(v == 0.0 and self.floors.get(n) for n, v in self.weights.items())

    @property
    def moves(self) -> bool:
        """Whether a parameter changes, as far as it should."""
        pushed = any(v > 0 for v in self.gradients.values())
        return not self.updates or not pushed or any(v > 0 for v in self.updates.values())

    @property
    def ratio(self) -> float | None:
        """The norm of the error signal at the first module over that at the last."""
        known = list(self.deltas.values())
        return known[0] / known[-1] if len(known) > 1 and known[-1] > 0 else None


# --- what is measured of one module -------------------------------------------------------------------------------------
def measure(module: nn.Module, x: Tensor | None, y: Tensor) -> dict[str, Tensor]:
    """The root mean square of an output, and the share of units or entries of an activation that are at rest."""
    found = {"rms": norm(y) / max(y.numel(), 1) ** 0.5}
    if isinstance(module, _CUTS):
        units = _units(y if x is None else x)
        if len(units) > 1:
            found["dead"] = (units.amax(0) <= 0).float().mean()
    if isinstance(module, _GATES):
        low = 0.0 if isinstance(module, (nn.Sigmoid, nn.Hardsigmoid)) else -1.0
        place = (y - low) / (1.0 - low)  # sigma' / (1/4) = 4 p (1 - p)
        found["saturated"] = (4 * place * (1 - place) < 0.05).float().mean()
    return found


def measure_ends(module: nn.Module, x: Tensor | None, y: Tensor) -> dict[str, Tensor]:
    """The same, whether all is finite, and the range of what goes in."""
    found = {**measure(module, x, y), "finite": y.isfinite().all(), "nan": y.isnan().any()}
    if x is not None and x.numel():
        found |= {"low": x.min(), "high": x.max(), "given": x.isfinite().all()}
    if y.dtype == torch.float16:
        found["top"] = torch.tensor(torch.finfo(y.dtype).max)
    return found


def _units(t: Tensor) -> Tensor:
    """[samples and places, units]."""
    return t.movedim(1, -1).reshape(-1, t.shape[1]) if t.ndim > 3 else t.reshape(-1, t.shape[-1] if t.ndim else 1)
