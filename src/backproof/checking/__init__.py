"""Checking gradients: the oracles, the comparison entry by entry, and the search for the mistake."""

from .check import check
from .checked import Checked, Entry, Oracle, Where
from .modes import batched, forward_mode
from .program import program_of, wide

__all__ = ["Checked", "Entry", "Oracle", "Where", "batched", "check", "forward_mode", "program_of", "wide"]
