"""What the calls of :mod:`backproof.vjps.fused` are in torch: its own kernels, with what the backward pass needs kept.

These are the kernels that torch.autograd calls too. A reading that uses them has the program's own bits and is no
independent witness of torch's derivatives; the kernels of :mod:`.kernels` are one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..graph import Node
from .numbers import numbers

__all__ = ["FUSED"]

aten = torch.ops.aten
Kernel = Callable[..., Any]
FUSED: dict[str, Kernel] = {}


def _kernel(function: Kernel) -> Kernel:
    FUSED[f"torch.{function.__name__}"] = function
    return function


@numbers.rule("kernel")
def _read(node: Node, *operands: Any) -> Any:
    return kernel_of(node)(*operands)


def kernel_of(node: Node) -> Kernel:
    """The function of a call's operands; what is left out is put back in its place as None."""
    if node.op.name == "item":
        index = node.attrs["index"]
        return lambda results: results[index]
    given, attrs = node.attrs["given"], {k: v for k, v in node.attrs.items() if k != "given"}
    function = FUSED[node.op.name]
    if all(given):
        return lambda *xs: function(*xs, **attrs)

    def spread(*xs: Any) -> Any:
        rest = iter(xs)
        return function(*(next(rest) if there else None for there in given), **attrs)

    return spread


@_kernel
def call(*tensors: Tensor, target: Any, names: Sequence[str], plain: dict[str, Any]) -> Any:
    """The program's own call."""
    return target(**dict(zip(names, tensors, strict=True)), **plain)


# --- functions of one entry ------------------------------------------------------------------------------------------
FUSED |= {
    "torch.relu_grad": lambda delta, y: aten.threshold_backward(delta, y, 0),
    "torch.tanh_grad": aten.tanh_backward,
    "torch.sigmoid_grad": aten.sigmoid_backward,
    "torch.gelu_grad": lambda delta, x, approximate: aten.gelu_backward(delta, x, approximate=approximate),
    "torch.silu_grad": aten.silu_backward,
    "torch.mish_grad": aten.mish_backward,
    "torch.hardswish_grad": aten.hardswish_backward,
    "torch.hardtanh_grad": lambda delta, x, min_val, max_val: aten.hardtanh_backward(delta, x, min_val, max_val),
    "torch.leaky_relu_grad": lambda delta, x, negative_slope: aten.leaky_relu_backward(delta, x, negative_slope, False),
    "torch.softplus_grad": lambda delta, x, beta, threshold: aten.softplus_backward(delta, x, beta, threshold),
}


# --- convolutions and pools ----------------------------------------------------------------------------------------
@_kernel
def conv_grad(
    delta: Tensor,
    x: Tensor,
    weight: Tensor,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    output_padding: Sequence[int],
    transposed: bool,
    mask: Sequence[bool],
) -> Any:
    """The adjoints of input, kernel and bias."""
    channels = [delta.shape[1]]
    return aten.convolution_backward(
        delta, x, weight, channels, stride, padding, dilation, transposed, output_padding, groups, mask
    )


@_kernel
def max_pool(
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Any:
    """The largest entries, and where they are."""
    pool = getattr(aten, f"max_pool{len(kernel)}d_with_indices")
    return pool(x, kernel, stride, padding, dilation, ceil_mode)


@_kernel
def max_pool_grad(
    delta: Tensor,
    x: Tensor,
    index: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Any:
    """Each window's delta to the place of its largest entry."""
    back = getattr(aten, f"max_pool{len(kernel)}d_with_indices_backward")
    return back(delta, x, kernel, stride, padding, dilation, ceil_mode, index)


@_kernel
def avg_pool_grad(
    delta: Tensor,
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    """Each window's delta in equal shares."""
    back = getattr(aten, f"avg_pool{len(kernel)}d_backward")
    return back(delta, x, kernel, stride, padding, ceil_mode, count_include_pad, None)


@_kernel
def adaptive_avg_pool_grad(delta: Tensor, x: Tensor, *, output_size: Sequence[int]) -> Any:
    """Each window's delta in equal shares."""
    return getattr(aten, f"_adaptive_avg_pool{len(output_size)}d_backward")(delta, x)


# --- normalisation ----------------------------------------------------------------------------------------------------
@_kernel
def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *running: Tensor, eps: float, momentum: float
) -> Any:
    """y, mean, 1/√(variance + ε), variance, and the new running mean and variance where there are any."""
    new: list[Tensor | None] = [r.clone() for r in running] or [None, None]
    y, mean, root = aten.native_batch_norm(x, weight, bias, *new, True, momentum, eps)
    var = aten.batch_norm_update_stats(x, None, None, 0.0)[1]
    return y, mean, root, var, *new


@_kernel
def fixed_batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, *, eps: float
) -> Any:
    """y with the running statistics."""
    return aten.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]


@_kernel
def batch_norm_grad(
    delta: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    var: Tensor,
    root: Tensor,
    *,
    eps: float,
    training: bool,
) -> Any:
    """The adjoints of x, weight and bias; in training that of x has the way through mean and variance in it."""
    every = [True, True, True]
    return aten.native_batch_norm_backward(delta, x, weight, mean, var, mean, root, training, eps, every)


@_kernel
def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, tail: Sequence[int], eps: float) -> Any:
    """y, mean and 1/√(variance + ε)."""
    return aten.native_layer_norm(x, tail, weight, bias, eps)


@_kernel
def spread(x: Tensor, mean: Tensor, *, tail: Sequence[int]) -> Tensor:
    """The variance around a mean that is known."""
    return (x - mean).square_().mean(tuple(range(-len(tail), 0)), keepdim=True)


@_kernel
def layer_norm_grad(
    delta: Tensor,
    x: Tensor,
    mean: Tensor,
    root: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    tail: Sequence[int],
) -> Any:
    """The adjoints of x, weight and bias; that of x has the way through mean and variance in it."""
    mask = [True, weight is not None, bias is not None]
    return aten.native_layer_norm_backward(delta, x, tail, mean, root, weight, bias, mask)


@_kernel
def layer_norm_statistics_grad(
    delta: Tensor, x: Tensor, mean: Tensor, root: Tensor, weight: Tensor | None, *, tail: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """With d = delta γ / √(σ² + ε): -sum d to μ, -1/2 sum d (x - μ) / (σ² + ε) to σ²."""
    axes = tuple(range(-len(tail), 0))
    d = delta if weight is None else delta * weight
    along = ((x - mean) * d).sum(axes, keepdim=True)
    return -d.sum(axes, keepdim=True) * root, -0.5 * along * root**3


# --- softmax, its loss, tables -----------------------------------------------------------------------------------------
@_kernel
def softmax_grad(delta: Tensor, p: Tensor, *, dim: int) -> Any:
    """p ⊙ (delta - sum_j delta_j p_j)."""
    return aten._softmax_backward_data(delta, p, dim, p.dtype)


@_kernel
def log_softmax_grad(delta: Tensor, y: Tensor, *, dim: int) -> Any:
    """delta - softmax(x) sum_j delta_j."""
    return aten._log_softmax_backward_data(delta, y, dim, y.dtype)


_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


@_kernel
def nll(y: Tensor, t: Tensor, weight: Tensor | None, *, reduction: str, ignore_index: int) -> Any:
    """The loss, and the sum of the weights."""
    return aten.nll_loss_forward(y, t, weight, _REDUCTIONS[reduction], ignore_index)


@_kernel
def nll_grad(
    delta: Tensor,
    y: Tensor,
    t: Tensor,
    weight: Tensor | None,
    total: Tensor,
    *,
    reduction: str,
    ignore_index: int,
) -> Any:
    """-delta (or its share) at each target class."""
    return aten.nll_loss_backward(delta, y, t, weight, _REDUCTIONS[reduction], ignore_index, total)


@_kernel
def embedding_grad(delta: Tensor, index: Tensor, *, rows: int) -> Any:
    """Each row's delta added to the table's row that it came from."""
    return aten.embedding_dense_backward(delta, index, rows, -1, False)
