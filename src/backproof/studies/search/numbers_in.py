"""Settings that are whole numbers within bounds."""

from __future__ import annotations

from typing import Any

from ...errors import InputError

__all__ = ["number_in"]


def number_in(name: str, value: Any, least: int, most: int) -> int:
    """The value as a whole number from ``least`` to ``most``, or a refusal that names the setting.

    Example:
        >>> number_in("epochs", 3.0, 1, 10)
        3
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most:,}, not {value!r}")
    return value
