"""Formulas as people write them ("sin(w @ x) - b"): parsed, checked and read into a Graph, never evaluated as code."""

from .parse import MAX_LENGTH, parse
from .quantity import Given, read_quantity
from .read import FormulaOrigin, read_model

__all__ = ["MAX_LENGTH", "FormulaOrigin", "Given", "parse", "read_model", "read_quantity"]
