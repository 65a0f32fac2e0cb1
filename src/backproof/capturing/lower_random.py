"""From ATen overloads to our operations: dropout, and whatever else draws at random.

What is drawn becomes a leaf of the graph, a :mod:`draw <backproof.ops.chance>`, in the order in which the program draws;
a run fills it in (:mod:`.chance`). Where the network itself computes a distribution's parameters, the draw is the standard one
(uniform, normal) and the rest are operations, through which gradients pass as in the reparametrisation of Kingma
and Welling (2014).
"""

from __future__ import annotations

import math
from typing import Any

from ..graph import Node
from .lower import Call, NotCaptured, lowering

__all__ = ["dropped", "keeps"]


def _draw(
    call: Call,
    name: str,
    method: str,
    arguments: tuple[float, ...],
    shape: Any = None,
    dtype: str = "",
    meta: Any = None,
) -> Node:
    """A leaf for numbers drawn independently, named after the module."""
    like = call.meta if meta is None else meta
    wanted = tuple(int(n) for n in (like.shape if shape is None else shape))
    stride = None if shape is not None or like.is_contiguous() else tuple(int(n) for n in like.stride())
    return call.draw(name, method, arguments, wanted, dtype or str(like.dtype).removeprefix("torch."), stride)


# --- dropout -----------------------------------------------------------------------------------------------------------
def keeps(call: Call, p: float, training: bool) -> bool:
    """Whether a dropout does nothing."""
    call.refuse_unless(0 <= p <= 1, f"a dropout probability of {p}, which is not between 0 and 1")
    return not training or p == 0


def dropped(call: Call, x: Node, p: float, meta: Any = None) -> Node:
    """x times a mask that is 1 with probability 1 - p, over 1 - p: inverted dropout (Srivastava et al. 2014, section 10)."""
    if p == 1:
        return call.emit("mul", x, 0.0)
    mask = _draw(call, "mask", "bernoulli", (1 - p,), None if meta is not None else x.shape, x.dtype, meta)
    return call.emit("mul", x, call.emit("div", mask, 1 - p))


@lowering("dropout.default")
def _dropout(call: Call) -> Node:
    x: Node = next(iter(call.args.values()))
    p = call["p"]
    return x if keeps(call, p, call["train"]) else dropped(call, x, p, call.meta)


def _per_feature(call: Call, x: Node) -> tuple[int, ...]:
    call.refuse_unless(len(x.shape) >= 2, "an input without a channel axis")
    return (*x.shape[:2], *(1,) * (len(x.shape) - 2))


@lowering("feature_dropout.default")
def _feature_dropout(call: Call) -> Node:
    """One number of the mask for each channel of each sample."""
    x: Node = next(iter(call.args.values()))
    p = call["p"]
    if keeps(call, p, call["train"]):
        return x
    if p == 1:
        return call.emit("mul", x, 0.0)
    mask = _draw(call, "mask", "bernoulli", (1 - p,), _per_feature(call, x), x.dtype)
    return call.emit("mul", x, call.emit("div", mask, 1 - p))


_ALPHA = 1.7580993408473766  # of SELU: λα, the negative of its limit at minus infinity


@lowering("alpha_dropout.default", "feature_alpha_dropout.default")
def _alpha_dropout(call: Call) -> Node:
    """a (x m + α'(m - 1) + α' p), which keeps mean 0 and variance 1 (Klambauer et al. 2017, section "alpha dropout")."""
    x: Node = next(iter(call.args.values()))
    p = call["p"]
    if keeps(call, p, call["train"]):
        return x
    if p == 1:
        return call.emit("mul", x, 0.0)
    shape = _per_feature(call, x) if call.overload.startswith("feature") else None
    mask = _draw(call, "mask", "bernoulli", (1 - p,), shape, x.dtype)
    a = 1 / math.sqrt((_ALPHA**2 * p + 1) * (1 - p))
    shift = call.emit("add", call.emit("mul", call.emit("sub", mask, 1.0), _ALPHA * a), _ALPHA * a * p)
    return call.emit("add", call.emit("mul", x, call.emit("mul", mask, a)), shift)


@lowering("rrelu.default")
def _rrelu(call: Call) -> Node:
    """x where positive, else a slope times x; in training the slopes are drawn, one for each entry."""
    x, low, high = call["self"], call["lower"], call["upper"]
    if not call["training"]:
        return call.emit("leaky_relu", x, negative_slope=(low + high) / 2)
    return call.emit("prelu", x, _draw(call, "slope", "uniform", (low, high)))


# --- fresh tensors of random numbers -------------------------------------------------------------------------------------
@lowering("rand.default", "rand_like.default", "randn.default", "randn_like.default")
def _standard(call: Call) -> Node:
    method = "normal" if call.overload.startswith("randn") else "uniform"
    return _draw(call, "noise" if method == "normal" else "u", method, (0.0, 1.0))


_FILLS = {
    "bernoulli.float": ("p",),
    "bernoulli.p": ("p",),
    "uniform.default": ("from", "to"),
    "normal.default": ("mean", "std"),
    "normal.float_float": ("mean", "std"),
    "exponential.default": ("lambd",),
    "log_normal.default": ("mean", "std"),
    "cauchy.default": ("median", "sigma"),
    "geometric.default": ("p",),
}


@lowering(*_FILLS)
def _filled(call: Call) -> Node:
    """``x.normal_(0, 1)`` and the like, as they arrive when what they overwrite has no other user."""
    call.refuse_unless(call["generator"] is None, "a generator of its own")
    arguments = tuple(call[name] for name in _FILLS[call.overload])
    return _draw(call, "noise", call.overload.partition(".")[0], arguments)


@lowering("randint.default", "randint.low", "randint_like.default", "randint_like.low_dtype", "randperm.default")
def _whole_numbers(call: Call) -> Node:
    if call.overload.startswith("randperm"):
        return _draw(call, "order", "permutation", ())
    return _draw(call, "k", "random", (call["low"] or 0, call["high"]))


# --- distributions whose parameters the network computes ------------------------------------------------------------------
@lowering("bernoulli.default", "bernoulli.Tensor")
def _bernoulli(call: Call) -> Node:
    """1 where a uniform number is below p, so that the draw itself does not depend on p."""
    p = call["p"] if call.overload == "bernoulli.Tensor" else call["self"]
    u = _draw(call, "u", "uniform", (0.0, 1.0))
    return call.emit("cast", call.emit("lt", u, p), dtype=call.dtype)


@lowering("normal.Tensor_float", "normal.float_Tensor", "normal.Tensor_Tensor")
def _normal(call: Call) -> Node:
    noise = _draw(call, "noise", "normal", (0.0, 1.0))
    return call.emit("add", call.emit("mul", noise, call["std"]), call["mean"])


@lowering(
    "multinomial.default", "poisson.default", "binomial.default", "_standard_gamma.default", "_sample_dirichlet.default"
)
def _refused(call: Call) -> Node:
    raise NotCaptured(
        f"aten.{call.overload} draws from a distribution that the network computes; a draw can be recorded for bernoulli, "
        "normal, uniform and exponential numbers (torch.nn.functional.gumbel_softmax samples classes in this way)"
    )


@lowering("empty_like.default", "empty.memory_format", "new_empty.default", "empty_strided.default")
def _empty(call: Call) -> Node:
    """Memory that the program is about to fill."""
    return call.builder.constant(0, call.shape, call.dtype, name="empty")
