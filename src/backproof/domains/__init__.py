"""How a theory reads the Graph: one file per domain, rules by operation or by family."""

from .base import REGISTERED, Domain, register

__all__ = ["REGISTERED", "Domain", "register"]
