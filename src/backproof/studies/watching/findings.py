"""What a close look at one step says: what is wrong, where, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .looking import Event, Look

__all__ = ["findings_of"]

FADED, GROWN, QUIET, LOUD, LONG = 1e-4, 1e4, 1e-7, 1e6, 3


def findings_of(look: Look, before: Look | None, jump: Event | None = None) -> Iterator[Event]:
    """What is wrong at a look, and since when; what is known of a jump of the gradients comes first but for the weights."""
    since = None if before is None else before.step
    if look.lost:
        yield Event(look.step, "not finite", "the model", "The model's output is not finite where the loss uses it, though "
                    "the gradients are.", "Keep what goes into a logarithm, root or quotient away from 0.", since)  # fmt: skip
    written = list(_weights(look, before, since))
    yield from written
    if any(e.kind == "overwritten" for e in written):  # what follows from it needs no words
        return
    if jump is not None:
        yield jump
    yield from _loss_scale(look, before, since)
    flow = [] if look.waking else list(_flow(look, before, since))
    if before is None:  # no update was made: what is large or small now is not the work of one
        yield from flow
    yield from _steps(look, since)
    if not look.waking:  # as is meant where a last layer or a scale begins at 0
        yield from _units_lost(look, before, since)
    yield from flow


def _weights(look: Look, before: Look | None, since: int | None) -> Iterator[Event]:
    """Weights that became 0 or very small since the look before, or that never leave 0."""
    if before is None:
        return
    for name, now in look.weights.items():
        then = before.weights.get(name, 0.0)
        if look.written and now > 100 * then > 0:
            yield Event(look.step, "overwritten", name, f"Its norm is {now:.3g}; at step {since} it was {then:.3g}: something else than "
                        "the optimizer wrote into the weights before this step.", "Look for what writes into the weights: a reset, a "
                        "scaling, a loaded state.", look.step - 1)  # fmt: skip
        if not look.floors.get(name) or now > 0.01 * then:
            continue
        if now == 0.0 < then:
            yield Event(look.step, "overwritten", name, f"All its values are 0; at step {since} their norm was {then:.3g}: something else "
                        "than the optimizer wrote them, and the layer is dead.", "Look for what writes into the weights: a mask, a "
                        "reset, a loaded state.", look.step - 1 if look.written else since)  # fmt: skip
        elif now > 0.0:
            yield Event(look.step, "weight decay", name, f"Its norm fell from {then:.3g} at step {since} to {now:.3g}: the weights "
                        "shrink to 0 and the signal with them.", "Lower the weight decay.", since)  # fmt: skip
        elif look.gradients.get(name) == 0.0 == before.gradients.get(name):
            yield Event(before.step, "dead", name, "All its weights are 0, and so is the gradient that reaches them: they stay there.",
                        "Draw random weights; only one of two layers that follow each other may begin at 0.",
                        before.step - 1 if before.step else None)  # fmt: skip


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
    """The largest update beside the size of its parameter, now or at the start (of weight matrices; biases begin at 0)."""
    shares = [
        (u / max(min(look.weights[n], look.starts.get(n, math.inf)), look.floors.get(n, 0.0)), n)
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
    if look.unmoved is not None and look.step - look.unmoved >= LONG:  # a warm-up may begin at 0
        since = look.unmoved - 1 if look.unmoved else None
        yield Event(look.unmoved, "not trained", "", "The gradients are not 0 and no parameter changes: the learning rate is 0, "
                    "or too small for the precision.", "Look at the schedule's first value.", since)  # fmt: skip


def _units_lost(look: Look, before: Look | None, since: int | None) -> Iterator[Event]:
    for name, share in look.dead.items():
        if share >= 0.95:
            yield Event(look.step, "dead", name, f"{100 * share:.0f} % of its units are cut off for every sample."
                        + _changed(look, before), "Lower the learning rate, start with biases of 0, or use an activation "
                        "whose slope is nowhere 0.", since)  # fmt: skip
            break
    if look.still and look.blank:
        last = [n for n in look.gradients if n.rpartition(".")[0] in look.outputs]
        yield Event(look.step, "dead", last[-1].rpartition(".")[0] if last else "the model", "The model puts out 0 for every sample and "
                    "no gradient arrives at all: its last layer is cut off." + _changed(look, before), "Begin again from "
                    "weights before that; use no activation there whose slope is 0, and clip the gradient's norm.", since)  # fmt: skip
    idle = [n for n, share in look.idle.items() if share >= 0.95]
    if idle and not look.dead and not look.still:
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
