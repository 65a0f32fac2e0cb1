"""Convolutions in one, two and three dimensions, their adjoints, and padding with a constant.

A convolution is what the field calls one (torch's): the kernel slides over the input without being flipped. Axes:
N samples, C channels, then one spatial axis per entry of ``stride``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .base import Attrs, Example, Op, Shape, register
from .windows import count_windows

__all__: list[str] = []

_ATTRS: dict[str, Any] = {"stride": None, "padding": None, "dilation": None, "groups": 1}


def _conv(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """[N, C, spatial...] and [O, C/groups, kernel...] give [N, O, places...]."""
    x, weight = shapes[0], shapes[1]
    fits = len(x) == len(weight) > 2 and x[1] == weight[1] * attrs["groups"] and weight[0] % attrs["groups"] == 0
    if not fits:
        raise InputError(f"a convolution with kernels {list(weight)} cannot take an input of shape {list(x)}")
    return (x[0], weight[0], *_places(x[2:], weight[2:], attrs))


def _places(sizes: Shape, kernel: Shape, attrs: Attrs) -> Shape:
    axes = zip(sizes, kernel, attrs["stride"], attrs["padding"], attrs["dilation"], strict=True)
    found = tuple(count_windows(n, k, s, p, d, False) for n, k, s, p, d in axes)
    if min(found) < 1:
        raise InputError(f"a kernel of size {list(kernel)} does not fit into an input of size {list(sizes)}")
    return found


def _given(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return tuple(attrs["shape"])


def _case(x: Shape, weight: Shape, **attrs: Any) -> tuple[Shape, Shape, dict[str, Any]]:
    rank = len(x) - 2
    plain = {"stride": (1,) * rank, "padding": (0,) * rank, "dilation": (1,) * rank, "groups": 1}
    return x, weight, {**plain, **attrs}


_CASES = [
    _case((2, 2, 5), (3, 2, 3)),
    _case((1, 2, 7), (2, 1, 3), stride=(2,), padding=(1,), dilation=(2,), groups=2),
    _case((2, 1, 4, 4), (2, 1, 3, 3), padding=(1, 1)),
    _case((1, 2, 5, 6), (4, 1, 2, 3), stride=(2, 1), padding=(0, 1), groups=2),
    _case((2, 3, 4, 4), (2, 3, 1, 1), stride=(2, 2)),
    _case((1, 2, 6, 5), (2, 2, 3, 2), stride=(3, 2), dilation=(1, 2), padding=(1, 0)),
    _case((1, 1, 3, 3, 4), (2, 1, 2, 2, 2), stride=(1, 1, 2), padding=(0, 1, 0)),
]


def _examples(adjoint: str) -> tuple[Example, ...]:
    found = []
    for x, weight, attrs in _CASES:
        y = _conv((x, weight), attrs)
        if adjoint == "input":
            found.append(Example((y, weight), {**attrs, "shape": x}))
        else:
            found.append(Example((x, y), {**attrs, "shape": weight}))
    return tuple(found)


register(
    Op(
        "conv",
        "convolution",
        ("x", "weight", "bias?"),
        _conv,
        attrs=_ATTRS,
        examples=tuple(
            Example(
                (x, w, (w[0],)) if i % 2 == 0 else (x, w, ()), attrs, () if i % 2 == 0 else ("float", "float", "none")
            )
            for i, (x, w, attrs) in enumerate(_CASES)
        ),
        doc="y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] x[n, c, stride p + dilation k - padding], the layer of torch.nn.Conv.",
    )
)
register(
    Op(
        "conv_input_grad",
        "convolution",
        ("delta", "weight"),
        _given,
        attrs={**_ATTRS, "shape": None},
        examples=_examples("input"),
        text="convᵀ",
        latex=r"\operatorname{conv}^{\mathsf T}",
        doc="The adjoint of a convolution for its input: each delta goes back to every entry that it came from, "
        "times the kernel's entry (the full convolution with the flipped kernel; the transposed convolution).",
    )
)
register(
    Op(
        "conv_weight_grad",
        "convolution",
        ("x", "delta"),
        _given,
        attrs={**_ATTRS, "shape": None},
        examples=_examples("weight"),
        doc="The adjoint of a convolution for its kernels: the input correlated with delta, summed over the samples.",
    )
)


def _transposed(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """[N, C, places...] and [C, O/groups, kernel...] give [N, O, spatial...]."""
    x, weight = shapes[0], shapes[1]
    if len(x) != len(weight) or x[1] != weight[0]:
        raise InputError(
            f"a transposed convolution with kernels {list(weight)} cannot take an input of shape {list(x)}"
        )
    axes = zip(x[2:], weight[2:], *(attrs[k] for k in ("stride", "padding", "dilation", "output_padding")), strict=True)
    sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in axes)
    return (x[0], weight[1] * attrs["groups"], *sizes)


register(
    Op(
        "conv_transpose",
        "convolution",
        ("x", "weight", "bias?"),
        _transposed,
        attrs={**_ATTRS, "output_padding": None},
        examples=(
            Example(((2, 3, 3), (3, 2, 3), (2,)), {**_case((1, 1, 1), (1, 1, 1))[2], "output_padding": (0,)}),
            Example(((1, 2, 3, 3), (2, 2, 3, 2), (4,)),
                    {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2, "output_padding": (1, 0)}),
            Example(((1, 2, 2, 2), (2, 1, 2, 2), ()),
                    {**_case((1, 1, 1, 1), (1, 1, 1, 1))[2], "stride": (2, 2), "output_padding": (0, 0)},
                    ("float", "float", "none")),
        ),
        text="convᵀ",
        latex=r"\operatorname{conv}^{\mathsf T}",
        doc="The layer of torch.nn.ConvTranspose: the adjoint of a convolution as a forward operation.",
    )
)  # fmt: skip


def _padded(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """``pad`` counts what is added (or, negative, cut off) before and after, from the last axis on, as F.pad has it."""
    shape, pad = list(shapes[0]), attrs["pad"]
    for i in range(len(pad) // 2):
        shape[-1 - i] += pad[2 * i] + pad[2 * i + 1]
    if min(shape, default=0) < 0:
        raise InputError(f"padding {list(pad)} cuts more off a tensor of shape {list(shapes[0])} than it has")
    return tuple(shape)


register(
    Op(
        "pad",
        "shape",
        ("x",),
        _padded,
        attrs={"pad": None, "value": 0.0},
        examples=(
            Example(((2, 3),), {"pad": (1, 2)}),
            Example(((2, 3, 4),), {"pad": (0, 1, 2, 0), "value": 0.5}),
            Example(((3, 4),), {"pad": (-1, 1, 0, -1)}),
        ),
        doc="A constant put around the entries; a negative number of them cuts entries off.",
    )
)
