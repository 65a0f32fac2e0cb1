"""The one leaf that the printers add to the formula tree: unsigned digits, spelled as they are shown."""

from __future__ import annotations

from dataclasses import dataclass

from backproof.document.math import Expr

__all__ = ["Digits"]


@dataclass(frozen=True)
class Digits(Expr):
    """Digits without a sign, such as ``0.458``."""

    text: str
