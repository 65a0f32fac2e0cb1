"""Rounding of float64 arrays to narrower floats, for rules that calculate in them on the way."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ROUNDED"]


def _bfloat16(x: Any) -> Any:
    """Round to 8 bits of mantissa, to nearest, ties to even."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)


ROUNDED: dict[str, Any] = {
    "bfloat16": _bfloat16,
    "float16": lambda x: np.asarray(x, dtype=np.float16).astype(np.float64),
    "float32": lambda x: np.asarray(x, dtype=np.float32).astype(np.float64),
    "float64": lambda x: x,
}
