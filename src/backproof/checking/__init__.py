"""Checking gradients: the oracles, the comparison entry by entry, and the search for the mistake."""

from .check import check
from .checked import Checked, Entry, Oracle, Where

__all__ = ["Checked", "Entry", "Oracle", "Where", "check"]
