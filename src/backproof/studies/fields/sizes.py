"""Output sizes of convolutions and pools, and the smallest input for a wanted output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ...errors import InputError
from ...ops.windows import count_windows

__all__ = ["Layer", "Unreachable", "layer_of", "minimum_input", "output_size"]

LARGEST = 10**9


@dataclass(frozen=True)
class Layer:
    """One axis of a layer of windows.

    Args:
        kernel, stride, dilation: as in torch.nn.Conv1d.
        before, after: the padding on both sides.
        ceil_mode: a pool's: whether a window may begin inside and end outside.
        transposed: whether it is a transposed convolution, with ``output_padding``.
        wanted: an adaptive pool's output size; 0 for any other layer.
        least: the smallest input that the layer takes: a reflection needs more entries than it adds on a side.
        scale: the factor of an enlargement; 0 for any other layer.
    """

    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil_mode: bool = False
    transposed: bool = False
    output_padding: int = 0
    wanted: int = 0
    least: int = 1
    scale: float = 0

    def output(self, n: int) -> int:
        """The output size for n inputs; less than 1 where the kernel does not fit.

        o = floor((n + p - d (k - 1) - 1) / s) + 1, p being the padding of both sides together; with ``ceil_mode``
        rounded up, unless the last window would begin after the input and its left padding; of a transposed
        convolution o = (n - 1) s - p + d (k - 1) + output_padding + 1 (torch.nn.Conv1d, MaxPool1d, ConvTranspose1d).
        """
        if n < self.least:
            return 0
        if self.wanted or self.scale:
            return self.wanted or int(n * self.scale)
        reach = self.dilation * (self.kernel - 1)
        if self.transposed:
            return (n - 1) * self.stride - self.before - self.after + reach + self.output_padding + 1
        if self.before == self.after or self.ceil_mode:
            return count_windows(n, self.kernel, self.stride, self.before, self.dilation, self.ceil_mode)
        return (n + self.before + self.after - reach - 1) // self.stride + 1


@dataclass(frozen=True)
class Unreachable:
    """An output size that no input has; ``nearest`` lists the closest ones that some input has."""

    wanted: int
    nearest: tuple[int, ...]

    def __str__(self) -> str:
        near = " and ".join(map(str, self.nearest))
        return f"unreachable: no input gives {self.wanted}; the nearest output size is {near}"


def output_size(layer: Any, n: int | Sequence[int]) -> int | tuple[int, ...]:
    """The output size of a convolution or pool.

    Args:
        layer: a torch.nn layer (Conv, ConvTranspose, MaxPool, AvgPool, AdaptivePool, a padding in 1 to 3 dimensions, or
            Upsample), a mapping ``{"kernel": 3, "stride": 2, "padding": 1, "dilation": 1}`` (padding also (before, after),
            "same" or "valid"; besides ``ceil_mode``, ``transposed`` and ``output_padding``), or a tuple (kernel, padding,
            stride).
        n: the input size, one number for all axes or one per axis.

    Returns:
        One number where all axes agree and one was given, else one per axis.

    Raises:
        InputError: the layer is no layer of windows, or its kernel does not fit into the input.

    Example:
        >>> import torch, backproof as bp
        >>> bp.output_size(torch.nn.Conv2d(1, 1, 3, stride=2, padding=1), 7)
        4
    """
    axes = layer_of(layer)
    sizes = _per_axis(n, len(axes))
    found = tuple(axis.output(size) for axis, size in zip(axes, sizes, strict=True))
    if min(found) < 1:
        raise InputError(f"the kernel does not fit: an input of size {list(sizes)} would give {list(found)}")
    return found[0] if isinstance(n, int) and len(set(found)) == 1 else found


def minimum_input(layers: Any, n_out: int = 1) -> int | tuple[int, ...] | Unreachable:
    """The smallest input size for which layers one after another give a wanted output size.

    Args:
        layers: one layer or a sequence of them, as for :func:`output_size`.
        n_out: the wanted output size.

    Returns:
        One number where all axes agree, else one per axis; :class:`Unreachable` where no input gives that size.

    Raises:
        InputError: a layer is no layer of windows, or n_out is no whole number from 1 on.

    Example:
        >>> import torch, backproof as bp
        >>> bp.minimum_input([torch.nn.Conv2d(1, 1, 5), torch.nn.MaxPool2d(2)], 4)
        12
        >>> str(bp.minimum_input((3, 2, 1), 1))
        'unreachable: no input gives 1; the nearest output size is 3'
    """
    if isinstance(n_out, bool) or not isinstance(n_out, int) or not 1 <= n_out <= LARGEST:
        raise InputError(f"an output size is a whole number from 1 to {LARGEST}, not {n_out!r}")
    stack = [layer_of(layer) for layer in _listed(layers)]
    rank = max(map(len, stack))
    columns = [[axes[i % len(axes)] for axes in stack] for i in range(rank)]
    found = [_smallest(column, n_out) for column in columns]
    if missing := next((f for f in found if isinstance(f, Unreachable)), None):
        return missing
    sizes = tuple(f for f in found if isinstance(f, int))
    return sizes[0] if len(set(sizes)) == 1 else sizes


def _listed(layers: Any) -> list[Any]:
    if isinstance(layers, nn.Sequential):
        return [m for m in layers.modules() if not list(m.children()) and _is_window(m)]
    is_one = isinstance(layers, (nn.Module, Mapping)) or (
        isinstance(layers, tuple) and all(isinstance(x, int) for x in layers)
    )
    found = [layers] if is_one else list(layers)
    if not found:
        raise InputError("there are no layers; give at least one")
    return found


def _smallest(column: Sequence[Layer], wanted: int) -> int | Unreachable:
    """The smallest n with output(n) = wanted; output is non-decreasing in n, so bisection finds where it is passed."""
    low, high = 1, 1
    while (out := _through(column, high)) < wanted:
        low, high = high, high * 2
        if high > 4 * LARGEST:
            return Unreachable(wanted, (out,) if out > 0 else ())
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _through(column, middle) >= wanted else (middle + 1, high)
    above = _through(column, low)
    if above == wanted:
        return low
    below = _through(column, low - 1) if low > 1 else 0
    near = [n for n in (below, above) if n > 0]
    closest = min(abs(n - wanted) for n in near)
    return Unreachable(wanted, tuple(n for n in near if abs(n - wanted) == closest))


def _through(column: Sequence[Layer], n: int) -> int:
    """The size after all layers; 0 where one does not fit."""
    for layer in column:
        n = layer.output(n)
        if n < 1:
            return 0
    return n


# --- layers ---------------------------------------------------------------------------------------------------------------
def layer_of(layer: Any) -> tuple[Layer, ...]:
    """The axes of a layer of windows.

    Raises:
        InputError: it is no layer of windows, or its numbers make no sense.
    """
    if isinstance(layer, Layer):
        return (layer,)
    if isinstance(layer, nn.Module):
        return _of_module(layer)
    if isinstance(layer, Mapping):
        return (_of_mapping(layer),)
    if isinstance(layer, Sequence) and not isinstance(layer, str) and len(layer) in (3, 4):
        return (_checked(*layer),)
    raise InputError(f"a layer is a torch.nn layer, a mapping or (kernel, padding, stride), not {type(layer).__name__}")


def _checked(kernel: Any, padding: Any, stride: Any, dilation: Any = 1) -> Layer:
    for name, value, least in (
        ("kernel", kernel, 1),
        ("padding", padding, 0),
        ("stride", stride, 1),
        ("dilation", dilation, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
            raise InputError(f"a {name} is a whole number from {least} to {LARGEST}, not {value!r}")
    return Layer(kernel, stride, padding, padding, dilation)


_KEYS = ("kernel", "stride", "padding", "dilation", "ceil_mode", "transposed", "output_padding")


def _of_mapping(layer: Mapping[str, Any]) -> Layer:
    if unknown := set(layer) - set(_KEYS):
        raise InputError(f"a layer has {', '.join(_KEYS)}, not {min(map(str, unknown))!r}")
    kernel, dilation = layer.get("kernel", 1), layer.get("dilation", 1)
    plain = _checked(kernel, 0, layer.get("stride", 1), dilation)
    padding = layer.get("padding", 0)
    if padding == "same" and plain.stride != 1:
        raise InputError("padding 'same' goes with stride 1 alone, as in torch")
    before, after = _sides(padding, plain)
    flags = {key: layer.get(key, False) for key in ("ceil_mode", "transposed")}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise InputError("ceil_mode and transposed are true or false")
    more = _checked(1, layer.get("output_padding", 0), 1, 1).before
    if flags["ceil_mode"] and before != after:
        raise InputError("a pool with ceil_mode has the same padding on both sides")
    return replace(plain, before=before, after=after, output_padding=more, **flags)


def _sides(padding: Any, layer: Layer) -> tuple[int, int]:
    """The padding before and after."""
    if padding in ("same", "valid"):
        total = layer.dilation * (layer.kernel - 1) if padding == "same" else 0
        return total // 2, total - total // 2
    if isinstance(padding, (tuple, list)) and len(padding) == 2:
        before, after = (_checked(1, p, 1, 1).before for p in padding)
        return before, after
    return (_checked(1, padding, 1, 1).before,) * 2


def _is_window(module: nn.Module) -> bool:
    try:
        return bool(_of_module(module))
    except InputError:
        return False


def _of_module(module: nn.Module) -> tuple[Layer, ...]:
    name = type(module).__name__
    rank = int(name[-2]) if name[-1:] == "d" and name[-2:-1].isdigit() else 0
    own: Any = module
    if rank and isinstance(module, nn.modules.conv._ConvNd):
        return tuple(_conv_axis(own, i) for i in range(rank))
    if rank and "Adaptive" in name:
        return tuple(Layer(wanted=w) for w in _per_axis(own.output_size, rank))
    if rank and ("MaxPool" in name or "AvgPool" in name or "LPPool" in name):
        kernel = _per_axis(own.kernel_size, rank)
        stride = _per_axis(own.stride or own.kernel_size, rank)
        padding = _per_axis(getattr(own, "padding", 0), rank)
        dilation = _per_axis(getattr(own, "dilation", 1), rank)
        rows = zip(kernel, stride, padding, dilation, strict=True)
        whole = name == "AvgPool3d"  # torch wants a whole window inside the input, padding apart
        return tuple(Layer(k, s, p, p, d, bool(own.ceil_mode), least=k if whole else 1) for k, s, p, d in rows)
    if rank and "Pad" in name:
        return _padding_axes(own, name, rank)
    if isinstance(module, nn.Upsample):
        return _upsampling(own)
    raise InputError(f"{name} is no convolution, pool, padding or enlargement")


def _padding_axes(module: Any, name: str, rank: int) -> tuple[Layer, ...]:
    """A padding layer: before and after each axis, from the last one on."""
    pads = [
        int(v) for v in (module.padding if isinstance(module.padding, (tuple, list)) else [module.padding] * 2 * rank)
    ]
    found = []
    for i in range(rank):
        before, after = pads[2 * (rank - 1 - i) : 2 * (rank - i)]
        cut = -min(before, 0) - min(after, 0)  # cut off before anything is added
        found.append(Layer(before=before, after=after, least=max(cut, _least(name.lower(), max(before, after)))))
    return tuple(found)


def _least(mode: str, padding: int) -> int:
    """The smallest input that a padding which looks back into it takes."""
    return max(1, padding + 1 if mode.startswith("reflect") else padding if mode.startswith("circular") else 1)


def _upsampling(module: Any) -> tuple[Layer, ...]:
    size, scale = module.size, module.scale_factor
    given = size if size is not None else scale
    each = given if isinstance(given, (tuple, list)) else (given,)
    return tuple(Layer(wanted=int(v)) if size is not None else Layer(scale=float(v)) for v in each)


def _conv_axis(module: Any, i: int) -> Layer:
    kernel, stride, dilation = module.kernel_size[i], module.stride[i], module.dilation[i]
    if module.padding == "same":
        total = dilation * (kernel - 1)
        least = _least(module.padding_mode, total - total // 2)
        return Layer(kernel, stride, total // 2, total - total // 2, dilation, least=least)
    padding = 0 if module.padding == "valid" else module.padding[i]
    if module.transposed:
        return Layer(
            kernel, stride, padding, padding, dilation, transposed=True, output_padding=module.output_padding[i]
        )
    return Layer(kernel, stride, padding, padding, dilation, least=_least(module.padding_mode, padding))


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """One number per axis."""
    found = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else (value,) * rank
    if len(found) != rank or any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in found):
        raise InputError(f"a size is a whole number, or one for each of {rank} axes, not {value!r}")
    return found
