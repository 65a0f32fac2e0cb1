"""The table of vector-Jacobian products: for each operation, what its adjoint sends to each of its operands.

Notation: delta is the adjoint of the node's result; a rule returns the contribution to the adjoint of each operand, in
order (None where none is needed). An elementwise operation without a rule of its own uses its formula's derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..graph import Builder, Node
from ..ops import Elementwise, Op, Shape, derivative
from ..ops.opaque import OPAQUE, opaque
from ..ops.shapes import axes_of

__all__ = ["VJPS", "Contributions", "Rule", "has_vjp", "rule_of", "vjp", "vjp_of"]


class Rule:
    """What a vector-Jacobian product may use: the node, its adjoint and ``emit`` for new nodes."""

    def __init__(self, builder: Builder, node: Node, delta: Node, active: set[Node]) -> None:
        self.builder, self.node, self.delta, self._active = builder, node, delta, active
        self.x = node.inputs
        self.attrs = node.attrs

    def emit(self, op: Any, *inputs: Node, **attrs: Any) -> Node:
        """Append an operation that belongs to the node's module and line."""
        return self.builder.emit(op, *inputs, module=self.node.module, source=self.node.source, **attrs)

    def needs(self, operand: int) -> bool:
        """Whether a gradient is wanted for this operand."""
        return self.x[operand] in self._active

    def times(self, a: Node, b: Node) -> Node:
        """The product, entry by entry."""
        return self.emit("mul", a, b)

    def constant(self, value: Any) -> Node:
        """A number in the adjoint's dtype."""
        return self.builder.constant(value, dtype=self.delta.dtype)

    def to(self, grad: Node, operand: int) -> Node:
        """Sum a gradient back to the operand's shape, if broadcasting had stretched it."""
        shape = self.x[operand].shape
        return grad if grad.shape == shape else self.emit("sum_to", grad, shape=shape)

    def conj(self, x: Node) -> Node:
        """The conjugate of a complex factor; a real one as it is."""
        return self.emit("conj", x) if x.is_complex else x

    def fitted(self, parts: Contributions) -> Contributions:
        """Contributions of their operands' own kind: a real operand receives the real part, in its own dtype."""
        return tuple(None if part is None else self._alike(x, part) for x, part in zip(self.x, parts, strict=True))

    def _alike(self, x: Node, part: Node) -> Node:
        if part.is_complex and not x.is_complex:
            part = self.emit("real", part)
        return (
            self.emit("cast", part, dtype=x.dtype) if part.is_float and x.is_float and part.dtype != x.dtype else part
        )

    def turned(self, x: Node) -> Node:
        """The transpose of the last two axes."""
        order = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
        return self.emit("permute", x, dims=order)

    def reshaped(self, x: Node, shape: Shape) -> Node:
        """The same entries in another shape; the node itself where nothing changes."""
        return x if x.shape == shape else self.emit("reshape", x, shape=shape)


Contributions = tuple[Node | None, ...]
VJP = Callable[[Rule], Contributions]
VJPS: dict[str, VJP] = {}


def vjp(*names: str) -> Callable[[VJP], VJP]:
    """Enter a rule into the table for operations by name."""

    def add(rule: VJP) -> VJP:
        VJPS.update(dict.fromkeys(names, rule))
        return rule

    return add


def has_vjp(node: Node) -> bool:
    """Whether a gradient can be passed through this node."""
    return node.op.name in VJPS or node.op.family == OPAQUE or isinstance(node.op, Elementwise)


def rule_of(op: Op) -> str:
    """Where an operation's vector-Jacobian product comes from: "own", "formula", "none", or "-" where no gradient passes."""
    if not op.differentiable:
        return "-"
    return "own" if op.name in VJPS else "formula" if isinstance(op, Elementwise) else "none"


# --- arithmetic: each contribution is summed back where broadcasting stretched an operand -----------------------
@vjp("add")
def _add(r: Rule) -> Contributions:
    """y = a + b: both receive delta."""
    return tuple(r.to(r.delta, i) if r.needs(i) else None for i in (0, 1))


@vjp("sub")
def _sub(r: Rule) -> Contributions:
    """y = a - b: delta and -delta."""
    b = r.to(r.emit("neg", r.delta), 1) if r.needs(1) else None
    return (r.to(r.delta, 0) if r.needs(0) else None), b


@vjp("mul")
def _mul(r: Rule) -> Contributions:
    """y = a b: delta b and delta a."""
    return tuple(r.to(r.times(r.delta, r.conj(r.x[1 - i])), i) if r.needs(i) else None for i in (0, 1))


@vjp("div")
def _div(r: Rule) -> Contributions:
    """y = a / b: delta / b and -delta y / b."""
    b = r.conj(r.x[1])
    a = r.to(r.emit("div", r.delta, b), 0) if r.needs(0) else None
    if not r.needs(1):
        return a, None
    return a, r.to(r.emit("neg", r.emit("div", r.times(r.delta, r.conj(r.node)), b)), 1)


@vjp("where")
def _where(r: Rule) -> Contributions:
    """y = a where c else b: delta goes to the side that was chosen."""
    zero = r.constant(0)
    a = r.to(r.emit("where", r.x[0], r.delta, zero), 1) if r.needs(1) else None
    return None, a, (r.to(r.emit("where", r.x[0], zero, r.delta), 2) if r.needs(2) else None)


@vjp("neg")
def _neg(r: Rule) -> Contributions:
    """y = -x: -delta."""
    return (r.emit("neg", r.delta),)


@vjp("identity", "cast")
def _pass(r: Rule) -> Contributions:
    """y = x: delta (in the operand's own dtype)."""
    x = r.x[0]
    delta = r.emit("real", r.delta) if r.delta.is_complex and not x.is_complex else r.delta
    return (delta if x.dtype == delta.dtype else r.emit("cast", delta, dtype=x.dtype),)


def _elementwise(r: Rule) -> Contributions:
    """y = f(x1, x2...): delta times the partial derivative of f, entry by entry."""
    assert isinstance(r.node.op, Elementwise)
    return tuple(r.to(_slope_times(r, i), i) if r.needs(i) else None for i in range(len(r.x)))


def _slope_times(r: Rule, operand: int) -> Node:
    slope = r.emit(derivative(r.node.op, operand), *r.x, **dict(r.attrs))
    return r.times(r.delta, r.conj(slope))


# --- products ---------------------------------------------------------------------------------------------------
@vjp("matmul")
def _matmul(r: Rule) -> Contributions:
    """Y = A B: delta Bᵀ and Aᵀ delta; with a vector among them, outer products."""
    ranks = (len(r.x[0].shape), len(r.x[1].shape))
    rule = {(1, 1): _dot, (2, 1): _matrix_vector, (1, 2): _vector_matrix}.get(ranks, _batched)
    return rule(r)


def _dot(r: Rule) -> Contributions:
    """y = a · b: delta b and delta a."""
    return tuple(r.times(r.delta, r.conj(r.x[1 - i])) if r.needs(i) else None for i in (0, 1))


def _matrix_vector(r: Rule) -> Contributions:
    """y = A b: delta bᵀ and Aᵀ delta."""
    a, b = r.conj(r.x[0]), r.conj(r.x[1])
    grad_b = r.emit("matmul", r.turned(a), r.delta) if r.needs(1) else None
    return (r.emit("outer", r.delta, b) if r.needs(0) else None), grad_b


def _vector_matrix(r: Rule) -> Contributions:
    """y = aᵀ B: B delta and a deltaᵀ."""
    a, b = r.conj(r.x[0]), r.conj(r.x[1])
    grad_b = r.emit("outer", a, r.delta) if r.needs(1) else None
    return (r.emit("matmul", b, r.delta) if r.needs(0) else None), grad_b


def _batched(r: Rule) -> Contributions:
    """Matrices, or batches of them; a vector is seen as one row or one column."""
    a, b = r.conj(r.x[0]), r.conj(r.x[1])
    rows = a if len(a.shape) > 1 else r.reshaped(a, (1, *a.shape))
    columns = b if len(b.shape) > 1 else r.reshaped(b, (*b.shape, 1))
    shape = r.delta.shape if len(b.shape) > 1 else (*r.delta.shape, 1)
    delta = r.reshaped(r.delta, shape if len(a.shape) > 1 else (*shape[:-1], 1, shape[-1]))
    grad_a = _summed(r, r.emit("matmul", delta, r.turned(columns)), rows.shape, a.shape) if r.needs(0) else None
    grad_b = _summed(r, r.emit("matmul", r.turned(rows), delta), columns.shape, b.shape) if r.needs(1) else None
    return grad_a, grad_b


def _summed(r: Rule, grad: Node, wide: Shape, shape: Shape) -> Node:
    """Sum over the batch axes that were stretched, then drop the axis that a vector was given."""
    grad = grad if grad.shape == wide else r.emit("sum_to", grad, shape=wide)
    return r.reshaped(grad, shape)


@vjp("outer")
def _outer(r: Rule) -> Contributions:
    """Y = a bᵀ: delta b and deltaᵀ a."""
    a, b = r.conj(r.x[0]), r.conj(r.x[1])
    grad_b = r.emit("matmul", r.turned(r.delta), a) if r.needs(1) else None
    return (r.emit("matmul", r.delta, b) if r.needs(0) else None), grad_b


@vjp("linear")
def _linear(r: Rule) -> Contributions:
    """s = x Wᵀ + b: delta W, deltaᵀ x, and delta summed over the samples."""
    x, weight = r.conj(r.x[0]), r.conj(r.x[1])
    grad_x = r.emit("matmul", r.delta, weight) if r.needs(0) else None
    rows = r.reshaped(r.delta, (math.prod(x.shape[:-1]), weight.shape[0])) if len(x.shape) != 2 else r.delta
    grad_w = None
    if r.needs(1):
        flat = x if len(x.shape) == 2 else r.emit("reshape", x, shape=(rows.shape[0], x.shape[-1]))
        grad_w = r.emit("matmul", r.turned(rows), flat)
    bias = (r.to(r.delta, 2) if r.needs(2) else None,) if len(r.x) > 2 else ()
    return (grad_x, grad_w, *bias)


# --- reductions -------------------------------------------------------------------------------------------------
def _kept(r: Rule, node: Node) -> Node:
    """A reduced node with its axes back as size 1."""
    shape, axes = r.x[0].shape, axes_of(r.attrs["dim"], len(r.x[0].shape))
    return r.reshaped(node, tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _spread(r: Rule, delta: Node) -> Node:
    if not r.x[0].shape:
        return delta
    return r.emit("expand", delta if not delta.shape else _kept(r, delta), shape=r.x[0].shape)


def _count(r: Rule) -> int:
    return r.x[0].size // max(r.node.size, 1)


@vjp("sum")
def _sum(r: Rule) -> Contributions:
    """y = sum x: every entry receives delta."""
    return (_spread(r, r.delta),)


@vjp("mean")
def _mean(r: Rule) -> Contributions:
    """y = (1/N) sum x: every entry receives delta / N."""
    return (_spread(r, r.emit("div", r.delta, r.constant(_count(r)))),)


@vjp("amax", "amin")
def _extreme(r: Rule) -> Contributions:
    """y = max x: delta goes to the largest entries, shared equally where several are the largest."""
    hit = r.emit("cast", r.emit("eq", r.x[0], _kept(r, r.node)), dtype=r.delta.dtype)
    count = r.emit("sum", hit, dim=axes_of(r.attrs["dim"], len(r.x[0].shape)), keepdim=True)
    return (r.times(r.emit("div", hit, count), _kept(r, r.delta)),)


@vjp("logsumexp")
def _logsumexp(r: Rule) -> Contributions:
    """y = ln sum exp(x): delta exp(x - y)."""
    share = r.emit("exp", r.emit("sub", r.x[0], _kept(r, r.node)))
    return (r.times(share, _kept(r, r.delta)),)


@vjp("var")
def _var(r: Rule) -> Contributions:
    """y = sum (x - mean)^2 / (N - c): 2 delta (x - mean) / (N - c)."""
    mean = r.emit("mean", r.x[0], dim=axes_of(r.attrs["dim"], len(r.x[0].shape)), keepdim=True)
    twice = r.times(r.constant(2), r.emit("sub", r.x[0], mean))
    share = r.emit("div", twice, r.constant(_count(r) - r.attrs["correction"]))
    return (r.times(share, _kept(r, r.delta)),)


# --- shapes and indices: the same entries, sent back to where they came from -------------------------------------
@vjp("reshape")
def _reshape(r: Rule) -> Contributions:
    """The adjoint has the operand's shape."""
    return (r.reshaped(r.delta, r.x[0].shape),)


@vjp("permute")
def _permute(r: Rule) -> Contributions:
    """The axes go back: for a matrix, the transpose."""
    dims = r.attrs["dims"]
    return (r.emit("permute", r.delta, dims=tuple(dims.index(i) for i in range(len(dims)))),)


@vjp("expand")
def _expand(r: Rule) -> Contributions:
    """What was repeated is summed."""
    return (r.to(r.delta, 0),)


@vjp("sum_to")
def _sum_to(r: Rule) -> Contributions:
    """What was summed is repeated."""
    return (r.emit("expand", r.delta, shape=r.x[0].shape),)


@vjp("slice")
def _slice(r: Rule) -> Contributions:
    """The entries go back to their places; the others receive 0."""
    return (r.emit("unslice", r.delta, **dict(r.attrs), shape=r.x[0].shape),)


@vjp("unslice")
def _unslice(r: Rule) -> Contributions:
    """The adjoint of putting entries into places is reading them there."""
    return (r.emit("slice", r.delta, **{k: v for k, v in r.attrs.items() if k != "shape"}),)


@vjp("select")
def _select(r: Rule) -> Contributions:
    """The selected entries receive delta, the others 0."""
    return (r.emit("unselect", r.delta, **dict(r.attrs), shape=r.x[0].shape),)


@vjp("unselect")
def _unselect(r: Rule) -> Contributions:
    """The adjoint of putting a slice into its place is selecting it."""
    return (r.emit("select", r.delta, dim=r.attrs["dim"], index=r.attrs["index"]),)


@vjp("cat")
def _cat(r: Rule) -> Contributions:
    """Each part receives its own piece of delta."""
    dim, start, parts = r.attrs["dim"] % len(r.node.shape), 0, []
    for i, x in enumerate(r.x):
        end = start + x.shape[dim]
        parts.append(r.emit("slice", r.delta, dim=dim, start=start, end=end, step=1) if r.needs(i) else None)
        start = end
    return tuple(parts)


@vjp("stack")
def _stack(r: Rule) -> Contributions:
    """Each part receives its own layer of delta."""
    dim = r.attrs["dim"] % len(r.node.shape)
    return tuple(r.emit("select", r.delta, dim=dim, index=i) if r.needs(i) else None for i in range(len(r.x)))


@vjp("gather")
def _gather(r: Rule) -> Contributions:
    """Each entry's delta is added where the entry was read."""
    return r.emit("scatter_add", r.delta, r.x[1], dim=r.attrs["dim"], shape=r.x[0].shape), None


@vjp("scatter_add")
def _scatter_add(r: Rule) -> Contributions:
    """The adjoint of adding into places is reading there."""
    return r.emit("gather", r.delta, r.x[1], dim=r.attrs["dim"]), None


@vjp("embedding")
def _embedding(r: Rule) -> Contributions:
    """Each row's delta is added to the table's row that it came from."""
    return r.emit("embedding_grad", r.delta, r.x[1], shape=r.x[0].shape), None


@vjp("embedding_grad")
def _embedding_grad(r: Rule) -> Contributions:
    """The adjoint of adding rows into a table is reading them."""
    return r.emit("embedding", r.delta, r.x[1]), None


# --- softmax family -----------------------------------------------------------------------------------------------
@vjp("softmax")
def _softmax(r: Rule) -> Contributions:
    """p = softmax(x): p ⊙ (delta - sum_j delta_j p_j)."""
    return (r.emit("softmax_grad", r.delta, r.node, dim=r.attrs["dim"]),)


@vjp("log_softmax")
def _log_softmax(r: Rule) -> Contributions:
    """y = ln softmax(x): delta - softmax(x) sum_j delta_j."""
    return (r.emit("log_softmax_grad", r.delta, r.node, dim=r.attrs["dim"]),)


@vjp("softmax_grad")
def _softmax_grad(r: Rule) -> Contributions:
    """g = p ⊙ (d - <d, p>): with c = <delta, p>, to d: p ⊙ (delta - c); to p: delta ⊙ (d - <d, p>) - c d."""
    d, p = r.x
    dim = (r.attrs["dim"],)
    inner = r.emit("sum", r.times(d, p), dim=dim, keepdim=True)
    c = r.emit("sum", r.times(r.delta, p), dim=dim, keepdim=True)
    to_d = r.times(p, r.emit("sub", r.delta, c)) if r.needs(0) else None
    if not r.needs(1):
        return to_d, None
    return to_d, r.emit("sub", r.times(r.delta, r.emit("sub", d, inner)), r.times(c, d))


@vjp("log_softmax_grad")
def _log_softmax_grad(r: Rule) -> Contributions:
    """g = d - exp(y) sum d: to d: delta - sum_j delta_j exp(y_j); to y: -delta ⊙ exp(y) sum d."""
    d, y = r.x
    dim = (r.attrs["dim"],)
    p = r.emit("exp", y)
    inner = r.emit("sum", r.times(r.delta, p), dim=dim, keepdim=True)
    to_d = r.emit("sub", r.delta, inner) if r.needs(0) else None
    if not r.needs(1):
        return to_d, None
    total = r.emit("sum", d, dim=dim, keepdim=True)
    return to_d, r.emit("neg", r.times(r.times(r.delta, p), total))


@vjp("nll")
def _nll(r: Rule) -> Contributions:
    """L = -(1/N) sum_n y[n, t_n]: -delta / N at each target class, 0 elsewhere."""
    grad = r.emit("nll_grad", r.delta, *r.x[1:], **dict(r.attrs), shape=r.x[0].shape)
    return (grad, *(None for _ in r.x[1:]))


@vjp("nll_grad")
def _nll_grad(r: Rule) -> Contributions:
    """The adjoint of sending -delta (or its share) to the target classes is reading -share there."""
    grad = r.emit("nll", r.delta, *r.x[1:], reduction=r.attrs["reduction"], ignore_index=r.attrs["ignore_index"])
    return (grad, *(None for _ in r.x[1:]))


def vjp_of(node: Node) -> VJP:
    """The rule of a node's operation: its own, or its formula's."""
    return VJPS.get(node.op.name) or (_opaque if node.op.family == OPAQUE else _elementwise)


def _opaque(r: Rule) -> Contributions:
    """What torch says: its own vector-Jacobian product of the one call, with delta in front of the call's operands."""
    return tuple(_pulled_back(r, i) if r.needs(i) else None for i in range(len(r.x)))


def _pulled_back(r: Rule, i: int) -> Node:
    x = r.x[i]
    name = r.node.op.name.removesuffix(".vjp") + ".vjp"
    return r.emit(opaque(name), r.delta, *r.x, call=r.attrs["call"].pullback(i), shape=x.shape, dtype=x.dtype)
