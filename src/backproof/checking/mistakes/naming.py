"""The mistake in words, and where it is: from the numbers first, then by single edits of the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..checked import Where
from ..compare import Gradients, Masks
from ..functions import Site, Sites, backward_line
from ..operators import is_operator
from ..program import Program, program_of, wide
from .edits import search, search_each
from .found import Found
from .patterns import from_numbers, weak_pattern
from .shares import from_shares
from .siblings import relative
from .tape import Tape, record

__all__ = ["name_the_mistake"]

MOST_STEPS = 400
REGISTERED = "the registered backward pass is not that of the forward pass"
STOPPED = (
    "autograd's gradient is not that of the forward pass: it is stopped or changed on the way (detach, no_grad, a hook, "
    "a registered backward, a straight-through estimator: declare the last with surrogate=)"
)
MOST_MISTAKES = 3
FAILS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, NotImplementedError, KeyError)


def name_the_mistake(
    exam: Any, program: Program, weights: Sequence[Tensor], claimed: Gradients, expected: Gradients, masks: Masks
) -> tuple[str | None, Where | None]:
    """The mistake in words or None, and where it is or None; what was tried is noted."""
    site = _guilty(exam, program, weights, expected)
    where = None if site is None else _place(site)
    numbers = from_numbers(claimed, expected, masks, program.names, _sizes(program))
    found = None
    if exam.reference is not None and not program.parameters:
        found = _by_edits(exam, exam.other(program, exam.reference), weights, claimed)
    elif not exam.opaque and exam.surrogate is None:
        found = _alone(exam, site) or _by_edits(exam, program, weights, claimed)
    if found is not None:
        where = _with_line(where, found)
    if numbers is None and found is None:
        numbers = weak_pattern(claimed, expected, masks, program.start, program.names, _tensors(program))
    if numbers is None and found is None and not (exam.claims or exam.opaque or exam.reference or exam.surrogate):
        numbers = _by_shares(exam, program, weights, masks)
    cause = numbers or (found.words if found else None)
    if not (exam.sites or exam.claims or exam.reference or exam.surrogate):
        stopped = REGISTERED if is_operator(exam.fn) else STOPPED
        cause = f"{stopped}; {cause}" if cause else stopped
        where = where or (Where(str(exam.fn)) if is_operator(exam.fn) else _stop(program, weights))
    if cause is None:
        exam.notes.append(
            "the mistake was not identified: tried factors, orders, slices, branches, and single edits of the backward pass"
        )
    return cause, where


def _by_shares(exam: Any, program: Program, weights: Sequence[Tensor], masks: Masks) -> str | None:
    try:
        return from_shares(program, lambda w: exam.claimed(program, program.start, w), weights, masks)
    except FAILS:
        return None


def _stop(program: Program, weights: Sequence[Tensor]) -> Where | None:
    """The line at which the forward pass stops the gradient, if it is one that torch records."""
    try:
        steps = record(program, program.start, weights).steps
    except FAILS:
        return None
    found = next((s for s in steps if s.name == "detach" and not s.backward and s.line), None)
    return None if found is None else Where("detach", "", found.line)


def _place(site: Site) -> Where:
    return Where(f"{site.function.__name__}.backward", site.module, backward_line(site.function) or site.source)


def _with_line(where: Where | None, found: Found) -> Where:
    operation = f"{found.operation}, for line {found.line} of the forward pass" if found.line else found.operation
    if where is None:
        return Where(found.operation, "", found.line)
    return Where(f"{where.operation}: {operation}", where.module, where.source)


def _sizes(program: Program) -> dict[int, str]:
    """What counts in a mean: axes and numbers of entries of all arguments."""
    sizes: dict[int, str] = {}
    labelled = [*zip(program.labels, program.flat, strict=False), *zip(program.names, program.start, strict=True)]
    for name, value in labelled:
        if isinstance(value, Tensor):
            for axis, n in enumerate(value.shape):
                sizes.setdefault(n, f"the size of axis {axis} of {name}")
            sizes.setdefault(value.numel(), f"the number of entries of {name}")
    for output in program.at(program.start):
        sizes.setdefault(output.numel(), "the number of entries of the output")
    return sizes


def _tensors(program: Program) -> list[Tensor]:
    return [*program.start, *(v for v in program.flat if isinstance(v, Tensor) and v.is_floating_point())]


def _guilty(exam: Any, program: Program, weights: Sequence[Tensor], expected: Gradients) -> Site | None:
    """The call whose own backward pass changes the gradient when all others are bypassed."""
    if exam.claims or not exam.sites:
        return None
    if len(exam.sites) == 1 or exam.opaque or exam.reference or exam.surrogate:
        return exam.sites[0]  # type: ignore[no-any-return]
    for number, site in enumerate(exam.sites):
        try:
            own = program.gradients(program.start, weights, Sites(real=frozenset([number])))
        except FAILS:
            return site  # type: ignore[no-any-return]
        if any(_differ(a, b) for a, b in zip(own, expected, strict=True)):
            return site  # type: ignore[no-any-return]
    return exam.sites[0]  # type: ignore[no-any-return]


def _differ(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is not b and bool((a if a is not None else b).any())  # type: ignore[union-attr]
    return bool(((a - b).abs() > 1e-10 * float(b.abs().max() if b.numel() else 0)).any())


def _alone(exam: Any, site: Site | None) -> Found | None:
    """The mistake of a Function that is one among several operations, at the arguments that it had."""
    if site is None or (len(exam.sites) == 1 and not exam.program.parameters):
        return None
    try:
        inner = program_of(site.function.apply, tuple(wide(a) for a in site.args))
        outputs = inner.at(inner.start)
        weights = [torch.randn(o.shape, dtype=o.dtype, generator=torch.Generator().manual_seed(5)) for o in outputs]
        claimed = inner.gradients(inner.start, weights)
        return _by_edits(exam, inner, weights, claimed)
    except FAILS:
        return None


def _by_edits(exam: Any, program: Program, weights: Sequence[Tensor], claimed: Gradients) -> Found | None:
    try:
        tape = record(program, program.start, weights)
        if len(tape.steps) > MOST_STEPS:
            exam.notes.append(f"single edits were not tried: the passes have {len(tape.steps)} operations")
            return None
        sizes, known = _sizes(program), _known(tape, program)
        found = search(tape, claimed, program.start, sizes, known)
        wrong = [i for i, (c, e) in enumerate(zip(claimed, tape.result({}), strict=True)) if _differ(c, e)]
        found = found or relative(program, claimed, weights, wrong)
        if found is None and 1 < len(wrong) <= MOST_MISTAKES:
            return search_each(tape, claimed, wrong, program.start, sizes, known)
        return found
    except FAILS:
        return None


def _known(tape: Tape, program: Program) -> dict[int, str]:
    known = {number: str(name) for number, name in zip(tape.leaves, program.names, strict=True)}
    given = {id(v): str(n) for n, v in zip(program.labels, program.flat, strict=False) if isinstance(v, Tensor)}
    return {**{k: given[id(v)] for k, v in tape.values.items() if id(v) in given}, **known}
