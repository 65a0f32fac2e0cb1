"""Formulas as people write them ("sin(w @ x) - b"): parsed, checked and read into a Graph, never evaluated as code."""

from .parse import MAX_LENGTH, parse
from .read import FormulaOrigin, Given, read_model, read_quantity

__all__ = ["MAX_LENGTH", "FormulaOrigin", "Given", "parse", "read_model", "read_quantity"]
