"""The worked problem sets: problem files that any user could have written, and what reads them."""

from .catalogue import catalogue
from .problem import Conventions, FormulaProblem, Problem

__all__ = ["Conventions", "FormulaProblem", "Problem", "catalogue"]
