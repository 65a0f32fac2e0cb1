"""One entry of a convolution or a normalisation computed again from the few entries that it depends on.

The neighbourhood is cut out, so that what is computed again in 50 digits is a convolution at a single place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...graph import Node

__all__ = ["CUT", "Cut"]

Place = tuple[int, ...]
Cut = tuple[list[Tensor], tuple[int, ...], dict[str, Any]]
"""Small operands, the shape of the small result (one entry), and the attributes that are other than the node's."""


def _plain(rank: int) -> dict[str, Any]:
    return {"stride": (1,) * rank, "padding": (0,) * rank, "dilation": (1,) * rank, "groups": 1}


def _axes(node: Node) -> list[tuple[int, int, int]]:
    return list(zip(node.attrs["stride"], node.attrs["padding"], node.attrs["dilation"], strict=True))


def _group(node: Node, channel: int, channels: int, others: int) -> slice:
    """The channels on the other side that belong to the group of a channel."""
    groups = node.attrs["groups"]
    g, size = channel // (channels // groups), others // groups
    return slice(g * size, (g + 1) * size)


def _padded(node: Node, x: Tensor) -> Tensor:
    return F.pad(x, [p for q in reversed(node.attrs["padding"]) for p in (q, q)])


def _conv(node: Node, place: Place, operands: Sequence[Tensor]) -> Cut:
    """The kernel and the window that it lies on."""
    x, weight, *bias = operands
    n, o, *at = place
    rank = len(at)
    window = _padded(node, x[n : n + 1, _group(node, o, weight.shape[0], x.shape[1])])
    for axis, (i, (s, _, d), k) in enumerate(zip(at, _axes(node), weight.shape[2:], strict=True), start=2):
        window = window.narrow(axis, i * s, (k - 1) * d + 1)[(slice(None),) * axis + (slice(None, None, d),)]
    return [window, weight[o : o + 1], *(b[o : o + 1] for b in bias)], (1,) * (rank + 2), _plain(rank)


def _conv_weight_grad(node: Node, place: Place, operands: Sequence[Tensor]) -> Cut:
    """All error signals of a channel and, under each, the entry that this entry of the kernel met."""
    x, delta = operands
    o, i, *at = place
    rank, sent = len(at), delta[:, o : o + 1]
    channel = _group(node, o, delta.shape[1], x.shape[1]).start + i
    met = _padded(node, x[:, channel : channel + 1])
    for axis, (k, (s, _, d), count) in enumerate(zip(at, _axes(node), delta.shape[2:], strict=True), start=2):
        met = met[(slice(None),) * axis + (slice(k * d, k * d + (count - 1) * s + 1, s),)]
    shape = (1,) * (rank + 2)
    return [met, sent], shape, {**_plain(rank), "shape": shape}


def _conv_input_grad(node: Node, place: Place, operands: Sequence[Tensor]) -> Cut:
    """Every error signal that this entry had a part in, each with its weight, as channels of one place."""
    delta, weight = operands
    n, c, *at = place
    rank, channels = len(at), node.shape[1]
    inner = weight.shape[1]
    own = _group(node, c, channels, delta.shape[1])
    pairs = []
    for q, (s, p, d), count, size in zip(at, _axes(node), delta.shape[2:], weight.shape[2:], strict=True):
        found = [(k, (q + p - k * d) // s) for k in range(size) if (q + p - k * d) % s == 0]
        pairs.append([(k, i) for k, i in found if 0 <= i < count])
    both = list(itertools.product(*pairs))
    ones = (1,) * rank
    if not both:
        zero = torch.zeros((1, 1, *ones), dtype=delta.dtype)
        return [zero, zero], (1, 1, *ones), {**_plain(rank), "shape": (1, 1, *ones)}
    there = [_at(delta[n, own], [i for _, i in pair]) for pair in both]
    with_ = [_at(weight[own, c % inner], [k for k, _ in pair]) for pair in both]
    total = (torch.cat(there).reshape(1, -1, *ones), torch.cat(with_).reshape(-1, 1, *ones))
    return list(total), (1, 1, *ones), {**_plain(rank), "shape": (1, 1, *ones)}


def _at(x: Tensor, place: Sequence[int]) -> Tensor:
    """The entry of each channel at a place of the spatial axes."""
    for i in place:
        x = x.select(1, i)
    return x


def _batch_norm(node: Node, place: Place, operands: Sequence[Tensor]) -> Cut:
    """The entry and its channel's mean, variance, weight and bias."""
    x, *vectors = operands
    c = place[1]
    return [x[place].reshape(1, 1), *(v[c : c + 1] for v in vectors)], (1, 1), {}


def _layer_norm(node: Node, place: Place, operands: Sequence[Tensor]) -> Cut:
    """The entry and the mean, variance, weight and bias that broadcasting takes to it."""
    wide = [t.expand(operands[0].shape)[place].reshape(1) for t in operands]
    return wide, (1,), {}


CUT: dict[str, Callable[[Node, Place, Sequence[Tensor]], Cut]] = {
    "conv": _conv,
    "conv_weight_grad": _conv_weight_grad,
    "conv_input_grad": _conv_input_grad,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
}
