"""Formulas as people write them ("sin(w @ x) - b"): parsed, checked and read into a Graph, never evaluated as code."""

from .parse import MAX_LENGTH, parse
from .quantity import Declared, Given, declared, read_quantity
from .read import FormulaOrigin, is_function, read_model

__all__ = [
    "MAX_LENGTH", "Declared", "FormulaOrigin", "Given", "declared", "is_function", "parse", "read_model", "read_quantity",
]  # fmt: skip
