"""The record as it is embedded in a page: JSON that can stand in a script element, without what no page shows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

__all__ = ["condensed", "record_json"]

MOST_NUMBERS = 64
"""Entries of a tensor that a page may show one by one."""
MOST_OF_LARGE = 8
"""The same where the network is too large to be written out: what has room in its drawing."""


def condensed(record: Mapping[str, object], large: bool = False) -> dict[str, object]:
    """Return the updates of a record without the tensors that are too long for a page to show entry by entry.

    The derivation and the evidence are left out: they stand in the page itself, and the JSON output has all of it.

    Args:
        record: a record of updates.
        large: whether the page shows the network by modules.
    """
    kept = {name: value for name, value in record.items() if name not in ("derivation", "evidence")}
    most = MOST_OF_LARGE if large else MOST_NUMBERS
    return kept | ({"steps": _without_long(record["steps"], most)} if "steps" in record else {})


def _without_long(value: object, most: int) -> object:
    if isinstance(value, Mapping):
        return {name: _without_long(item, most) for name, item in value.items() if not _is_long(item, most)}
    if isinstance(value, (list, tuple)):
        return [_without_long(item, most) for item in value]
    return value


def _is_long(value: object, most: int) -> bool:
    """Whether it is a tensor of more entries, as nested lists or as a summary."""
    if isinstance(value, Mapping):
        return "norm" in value and "shape" in value
    return isinstance(value, (list, tuple)) and _count(value) > most


def _count(nested: object) -> int:
    if isinstance(nested, Mapping):
        return 0
    return sum(map(_count, nested)) if isinstance(nested, (list, tuple)) else 1


def record_json(record: object) -> str:
    """Return a record as JSON that can stand in a <script> element; inf and nan become words."""
    text = json.dumps(_finite(record), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, (str, int, float, type(None))) else str(value)
