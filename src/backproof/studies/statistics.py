"""What is left of a tensor that is not kept: its shape, its sizes, a histogram and a heat map of block means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["CHUNK", "Statistics"]

CHUNK = 2**18
"""So many entries are looked at at a time in float64."""
_BINS, _CELLS = 24, 12
_MAPS = 4
"""Feature maps (the first sample's first channels) that are shown side by side."""


@dataclass(frozen=True)
class Statistics:
    """A tensor at a glance.

    Args:
        shape, dtype: of the tensor.
        min, max, mean, norm: of its entries; the norm is the root of the sum of their squares.
        mean_size, largest: the mean and the maximum of their absolute values.
        counts: a histogram from min to max.
        cells: block means of the matrix, or of the first few feature maps side by side, relative to the largest; empty
            for a vector.

    Example:
        >>> import torch
        >>> Statistics.of(torch.tensor([3.0, -4.0])).norm
        5.0
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    min: float
    max: float
    mean: float
    norm: float
    mean_size: float
    largest: float
    counts: tuple[int, ...]
    cells: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Statistics:
        """The statistics of a tensor, in passes that copy nothing of its size."""
        real = tensor.detach()
        real = real if real.is_floating_point() else real.float() if not real.is_complex() else real.abs()
        if not real.numel():
            return cls(tuple(tensor.shape), tensor.dtype, *(0.0,) * 6, (), ())
        low, high = (float(x) for x in torch.aminmax(real))
        mean, size, norm = _sizes(real)
        largest = max(abs(low), abs(high))
        return cls(
            tuple(tensor.shape),
            tensor.dtype,
            low,
            high,
            mean,
            norm,
            size,
            largest,
            _counts(real, low, high),
            _cells(real),
        )

    def numel(self) -> int:
        """The number of entries."""
        return torch.Size(self.shape).numel()

    def to_dict(self) -> dict[str, Any]:
        """The summary that a long tensor has in JSON."""
        from ..result import plain

        sizes = {"min": self.min, "max": self.max, "mean": self.mean, "norm": self.norm}
        return {"shape": list(self.shape), "dtype": str(self.dtype).removeprefix("torch."), **plain(sizes)}


def _sizes(tensor: Tensor) -> tuple[float, float, float]:
    """The mean, the mean absolute value and the norm, in float64, piece by piece."""
    total = sizes = squares = 0.0
    for piece in tensor.reshape(-1).split(CHUNK):
        wide = piece.double()
        total, squares = total + wide.sum().item(), squares + wide.dot(wide).item()
        sizes += wide.abs_().sum().item() if wide is not piece else wide.abs().sum().item()
    return total / tensor.numel(), sizes / tensor.numel(), math.sqrt(squares)


def _counts(tensor: Tensor, low: float, high: float) -> tuple[int, ...]:
    if not low < high or not torch.isfinite(torch.tensor([low, high])).all():
        return (tensor.numel(),)
    wide = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    return tuple(int(c) for c in torch.histc(wide.reshape(-1), _BINS, low, high))


def _cells(tensor: Tensor) -> tuple[tuple[float, ...], ...]:
    if tensor.ndim < 2 or min(tensor.shape[-2:]) < 2:
        return ()
    if tensor.ndim > 3:
        maps = tensor.reshape(-1, *tensor.shape[-2:])[:_MAPS]
    else:
        maps = tensor.reshape(1, -1, tensor.shape[-1])
    size = min(_CELLS, maps.shape[1]), min(_CELLS, maps.shape[2])
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, size).double()
    means: Any = torch.cat(list(pooled), dim=1)
    largest = means.abs().max().item() or 1.0
    return tuple(tuple(round(v / largest, 3) for v in row) for row in means.tolist())
