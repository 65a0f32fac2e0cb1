"""An operation without a textbook form: said by name, and written as its Jacobian; everything else is derived."""

from __future__ import annotations

from fractions import Fraction

from ...document.math import Call, Function
from ...domains.tensors import symbols
from ...domains.terms import Term, term
from ...graph import Graph, Node
from ...ops import Op
from ...vjps import Contributions, Rule, has_vjp

__all__ = ["gaps", "is_unknown", "pull_back"]

_PULLBACK = Op(
    "pullback", "pullback", ("delta", "*xs"), lambda shapes, attrs: tuple(attrs["shape"]),
    attrs={"operation": "", "operand": 0, "shape": ()}, doc="The transposed Jacobian of an operation times its error signal.",
)  # fmt: skip


def is_unknown(node: Node) -> bool:
    """Whether an operation has no rule that could be written: none at all, or one that only torch can run."""
    return not node.is_leaf and node.op.differentiable and (node.op.family == "opaque" or not has_vjp(node))


def pull_back(r: Rule) -> Contributions | None:
    """J_i(x)ᵀ δ for each operand of an unknown operation; None for one with a rule."""
    if not is_unknown(r.node):
        return None
    return tuple(
        r.emit(_PULLBACK, r.delta, *r.x, operation=r.node.op.name, operand=i, shape=x.shape)
        if x.is_float and r.needs(i) else None
        for i, x in enumerate(r.x)
    )  # fmt: skip


@symbols.rule("pullback")
def _written(node: Node, delta: Term, *x: Term) -> Term:
    """Jᵀ with the operation and the operand below, of the operands and the error signal."""
    place = (str(node.attrs["operand"] + 1),) if len(x) > 1 else ()
    function = Function("pullback", "Jᵀ", r"J^{\mathsf T}", 0, (node.attrs["operation"], *place))
    operands = tuple(Term(Fraction(1), t.factors, t.rank).expr() if t.factors else t.expr() for t in x)
    return term(Call(function, (*operands, delta.expr()), "pullback"), len(node.shape))


def gaps(graph: Graph, behind: set[Node]) -> list[str]:
    """What a page says of each unknown operation that the loss depends on."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node in behind and is_unknown(node):
            found.setdefault(node.op.name, []).append(node)
    return [_said(name, nodes) for name, nodes in found.items()]


def _said(name: str, nodes: list[Node]) -> str:
    first = nodes[0]
    where = f" in {first.module}" if first.module else ""
    source = f", at {first.source}" if first.source else ""
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return (
        f"{name} ({first.name}{where}{source}{more}) has no textbook form here: what goes back through it is written as its "
        "transposed Jacobian times the error signal, and its numbers are not computed from this page. The rest is derived."
    )
