"""An edit of an update rule in words of the field."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from .edits import Edit
from .laws import law_of
from .program import Program, text_of
from .search import Found

__all__ = ["changed_lines", "said"]

ROLES = {
    "eps": "eps",
    "lr": "the learning rate",
    "weight_decay": "the weight decay",
    "dampening": "the dampening",
    "momentum": "the momentum",
    "amsgrad": "AMSGrad",
}


def said(found: Found, start: Program, known: Mapping[str, float]) -> str:
    """The deviation as one phrase; ``known`` are the settings, one of which a fitted number may be."""
    programs = [start, *(e.program for e in found.edits)]
    parts = [
        _timed(e, _numbered(_SAID[e.kind](e, before), number, known))
        for e, before, number in zip(found.edits, programs, found.numbers, strict=False)
    ]
    return _both_corrections(found) or ", and ".join(parts)


def _timed(e: Edit, text: str) -> str:
    return f"{e.when}, {text}" if e.when else text


def _numbered(text: str, number: float | None, known: Mapping[str, float]) -> str:
    if number is None:
        return text
    like = f"{_number(number)}{_relation(number, known)}"
    if "{c}" not in text:
        return f"{text}: {like}"
    first, rest = text.split("{c}", 1)
    if first == "it goes as if dampening were " and like.endswith("(also momentum)"):
        first = f"m is an average: after the first update the gradient is multiplied by 1 - momentum; {first}"
    return f"{first}{like if rest.count('{c}') == 0 else _number(number)}{rest}".replace("{c}", like)


def _relation(number: float, known: Mapping[str, float]) -> str:
    """In words, the setting that a number is, or its square or what is left of it to 1."""
    for name, value in ((k, v) for k, v in known.items() if k != "lr"):
        for form, other in (("{}", value), ("1 - {}", 1 - value), ("{}^2", value**2), ("sqrt({})", abs(value) ** 0.5)):
            if other not in (0, 1, 2) and abs(number - other) <= 1e-7 * abs(other):
                return f" (also {form.format(name)})"
    return ""


def changed_lines(start: Program, end: Program) -> list[tuple[str, str]]:
    """The lines that differ: (the reference's, the other's); one side is empty for a line that is only in the other."""
    ours, theirs = [text_of(x) for x in start.lines], [text_of(x) for x in end.lines]
    if sorted(ours) == sorted(theirs):
        return [("; ".join(ours), "; ".join(theirs))] if ours != theirs else []
    if len(ours) == len(theirs):
        return [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    return [(a, "") for a in ours if a not in theirs] + [("", b) for b in theirs if b not in ours]


def _both_corrections(found: Found) -> str:
    gone = [e for e in found.edits if e.kind == "dropped" and _is_correction(e.what)]
    if len(gone) < 2 or len(found.edits) > 2:
        return ""
    return _timed(gone[1], "no bias correction, neither of m nor of v")


def _is_correction(text: str) -> bool:
    return bool(re.search(r"1 - \w+ ?\*\* ?t", text))


def _role(what: str) -> str:
    for name, words in ROLES.items():
        if re.search(rf"\b{name}\b", what):
            if what == name:
                return words
            return f"{words} ({what})" if name == "weight_decay" else what
    return what


def _moved(e: Edit, before: Program) -> str:
    source, to = e.where
    if "weight_decay" in e.what:
        return _moved_decay(e, before)
    if e.inside[1] == "sqrt" != e.inside[0]:
        return f"{_role(e.what)} is inside the root, added to {e.how}" if e.what == "eps" else (
            f"{_role(e.what)} is inside the root, at {e.how}"
        )  # fmt: skip
    if e.inside[0] == "sqrt" != e.inside[1]:
        return f"{_role(e.what)} is outside the root, at {e.how}"
    if _is_correction(e.what):
        early = " before the maximum is taken" if e.inside[1] == "max" else ""
        return (
            f"the bias correction {e.what} comes{early} at {e.how} in the line of {to} instead of in that of {source}"
        )
    if source != to and to in before.state:
        return f"{_role(e.what)} is inside the buffer {to}, at {e.how}, instead of in the line of {source}"
    return f"{_role(e.what)} stands at {e.how} in the line of {to} instead of in that of {source}"


def _moved_decay(e: Edit, before: Program) -> str:
    source, to = e.where
    if source != "w" and to in ("w", "the step"):
        return "the weight decay is decoupled from the gradient (as in AdamW) instead of L2"
    if source == "w" and to != "w":
        return "the weight decay is L2, added to the gradient, instead of decoupled"
    turned = " with the other sign" if e.what.startswith("minus ") else ""
    if to in before.state:
        return f"the weight decay enters {to}{turned} instead of the line of {source}"
    scale = "" if "lr" in e.what else ", not multiplied by the learning rate"
    return f"the weight decay stands at {e.how} in the line of {to}{scale}"


def _dropped(e: Edit, before: Program) -> str:
    bare = e.what.strip("+-*/ ")
    line = e.where[0]
    if _is_correction(e.what):
        return f"no bias correction in {line} ({e.what} is missing)"
    if e.what.startswith("the case t"):
        return f"the first update is not treated apart in {line}: {_later(e, before)}"
    if e.what.startswith("the case"):
        return f"{e.what} is missing in {line}"
    if "weight_decay" in e.what:
        if e.what.startswith("lr *") or bare in ("lr",):
            return "the weight decay is not multiplied by the learning rate"
        return "there is no weight decay"
    if bare == "lr" and any("weight_decay" in text_of(x) for x in before.lines if x.name == line):
        return "the weight decay is not multiplied by the learning rate"
    if e.what == "- 1" and re.search(r"\(t - 1\)", _line(before, line)):
        return f"the count of updates is off by one: {_line(e.program, line)}"
    if "(...)" in e.what:
        return f"{bare.removesuffix('(...)')} is not applied in {line}"
    if "=" in e.what:
        return f"the step {e.what} is left out"
    place = f" ({e.what})" if len(bare) < 16 else ""
    return f"{_role(bare)} is missing in {line}{place}"


def _line(program: Program, name: str) -> str:
    return next((text_of(x) for x in program.lines if x.name == name), "")


def _later(e: Edit, before: Program) -> str:
    text = _line(e.program, e.where[0])
    if "dampening" in text:
        return "the dampening also damps the first gradient"
    return f"{text} in every update, instead of {_line(before, e.where[0]).partition(' = ')[2]}"


def _sign(e: Edit, before: Program) -> str:
    if e.what in ("g", "g_1") and (not e.where or e.where[0] in ("g_1",)):
        return "the gradient has the other sign: it goes uphill (maximize)"
    if "weight_decay" in e.what:
        return "the weight decay has the other sign"
    final = e.where and e.where[0] == "w"
    if final:
        return "the step has the other sign: it goes uphill (maximize)"
    return f"{e.what} has the other sign in {e.where[0] if e.where else 'every line'}"


def _named(e: Edit, before: Program) -> str:
    line, new = e.where[0], e.how
    if new.endswith("_old"):
        return f"{line} uses {e.what} of before the update ({new}) instead of the new one"
    if new in ("0", "1"):
        return f"{line} has {new} in the place of {e.what}"
    if e.what.endswith("hat") and new == e.what.removesuffix("_hat"):
        return f"no bias correction: {line} uses {new} instead of {e.what}"
    return f"{line} uses {new} in the place of {e.what}"


def _counted(e: Edit, before: Program) -> str:
    if e.what == "lr":
        return "a learning rate that changes later is ignored: " + e.how
    if e.how.startswith("one count"):
        return e.how
    return f"the count of updates is off by one: {e.how}" + (f" in {e.where[0]}" if e.where else "")


def _factor(e: Edit, before: Program) -> str:
    line = e.where[0]
    where = {"sqrt": " inside the root", "max": " inside the maximum"}.get(e.inside[0], "")
    return f"{e.what} is {e.how}{where} in the line of {line}"


def _order(e: Edit, before: Program) -> str:
    name, after = e.where
    places = [x.name for x in e.program.lines]
    stale = [
        x.name for x in e.program.lines[: places.index(name)] if re.search(rf"\b{name}\b", text_of(x).partition("=")[2])
    ]
    if name in before.state and stale and not _used_before(name, before):
        return f"{stale[0]} uses {name} of before the update"
    at = f"after {after}" if after else "first of all"
    if any("weight_decay" in text_of(x) for x in before.lines if x.name == name):
        at += " (the weight decay comes at another place)"
    return f"the order is another: {name} is computed {at}"


def _used_before(name: str, program: Program) -> bool:
    """Whether a line above the one that assigns a name uses it."""
    for line in program.lines:
        if line.name == name:
            return False
        if re.search(rf"\b{name}\b", text_of(line).partition("=")[2]):
            return True
    return False


def _started(e: Edit, before: Program) -> str:
    if not e.how:
        return f"{e.what} is forgotten after each update"
    return f"{e.what} starts with {e.how} in the first update"


def _function(e: Edit, before: Program) -> str:
    if e.how in ("mean_last", "mean_first"):
        return f"{e.where[0]} takes the mean of {e.what} over the {e.how[5:]} axis instead of entry by entry"
    if e.how in ("mean", "sum", "norm", "max"):
        return f"{e.where[0]} takes the {e.how} of {e.what} over the whole tensor instead of entry by entry"
    return f"{e.where[0]} has {e.how} of {e.what}" if e.how.isalpha() else f"{e.where[0]} has {e.how} for {e.what}"


_BY_NUMBERS = {
    "times a number": "is multiplied by a number",
    "plus a number": "has a number added to it",
    "clipped to plus and minus a number": "is clipped to plus and minus a number",
    "at least a number": "is held at or above a number",
    "at most a number": "is held at or below a number",
}


def _scheduled(e: Edit, before: Program) -> str:
    factors, values = ([float(f) for f in part.split()] for part in (*e.how.split("|"), "")[:2])
    where = f" in the line of {e.where[0]}" if e.where else ""
    if e.what == "t":
        counts = ", ".join("any" if math.isnan(f) else f"{f * t:.4g}" for t, f in enumerate(factors[:8], 1))
        return f"the count of updates is another one{where}: {counts}, ... instead of 1, 2, 3, ..."
    listed = ", ".join("any" if math.isnan(f) else f"{f:.4g}" for f in factors[:6])
    law = law_of(factors)
    if values and (not law or law_of(values)):
        listed = ", ".join("any" if math.isnan(v) else f"{round(v, 12) + 0.0:.4g}" for v in values[:6])
        form = (
            f"it is {law_of(values)}"
            if law_of(values)
            else f"f_t = {law}, times its own"
            if law
            else "of no form that is known here"
        )
        return f"{_role(e.what)} depends on the number of the update{where}: {form} (measured: {listed}, ...)"
    form = f"f_t = {law}" if law else "a factor f_t of no form that is known here"
    role = ("uphill (maximize), and " if all(f < 0 for f in factors) else "") + _role(e.what)
    return f"{role} depends on the number of the update{where}: it is multiplied by {form} (measured: {listed}, ...)"


def _constant(e: Edit, before: Program) -> str:
    if e.how == "a power":
        return f"{e.what} has another power in {e.where[0]}"
    if e.how in _BY_NUMBERS:
        return f"{e.what} {_BY_NUMBERS[e.how]} in {e.where[0]}"
    return (
        f"{_role(e.what)} has another value" if not e.where else f"the number {e.what} is another one in {e.where[0]}"
    )


_SAID: Mapping[str, Callable[[Edit, Program], str]] = {
    "moved": _moved,
    "dropped": _dropped,
    "sign": _sign,
    "name": _named,
    "count": _counted,
    "factor": _factor,
    "order": _order,
    "start": _started,
    "function": _function,
    "constant": _constant,
    "swapped": lambda e, before: f"{e.what} are swapped",
    "narrow": lambda e, before: f"{e.what} is kept in {e.how}",
    "wrapped": lambda e, before: e.how,
    "schedule": _scheduled,
}


def _number(value: float) -> str:
    if float(f"{value:.4g}") == value or abs(float(f"{value:.4g}") - value) <= 1e-9 * abs(value):
        return f"{value:.4g}"
    near = Fraction(value).limit_denominator(20)
    if abs(float(near) - value) <= 1e-7 * abs(value) and near.denominator > 1:
        return f"{near} = {value:.6g}"
    return f"{value:.6g}"
