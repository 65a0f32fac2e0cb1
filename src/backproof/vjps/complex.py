"""Vector-Jacobian products of complex numbers, with delta = ∂L/∂Re + i ∂L/∂Im; a real operand receives the real part."""

from __future__ import annotations

from .general import Contributions, Rule, vjp

__all__: list[str] = []


@vjp("conj")
def _conj(r: Rule) -> Contributions:
    """y = x̄: the conjugate of delta."""
    return (r.emit("conj", r.delta),)


@vjp("real")
def _real(r: Rule) -> Contributions:
    """y = Re x: delta, which is real."""
    return (r.emit("complex", r.delta, r.constant(0)),)


@vjp("imag")
def _imag(r: Rule) -> Contributions:
    """y = Im x: i delta."""
    return (r.emit("complex", r.constant(0), r.delta),)


@vjp("complex")
def _complex(r: Rule) -> Contributions:
    """y = a + i b: Re delta to a, Im delta to b."""
    a = r.to(r.emit("real", r.delta), 0) if r.needs(0) else None
    return a, (r.to(r.emit("imag", r.delta), 1) if r.needs(1) else None)


@vjp("modulus")
def _modulus(r: Rule) -> Contributions:
    """y = |x|: delta x/|x|, and 0 where x is 0."""
    zero = r.emit("eq", r.node, r.constant(0))
    safe = r.emit("where", zero, r.constant(1), r.node)
    return (r.times(r.x[0], r.emit("where", zero, r.constant(0), r.emit("div", r.delta, safe))),)


@vjp("angle")
def _angle(r: Rule) -> Contributions:
    """y = arg x: i delta x/|x|^2, and 0 where x is 0."""
    size = r.emit("square", r.emit("modulus", r.x[0]))
    zero = r.emit("eq", size, r.constant(0))
    safe = r.emit("where", zero, r.constant(1), size)
    share = r.emit("where", zero, r.constant(0), r.emit("div", r.delta, safe))
    return (r.times(r.x[0], r.emit("complex", r.constant(0), share)),)


@vjp("view_as_real")
def _view_as_real(r: Rule) -> Contributions:
    """Pairs go back to complex numbers."""
    return (r.emit("view_as_complex", r.delta),)


@vjp("view_as_complex")
def _view_as_complex(r: Rule) -> Contributions:
    """Complex numbers go back to pairs."""
    return (r.emit("view_as_real", r.delta),)


_ADJOINT = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


@vjp("fft")
def _fft(r: Rule) -> Contributions:
    """y = F x: F* delta, the transform with the other sign and the other factor."""
    attrs = {"dim": r.attrs["dim"], "inverse": not r.attrs["inverse"], "norm": _ADJOINT[r.attrs["norm"]]}
    return (r.emit("fft", r.delta, **attrs),)


@vjp("irfft")
def _irfft(r: Rule) -> Contributions:
    """The first half of the transform of delta; what stands for two places of the spectrum counts twice."""
    dim, n, size = r.attrs["dim"] % len(r.node.shape), r.attrs["n"], r.x[0].shape[r.attrs["dim"]]
    whole = r.emit("fft", r.delta, dim=(dim,), inverse=False, norm=_ADJOINT[r.attrs["norm"]])
    half = r.emit("slice", whole, dim=dim, start=0, end=size, step=1)
    single = {0, n // 2} if n % 2 == 0 else {0}
    counts = tuple(1.0 if k in single else 2.0 for k in range(size))
    factor = r.builder.constant(counts, (size,), r.delta.dtype, name="counts")
    shape = tuple(size if i == dim else 1 for i in range(len(r.node.shape)))
    return (r.times(half, r.emit("reshape", factor, shape=shape)),)
