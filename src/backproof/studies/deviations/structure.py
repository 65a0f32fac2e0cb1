"""What an optimizer does as a function: questions to it by short runs, each with an answer in plain words.

They need no rule, and hold for whatever was measured: does an entry's step depend on other entries, on w, on the size of
the gradient, on the number of the update?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...errors import InputError
from .box import Box
from .laws import law_of
from .probes import SHAPES

__all__ = ["Measured", "at_random", "structure"]

UPDATES = 8
SAME = 1e-9
Array = Any


@dataclass(frozen=True)
class Measured:
    """One thing that was measured: the question, and the answer in words."""

    question: str
    answer: str

    def to_dict(self) -> dict[str, str]:
        """As plain data."""
        return {"question": self.question, "answer": self.answer}


@dataclass(frozen=True)
class Walk:
    """A box with the parameters and gradients that all questions start from."""

    box: Box
    starts: list[Array]
    gradients: list[list[Array]]
    lr: float

    def steps(
        self,
        of_g: Callable[[Array], Array] = lambda g: g,
        of_w: Callable[[Array], Array] = lambda w: w,
        lr: float | None = None,
    ) -> list[Array]:
        """The steps w_before - w of each parameter, [updates, *shape], with changed gradients, starts or rate."""
        starts = [of_w(s) for s in self.starts]
        gradients = [[of_g(g) for g in now] for now in self.gradients]
        went = self.box.went(starts, gradients, [self.lr if lr is None else lr] * len(gradients))
        return [-np.diff(np.concatenate([s[None], w]), axis=0) for s, w in zip(starts, went, strict=True)]

    def with_one(self, place: int, change: float) -> list[Array]:
        """The steps with one entry of one gradient changed in the first update."""
        first = [g.copy() for g in self.gradients[0]]
        first[place].reshape(-1)[0] += change
        return Walk(self.box, self.starts, [first, *self.gradients[1:]], self.lr).steps()


def structure(make: Any, lr: float, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Measured]:
    """The answers of an optimizer that is not random to all questions.

    Raises:
        InputError: it cannot take a step.
    """
    rng = np.random.default_rng(3)
    starts = [rng.normal(size=s) for s in shapes]
    walk = Walk(Box(make), starts, [[rng.normal(size=s) for s in shapes] for _ in range(UPDATES)], lr)
    base = walk.steps()
    if not all(np.isfinite(b).all() for b in base):
        return [Measured("is w finite?", _unfinite(base))]
    found: list[Measured] = []
    for ask in (_moves, _neighbours, _weights, _signs, _sizes, _rates, _shifts, _times):
        try:
            with np.errstate(all="ignore"):
                found += list(ask(walk, base))
        except InputError as error:
            found.append(Measured("could every question be asked?", f"no: {error}"))
            break
    return found


def _unfinite(base: list[Array]) -> str:
    update = min(int(np.argmin(np.isfinite(b).reshape(len(b), -1).all(1))) for b in base if not np.isfinite(b).all())
    return f"no: with ordinary random gradients it is NaN or infinite from update {update + 1} on"


def _apart(a: Array, b: Array) -> Array:
    """Whether two arrays of steps differ, entry by entry."""
    size = np.maximum(np.abs(a), np.abs(b))
    with np.errstate(invalid="ignore"):
        return ~(np.abs(a - b) <= SAME * np.maximum(size, np.max(size, initial=0) * 1e-3))


# --- the questions ----------------------------------------------------------------------------------------------------------------
def _moves(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    still = [k + 1 for k, b in enumerate(base) if not b.any()]
    if still:
        which = ", ".join(map(str, still))
        yield Measured("does every parameter move?", f"no: parameter {which} of {len(base)} never moves")
    idle = [t + 1 for t in range(UPDATES) if not any(b[t].any() for b in base)]
    if idle:
        yield Measured("does w move in every update?", f"no: not in update {', '.join(map(str, idle))} of {UPDATES}")


def _neighbours(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    other = walk.with_one(0, 0.7)
    within = [_apart(a, b) for a, b in zip(base, other, strict=True)]
    first = within[0].reshape(UPDATES, -1)
    if first[:, 1:].any():
        at = int(np.argmax(first[:, 1:].any(1))) + 1
        share = first[at - 1, 1:].mean()
        yield Measured(
            "does the step of an entry depend on the gradients of the other entries?",
            f"yes: one entry of a gradient changed in update 1 moves {share:.0%} of the other entries otherwise in update {at}",
        )
    else:
        yield Measured("does the step of an entry depend on the gradients of the other entries?", "no")
    others = [k + 1 for k in range(1, len(base)) if within[k].any()]
    yield Measured(
        "does the step of a parameter depend on the gradients of the other parameters?",
        f"yes: a gradient of parameter 1 changes the steps of parameter {', '.join(map(str, others))}"
        if others
        else "no",
    )


def _weights(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    question = "does the step depend on w itself?"
    moved = walk.steps(of_w=lambda w: w + 1.0)
    twice = walk.steps(of_w=lambda w: w + 2.0)
    if not any(_apart(a[0], b[0]).any() for a, b in zip(base, moved, strict=True)):
        later = any(_apart(a, b).any() for a, b in zip(base, moved, strict=True))
        yield Measured(question, "not in the first update, but later" if later else "no")
        return
    slopes = np.concatenate([(b[0] - a[0]).reshape(-1) for a, b in zip(base, moved, strict=True)])
    again = np.concatenate([(b[0] - a[0]).reshape(-1) for a, b in zip(moved, twice, strict=True)])
    if np.allclose(slopes, again, rtol=1e-6, atol=1e-12) and np.allclose(slopes, slopes[0], rtol=1e-6):
        yield Measured(
            question, f"yes: w shrinks by {slopes[0]:.6g} = lr * {slopes[0] / walk.lr:.6g} times itself in update 1"
        )
    elif np.allclose(slopes, again, rtol=1e-6, atol=1e-12):
        unlike = ", ".join(f"{b[0].reshape(-1)[0] - a[0].reshape(-1)[0]:.4g}" for a, b in zip(base, moved, strict=True))
        yield Measured(
            question, f"yes, linearly, with another factor for other parameters or entries (first entries: {unlike})"
        )
    else:
        yield Measured(question, "yes, and not linearly")


def _signs(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    other = walk.steps(of_g=lambda g: -g, of_w=lambda w: -w)
    odd = not any(_apart(a, -b).any() for a, b in zip(base, other, strict=True))
    yield Measured("do the opposite gradients (and w) give the opposite steps?", "yes" if odd else "no")


def _sizes(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    """The degree in g, from tiny to huge gradients: saturation is clipping."""
    question = "how does the first step grow with the gradient?"
    scales = [10.0**k for k in (-6, -4, -2, 0, 2, 4, 6)]
    zero = [s[0] for s in walk.steps(of_g=lambda g: 0 * g)]
    lengths = []
    for c in scales:
        steps = walk.steps(of_g=lambda g, c=c: c * g)  # type: ignore[misc]
        lengths.append(math.sqrt(sum(float(((s[0] - z) ** 2).sum()) for s, z in zip(steps, zero, strict=True))))
    if not all(0 < x < math.inf for x in lengths):
        shown = ", ".join(f"{x:.3g}" for x in lengths)
        yield Measured(question, f"for gradients times 1e-6, 1e-4, ... 1e6 its length is {shown}")
        return
    powers = [math.log(b / a) / math.log(100) for a, b in pairwise(lengths)]
    if max(powers) - min(powers) < 0.02:
        yield Measured(
            question, f"as its power {round(sum(powers) / len(powers), 2) + 0.0:g}, from 1e-6 to 1e6 times the gradient"
        )
    else:
        shown = ", ".join(f"{round(p, 2) + 0.0:g}" for p in powers)
        cap = f" (it ends at a length of {lengths[-1]:.6g})" if abs(powers[-1]) < 0.02 < powers[0] else ""
        yield Measured(
            question, f"with powers that change: {shown} between 1e-6, 1e-4, ... 1e6 times the gradient{cap}"
        )


def _rates(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    half = walk.steps(lr=walk.lr / 2)
    ratios = np.concatenate([(b[0] / a[0])[a[0] != 0].reshape(-1) for a, b in zip(base, half, strict=True)])
    question = "what does half the learning rate do to the first step?"
    if not len(ratios):
        return
    same = np.allclose(ratios, ratios[0], rtol=1e-6)
    yield Measured(question, f"it is multiplied by {ratios[0]:.6g}" if same else
                   f"its entries are multiplied by {ratios.min():.4g} to {ratios.max():.4g}")  # fmt: skip


def _shifts(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    moved = walk.steps(of_g=lambda g: g + 0.7)
    same = [not _apart(a, b).any() for a, b in zip(base, moved, strict=True)]
    if any(same):
        which = "all parameters" if all(same) else ", ".join(f"parameter {k + 1}" for k, x in enumerate(same) if x)
        yield Measured("does a number added to all entries of the gradient change the steps?",
                       f"no, for {which}: the gradient is centralised")  # fmt: skip


def _times(walk: Walk, base: list[Array]) -> Iterator[Measured]:
    """The same gradient in every update: the length of each step over that of the first that is not 0."""
    count = 16
    same = Walk(walk.box, walk.starts, [walk.gradients[0]] * count, walk.lr).steps()[0]
    lengths = np.sqrt((same.reshape(count, -1) ** 2).sum(1))
    first = next((float(x) for x in lengths if x), 0.0)
    if first:
        factors = [float(x) / first for x in lengths]
        law = law_of(factors)
        shown = ", ".join(f"{x:.4g}" for x in factors[:8])
        yield Measured(
            "how long are the steps under the same gradient, over the first?",
            f"{shown}, ..." + (f": {law}" if law else ""),
        )


# --- at random ------------------------------------------------------------------------------------------------------------------
def at_random(make: Any, lr: float, rule_step: Callable[[Array, Array], Array]) -> str:
    """In what an optimizer is random, in words; "" where two runs give the same.

    Args:
        make: from parameters to the optimizer.
        lr: the learning rate.
        rule_step: the first step of the rule, from w and g.
    """
    rng = np.random.default_rng(5)
    w, g = rng.normal(size=(8, 8)), rng.normal(size=(8, 8))
    box = Box(make)

    def steps(scale: float = 1.0, rate: float = lr, count: int = 60) -> Array:
        return np.stack([w - box.went([w], [[scale * g]], [rate])[0][0] for _ in range(count)])

    once, again = steps(count=2)
    if not np.isfinite(once).all():
        return ""
    if _same(once, again) and not _later_random(box, w, g, lr):
        return ""
    if _same(once, again):
        return "it is random from a later update on: two runs with the same gradients give different w"
    base = steps()
    return _noise(base, steps(2.0), steps(1.0, lr / 2), rule_step(w, g), lr)


def _same(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _later_random(box: Box, w: Array, g: Array, lr: float) -> bool:
    runs = [box.went([w], [[g]] * UPDATES, [lr] * UPDATES)[0] for _ in range(2)]
    return not _same(*runs) and bool(np.isfinite(runs[0]).all())


def _noise(base: Array, doubled: Array, halved: Array, rule: Array, lr: float) -> str:
    still = float((base == 0).mean())
    if still > 0.02:
        return f"it is random: {still:.0%} of the entries, drawn anew in each update, do not move"
    size = float(base.std(0).mean())
    with_g, with_lr = (float(x.std(0).mean()) / size for x in (doubled, halved))
    centre = "its mean is the rule's step" if _centred(base, rule) else "its mean is not the rule's step"
    if abs(with_lr - 0.5) < 0.1:
        grows = ", growing with the gradient" if with_g > 1.5 else ""
        what = f"with a standard deviation of {size:.3g} = lr * {size / lr:.3g}{grows}, as of noise in the gradient"
    else:
        what = (
            f"with a standard deviation of {size:.3g} that does not go with lr ({with_lr:.2g} times at half the rate)"
        )
    return f"random noise is added to the step, {what}; over {len(base)} draws {centre} to within its error"


def _centred(base: Array, rule: Array) -> bool:
    error = base.std(0) / math.sqrt(len(base))
    return bool((np.abs(base.mean(0) - rule) <= 5 * error + 1e-12).mean() > 0.98)
