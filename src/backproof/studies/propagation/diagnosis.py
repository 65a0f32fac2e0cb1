"""What the layers say together: healthy, vanishing, exploding, dead..., why, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .facts import Facts
from .softmaxes import Soft

__all__ = ["Diagnosis", "Remedy", "diagnose", "first_finding"]

FADED, GROWN = 1e-3, 1e3
QUIET, LOUD = 1e-6, 1e4
NOISE = 9.0


@dataclass(frozen=True)
class Remedy:
    """Something to do about it.

    Args:
        words: in words.
        code: lines to paste, "" where words must do.
        predicted, measured: the norm of the error signal at the first layer over that at the last with the remedy (for
            a loss's scale: the norm at the last layer), as the theory has it and on a copy to which it was applied; nan
            where there is nothing to measure.
        effect: what else it is predicted to do and did to the copy, in a sentence.
        over: between which maps the two norms are compared, in words.
        after: the verdict on that copy, "" where nothing was tried.
        left: what is still wrong with it, in words.
    """

    words: str
    code: str = ""
    predicted: float = math.nan
    measured: float = math.nan
    effect: str = ""
    over: str = "all layers"
    after: str = ""
    left: str = ""

    @property
    def cures(self) -> bool:
        """Whether the copy has nothing wrong with it (or nothing could be tried)."""
        return self.after in ("", "healthy", "frozen")

    def to_dict(self) -> dict[str, Any]:
        """The remedy as plain data."""
        numbers = {"predicted": self.predicted, "measured": self.measured}
        return {
            "words": self.words,
            "code": self.code,
            "effect": self.effect,
            "over": self.over,
            "after": self.after,
            **{k: v if math.isfinite(v) else None for k, v in numbers.items()},
        }


@dataclass(frozen=True)
class Diagnosis:
    """The verdict with its reason.

    Args:
        verdict: "healthy", "vanishing", "exploding", "dead", "saturated", "symmetric", "disconnected", "not finite",
            "noisy", "loss scale" or "frozen".
        sentence: the measured fact behind it.
        cause, remedy: in words, "" where nothing is wrong.
        ratio: the norm of the error signal at the first layer over that at the last, measured.
        predicted: the same by the theory.
        remedies: what was predicted and tried, what cures before what does not, among equals what fits the cause first.
    """

    verdict: str
    sentence: str
    cause: str
    remedy: str
    ratio: float
    predicted: float = math.nan
    remedies: tuple[Remedy, ...] = ()


Finding = tuple[str, str, tuple[str, ...]]
"""(verdict, cause, the names of the remedies to try)"""


def diagnose(layers: Sequence[Any], facts: Facts, tried: Callable[[str], Remedy | None]) -> Diagnosis:
    """Judge the measured gradients.

    A gradient has vanished if the norm of the error signal falls by more than a factor of 1,000 from the last layer to the
    first, and exploded if it grows by as much.

    Args:
        layers: the layers in order (:class:`backproof.studies.propagation.layers.Layer`).
        facts: what else was seen.
        tried: predicts a remedy by name and applies it to a copy.
    """
    ratio, predicted = (_over(*(x.norms[i] for x in (layers[0], layers[-1]))) for i in (1, 0))
    sentence = (
        f"The norm of the error signal is {layers[0].norms[1]:.3g} at {layers[0].name} and {layers[-1].norms[1]:.3g} at "
        f"{layers[-1].name}, a factor of {ratio:.3g} over {len(layers)} layers."
    )
    verdict, cause, names = first_finding(layers, facts)
    remedies = tuple(r for r in map(tried, names) if r is not None)
    best = sorted(remedies, key=lambda r: r.cures, reverse=True)  # stable
    words = _in_words(best[0]) if best else ""
    return Diagnosis(verdict, sentence, cause, words, ratio, predicted, tuple(best))


def first_finding(layers: Sequence[Any], facts: Facts) -> Finding:
    """The most certain of what may be wrong."""
    ratio = _over(layers[0].norms[1], layers[-1].norms[1])
    return next(_findings(layers, facts, ratio), ("healthy", "", ()))


def _over(first: float, last: float) -> float:
    return first / last if last > 0 else 0.0


def _in_words(r: Remedy) -> str:
    if math.isnan(r.measured):
        return f"{r.words}."
    foreseen = (
        f"the theory predicts {r.predicted:.3g} for" if math.isfinite(r.predicted) else "there is no prediction for"
    )
    effect = f" {r.effect}" if r.effect else ""
    seen = f"{foreseen} the factor over {r.over}, and a copy to which it was applied has {r.measured:.3g}.{effect}"
    if r.cures:
        return f"{r.words}. With it {seen}"
    return (
        f"None of what was tried on a copy makes the network healthy. First was: {r.words}; with it {seen} That copy is "
        f"{r.after}: {r.left}"
    )


# --- what may be wrong, the most certain first ------------------------------------------------------------------------
def _findings(layers: Sequence[Any], facts: Facts, ratio: float) -> Iterator[Finding]:
    if facts.not_finite:
        yield "not finite", facts.not_finite, ()
    if facts.cut:
        yield "disconnected", (
            f"No gradient reaches {_listed(facts.cut)}: the way back is cut (detach, no_grad, an integer, or a value "
            "that the loss does not use)."), ("reconnect",)  # fmt: skip
    if facts.centred and layers[-1].norms[1] < QUIET:
        yield "disconnected", (
            f"The loss adds up what {facts.centred} has centred: that sum is constant, whatever the weights, and so its "
            "gradient is 0 everywhere."), ("uncentre",)  # fmt: skip
    if facts.symmetric:
        yield "symmetric", (
            f"All units of {_listed(facts.symmetric)} start with the same weights, so they get the same gradient and stay "
            "the same: the layer counts as one unit."), ("gains",)  # fmt: skip
    if facts.zeros and ratio < FADED:
        yield "vanishing", (
            f"All weights of {_listed(facts.zeros)} are 0, and it is the only way: nothing before it gets a gradient."
        ), ("gains",)  # fmt: skip
    if facts.scales and ratio < FADED:
        yield "vanishing", (
            f"The scale of a normalisation, {_listed(facts.scales)}, is 0, and it is the only way: its output is constant, and "
            "nothing before it gets a gradient."), ("scale of the norm",)  # fmt: skip
    yield from _drops(facts, ratio)
    yield from _units(layers, facts, ratio)
    yield from _gates(facts, ratio)
    yield from _softs(layers, facts, ratio)
    yield from _times(facts)
    if not FADED <= ratio <= GROWN and len(layers) > 1:
        yield _flow("vanishing" if ratio < FADED else "exploding", layers, facts, ratio)
    yield from _scales(layers, facts)


def _drops(facts: Facts, ratio: float) -> Iterator[Finding]:
    """A dropout that leaves nearly nothing, or dropouts that make up most of an explosion."""
    if not facts.dropouts:
        return
    factor = math.prod(1 / d.keep for d in facts.dropouts)
    grown = ratio > GROWN and math.log(factor) > math.log(ratio)  # the norm's factor is the root
    heavy = [d for d in facts.dropouts if d.noise > NOISE] or [d for d in facts.dropouts if grown]
    if not heavy:
        return
    least = min(d.keep for d in heavy)
    yield "exploding" if ratio > GROWN else "vanishing" if ratio < FADED else "noisy", (
        f"The dropout of p = {1 - least:.3g} behind {_listed([d.name for d in heavy])} keeps {100 * least:.3g} % of the "
        f"entries and multiplies the mean square of the signal and of the error signal by 1/(1 - p) = {1 / least:.3g} each "
        f"time ({factor:.3g} for all {len(facts.dropouts)} dropouts together); the noise that it adds has "
        f"{1 / least - 1:.3g} times the mean square of the signal."), ("dropout",)  # fmt: skip


def _gates(facts: Facts, ratio: float) -> Iterator[Finding]:
    shut = [g for g in facts.gates if g.share >= 0.5]
    if shut:
        worst = max(shut, key=lambda g: g.share)
        yield "vanishing" if ratio < FADED else "saturated", (
            f"The gates of {_listed([g.name for g in shut])} are saturated: {100 * worst.share:.0f} % of the entries of its "
            f"{' and '.join(worst.functions)} lie where they have less than 1/20 of their largest slope (what goes in has root "
            f"mean square {worst.size:.3g}).{_input_words(facts)}"), (*_sources(facts), "gains")  # fmt: skip


def _sources(facts: Facts) -> tuple[str, ...]:
    """The remedies for what goes into the network too large."""
    return (*(["standardise"] if facts.input_scale > 30 else []), *(["embeddings"] if facts.tables else []))


def _units(layers: Sequence[Any], facts: Facts, ratio: float) -> Iterator[Finding]:
    still = [x for x in layers if x.dead >= 0.9 and x.saturated < 0.5]
    if still:
        share = (
            "Every unit"
            if all(x.dead >= 1.0 for x in still)
            else f"{100 * min(x.dead for x in still):.0f} % of the units"
        )
        yield (
            "dead",
            (
                f"{share} of {_listed([x.name for x in still])}: slope 0 for all inputs: no gradient passes. "
                f"{_why_dead(still[0], facts)}"
            ),
            _for_dead(still[0], facts),
        )
    full = [x for x in layers if x.saturated >= 0.5]
    if full:
        yield "vanishing" if ratio < FADED else "saturated", (
            f"{full[0].activation} is saturated: {100 * max(x.saturated for x in full):.0f} % of the entries behind "
            f"{_listed([x.name for x in full])} lie where it has less than 1/20 of its largest slope (the pre-activations' "
            f"root mean square is {math.sqrt(full[0].forward[1]):.3g}).{_input_words(facts)}"
        ), (*_sources(facts), "gains", "normalise")  # fmt: skip


def _softs(layers: Sequence[Any], facts: Facts, ratio: float) -> Iterator[Finding]:
    shut = [s for s in facts.softs if s.shut]
    if not shut:
        return
    worst = min(shut, key=lambda s: s.open)
    grown = layers[-1].forward[1] > 30 * layers[0].forward[1] and not worst.width
    what = "attention" if worst.width else "softmax of the loss" if worst.loss else "softmax"
    named = what if worst.node.name == what else f"{what} {worst.node.name}"
    yield "vanishing" if ratio < FADED else "saturated", (
        f"The {named} is saturated: its scores have a standard deviation of {worst.spread:.3g} over the "
        f"{worst.keys} entries of a row (about 1 is usual), so that one entry takes nearly all, and "
        f"{100 * worst.open:.0f} % of the slope that equal shares would have is left. "
        f"{_why_grown(layers, facts) if grown else _why_shut(worst)}{_input_words(facts)}"
    ), (*_sources(facts), *(["branches"] if grown and facts.skips else []), "scores")  # fmt: skip


def _why_grown(layers: Sequence[Any], facts: Facts) -> str:
    sums = f", as each of the {facts.skips} residual sums adds a branch" if facts.skips else ""
    return (
        f"The values grow on the way: their mean square goes from {layers[0].forward[1]:.3g} at {layers[0].name} to "
        f"{layers[-1].forward[1]:.3g} at {layers[-1].name}{sums}."
    )


def _why_shut(s: Soft) -> str:
    if s.width and s.factor == 1.0:
        return (
            f"Each score adds up {s.width} products and is not divided by sqrt({s.width}) = {math.sqrt(s.width):.3g}."
        )
    if s.width:
        return "The queries and keys are too large: the weights that make them, or what goes into these."
    if s.factor > 2:
        return f"They are multiplied by {s.factor:.3g} on the way."
    return "The weights (or the embeddings) that make them are too large."


def _times(facts: Facts) -> Iterator[Finding]:
    for t in facts.times:
        if t.ratio < QUIET:
            yield "vanishing", (
                f"The gradient vanishes through time: over the {len(t.calls)} times that {t.weight.name} is applied, the "
                f"norm of the error signal is multiplied by {t.step:.3g} at each step back, by {t.ratio:.3g} in all; what "
                f"lies more than {t.reach:.2g} steps back has less than a hundredth of the gradient of the last."
            ), ("memory",)  # fmt: skip


def _for_dead(layer: Any, facts: Facts) -> tuple[str, ...]:
    if layer.name in facts.flat:
        return ("scale of the norm",)
    return ("gains", *(_sources(facts) or ("leaky",)))


def _why_dead(layer: Any, facts: Facts) -> str:
    bias = facts.biases.get(layer.name)
    if layer.name in facts.flat:
        return f"The scale of the normalisation behind it, {facts.flat[layer.name]}, is 0: its output is constant. Start it at 1."
    if bias is not None and bias**2 > layer.forward[1] / 4:
        return f"Its biases are {bias:.3g} on average, and they outweigh what the weights bring."
    size = math.sqrt(layer.forward[1])
    return f"Its pre-activations have root mean square {size:.3g} and nearly all lie where {layer.activation} is flat."


def _input_words(facts: Facts) -> str:
    inputs = f" The inputs have root mean square {facts.input_scale:.3g}: they are not standardised."
    tables = (
        f" The embedding {n} has root mean square {size:.3g}; about 1 is usual." for n, size in facts.tables.items()
    )
    return (inputs if facts.input_scale > 30 else "") + "".join(tables)


def _flow(verdict: str, layers: Sequence[Any], facts: Facts, ratio: float) -> Finding:
    """A gradient that fades or grows: in one place, in every residual block, or layer by layer."""
    steps = [(_over(a.norms[1], b.norms[1]), a, b) for a, b in pairwise(layers)]
    logs = [(math.log(max(s, 1e-300)), a, b) for s, a, b in steps]
    total = sum(value for value, _, _ in logs)
    worst = min(logs, key=lambda p: p[0]) if verdict == "vanishing" else max(logs, key=lambda p: p[0])
    names = ("gains", "normalise", "skip") if not facts.skips else ("branches", "gains", "normalise")
    if len(logs) > 2 and abs(worst[0]) > 0.6 * abs(total):
        return verdict, (
            f"It happens in one place: from {worst[2].name} back to {worst[1].name} the norm changes by a factor of "
            f"{math.exp(worst[0]):.3g}, and everywhere else by {math.exp(total - worst[0]):.3g} together."
            f"{_weights_of(worst[2], facts)}"), names  # fmt: skip
    if facts.skips and verdict == "exploding":
        return verdict, (
            f"Each of the {facts.skips} residual sums adds a branch as large as what it is added to, so the mean square "
            f"grows from sum to sum. {_chi(layers, verdict)}"), names  # fmt: skip
    missing = (
        "" if facts.skips or len(layers) < 12 else f" There is no identity path around any of the {len(layers)} layers."
    )
    return verdict, _chi(layers, verdict) + _weights_of(worst[2], facts) + missing, names


def _chi(layers: Sequence[Any], verdict: str) -> str:
    known = [x for x in layers if x.chi is not None]
    if not known:
        return "The error signal is lost in one step."
    pick = min if verdict == "vanishing" else max
    worst = pick(known, key=lambda x: x.chi)
    typical = math.exp(sum(math.log(max(x.chi, 1e-300)) for x in known) / len(known))
    return (
        f"Each layer multiplies the mean square of the error signal by chi = n E[w²] E[f'(s)²], here {typical:.3g} on "
        f"average (1 would keep it); it is {worst.chi:.3g} at {worst.name} ({worst.activation or 'no activation'})."
    )


def _weights_of(layer: Any, facts: Facts) -> str:
    """How the weights' spread compares with what would keep the gradient."""
    known = facts.spreads.get(layer.name)
    if known is None:
        return ""
    own, wanted = known
    word = "small" if own < 0.95 * wanted else "large" if own > 1.05 * wanted else ""
    if not word:
        return ""
    return (
        f" The weights of {layer.name} have root mean square {own:.3g}, too {word} for "
        f"{layer.activation or 'no activation'}: {wanted:.3g} would keep it."
    )


def _scales(layers: Sequence[Any], facts: Facts) -> Iterator[Finding]:
    if facts.has_loss and not QUIET <= layers[-1].norms[1] <= LOUD:
        size = "small" if layers[-1].norms[1] < QUIET else "large"
        yield "loss scale", (
            f"The loss itself is scaled: its gradient is too {size} already at {layers[-1].name} (norm "
            f"{layers[-1].norms[1]:.3g}), and about the same in every layer.{_input_words(facts)}"
        ), (*_sources(facts), "loss scale")  # fmt: skip
    if facts.frozen:
        yield "frozen", (
            f"{_listed(facts.frozen)} {'is' if len(facts.frozen) == 1 else 'are'} held fixed (requires_grad is False) "
            "and will not learn. If that is meant, nothing is wrong."), ("unfreeze",)  # fmt: skip


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
