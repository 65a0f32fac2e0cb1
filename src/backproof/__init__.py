"""Backproof shows the work of a neural network.

A model is captured once into a small graph of textbook operations, and each question is that graph read over
another kind of value: numbers, exact numbers, 50-digit floats, formulas.

    >>> import backproof as bp
    >>> solution = bp.solve("ctu-vir-3/sine-neuron")
    >>> solution.answers["dL/dw"]
    [-8.0, -4.0]

Everything is imported when it is first used, so that ``import backproof`` and ``backproof --help`` are instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .capturing import capture
    from .coverage import ops_table
    from .errors import BackproofError, CaptureError, EvidenceError, FormulaError, InputError, MissingRule
    from .problems.catalogue import catalogue
    from .problems.problem import Exercise, Problem
    from .studies.answer import Answer
    from .studies.certify import Certificate, certify
    from .studies.exercise import Answered
    from .studies.propagate import Propagation, propagate
    from .studies.solve import Solution, solve
    from .studies.trace import Trace, trace

__version__ = "0.1.0"

__all__ = [
    "Answer", "Answered", "BackproofError", "CaptureError", "Certificate", "EvidenceError", "Exercise", "FormulaError",
    "InputError", "MissingRule", "Problem", "Propagation",
    "Solution", "Trace", "__version__", "capture", "catalogue", "certify", "ops_table", "propagate", "solve", "trace",
]  # fmt: skip

_HOME = {
    "Answer": "studies.answer",
    "Answered": "studies.exercise",
    "BackproofError": "errors",
    "CaptureError": "errors",
    "Certificate": "studies.certify",
    "EvidenceError": "errors",
    "Exercise": "problems.problem",
    "FormulaError": "errors",
    "InputError": "errors",
    "MissingRule": "errors",
    "Problem": "problems.problem",
    "Propagation": "studies.propagate",
    "Solution": "studies.solve",
    "Trace": "studies.trace",
    "capture": "capturing",
    "catalogue": "problems.catalogue",
    "certify": "studies.certify",
    "ops_table": "coverage",
    "propagate": "studies.propagate",
    "solve": "studies.solve",
    "trace": "studies.trace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'backproof' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
