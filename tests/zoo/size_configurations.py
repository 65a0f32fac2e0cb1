"""Configurations of layers drawn at random whose output sizes are compared with torch's own, on the meta device."""

from __future__ import annotations

import random
import warnings
from typing import Any

import torch
from torch import nn

import backproof as bp

__all__ = ["compared"]


def _each(rng: random.Random, rank: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randint(low, high) for _ in range(rank))


def _kind(name: str, rank: int) -> Any:
    return getattr(nn, f"{name}{rank}d")


def _conv(rng: random.Random, rank: int) -> nn.Module:
    mode = rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    stride, padding = _each(rng, rank, 1, 4), _each(rng, rank, 0, 4)
    if rng.random() < 0.2:
        return _kind("Conv", rank)(
            1, 1, _each(rng, rank, 1, 6), 1, "same", _each(rng, rank, 1, 3), padding_mode=mode, device="meta"
        )  # type: ignore[no-any-return]
    return _kind("Conv", rank)(
        1, 1, _each(rng, rank, 1, 6), stride, padding, _each(rng, rank, 1, 3), padding_mode=mode, device="meta"
    )  # type: ignore[no-any-return]


def _transposed(rng: random.Random, rank: int) -> nn.Module:
    stride, dilation = _each(rng, rank, 1, 4), _each(rng, rank, 1, 3)
    more = tuple(rng.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    return _kind("ConvTranspose", rank)(
        1, 1, _each(rng, rank, 1, 5), stride, _each(rng, rank, 0, 2), more, dilation=dilation, device="meta"
    )  # type: ignore[no-any-return]


def _pool(rng: random.Random, rank: int) -> nn.Module:
    kernel = _each(rng, rank, 1, 6)
    padding = tuple(rng.randint(0, k // 2) for k in kernel)
    if rng.random() < 0.5:
        return _kind("MaxPool", rank)(
            kernel, _each(rng, rank, 1, 4), padding, _each(rng, rank, 1, 3), ceil_mode=rng.random() < 0.6
        )  # type: ignore[no-any-return]
    return _kind("AvgPool", rank)(kernel, _each(rng, rank, 1, 4), padding, ceil_mode=rng.random() < 0.6)  # type: ignore[no-any-return]


def _adaptive(rng: random.Random, rank: int) -> nn.Module:
    return _kind(rng.choice(["AdaptiveAvgPool", "AdaptiveMaxPool"]), rank)(_each(rng, rank, 1, 7))  # type: ignore[no-any-return]


def _padding(rng: random.Random, rank: int) -> nn.Module:
    kind = rng.choice(["ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad", "ZeroPad"])
    if kind == "ConstantPad":
        return _kind(kind, rank)(_each(rng, 2 * rank, -2, 4), 0.0)  # type: ignore[no-any-return]
    return _kind(kind, rank)(_each(rng, 2 * rank, 0, 4))  # type: ignore[no-any-return]


def _upsampling(rng: random.Random, rank: int) -> nn.Module:
    return nn.Upsample(scale_factor=rng.choice([2, 3, 1.5, 0.5, 2.5]))


KINDS = [_conv, _conv, _transposed, _pool, _pool, _adaptive, _padding, _upsampling]


def compared(seed: int) -> bool | None:
    """Whether the output size of one configuration is torch's; where torch refuses, whether we do. None: both refuse."""
    rng = random.Random(seed)
    rank = rng.randint(1, 3)
    layer, sizes = rng.choice(KINDS)(rng, rank), _each(rng, rank, 1, 24)
    enlarged = isinstance(layer, nn.Upsample)  # whose number of axes is its input's
    sizes = sizes[:1] * rank if enlarged else sizes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an even kernel with 'same'
        try:
            theirs: tuple[int, ...] | None = tuple(layer(torch.empty(1, 1, *sizes, device="meta")).shape[2:])
        except (RuntimeError, ValueError):
            theirs = None
    if theirs is not None and min(theirs) < 1:
        theirs = None  # an empty result
    try:
        ours: Any = bp.output_size(layer, sizes[:1] if enlarged else sizes)
    except bp.InputError:
        ours = None
    if theirs is None or ours is None:
        return None if theirs is ours else False
    return theirs[: len(ours)] == tuple(ours)
