"""Pooling in one, two and three dimensions: the largest entry or the mean of each window, and their adjoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .base import Attrs, Example, Op, Shape, register
from .windows import count_windows

__all__: list[str] = []

_MAX: dict[str, Any] = {"kernel": None, "stride": None, "padding": None, "dilation": None, "ceil_mode": False}
_AVG: dict[str, Any] = {
    "kernel": None,
    "stride": None,
    "padding": None,
    "ceil_mode": False,
    "count_include_pad": True,
}


def _pooled(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """[N, C, spatial...] to [N, C, windows...]."""
    x, kernel = shapes[0], attrs["kernel"]
    if len(x) != len(kernel) + 2:
        raise InputError(f"a pool with windows {list(kernel)} cannot take an input of shape {list(x)}")
    dilation = attrs.get("dilation") or (1,) * len(kernel)
    axes = zip(x[2:], kernel, attrs["stride"], attrs["padding"], dilation, strict=True)
    found = tuple(count_windows(n, k, s, p, d, attrs["ceil_mode"]) for n, k, s, p, d in axes)
    if min(found) < 1:
        raise InputError(f"a window of size {list(kernel)} does not fit into an input of size {list(x[2:])}")
    return (*x[:2], *found)


def _second(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return shapes[1]


def _given(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return tuple(attrs["shape"])


def _adaptive(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    x, wanted = shapes[0], attrs["output_size"]
    if len(x) != len(wanted) + 2:
        raise InputError(f"a pool to {list(wanted)} cannot take an input of shape {list(x)}")
    return (*x[:2], *wanted)


def _case(x: Shape, kernel: Shape, attrs: dict[str, Any], **more: Any) -> tuple[Shape, dict[str, Any]]:
    rank = len(kernel)
    plain = {**attrs, "kernel": kernel, "stride": kernel, "padding": (0,) * rank}
    return x, {**plain, **({"dilation": (1,) * rank} if "dilation" in attrs else {}), **more}


_LARGEST = [
    _case((2, 2, 6), (2,), _MAX),
    _case((1, 2, 4, 4), (2, 2), _MAX),
    _case((2, 1, 5, 5), (3, 2), _MAX, stride=(2, 2), padding=(1, 0)),
    _case((1, 1, 6, 5), (2, 2), _MAX, stride=(1, 2), dilation=(2, 1), ceil_mode=True),
    _case((1, 1, 3, 2, 4), (2, 2, 2), _MAX, stride=(1, 1, 2)),
]
_MEANS = [
    _case((2, 2, 6), (2,), _AVG),
    _case((1, 2, 4, 4), (2, 2), _AVG),
    _case((1, 1, 5, 5), (3, 2), _AVG, stride=(2, 2), padding=(1, 1), ceil_mode=True),
    _case((2, 1, 4, 5), (2, 3), _AVG, stride=(1, 2), padding=(1, 1), count_include_pad=False),
    _case((1, 1, 5, 6), (2, 2), _AVG, stride=(2, 3), ceil_mode=True, count_include_pad=False, padding=(1, 0)),
    _case((1, 1, 2, 3, 4), (2, 2, 2), _AVG, stride=(1, 1, 2)),
]
_ADAPTIVE = [((2, 2, 5), (2,)), ((1, 2, 4, 3), (1, 1)), ((1, 1, 5, 4), (3, 2)), ((1, 1, 2, 3, 2), (3, 2, 1))]


def _op(name: str, operands: tuple[str, ...], shape: Any, attrs: dict[str, Any], examples: Any, **more: Any) -> None:
    register(Op(name, "pooling", operands, shape, attrs=attrs, examples=tuple(examples), **more))


_op("max_pool", ("x",), _pooled, _MAX, [Example((x,), a) for x, a in _LARGEST], text="maxpool",
    latex=r"\operatorname{maxpool}", doc="The largest entry of each window; of several that are equal, the first.")  # fmt: skip
_op("max_pool_index", ("x",), _pooled, _MAX, [Example((x,), a) for x, a in _LARGEST], dtype="int64",
    differentiable=False, doc="The place of each window's largest entry, counted through the spatial axes.")  # fmt: skip
_op("max_pool_grad", ("delta", "x"), _second, _MAX, [Example((_pooled((x,), a), x), a) for x, a in _LARGEST],
    text="unpool", latex=r"\operatorname{unpool}",
    doc="The adjoint of max_pool: each window's delta goes to its largest entry; the others receive 0.")  # fmt: skip
_op("avg_pool", ("x",), _pooled, _AVG, [Example((x,), a) for x, a in _MEANS], text="avgpool",
    latex=r"\operatorname{avgpool}", doc="The mean of each window.")  # fmt: skip
_op("avg_pool_grad", ("delta",), _given, {**_AVG, "shape": None},
    [Example((_pooled((x,), a),), {**a, "shape": x}) for x, a in _MEANS], text="avgpoolᵀ",
    latex=r"\operatorname{avgpool}^{\mathsf T}",
    doc="The adjoint of avg_pool: each window's delta is shared equally among its entries.")  # fmt: skip
_op("adaptive_avg_pool", ("x",), _adaptive, {"output_size": None},
    [Example((x,), {"output_size": o}) for x, o in _ADAPTIVE], text="avgpool", latex=r"\operatorname{avgpool}",
    doc="The means of so many windows as are wanted, as even as they can be; one window is the global mean.")  # fmt: skip
_op("adaptive_avg_pool_grad", ("delta",), _given, {"output_size": None, "shape": None},
    [Example(((*x[:2], *o),), {"output_size": o, "shape": x}) for x, o in _ADAPTIVE], text="avgpoolᵀ",
    latex=r"\operatorname{avgpool}^{\mathsf T}",
    doc="The adjoint of adaptive_avg_pool: each window's delta is shared equally among its entries.")  # fmt: skip
