"""Every error that Backproof raises on purpose.

    BackproofError
    ├── CaptureError      the model or formula could not become a Graph
    ├── FormulaError      a formula or a TOML problem could not be read
    ├── InputError        a setting, a file, a shape or a number is not usable
    ├── MissingRule       a domain has no rule for an operation of the graph
    └── EvidenceError     two independent ways to the same number disagree

Each message is one paragraph: what happened, where, what to do. The command line prints it and exits with 2
(an EvidenceError is a finding and exits with 1).
"""

from __future__ import annotations

__all__ = ["BackproofError", "CaptureError", "EvidenceError", "FormulaError", "InputError", "MissingRule"]


class BackproofError(Exception):
    """The base of all errors with a message meant for the user."""


class CaptureError(BackproofError):
    """The model could not be captured; the message names the user's line."""


class FormulaError(BackproofError):
    """A formula, or the TOML file around it, could not be read; the message quotes the place."""


class InputError(BackproofError):
    """A setting, file, shape or number that cannot be used."""


class MissingRule(BackproofError):
    """A domain has no rule for an operation; the message lists every gap in the graph at once."""


class EvidenceError(BackproofError):
    """Two independent ways to the same number disagree."""
