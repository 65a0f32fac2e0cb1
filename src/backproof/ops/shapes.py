"""Shape rules: from the shapes of the operands to the shape of the result, in plain integers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import InputError
from .base import Attrs, Shape

__all__ = [
    "axes_of",
    "broadcast",
    "concatenated",
    "matmul",
    "reduced",
    "reshaped",
    "same",
    "sliced",
    "stacked",
]


def same(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape of the first operand."""
    return shapes[0]


def broadcast(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The broadcast shape of all operands (aligned at the last axis, 1 stretches)."""
    rank = max((len(s) for s in shapes), default=0)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(_stretch(sizes, shapes) for sizes in zip(*padded, strict=True))


def _stretch(sizes: tuple[int, ...], shapes: Sequence[Shape]) -> int:
    wide = {size for size in sizes if size != 1}
    if len(wide) > 1:
        raise InputError("shapes " + " and ".join(str(list(s)) for s in shapes) + " do not fit together")
    return wide.pop() if wide else 1


def matmul(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape of a matrix product, with vectors and batches as torch.matmul has them."""
    a, b = shapes[0], shapes[1]
    if not a or not b:
        raise InputError("a matrix product needs vectors or matrices, not a single number; use *")
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        raise InputError(f"a matrix product of shapes {list(a)} and {list(b)}: {a[-1]} and {inner} differ")
    batch = broadcast([a[:-2], b[:-2]], {})
    return batch + (a[-2:-1] if len(a) > 1 else ()) + (b[-1:] if len(b) > 1 else ())


def axes_of(dim: object, rank: int) -> tuple[int, ...]:
    """The axes that ``dim`` (None, an int, or several) names, counted from 0."""
    if dim is None or dim == () or dim == []:
        return tuple(range(rank))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)  # type: ignore[arg-type]
    for axis in dims:
        if not -max(rank, 1) <= axis < max(rank, 1):
            raise InputError(f"axis {axis} does not exist in a tensor of {rank} axes")
    found = sorted({axis % rank for axis in dims}) if rank else []
    if rank and len(found) != len(dims):
        raise InputError(f"an axis is named twice in {dims}")
    return tuple(found)


def reduced(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape after reducing the axes ``dim`` (kept as 1 with ``keepdim``)."""
    axes = axes_of(attrs.get("dim"), len(shapes[0]))
    if attrs.get("keepdim"):
        return tuple(1 if i in axes else n for i, n in enumerate(shapes[0]))
    return tuple(n for i, n in enumerate(shapes[0]) if i not in axes)


def reshaped(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape of ``shape``, with one -1 worked out."""
    wanted, size = list(attrs["shape"]), math.prod(shapes[0])
    if -1 in wanted:
        known = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = size // known if known else 0
    if math.prod(wanted) != size:
        raise InputError(f"a tensor of shape {list(shapes[0])} cannot be reshaped to {list(attrs['shape'])}")
    return tuple(wanted)


def sliced(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape of x[start:end:step] along ``dim``."""
    shape, dim = list(shapes[0]), attrs["dim"] % len(shapes[0])
    shape[dim] = len(range(*slice(attrs["start"], attrs["end"], attrs["step"]).indices(shape[dim])))
    return tuple(shape)


def concatenated(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape of tensors joined along ``dim``."""
    dim = attrs["dim"] % len(shapes[0])
    rest = {tuple(n for i, n in enumerate(s) if i != dim) for s in shapes}
    if len(rest) > 1:
        raise InputError("shapes " + " and ".join(str(list(s)) for s in shapes) + f" cannot be joined along axis {dim}")
    return tuple(sum(s[dim] for s in shapes) if i == dim else n for i, n in enumerate(shapes[0]))


def stacked(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape of tensors stacked along a new axis ``dim``."""
    dim = attrs["dim"] % (len(shapes[0]) + 1)
    return (*shapes[0][:dim], len(shapes), *shapes[0][dim:])
