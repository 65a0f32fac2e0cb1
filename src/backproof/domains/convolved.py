"""How convolutions, pools and normalisations are written as formulas of whole tensors."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from ..document.math import Call, Function, Mul, Shaped
from ..graph import Node
from ..ops import OPS
from .spelling import spell
from .terms import Term, constant, term

__all__ = ["LAYERS", "per_channel"]


def _product(node: Node, left: Term, right: Term, style: Literal["convolution", "correlation"]) -> Term:
    """left ∗ right or left ⋆ right: ``right`` is the operation's first operand, which the kernel slides over."""
    factors = tuple(Term(Fraction(1), t.factors, t.rank).expr() for t in (left, right))
    made = Mul(factors, style, node.op.name, tuple(node.attrs.items()))
    return Term(left.coefficient * right.coefficient, (made,), len(node.shape))


def _shifted(node: Node, product: Term, bias: Term | None) -> Term:
    return product if bias is None else product + per_channel(node, bias)


def per_channel(node: Node, x: Term) -> Term:
    """One number per channel, at every place."""
    places = len(node.shape) - 2
    if x.number or places < 1 or x.rank == len(node.shape):
        return x
    shape = (node.shape[1], *(1,) * places)
    return Term(x.coefficient, (Shaped(Term(Fraction(1), x.factors, x.rank).expr(), shape),), len(node.shape))


def _conv(node: Node, x: Term, weight: Term, bias: Term | None = None) -> Term:
    """W ∗ x + b."""
    return _shifted(node, _product(node, weight, x, "convolution"), bias)


def _conv_input_grad(node: Node, delta: Term, weight: Term) -> Term:
    """W ⋆ δ: the full correlation with the flipped kernel."""
    return _product(node, weight, delta, "correlation")


def _conv_weight_grad(node: Node, x: Term, delta: Term) -> Term:
    """δ ∗ x: the input seen through a kernel of error signals."""
    return _product(node, delta, x, "convolution")


def _conv_transpose(node: Node, x: Term, weight: Term, bias: Term | None = None) -> Term:
    """W ⋆ x + b."""
    return _shifted(node, _product(node, weight, x, "correlation"), bias)


_POOLS = {
    "max_pool": ("maxpool", r"\operatorname{maxpool}"),
    "max_pool_grad": ("unpool", r"\operatorname{unpool}"),
    "avg_pool": ("avgpool", r"\operatorname{avgpool}"),
    "avg_pool_grad": ("avgpoolᵀ", r"\operatorname{avgpool}^{\mathsf T}"),
    "adaptive_avg_pool": ("avgpool", r"\operatorname{avgpool}"),
    "adaptive_avg_pool_grad": ("avgpoolᵀ", r"\operatorname{avgpool}^{\mathsf T}"),
}


def _called(node: Node, *x: Term) -> Term:
    text, latex = _POOLS.get(node.op.name, (node.op.text or node.op.name, node.op.latex))
    attrs = tuple((k, v) for k, v in node.attrs.items() if v is not None)
    function = Function(node.op.name, text, latex)
    return term(Call(function, tuple(a.expr() for a in x), node.op.name, attrs), len(node.shape))


def _normalised(node: Node, x: Term, mean: Term, var: Term, *affine: Term) -> Term:
    """γ ⊙ (x - μ) / √(σ² + ε) + β."""
    if node.op.name == "batch_norm" or len(node.inputs[1].shape) < len(node.shape):
        mean, var, affine = per_channel(node, mean), per_channel(node, var), tuple(per_channel(node, a) for a in affine)
    root = spell(OPS["sqrt"], (var + constant(float(node.attrs["eps"])),), {})
    rank = len(node.shape)
    y = (x - mean) / root
    if affine:
        scaled = Mul((affine[0].expr(), Term(Fraction(1), y.factors, rank).expr()), "elementwise")
        y = Term(y.coefficient * affine[0].coefficient if affine[0].number else y.coefficient, (scaled,), rank)
    return y + affine[1] if len(affine) > 1 else y


LAYERS: dict[str, Callable[..., Term]] = {
    "conv": _conv,
    "conv_input_grad": _conv_input_grad,
    "conv_weight_grad": _conv_weight_grad,
    "conv_transpose": _conv_transpose,
    "pooling": _called,
    "pad": _called,
    "batch_norm": _normalised,
    "layer_norm": _normalised,
    "standardise": _normalised,
}
