"""What a close look at one training step says: what is wrong, where, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...capturing.hooks import Seen

__all__ = ["Event", "Look", "findings_of", "measure", "measure_ends", "source_of_nan"]

FADED, GROWN, QUIET, LOUD = 1e-4, 1e4, 1e-7, 1e6
_GATES = (nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Hardsigmoid)
_CUTS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)


@dataclass(frozen=True)
class Event:
    """Something that began to go wrong.

    Args:
        step: the step (from 0) at which it was first seen.
        kind: "not finite", "exploding", "vanishing", "dead", "saturated", "learning rate", "disconnected", "not trained",
            "loss scale" or "accumulating".
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
        rates: the learning rates.
        lost: whether the loss used an entry of the model's output that is not finite.
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
    rates: tuple[float, ...] = ()
    lost: bool = False
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
    def ratio(self) -> float | None:
        """The norm of the error signal at the first module over that at the last."""
        known = list(self.deltas.values())
        return known[0] / known[-1] if len(known) > 1 and known[-1] > 0 else None


# --- what is measured of one module -------------------------------------------------------------------------------------
def measure(module: nn.Module, x: Tensor | None, y: Tensor) -> dict[str, Tensor]:
    """The root mean square of an output, and the share of units or entries of an activation that are at rest."""
    found = {"rms": y.norm() / max(y.numel(), 1) ** 0.5}
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


# --- what a look says ---------------------------------------------------------------------------------------------------
def findings_of(look: Look, before: Look | None) -> Iterator[Event]:
    """What is wrong at a look, and since when."""
    since = None if before is None else before.step
    if look.lost:
        yield Event(look.step, "not finite", "the model", "The model's output is not finite where the loss uses it, though "
                    "the gradients are.", "Keep what goes into a logarithm, root or quotient away from 0.", since)  # fmt: skip
    yield from _loss_scale(look, before, since)
    flow = list(_flow(look, before, since))
    if before is None:  # no update was made: what is large or small now is not the work of one
        yield from flow
    yield from _steps(look, since)
    yield from _units_lost(look, before, since)
    yield from flow


def _changed(look: Look, before: Look | None) -> str:
    """How large the updates were at the looks around, in words; what was there at the first look, no update made."""
    if before is None:
        return ""
    for one in (look, before):
        if one is not None and one.updates:
            share, name = _largest(one)
            if share > 0.1:
                return f" The update at step {one.step} changed {name} by {share:.3g} times its own size: the learning rate is too large."
    return ""


def _largest(look: Look) -> tuple[float, str]:
    """The largest update beside the size of its parameter (of weight matrices; biases begin at 0)."""
    shares = [
        (u / look.weights[n], n)
        for n, u in look.updates.items()
        if look.weights.get(n, 0.0) > 0 and not n.endswith("bias")
    ]
    return max(shares, default=(0.0, ""))


def _steps(look: Look, since: int | None) -> Iterator[Event]:
    share, name = _largest(look)
    if share > 1.0 and look.rates:
        lower = (
            f"Lower the learning rate ({look.rates[0]:g}), to about {look.rates[0] / (share * 100):.1g}, or warm it up."
        )
        yield Event(look.step, "learning rate", name, f"One update changed it by {share:.3g} times its own size.",
                    lower, since)  # fmt: skip
    moving = any(v > 0 for v in look.gradients.values())
    if look.updates and moving and not any(v > 0 for v in look.updates.values()):
        yield Event(look.step, "not trained", "", "The gradients are not 0 and no parameter changes: the learning rate is 0, "
                    "or too small for the precision.", "Look at the schedule's first value.", since)  # fmt: skip


def _units_lost(look: Look, before: Look | None, since: int | None) -> Iterator[Event]:
    for name, share in look.dead.items():
        if share >= 0.95:
            yield Event(look.step, "dead", name, f"{100 * share:.0f} % of its units are cut off for every sample."
                        + _changed(look, before), "Lower the learning rate, start with biases of 0, or use an activation "
                        "whose slope is nowhere 0.", since)  # fmt: skip
            break
    idle = [n for n, share in look.idle.items() if share >= 0.95]
    if idle and not look.dead:
        yield Event(look.step, "dead", idle[-1], f"{100 * look.idle[idle[-1]]:.0f} % of its units get a gradient of exactly 0: what "
                    f"follows cuts them off for every sample.{_changed(look, before)}", "Lower the learning rate, start with "
                    "biases of 0, or use an activation whose slope is nowhere 0.", since)  # fmt: skip
    for name, share in look.saturated.items():
        if share >= 0.9:
            yield Event(look.step, "saturated", name, f"{100 * share:.0f} % of its entries are near its ends, where the slope "
                        f"is under 1/20 of the largest.{_changed(look, before)}", "Draw smaller weights, standardise the "
                        "inputs, or normalise what goes in.", since)  # fmt: skip
            break


def _loss_scale(look: Look, before: Look | None, since: int | None) -> Iterator[Event]:
    known = list(look.deltas.items())
    last = known[-1][1] if known else 1.0
    if not math.isfinite(last):
        yield Event(look.step, "not finite", known[-1][0], "The gradient that the loss sends back to it is not finite: a "
                    "logarithm of 0, a quotient by 0, or an overflow in the loss.", "Use the loss on logits (cross_entropy, "
                    "BCEWithLogits), or add a small constant inside.", since)  # fmt: skip
    if math.isfinite(last) and not QUIET <= last <= LOUD:
        size = "0" if last == 0.0 else "small" if last < QUIET else "large"
        yield Event(look.step, "loss scale", known[-1][0], f"The gradient of the loss is {'' if last == 0.0 else 'too '}{size} "
                    f"already at the last module ({last:.3g}).{_changed(look, before)}", "Check what the loss is "
                    "divided or multiplied by; use the mean over samples.", since)  # fmt: skip


def _flow(look: Look, before: Look | None, since: int | None) -> Iterator[Event]:
    known = list(look.deltas.items())
    ratio = look.ratio
    if ratio is None or not all(math.isfinite(v) for _, v in known) or FADED <= ratio <= GROWN:
        return
    kind = "vanishing" if ratio < FADED else "exploding"
    steps = [(b / a if a > 0 else 0.0, name) for (_, a), (name, b) in zip(known[::-1], known[-2::-1], strict=False)]
    pick = min if kind == "vanishing" else max
    worst = pick(steps, key=lambda s: s[0])
    each = ratio ** (1 / max(len(known) - 1, 1))
    yield Event(look.step, kind, worst[1], f"From the last module to the first the norm of the error signal changes by a "
                f"factor of {ratio:.3g}, {each:.3g} per module, and most before {worst[1]} ({worst[0]:.3g})."
                + _changed(look, before), "Run backproof propagate on the model for the start that keeps it, a "
                "normalisation or an identity path.", since)  # fmt: skip


# --- the first NaN ------------------------------------------------------------------------------------------------------
def source_of_nan(
    seen: Sequence[Seen], inputs: Sequence[Tensor], parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> tuple[str, str, str]:
    """(layer, cause, remedy) of the first value that is not finite, from a second forward pass on the same batch."""
    for i, x in enumerate(inputs):
        if not bool(x.isfinite().all()):
            bad = (~x.isfinite()).nonzero()[0].tolist()
            return "", (f"Input {i} of the model holds {_kind(x)}: {int((~x.isfinite()).sum())} of {x.numel()} entries, the "
                        f"first at {bad}: it comes from the data."), "Clean the data, or leave such samples out."  # fmt: skip
    for name, p in parameters.items():
        if not bool(p.isfinite().all()):
            return name, f"The parameter itself holds {_kind(p)}: the update of an earlier step made it so.", _SMALLER
    for entry in seen:
        sizes = entry.sizes
        if not bool(sizes["finite"]):
            given = (
                f", given inputs from {float(sizes['low']):.3g} to {float(sizes['high']):.3g}" if "low" in sizes else ""
            )
            if not bool(sizes.get("given", True)):
                given = ": what it is given is not finite already, so it arises between the modules before it, in the forward method itself"
            if "top" in sizes:
                given += f" (float16 ends at {float(sizes['top']):,.0f})"
            what = "NaN" if bool(sizes["nan"]) else "an infinity"
            return entry.name, f"{type(entry.module).__name__} puts out {what}{given}.", (
                "Keep what goes into it in its range: a small constant under a logarithm, root or quotient; a normalisation.")  # fmt: skip
    largest = max((float(g.abs().max()) for g in gradients.values() if g.numel()), default=0.0)
    if math.isfinite(largest) and largest > 1e15:
        return "", f"The gradients are so large (up to {largest:.3g}) that their squares are infinite.", _SMALLER
    return _behind_the_forward_pass(gradients)


def _behind_the_forward_pass(gradients: Mapping[str, Tensor]) -> tuple[str, str, str]:
    """All is finite in the forward pass: where the gradients begin not to be."""
    bad = [n for n, g in gradients.items() if not bool(g.isfinite().all())]
    if bad and bad[-1] == list(gradients)[-1]:
        return "the loss", (
            "The forward pass is finite: the NaN arises in the loss (a logarithm of 0, a quotient by 0) or in its backward pass "
            "(the slope of a root or norm at 0, an overflow). The gradients that are not finite are those of "
            f"{_some(bad)}."), "Use the loss on logits (cross_entropy, BCEWithLogits), or add a small constant inside."  # fmt: skip
    return bad[-1] if bad else "", (
        "The forward pass and the gradients of the parameters behind it are finite: the NaN arises on the way back to it (the slope "
        "of a root or norm at 0, a quotient by 0, an overflow). The gradients that are not finite are those of "
        f"{_some(bad)}."), "Add a small constant inside the root, norm or quotient that follows it."  # fmt: skip


_SMALLER = "Lower the learning rate, warm it up, or clip the gradient's norm (torch.nn.utils.clip_grad_norm_)."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "no parameter"


def _kind(t: Tensor) -> str:
    return "NaN" if bool(torch.isnan(t).any()) else "an infinity"
