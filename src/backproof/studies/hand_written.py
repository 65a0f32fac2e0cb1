"""A derivative that was written by hand, checked entry by entry; and what the same check says about slips in it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checking import Checked, check
from ..document.blocks import Block, Code, Paragraph, Section, Table
from ..document.math import Num
from .answer import Answer
from .verdicts import Evidence

__all__ = ["CheckedFormulas", "checked_formulas", "hand_written"]


def hand_written(
    function: type[torch.autograd.Function], u: Tensor, formula: str, slips: Mapping[str, str] | None = None
) -> Answer:
    """Check the backward pass of a custom Function of one tensor, and formulas for the same derivative.

    Args:
        function: an elementwise ``autograd.Function``.
        u: where, as a tensor of the places.
        formula: its derivative in the variable u, in the grammar of formulas or in LaTeX.
        slips: formulas with a typical mistake, by what was forgotten; the page shows what the check says about each.

    Returns:
        An Answer with ``hand_written`` ({ok, entries, slips}), a section for the page, and the evidence.
    """
    found = check(function.apply, {"u": u})

    def total(u: Tensor) -> Any:
        return function.apply(u).sum()

    claimed = check(total, {"u": u}, claim={"u": formula}, elsewhere=False)
    slipped = {name: check(total, {"u": u}, claim={"u": f}, elsewhere=False) for name, f in (slips or {}).items()}
    name = function.__name__
    evidence = (*_evidence(found, f"{name}.backward"), *_evidence(claimed, f"the formula for the slope of {name}"))
    answers = {
        "hand_written": {"ok": found.ok, "entries": found.entries, "slips": {n: c.cause for n, c in slipped.items()}}
    }
    return Answer(answers, (_section(function, found, formula, slips or {}, slipped),), evidence)


@dataclass(frozen=True)
class CheckedFormulas:
    """What the check says about the right formula and about each slip, a table of who was asked, and the evidence."""

    found: Checked
    slips: tuple[Checked, ...]
    asked: Block
    evidence: tuple[Evidence, ...]


def checked_formulas(
    total: Callable[[Tensor], Tensor],
    o: Tensor,
    what: str,
    right: Callable[[Tensor], Tensor],
    slips: Sequence[Callable[[Tensor], Tensor]] = (),
) -> CheckedFormulas:
    """Check derived gradients of a function of one tensor to one number.

    Args:
        total: the function; its argument is called o.
        o: where.
        what: what the evidence calls the gradient.
        right: the gradient that is taken to be right, which gives the evidence; a function of o.
        slips: others with a typical mistake.
    """
    found = check(total, {"o": o}, claim={"o": right})
    slipped = tuple(check(total, {"o": o}, claim={"o": slip}, elsewhere=False) for slip in slips)
    return CheckedFormulas(found, slipped, _asked(found), _evidence(found, what))


def _evidence(found: Checked, what: str) -> tuple[Evidence, ...]:
    return tuple(Evidence(what, o.name, o.agrees, o.error, found.entries, found.entries, o.note) for o in found.oracles)


def _section(
    function: type[Any], found: Checked, formula: str, slips: Mapping[str, str], slipped: Mapping[str, Checked]
) -> Block:
    said = Paragraph(
        (f"{function.__name__} brings its own backward pass, so autograd believes what is written there. It is compared "
         f"entry by entry at {found.entries:,} places, and at others made from them; {found.verdict}.",)
    )  # fmt: skip
    blocks = (said, *_source(function), _asked(found), *_slips(slips, slipped, f"If the derivative were not {formula}"))
    return Section("Is the derivative that was written by hand right?", blocks, "backward", "hand-written")


def _asked(found: Checked) -> Block:
    """The oracles, how far off each found it at most, and what there is to know."""
    asked = tuple((o.name, None if o.error is None else Num(o.error), o.note) for o in found.oracles)
    return Table((("oracle",), ("largest difference",), ("",)), asked, "Who was asked")


def _slips(formulas: Mapping[str, str], slipped: Mapping[str, Checked], caption: str) -> tuple[Block, ...]:
    if not slipped:
        return ()
    rows = tuple((n, formulas[n], f"{len(c.wrong):,}", c.cause or "not identified") for n, c in slipped.items())
    return (Table((("slip",), ("formula",), ("wrong entries",), ("what the check says",)), rows, caption),)


def _source(function: type[Any]) -> tuple[Block, ...]:
    try:
        return (Code(textwrap.dedent(inspect.getsource(function)).strip()),)
    except (OSError, TypeError):
        return ()
