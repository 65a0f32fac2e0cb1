"""An operation and a reading that Backproof does not have, in a package of their own.

``squash`` is the activation of capsule networks (Sabour, Frosst and Hinton 2017, eq. 1): a vector s keeps its direction and
gets a length below 1, y = |s|²/(1 + |s|²) · s/|s|. Once the package is installed, networks that call it are captured,
traced and derived like any other, and ``flops`` stands beside the built-in readings in ``backproof ops``.
"""

import torch

from backproof.capturing.lower import lowering
from backproof.domains import Domain
from backproof.domains.entries import entries
from backproof.domains.numbers import numbers
from backproof.ops import OPS, Example, Op, register
from backproof.ops.shapes import same
from backproof.vjps import vjp


# --- the operation, for torch: anything that torch.library takes ---------------------------------------------------------
@torch.library.custom_op("capsules::squash", mutates_args=())
def squash(s: torch.Tensor) -> torch.Tensor:
    """The capsules along the last axis, squashed."""
    square = s.square().sum(-1, keepdim=True)
    return s * square.sqrt() / (1 + square)


@squash.register_fake
def _(s: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(s)


def _backward(ctx: object, delta: torch.Tensor) -> torch.Tensor:
    (s,) = ctx.saved_tensors  # type: ignore[attr-defined]
    square = s.square().sum(-1, keepdim=True)
    along = (delta * s).sum(-1, keepdim=True)
    return square.sqrt() / (1 + square) * delta + (1 - square) / (square.sqrt() * (1 + square) ** 2) * along * s


squash.register_autograd(_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))

# --- the operation, for Backproof: a record, its rules, its vector-Jacobian product -------------------------------------
register(
    Op(
        "squash",
        "capsules",
        ("s",),
        same,
        examples=(Example(((2, 3),)), Example(((4,),))),
        doc="y = |s|²/(1 + |s|²) · s/|s|: the direction of a capsule, with a length below 1.",
    )
)


@lowering("capsules.squash.default")
def _captured(call):  # how the exported call becomes the operation
    return call.emit("squash", call["s"])


@numbers.rule("squash")
def _number(node, s):
    return squash(s)


@entries.rule("squash")  # exact and 50-digit arithmetic, entry by entry
def _entry(node, arithmetic, s):
    found = s.copy()
    for capsule in found.reshape(-1, s.shape[-1]):  # views: what is written stands in ``found``
        square = (capsule * capsule).sum()
        capsule *= arithmetic.apply(OPS["sqrt"], (square,), {}) / (square + 1)
    return found


@vjp("squash")
def _gradient(r):
    """With n = |s|: n/(1 + n²) δ + (1 - n²)/(n (1 + n²)²) (δ·s) s."""
    s, one = r.x[0], r.constant(1)
    square = r.emit("sum", r.times(s, s), dim=(-1,), keepdim=True)
    length, wide = r.emit("sqrt", square), r.emit("add", one, square)
    along = r.emit("sum", r.times(r.delta, s), dim=(-1,), keepdim=True)
    factor = r.emit("div", r.emit("sub", one, square), r.times(length, r.times(wide, wide)))
    return (r.emit("add", r.times(r.delta, r.emit("div", length, wide)), r.times(r.times(factor, along), s)),)


# --- a reading of its own: how many floating-point operations each value costs ------------------------------------------
flops = Domain("flops", "floating-point operations, a multiplication and an addition counting two")


@flops.rule("elementwise", "arithmetic", "comparison", "loss", "reduce", "softmax", "capsules")
def _one_each(node, *operands):
    return max(node.size, *(x.size for x in node.inputs))


@flops.rule("linear", "matmul")
def _product(node, *operands):
    return 2 * node.size * node.inputs[0].shape[-1]


@flops.rule("shape", "index")
def _free(node, *operands):
    return 0
