"""From ATen overloads to our operations: entries moved about (rolls, flips, shuffles), paddings that look back into the
input, and images made larger or smaller.

All of these pick entries by an index that is known beforehand, so that no operation of their own is needed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..graph import Node
from .lower import Call, lowering

__all__: list[str] = []


def _picked(call: Call, x: Node, axis: int, index: Tensor, name: str) -> Node:
    """The entries of x at the places of an index along one axis."""
    rank = len(x.shape)
    where = call.builder.constant(index, tuple(index.shape), "int64", name=name)
    if axis == 0:
        return call.emit("embedding", x, where)
    others = [i for i in range(rank) if i != axis]
    front = call.emit("embedding", call.emit("permute", x, dims=(axis, *others)), where)
    order = [others.index(i) + 1 if i != axis else 0 for i in range(rank)]
    return call.emit("permute", front, dims=tuple(order))


# --- entries moved about -----------------------------------------------------------------------------------------------
@lowering("roll.default")
def _roll(call: Call) -> Node:
    x: Node = call["self"]
    shifts, dims = list(call["shifts"]), list(call["dims"] or [])
    if not dims:
        flat = call.emit("reshape", x, shape=(math.prod(x.shape),))
        return call.emit("reshape", _picked(call, flat, 0, _rolled(flat.shape[0], shifts[0]), "roll"), shape=x.shape)
    y = x
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % len(x.shape)
        y = _picked(call, y, axis, _rolled(x.shape[axis], shift), "roll")
    return y


def _rolled(size: int, shift: int) -> Tensor:
    return (torch.arange(size) - shift) % size


@lowering("flip.default", "fliplr.default", "flipud.default")
def _flip(call: Call) -> Node:
    kind = call.overload.split(".")[0]
    y: Node = call["self"]
    rank = len(y.shape)
    for dim in {"flipud": [0], "fliplr": [1]}.get(kind) or list(call["dims"]):
        axis = dim % rank
        y = _picked(call, y, axis, torch.arange(y.shape[axis]).flip(0), "flip")
    return y


@lowering("pixel_shuffle.default")
def _pixel_shuffle(call: Call) -> Node:
    """[.., C r r, H, W] to [.., C, H r, W r]."""
    x, r = call["self"], call["upscale_factor"]
    *batch, channels, height, width = x.shape
    apart = call.emit("reshape", x, shape=(*batch, channels // r**2, r, r, height, width))
    n = len(batch)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return call.emit("reshape", call.emit("permute", apart, dims=order), shape=call.shape)


@lowering("pixel_unshuffle.default")
def _pixel_unshuffle(call: Call) -> Node:
    """[.., C, H r, W r] to [.., C r r, H, W]."""
    x, r = call["self"], call["downscale_factor"]
    *batch, channels, height, width = x.shape
    apart = call.emit("reshape", x, shape=(*batch, channels, height // r, r, width // r, r))
    n = len(batch)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return call.emit("reshape", call.emit("permute", apart, dims=order), shape=call.shape)


@lowering("channel_shuffle.default")
def _channel_shuffle(call: Call) -> Node:
    """The channels of all groups in turn."""
    x, groups = call["self"], call["groups"]
    apart = call.emit("reshape", x, shape=(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    order = (0, 2, 1, *range(3, len(x.shape) + 1))
    return call.emit("reshape", call.emit("permute", apart, dims=order), shape=x.shape)


@lowering("repeat.default", "tile.default")
def _repeat(call: Call) -> Node:
    """The whole tensor repeated along each axis, axes of size 1 put in front where there are more repeats than axes."""
    x: Node = call["self"]
    repeats = [int(r) for r in (call["repeats"] or call["dims"])]
    repeats = [1] * (len(x.shape) - len(repeats)) + repeats
    sizes = (1,) * (len(repeats) - len(x.shape)) + x.shape
    apart = call.emit("reshape", x, shape=tuple(v for n in sizes for v in (1, n)))
    wide = call.emit("expand", apart, shape=tuple(v for r, n in zip(repeats, sizes, strict=True) for v in (r, n)))
    return call.emit("reshape", wide, shape=call.shape)


# --- padding -----------------------------------------------------------------------------------------------------------
def _looked_up(mode: str, size: int, before: int, after: int) -> Tensor:
    """Which entry stands at each place of a padded axis."""
    place = torch.arange(-before, size + after)
    if mode == "circular":
        return place % size
    if mode == "replicate":
        return place.clamp(0, size - 1)
    turned = place.abs() % (2 * size - 2) if size > 1 else place * 0
    return torch.where(turned < size, turned, 2 * size - 2 - turned)


@lowering("pad.default", "constant_pad_nd.default")
def _pad(call: Call) -> Node:
    mode, pad = call["mode"] or "constant", tuple(int(p) for p in call["pad"])
    x: Node = call["self"]
    if mode == "constant":
        return call.emit("pad", x, pad=pad, value=float(call["value"] or 0)) if any(pad) else x
    call.refuse_unless(mode in ("reflect", "replicate", "circular"), f"mode={mode!r}")
    y = x
    for i in range(len(pad) // 2):
        axis = len(x.shape) - 1 - i
        if pad[2 * i] or pad[2 * i + 1]:
            y = _picked(call, y, axis, _looked_up(mode, x.shape[axis], pad[2 * i], pad[2 * i + 1]), mode)
    return y


@lowering(*(f"{kind}_pad{rank}d.default" for kind in ("reflection", "replication") for rank in (1, 2, 3)))
def _pad_by_kind(call: Call) -> Node:
    call.args.update(mode="reflect" if call.overload.startswith("reflection") else "replicate", pad=call["padding"])
    y: Node = _pad(call)
    return y


# --- larger and smaller ------------------------------------------------------------------------------------------------
def _scale(call: Call, i: int, rank: int, size: int, wanted: int) -> float:
    """How far two neighbours of the result are apart in the input, as torch reckons it: by the factor where it is given."""
    given = call["scale_factors"]
    if given is None:
        given = [call[k] for k in (("scales",) if rank == 1 else ("scales_d", "scales_h", "scales_w")[-rank:])]
    factor = given[i] if given else None
    return 1 / factor if factor else size / wanted


@lowering("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def _upsample_nearest(call: Call) -> Node:
    """Each entry repeated along each axis; for sizes that are no multiples the entries are picked by index."""
    x: Node = call["input"]
    rank = len(x.shape) - 2
    factors = [m // n for m, n in zip(call.shape[2:], x.shape[2:], strict=True)]
    if any(n * f != m for n, f, m in zip(x.shape[2:], factors, call.shape[2:], strict=True)):
        y = x
        for i, (n, m) in enumerate(zip(x.shape[2:], call.shape[2:], strict=True)):
            place = torch.arange(m, dtype=torch.float32) * torch.tensor(
                _scale(call, i, rank, n, m), dtype=torch.float32
            )
            y = _picked(call, y, i + 2, place.floor().long().clamp(max=n - 1), "nearest")
        return y
    single = [v for n in x.shape[2:] for v in (n, 1)]
    wide = [v for n, f in zip(x.shape[2:], factors, strict=True) for v in (n, f)]
    apart = call.emit("reshape", x, shape=(*x.shape[:2], *single))
    return call.emit("reshape", call.emit("expand", apart, shape=(*x.shape[:2], *wide)), shape=call.shape)


@lowering("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def _upsample_linear(call: Call) -> Node:
    """Between two neighbours along each axis in turn, by their distances."""
    y: Node = call["input"]
    sizes, rank = y.shape[2:], len(y.shape) - 2
    for i, (n, m) in enumerate(zip(sizes, call.shape[2:], strict=True)):
        if n != m:
            scale = _scale(call, i, rank, n, m)
            y = _between(call, y, i + 2, _places(n, m, scale, bool(call["align_corners"])))
    return y


def _places(size: int, wanted: int, scale: float, aligned: bool) -> Tensor:
    """Where each entry of the result lies among the entries of the input."""
    o = torch.arange(wanted, dtype=torch.float64)
    place = o * ((size - 1) / (wanted - 1) if wanted > 1 else 0) if aligned else (o + 0.5) * scale - 0.5
    near = place.round()
    return torch.where((place - near).abs() < 1e-9, near, place).clamp(0, size - 1)


def _between(call: Call, x: Node, axis: int, place: Tensor) -> Node:
    low = place.floor()
    share = place - low
    high = torch.where(share > 0, low + 1, low).clamp(max=x.shape[axis] - 1)
    shape = (-1, *(1,) * (len(x.shape) - 1 - axis))
    parts: list[Node] = []
    for index, weight, name in ((low, 1 - share, "before"), (high, share, "after")):
        factor: Any = weight.to(getattr(torch, x.dtype)).reshape(shape)
        known = call.builder.constant(factor, tuple(factor.shape), x.dtype, name=f"share_{name}")
        parts.append(call.emit("mul", _picked(call, x, axis, index.long(), name), known))
    return call.emit("add", *parts)
