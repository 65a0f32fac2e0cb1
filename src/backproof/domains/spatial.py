"""The torch code of convolutions' and pools' adjoints: plain functions that a written-out script contains as they stand.

They are written by hand from the definitions, not taken from torch's own backward, so that comparing with autograd is a
comparison.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

__all__ = ["SPATIAL"]


def both_sides(padding: Sequence[int]) -> list[int]:
    """Padding per axis as F.pad takes it: before and after, from the last axis on."""
    return [p for q in reversed(padding) for p in (q, q)]


def seen_at(
    x: torch.Tensor, place: Sequence[int], counts: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> torch.Tensor:
    """What one entry of a sliding kernel meets in the (padded) input: every stride-th entry from its own place on."""
    axes = zip(place, counts, stride, dilation, strict=True)
    for axis, (k, n, s, d) in enumerate(axes, start=x.ndim - len(counts)):
        x = x[(slice(None),) * axis + (slice(k * d, k * d + (n - 1) * s + 1, s),)]
    return x


def conv_weight_grad(
    x: torch.Tensor,
    delta: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    shape: Sequence[int],
) -> torch.Tensor:
    """For each entry of the kernel: delta times what that entry met, summed over samples and places."""
    padded = F.pad(x, both_sides(padding)).unflatten(1, (groups, -1))
    counts = delta.shape[2:]
    sent = delta.unflatten(1, (groups, -1)).flatten(3)
    grads = []
    for place in itertools.product(*(range(n) for n in shape[2:])):
        met = seen_at(padded, place, counts, stride, dilation).flatten(3)
        grads.append(torch.einsum("ngop,ngcp->goc", sent, met).flatten(0, 1))
    return torch.stack(grads, -1).reshape(tuple(shape))


def conv_input_grad(
    delta: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    shape: Sequence[int],
) -> torch.Tensor:
    """For each entry of the kernel: its weight times delta, added to every entry of the input that it met."""
    wide = [n + 2 * p for n, p in zip(shape[2:], padding, strict=True)]
    total = torch.zeros((*shape[:2], *wide), dtype=delta.dtype, device=delta.device).unflatten(1, (groups, -1))
    counts = delta.shape[2:]
    sent = delta.unflatten(1, (groups, -1)).flatten(3)
    kernels = weight.unflatten(0, (groups, -1))
    for place in itertools.product(*(range(n) for n in weight.shape[2:])):
        back = torch.einsum("ngop,goc->ngcp", sent, kernels[(..., *place)])
        met = seen_at(total, place, counts, stride, dilation)
        met += back.reshape(met.shape)
    return F.pad(total.flatten(1, 2), [-p for p in both_sides(padding)])


def max_pool_index(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> torch.Tensor:
    """The place of each window's largest entry, counted through the spatial axes."""
    pool = getattr(F, f"max_pool{len(kernel)}d")
    index: torch.Tensor = pool(x, kernel, stride, padding, dilation, ceil_mode, return_indices=True)[1]
    return index


def max_pool_grad(
    delta: torch.Tensor,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> torch.Tensor:
    """Each window's delta added to the place of its largest entry."""
    index = max_pool_index(x, kernel, stride, padding, dilation, ceil_mode)
    zeros = torch.zeros(x.flatten(2).shape, dtype=delta.dtype, device=delta.device)
    return zeros.scatter_add(2, index.flatten(2), delta.flatten(2)).reshape(x.shape)


def shared_out(delta: torch.Tensor, windows: Sequence[Sequence[Sequence[int]]], shape: Sequence[int]) -> torch.Tensor:
    """Each window's delta, divided by its divisor, sent to every entry from its start to its end, axis by axis."""
    for axis, along in enumerate(windows):
        share = torch.zeros((len(along), shape[axis + 2]), dtype=delta.dtype, device=delta.device)
        for i, (start, end, divisor) in enumerate(along):
            share[i, start:end] = 1 / divisor
        delta = torch.movedim(torch.movedim(delta, axis + 2, -1) @ share, -1, axis + 2)
    return delta


def avg_pool_grad(
    delta: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    shape: Sequence[int],
) -> torch.Tensor:
    """Each window's delta shared equally among its entries; a window counts its padding where that is asked for."""
    windows = []
    for count, size, k, s, p in zip(delta.shape[2:], shape[2:], kernel, stride, padding, strict=True):
        along = []
        for i in range(count):
            start, end = i * s - p, min(i * s - p + k, size + p)
            inside = max(start, 0), min(end, size)
            along.append((*inside, end - start if count_include_pad else inside[1] - inside[0]))
        windows.append(along)
    return shared_out(delta, windows, shape)


def adaptive_avg_pool_grad(delta: torch.Tensor, output_size: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Each window's delta shared equally among its entries; window i of m reaches from i n/m down to (i + 1) n/m up."""
    windows = []
    for size, count in zip(shape[2:], output_size, strict=True):
        ends = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        windows.append([(start, end, end - start) for start, end in ends])
    return shared_out(delta, windows, shape)


SPATIAL: dict[str, Callable[..., object]] = {
    function.__name__: function
    for function in (
        both_sides,
        seen_at,
        conv_weight_grad,
        conv_input_grad,
        max_pool_index,
        max_pool_grad,
        shared_out,
        avg_pool_grad,
        adaptive_avg_pool_grad,
    )
}
