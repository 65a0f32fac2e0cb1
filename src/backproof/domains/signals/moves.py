"""Changes of shape, sums, means and mean pools of fields, and their adjoints."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ...graph import Node
from ...ops.shapes import axes_of
from ..fields import Axis, Field, Known, Layout, Unpredictable, aligned, seen_from
from ..numbers import numbers
from . import errors, signals

__all__: list[str] = []

Value = Field | Known
Back = tuple[Field | None, ...]


@signals.rule("reshape")
def _reshape(node: Node, x: Field) -> Field:
    return x.reshaped(node.shape)


@errors.rule("reshape")
def _reshape_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    return (delta.reshaped(operands[0].shape),)  # type: ignore[union-attr]


@signals.rule("permute")
def _permute(node: Node, x: Field) -> Field:
    return x.permuted(node.attrs["dims"])


@errors.rule("permute")
def _permute_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    dims = [d % len(node.shape) for d in node.attrs["dims"]]
    return (delta.permuted([dims.index(i) for i in range(len(dims))]),)


@signals.rule("expand")
def _expand(node: Node, x: Field) -> Field:
    pad = len(node.shape) - len(x.layout)
    found = replace(x, layout=(*((),) * pad, *x.layout))
    for d, n in enumerate(node.shape):
        if n != 1 and found.shape[d] == 1:
            found = found.stretched(d, n)
    return found


@errors.rule("expand")
def _expand_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    from .entrywise import narrowed

    return (narrowed(delta, operands[0].shape),)  # type: ignore[union-attr]


@signals.rule("sum_to")
def _sum_to(node: Node, x: Field) -> Field:
    from .entrywise import narrowed

    return narrowed(x, node.shape)


# --- sums -------------------------------------------------------------------------------------------------------------
@signals.rule("sum", "mean")
def _reduced(node: Node, x: Field) -> Field:
    axes = axes_of(node.attrs["dim"], len(x.shape))
    count = math.prod(x.shape[i] for i in axes)
    return x.summed(axes, 1 / max(count, 1) if node.op.name == "mean" else 1.0).reshaped(node.shape)


@errors.rule("sum", "mean")
def _reduced_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    shape = operands[0].shape  # type: ignore[union-attr]
    axes = axes_of(node.attrs["dim"], len(shape))
    count = math.prod(shape[i] for i in axes)
    delta = delta.reshaped([1 if i in axes else n for i, n in enumerate(shape)])
    for d in axes:
        if shape[d] > 1:
            delta = delta.stretched(d, shape[d])
    return (delta.scaled(1 / max(count, 1) if node.op.name == "mean" else 1.0),)


# --- parts ------------------------------------------------------------------------------------------------------------
def _single(x: Field, d: int) -> Axis:
    """The one stretch that an axis consists of."""
    if len(x.layout[d]) > 1:
        raise Unpredictable("a part of an axis that mixes features and positions")
    return x.layout[d][0] if x.layout[d] else Axis(1, "feature")


def _rearranged(x: Field, d: int, picked: Tensor) -> Field:
    """Entries ``picked`` of axis d."""
    axis = _single(x, d)
    layout = (*x.layout[:d], (Axis(len(picked), axis.kind),) if len(picked) > 1 else (), *x.layout[d + 1 :])
    if axis.kind != "position":
        return replace(x, layout=layout)
    place = sum(a.kind == "position" for dim in x.layout[:d] for a in dim)
    numbered = torch.arange(len(x.mean)).reshape(x.sizes)
    return x.at(numbered.index_select(place, picked), layout)


def _placed(delta: Field, d: int, n: int, picked: Tensor) -> Field:
    """The adjoint of picking: the entries in their places on an axis of n, zeros elsewhere."""
    kinds = {a.kind for a in delta.layout[d]}
    if kinds - {"position"} or not kinds:
        share = len(picked) / n
        layout = (*delta.layout[:d], (Axis(n, "feature"),), *delta.layout[d + 1 :])
        return replace(delta, layout=layout, mean=delta.mean * share, kernel=delta.kernel * share, gaussian=False)
    sizes = delta.sizes
    place = sum(a.kind == "position" for dim in delta.layout[:d] for a in dim)
    wide = (*sizes[:place], n, *sizes[place + 1 :])
    at = torch.arange(math.prod(wide)).reshape(wide).index_select(place, picked).reshape(-1)
    mean = torch.zeros(math.prod(wide), dtype=torch.float64)
    kernel = torch.zeros((len(mean), len(mean)), dtype=torch.float64)
    mean[at] = delta.mean
    kernel[at[:, None], at[None, :]] = delta.kernel
    layout = (*delta.layout[:d], (Axis(n, "position"),), *delta.layout[d + 1 :])
    return replace(delta, layout=layout, mean=mean, kernel=kernel)


def _picked(node: Node, n: int) -> Tensor:
    if node.op.name == "select":
        return torch.tensor([node.attrs["index"] % n])
    return torch.arange(n)[slice(node.attrs["start"], node.attrs["end"], node.attrs["step"])]


@signals.rule("select", "slice")
def _part(node: Node, x: Field) -> Field:
    d = node.attrs["dim"] % len(x.layout)
    return _rearranged(x, d, _picked(node, x.shape[d])).reshaped(node.shape)


@errors.rule("select", "slice")
def _part_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    x = operands[0]
    assert isinstance(x, Field)
    d = node.attrs["dim"] % len(x.layout)
    picked = _picked(node, x.shape[d])
    wide = [len(picked) if i == d else n for i, n in enumerate(x.shape)]
    delta = delta.reshaped(wide)
    if any(a.kind == "position" for a in x.layout[d]):
        for k in range(len(delta.layout[d])):
            delta = delta.as_positions(d, k)
        if not delta.layout[d]:
            delta = replace(delta, layout=(*delta.layout[:d], (Axis(1, "position"),), *delta.layout[d + 1 :]))
    return (_placed(delta, d, x.shape[d], picked),)


@signals.rule("cat")
def _cat(node: Node, *parts: Value) -> Field:
    """Side by side: along features a mixture, along positions independent blocks."""
    some = next(x for x in parts if isinstance(x, Field))
    fields = [x if isinstance(x, Field) else seen_from(x, some) for x in parts]
    d = node.attrs["dim"] % len(node.shape)
    if all(a.kind == "position" for x in fields for a in x.layout[d]):
        return _beside(fields, d)
    total = sum(x.shape[d] for x in fields)
    mean, kernel, layout = None, None, None
    for x in fields:
        one = (
            replace(x, layout=(*x.layout[:d], (), *x.layout[d + 1 :])) if _even(x, d) else x.summed([d], 1 / x.shape[d])
        )
        if layout is not None:
            one, _ = aligned(one, Field(layout, mean, kernel))  # type: ignore[arg-type]
        share = x.shape[d] / total
        mean = one.mean * share if mean is None else mean + one.mean * share
        kernel = one.kernel * share if kernel is None else kernel + one.kernel * share
        layout = one.layout
    assert mean is not None and kernel is not None and layout is not None
    whole = (*layout[:d], (Axis(total, "feature"),), *layout[d + 1 :])
    return Field(whole, mean, kernel, all(x.gaussian for x in fields))


def _even(x: Field, d: int) -> bool:
    return all(a.kind != "position" for a in x.layout[d])


def _beside(fields: list[Field], d: int) -> Field:
    """Blocks along an axis of positions."""
    placed = []
    total, before = sum(x.shape[d] for x in fields), 0
    for x in fields:
        picked = torch.arange(before, before + x.shape[d])
        wide = x if x.layout[d] else replace(x, layout=(*x.layout[:d], (Axis(1, "position"),), *x.layout[d + 1 :]))
        placed.append(_placed(wide, d, total, picked))
        before += x.shape[d]
    first = placed[0]
    for other in placed[1:]:
        one, two = aligned(first, other)
        cross = torch.outer(one.mean, two.mean)
        first = Field(one.layout, one.mean + two.mean, one.kernel + two.kernel + cross + cross.T, False)
    return first


@errors.rule("cat")
def _cat_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    d = node.attrs["dim"] % len(node.shape)
    found: list[Field | None] = []
    before = 0
    for x in operands:
        n = x.shape[d] if isinstance(x, Field) else x.values.shape[d]
        picked = torch.arange(before, before + n)
        before += n
        found.append(_rearranged(delta, d, picked) if isinstance(x, Field) else None)
    return tuple(found)


@signals.rule("stack")
def _stack(node: Node, *parts: Value) -> Field:
    """One behind the other along a new axis of positions; between them only the means are kept."""
    some = next(x for x in parts if isinstance(x, Field))
    fields = [x if isinstance(x, Field) else seen_from(x, some) for x in parts]
    d = node.attrs["dim"] % len(node.shape)
    return _beside([replace(x, layout=(*x.layout[:d], (), *x.layout[d:])) for x in fields], d)


@errors.rule("stack")
def _stack_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    d = node.attrs["dim"] % len(node.shape)
    parts = [_rearranged(delta, d, torch.tensor([i])) for i in range(len(operands))]
    return tuple(p.reshaped(x.shape) if isinstance(x, Field) else None for x, p in zip(operands, parts, strict=True))


# --- maps of positions alone --------------------------------------------------------------------------------------------
def _each_way(node: Node, x: Field, adjoint: bool, shape: tuple[int, ...]) -> Field:
    """A linear operation on the spatial axes applied to both sides of the kernel: A K Aᵀ."""
    for d in range(len(x.layout)):
        if d != 1:
            for k in range(len(x.layout[d])):
                x = x.as_positions(d, k)
    n, spatial = x.shape[0], x.shape[2:]
    count = math.prod(x.shape[:1] + spatial)

    def apply(rows: Tensor) -> Tensor:
        images = rows.reshape(-1, 1, *spatial) if not adjoint else rows.reshape(-1, 1, *node.shape[2:])
        return (_pool(node, images) if not adjoint else _pool_back(node, images, shape[2:])).reshape(rows.shape[0], -1)

    half = apply(x.kernel)
    kernel = apply(half.T.contiguous()).T.contiguous()
    mean = apply(x.mean.reshape(1, -1)).reshape(-1)
    assert count == len(x.mean)
    layout: Layout = (x.layout[0], x.layout[1], *((Axis(m, "position"),) if m > 1 else () for m in shape[2:]))
    if n != shape[0]:
        raise Unpredictable("a pool that changes the batch")
    return Field(layout, mean, kernel, x.gaussian)


def _pool(node: Node, images: Tensor) -> Tensor:
    """The operation itself on images [rows, 1, spatial...]."""
    wide = replace(node.inputs[0], shape=tuple(images.shape), dtype="float64")
    found: Tensor = numbers.apply(replace(node, inputs=(wide, *node.inputs[1:]), shape=(images.shape[0], 1, *node.shape[2:]),
                                          dtype="float64"), images)  # fmt: skip
    return found


def _pool_back(node: Node, images: Tensor, spatial: tuple[int, ...]) -> Tensor:
    zero = torch.zeros((images.shape[0], 1, *spatial), dtype=torch.float64, requires_grad=True)
    (back,) = torch.autograd.grad(_pool(node, zero), zero, images)
    return back


@signals.rule("avg_pool", "adaptive_avg_pool")
def _mean_pool(node: Node, x: Field) -> Field:
    return _each_way(node, x, False, node.shape)


@errors.rule("avg_pool", "adaptive_avg_pool")
def _mean_pool_back(node: Node, operands: tuple[Value, ...], result: Field, delta: Field) -> Back:
    x = operands[0]
    assert isinstance(x, Field)
    return (_each_way(node, delta, True, x.shape),)
