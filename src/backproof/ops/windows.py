"""Windows that slide along an axis: how many there are, where they begin and end, what a mean over one divides by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Window", "adaptive_windows", "count_windows", "pool_windows"]

Window = tuple[int, int, int]
"""First entry, one past the last entry, and the share of the divisor that the axis has in a mean."""


def count_windows(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows fit along an axis; with ``ceil_mode`` also one that begins inside and ends outside."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    return count - 1 if ceil_mode and (count - 1) * stride >= size + padding else count


def pool_windows(size: int, axis: int, attrs: Mapping[str, Any]) -> list[Window]:
    """The windows of an average pool along one of its axes.

    The mean over a window divides by the entries it covers, padding included where ``count_include_pad`` says so; what
    ``ceil_mode`` adds beyond the padding never counts.
    """
    kernel, stride, padding = attrs["kernel"][axis], attrs["stride"][axis], attrs["padding"][axis]
    found = []
    for i in range(count_windows(size, kernel, stride, padding, 1, attrs["ceil_mode"])):
        start = i * stride - padding
        end = min(start + kernel, size + padding)
        inside = (max(start, 0), min(end, size))
        found.append((*inside, end - start if attrs["count_include_pad"] else inside[1] - inside[0]))
    return found


def adaptive_windows(size: int, wanted: int) -> list[Window]:
    """The windows of an adaptive average pool along an axis: as even as they can be, overlapping where they must."""
    ends = [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]
    return [(start, end, end - start) for start, end in ends]
