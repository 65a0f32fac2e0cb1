"""Complex numbers: their parts, their making, and Fourier transforms.

The gradient of a real loss with respect to a complex z = a + i b is torch's: ∂L/∂a + i ∂L/∂b, twice the derivative by the
conjugate of z, so that a step against it descends (Kreutz-Delgado 2009, section 4.2). Readings other than numbers do
not know these operations; their laws are in tests/laws/test_complex.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .base import Attrs, Op, Shape, register
from .shapes import broadcast, same

__all__: list[str] = []


def _op(name: str, operands: tuple[str, ...], shape: Any, dtype: str, doc: str, **more: Any) -> None:
    register(Op(name, "complex", operands, shape, dtype=dtype, doc=doc, **more))


def _as_pairs(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return (*shapes[0], 2)


def _of_pairs(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    if not shapes[0] or shapes[0][-1] != 2:
        raise InputError(f"pairs of real numbers need a last axis of size 2, not {list(shapes[0])}")
    return shapes[0][:-1]


_op(
    "conj",
    ("x",),
    same,
    "same",
    "The complex conjugate.",
    aten=("_conj.default", "conj.default", "_conj_physical.default"),
)
_op("real", ("x",), same, "real", "The real part.", aten=("real.default",), text="Re", latex=r"\operatorname{Re}")
_op("imag", ("x",), same, "real", "The imaginary part.", aten=("imag.default",), text="Im", latex=r"\operatorname{Im}")
_op("modulus", ("x",), same, "real", "|x|, the length of a complex number.", text="abs")
_op("angle", ("x",), same, "real", "The angle of a complex number.", text="arg", latex=r"\arg")
_op("complex", ("a", "b"), broadcast, "complex", "a + i b.", aten=("complex.default",))
_op(
    "view_as_real",
    ("x",),
    _as_pairs,
    "real",
    "Real and imaginary part along a new last axis.",
    aten=("view_as_real.default",),
)
_op("view_as_complex", ("x",), _of_pairs, "complex", "The last axis, of size 2, as one complex number.",
    aten=("view_as_complex.default",))  # fmt: skip


# --- Fourier transforms --------------------------------------------------------------------------------------------------
def _half(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    dim = attrs["dim"] % len(shapes[0])
    return tuple(attrs["n"] if i == dim else n for i, n in enumerate(shapes[0]))


_op("fft", ("x",), same, "complex", "y_k = sum_n x_n e^(-2πi kn/N) along some axes; e^(+2πi kn/N) for the inverse.",
    attrs={"dim": (-1,), "inverse": False, "norm": "backward"})  # fmt: skip
_op("irfft", ("x",), _half, "real", "The real sequence of length n whose first half of the spectrum this is.",
    attrs={"n": None, "dim": -1, "norm": "backward"})  # fmt: skip
