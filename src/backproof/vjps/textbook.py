"""What goes back through the steps of a textbook's derivation, and through an operation that has no rule.

The closed forms: Ioffe and Szegedy, Batch normalization (2015), section 3, with the sums over the batch collected; Ba,
Kiros and Hinton, Layer normalization (2016); Zhang and Sennrich, Root mean square layer normalization (2019).
"""

from __future__ import annotations

from ..graph import Node
from ..ops.textbook import PULLBACK, SCALE_GRAD, STANDARDISE_GRAD
from .general import Contributions, Rule, has_vjp, vjp

__all__ = ["is_unknown", "pull_back"]


@vjp("standardise")
def _back(r: Rule) -> Contributions:
    """x̂ = (x - μ)/√(σ² + ε): the three paths by which x reaches x̂ in one; none is left for μ and σ²."""
    return r.emit(STANDARDISE_GRAD, r.delta, r.node, r.x[2], **dict(r.attrs)), None, None


@vjp("rms_standardise")
def _scale_back(r: Rule) -> Contributions:
    """x̂ = x r: both paths by which x reaches x̂ in one; none is left for r."""
    return r.emit(SCALE_GRAD, r.delta, r.node, r.x[1], **dict(r.attrs)), None


def is_unknown(node: Node) -> bool:
    """Whether an operation has no rule that could be written: none at all, or one that only torch can run."""
    return not node.is_leaf and node.op.differentiable and (node.op.family == "opaque" or not has_vjp(node))


def pull_back(r: Rule) -> Contributions:
    """J_i(x)ᵀ δ for each operand of an unknown operation."""
    return tuple(
        r.emit(PULLBACK, r.delta, *r.x, operation=r.node.op.name, operand=i, shape=x.shape)
        if x.is_float and r.needs(i) else None
        for i, x in enumerate(r.x)
    )  # fmt: skip
