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
    from .checking import Checked, check
    from .coverage import ops_table
    from .errors import BackproofError, CaptureError, EvidenceError, FormulaError, InputError, MissingRule
    from .problems.catalogue import catalogue
    from .problems.problem import Exercise, Problem
    from .studies.answer import Answer
    from .studies.certificates.certify import Certificate, certify
    from .studies.curvature.sharpness import Curvature, curvature
    from .studies.derivation.derive import Derived, DerivedEquation, derive
    from .studies.deviations.check import check_optimizer
    from .studies.deviations.checked import OptimizerChecked
    from .studies.exercise import Answered
    from .studies.fields.receptive import ReceptiveField, receptive_field
    from .studies.fields.sizes import minimum_input, output_size
    from .studies.likelihood import Likelihood, likelihood
    from .studies.marking.mark import Marked, mark
    from .studies.memory.exercise import memory_exercise
    from .studies.memory.measure import Measurement
    from .studies.memory.memory import Memory, memory
    from .studies.memory.plan import Plan
    from .studies.nets.depth import depth_study
    from .studies.nets.shift import Contender, shift_study
    from .studies.optimizer.kept_by_all import kept_by_all
    from .studies.optimizer.same_gradient import constant_gradient
    from .studies.optimizer.study import OptimizerStudy, optimizer
    from .studies.propagation.propagate import Propagation, propagate
    from .studies.search.lr_range import LearningRates, lr_range
    from .studies.search.search import Search, search
    from .studies.solve import Solution, solve
    from .studies.trace import Trace, trace
    from .studies.training import History, train
    from .studies.trajectories.trajectories import Trajectories, trajectories
    from .studies.watching.watch import Watch, watch
    from .studies.watching.watched import Watched

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Answered",
    "BackproofError",
    "CaptureError",
    "Certificate",
    "Checked",
    "Contender",
    "Curvature",
    "Derived",
    "DerivedEquation",
    "EvidenceError",
    "Exercise",
    "FormulaError",
    "History",
    "InputError",
    "LearningRates",
    "Likelihood",
    "Marked",
    "Measurement",
    "Memory",
    "MissingRule",
    "OptimizerChecked",
    "OptimizerStudy",
    "Plan",
    "Problem",
    "Propagation",
    "ReceptiveField",
    "Search",
    "Solution",
    "Trace",
    "Trajectories",
    "Watch",
    "Watched",
    "__version__",
    "capture",
    "catalogue",
    "certify",
    "check",
    "check_optimizer",
    "constant_gradient",
    "curvature",
    "depth_study",
    "derive",
    "kept_by_all",
    "likelihood",
    "lr_range",
    "mark",
    "memory",
    "memory_exercise",
    "minimum_input",
    "ops_table",
    "optimizer",
    "output_size",
    "propagate",
    "receptive_field",
    "search",
    "shift_study",
    "solve",
    "trace",
    "train",
    "trajectories",
    "watch",
]

_HOME = {
    "Answer": "studies.answer",
    "Answered": "studies.exercise",
    "BackproofError": "errors",
    "CaptureError": "errors",
    "Certificate": "studies.certificates.certify",
    "Checked": "checking",
    "Contender": "studies.nets.shift",
    "Curvature": "studies.curvature.sharpness",
    "Derived": "studies.derivation.derive",
    "DerivedEquation": "studies.derivation.derive",
    "EvidenceError": "errors",
    "Exercise": "problems.problem",
    "FormulaError": "errors",
    "History": "studies.training",
    "InputError": "errors",
    "LearningRates": "studies.search.lr_range",
    "Likelihood": "studies.likelihood",
    "Marked": "studies.marking.mark",
    "Measurement": "studies.memory.measure",
    "Memory": "studies.memory.memory",
    "MissingRule": "errors",
    "OptimizerChecked": "studies.deviations.checked",
    "OptimizerStudy": "studies.optimizer.study",
    "Plan": "studies.memory.plan",
    "Problem": "problems.problem",
    "Propagation": "studies.propagation.propagate",
    "ReceptiveField": "studies.fields.receptive",
    "Search": "studies.search.search",
    "Solution": "studies.solve",
    "Trace": "studies.trace",
    "Trajectories": "studies.trajectories.trajectories",
    "Watch": "studies.watching.watch",
    "Watched": "studies.watching.watched",
    "capture": "capturing",
    "catalogue": "problems.catalogue",
    "certify": "studies.certificates.certify",
    "check": "checking",
    "check_optimizer": "studies.deviations.check",
    "constant_gradient": "studies.optimizer.same_gradient",
    "curvature": "studies.curvature.sharpness",
    "depth_study": "studies.nets.depth",
    "derive": "studies.derivation.derive",
    "kept_by_all": "studies.optimizer.kept_by_all",
    "likelihood": "studies.likelihood",
    "lr_range": "studies.search.lr_range",
    "mark": "studies.marking.mark",
    "memory": "studies.memory.memory",
    "memory_exercise": "studies.memory.exercise",
    "minimum_input": "studies.fields.sizes",
    "ops_table": "coverage",
    "optimizer": "studies.optimizer.study",
    "output_size": "studies.fields.sizes",
    "propagate": "studies.propagation.propagate",
    "receptive_field": "studies.fields.receptive",
    "search": "studies.search.search",
    "shift_study": "studies.nets.shift",
    "solve": "studies.solve",
    "trace": "studies.trace",
    "train": "studies.training",
    "trajectories": "studies.trajectories.trajectories",
    "watch": "studies.watching.watch",
}


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module(".testing", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'backproof' has no attribute '{name}'")
    if _HOME[name] != "errors":
        importlib.import_module(".plugins", __name__).load()
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
