"""The mistake from the numbers alone: factors, signs, order, what is missing, and where the wrong entries lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..compare import Gradients, Masks
from ..program import Input
from .factors import factor_words

__all__ = ["from_numbers", "weak_pattern"]

SAME = 1e-9


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two gradients are equal up to 1e-9, or to what a short dtype holds."""
    allowed = max(SAME, 64 * torch.finfo(b.dtype).eps)
    return a.shape == b.shape and bool(((a - b).abs() <= allowed * float(b.abs().max() or 1)).all())


def from_numbers(
    claimed: Gradients, expected: Gradients, masks: Masks, names: Sequence[Input], sizes: dict[int, str]
) -> str | None:
    """A mistake that shows in the numbers and that explains every wrong input."""
    wrong = [
        (n, c, e, m)
        for n, c, e, m in zip(names, claimed, expected, masks, strict=True)
        if bool(m.any()) and e is not None
    ]
    if not wrong:
        return None
    factors = [_factor(c, e) for _, c, e, _ in wrong]
    if factors[0] is not None and all(f is not None and abs(f - factors[0]) <= 1e-8 * abs(factors[0]) for f in factors):
        which = "the gradient" if len(wrong) == len(names) else "the gradient of " + " and ".join(n for n, *_ in wrong)
        return f"a constant factor on {which}: {factor_words(factors[0], sizes)}"
    words = [_one(n, c, e, m) for n, c, e, m in wrong]
    return "; ".join(dict.fromkeys(w for w in words if w)) if all(words) else None


def _factor(c: Tensor | None, e: Tensor) -> float | None:
    if c is None or not e.numel() or c.is_complex():
        return None
    short = torch.float64 if c.dtype == torch.float64 else e.dtype
    c, e = c.double().cpu(), e.double().cpu()
    norm = float((e * e).sum())
    if norm == 0:
        return None
    factor = float((c * e).sum()) / norm
    return factor if factor != 0 and _same(c.to(short), (factor * e).to(short)) and abs(factor - 1) > 1e-12 else None


def _one(name: Input, c: Tensor | None, e: Tensor, mask: Tensor) -> str | None:
    """What is wrong with one input's gradient."""
    if not bool(e.any()):
        return f"a gradient is claimed for {name}, on which the output does not depend (or only by steps, as in rounding: " \
               "declare a straight-through estimator with surrogate=)"  # fmt: skip
    if c is None or not bool(c.any()):
        return f"the gradient of {name} is missing: it is zero"
    c, e = c.to("cpu", e.dtype), e.cpu()
    for words, moved in _orders(e):
        if moved.shape == c.shape and _same(c, moved):
            return f"the gradient of {name} is {words}"
    return _few(name, c, e, mask)


def _orders(e: Tensor) -> Iterator[tuple[str, Tensor]]:
    if e.ndim >= 2 and e.shape[-1] == e.shape[-2]:
        yield "transposed in its last two axes", e.transpose(-1, -2)
        yield "made symmetric: (G + Gᵀ)/2 stands where G belongs", (e + e.transpose(-1, -2)) / 2
        yield "added to its transpose: G + Gᵀ stands where G belongs", e + e.transpose(-1, -2)
        yield "cut to its upper triangle", e.triu()
        yield "cut to its lower triangle", e.tril()
        yield "cut to its diagonal", e * torch.eye(e.shape[-1], dtype=e.dtype)
    if not e.is_complex():
        yield "its own absolute value", e.abs()
        yield "cut off below zero", e.clamp_min(0)
        yield "clipped to [-1, 1]", e.clamp(-1, 1)
        yield "its own sign", e.sign()
        yield "its own square", e * e
    if e.ndim == 2:
        yield "transposed and read in the wrong memory order", e.t().contiguous().view(e.shape)
        yield "transposed and read in the wrong memory order", e.contiguous().view(e.shape[1], e.shape[0]).t()
    if e.ndim >= 3:
        yield "flipped in its last two axes", e.flip(-1, -2)
    if e.ndim >= 2 and e.shape[0] == e.shape[1]:
        yield "exchanged in its first two axes", e.transpose(0, 1)
    for axis in range(e.ndim):
        if e.shape[axis] > 1:
            yield f"flipped along axis {axis}", e.flip(axis)
            for step in (1, -1):
                yield f"shifted by {abs(step)} along axis {axis}", e.roll(step, axis)


def _few(name: Input, c: Tensor, e: Tensor, mask: Tensor) -> str | None:
    """Slices and single entries."""
    total, wrong = mask.numel(), int(mask.sum())
    zero = bool((c[mask] == 0).all())
    for axis in range(mask.ndim):
        others = [k for k in range(mask.ndim) if k != axis]
        lines = mask.sum(others) if others else mask.long()
        per_line = total // mask.shape[axis]
        hit = lines.nonzero().reshape(-1).tolist()
        if (
            mask.shape[axis] > 2
            and per_line > 1
            and 0 < len(hit) <= max(1, mask.shape[axis] // 4)
            and wrong >= 0.5 * len(hit) * per_line
        ):
            where = f"index {hit[0]}" if len(hit) == 1 else f"indices {', '.join(map(str, hit[:4]))}"
            how = "missing (zero)" if zero else _how(c[mask], e[mask])
            if how == "wrong":
                continue
            return f"the gradient of {name} is {how} at {where} of axis {axis} alone"
    if wrong <= 3 and total > 8:
        how = "missing (zero)" if zero else _how(c[mask], e[mask])
        if how == "wrong" and wrong > 1:
            return None
        return f"{wrong} of {total:,} entries of {name} {'is' if wrong == 1 else 'are'} {how}"
    return None


def _how(c: Tensor, e: Tensor) -> str:
    ratio = (c / e).real if c.is_complex() else c / e
    if bool(ratio.isfinite().all()) and float(ratio.max() - ratio.min()) <= 1e-8 * float(ratio.abs().max()):
        return f"off by {factor_words(float(ratio.mean()), {})}"
    return "wrong"


def weak_pattern(
    claimed: Gradients,
    expected: Gradients,
    masks: Masks,
    values: Sequence[Tensor],
    names: Sequence[Input],
    others: Sequence[Tensor],
) -> str | None:
    """Where the wrong entries lie, if nothing explains them: behind a threshold of a value, along an axis."""
    found = []
    for n, c, e, m, v in zip(names, claimed, expected, masks, values, strict=True):
        if not bool(m.any()) or e is None or c is None:
            continue
        words = _threshold(n, m, v, others) or _along_axis(n, c.to("cpu", e.dtype), e.cpu(), m)
        if words is None:
            return None
        found.append(words)
    return "; ".join(dict.fromkeys(found)) or None


def _threshold(name: Input, mask: Tensor, value: Tensor, others: Sequence[Tensor]) -> str | None:
    """Whether exactly the entries beyond a bound of a value of the same shape are wrong."""
    if bool(mask.all()) or value.is_complex() or value.numel() < 8:
        return None
    pool = [
        (str(name), value),
        *((f"{name} minus another input", value - o) for o in others if o.shape == value.shape and o is not value),
    ]
    views: list[tuple[str, Callable[[Tensor], Tensor]]] = [("{}", lambda t: t), ("|{}|", lambda t: t.abs())]
    for label, tensor in pool:
        for form, view in views:
            t, m = view(tensor.double().cpu()), mask
            low_in, high_in = float(t[m].min()), float(t[m].max())
            low_out, high_out = float(t[~m].min()), float(t[~m].max())
            if low_in > high_out:
                return f"a branch is wrong: exactly the entries with {form.format(label)} above about {(low_in + high_out) / 2:.4g}"
            between = (t > low_in) & (t < high_in) & ~m
            if low_out < low_in and high_in < high_out and not bool(between.any()) and int(m.sum()) > 2:
                return f"a branch is wrong: exactly the entries with {form.format(label)} from {low_in:.4g} to {high_in:.4g}"
            if high_in < low_out:
                return f"a branch is wrong: exactly the entries with {form.format(label)} below about {(high_in + low_out) / 2:.4g}"
    return None


def _along_axis(name: Input, c: Tensor, e: Tensor, mask: Tensor) -> str | None:
    """A difference or ratio that is constant along an axis."""
    if c.is_complex():
        return None
    for axis in range(c.ndim):
        if c.shape[axis] < 2 or c.numel() == c.shape[axis]:
            continue
        difference, ratio = c - e, c / e
        spread = float((difference - difference.mean(axis, keepdim=True)).abs().max())
        if spread <= SAME * float(e.abs().max()):
            return f"a term of {name} that is constant along axis {axis} is missing or too much"
        usable = ratio.isfinite().all()
        if usable and float((ratio - ratio.mean(axis, keepdim=True)).abs().max()) <= 1e-8 * float(ratio.abs().max()):
            return f"a factor on {name} that is constant along axis {axis} is missing or too much"
    return None
