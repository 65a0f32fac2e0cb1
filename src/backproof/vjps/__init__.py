"""The table of vector-Jacobian products: for each operation, what its adjoint sends to each of its operands."""

from . import complex, layers
from .fused import Fused, fused
from .general import VJP, VJPS, Contributions, Rule, _elementwise, has_vjp, rule_of, vjp_of
from .textbook import is_unknown, pull_back

__all__ = [
    "VJP", "VJPS", "Contributions", "Fused", "Rule", "_elementwise", "fused", "has_vjp", "is_unknown", "pull_back", "rule_of",
    "vjp_of",
]  # fmt: skip

_ = (complex, layers)  # imported for what it registers
