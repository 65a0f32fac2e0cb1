"""The mistake in words, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .checked import Where
from .compare import Gradients, Masks
from .functions import backward_line
from .program import Program

__all__ = ["name_the_mistake"]


def name_the_mistake(
    exam: Any, program: Program, weights: Sequence[Tensor], claimed: Gradients, expected: Gradients, masks: Masks
) -> tuple[str | None, Where | None]:
    """The mistake in words or None, and where it is or None."""
    site = exam.sites[0] if exam.sites else None
    where = Where(site.function.__name__, site.module, backward_line(site.function)) if site else None
    return None, where
