"""Single edits of the backward pass, tried one by one until one gives the claimed gradient.

An edit changes one operation of the recorded backward pass: its result scaled by an unknown factor, an operand replaced by
another tensor of the run, transposed, flipped, moved or put through another function, a sum taken over another axis, indices
written instead of added up. The unknown factor is fitted; the edit is believed if all claimed entries follow to 1e-9.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..compare import Gradients
from .candidates import candidates, forward_candidates, together
from .factors import factor_words, is_plain
from .found import ACCURACY, Found
from .tape import Step, Tape

__all__ = ["search", "search_each"]

SECONDS = 4.0
MOST_PARTS = 60
PROBES = 3
LOOSE = 1e-6


def _dot(a: Tensor, b: Tensor) -> float:
    return (
        float((a.conj() * b).real.sum()) if a.is_complex() or b.is_complex() else float(a.reshape(-1) @ b.reshape(-1))
    )


class _Match:
    """Compares gradients with the claimed ones through one long vector."""

    def __init__(self, claimed: Gradients, values: Sequence[Tensor]) -> None:
        self.values = values
        coarsest = max((torch.finfo(v.dtype).eps for v in values), default=0.0)
        self.accuracy = max(ACCURACY, 64 * coarsest)
        self.target = self.vector(claimed)
        self.size = float(self.target.abs().max()) or 1.0
        generator = torch.Generator().manual_seed(3)
        self.probes = [
            torch.randn(self.target.shape, dtype=self.target.dtype, generator=generator) for _ in range(PROBES)
        ]
        self.shown = self.seen(self.target)

    def seen(self, vector: Tensor) -> list[float]:
        """A gradient along a few Gaussian directions: what is not the same there need not be looked at in full."""
        return [_dot(p, vector) for p in self.probes]

    def may_fit(self, base: list[float], part: list[float]) -> bool:
        """Whether claimed = base + c · part along the Gaussian directions for one c."""
        missing = [t - b for t, b in zip(self.shown, base, strict=True)]
        size = max(map(abs, (*missing, *self.shown, *base)))
        if not max(map(abs, part)) > 0 or not math.isfinite(sum(part)):
            return False
        k = max(range(PROBES), key=lambda k: abs(part[k]))
        c = missing[k] / part[k]
        return all(abs(m - c * p) <= LOOSE * size for m, p in zip(missing, part, strict=True))

    def vector(self, gradients: Gradients) -> Tensor:
        if any(g is not None and g.shape != v.shape for g, v in zip(gradients, self.values, strict=True)):
            raise ValueError("a gradient of another shape")
        parts = [torch.zeros(v.numel(), dtype=v.dtype) if g is None else g.detach().reshape(-1).to("cpu", v.dtype)
                 for g, v in zip(gradients, self.values, strict=True)]  # fmt: skip
        return torch.cat(parts)

    def factor(self, base: Tensor, part: Tensor) -> float | None:
        """c with claimed = base + c · part, if there is one."""
        norm = float((part.conj() * part).real.sum())
        if not norm > 0 or not torch.isfinite(part).all():
            return None
        c = float((part.conj() * (self.target - base)).real.sum()) / norm
        off = (self.target - base - c * part).abs()
        scale = max(float(base.abs().max()), self.size)
        tight = off <= self.accuracy * torch.maximum(self.target.abs(), torch.full_like(off, 1e-3 * scale))
        return c if bool(tight.all()) else None


def search(
    tape: Tape, claimed: Gradients, values: Sequence[Tensor], sizes: dict[int, str], names: dict[int, str]
) -> Found | None:
    """The first single edit that gives the claimed gradient.

    Args:
        tape: the recorded passes.
        claimed: the gradient to be explained.
        values: the inputs.
        sizes: what counts, by number ("5": "the last axis of x"), for putting factors in words.
        names: the inputs by their number on the tape.
    """
    match, until = _Match(claimed, values), time.thread_time() + SECONDS
    right = match.vector(tape.result({}))
    with torch.no_grad():
        return (
            _scaled(tape, match, right, sizes, until)
            or _throughout(tape, match, names, until)
            or _edited(tape, match, claimed, sizes, names, until)
            or _throughout(tape, match, names, until, far=True)
            or _edited(tape, match, claimed, sizes, names, until, far=True)
            or _forward(tape, match, names, until)
        )


@dataclass(frozen=True)
class _Part:
    """What flows through one place of the backward pass: the step, and its share of the gradient as a long vector."""

    step: Step
    share: Tensor


def search_each(
    tape: Tape,
    claimed: Gradients,
    wrong: Sequence[int],
    values: Sequence[Tensor],
    sizes: dict[int, str],
    names: dict[int, str],
) -> Found | None:
    """An edit for each wrong input by itself, where several mistakes were made."""
    found: list[Found] = []
    for i in wrong:
        own = Tape(tape.steps, tape.values, tape.leaves, tape.weights, [tape.gradients[i]])
        one = search(own, [claimed[i]], [values[i]], sizes, names)
        if one is None:
            return None
        found.append(replace(one, words=f"in the gradient of {names.get(tape.leaves[i], f'input {i}')}: {one.words}"))
    words = "; ".join(dict.fromkeys(f.words for f in found))
    return replace(found[0], words=words) if found else None


def _scaled(tape: Tape, match: _Match, right: Tensor, sizes: dict[int, str], until: float) -> Found | None:
    """One result, one operand of a sum, or two results together times an unknown factor."""
    parts: list[_Part] = []
    for at, step, changed in _doubled(tape):
        if time.thread_time() > until:
            break
        made = _try(tape, at, changed)
        if made is None:
            continue
        share = match.vector(made) - right
        c = match.factor(right, share)
        if c is not None and abs(c) > 1e-12:
            return Found(_scale_words(1 + c, step, sizes), step.name, step.line)
        if bool(share.any()) and len(parts) < MOST_PARTS:
            parts.append(_Part(step, share))
    return _two(parts, match, right, sizes)


def _doubled(tape: Tape) -> Iterator[tuple[int, Step, object]]:
    """Every step of the backward pass with one result doubled, or for sums with one operand doubled."""
    for at, step in tape.backward_steps():
        if not any(n in tape.carried for n in step.outs if n >= 0):
            continue
        for k, number in enumerate(step.outs):
            if number >= 0 and (tape.values[number].is_floating_point() or tape.values[number].is_complex()):
                outs = [tape.values.get(n) for n in step.outs]
                outs[k] = 2 * tape.values[number]
                yield at, step, tuple(outs)
        if step.name in ("add", "sub", "rsub", "add_"):
            flat = tape.arguments(step)
            for place, number in step.operands:
                if number in tape.carried:
                    yield at, step, tape.call(step, [*flat[:place], 2 * tape.values[number], *flat[place + 1 :]])[0]


def _two(parts: list[_Part], match: _Match, right: Tensor, sizes: dict[int, str]) -> Found | None:
    """Two places at once with the same factor, such as two terms that are dropped."""
    base, seen = match.seen(right), [match.seen(p.share) for p in parts]
    for (a, one), (b, two) in itertools.combinations(zip(parts, seen, strict=True), 2):
        if not match.may_fit(base, [x + y for x, y in zip(one, two, strict=True)]):
            continue
        c = match.factor(right, a.share + b.share)
        if c is not None:
            words = _scale_words(1 + c, a.step, sizes)
            return Found(f"{words}; so does {_called(b.step)}", a.step.name, a.step.line)
    return None


def _scale_words(c: float, step: Step, sizes: dict[int, str]) -> str:
    what = _called(step)
    if abs(c) < 1e-9:
        return f"a term is dropped: {what} does not arrive"
    if abs(c + 1) < 1e-9:
        return f"the sign of {what} is reversed"
    return f"{what} has {factor_words(c, sizes)}"


def _called(step: Step) -> str:
    kind = {"sum": "the sum", "mm": "the matrix product", "bmm": "the matrix product", "mul": "the product", "div": "the quotient",
            "convolution_backward": "the convolution's gradient", "neg": "the negative part", "t": "the transposed factor",
            "expand": "the mean or sum spread over its axis"}.get(step.name, f"the result of {step.name}")  # fmt: skip
    return f"{kind} in the backward pass" + (f" of line {step.line}" if step.line else "")


def _try(tape: Tape, at: int, out: object) -> list[Tensor | None] | None:
    try:
        return tape.replay(at, lambda _: out)
    except (RuntimeError, IndexError, ValueError, TypeError):
        return None


def _edited(
    tape: Tape,
    match: _Match,
    claimed: Gradients,
    sizes: dict[int, str],
    names: dict[int, str],
    until: float,
    far: bool = False,
) -> Found | None:
    """One operand or operation replaced; an unknown factor is fitted besides."""
    for at, step in tape.backward_steps():
        place = _place(tape, match, at, step)
        if place is None:
            continue
        for words, flat, function in candidates(tape, step, claimed, names, far):
            if time.thread_time() > until:
                return None
            c = _fits(tape, match, place, flat, function)
            if c is not None and is_plain(c, sizes):
                extra = "" if abs(c - 1) < 1e-9 else f", with {factor_words(c, sizes)}"
                return Found(f"{words}{extra}", step.name, step.line)
    return None


@dataclass(frozen=True)
class _Place:
    """A step whose result may be another: what is left of the gradient without it, and how a result is seen by the probes."""

    at: int
    step: Step
    outs: list[Tensor]
    base: Tensor
    shown: list[float]
    views: list[list[Tensor | None]] | None


def _place(tape: Tape, match: _Match, at: int, step: Step) -> _Place | None:
    outs = [tape.values[n] for n in step.outs if n >= 0]
    if not outs or not (outs[0].is_floating_point() or outs[0].is_complex()) or step.function.is_view:
        return None
    nothing = _try(tape, at, tuple(torch.zeros_like(o) for o in outs))
    if nothing is None:
        return None
    base = match.vector(nothing)
    if float((match.target - base).abs().max()) <= match.accuracy * match.size:
        return None
    linear = any(n in tape.carried for n in step.outs)
    return _Place(at, step, outs, base, match.seen(base), _views(tape, match, at, outs) if linear else None)


def _views(tape: Tape, match: _Match, at: int, outs: list[Tensor]) -> list[list[Tensor | None]] | None:
    """For each probe v the tensor a with ⟨v, gradient⟩ = ⟨a, result⟩ + constant: the steps that follow are linear."""
    if any(not o.is_floating_point() for o in outs):
        return None
    with torch.enable_grad():
        leaves = [o.detach().clone().requires_grad_() for o in outs]
        made = _try(tape, at, tuple(leaves))
        if made is None:
            return None
        kept = [(g, p) for g, p in zip(made, _split(match), strict=True) if g is not None and g.requires_grad]
        if not kept:
            return None
        ends = [g for g, _ in kept]
        try:
            return [list(torch.autograd.grad(ends, leaves, [p[k] for _, p in kept], retain_graph=True, allow_unused=True))
                    for k in range(PROBES)]  # fmt: skip
        except RuntimeError:
            return None


def _split(match: _Match) -> list[list[Tensor]]:
    """The probes, cut into the shapes of the inputs."""
    sizes = [v.numel() for v in match.values]
    cut = [p.split(sizes) for p in match.probes]
    return [[c[i].reshape(v.shape).to(v.device) for c in cut] for i, v in enumerate(match.values)]


def _fits(tape: Tape, match: _Match, place: _Place, flat: list[Any], function: Any) -> float | None:
    """The factor with which another result at this place gives the claimed gradient."""
    step = place.step
    try:
        made = tape.call(step, flat, function)
        if made[0].shape != place.outs[0].shape and step.name not in ("sum", "mean"):
            return None
        same = all(m.shape == o.shape for m, o in zip(made, place.outs, strict=False) if m is not None)
        if place.views is not None and same and not match.may_fit(place.shown, _through(place.views, made)):
            return None
        changed = match.vector(tape.replay(place.at, lambda _: tuple(made)))
    except (RuntimeError, IndexError, ValueError, TypeError):
        return None
    if any(n in tape.carried for n in step.outs):
        return match.factor(place.base, changed - place.base)
    return 1.0 if _same(match, changed) else None


def _through(views: list[list[Tensor | None]], made: list[Any]) -> list[float]:
    return [sum(_dot(a, m) for a, m in zip(view, made, strict=False) if a is not None and m is not None)
            for view in views]  # fmt: skip


def _forward(tape: Tape, match: _Match, names: dict[int, str], until: float) -> Found | None:
    """A value of the forward pass that the backward pass has otherwise: another constant, another correction."""
    for at, step in enumerate(tape.steps):
        if step.backward:
            return None
        for words, flat, function in forward_candidates(tape, step, names):
            if time.thread_time() > until:
                return None
            try:
                made = tape.call(step, flat, function)
                changed = match.vector(tape.replay(at, lambda _, made=made: tuple(made)))  # type: ignore[misc]
            except (RuntimeError, IndexError, ValueError, TypeError):
                continue
            if _same(match, changed):
                return Found(words, step.name, step.line)
    return None


def _throughout(tape: Tape, match: _Match, names: dict[int, str], until: float, far: bool = False) -> Found | None:
    """The same edit at every step of a loop: a line whose operation occurs several times in the backward pass."""
    for step, words, edits in together(tape, names, far):
        if time.thread_time() > until:
            return None
        try:
            changed = match.vector(tape.replay_many(edits))
        except (RuntimeError, IndexError, ValueError, TypeError):
            continue
        if _same(match, changed):
            return Found(f"{words}, at every place of this kind", step.name, step.line)
    return None


def _same(match: _Match, changed: Tensor) -> bool:
    off = (match.target - changed).abs()
    return bool(
        (off <= match.accuracy * torch.maximum(match.target.abs(), torch.full_like(off, 1e-3 * match.size))).all()
    )
