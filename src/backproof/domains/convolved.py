"""How convolutions, pools and normalisations are written as formulas of whole tensors."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from ..document.math import Call, Function, Mul
from ..graph import Node
from ..ops import OPS
from .spelling import spell
from .terms import Term, constant, term

__all__ = ["LAYERS"]


def _conv(node: Node, x: Term, weight: Term, bias: Term | None = None) -> Term:
    """W ∗ x + b."""
    product = weight.convolved(x, "convolution", len(node.shape))
    return product if bias is None else product + bias


def _conv_input_grad(node: Node, delta: Term, weight: Term) -> Term:
    """W ⋆ δ: the full correlation with the flipped kernel."""
    return weight.convolved(delta, "correlation", len(node.shape))


def _conv_weight_grad(node: Node, x: Term, delta: Term) -> Term:
    """δ ∗ x: the input seen through a kernel of error signals."""
    return delta.convolved(x, "convolution", len(node.shape))


def _conv_transpose(node: Node, x: Term, weight: Term, bias: Term | None = None) -> Term:
    """W ⋆ x + b."""
    product = weight.convolved(x, "correlation", len(node.shape))
    return product if bias is None else product + bias


def _called(node: Node, *x: Term) -> Term:
    function = Function(node.op.name, node.op.text or node.op.name, node.op.latex)
    return term(Call(function, tuple(a.expr() for a in x), node.op.name), len(node.shape))


def _pad(node: Node, x: Term) -> Term:
    return x if all(p >= 0 for p in node.attrs["pad"]) and not node.attrs["value"] else _called(node, x)


def _normalised(node: Node, x: Term, mean: Term, var: Term, *affine: Term) -> Term:
    """γ ⊙ (x - μ) / √(σ² + ε) + β."""
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
    "pad": _pad,
    "batch_norm": _normalised,
    "layer_norm": _normalised,
}
