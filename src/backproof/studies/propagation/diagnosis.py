"""What the layers say together: healthy, vanishing, exploding or dead, why, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Diagnosis", "diagnose"]

FADED, GROWN = 1e-3, 1e3


@dataclass(frozen=True)
class Diagnosis:
    """The verdict with its reason.

    Args:
        verdict: "healthy", "vanishing", "exploding" or "dead".
        sentence: the measured fact behind it.
        cause, remedy: in words, "" where nothing is wrong.
        ratio: the root mean square of the error signal at the first layer over that at the last.
    """

    verdict: str
    sentence: str
    cause: str
    remedy: str
    ratio: float


def diagnose(layers: Sequence[Any], remedied: Callable[[], tuple[str, float, float]]) -> Diagnosis:
    """Judge the measured gradients.

    A gradient has vanished if its root mean square falls by more than a factor of 1,000 from the last layer to the
    first, and exploded if it grows by as much.

    Args:
        layers: the layers in order (:class:`backproof.studies.propagate.Layer`).
        remedied: (the standard deviation to use in words, the gain, the predicted ratio of mean squares with it).
    """
    first, last = layers[0].backward[1], layers[-1].backward[1]
    ratio = math.sqrt(first / last) if last > 0 else 0.0
    sentence = (
        f"The error signal's root mean square is {math.sqrt(first):.3g} at {layers[0].name} and {math.sqrt(last):.3g} at "
        f"{layers[-1].name}, a factor of {ratio:.3g} over {len(layers)} layers."
    )
    still = [x for x in layers if x.dead >= 1.0]
    if still:
        return Diagnosis("dead", sentence, _dead(still), "Start with a smaller or positive bias, or use an activation "
                         "whose slope is nowhere 0 (leaky ReLU, GELU); a smaller learning rate keeps units from being "
                         "pushed there.", ratio)  # fmt: skip
    if math.isfinite(ratio) and FADED <= ratio <= GROWN:
        return Diagnosis("healthy", sentence, "", "", ratio)
    verdict = "vanishing" if ratio < FADED else "exploding"
    return Diagnosis(verdict, sentence, _cause(layers, verdict), _remedy(layers, remedied), ratio)


def _dead(still: Sequence[Any]) -> str:
    names = ", ".join(x.name for x in still[:5])
    return f"Every unit of {names} has slope 0 for all inputs: no gradient passes."


def _cause(layers: Sequence[Any], verdict: str) -> str:
    known = [x for x in layers if x.chi is not None]
    if not known:
        return "The error signal is lost in one step."
    pick = min if verdict == "vanishing" else max
    worst = pick(known, key=lambda x: x.chi)
    typical = math.exp(sum(math.log(max(x.chi, 1e-300)) for x in known) / len(known))
    function = worst.activation or "no activation"
    return (
        f"Each layer multiplies the mean square of the error signal by chi = n E[w²] E[f'(s)²], here {typical:.3g} on "
        f"average (1 would keep it); it is {worst.chi:.3g} at {worst.name} ({function})."
    )


def _remedy(layers: Sequence[Any], remedied: Callable[[], tuple[str, float, float]]) -> str:
    words, _, ratio = remedied()
    better = math.sqrt(ratio)
    return (
        f"Draw the weights with standard deviation {words}: then chi is 1 at unit variance, and the factor over all "
        f"layers is predicted to be {better:.3g}."
        + (
            " The activation still saturates; a residual connection or a normalisation does more."
            if better < FADED
            else ""
        )
    )
