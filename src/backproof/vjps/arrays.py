"""Vector-Jacobian products of indexing, running totals, norms, einsum and functions of a matrix."""

from __future__ import annotations

from ..graph import Node
from ..ops.sequences import sizes_of_letters
from ..ops.shapes import axes_of
from .general import Contributions, Rule, vjp

__all__: list[str] = []


# --- entries put into places ----------------------------------------------------------------------------------------
@vjp("put", "scatter")
def _put(r: Rule) -> Contributions:
    """What was overwritten receives 0, what was put there the delta of its place."""
    attrs = dict(r.attrs)
    src = r.x[2]
    nothing = r.emit("expand", r.constant(0), shape=src.shape)
    to_x = r.emit(r.node.op, r.delta, r.x[1], nothing, **attrs) if r.needs(0) else None
    read = "gather" if r.node.op.name == "scatter" else "embedding"
    return to_x, None, (r.emit(read, r.delta, r.x[1], **attrs) if r.needs(2) else None)


@vjp("scatter_extreme")
def _scatter_extreme(r: Rule) -> Contributions:
    """The largest receive delta, shared equally where several are the largest at one place."""
    x, index, src = r.x
    dim, dtype = r.attrs["dim"], r.delta.dtype
    own = r.emit("cast", r.emit("eq", x, r.node), dtype=dtype)
    sent = r.emit("cast", r.emit("eq", src, r.emit("gather", r.node, index, dim=dim)), dtype=dtype)
    count = r.emit("add", own, r.emit("scatter_add", sent, index, dim=dim, shape=x.shape))
    share = r.emit("div", r.delta, count)
    to_src = r.times(sent, r.emit("gather", share, index, dim=dim)) if r.needs(2) else None
    return (r.times(own, share) if r.needs(0) else None), None, to_src


# --- running totals ---------------------------------------------------------------------------------------------------
def _moved(r: Rule, x: Node, dim: int, by: int) -> Node:
    """Entries moved along an axis by one place: by = 1 to later places, -1 to earlier ones; 0 comes in."""
    n = x.shape[dim]
    first = (0, n - 1) if by > 0 else (1, n)
    kept = r.emit("slice", x, dim=dim, start=first[0], end=first[1], step=1)
    return _placed(r, kept, dim, n, 1 if by > 0 else 0)


def _placed(r: Rule, x: Node, dim: int, size: int, start: int) -> Node:
    shape = (*x.shape[:dim], size, *x.shape[dim + 1 :])
    return r.emit("unslice", x, dim=dim, start=start, end=start + x.shape[dim], step=1, shape=shape)


def _axis(r: Rule) -> int:
    return int(r.attrs["dim"]) % max(len(r.node.shape), 1)


@vjp("cumsum")
def _cumsum(r: Rule) -> Contributions:
    """y_t = x_1 + ... + x_t: x_t is in all later totals, so it receives delta_t + ... + delta_n."""
    return (r.emit("cumsum", r.delta, dim=r.attrs["dim"], reverse=not r.attrs["reverse"]),)


@vjp("recurrence")
def _recurrence(r: Rule) -> Contributions:
    """h_t = a_t h_{t-1} + b_t: l_t = delta_t + a_{t+1} l_{t+1} backwards; l_t to b_t, l_t h_{t-1} to a_t."""
    dim, back = _axis(r), bool(r.attrs["reverse"])
    factors = _moved(r, r.x[0], dim, 1 if back else -1)
    adjoint = r.emit("recurrence", factors, r.delta, dim=dim, reverse=not back)
    before = _moved(r, r.node, dim, -1 if back else 1) if r.needs(0) else None
    return (None if before is None else r.times(adjoint, before)), (adjoint if r.needs(1) else None)


@vjp("cumprod")
def _cumprod(r: Rule) -> Contributions:
    """y_t = x_1 ... x_t: with q_t = delta_t + x_{t+1} q_{t+1} backwards, x_t receives x_1 ... x_{t-1} q_t."""
    if not r.node.shape:
        return (r.delta,)
    dim = _axis(r)
    q = r.emit("recurrence", _moved(r, r.x[0], dim, -1), r.delta, dim=dim, reverse=True)
    n, rest = r.node.shape[dim], len(r.node.shape) - 1 - dim
    one = r.constant(1)
    first = _placed(r, r.emit("reshape", one, shape=(1,) * (rest + 1)), 0, n, 0)
    return (r.times(r.emit("add", _moved(r, r.node, dim, 1), first), q),)


@vjp("logcumsumexp")
def _logcumsumexp(r: Rule) -> Contributions:
    """y_t = ln(e^x_1 + ... + e^x_t): q_t = delta_t + e^(y_t - y_{t+1}) q_{t+1} backwards; x_t receives e^(x_t - y_t) q_t."""
    if not r.node.shape:
        return (r.delta,)
    dim, y = _axis(r), r.node
    n = y.shape[dim]
    earlier, later = (r.emit("slice", y, dim=dim, start=s, end=s + n - 1, step=1) for s in (0, 1))
    factors = _placed(r, r.emit("exp", r.emit("sub", earlier, later)), dim, n, 0)
    q = r.emit("recurrence", factors, r.delta, dim=dim, reverse=True)
    return (r.times(r.emit("exp", r.emit("sub", r.x[0], y)), q),)


# --- over axes ----------------------------------------------------------------------------------------------------------
def _kept(r: Rule, node: Node) -> Node:
    shape, axes = r.x[0].shape, axes_of(r.attrs["dim"], len(r.x[0].shape))
    return r.reshaped(node, tuple(1 if i in axes else n for i, n in enumerate(shape)))


@vjp("prod")
def _prod(r: Rule) -> Contributions:
    """y = x_1 ... x_n: delta times the product of all others, which needs no division by an x that may be 0."""
    x, axes = r.x[0], axes_of(r.attrs["dim"], len(r.x[0].shape))
    if not x.shape:
        return (r.delta,)
    rest = [i for i in range(len(x.shape)) if i not in axes]
    order, shape = (*rest, *axes), tuple(x.shape[i] for i in rest)
    n = x.size // max(r.node.size, 1)
    rows = r.reshaped(r.emit("permute", x, dims=order), (*shape, 1, n))
    wide = r.emit("expand", rows, shape=(*shape, n, n))
    itself = r.builder.constant(tuple(tuple(i == j for j in range(n)) for i in range(n)), (n, n), "bool", name="itself")
    others = r.emit("prod", r.emit("where", itself, r.constant(1), wide), dim=-1)
    apart = r.reshaped(others, tuple(x.shape[i] for i in order))
    back = r.emit("permute", apart, dims=tuple(order.index(i) for i in range(len(order))))
    return (r.times(back, _kept(r, r.delta)),)


@vjp("vector_norm")
def _vector_norm(r: Rule) -> Contributions:
    """y = (sum |x|^p)^(1/p): delta sign(x) (|x| / y)^(p-1), for p = 2 delta x / y; 0 where y is 0."""
    x, y, p = r.x[0], _kept(r, r.node), float(r.attrs["ord"])
    safe = r.emit("where", r.emit("eq", y, r.constant(0)), r.constant(1), y)
    if p == 2:
        return (r.times(x, r.emit("div", _kept(r, r.delta), safe)),)
    ratio = r.emit("pow", r.emit("div", r.emit("abs", x), safe), r.constant(p - 1))
    return (r.times(r.times(r.emit("sign", x), ratio), _kept(r, r.delta)),)


# --- sums over letters -----------------------------------------------------------------------------------------------
@vjp("einsum")
def _einsum(r: Rule) -> Contributions:
    """Each operand receives the sum of delta times the other operands over the letters that it does not have."""
    terms, _, result = r.attrs["equation"].partition("->")
    letters = terms.split(",")
    sizes = sizes_of_letters(r.attrs["equation"], [x.shape for x in r.x])
    return tuple(_to_operand(r, i, letters, result, sizes) if r.needs(i) else None for i in range(len(r.x)))


def _to_operand(r: Rule, i: int, letters: list[str], result: str, sizes: dict[str, int]) -> Node:
    others = [j for j in range(len(r.x)) if j != i]
    given = [result, *(letters[j] for j in others)]
    known = "".join(c for c in letters[i] if c in "".join(given))
    found = r.emit("einsum", r.delta, *(r.x[j] for j in others), equation=f"{','.join(given)}->{known}")
    if known == letters[i]:
        return found
    apart = r.emit("reshape", found, shape=tuple(sizes[c] if c in known else 1 for c in letters[i]))
    return r.emit("expand", apart, shape=r.x[i].shape)


# --- functions of a matrix ------------------------------------------------------------------------------------------------
def _product(r: Rule, a: Node, b: Node) -> Node:
    return r.emit("matmul", a, b)


@vjp("inverse")
def _inverse(r: Rule) -> Contributions:
    """Y = X⁻¹: -Yᵀ delta Yᵀ."""
    turned = r.turned(r.node)
    return (r.emit("neg", _product(r, _product(r, turned, r.delta), turned)),)


def _scaled_inverse(r: Rule, factor: Node) -> Node:
    """factor X⁻ᵀ, one factor for each matrix."""
    return r.times(r.reshaped(factor, (*factor.shape, 1, 1)), r.turned(r.emit("inverse", r.x[0])))


@vjp("det")
def _det(r: Rule) -> Contributions:
    """y = det X: delta y X⁻ᵀ (Jacobi's formula; X must be regular)."""
    return (_scaled_inverse(r, r.times(r.delta, r.node)),)


@vjp("logabsdet")
def _logabsdet(r: Rule) -> Contributions:
    """y = ln |det X|: delta X⁻ᵀ."""
    return (_scaled_inverse(r, r.delta),)


@vjp("solve")
def _solve(r: Rule) -> Contributions:
    """A X = B: with A^T G = delta, G to B and -G Xᵀ to A."""
    g = r.emit("solve", r.turned(r.x[0]), r.delta)
    to_a = r.emit("neg", _product(r, g, r.turned(r.node))) if r.needs(0) else None
    return to_a, (g if r.needs(1) else None)
