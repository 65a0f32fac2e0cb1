"""An examination: one function at one place, asked of every oracle that is left, until there is a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .asking import FAILS, Asking, BackwardFails, Case, line_of_error
from .checked import Checked, Entry, Oracle, Where
from .compare import (
    Gradients,
    any_wrong,
    both,
    count,
    entries,
    quick_masks,
    tolerances,
    wrong_masks,
)
from .differences import direction
from .functions import Site, Sites, backward_line, bypassed
from .habits import unusual_calls
from .mistakes import name_the_mistake
from .oracles import RAW, Along, along, between_slopes, by_entries, cotangents, differences_oracle
from .points import elsewhere
from .program import WIDE, Program
from .rounding import Coarsest

__all__ = ["Examination"]

REFERENCE = "the reference, differentiated in float64"
SURROGATE = "the surrogate, differentiated in float64"
VARIES = 1e-4


@dataclass
class Examination(Asking):
    """A check under way; :meth:`verdict` ends it."""

    # --- the way to a verdict ---------------------------------------------------------------------------------------------
    def verdict(self) -> Checked:
        """Ask the oracles, compare, and say what was found."""
        program = self.prepared()
        try:
            outputs = self._first_run(program)
            return self._judged(program, outputs)
        finally:
            torch.set_rng_state(self.program.rng)

    def _judged(self, program: Program, outputs: tuple[Tensor, ...]) -> Checked:
        self._find_sites(program)
        if self.reference is not None and (found := self._forward_differs(program)):
            return found
        try:
            cases = self._cases(program, outputs)
        except BackwardFails as failure:
            return self._failed(failure)
        trusted = self._trusted(program, cases)
        if trusted is None:
            return self._undecided(program)
        cases = trusted
        kinks = self._without_kinks(program, cases)
        if any(any_wrong(c.masks) for c in kinks):
            return self._wrong(program, kinks)
        if self.varies > VARIES:
            return self._done(False, (), f"the gradient varies from run to run by {self.varies:.1g} of its size, far more than "
                              "the order of a sum can explain", Where(*_site_words(self.sites[0])) if self.sites else None)  # fmt: skip
        if (low := self._in_own_dtype(program, cases)) is not None:
            return low
        if self.generate and (found := self._elsewhere(program)) is not None:
            return found
        if self.generate and (found := self._unusually_called(program, outputs)) is not None:
            return found
        return self._done(True)

    def _done(
        self, ok: bool | None, wrong: tuple[Entry, ...] = (), cause: str | None = None, where: Where | None = None
    ) -> Checked:
        size = sum(v.numel() for v in self.program.start)
        return Checked(ok, wrong, cause, where, tuple(dict.fromkeys(self.notes)), tuple(self.oracles), self.title, size)

    # --- before anything is compared ----------------------------------------------------------------------------------------
    def prepared(self) -> Program:
        """The program in double precision where it can be run so, else as it is."""
        if all(v.dtype not in WIDE for v in self.program.start):
            return self.program
        try:
            made = self.program.widened()
            made.at(made.start)
            return made
        except FAILS as error:
            kind = str(self.program.start[0].dtype).removeprefix("torch.")
            self.notes.append(
                f"it runs in {kind} only ({line_of_error(error)}): small mistakes are not told from rounding"
            )
            return self.program

    def _first_run(self, program: Program) -> tuple[Tensor, ...]:
        try:
            if program is not self.program:
                self.program.at(self.program.start)
            outputs = self._watched(program)
            drew = not torch.equal(torch.get_rng_state(), program.rng)
            again = program.at(program.start)
        except InputError:
            raise
        except FAILS as error:
            raise InputError(
                f"{self.title} cannot be run at these inputs: {type(error).__name__}: {line_of_error(error)}"
            ) from None
        if program.rounding > 1e-12 and all(v.dtype not in WIDE for v in program.start):
            self.notes.append("it computes in a shorter dtype inside: small mistakes are not told from rounding")
        if drew:
            self.notes.append(
                "random: it draws random numbers; the generator was set to the same state before each run"
            )
        if not all(torch.equal(a, b) or bool(torch.isnan(a).any()) for a, b in zip(outputs, again, strict=True)):
            change = max(float((a - b).abs().max()) for a, b in zip(outputs, again, strict=True))
            self.notes.append(f"its result varies from run to run by {change:.1g}, from the same random state")
        if not all(bool(o.isfinite().all()) for o in outputs):
            self.notes.append("the output is not finite at these inputs; gradients there say little")
        return outputs

    def _watched(self, program: Program) -> tuple[Tensor, ...]:
        """The outputs; what is compiled would not be compiled under a look at its operations."""
        if self.is_compiled:
            return program.at(program.start)
        with Coarsest() as seen:
            outputs = program.at(program.start)
        program.rounding = seen.rounding
        return outputs

    def _cases(self, program: Program, outputs: tuple[Tensor, ...]) -> list[Case]:
        """Two weights of the outputs; that of a single number only scales the gradient that is expected."""
        first = self._case(program, program.start, cotangents(outputs, self.seed + 1))
        weights = cotangents(outputs, self.seed + 2, first=False)
        scale = None
        if len(outputs) == 1 and outputs[0].numel() == 1 and not outputs[0].is_complex():
            scale = float(weights[0]) / float(first.weights[0])
        expected = None if scale is None else [None if e is None else scale * e for e in first.expected]
        return [first, self._case(program, program.start, weights, expected)]

    def _find_sites(self, program: Program) -> None:
        if self.is_compiled:
            return  # what is compiled cannot be bypassed; its eager form is the reference
        sites = Sites(keep=True, names=program.module_names)
        with torch.no_grad(), bypassed(sites):
            try:
                program.outputs(program.start if not program.parameters else program.leaves(program.start))
            except FAILS:
                return
        self.sites = sites.found

    # --- which oracle is to be believed -------------------------------------------------------------------------------------
    def _trusted(self, program: Program, cases: list[Case]) -> list[Case] | None:
        """The cases with the gradient that is to be believed as the expected one; None if nothing can be believed."""
        if self.reference or self.surrogate:
            name = REFERENCE if self.reference else SURROGATE
            self.oracles.append(Oracle(name, not any(any_wrong(c.masks) for c in cases), _error(cases)))
            return cases
        first = cases[-1]
        independent = bool(self.sites) or bool(self.claims)
        has_raw = any(e is not None for e in first.expected)
        found = self._differences(program, first.weights, first.expected) if has_raw else Along(None)
        differs = any(any_wrong(c.masks) for c in cases)
        if independent and has_raw and found.agrees is not False:
            self.oracles += [Oracle(RAW, not differs, _error(cases)), differences_oracle(found)]
            if found.agrees or found.kink or not differs:
                return cases
        elif found.agrees and not independent:
            self.oracles.append(differences_oracle(found))
            return cases
        return self._by_differences(program, cases, differs)

    def _differences(self, program: Program, weights: Sequence[Tensor], gradients: Gradients) -> Along:
        """Differences at the given place; at a kink, at a place nearby, where the function is smooth."""
        seeds = (self.seed + 11,) if self.sites else (self.seed + 11, self.seed + 12)
        found = along(program, program.start, weights, gradients, seeds)
        if found.kink is None:
            self._conditioning(found)
            return found
        left, right = found.kink
        self.notes.append(
            f"not differentiable here: along a random direction the one-sided slopes are {left:.6g} and {right:.6g}; "
            "the differences were taken at a place nearby"
        )
        step = direction(program.start, self.seed + 13)
        near = tuple(v + 0.02 * d for v, d in zip(program.start, step, strict=True))
        moved = along(program, near, weights, self._raw(program, near, weights), seeds)
        return moved if moved.kink is None else Along(None, kink=moved.kink)

    def _conditioning(self, found: Along) -> None:
        if found.agrees and found.resolution > 1e-5:
            digits = max(0, int(-torch.log10(torch.tensor(found.resolution)).item()))
            self.notes.append(f"badly conditioned: differences have {digits} digits left here")

    def _by_differences(self, program: Program, cases: list[Case], differs: bool) -> list[Case] | None:
        """Only differences are left: the forward pass is opaque, or autograd cannot see through it."""
        first = cases[0]
        found = along(program, program.start, first.weights, first.claimed, [self.seed + k for k in (21, 22, 23)])
        if self.sites and differs:
            self.notes.append(
                "the forward pass cannot be differentiated by itself (it leaves torch, or stops the gradient)"
            )
        self.oracles.append(differences_oracle(found))
        self.opaque = True
        if found.agrees:
            return [replace(c, expected=c.claimed, masks=[torch.zeros_like(m) for m in c.masks]) for c in cases]
        if found.agrees is None and found.kink is None:
            return None
        masks, expected, complete = by_entries(program, program.start, first.weights, first.claimed)
        if not complete:
            self.notes.append("not every entry could be looked at in the time allowed: there may be more wrong ones")
        if found.agrees is None and not any_wrong(masks) and not complete:
            return None
        return [replace(first, expected=expected, masks=masks)]

    def _undecided(self, program: Program) -> Checked:
        self.notes.append("tried: " + "; ".join(f"{o.name} ({o.note or 'no answer'})" for o in self.oracles))
        return self._done(None)

    def _without_kinks(self, program: Program, cases: list[Case]) -> list[Case]:
        """The cases without entries that lie on a kink and are claimed to be something in between."""
        if self.surrogate or not any(any_wrong(c.masks) for c in cases):
            return cases
        found = []
        for case in cases:
            masks, said = between_slopes(program, program.start, case.weights, case.claimed, case.masks)
            self.notes += said[:1]
            found.append(replace(case, masks=masks))
        return found

    # --- findings -------------------------------------------------------------------------------------------------------------
    def _wrong(self, program: Program, cases: list[Case], prefix: str = "") -> Checked:
        masks = cases[0].masks
        for case in cases[1:]:
            masks = both(masks, case.masks, either=True)
        shown = next((c for c in cases if any_wrong(c.masks)), cases[0])
        found = entries(masks, shown.claimed, shown.expected, program.names)
        if count(masks) > len(found):
            self.notes.append(f"{count(masks):,} entries are wrong, of which the first {len(found):,} are kept")
        cause, where = name_the_mistake(self, program, shown.weights, shown.claimed, shown.expected, masks)
        return self._done(False, found, f"{prefix}{cause}" if cause else prefix.rstrip(": ") or None, where)

    def _failed(self, failure: BackwardFails) -> Checked:
        where = Where(*_site_words(self.sites[-1])) if self.sites else None
        self.oracles.append(Oracle("running the backward pass", False, None, str(failure)))
        return self._done(False, (), f"the backward pass raises {failure.kind}: {failure}", where)

    def _forward_differs(self, program: Program) -> Checked | None:
        """The outputs against those of the reference."""
        assert self.reference is not None
        twin = self.other(program, self.reference)
        try:
            theirs, ours = twin.at(twin.start), program.at(program.start)
        except FAILS as error:
            raise InputError(f"the reference cannot be run at these inputs: {line_of_error(error)}") from None
        if [o.shape for o in ours] != [o.shape for o in theirs]:
            shapes = [list(o.shape) for o in ours], [list(o.shape) for o in theirs]
            raise InputError(f"the outputs have shapes {shapes[0]} and the reference's {shapes[1]}")
        masks = quick_masks(ours, theirs, ours)
        if any_wrong(masks):
            eps = max(torch.finfo(v.dtype).eps for v in program.start)
            runs = [lambda: twin.at(twin.start), *([] if self.is_compiled else [lambda: program.at(program.start)])]
            allowed = tolerances(runs, [theirs, ours][: len(runs)], ours, eps)
            masks = both(masks, wrong_masks(ours, theirs, ours, allowed))
        self.oracles.append(Oracle("the reference's forward pass", not any_wrong(masks)))
        if not any_wrong(masks):
            return None
        names = _output_names(len(ours))
        wrong = entries(masks, ours, theirs, names)
        return self._done(False, wrong, "the forward pass differs from the reference's", None)

    # --- other dtypes, other inputs, other habits -------------------------------------------------------------------------------
    def _in_own_dtype(self, program: Program, cases: list[Case]) -> Checked | None:
        """The gradient in the model's own dtype against the one in double precision, within the running error."""
        own = self.program
        if own is program or self.claims:
            return None
        weights = tuple(w.to(o.dtype) for w, o in zip(cases[0].weights, own.at(own.start), strict=True))
        exact = tuple(w.to(c.dtype) for w, c in zip(weights, cases[0].weights, strict=True))
        try:
            claimed = self.claimed(own, own.start, weights)
        except BackwardFails as failure:
            return self._failed(failure)
        expected = self.claimed(program, program.start, exact)
        eps = max(torch.finfo(v.dtype).eps for v in own.start)
        again = self._expected if self.is_compiled else self.claimed
        runs = [lambda: again(program, program.start, exact)]
        masks = wrong_masks(claimed, expected, program.start, tolerances(runs, [expected], program.start, eps))
        if any_wrong(masks) and not (self.reference or self.surrogate or self.opaque):
            raw = self._raw(own, own.start, weights)
            allowed = tolerances([lambda: self._raw(program, program.start, exact)], [raw], program.start, eps)
            masks = both(masks, wrong_masks(claimed, raw, program.start, allowed))
        if not any_wrong(masks):
            return None
        kind = str(own.start[0].dtype).removeprefix("torch.")
        found = entries(masks, claimed, expected, program.names)
        return self._done(
            False, found, f"wrong in {kind} only: right in float64, and off by more than rounding can explain"
        )

    def _elsewhere(self, program: Program) -> Checked | None:
        """Inputs made so that other branches are entered; a mistake counts where the differences confirm the oracle."""
        if (
            not (self.sites or self.claims or self.reference)
            or self.surrogate
            or any(c.fixed for c in self.claims.values())
        ):
            return None
        for recipe, moved in elsewhere(program, self.seed + 31):
            outputs = moved.at(moved.start)
            try:
                case = self._case(moved, moved.start, cotangents(outputs, self.seed + 32, first=False))
            except BackwardFails as failure:
                self.notes.append(f"at inputs {recipe}")
                return self._failed(failure)
            if self.opaque:
                case = self._opaque_case(moved, case)
            if not any_wrong(case.masks):
                continue
            confirmed = (
                self.reference
                or self.opaque
                or along(moved, moved.start, case.weights, case.expected, (self.seed + 33, self.seed + 34)).agrees
            )
            masks, _ = between_slopes(moved, moved.start, case.weights, case.claimed, case.masks)
            if confirmed and any_wrong(masks):
                self.notes.append(f"right at the given inputs; wrong at inputs {recipe}, to which the entries belong")
                return self._wrong(
                    moved, [replace(case, masks=masks)], "only in a branch that the given inputs leave out: "
                )
        return None

    def _unusually_called(self, program: Program, outputs: tuple[Tensor, ...]) -> Checked | None:
        """What a backward pass may stumble over: see :mod:`.habits`."""
        if not self.sites or self.claims:
            return None
        where = Where(*_site_words(self.sites[0]))
        for call in unusual_calls(program, outputs, self.seed):
            if call.must_run and not self.undefined:
                continue
            try:
                claimed = call.program.gradients(call.program.start, call.weights)
                expected = self._expected(program, program.start, call.full)
            except FAILS as error:
                if call.must_run:
                    return self._done(False, (), f"the backward pass fails {call.words}: {line_of_error(error)}", where)
                continue
            masks = self._compared(call.program, call.program.start, call.full, claimed, expected)
            if any_wrong(masks):
                masks, _ = between_slopes(program, program.start, call.full, claimed, masks)
            if any_wrong(masks):
                found = entries(masks, claimed, expected, program.names)
                return self._done(False, found, f"the gradient is wrong {call.words}", where)
        return None

    def _opaque_case(self, program: Program, case: Case) -> Case:
        """A case that only differences can judge; entries are looked at where the sum of them is wrong."""
        found = along(program, program.start, case.weights, case.claimed, (self.seed + 35, self.seed + 36))
        if found.agrees is not False:
            return case
        masks, expected, _ = by_entries(program, program.start, case.weights, case.claimed)
        return replace(case, masks=masks, expected=expected)


def _site_words(site: Site) -> tuple[str, str, str]:
    return f"{site.function.__name__}.backward", site.module, backward_line(site.function) or site.source


def _error(cases: list[Case]) -> float:
    worst = 0.0
    for case in cases:
        for c, e in zip(case.claimed, case.expected, strict=True):
            if c is not None and e is not None and e.numel():
                size = float(e.abs().max()) or 1.0
                worst = max(worst, float((c.to(e.dtype) - e).abs().max()) / size)
    return worst


def _output_names(count: int) -> Any:
    from .program import Input

    return [Input("output" if count == 1 else f"output {k}") for k in range(count)]
