"""The entries domain: every node is an array of scalars of some arithmetic."""

from . import arrays, layers
from .general import Arithmetic, Array, Entries, entries

__all__ = ["Arithmetic", "Array", "Entries", "entries"]

_ = arrays, layers  # imported for what it registers
