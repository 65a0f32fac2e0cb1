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
    from .studies.depth import depth_study
    from .studies.exercise import Answered
    from .studies.marking import Marked, mark
    from .studies.receptive import ReceptiveField, receptive_field
    from .studies.shift import Contender, shift_study
    from .studies.sizes import minimum_input, output_size
    from .studies.solve import Solution, solve
    from .studies.trace import Trace, trace
    from .studies.training import History, train

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Answered",
    "BackproofError",
    "CaptureError",
    "Contender",
    "EvidenceError",
    "Exercise",
    "FormulaError",
    "History",
    "InputError",
    "Marked",
    "MissingRule",
    "Problem",
    "ReceptiveField",
    "Solution",
    "Trace",
    "__version__",
    "capture",
    "catalogue",
    "depth_study",
    "mark",
    "minimum_input",
    "ops_table",
    "output_size",
    "receptive_field",
    "shift_study",
    "solve",
    "trace",
    "train",
]  # fmt: skip

_HOME = {
    "Answer": "studies.answer",
    "Answered": "studies.exercise",
    "BackproofError": "errors",
    "CaptureError": "errors",
    "Contender": "studies.shift",
    "EvidenceError": "errors",
    "Exercise": "problems.problem",
    "FormulaError": "errors",
    "History": "studies.training",
    "InputError": "errors",
    "Marked": "studies.marking",
    "MissingRule": "errors",
    "Problem": "problems.problem",
    "ReceptiveField": "studies.receptive",
    "Solution": "studies.solve",
    "Trace": "studies.trace",
    "capture": "capturing",
    "catalogue": "problems.catalogue",
    "depth_study": "studies.depth",
    "mark": "studies.marking",
    "minimum_input": "studies.sizes",
    "ops_table": "coverage",
    "output_size": "studies.sizes",
    "receptive_field": "studies.receptive",
    "shift_study": "studies.shift",
    "solve": "studies.solve",
    "trace": "studies.trace",
    "train": "studies.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'backproof' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
