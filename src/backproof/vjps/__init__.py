"""The table of vector-Jacobian products: for each operation, what its adjoint sends to each of its operands."""

from . import layers
from .general import VJPS, Contributions, Rule, _elementwise, has_vjp, rule_of, vjp_of
from .textbook import is_unknown, pull_back

__all__ = ["VJPS", "Contributions", "Rule", "_elementwise", "has_vjp", "is_unknown", "pull_back", "rule_of", "vjp_of"]

_ = layers  # imported for what it registers
