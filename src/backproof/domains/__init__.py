"""How a theory reads the Graph: one file per domain, rules by operation or by family."""

from .base import Domain

__all__ = ["Domain"]
