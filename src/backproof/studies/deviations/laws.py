"""The law of a sequence of factors, one per update: a warm-up, a decay, a staircase, a period."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

__all__ = ["law_of"]

CLOSE = 1e-6


def law_of(factors: Sequence[float]) -> str:
    """A formula in t for factors f_1, f_2, ..., with its name; "" where none is seen.

    Example:
        >>> from backproof.studies.deviations.laws import law_of
        >>> law_of([0.25, 0.5, 0.75, 1, 1, 1])
        'min(1, t/4), a linear warm-up over 4 updates'
    """
    f = list(factors)
    if all(x < 0 for x in f):
        found = law_of([-x for x in f])
        return f"minus ({found})" if found else ""
    laws = _LAWS if not any(map(math.isnan, f)) else _LATER
    return next((found for law in laws if (found := law(f))), "")


def _line(values: Sequence[float]) -> tuple[float, float] | None:
    """(a, b) where the values are a + b t for t = 1, 2, ...; None where they are on no line."""
    known = [(t, v) for t, v in enumerate(values, 1) if not math.isnan(v)]
    if len(known) < 3:
        return None
    (first, start), (last, end) = known[0], known[-1]
    b = (end - start) / (last - first)
    a = start - b * first
    size = max(abs(v) for _, v in known) or 1.0
    return (a, b) if all(abs(a + b * t - v) <= CLOSE * size for t, v in known) else None


def _mapped(values: Sequence[float], function: Callable[[float], float]) -> list[float]:
    try:
        return [function(v) for v in values]
    except (ValueError, ZeroDivisionError, OverflowError):
        return []


def _flat(f: list[float]) -> str:
    return f"{_n(f[0])} in every update" if max(f) - min(f) <= CLOSE * abs(f[0]) else ""


def _warm(f: list[float]) -> str:
    """A line up to a constant."""
    top = f[-1]
    rising = next((k for k, v in enumerate(f) if abs(v - top) <= CLOSE * abs(top)), len(f))
    if rising == 0 or any(abs(v - top) > CLOSE * abs(top) for v in f[rising:]):
        return ""
    if rising < 3:
        listed = ", ".join(map(_n, f[:rising]))
        return f"{listed} in the first {'update' if rising == 1 else f'{rising} updates'}, then {_n(top)}"
    line = _line(f[:rising])
    if line is None:
        return ""
    a, b = line
    text = _affine(a, b)
    if rising == len(f):
        return f"{text}, a line in t" if b < 0 else f"{text}, a linear warm-up that goes on after update {len(f)}"
    kind = "a linear warm-up" if b > 0 else "a linear decay"
    bound = "min" if b > 0 else "max"
    over = f" over {rising + 1} updates" if abs(a + b * (rising + 1) - top) <= CLOSE else f" over {rising} updates"
    return f"{bound}({_n(top)}, {text}), {kind}{over}"


def _affine(a: float, b: float) -> str:
    inverse = 1 / b if b else 0.0
    if abs(inverse - round(inverse)) < 1e-5 * abs(inverse):
        shift = a * inverse
        top = "t" if abs(shift) < 1e-6 else f"(t {'+' if shift > 0 else '-'} {_n(abs(shift))})"
        return f"{top}/{_n(inverse)}" if inverse > 0 else f"{_n(a)} - t/{_n(-inverse)}"
    return f"{_n(a)} + {_n(b)} t" if abs(a) > 1e-9 else f"{_n(b)} t"


def _power(f: list[float]) -> str:
    logs = _mapped(f, math.log)
    if not logs or abs(f[0] - f[-1]) < CLOSE:
        return ""
    p = (logs[-1] - logs[0]) / math.log(len(f))
    if any(abs(logs[0] + p * math.log(t) - v) > CLOSE for t, v in enumerate(logs, 1)):
        return ""
    named = {-0.5: "1/sqrt(t)", -1.0: "1/t", 0.5: "sqrt(t)"}
    power = next((text for value, text in named.items() if abs(p - value) < CLOSE), f"t^{_n(p)}")
    return (f"{_n(f[0])} * " if abs(f[0] - 1) > CLOSE else "") + f"{power}, a power of t"


def _geometric(f: list[float]) -> str:
    logs = _mapped(f, math.log)
    line = _line(logs) if logs else None
    if line is None or abs(line[1]) < CLOSE:
        return ""
    rate, first = math.exp(line[1]), math.exp(line[0] + line[1])
    start = f"{_n(first)} * " if abs(first - 1) > CLOSE and abs(first - rate) > CLOSE else ""
    power = "t" if abs(first - rate) <= CLOSE else "(t - 1)"
    return f"{start}{_n(rate)}^{power}, an exponential {'decay' if rate < 1 else 'growth'}"


def _inverse(f: list[float]) -> str:
    for power, text in ((1, "1/({})"), (2, "1/sqrt({})")):
        values = _mapped(f, lambda v, n=power: v**-n)  # type: ignore[misc]
        line = _line(values) if values else None
        if line is not None and abs(line[1]) > CLOSE:
            a, b = line
            inside = (
                "t"
                if abs(a) < CLOSE and abs(b - 1) < CLOSE
                else f"1 + {_n(b)} (t - 1)"
                if abs(a + b - 1) < CLOSE
                else f"{_n(a)} + {_n(b)} t"
            )
            return text.format(inside) + ", an inverse decay"
    return ""


def _averaging(f: list[float]) -> str:
    """What bias corrections are made of."""
    forms: tuple[tuple[Callable[[float], float], str], ...] = (
        (lambda v: math.log(1 - v), "1 - {}^t"), (lambda v: math.log(1 - v * v), "sqrt(1 - {}^t)"),
        (lambda v: math.log(1 - 1 / v), "1/(1 - {}^t)"), (lambda v: math.log(1 - 1 / (v * v)), "1/sqrt(1 - {}^t)"),
    )  # fmt: skip
    for form, text in forms:
        logs = _mapped(f, form)
        line = _line(logs) if logs else None
        if line is not None and abs(line[0]) < CLOSE and line[1] < -CLOSE:
            return text.format(_n(math.exp(line[1])))
    return ""


def _rising(f: list[float]) -> str:
    """What tends to 1 as 1 minus a power of t, or minus the inverse of a line in t."""
    values = _mapped(f, lambda v: 1 / (1 - v))
    line = _line(values) if values else None
    if line is not None and abs(line[1]) > CLOSE:
        return f"1 - 1/({_n(line[0])} + {_n(line[1])} t)"
    logs = _mapped(f[1:], lambda v: math.log(1 - v))
    if not logs:
        return ""
    p = (logs[-1] - logs[0]) / math.log(len(f) / 2)
    start = logs[0] - p * math.log(2)
    if abs(p) < CLOSE or any(abs(start + p * math.log(t) - v) > CLOSE for t, v in enumerate(logs, 2)):
        return ""
    share = "" if abs(start) < CLOSE else f"{_n(math.exp(start))} "
    return f"1 - {share}t^{_n(p)}"


def _cosine(f: list[float]) -> str:
    """low + (high - low) (1 + cos(pi (t - 1)/T))/2: equal to its mean of neighbours up to one factor."""
    middle = [(f[k - 1] + f[k + 1], f[k]) for k in range(1, len(f) - 1)]
    (x1, y1), (x2, y2) = middle[0], middle[-1]
    if len(f) < 6 or abs(y2 - y1) < CLOSE:
        return ""
    slope = (x2 - x1) / (y2 - y1)
    offset = x1 - slope * y1
    if not -2 < slope < 2 or any(abs(offset + slope * y - x) > 1e-5 for x, y in middle):
        return ""
    angle = math.acos(slope / 2)
    mean = offset / (2 - slope)
    return f"a cosine around {_n(mean)} with a half period of {_n(math.pi / angle)} updates, a cosine decay"


def _stairs(f: list[float]) -> str:
    jumps = [k for k in range(1, len(f)) if abs(f[k] - f[k - 1]) > CLOSE * abs(f[k - 1])]
    if not jumps:
        return ""
    if len(jumps) > 1 and len({b - a for a, b in pairwise(jumps)}) > 1:
        return ""
    levels = [f[0], *(f[k] for k in jumps)]
    listed = ", ".join(map(_n, levels[:4]))
    every = f" every {jumps[1] - jumps[0]} updates" if len(jumps) > 1 else ""
    return f"a staircase{every}: {listed}, with the first jump at update {jumps[0] + 1}" if _steady(levels) else ""


def _steady(levels: list[float]) -> bool:
    """Whether each level is the same multiple of the one before."""
    if not all(levels[:-1]):
        return False
    ratios = [b / a for a, b in pairwise(levels)]
    return all(abs(r - ratios[0]) <= CLOSE * abs(ratios[0]) for r in ratios)


def _cyclic(f: list[float]) -> str:
    for k in range(2, len(f) // 2 + 1):
        if all(abs(a - b) <= CLOSE for a, b in zip(f, f[k:], strict=False)):
            return f"{', '.join(map(_n, f[:k]))}, and so on every {k} updates"
    return ""


def _n(value: float) -> str:
    return f"{round(value, 9):.6g}"


_LAWS: tuple[Callable[[list[float]], str], ...] = (
    _flat, _averaging, _power, _geometric, _inverse, _cyclic, _warm, _stairs, _rising, _cosine,
)  # fmt: skip
_LATER: tuple[Callable[[list[float]], str], ...] = (_averaging, _geometric, _inverse, _rising)
"""Those that can do without the first factors."""
