"""The affine domain: every entry as c + Σ g_i ε_i ± e with |ε_i| <= 1, sharper than intervals where boxes are small.

Affine arithmetic (Stolfi and de Figueiredo 1997; as zonotopes: Singh et al. 2018) over the joint graph. The ε_i stand for
the entries of the box and for the nonlinear remainders, so that what cancels along different paths is not counted twice.
Beside them every entry keeps a plain interval, and the sharper of the two holds.

Floats are rounded: a sum of m products is off by at most γ_m Σ|products| whatever the order (Higham 2002, section 3.1),
and this is added to e; functions come from tables that Arb has enclosed (:mod:`.tables`). What comes out is a proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import MissingRule
from ..graph import Graph, Node
from ..ops.shapes import axes_of
from .balls import Box, formula
from .base import Domain
from .numbers import numbers
from .spans import Unbounded
from .tables import table

__all__ = ["Affine", "affine", "enclosed", "read_affine", "read_parts"]

UNIT, TINY, MOST, WIDEST = 2.0**-53, 1e-290, 3000, 40_000_000

affine = Domain("affine", "for every entry c + Σ g ε ± e, and an interval, rigorously rounded")


def _up(t: Tensor, terms: int = 2) -> Tensor:
    """A sum of so many nonnegative terms in floats, made certainly not smaller than the exact one."""
    return t * (1 + 4 * (terms + 8) * UNIT) + TINY


@dataclass(frozen=True, eq=False)
class Affine:
    """c + Σ g_i ε_i ± e.

    Args:
        c: [shape] the centre.
        g: [k, shape] the coefficients of the first k symbols.
        e: [shape] what is left, at least 0.
        lo, hi: [shape] an interval that holds each entry as well.
        count: how many symbols there are by now, for all values together.
    """

    c: Tensor
    g: Tensor
    e: Tensor
    lo: Tensor
    hi: Tensor
    symbols: list[int]

    @property
    def rad(self) -> Tensor:
        """[shape] Σ|g_i| + e."""
        return _up(self.g.abs().sum(0) + self.e, len(self.g) + 1)

    @property
    def is_point(self) -> bool:
        """Whether it is one known tensor."""
        return self.lo is self.c and self.hi is self.c

    def tightened(self) -> Affine:
        """With the interval cut down to what the affine form allows."""
        rad = self.rad
        lo, hi = self.c - rad, self.c + rad
        slack = 4 * UNIT * (self.c.abs() + rad) + TINY
        return replace(self, lo=torch.maximum(self.lo, lo - slack), hi=torch.minimum(self.hi, hi + slack))

    def seen(self, view: Callable[[Tensor], Tensor]) -> Affine:
        """Through a change of shape."""
        if self.is_point:
            return _point(view(self.c), self.symbols)
        return Affine(view(self.c), _rows(self.g, view), view(self.e), view(self.lo), view(self.hi), self.symbols)

    def with_errors(self) -> Affine:
        """What is left of each entry as a symbol of its own, while there is room."""
        n = self.e.numel()
        if self.symbols[0] + n > MOST or (self.symbols[0] + n) * n > WIDEST:
            return self
        gap = self.g.new_zeros((self.symbols[0] - len(self.g), *self.c.shape))
        own = torch.diag_embed(self.e.reshape(-1)).reshape(n, *self.c.shape)
        self.symbols[0] += n
        return replace(self, g=torch.cat([self.g, gap, own]), e=torch.zeros_like(self.e))


def _rows(g: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """A linear function of every row of coefficients."""
    if len(g):
        try:
            return torch.func.vmap(apply)(g)
        except RuntimeError:  # an operation that writes in place
            return torch.stack([apply(row) for row in g])
    return g.new_zeros((0, *apply(g.new_zeros(g.shape[1:])).shape))


def _point(value: Tensor, symbols: list[int]) -> Affine:
    value = value.double()
    return Affine(value, value.new_zeros((0, *value.shape)), torch.zeros_like(value), value, value, symbols)


def _matched(a: Affine, b: Affine) -> tuple[Tensor, Tensor]:
    """The coefficients of both over the same symbols, broadcast."""
    k = max(len(a.g), len(b.g))
    rank = max(a.c.ndim, b.c.ndim)
    found = []
    for x in (a, b):
        g = torch.cat([x.g, x.g.new_zeros((k - len(x.g), *x.c.shape))]) if len(x.g) < k else x.g
        found.append(g.reshape(k, *(1,) * (rank - x.c.ndim), *x.c.shape))
    return found[0], found[1]


def _ball(x: Affine) -> tuple[Tensor, Tensor]:
    """The middle of the intervals, and how far they reach from it."""
    mid = (x.lo + x.hi) / 2
    return mid, (x.hi - x.lo) / 2 * (1 + 4 * UNIT) + 2 * UNIT * mid.abs() + TINY


# --- sums and products ------------------------------------------------------------------------------------------------
@affine.rule("add")
def _add(node: Node, a: Affine, b: Affine) -> Affine:
    ga, gb = _matched(a, b)
    c, g = a.c + b.c, ga + gb
    slack = 2 * UNIT * (c.abs() + g.abs().sum(0)) + TINY
    wide = 2 * UNIT * (a.lo.abs() + b.lo.abs() + a.hi.abs() + b.hi.abs()) + TINY
    e = _up(a.e + b.e + slack, len(g))
    return Affine(c, g, e, a.lo + b.lo - wide, a.hi + b.hi + wide, a.symbols).tightened()


@affine.rule("neg")
def _neg(node: Node, a: Affine) -> Affine:
    return Affine(-a.c, -a.g, a.e, -a.hi, -a.lo, a.symbols)


@affine.rule("sub")
def _sub(node: Node, a: Affine, b: Affine) -> Affine:
    return _add(node, a, _neg(node, b))  # type: ignore[no-any-return]


def _products(a: Affine, b: Affine) -> tuple[Tensor, Tensor]:
    ends = torch.stack(torch.broadcast_tensors(a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi))
    wide = 2 * UNIT * ends.abs().amax(0) + TINY
    return ends.amin(0) - wide, ends.amax(0) + wide


@affine.rule("mul")
def _mul(node: Node, a: Affine, b: Affine) -> Affine:
    """a b = q a + p b - p q + (a - p)(b - q), p and q the middles of the intervals; the last at most the product of the halves.

    The intervals are often narrower than what the affine forms span, and so is what is left over.
    """
    ga, gb = _matched(a, b)
    (p, ra), (q, rb) = ((x.c, torch.zeros_like(x.c)) if x.is_point else _ball(x) for x in (a, b))
    c, g = q * a.c + p * b.c - p * q, q * ga + p * gb
    sizes = (q * ga).abs().sum(0) + (p * gb).abs().sum(0) + (q * a.c).abs() + (p * b.c).abs() + (p * q).abs()
    e = p.abs() * b.e + q.abs() * a.e + ra * rb + 8 * UNIT * sizes + TINY
    found = Affine(c, g, _up(e, len(g) + 4), *_products(a, b), a.symbols).tightened()
    return found if a.is_point or b.is_point else found.with_errors()


@affine.rule("div")
def _div(node: Node, a: Affine, b: Affine) -> Affine:
    from .curves import X

    return _mul(node, a, _through(b, 1 / X))  # type: ignore[no-any-return]


Map = Callable[[Tensor], Tensor]


def _linear_map(x: Affine, apply: Map, size: Map, terms: int, batched: bool = False) -> Affine:
    """A x for a known A, given as a function, |A| as another; a sum of so many terms for each entry.

    ``batched``: whether the functions take axes in front as they are.
    """
    rows = (lambda t, f: f(t)) if batched else _rows
    gamma = 2 * (terms + 2) * UNIT
    mid, half = _ball(x)
    mapped = rows(torch.cat([x.c[None], mid[None], x.g]), apply)
    c, middle, g = mapped[0], mapped[1], mapped[2:]
    sizes = rows(torch.stack([x.c.abs() + x.g.abs().sum(0), mid.abs(), half, x.e]), size)
    wide, e = _up(sizes[2] + gamma * sizes[1], terms), _up(sizes[3] + gamma * sizes[0], terms + len(g))
    return Affine(c, g, e, middle - wide, middle + wide, x.symbols).tightened()


def _bilinear(
    a: Affine, b: Affine, product: Callable[[Tensor, Tensor], Tensor], terms: int, batched: bool = False
) -> Affine:
    """A bilinear map of two values, either of which may be known; ``batched``: whether the first may have axes in front."""
    if a.is_point:
        return _linear_map(b, lambda t: product(a.c, t), lambda t: product(a.c.abs(), t), terms)
    if b.is_point:
        known, size = b.c, b.c.abs()
        return _linear_map(a, lambda t: product(t, known), lambda t: product(t, size), terms, batched)
    gamma = 4 * (terms + 4) * UNIT
    (p, ra), (q, rb) = _ball(a), _ball(b)
    left, right, level = product(a.c, q), product(p, b.c), product(p, q)
    ga, gb = (_rows(x.g, apply) for x, apply in ((a, lambda t: product(t, q)), (b, lambda t: product(p, t))))
    k = max(len(ga), len(gb))
    ga, gb = (torch.cat([g, g.new_zeros((k - len(g), *level.shape))]) for g in (ga, gb))
    sizes = [x.c.abs() + x.rad + y.abs() for x, y in ((a, p), (b, q))]
    left_over = product(p.abs(), b.e) + product(a.e, q.abs()) + product(ra, rb)
    e = _up(left_over + 4 * gamma * product(*sizes), terms + k)
    apart = _up(product(p.abs(), rb) + product(ra, q.abs() + rb) + gamma * product(p.abs(), q.abs()), terms)
    c = left + right - level
    return Affine(c, ga + gb, e, level - apart, level + apart, a.symbols).tightened().with_errors()


@affine.rule("matmul")
def _matmul(node: Node, a: Affine, b: Affine) -> Affine:
    return _bilinear(a, b, torch.matmul, a.c.shape[-1], batched=b.c.ndim == 2)


@affine.rule("linear")
def _linear(node: Node, x: Affine, weight: Affine, bias: Affine | None = None) -> Affine:
    product = _bilinear(x, weight, lambda u, w: u @ w.mT, x.c.shape[-1], batched=True)
    return product if bias is None else _add(node, product, bias)


@affine.rule("outer")
def _outer(node: Node, a: Affine, b: Affine) -> Affine:
    return _mul(node, a.seen(lambda t: t[:, None]), b.seen(lambda t: t[None, :]))  # type: ignore[no-any-return]


@affine.rule("conv", "conv_input_grad", "conv_weight_grad")
def _conv(node: Node, x: Affine, weight: Affine, bias: Affine | None = None) -> Affine:
    wide = replace(node, dtype="float64", inputs=node.inputs[:2])
    terms = node.inputs[1].size if node.op.name != "conv_weight_grad" else max(node.inputs[1].size, node.inputs[0].size)
    apply = _sent_back(node) if node.op.name == "conv_input_grad" else lambda u, w: numbers.apply(wide, u, w)
    product = _bilinear(x, weight, apply, terms)
    if bias is None:
        return product
    return _add(node, product, bias.seen(lambda t: t.reshape(-1, *(1,) * (len(node.shape) - 2))))  # type: ignore[no-any-return]


def _sent_back(node: Node) -> Callable[[Tensor, Tensor], Tensor]:
    """A transposed convolution: what the numbers domain adds up in place, in a form that goes through vmap."""
    a, sizes = node.attrs, node.shape[2:]
    kernel, met = node.inputs[1].shape[2:], node.inputs[0].shape[2:]
    axes = zip(sizes, met, a["stride"], a["padding"], a["dilation"], kernel, strict=True)
    left = [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, s, p, d, k in axes]
    transposed = getattr(torch.nn.functional, f"conv_transpose{len(sizes)}d")
    return lambda u, w: transposed(u, w, None, a["stride"], a["padding"], left, a["groups"], a["dilation"])


# --- known linear maps: sums, means, changes of shape -------------------------------------------------------------------
@affine.rule("sum", "mean", "sum_to", "avg_pool", "avg_pool_grad", "adaptive_avg_pool", "adaptive_avg_pool_grad")
def _summed(node: Node, x: Affine) -> Affine:
    wide = replace(node, dtype="float64")
    terms = (
        x.c.numel()
        if node.op.family != "reduce"
        else math.prod(x.c.shape[i] for i in axes_of(node.attrs["dim"], x.c.ndim))
    )
    return _linear_map(x, lambda t: numbers.apply(wide, t), lambda t: numbers.apply(wide, t), terms + 2)


@affine.rule("reshape", "permute", "expand", "select", "unselect", "slice", "unslice")
def _moved(node: Node, x: Affine) -> Affine:
    wide = replace(node, dtype="float64")
    return x.seen(lambda t: numbers.apply(wide, t))


@affine.rule("identity", "cast", "stop_gradient")
def _same(node: Node, x: Affine) -> Affine:
    return x


@affine.rule("var")
def _var(node: Node, x: Affine) -> Affine:
    """The mean square distance from the mean."""
    axes = axes_of(node.attrs["dim"], x.c.ndim)
    count = math.prod(x.c.shape[i] for i in axes)
    share = 1 / max(count - node.attrs["correction"], 1)
    mean = _linear_map(x, lambda t: t.mean(axes, keepdim=True), lambda t: t.mean(axes, keepdim=True), count + 2)
    centred = _sub(node, x, mean)
    square = _mul(node, centred, centred)
    total = _linear_map(square, lambda t: t.sum(axes) * share, lambda t: t.sum(axes) * share, count + 2)
    found = total.seen(lambda t: t.reshape(node.shape))
    return replace(found, lo=found.lo.clamp_min(0.0))


@affine.rule("batch_norm", "layer_norm")
def _norm(
    node: Node, x: Affine, mean: Affine, var: Affine, weight: Affine | None = None, bias: Affine | None = None
) -> Affine:
    import sympy

    from .curves import X

    def wide(t: Affine) -> Affine:
        per_channel = node.op.name == "batch_norm"
        return t.seen(lambda v: v.reshape(-1, *(1,) * (x.c.ndim - 2))) if per_channel else t

    rate = _through(wide(var), 1 / sympy.sqrt(X + sympy.Rational(repr(float(node.attrs["eps"])))))
    found = _mul(node, _sub(node, x, wide(mean)), rate)
    found = found if weight is None else _mul(node, found, wide(weight))
    return found if bias is None else _add(node, found, wide(bias))  # type: ignore[no-any-return]


# --- functions --------------------------------------------------------------------------------------------------------
@affine.rule("elementwise")
def _function(node: Node, *x: Affine) -> Affine:
    if len(x) == 1:
        return _through(x[0], formula(node))
    known = [i for i, v in enumerate(x) if not v.is_point]
    if node.op.name == "pow" and known == [0] and x[1].c.numel() == 1:
        from .curves import X, rational

        return _through(x[0], X ** rational(float(x[1].c)).p) if float(x[1].c).is_integer() else _missing(node)
    return _missing(node)


def _missing(node: Node) -> Affine:
    raise MissingRule(
        f"the affine domain has no rule for '{node.op.name}' of {len(node.inputs)} operands, in {node.name}"
    )


def _through(x: Affine, expr: Any) -> Affine:
    """f of every entry: the best of four lines over its interval, and the function's range over it."""
    made = table(expr)
    low, high = made.range(x.lo, x.hi)
    if x.is_point:
        value, error, _, _ = made.point(x.c)
        return _between(torch.maximum(value - error - TINY, low), torch.minimum(value + error + TINY, high), x.symbols)
    a, b, e = made.line(x.lo, x.hi)
    c, g = a * x.c + b, a * x.g
    slack = 6 * UNIT * ((a * x.c).abs() + b.abs() + g.abs().sum(0)) + TINY
    found = Affine(c, g, _up(a.abs() * x.e + e + slack, len(g) + 2), low, high, x.symbols)
    return found.tightened().with_errors()


def _between(lo: Tensor, hi: Tensor, symbols: list[int]) -> Affine:
    """Anything in an interval, entry by entry."""
    c = (lo + hi) / 2
    e = torch.maximum(hi - c, c - lo) * (1 + 4 * UNIT) + TINY
    return Affine(c, c.new_zeros((0, *c.shape)), e, lo, hi, symbols)


# --- reading ----------------------------------------------------------------------------------------------------------
def enclosed(box: Box, symbols: list[int], free: bool) -> Affine:
    """A box as an affine value: each entry that varies has a symbol of its own."""
    lo, hi = box.outside()
    if not free and (box.is_known or bool((lo == hi).all())):
        return _point(lo, symbols)
    return _between(lo, hi, symbols).with_errors()


def read_affine(
    graph: Graph, leaves: Mapping[Node, Box], free: Any = (), exact: Mapping[Node, Tensor] | None = None
) -> dict[Node, Affine]:
    """The affine value of every node from the boxes of the leaves.

    Args:
        graph: what to read.
        leaves: the boxes.
        free: the leaves that vary.
        exact: leaves that are these float64 tensors exactly (faster than their boxes).

    Raises:
        MissingRule: the domain cannot read an operation; all of them are named.
        Unbounded: a function has no bound there, or values beyond ±1,000 reach it.
    """
    symbols, known = [0], exact or {}
    found = {
        n: _point(known[n], symbols) if n in known else enclosed(box, symbols, n in free) for n, box in leaves.items()
    }
    values = _read(graph, found, symbols)
    if not all(bool((v.lo.isfinite() & v.hi.isfinite()).all()) for v in values.values()):
        raise Unbounded("a function has no bound there, or values beyond ±1,000 reach it")
    return values


def _read(graph: Graph, leaves: dict[Node, Affine], symbols: list[int]) -> dict[Node, Affine]:
    for node in graph.of_role("constant"):
        value = node.value.tolist() if hasattr(node.value, "tolist") else node.value
        leaves[node] = enclosed(Box.exactly(value, node.shape), symbols, False)
    return affine.run(graph, leaves)


def read_parts(
    graph: Graph, fixed: Mapping[Node, Affine], parts: Mapping[Node, tuple[Tensor, Tensor]]
) -> dict[Node, tuple[Tensor, Tensor]]:
    """The interval of every entry of every node, for many boxes at once.

    Args:
        graph: what to read.
        fixed: leaves that are known tensors.
        parts: lower and upper ends of the other leaves, with one more axis in front: one box for each place along it.

    Returns:
        The same for every node that depends on them; what has no bound is infinite or NaN.
    """

    def one(ends: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        symbols = [0]
        found = {n: replace(v, symbols=symbols, lo=v.c, hi=v.c) for n, v in fixed.items()}
        found |= {n: _between(lo, hi, symbols).with_errors() for n, (lo, hi) in zip(parts, ends, strict=True)}
        values = _read(graph, found, symbols)
        return [(v.lo, v.hi) for v in (values[n] for n in graph.nodes)]

    ends = list(parts.values())
    try:
        found = torch.func.vmap(one)(ends)
    except RuntimeError:  # an operation that writes in place
        each = [one([(lo[i], hi[i]) for lo, hi in ends]) for i in range(len(ends[0][0]))]
        found = [
            (torch.stack([lo for lo, _ in pairs]), torch.stack([hi for _, hi in pairs]))
            for pairs in zip(*each, strict=True)
        ]
    return dict(zip(graph.nodes, found, strict=True))
