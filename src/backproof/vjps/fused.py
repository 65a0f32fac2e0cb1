"""Vector-Jacobian products in the shape of torch's own kernels: one call that gives several adjoints at once.

A second table beside :mod:`.general` for readings in floating point that are made for speed. A rule takes the same
:class:`~.general.Rule` and emits calls (operations of the family "kernel", which only the numbers domain reads);
what one call gives besides the value itself, such as a batch norm's statistics, is there for the backward pass.
The textbook rules stay the meaning: where no rule here fits, they are used, and evidence compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..graph import Builder, Graph, Node
from ..ops import Op, Shape
from .general import VJP, Contributions, Rule

__all__ = ["Fused", "fused"]

_PLAIN = ("float32", "float64", "bfloat16", "float16")
Call = tuple[Any, Mapping[str, Any]]


@dataclass
class Fused:
    """How torch computes parts of a graph.

    Args:
        rules: the vector-Jacobian products that replace the textbook's, by forward node.
        values: for a forward node, the node that stands for its value: a call's result.
    """

    rules: dict[Node, VJP] = field(default_factory=dict)
    values: dict[Node, Node] = field(default_factory=dict)


def _record(name: str, count: int = 1) -> Op:
    """A kernel as an operation; it takes what it is given and is no textbook operation, so that OPS does not list it."""
    return Op(name, "kernel", ("*xs",), lambda shapes, attrs: tuple(attrs.get("shape", ())), attrs={"count": count})


_ITEM = _record("item")
_RECORDS: dict[str, Op] = {}


class Calls:
    """Appends calls of kernels to a graph under construction."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def call(self, name: str, inputs: Sequence[Node | None], like: Node, **attrs: Any) -> Node:
        """One call; an operand that is left out is None and stands in ``given`` as False."""
        op = _RECORDS.setdefault(name, _record(name))
        given = tuple(x is not None for x in inputs)
        present = tuple(x for x in inputs if x is not None)
        named = attrs | {"given": given}
        node = Node(op, present, named, like.shape, like.dtype, name, "helper", like.module, like.source)
        return self.builder.add(node)

    def items(self, call: Node, likes: Sequence[Node | None]) -> list[Node | None]:
        """The results of a call that gives several, each of the shape and dtype of a node; None where it is not asked for."""
        return [None if like is None else self.item(call, i, like.shape) for i, like in enumerate(likes)]

    def item(self, call: Node, index: int, shape: Shape) -> Node:
        """One of a call's results."""
        return self.builder.add(Node(_ITEM, (call,), {"index": index}, tuple(shape), call.dtype, "item", "helper"))


def fused(graph: Graph, builder: Builder, calls: Mapping[Node, Call] | None = None) -> Fused:
    """Find the parts of a graph for which torch has a kernel, and append the calls of its forward pass.

    Args:
        graph: the network.
        builder: the joint graph under construction.
        calls: for some nodes the call of the program that computes their value in one go, and its operands by name.
    """
    found, maker = Fused(), Calls(builder)
    for node in graph.nodes:
        rule = _RULES.get(node.op.name)
        if rule is not None and node.dtype in _PLAIN:
            rule(graph, maker, node, found)
    for node, (target, operands) in (calls or {}).items():
        found.values[node] = _program_call(maker, node, target, operands)
    return found


def _program_call(maker: Calls, node: Node, target: Any, operands: Mapping[str, Any]) -> Node:
    names = [name for name, value in operands.items() if isinstance(value, Node)]
    plain = {name: value for name, value in operands.items() if not isinstance(value, Node)}
    return maker.call("torch.call", [operands[n] for n in names], node, target=target, names=tuple(names), plain=plain)


Finder = Callable[[Graph, Calls, Node, Fused], None]
_RULES: dict[str, Finder] = {}


def _finds(*names: str) -> Callable[[Finder], Finder]:
    def add(finder: Finder) -> Finder:
        _RULES.update(dict.fromkeys(names, finder))
        return finder

    return add


# --- functions of one entry -------------------------------------------------------------------------------------------
SLOPES_OF_RESULT = ("relu", "tanh", "sigmoid")
"""torch computes their slope from the result, the others' from the operand. Its hardsigmoid has a 1/6 in single precision."""
SLOPES_OF_OPERAND = ("gelu", "silu", "leaky_relu", "hardtanh", "hardswish", "softplus", "mish")


@_finds(*SLOPES_OF_RESULT, *SLOPES_OF_OPERAND)
def _activation(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    """delta f'(x) in one call."""

    def rule(r: Rule) -> Contributions:
        seen = r.node if node.op.name in SLOPES_OF_RESULT else r.x[0]
        return (maker.call(f"torch.{node.op.name}_grad", (r.delta, seen), r.x[0], **dict(r.attrs)),)

    found.rules[node] = rule


# --- convolutions and pools -------------------------------------------------------------------------------------------
@_finds("conv", "conv_transpose")
def _conv(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    """The adjoints of input, kernel and bias in one call."""

    def rule(r: Rule) -> Contributions:
        wanted = [x if r.needs(i) else None for i, x in enumerate(r.x)]
        mask = (*(x is not None for x in wanted), *(False,) * (3 - len(wanted)))
        attrs = {"output_padding": (0,) * (len(r.x[0].shape) - 2), **r.attrs}
        transposed = node.op.name == "conv_transpose"
        call = maker.call("torch.conv_grad", (r.delta, *r.x[:2]), r.x[0], **attrs, mask=mask, transposed=transposed)
        return tuple(maker.items(call, wanted))

    found.rules[node] = rule


@_finds("max_pool")
def _max_pool(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    """The places of the largest entries are kept from the forward pass."""
    if len(node.attrs["kernel"]) == 1:
        return
    call = maker.call("torch.max_pool", node.inputs, node, **node.attrs)
    found.values[node] = maker.item(call, 0, node.shape)
    index = maker.item(call, 1, node.shape)
    found.rules[node] = lambda r: (maker.call("torch.max_pool_grad", (r.delta, r.x[0], index), r.x[0], **r.attrs),)


@_finds("avg_pool", "adaptive_avg_pool")
def _mean_pool(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    if len(node.shape) > 3:
        name = f"torch.{node.op.name}_grad"
        found.rules[node] = lambda r: (maker.call(name, (r.delta, r.x[0]), r.x[0], **r.attrs),)


# --- normalisation: y, mean and 1/√(variance + ε) come from one call -----------------------------------------------------
@_finds("batch_norm")
def _batch_norm(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    x, mean, var, *affine = node.inputs
    if not all(n.dtype == node.dtype for n in node.inputs) or len(affine) == 1 or x.size <= x.shape[1]:
        return
    if not node.attrs["training"]:
        operands = (x, *(affine or (None, None)), mean, var)
        found.values[node] = maker.call("torch.fixed_batch_norm", operands, node, eps=node.attrs["eps"])
        found.rules[node] = lambda r: _batch_norm_grad(maker, r, None)
    elif _own(graph, node, mean, "mean") and _own(graph, node, var, "var"):
        _in_training(graph, maker, node, found)


def _own(graph: Graph, node: Node, statistic: Node, op: str) -> bool:
    """Whether a statistic is this norm's alone: of its own input, over the axes that it is meant for."""
    x, axes = node.inputs[0], tuple(i for i in range(len(node.shape)) if i != 1)
    if node.op.name == "layer_norm":
        axes = tuple(range(len(x.shape) - _depth(node), len(x.shape)))
    if statistic.op.name != op or statistic.attrs.get("correction"):
        return False
    fits = statistic.inputs[0] is x and tuple(statistic.attrs["dim"]) == axes
    return fits and all(u is node or not u.op.differentiable for u in graph.users[statistic])


def _in_training(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    """Also gives the new running statistics, which are the program's own to the last bit."""
    x, mean, var, *affine = node.inputs
    old, new, momentum = _running(graph, mean, var)
    operands = (x, *(affine or (None, None)), *old)
    call = maker.call("torch.batch_norm", operands, node, eps=node.attrs["eps"], momentum=momentum)
    root = maker.item(call, 2, mean.shape)
    found.values |= {node: maker.item(call, 0, node.shape), mean: maker.item(call, 1, mean.shape)}
    found.values[var] = maker.item(call, 3, var.shape)
    found.values |= {n: maker.item(call, 4 + i, n.shape) for i, n in enumerate(new)}
    found.rules |= {node: lambda r: _batch_norm_grad(maker, r, root), mean: _nothing, var: _nothing}


def _nothing(r: Rule) -> Contributions:
    """What would go on from here is in the adjoint of the norm's input already."""
    return (None,)


def _running(graph: Graph, mean: Node, var: Node) -> tuple[tuple[Node, ...], tuple[Node, ...], float]:
    """The running mean and variance that this norm changes, their new values and the momentum; nothing where unsure."""
    found = [pair for pair in graph.state.items() if (pair[1].op.name == "add" and _follows(pair[1], (mean, var)))]
    if len(found) != 2 or len({_share(new) for _, new in found}) != 1:
        return (), (), 0.0
    found.sort(key=lambda pair: _statistic(pair[1]) is var)
    if [_statistic(new) for _, new in found] != [mean, var]:
        return (), (), 0.0
    return tuple(o for o, _ in found), tuple(n for _, n in found), _share(found[0][1])


def _follows(new: Node, statistics: Sequence[Node]) -> bool:
    return _statistic(new) in statistics


def _statistic(new: Node) -> Node | None:
    """What enters a running statistic: behind momentum times, the unbiased variance's factor and the stopped gradient."""
    share = new.inputs[1] if len(new.inputs) == 2 else None
    if share is None or share.op.name != "mul" or share.inputs[0].role != "constant":
        return None
    node = share.inputs[1]
    while node.op.name in ("div", "mul", "stop_gradient"):
        node = node.inputs[1] if node.op.name == "mul" else node.inputs[0]
    return node


def _share(new: Node) -> float:
    return float(new.inputs[1].inputs[0].value)


def _batch_norm_grad(maker: Calls, r: Rule, root: Node | None) -> Contributions:
    x, mean, var, *affine = r.x
    if root is None:
        root = r.emit("rsqrt", r.emit("add", var, r.constant(r.attrs["eps"])))
    attrs = {"eps": r.attrs["eps"], "training": r.attrs["training"]}
    operands = (r.delta, x, affine[0] if affine else None, mean, var, root)
    call = maker.call("torch.batch_norm_grad", operands, x, **attrs)
    to_x, to_weight, to_bias = (maker.item(call, i, like.shape) for i, like in enumerate((x, mean, mean)))
    scale = r.times(affine[0], root) if affine else root
    to_mean = r.emit("neg", r.times(to_bias, scale)) if r.needs(1) else None
    to_var = r.times(r.constant(-0.5), r.times(r.times(to_weight, scale), root)) if r.needs(2) else None
    return to_x, to_mean, to_var, *((to_weight, to_bias) if affine else ())


def _depth(node: Node) -> int:
    """Over how many of the last axes a layer norm runs."""
    return sum(1 for n, m in zip(node.inputs[0].shape, node.inputs[1].shape, strict=True) if m == 1 != n) or 1


@_finds("layer_norm")
def _layer_norm(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    x, mean, var, *affine = node.inputs
    tail = x.shape[len(x.shape) - _depth(node) :]
    plain = all(n.dtype == node.dtype for n in node.inputs) and all(n.shape == tail for n in affine)
    if not (plain and x.size and _own(graph, node, mean, "mean") and _own(graph, node, var, "var")):
        return
    operands = (x, *affine, *(None,) * (2 - len(affine)))
    call = maker.call("torch.layer_norm", operands, node, tail=tail, eps=node.attrs["eps"])
    root = maker.item(call, 2, mean.shape)
    found.values |= {node: maker.item(call, 0, node.shape), mean: maker.item(call, 1, mean.shape)}
    found.values[var] = maker.call("torch.spread", (x, mean), var, tail=tail)
    found.rules |= {node: lambda r: _layer_norm_grad(maker, r, root, tail), mean: _nothing, var: _nothing}


def _layer_norm_grad(maker: Calls, r: Rule, root: Node, tail: Shape) -> Contributions:
    x, mean, _, *affine = r.x
    operands = (r.delta, x, mean, root, *affine, *(None,) * (2 - len(affine)))
    call = maker.call("torch.layer_norm_grad", operands, x, tail=tail)
    statistics = maker.call("torch.layer_norm_statistics_grad", operands[:5], mean, tail=tail)
    to_x, *to_affine = maker.items(call, (x, *affine))
    return to_x, maker.item(statistics, 0, mean.shape), maker.item(statistics, 1, mean.shape), *to_affine


# --- softmax, its loss, tables ------------------------------------------------------------------------------------------
@_finds("softmax", "log_softmax")
def _softmax(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    name = f"torch.{node.op.name}_grad"
    found.rules[node] = lambda r: (maker.call(name, (r.delta, r.node), r.x[0], dim=r.attrs["dim"]),)


@_finds("nll")
def _nll(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    """The sum of the weights is kept from the forward pass."""
    y, t, *weight = node.inputs
    if len(y.shape) != 2 or len(t.shape) != 1 or y.dtype != node.dtype or t.dtype != "int64":
        return
    operands = (y, t, weight[0] if weight else None)
    call = maker.call("torch.nll", operands, node, **node.attrs)
    found.values[node] = maker.item(call, 0, node.shape)
    total = maker.item(call, 1, ())

    def rule(r: Rule) -> Contributions:
        grad = maker.call("torch.nll_grad", (r.delta, *operands, total), y, **r.attrs)
        return (grad, *(None for _ in r.x[1:]))

    found.rules[node] = rule


@_finds("embedding")
def _embedding(graph: Graph, maker: Calls, node: Node, found: Fused) -> None:
    if len(node.inputs[0].shape) == 2:
        found.rules[node] = lambda r: (
            maker.call("torch.embedding_grad", (r.delta, r.x[1]), r.x[0], rows=r.x[0].shape[0]),
            None,
        )
