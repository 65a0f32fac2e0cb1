"""The analyses that a problem may ask for beside its record, by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from ..answer import Answer
from ..prepare import Prepared
from ..trace import Step

__all__ = ["analyse"]

_HOME = {
    # name as a problem asks for it: module beside this one that has a function of that name
    "optimum": "general",
    "curvature": "general",
    "uncleared": "general",
    "fit": "general",
    "compare": "general",
    "kinks": "kinks",
    "softmax": "softmax",
    "margin": "margin",
    "elementwise": "elementwise",
    "rates": "rates",
    "watch": "fitting",
    "against": "fitting",
    "likelihood": "likelihood",
}


def analyse(prepared: Prepared, steps: Sequence[Step]) -> list[Answer]:
    """Run the analyses that the problem asks for, in order ("accumulated" belongs to the asked derivatives)."""
    found = []
    for name in prepared.also:
        kind, _, argument = name.partition(":")
        if kind in _HOME:
            study = getattr(importlib.import_module(f".{_HOME[kind]}", __package__), kind)
            found.append(study(prepared, steps, *([argument] if argument else [])))
    return found
