"""A field: what the theory of signal propagation knows about a tensor of a network with random weights.

The axes of a tensor are of three kinds. Along *positions* (samples, tokens, pixels) the weights are shared, so that
entries are correlated: K[p, p'] = E[x_p x_p'] over the weights. Along *features* (units, channels, heads) entries are
independent and alike. Along *copies* they are equal (a value that was broadcast). A field is the mean and the matrix K
over the positions; one entry of K stands for all features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import BackproofError

__all__ = [
    "MOST",
    "Axis",
    "Field",
    "Kind",
    "Known",
    "Layout",
    "Unpredictable",
    "aligned",
    "drawn",
    "field_of",
    "seen_from",
]

MOST = 2048
Kind = Literal["position", "feature", "copy"]


class Unpredictable(BackproofError):
    """The theory says nothing about a node: it is measured only."""


@dataclass(frozen=True)
class Axis:
    """A stretch of a tensor's axis: so many entries of one kind."""

    size: int
    kind: Kind


Layout = tuple[tuple[Axis, ...], ...]


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor that is given: an input, or (random) a parameter, whose entries count as draws of one distribution."""

    values: Tensor
    random: bool = False

    @property
    def second(self) -> float:
        """The mean square of the entries."""
        return float((self.values.double() ** 2).mean()) if self.values.numel() else 0.0

    @property
    def mean(self) -> float:
        """The mean of the entries, 0 where it is within four standard errors of it."""
        value = float(self.values.double().mean()) if self.values.numel() else 0.0
        return value if value**2 * self.values.numel() > 16 * self.second else 0.0


@dataclass(frozen=True, eq=False)
class Field:
    """The first two moments of a tensor over random weights.

    Args:
        layout: for each axis of the tensor the stretches that it is made of, in row-major order.
        mean: [P] over the positions, in the order of the layout.
        kernel: [P, P], E[x_p x_p'] within one feature.
        gaussian: whether an entry is (a sum of many terms and so) Gaussian.
    """

    layout: Layout
    mean: Tensor
    kernel: Tensor
    gaussian: bool = False

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All stretches in order."""
        return tuple(a for dim in self.layout for a in dim)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the positions."""
        return tuple(a.size for a in self.axes if a.kind == "position")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(math.prod(a.size for a in dim) for dim in self.layout)

    @property
    def second(self) -> float:
        """E[x²], averaged over the positions."""
        return float(self.kernel.diagonal().mean())

    @property
    def variance(self) -> Tensor:
        """[P], E[x²] - E[x]²."""
        return (self.kernel.diagonal() - self.mean**2).clamp_min(0)

    @property
    def correlation(self) -> float:
        """The mean correlation E[x_p x_p'] / sqrt(E[x_p²] E[x_p'²]) of two different positions; nan for one."""
        count = len(self.mean)
        size = self.kernel.diagonal().clamp_min(1e-300).sqrt()
        whole = self.kernel / size / size[:, None]
        return float((whole.sum() - whole.diagonal().sum()) / (count * (count - 1))) if count > 1 else math.nan

    def at(self, places: Tensor, layout: Layout) -> Field:
        """The positions at some places (in the flat order), under a new layout."""
        where = places.reshape(-1)
        return replace(self, layout=layout, mean=self.mean[where], kernel=self.kernel[where][:, where])

    def scaled(self, factor: float) -> Field:
        """The field times a number."""
        return replace(self, mean=self.mean * factor, kernel=self.kernel * factor**2)

    def permuted(self, dims: Sequence[int]) -> Field:
        """Its axes in another order."""
        layout = tuple(self.layout[d] for d in dims)
        numbered, count = [], 0
        for dim in self.layout:
            mine = [i for i, a in enumerate(dim) if a.kind == "position"]
            numbered.append(range(count, count + len(mine)))
            count += len(mine)
        order = [i for d in dims for i in numbered[d]]
        places = torch.arange(len(self.mean)).reshape(self.sizes)
        return self.at(places.permute(order) if order else places, layout)

    def reshaped(self, shape: Sequence[int]) -> Field:
        """The same entries in another shape; an axis is split or joined where stretches allow it."""
        return replace(self, layout=regrouped(self.axes, shape))

    def summed(self, dims: Sequence[int], scale: float = 1.0) -> Field:
        """The sum over some axes, times a scale; the axes are left with size 1."""
        found = self
        for d in dims:
            for k in reversed(range(len(self.layout[d]))):
                found = found._summed_over(d, k)
        return found.scaled(scale)

    def _summed_over(self, d: int, k: int) -> Field:
        axis = self.layout[d][k]
        layout = _without(self.layout, d, k)
        n = axis.size
        if axis.kind == "copy":
            return replace(self, layout=layout).scaled(n)
        if axis.kind == "feature":
            products = torch.outer(self.mean, self.mean)
            kernel = n * self.kernel + n * (n - 1) * products
            return replace(self, layout=layout, mean=n * self.mean, kernel=kernel, gaussian=True)
        place = sum(a.kind == "position" for dim in self.layout[:d] for a in dim)
        place += sum(a.kind == "position" for a in self.layout[d][:k])
        sizes = self.sizes
        mean = self.mean.reshape(sizes).sum(place)
        kernel = self.kernel.reshape(sizes + sizes).sum((place, len(sizes) + place))
        return replace(self, layout=layout, mean=mean.reshape(-1), kernel=kernel.reshape(mean.numel(), -1))

    def stretched(self, d: int, n: int) -> Field:
        """An axis of size 1 repeated n times."""
        return replace(self, layout=(*self.layout[:d], (Axis(n, "copy"),), *self.layout[d + 1 :]))

    def as_positions(self, d: int, k: int) -> Field:
        """A stretch of features or copies seen as positions: independent of each other, or equal."""
        axis = self.layout[d][k]
        n, before = axis.size, self.layout[:d]
        if axis.kind == "position":
            return self
        _affordable(n * len(self.mean))
        left = math.prod(a.size for dim in before for a in dim if a.kind == "position")
        left *= math.prod(a.size for a in self.layout[d][:k] if a.kind == "position")
        mean = self.mean.reshape(left, 1, -1).expand(-1, n, -1)
        right = mean.shape[-1]
        kernel = self.kernel.reshape(left, 1, right, left, 1, right).expand(-1, n, -1, -1, n, -1)
        if axis.kind == "feature":
            same = torch.eye(n, dtype=kernel.dtype).reshape(1, n, 1, 1, n, 1)
            apart = torch.einsum("anb,cmd->anbcmd", mean, mean)
            kernel = same * kernel + (1 - same) * apart
        dim = (*self.layout[d][:k], Axis(n, "position"), *self.layout[d][k + 1 :])
        size = left * n * right
        layout = (*before, dim, *self.layout[d + 1 :])
        return replace(self, layout=layout, mean=mean.reshape(-1), kernel=kernel.reshape(size, size))


def _without(layout: Layout, d: int, k: int) -> Layout:
    return (*layout[:d], (*layout[d][:k], *layout[d][k + 1 :]), *layout[d + 1 :])


def _affordable(positions: int) -> None:
    if positions > MOST:
        raise Unpredictable(f"{positions:,} positions are correlated with each other; {MOST:,} is the limit")


def regrouped(axes: Sequence[Axis], shape: Sequence[int]) -> Layout:
    """The stretches dealt out to the axes of another shape."""
    waiting = [a for a in axes if a.size != 1]
    layout = []
    for n in shape:
        mine: list[Axis] = []
        while n > 1:
            axis = waiting.pop(0)
            if n % axis.size == 0:
                mine.append(axis)
                n //= axis.size
            elif axis.size % n == 0:
                mine.append(Axis(n, axis.kind))
                waiting.insert(0, Axis(axis.size // n, axis.kind))
                n = 1
            else:
                raise Unpredictable("a change of shape mixes features and positions")
        layout.append(tuple(mine))
    return tuple(layout)


def refined(a: tuple[Axis, ...], b: tuple[Axis, ...]) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """Two ways to cut an axis of one size into stretches, cut further until the cuts are the same."""
    left, right = list(a), list(b)
    cut: tuple[list[Axis], list[Axis]] = ([], [])
    while left and right:
        x, y = left.pop(), right.pop()
        n = min(x.size, y.size)
        if max(x.size, y.size) % n:
            raise Unpredictable("two values are cut into features and positions in different ways")
        cut[0].insert(0, Axis(n, x.kind))
        cut[1].insert(0, Axis(n, y.kind))
        if x.size > n:
            left.append(Axis(x.size // n, x.kind))
        if y.size > n:
            right.append(Axis(y.size // n, y.kind))
    return tuple(cut[0]), tuple(cut[1])


def aligned(a: Field, b: Field) -> tuple[Field, Field]:
    """Two fields under one layout of positions, as an operation entry by entry (with broadcasting) meets them."""
    a, b = (_padded(x, max(len(a.layout), len(b.layout))) for x in (a, b))
    for d in range(len(a.layout)):
        na, nb = (math.prod(x.size for x in f.layout[d]) for f in (a, b))
        if na == nb:
            one, two = refined(a.layout[d], b.layout[d])
        else:
            one = a.layout[d] or tuple(Axis(x.size, "copy") for x in b.layout[d])
            two = b.layout[d] or tuple(Axis(x.size, "copy") for x in a.layout[d])
        a = replace(a, layout=(*a.layout[:d], one, *a.layout[d + 1 :]))
        b = replace(b, layout=(*b.layout[:d], two, *b.layout[d + 1 :]))
    for d in range(len(a.layout)):
        for k in range(len(a.layout[d])):
            if "position" in (a.layout[d][k].kind, b.layout[d][k].kind):
                a, b = a.as_positions(d, k), b.as_positions(d, k)
    joined = tuple(
        tuple(x if x.kind != "copy" else y for x, y in zip(one, two, strict=True))
        for one, two in zip(a.layout, b.layout, strict=True)
    )
    return replace(a, layout=joined), replace(b, layout=joined)


def _padded(x: Field, rank: int) -> Field:
    return replace(x, layout=(*((),) * (rank - len(x.layout)), *x.layout))


# --- from tensors and to tensors --------------------------------------------------------------------------------------
def seen_from(known: Known, partner: Field | None = None) -> Field:
    """What is given, as a field: a parameter as independent entries, an input along the features of its partner.

    Where the partner has features, the entries of an input along that axis count as draws of one distribution.
    """
    values = known.values.double()
    if known.random:
        layout: Layout = tuple((Axis(n, "feature"),) if n > 1 else () for n in values.shape)
        one = torch.full((1,), known.mean, dtype=torch.float64)
        return Field(layout, one, torch.full((1, 1), known.second, dtype=torch.float64), True)
    rank = values.ndim if partner is None else max(values.ndim, len(partner.layout))
    values = values.reshape((1,) * (rank - values.ndim) + tuple(values.shape))
    theirs = () if partner is None else _padded(partner, rank).layout
    layout = tuple(_cut(n, theirs[d] if theirs else ()) for d, n in enumerate(values.shape))
    return field_of(values, layout)


def _cut(n: int, theirs: tuple[Axis, ...]) -> tuple[Axis, ...]:
    if n == 1:
        return ()
    if math.prod(a.size for a in theirs) != n:
        return (Axis(n, "position"),)
    return tuple(Axis(a.size, "feature" if a.kind == "feature" else "position") for a in theirs)


def field_of(samples: Tensor, layout: Layout, gaussian: bool = False) -> Field:
    """The moments of a tensor's entries: averaged over its features, and over one more axis of draws if it has one."""
    axes = [a for dim in layout for a in dim]
    extra = samples.ndim - len(layout)
    split = samples.reshape((*samples.shape[:extra], *(a.size for a in axes)))
    positions = [extra + i for i, a in enumerate(axes) if a.kind == "position"]
    copies = [extra + i for i, a in enumerate(axes) if a.kind == "copy"]
    others = [i for i in range(split.ndim) if i not in positions and i not in copies]
    count = math.prod(split.shape[i] for i in positions)
    _affordable(count)
    flat = split.permute((*positions, *others, *copies))
    for _ in copies:
        flat = flat[..., 0]
    flat = flat.reshape(count, -1).double()
    return Field(layout, flat.mean(1), flat @ flat.T / max(flat.shape[1], 1), gaussian)


def drawn(field: Field, count: int, generator: torch.Generator) -> Tensor:
    """Draws of a Gaussian field: a tensor [count, *shape]."""
    axes = field.axes
    features = [a.size for a in axes if a.kind == "feature"]
    root = _root(field.kernel - torch.outer(field.mean, field.mean))
    noise = torch.randn((len(field.mean), count * math.prod(features)), generator=generator).double()  # twice as quick
    flat = root @ noise + field.mean[:, None]
    kinds = [a.kind for a in axes]
    order = [i for i, kind in enumerate(kinds) if kind == "position"]
    after = [i for i, kind in enumerate(kinds) if kind == "feature"]
    sizes = [*field.sizes, count, *features, *[1 for kind in kinds if kind == "copy"]]
    copies = [i for i, kind in enumerate(kinds) if kind == "copy"]
    place: dict[Any, int] = {axis: i for i, axis in enumerate([*order, "count", *after, *copies])}
    whole = flat.reshape(sizes).permute(place["count"], *(place[i] for i in range(len(axes))))
    wide = whole.expand(count, *(a.size for a in axes))
    return wide.reshape(count, *field.shape)


def _root(covariance: Tensor) -> Tensor:
    """A matrix L with L Lᵀ = C; what is negative by rounding counts as 0."""
    size = float(covariance.diagonal().mean().clamp_min(0))
    if size == 0.0:
        return torch.zeros_like(covariance)
    eye = torch.eye(len(covariance), dtype=covariance.dtype)
    root, failed = torch.linalg.cholesky_ex(covariance / size + 1e-9 * eye)
    if not int(failed):
        return root * math.sqrt(size)  # type: ignore[no-any-return]
    values, vectors = torch.linalg.eigh(covariance / size)
    return vectors * values.clamp_min(0).sqrt() * math.sqrt(size)  # type: ignore[no-any-return]
