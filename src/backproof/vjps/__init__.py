"""The table of vector-Jacobian products: for each operation, what its adjoint sends to each of its operands."""

from . import arrays, complex, layers
from .fused import Fused, fused
from .general import VJP, VJPS, Contributions, Rule, _elementwise, has_vjp, rule_of, vjp, vjp_of

__all__ = [
    "VJP",
    "VJPS",
    "Contributions",
    "Fused",
    "Rule",
    "_elementwise",
    "fused",
    "has_vjp",
    "rule_of",
    "vjp",
    "vjp_of",
]

_ = (arrays, complex, layers)  # imported for what they register
