"""How the steps of a textbook's derivation are written: x̂ and what goes back through it; an unknown operation's Jacobian."""

from __future__ import annotations

from fractions import Fraction

from ..document.math import Call, Function
from ..graph import Node
from ..ops import OPS
from .convolved import per_channel
from .spelling import spell
from .tensors import mean_over, symbols
from .terms import Term, constant, term

__all__: list[str] = []


def _mean(node: Node, x: Term) -> Term:
    dims = tuple(node.attrs["dim"])
    return mean_over(x, dims, len(node.shape))


@symbols.rule("standardise_grad")
def _standardise_grad(node: Node, delta: Term, x_hat: Term, var: Term) -> Term:
    root = spell(OPS["sqrt"], (per_channel(node, var) + constant(float(node.attrs["eps"])),), {})
    return (delta - _mean(node, delta) - x_hat * _mean(node, delta * x_hat)) / root


@symbols.rule("rms_standardise")
def _scaled(node: Node, x: Term, scale: Term) -> Term:
    return x * scale


@symbols.rule("rms_standardise_grad")
def _scale_grad(node: Node, delta: Term, x_hat: Term, scale: Term) -> Term:
    return scale * (delta - x_hat * _mean(node, delta * x_hat))


@symbols.rule("pullback")
def _pullback(node: Node, delta: Term, *x: Term) -> Term:
    """Jᵀ with the operation and the operand below, of the operands and the error signal."""
    place = (str(node.attrs["operand"] + 1),) if len(x) > 1 else ()
    function = Function("pullback", "Jᵀ", r"J^{\mathsf T}", 0, (node.attrs["operation"], *place))
    operands = tuple(Term(Fraction(1), t.factors, t.rank).expr() if t.factors else t.expr() for t in x)
    return term(Call(function, (*operands, delta.expr()), "pullback"), len(node.shape))
