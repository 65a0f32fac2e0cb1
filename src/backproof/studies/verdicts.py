"""What a comparison says, which oracles there are and how closely each must agree, and the evidence in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "ALLOWED",
    "ALONG",
    "EAGER",
    "FORMULAS",
    "FORWARD",
    "GRADIENT_FLOOR",
    "HOOKS",
    "IN_OWN_DTYPE",
    "ONE_BY_ONE",
    "OPAQUE",
    "OWN_DTYPE",
    "ROUNDED",
    "ROUNDING",
    "TOLERANCE",
    "VALUE_FLOOR",
    "Evidence",
    "gathered",
    "standing",
    "summary",
]

TOLERANCE = 1e-9
# Errors are relative to a tensor's size, but not below this share of the largest of its kind.
VALUE_FLOOR, GRADIENT_FLOOR = 1e-3, 1e-6
EAGER = "autograd on the program as it stands"
IN_OWN_DTYPE = "autograd in the program's own dtype"
FORWARD, HOOKS = "the derivative of the forward pass", "autograd with your gradient hooks"
ROUNDING, OWN_DTYPE = "float64", "torch.optim in the model's dtype"
FORMULAS = "the textbook's formulas"
OPAQUE = "opaque: torch computes it on both sides of the comparison with autograd, which is one witness and not two"
ALONG = "float64 differences along a Gaussian direction"
ONE_BY_ONE = "50 digits, single operations at random entries"
# What float32 and shorter may lose over many layers; what differences in float64 can resolve.
ALLOWED = {ROUNDING: 5e-3, OWN_DTYPE: 5e-3, IN_OWN_DTYPE: 5e-3, ALONG: 1e-5}


ROUNDED = (ROUNDING, OWN_DTYPE, IN_OWN_DTYPE)
"""Where the model's own dtype rounds."""


@dataclass(frozen=True)
class Evidence:
    """One comparison: what was compared, with which oracle, the outcome and the largest relative error.

    ``agrees`` is None where the comparison does not apply (a kink). ``looked_at`` counts the numbers compared,
    ``of`` those there are.
    """

    what: str
    oracle: str
    agrees: bool | None
    error: float | None
    looked_at: int = 0
    of: int = 0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data."""
        found: dict[str, Any] = {
            "what": self.what,
            "oracle": self.oracle,
            "agrees": self.agrees,
            "error": self.error,
        }
        return {
            **found,
            "looked_at": self.looked_at,
            "of": self.of,
            **({"note": self.note} if self.note else {}),
        }


def gathered(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """The comparisons of a large network by kind and oracle; what disagrees or is a kink stays by itself."""
    found: dict[tuple[str, str], list[Evidence]] = {}
    apart = []
    for e in evidence:
        if e.agrees:
            kind = "updates" if "after the update" in e.what else e.what.partition(" of ")[0].rstrip("s") + "s"
            found.setdefault((kind, e.oracle), []).append(e)
        else:
            apart.append(e)
    rows = (
        Evidence(
            f"{kind} of {len(group)} quantities",
            oracle,
            True,
            max(e.error or 0.0 for e in group),
            sum(e.looked_at for e in group),
            sum(e.of for e in group),
        )
        for (kind, oracle), group in found.items()
    )
    return (*apart, *rows)


def summary(evidence: Sequence[Evidence], every: bool = False) -> str:
    """The evidence in one sentence.

    Args:
        evidence: the comparisons.
        every: whether every number of the record was compared, as the solution of a network's training does.
    """
    if not evidence:
        return "not confirmed: no independent way was asked for"
    wrong = [e for e in evidence if e.agrees is False]
    if wrong:
        worst = max(wrong, key=lambda e: e.error or 0)
        first = f"first {wrong[0].what} with {wrong[0].oracle}"
        return f"{len(wrong)} comparisons disagree, {first}; the largest by {worst.error:.2g} ({worst.what})"
    agreeing = [e for e in evidence if e.agrees]
    if not agreeing:
        note = next((e.note for e in evidence if e.note), "")
        return "not confirmed: no comparison applies" + (f" ({note})" if note else "")
    return _agreement(agreeing, sum(e.looked_at for e in evidence if e.agrees is None), every)


def standing(evidence: Sequence[Evidence]) -> Literal["agrees", "finding", ""]:
    """Whether the evidence disagrees somewhere or agrees; "" where nothing could be compared."""
    if any(e.agrees is False for e in evidence):
        return "finding"
    return "agrees" if any(e.agrees for e in evidence) else ""


def _way(oracle: str) -> str:
    """The independent way behind an oracle, for counting; a check of what is printed is no way to a number."""
    for way in ("autograd", "torch.optim", "torch.profiler", "central differences", "50 digits", "SymPy"):
        if way in oracle:
            return way
    if "printed" in oracle or oracle in (ROUNDING, OWN_DTYPE, FORMULAS):
        return ""
    return "central differences" if "differences" in oracle else oracle


MOST_WORDS = 110
"""As long as the names of the ways may be together; beyond that they are counted."""


def _named(ways: Sequence[str]) -> str:
    names = ", ".join(ways)
    count = f"{len(ways)} independent way{'s' if len(ways) != 1 else ''}"
    return f"{count} ({names})" if names and len(names) <= MOST_WORDS else count


def _agreement(agreeing: Sequence[Evidence], kinks: int, every: bool) -> str:
    """What was confirmed, in how many ways, how closely; rounding of a shorter dtype is said apart."""
    rounding = [e for e in agreeing if e.oracle in ROUNDED]
    strict = [e for e in agreeing if e not in rounding and not (rounding and "printed" in e.what)]
    ways = sorted({way for e in strict if (way := _way(e.oracle))})
    looked, there = sum(e.looked_at for e in agreeing), sum(e.of for e in agreeing)
    scope = f"every number confirmed in {_named(ways)}"
    if not every:
        count = len(agreeing)
        scope = f"all {count} comparisons agree, made in" if count > 1 else "the one comparison made agrees, in"
        scope = f"{scope} {_named(ways)}"
    elif looked != there:
        scope = f"{looked:,} of {there:,} possible comparisons made, in {_named(ways)}; all agree"
    text = f"{scope}, largest disagreement {max((e.error or 0.0 for e in strict), default=0.0):.1e}"
    if rounding:
        text += f"; the model's own dtype rounds by up to {max(e.error or 0.0 for e in rounding):.1e}"
    return text + (f"; {kinks} entries lie on a kink" if kinks else "")
