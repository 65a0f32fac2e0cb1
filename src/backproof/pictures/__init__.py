"""Pictures of a Graph: its operations, and for a small dense net its units, as Drawings."""

from .network import units
from .operations import operations

__all__ = ["operations", "units"]
