"""Where a gradient that jumps comes from: the data, a module, the loss, or the way back."""

from __future__ import annotations

import math

from .looking import Event, Look

__all__ = ["jump_of"]

FAR, LARGER = 100.0, 30.0


def jump_of(look: Look, before: Look, layers: dict[str, str]) -> Event | None:
    """What made the gradients of a step so much larger than those of an earlier look; None if all together are not.

    Args:
        look: the step.
        before: an earlier one, with its modules' outputs.
        layers: for each parameter the module that it belongs to.
    """
    now, then = _total(look), _total(before)
    if not now > FAR * then > 0:
        return None
    grown = f" The norm of all gradients is {now:.3g}; at step {before.step} it was {then:.3g}."
    for i, (a, b) in enumerate(zip(before.inputs, look.inputs, strict=False)):
        if b > LARGER * a > 0:
            return _event(look, "", f"Input {i} of the model is {b / a:.3g} times as large as at step {before.step} (root mean square "
                          f"{b:.3g}): it comes from the data.{grown}", "Look at this batch; clip or standardise the inputs.")  # fmt: skip
    for name, b in look.outputs.items():
        a = before.outputs.get(name, 0.0)
        if b > LARGER * a > 0 or not math.isfinite(b):
            times = b / a if a else math.inf
            return _event(look, name, f"What it puts out is {times:.3g} times as large as at step {before.step} (root mean square "
                          f"{b:.3g}), and it is the first of which that is so.{_heavier(look, before, name)}{grown}",
                          "Lower the learning rate, clip the gradient's norm, or normalise what goes in.")  # fmt: skip
    if _at_the_end(look, before) > 0.03 * now / then:
        last = list(look.outputs.items())[-1] if look.outputs else ("", math.nan)
        return _event(look, "the loss", f"What the model puts out is as before (root mean square {last[1]:.3g}), and the error signal "
                      f"is too large already where the loss sends it back: it comes from this batch's targets (labels), or from the "
                      f"loss.{grown}", "Look at the targets of this batch, and at what the loss is multiplied by; clip the "
                      "gradient's norm.")  # fmt: skip
    ratios = [(look.gradients[n] / v, n) for n, v in before.gradients.items() if v > 0 and n in look.gradients]
    name = max(ratios, default=(0.0, ""))[1]
    return _event(look, layers.get(name, name), f"The outputs are as before; the gradient grows on the way back, most at {name}."
                  + grown, "Clip the gradient's norm; normalise, or keep quotients and roots away from 0.")  # fmt: skip


def _event(look: Look, layer: str, cause: str, remedy: str) -> Event:
    return Event(look.step, "exploding", layer, cause, remedy, look.step - 1)


def _heavier(look: Look, before: Look, layer: str) -> str:
    """Whether the weights of a layer have grown, in words."""
    ratios = [(look.weights[n] / v, n) for n, v in before.weights.items() if v > 0 and n.rpartition(".")[0] == layer]
    ratio, name = max(ratios, default=(0.0, ""))
    return (
        f" Its weights {name} are {ratio:.3g} times as large: the updates before made them so, or another hand."
        if ratio > 3
        else ""
    )


def _total(look: Look) -> float:
    return math.sqrt(sum(v * v for v in look.gradients.values()))


def _at_the_end(look: Look, before: Look) -> float:
    """How many times as large the gradient of the last module's parameters is (by the order of the calls)."""
    for module in reversed(look.outputs):
        owned = [n for n in look.gradients if n.rpartition(".")[0] == module and before.gradients.get(n)]
        if owned:
            return max(look.gradients[n] / before.gradients[n] for n in owned)
    name = next(reversed(look.gradients), None)
    return look.gradients[name] / before.gradients[name] if name and before.gradients.get(name) else 0.0
