"""The gradients of an examination: what is claimed, what is expected, and where they differ by more than rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .checked import Oracle
from .claims import Claims
from .compare import Gradients, Masks, any_wrong, both, quick_masks, tolerances, wrong_masks
from .compiled import eager_of
from .functions import Site, Sites
from .program import WIDE, Program, program_of

__all__ = ["FAILS", "Asking", "BackwardFails", "Case", "line_of_error"]

FAILS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, NotImplementedError, KeyError)


@dataclass
class Case:
    """One set of weights: the claimed gradient, the expected one, and where they differ."""

    weights: tuple[Tensor, ...]
    claimed: Gradients
    expected: Gradients
    masks: Masks


class BackwardFails(Exception):
    """A backward pass raised an error."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


def line_of_error(error: BaseException) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@dataclass
class Asking:
    """One function at one place, and the gradients that can be asked for: the claimed one and the expected one.

    Args:
        fn, program, inputs: what is checked, and at which inputs.
        reference, surrogate: other functions whose gradient is the expected one.
        seed: of weights and directions.
        undefined: whether undefined output gradients are tried.
        generate: whether generated inputs are looked at too.
        claims: claimed gradients; without them those of autograd are checked.
    """

    fn: Callable[..., Any]
    program: Program
    reference: Callable[..., Any] | None
    surrogate: Callable[..., Any] | None
    inputs: Any
    seed: int
    generate: bool
    title: str = ""
    claims: Claims = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    oracles: list[Oracle] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    opaque: bool = False
    varies: float = 0.0
    undefined: bool = True

    @property
    def is_compiled(self) -> bool:
        """Whether what is checked was compiled by torch; its eager form is then the reference."""
        return eager_of(self.fn) is not None

    # --- gradients ----------------------------------------------------------------------------------------------------------
    def claimed(self, program: Program, values: Sequence[Tensor], weights: Sequence[Tensor]) -> Gradients:
        """The gradient that is checked."""
        if not self.claims:
            try:
                return program.gradients(values, weights)
            except FAILS as error:
                raise BackwardFails(line_of_error(error), type(error).__name__) from error
        if len(weights) != 1 or weights[0].numel() != 1:
            raise InputError(
                "a claimed gradient is that of one number, and the function returns more; reduce its output first"
            )
        made = self._raw(program, values, weights)
        scale = float(weights[0].reshape(-1)[0].real)
        return [self.claims[i].read(program).to(v) * scale if i in self.claims else g
                for i, (v, g) in enumerate(zip(values, made, strict=True))]  # fmt: skip

    def _raw(self, program: Program, values: Sequence[Tensor], weights: Sequence[Tensor]) -> Gradients:
        return program.gradients(values, weights, Sites())

    def other(self, program: Program, function: Callable[..., Any]) -> Program:
        """The same inputs given to another function."""
        if isinstance(function, torch.nn.Module) or program.parameters:
            made = program_of(function, self.inputs)
            made = made.widened() if all(v.dtype in WIDE for v in made.start) else made
            own = {str(n): v for n, v in zip(program.names, program.start, strict=True)}
            given, count = (
                program.start[: len(program.places)],
                len(made.places),
            )  # inputs by position, parameters by name
            start = tuple(given[k] if k < min(count, len(given)) else own.get(str(n), v)
                          for k, (n, v) in enumerate(zip(made.names, made.start, strict=True)))  # fmt: skip
            return replace(made, start=start, rng=program.rng)
        return replace(program, call=function)

    def _expected(self, program: Program, values: Sequence[Tensor], weights: Sequence[Tensor]) -> Gradients:
        other = self.reference or self.surrogate
        if other is None and self.opaque:
            return program.gradients(values, weights)
        if other is None:
            return self._raw(program, values, weights)
        twin = self.other(replace(program, start=tuple(values)), other)
        if len(twin.start) != len(values):
            raise InputError(
                "the reference has other parameters than what is checked; give functions of the same inputs"
            )
        return twin.gradients(twin.start, weights)

    def _case(
        self, program: Program, values: Sequence[Tensor], weights: tuple[Tensor, ...], expected: Gradients | None = None
    ) -> Case:
        claimed = self.claimed(program, values, weights)
        try:
            expected = self._expected(program, values, weights) if expected is None else expected
        except InputError:
            raise
        except FAILS as error:
            if self.reference or self.surrogate:
                raise InputError(f"the reference cannot be differentiated here: {line_of_error(error)}") from None
            expected = [None for _ in claimed]
        return Case(weights, claimed, expected, self._compared(program, values, weights, claimed, expected))

    def _compared(
        self,
        program: Program,
        values: Sequence[Tensor],
        weights: Sequence[Tensor],
        claimed: Gradients,
        expected: Gradients,
    ) -> Masks:
        masks = quick_masks(claimed, expected, values)
        if not any_wrong(masks) or all(e is None for e in expected):
            return masks
        eps = max([2 * program.rounding, *(torch.finfo(v.dtype).eps for v in values)])
        if self.claims:
            eps = max([eps, *(torch.finfo(c.read(program).dtype).eps for c in self.claims.values())])
        runs = [lambda: self._expected(program, values, weights)]
        if not self.is_compiled:  # which it would not be under a look at its operations
            runs.append(lambda: self.claimed(program, values, weights))
        allowed = tolerances(runs, [expected, claimed][: len(runs)], values, eps)
        masks = both(masks, wrong_masks(claimed, expected, values, allowed))
        return (
            self._beyond_variation(program, values, weights, (claimed, expected), masks) if any_wrong(masks) else masks
        )

    def _beyond_variation(
        self,
        program: Program,
        values: Sequence[Tensor],
        weights: Sequence[Tensor],
        pair: tuple[Gradients, Gradients],
        masks: Masks,
    ) -> Masks:
        """The wrong entries that are wrong by more than the claimed gradient varies from run to run (as with atomics)."""
        if self.claims:
            return masks
        claimed, expected = pair
        runs = [self.claimed(program, values, weights) for _ in range(4)]
        spread = [torch.zeros(v.shape, dtype=torch.float64) for v in values]
        for run in runs:
            for k, (a, b) in enumerate(zip(run, claimed, strict=True)):
                if a is not None and b is not None and a.numel():
                    spread[k] = torch.maximum(spread[k], (a - b).abs().nan_to_num(0.0).cpu().double())
        most = [float(s.max()) / (float(c.abs().max()) or 1.0) if c is not None and s.numel() else 0.0
                for s, c in zip(spread, claimed, strict=True)]  # fmt: skip
        if not any(most):
            return masks
        if not self.varies:
            self.notes.append(
                f"the gradient varies from run to run by {max(most):.1g} of its size; ten times that counts as no difference"
            )
        self.varies = max(self.varies, *most)
        return both(
            masks,
            wrong_masks(claimed, expected, values, [10 * s.clamp_min(s.max()) if s.numel() else s for s in spread]),
        )
