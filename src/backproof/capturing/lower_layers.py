"""From ATen overloads to our operations: layers (convolutions, pools, normalisation, attention, embeddings)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..graph import Node
from .lower import Call, lowering
from .lower_random import dropped, keeps

__all__: list[str] = []

_SLIDING = ("stride", "padding", "dilation")


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """One whole number per spatial axis."""
    listed = [value] if isinstance(value, int) else list(value)
    return tuple(int(v) for v in (listed * rank if len(listed) == 1 else listed))


def _batched(call: Call, x: Node, rank: int) -> Node:
    """The input with a batch axis, where the call was given one sample without."""
    return x if len(x.shape) == rank + 2 else call.emit("reshape", x, shape=(1, *x.shape))


def _as_given(call: Call, y: Node, shape: Sequence[int]) -> Node:
    """The result without the batch axis that was put there."""
    return y if y.shape == tuple(shape) else call.emit("reshape", y, shape=tuple(shape))


# --- convolutions ----------------------------------------------------------------------------------------------------
@lowering("conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def _conv(call: Call) -> Node:
    weight = call["weight"]
    rank = len(weight.shape) - 2
    attrs = {key: _per_axis(call[key], rank) for key in _SLIDING if not isinstance(call[key], str)}
    x = _batched(call, call["input"], rank)
    if isinstance(call["padding"], str):
        before, after = _named_padding(call["padding"], weight.shape[2:], attrs["dilation"])
        attrs["padding"] = before
        if extra := [b - a for a, b in zip(before, after, strict=True)]:
            x = call.emit("pad", x, pad=tuple(v for e in reversed(extra) for v in (0, e))) if any(extra) else x
            attrs["padding"] = before
    return _with_padding(call, x, attrs)


def _with_padding(call: Call, x: Node, attrs: dict[str, Any]) -> Node:
    y = call.emit("conv", x, call["weight"], call["bias"], **attrs, groups=call["groups"])
    return _as_given(call, y, call.shape)


def _named_padding(name: str, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The padding before and after each axis that 'same' or 'valid' means; the odd one of 'same' goes after."""
    total = [d * (k - 1) if name == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    before = tuple(t // 2 for t in total)
    return before, tuple(t - b for t, b in zip(total, before, strict=True))


@lowering("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(call: Call) -> Node:
    rank = len(call["weight"].shape) - 2
    attrs = {key: _per_axis(call[key], rank) for key in (*_SLIDING, "output_padding")}
    x = _batched(call, call["input"], rank)
    y = call.emit("conv_transpose", x, call["weight"], call["bias"], **attrs, groups=call["groups"])
    return _as_given(call, y, call.shape)


@lowering("convolution.default", "_convolution.default")
def _convolution(call: Call) -> Node:
    rule: Any = _conv_transpose if call["transposed"] else _conv
    y: Node = rule(call)
    return y


# --- pools -------------------------------------------------------------------------------------------------------------
def _pool_attrs(call: Call, rank: int, *keys: str) -> dict[str, Any]:
    kernel = _per_axis(call["kernel_size"], rank)
    attrs: dict[str, Any] = {key: _per_axis(call[key], rank) for key in keys if key != "stride"}
    return {**attrs, "kernel": kernel, "stride": _per_axis(call["stride"], rank) if call["stride"] else kernel,
            "ceil_mode": bool(call["ceil_mode"])}  # fmt: skip


def _rank(call: Call) -> int:
    """The number of spatial axes, which stands in the overload's name: max_pool2d."""
    return int(call.overload.split(".")[0].removesuffix("_with_indices")[-2])


@lowering("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def _max_pool(call: Call) -> Node:
    rank = _rank(call)
    attrs = _pool_attrs(call, rank, *_SLIDING)
    return _as_given(call, call.emit("max_pool", _batched(call, call["self"], rank), **attrs), call.shape)


@lowering("max_pool1d_with_indices.default", "max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def _max_pool_with_indices(call: Call) -> tuple[Node, Node]:
    rank = _rank(call)
    attrs, x = _pool_attrs(call, rank, *_SLIDING), _batched(call, call["self"], rank)
    shape = tuple(int(n) for n in call.meta[0].shape)
    y = _as_given(call, call.emit("max_pool", x, **attrs), shape)
    return call.named(y, "values"), _as_given(call, call.emit("max_pool_index", x, **attrs), shape)


@lowering("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def _avg_pool(call: Call) -> Node:
    call.refuse_unless(call["divisor_override"] is None, "divisor_override")
    rank = _rank(call)
    attrs = {**_pool_attrs(call, rank, "padding"), "count_include_pad": bool(call["count_include_pad"])}
    return _as_given(call, call.emit("avg_pool", _batched(call, call["self"], rank), **attrs), call.shape)


@lowering("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default")
def _adaptive_avg_pool(call: Call) -> Node:
    rank = _rank(call)
    x, wanted = _batched(call, call["self"], rank), call.shape[len(call.shape) - rank :]
    return _as_given(call, call.emit("adaptive_avg_pool", x, output_size=wanted), call.shape)


@lowering("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def _adaptive_max_pool(call: Call) -> tuple[Node, Node]:
    """Windows of one size; where they would differ in size, there is no operation for them."""
    rank = _rank(call)
    x, shape = _batched(call, call["self"], rank), tuple(int(n) for n in call.meta[0].shape)
    sizes, wanted = x.shape[2:], shape[len(shape) - rank :]
    call.refuse_unless(all(n % m == 0 for n, m in zip(sizes, wanted, strict=True)), "windows of different sizes")
    kernel = tuple(n // m for n, m in zip(sizes, wanted, strict=True))
    attrs = {"kernel": kernel, "stride": kernel, "padding": (0,) * rank, "dilation": (1,) * rank}
    y = _as_given(call, call.emit("max_pool", x, **attrs), shape)
    return call.named(y, "values"), _as_given(call, call.emit("max_pool_index", x, **attrs), shape)


# --- normalisation -----------------------------------------------------------------------------------------------------
@lowering("batch_norm.default")
def _batch_norm(call: Call) -> Node:
    x, training = call["input"], bool(call["training"])
    affine = [v for v in (call["weight"], call["bias"]) if v is not None]
    call.refuse_unless(call["bias"] is None or call["weight"] is not None, "a bias and no weight")
    if not training:
        return call.emit("batch_norm", x, call["running_mean"], call["running_var"], *affine, eps=call["eps"])
    mean, var = _statistics(call, x, tuple(i for i in range(len(x.shape)) if i != 1), keepdim=False)
    if call["running_mean"] is not None:
        count = x.size // x.shape[1]
        _run_on(call, call["running_mean"], mean)
        _run_on(call, call["running_var"], var, count)
    return call.emit("batch_norm", x, mean, var, *affine, eps=call["eps"], training=True)


def _statistics(call: Call, x: Node, dims: tuple[int, ...], keepdim: bool) -> tuple[Node, Node]:
    """Mean and variance over some axes, as named values; the variance divides by N."""
    mean = call.named(call.emit("mean", x, dim=dims, keepdim=keepdim), "mean")
    return mean, call.named(call.emit("var", x, dim=dims, keepdim=keepdim, correction=0), "var")


def _run_on(call: Call, running: Node, new: Node, count: int = 0) -> None:
    """running <- (1 - momentum) running + momentum new, through which no gradient passes.

    Of a variance over ``count`` entries torch keeps the unbiased one, which divides by count - 1.
    """
    momentum = call["momentum"]
    new = call.emit("stop_gradient", new)
    if count:
        new = call.emit("div", call.emit("mul", float(count), new), float(count - 1))
    kept = call.emit("mul", 1 - momentum, running)
    share, name = call.emit("mul", momentum, new), running.name.partition("#")[0]
    call.updates[running] = call.emit("add", kept, share, name=name, role="value")


@lowering("layer_norm.default")
def _layer_norm(call: Call) -> Node:
    x = call["input"]
    dims = tuple(range(len(x.shape) - len(call["normalized_shape"]), len(x.shape)))
    mean, var = _statistics(call, x, dims, keepdim=True)
    affine = [v for v in (call["weight"], call["bias"]) if v is not None]
    call.refuse_unless(call["bias"] is None or call["weight"] is not None, "a bias and no weight")
    return call.emit("layer_norm", x, mean, var, *affine, eps=call["eps"])


@lowering("group_norm.default")
def _group_norm(call: Call) -> Node:
    x, groups = call["input"], call["num_groups"]
    rows = call.emit("reshape", x, shape=(x.shape[0], groups, x.size // (x.shape[0] * groups)))
    mean, var = _statistics(call, rows, (2,), keepdim=True)
    y = call.emit("reshape", call.emit("layer_norm", rows, mean, var, eps=call["eps"]), shape=x.shape)
    return _channelwise(call, y)


@lowering("instance_norm.default")
def _instance_norm(call: Call) -> Node:
    """Each channel of each example by its own statistics; the running ones, averaged over the batch, by evaluation."""
    x, running = call["input"], call["running_mean"]
    if not call["use_input_stats"]:
        y = call.emit("batch_norm", x, running, call["running_var"], eps=call["eps"])
        return _channelwise(call, y)
    mean, var = _statistics(call, x, tuple(range(2, len(x.shape))), keepdim=True)
    if running is not None:
        count = x.size // (x.shape[0] * x.shape[1])
        for kept, own, entries in ((running, mean, 0), (call["running_var"], var, count)):
            _run_on(call, kept, _over_batch(call, own), entries)
    return _channelwise(call, call.emit("layer_norm", x, mean, var, eps=call["eps"]))


def _over_batch(call: Call, statistic: Node) -> Node:
    """The mean over the batch of a statistic of shape N, C, 1, ..., as one number for each channel."""
    mean = call.emit("mean", statistic, dim=(0,), keepdim=False)
    return call.emit("reshape", mean, shape=(mean.size,))


def _channelwise(call: Call, y: Node) -> Node:
    """y times the weight plus the bias of its channel."""
    tail = (1,) * (len(y.shape) - 2)
    for name, op in (("weight", "mul"), ("bias", "add")):
        if (vector := call[name]) is not None:
            y = call.emit(op, y, call.emit("reshape", vector, shape=(vector.size, *tail)))
    return y


@lowering("rms_norm.default")
def _rms_norm(call: Call) -> Node:
    x = call["input"]
    dims = tuple(range(len(x.shape) - len(call["normalized_shape"]), len(x.shape)))
    eps = call["eps"] if call["eps"] is not None else float(torch.finfo(getattr(torch, x.dtype)).eps)
    squares = call.emit("mean", call.emit("square", x), dim=dims, keepdim=True)
    y = call.emit("mul", x, call.emit("rsqrt", call.emit("add", squares, eps)))
    return y if call["weight"] is None else call.emit("mul", y, call["weight"])


# --- attention ---------------------------------------------------------------------------------------------------------
@lowering("scaled_dot_product_attention.default")
def _attention(call: Call) -> Node:
    """softmax(Q Kᵀ / √d + mask) V; its scores and probabilities are named values."""
    q, k, v, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    if call["enable_gqa"]:
        k, v = (_grouped(call, x, q.shape[-3] // x.shape[-3]) for x in (k, v))
    scale = call["scale"] if call["scale"] is not None else 1 / math.sqrt(q.shape[-1])
    rank = len(k.shape)
    turned = call.emit("permute", k, dims=(*range(rank - 2), rank - 1, rank - 2))
    scores = call.named(call.emit("mul", call.emit("matmul", q, turned), scale), "scores")
    if call["is_causal"]:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        mask = call.builder.constant(allowed, tuple(allowed.shape), "bool", name="causal")
    if mask is not None:
        hidden = -math.inf
        scores = call.emit("where", mask, scores, hidden) if mask.dtype == "bool" else call.emit("add", scores, mask)
    weights = call.named(call.emit("softmax", scores, dim=-1), "attention")
    if not keeps(call, call["dropout_p"], True):
        weights = call.named(dropped(call, weights, call["dropout_p"]), "kept")
    return call.emit("matmul", weights, v)


def _grouped(call: Call, x: Node, times: int) -> Node:
    """One head of keys or values for several heads of queries."""
    if times == 1:
        return x
    *batch, heads, length, size = x.shape
    apart = call.emit("reshape", x, shape=(*batch, heads, 1, length, size))
    wide = call.emit("expand", apart, shape=(*batch, heads, times, length, size))
    return call.emit("reshape", wide, shape=(*batch, heads * times, length, size))


# --- tables ------------------------------------------------------------------------------------------------------------
@lowering("embedding.default")
def _embedding(call: Call) -> Node:
    call.refuse_unless(not call["scale_grad_by_freq"], "gradients scaled by frequency")
    weight, padding = call["weight"], call["padding_idx"]
    if padding not in (None, -1):  # the padding's row is read, and no gradient reaches it
        rows = torch.arange(weight.shape[0]).unsqueeze(1) == padding
        held = call.builder.constant(rows, tuple(rows.shape), "bool", name="padding")
        weight = call.emit("where", held, call.emit("stop_gradient", weight), weight)
    return call.emit("embedding", weight, call["indices"])
