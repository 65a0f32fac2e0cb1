"""The rule behind each value and each error signal, in the words of a textbook."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph import Node
from ..ops import Elementwise

__all__ = ["why_gradient", "why_value"]

_VALUES = {
    "matmul": "weighted sum",
    "linear": "weighted sum with bias",
    "sum": "sum",
    "mean": "mean",
    "softmax": "softmax",
    "log_softmax": "logarithm of the softmax",
    "nll": "negative log-likelihood of the target class",
    "outer": "outer product",
    "add": "sum",
    "sub": "difference",
    "mul": "product",
    "div": "quotient",
    "pow": "power",
}
_GRADIENTS = {
    "matmul": "chain rule through the product {name}",
    "linear": "chain rule through the linear layer {name}",
    "outer": "chain rule through the outer product {name}",
    "add": "a sum passes its error signal on unchanged",
    "sub": "a difference passes its error signal on, with the sign of the term",
    "mul": "product rule: the error signal times the other factor",
    "div": "quotient rule",
    "sum": "a sum passes its error signal to every term",
    "mean": "a mean passes the N-th part of its error signal to every term",
    "softmax": "chain rule through the softmax, whose Jacobian is diag(p) - p pᵀ",
    "log_softmax": "chain rule through ln softmax",
    "nll": "only the target class of each sample receives an error signal",
    "reshape": "the same numbers in another shape",
    "permute": "the transpose goes back",
    "slice": "the entries go back to their places",
    "select": "the entries go back to their places",
    "gather": "the entries go back to where they were read",
    "where": "the error signal follows the branch that was taken",
    "stop_gradient": "no gradient passes",
}


def why_value(node: Node) -> str:
    """How a value (or, for an adjoint, an error signal) comes about."""
    if node.of is not None:
        return ""
    if node.op.name in _VALUES:
        return _VALUES[node.op.name]
    if isinstance(node.op, Elementwise) and len(node.inputs) == 1:
        return f"{node.op.text or node.op.name}, entry by entry" if node.shape else (node.op.text or node.op.name)
    return node.op.doc.rstrip(".") or node.op.text or node.op.name


def _called(node: Node, names: Mapping[str, str]) -> str:
    return names.get(node.name, node.name)


def _through(user: Node, names: Mapping[str, str]) -> str:
    name = _called(user, names) if user.role == "value" else "the step to " + user.name.split("#")[0]
    if user.op.name in _GRADIENTS:
        return _GRADIENTS[user.op.name].format(name=name)
    text = user.op.text or user.op.name
    return f"chain rule through {name + ' = ' if user.role == 'value' else ''}{text}({_called(user.inputs[0], names)})"


def why_gradient(node: Node, users: tuple[Node, ...], loss: Node | None, names: Mapping[str, str]) -> str:
    """The rule that gives the gradient of ``node``, from what uses it."""
    if node is loss:
        return "the derivative of the loss with respect to itself"
    if len(users) == 1:
        return _through(users[0], names)
    return f"sum over the {len(users)} paths by which {_called(node, names)} reaches the loss: " + "; ".join(
        _through(u, names) for u in users
    )
