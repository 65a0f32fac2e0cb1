"""Comparing the numbers of a record with those of another way, entry by entry where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..program import Program
from ..steps import Step
from ..verdicts import GRADIENT_FLOOR, ROUNDED, ROUNDING, VALUE_FLOOR
from .reach import Reach
from .tally import Tally

__all__ = ["Gauge", "compare", "is_number", "scale_of", "unit_of", "wide"]

WITHIN = (
    "rounding alone carries these entries this far (larger terms cancel there, or a kink lies within rounding): their "
    "digits say nothing"
)
_DOUBLE = 2.0**-53


def is_number(tensor: Tensor) -> bool:
    """Whether the entries are real or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def wide(tensor: Tensor) -> Tensor:
    """In double precision."""
    return tensor.to(torch.complex128) if tensor.is_complex() else tensor.double()


def scale_of(tensors: Iterable[Tensor | None]) -> float:
    """The largest finite entry of all."""
    return max((_largest(t) for t in tensors if t is not None and t.numel() and is_number(t)), default=0.0)


def _largest(tensor: Tensor) -> float:
    sizes = tensor.detach().abs()
    if not bool(torch.isfinite(largest := sizes.max())):
        sizes = sizes[sizes.isfinite()]
        largest = sizes.max() if sizes.numel() else sizes.new_zeros(())
    return float(largest)


def unit_of(oracle: str, tally: Tally) -> float:
    """The unit of rounding in a comparison: of the record's own dtype where the oracle is about that, else of float64."""
    return max(tally.eps / 2, _DOUBLE) if oracle in ROUNDED else _DOUBLE


def compare(
    tally: Tally,
    what: str,
    oracle: str,
    ours: Tensor,
    theirs: Tensor,
    least: float,
    reach: Callable[[], Tensor | None],
) -> None:
    """Note the largest difference, relative to the tensor's size; entries that rounding carries this far are set apart.

    Args:
        tally: what it is noted in.
        what, oracle: the row.
        ours, theirs: the numbers.
        least: the size below which no tensor's own size counts.
        reach: by how much each entry may differ by rounding alone; asked only where something differs.
    """
    if not ours.numel():
        return tally.add(what, oracle, 0.0, 0)
    ours, theirs = wide(ours), wide(theirs)
    off = (ours - theirs).abs()
    off[ours == theirs] = 0.0  # also where both are infinite
    errors = off / max(_largest(theirs), least, 1e-300)
    wrong = ~(errors <= tally.allowed(oracle))
    if bool(wrong.any()) and (furthest := reach()) is not None:
        within = wrong & (off <= furthest.to(off.device).reshape(off.shape))
        if count := int(within.sum()):
            tally.within(what, oracle, count, WITHIN)
            errors = errors[~within]
    if errors.numel():
        tally.add(what, oracle, errors.max().item(), errors.numel())
    return None


@dataclass
class Gauge:
    """Compares the values and gradients of one step with those of other ways.

    Args:
        tally: what is noted.
        program, step: what was run; the step in float64.
    """

    tally: Tally
    program: Program
    step: Step
    _reaches: dict[float, Reach] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scales = {"value": scale_of(self.step.values.values()), "gradient": scale_of(self.step.gradients.values())}

    def reach(self, kind: str, name: str, oracle: str = "") -> Tensor | None:
        """By how much each entry may differ by rounding alone."""
        unit = unit_of(oracle, self.tally)
        return self._reaches.setdefault(unit, Reach(self.program, self.step, unit))(kind, name)

    def value(self, name: str, oracle: str, ours: Tensor, theirs: Tensor) -> None:
        """Compare a value."""
        self._add("value", VALUE_FLOOR, name, oracle, ours, theirs)

    def gradient(self, name: str, oracle: str, ours: Tensor, theirs: Tensor) -> None:
        """Compare a gradient."""
        self._add("gradient", GRADIENT_FLOOR, name, oracle, ours, theirs)

    def _add(self, kind: str, floor: float, name: str, oracle: str, ours: Tensor, theirs: Tensor) -> None:
        # what cancels leaves rounding errors of the model's own dtype behind
        noise = min(0.5, 1e4 * self.tally.eps) if oracle == ROUNDING else 0.0
        least = max(floor, noise) * self.scales[kind]
        compare(self.tally, f"{kind} of {name}", oracle, ours, theirs, least, lambda: self.reach(kind, name, oracle))
