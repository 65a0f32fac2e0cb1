"""The rule behind each value and each error signal, in the words of a textbook."""

from __future__ import annotations

from collections.abc import Mapping

from ...graph import Graph, Node, Surrogate
from ...ops import Elementwise

__all__ = ["why_gradient", "why_value"]

_VALUES = {
    "matmul": "weighted sum",
    "linear": "weighted sum with bias",
    "sum": "sum",
    "mean": "mean",
    "conv": "convolution: at every place the weighted sum of what the kernel covers, plus the bias",
    "conv_transpose": "transposed convolution: every entry spreads the kernel, times its own value",
    "max_pool": "the largest entry of each window",
    "avg_pool": "the mean of each window",
    "adaptive_avg_pool": "the mean of each window",
    "batch_norm": "normalised per channel, scaled by γ and shifted by β",
    "layer_norm": "normalised per sample, scaled by γ and shifted by β",
    "var": "variance",
    "standardise": "x̂: the input minus its mean, over its standard deviation",
    "rms_standardise": "x̂: the input over its root mean square",
    "embedding": "each label picks its row of the table",
    "reshape": "the same numbers in another shape",
    "permute": "the axes in another order",
    "softmax": "softmax",
    "log_softmax": "logarithm of the softmax",
    "nll": "negative log-likelihood of the target class",
    "outer": "outer product",
    "add": "sum",
    "sub": "difference",
    "mul": "product",
    "div": "quotient",
    "pow": "power",
    "neg": "negative",
}
_GRADIENTS = {
    "matmul": "chain rule through the product {name}",
    "linear": "chain rule through the linear layer {name}",
    "outer": "chain rule through the outer product {name}",
    "add": "a sum passes its error signal on unchanged",
    "sub": "a difference passes its error signal on, with the sign of the term",
    "mul": "product rule: the error signal times the other factor",
    "div": "quotient rule",
    "pow": "power rule",
    "neg": "the sign changes",
    "sum": "a sum passes its error signal to every term",
    "mean": "a mean passes the N-th part of its error signal to every term",
    "conv": "chain rule through the convolution {name}: each error signal goes back along the weight that it came by",
    "conv_transpose": "chain rule through the transposed convolution {name}",
    "max_pool": "the error signal of a window goes to its largest entry alone",
    "avg_pool": "the error signal of a window is shared equally among its entries",
    "adaptive_avg_pool": "the error signal of a window is shared equally among its entries",
    "batch_norm": "chain rule through the normalisation {name}",
    "layer_norm": "chain rule through the normalisation {name}",
    "standardise": "through x̂ directly, by its mean and by its variance: the closed form of Ioffe and Szegedy (2015, section 3)"
    " for a batch, of Ba, Kiros and Hinton (2016) for a layer",
    "rms_standardise": "through x̂ directly and by its root mean square (Zhang and Sennrich, 2019)",
    "embedding": "each row of the table receives the error signals of the labels that picked it",
    "cat": "each part receives its own piece",
    "stack": "each part receives its own layer",
    "expand": "what was repeated is summed",
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


def why_value(node: Node, graph: Graph | None = None) -> str:
    """How a value (or, for an adjoint, an error signal) comes about."""
    if node.of is not None:
        return ""
    if graph is not None and (surrogate := graph.surrogates.get(node)) is not None:
        what = "a gradient hook" if surrogate.kind == "hook" else surrogate.name
        return f"passed through {what}, whose backward pass is your own"
    if node.op.name in _VALUES:
        return _VALUES[node.op.name]
    if isinstance(node.op, Elementwise) and len(node.inputs) == 1:
        return f"{node.op.text or node.op.name}, entry by entry" if node.shape else (node.op.text or node.op.name)
    return node.op.doc.rstrip(".") or node.op.text or node.op.name


def _called(node: Node, names: Mapping[str, str]) -> str:
    return names.get(node.name, node.name)


def _named_end(user: Node, graph: Graph) -> Node | None:
    """The named quantity whose formula a step without a name belongs to."""
    while user.role == "helper":
        following = graph.users[user]
        if len(following) != 1:
            return None
        user = following[0]
    return user


def _through(user: Node, graph: Graph, names: Mapping[str, str]) -> str:
    if user.role == "helper":
        end = _named_end(user, graph)
        if end is None:
            return "chain rule through a step without a name"
        return f"{'derivative' if end is graph.loss else 'chain rule through the formula'} of {_called(end, names)}"
    name = _called(user, names)
    if user.op.name in _GRADIENTS:
        return _GRADIENTS[user.op.name].format(name=name)
    return f"chain rule through {name} = {user.op.text or user.op.name}({_called(user.inputs[0], names)})"


def _at(surrogate: Surrogate) -> str:
    return f" ({surrogate.written})" if surrogate.written else ""


def why_gradient(node: Node, users: tuple[Node, ...], graph: Graph, names: Mapping[str, str]) -> str:
    """The rule that gives the gradient of ``node``, from what uses it.

    Args:
        node: the quantity.
        users: what uses it on the way to the loss.
        graph: the forward graph.
        names: symbols that the reader writes differently.
    """
    if node is graph.loss:
        return "the derivative of the loss with respect to itself"
    own = {s.gradients: s for s in graph.surrogates.values() if node in s.operands}
    written = [f"what your own backward pass of {s.name}{_at(s)} sends back" for s in own.values()]
    users = tuple(u for u in users if u not in graph.surrogates)
    reasons = list(dict.fromkeys((*written, *(_through(user, graph, names) for user in users))))
    if len(users) + len(written) == 1:
        return reasons[0]
    return (
        f"sum over the {len(users) + len(written)} paths by which {_called(node, names)} reaches the loss: "
        + "; ".join(reasons)
    )
