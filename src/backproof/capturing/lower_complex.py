"""From ATen overloads to our operations: complex numbers and Fourier transforms."""

from __future__ import annotations

import math
from typing import Any

from ..graph import Node
from .lower import Call, lowering

__all__: list[str] = []


@lowering("abs.default")
def _abs(call: Call) -> Node:
    return call.emit("modulus" if call["self"].is_complex else "abs", call["self"])


@lowering("angle.default")
def _angle(call: Call) -> Node:
    call.refuse_unless(call["self"].is_complex, "real numbers, whose angle is a step")
    return call.emit("angle", call["self"])


@lowering("polar.default")
def _polar(call: Call) -> Node:
    length, angle = call["abs"], call["angle"]
    parts = [call.emit("mul", length, call.emit(name, angle)) for name in ("cos", "sin")]
    return call.emit("complex", *parts)


@lowering("resolve_conj.default", "resolve_neg.default")
def _resolved(call: Call) -> Node:
    node: Node = call["self"]
    return node


@lowering("mH.default", "adjoint.default", "matrix_H.default")
def _conjugate_transpose(call: Call) -> Node:
    x = call["self"]
    rank = len(x.shape)
    turned = call.emit("permute", x, dims=(*range(rank - 2), rank - 1, rank - 2)) if rank > 1 else x
    return call.emit("conj", turned) if x.is_complex else turned


# --- Fourier transforms --------------------------------------------------------------------------------------------------
def _axes(call: Call, x: Node) -> list[int]:
    """The transformed axes, counted from 0."""
    rank, dim = len(x.shape), call["dim"]
    if dim is None:
        sizes = call["s"]
        return list(range(rank)) if sizes is None else list(range(rank - len(sizes), rank))
    return [d % rank for d in ([dim] if isinstance(dim, int) else dim)]


def _sized(call: Call, x: Node, axes: list[int], sizes: list[int]) -> Node:
    """x cut or padded with zeros to some sizes."""
    for dim, n in zip(axes, sizes, strict=True):
        if n < x.shape[dim]:
            x = call.emit("slice", x, dim=dim, start=0, end=n, step=1)
        elif n > x.shape[dim]:
            after = [0, n - x.shape[dim]]
            x = call.emit("pad", x, pad=(*(0,) * (2 * (len(x.shape) - 1 - dim)), *after))
    return x


def _wanted(call: Call, x: Node, axes: list[int], half: bool = False) -> list[int]:
    """The length of each axis of the transform: as given, else as it is (or of which the last is the half)."""
    given: Any = call["n"] if "n" in call.args else call["s"]
    listed = [given] if isinstance(given, int) else given
    own = [x.shape[d] for d in axes]
    if half:
        own[-1] = 2 * (own[-1] - 1)
    return [o if n in (None, -1) else int(n) for n, o in zip(listed or own, own, strict=True)]


def _norm(call: Call) -> str:
    return call["norm"] or "backward"


@lowering(*(f"fft_{kind}.default" for kind in ("fft", "ifft", "fft2", "ifft2", "fftn", "ifftn")))
def _fft(call: Call) -> Node:
    x = call["self"]
    axes = _axes(call, x)
    x = _sized(call, x, axes, _wanted(call, x, axes))
    return call.emit("fft", x, dim=tuple(axes), inverse=call.overload.startswith("fft_i"), norm=_norm(call))


@lowering("fft_rfft.default", "fft_rfft2.default", "fft_rfftn.default")
def _rfft(call: Call) -> Node:
    """The first half of the spectrum, of which the rest is the mirror image."""
    x = call["self"]
    axes = _axes(call, x)
    x = _sized(call, x, axes, _wanted(call, x, axes))
    whole = call.emit("fft", x, dim=tuple(axes), norm=_norm(call))
    return call.emit("slice", whole, dim=axes[-1], start=0, end=x.shape[axes[-1]] // 2 + 1, step=1)


@lowering("fft_irfft.default", "fft_irfft2.default", "fft_irfftn.default")
def _irfft(call: Call) -> Node:
    x = call["self"]
    axes = _axes(call, x)
    *others, n = _wanted(call, x, axes, half=True)
    x = _sized(call, x, axes, [*others, n // 2 + 1])
    if others:
        x = call.emit("fft", x, dim=tuple(axes[:-1]), inverse=True, norm=_norm(call))
    return call.emit("irfft", x, n=n, dim=axes[-1], norm=_norm(call))


@lowering("fft_fftshift.default", "fft_ifftshift.default")
def _shifted(call: Call) -> Node:
    """Each axis turned by half of its length."""
    x: Node = call["self"]
    for dim in _axes(call, x):
        n = x.shape[dim]
        cut = n // 2 if "ifft" in call.overload else math.ceil(n / 2)
        if 0 < cut < n:
            pieces = [call.emit("slice", x, dim=dim, start=a, end=b, step=1) for a, b in ((cut, n), (0, cut))]
            x = call.emit("cat", *pieces, dim=dim)
    return x
