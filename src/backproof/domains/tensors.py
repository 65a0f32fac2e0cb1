"""How operations on whole tensors are written: products, sums, the softmax family, and in what shape entries stand.

A tensor with more than two axes is a stack of matrices: products and transposes act on its last two axes, and a gradient
of one matrix that the whole stack used is a sum over the stack. Where entries only line up (broadcasting, axes of size
1) nothing is written; where they move, the operation is written by name: vec, reshape, permute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from ..document.math import BigSum, Call, Expr, Function, Mul, Num, Shaped, Sym, Transpose, map_leaves
from ..graph import Node
from ..ops import OPS, Shape
from ..ops.own import FAMILY as OWN
from ..ops.shapes import axes_of
from .base import Domain
from .convolved import LAYERS
from .spelling import spell
from .terms import Term, term

__all__ = ["mean_over", "plain_call", "symbols"]

symbols = Domain("symbols", "formulas of whole tensors")
LETTERS = "nijklm"
"""The letters of indices, by axis."""


@symbols.rule("elementwise", "arithmetic", "comparison", "loss")
def _elementwise(node: Node, *x: Term) -> Term:
    if not x:
        return plain_call(node)
    return spell(node.op, x, node.attrs)


def plain_call(node: Node, *x: Term) -> Term:
    """The operation by its name, with subscripts where an axis or a size matters."""
    function = _contraction(node) if node.op.name == "einsum" else _function(node)
    attrs = tuple((k, v) for k, v in node.attrs.items() if v is not None)
    return term(Call(function, tuple(a.expr() for a in x), node.op.name, attrs), len(node.shape))


def _subscripts(node: Node) -> tuple[str, ...]:
    """Which axes or places an operation means, where its operands leave that open; axes by letter, places from 1."""
    attrs, rank = node.attrs, len(node.inputs[0].shape) if node.inputs else 0
    if node.op.family == "reduce":
        axes = axes_of(attrs["dim"], rank)
        return tuple(_letter(a) for a in axes) if len(axes) < rank else ()
    if node.op.family == "softmax":
        dim = attrs["dim"] % max(rank, 1)
        return () if dim == rank - 1 else (_letter(dim),)
    return _PLACES[node.op.name](node) if node.op.name in _PLACES else ()


def _letter(axis: int) -> str:
    return LETTERS[axis] if axis < len(LETTERS) else f"a{axis}"


def _sizes(node: Node) -> tuple[str, ...]:
    return tuple(map(str, node.shape))


def _slice_places(node: Node) -> tuple[str, ...]:
    whole = node.shape if node.op.name.startswith("un") else node.inputs[0].shape
    dim, attrs = node.attrs["dim"] % max(len(whole), 1), node.attrs
    start, end = attrs["start"] or 0, min(attrs["end"] if attrs["end"] is not None else whole[dim], whole[dim])
    step = f":{attrs['step']}" if attrs["step"] != 1 else ""
    return tuple(f"{start + 1}:{end}{step}" if i == dim else ":" for i in range(len(whole)))


def _select_place(node: Node) -> tuple[str, ...]:
    whole = node.shape if node.op.name.startswith("un") else node.inputs[0].shape
    dim = node.attrs["dim"] % max(len(whole), 1)
    return tuple(str(node.attrs["index"] % whole[dim] + 1) if i == dim else ":" for i in range(len(whole)))


def _axis(node: Node) -> tuple[str, ...]:
    return (str(node.attrs["dim"] % max(len(node.shape), 1) + 1),)


_PLACES = {
    "reshape": _sizes,
    "permute": lambda node: tuple(str(d % len(node.shape) + 1) for d in node.attrs["dims"]),
    "slice": _slice_places,
    "unslice": _slice_places,
    "select": _select_place,
    "unselect": _select_place,
    "cat": _axis,
    "stack": _axis,
    "gather": _axis,
    "scatter_add": _axis,
}


def _function(node: Node) -> Function:
    if node.op.name == "topk_index":
        return _top(node)
    return Function(node.op.name, node.op.text or node.op.name, node.op.latex, 0, _subscripts(node))


def _top(node: Node) -> Function:
    """The places of the k largest or smallest along an axis: how many, and which, stand in its name."""
    which = f"{'top' if node.attrs['largest'] else 'bottom'}{node.attrs['k']}"
    return Function("topk_index", f"{which}_index", rf"\operatorname{{{which}\_index}}", 0, _axis(node))


def _contraction(node: Node) -> Function:
    """An einsum with its letters, which are all that it says."""
    letters = node.attrs["equation"].replace("->", " → ").replace(",", ", ")
    latex = letters.replace("→", r"\to ").replace(" ", r"\,")
    return Function("einsum", f"einsum[{letters}]", rf"\operatorname{{einsum}}_{{{latex}}}")


@symbols.rule("index", "softmax", "reduce", "shape", "complex", "scan", "contraction", "matrix")
def _called(node: Node, *x: Term) -> Term:
    return plain_call(node, *x)


@symbols.rule("logabsdet")
def _logabsdet(node: Node, x: Term) -> Term:
    """ln |det X|."""
    found, rank = x.expr(), len(node.shape)
    for name in ("det", "abs", "log"):
        op = OPS[name]
        found = Call(Function(name, op.text, op.latex), (found,), name)
    return term(found, rank)


@symbols.rule(OWN)
def _own(node: Node, *x: Term) -> Term:
    """backward_f(δ, x): what somebody's own code sends back."""
    name = node.attrs["label"]
    safe = re.sub(r"\W", "", name)
    function = Function("own_backward", f"backward_{name}", rf"\operatorname{{backward}}_{{\mathrm{{{safe}}}}}")
    return term(Call(function, tuple(a.expr() for a in x), "own_backward"), len(node.shape))


# --- the softmax family and what is picked by a label ------------------------------------------------------------------
@symbols.rule("nll")
def _nll(node: Node, y: Term, t: Term, weight: Term | None = None) -> Term:
    """-(1/N) Σ_n Σ_k onehot(t)_nk y_nk: minus the logarithm of the target class's probability, on average."""
    if weight is not None or node.attrs["reduction"] == "none" or len(node.inputs[0].shape) != 2:
        return plain_call(node, y, t, *([] if weight is None else [weight]))
    picked = _onehot(t, node.inputs[0].shape[1]) * y
    total = term(BigSum(picked.expr(), "n,k", axes=(0, 1), shape=node.inputs[0].shape))
    samples = node.inputs[1].size if node.attrs["reduction"] == "mean" else 1
    return -(Term(Fraction(1, max(samples, 1))) * total)


@symbols.rule("nll_grad")
def _nll_grad(node: Node, delta: Term, t: Term, weight: Term | None = None) -> Term:
    """-δ onehot(t)/N: the target class of each sample receives its share."""
    if weight is not None or node.attrs["reduction"] == "none" or len(node.shape) != 2:
        return plain_call(node, delta, t, *([] if weight is None else [weight]))
    samples = node.inputs[1].size if node.attrs["reduction"] == "mean" else 1
    return -(Term(Fraction(1, max(samples, 1))) * delta * _onehot(t, node.shape[1]))


def _onehot(t: Term, classes: int) -> Term:
    function = Function("onehot", "onehot", r"\operatorname{onehot}")
    return term(Call(function, (t.expr(),), "onehot", (("classes", classes),)), 2)


@symbols.rule("embedding")
def _embedding(node: Node, table: Term, index: Term) -> Term:
    """onehot(t) E: each label picks its row of the table."""
    if not _is_matrix_of_rows(node.inputs[0].shape, node.inputs[1].shape):
        return plain_call(node, table, index)
    return _onehot(index, node.inputs[0].shape[0]).times_matrix(table)


def _is_matrix_of_rows(table: Shape, index: Shape) -> bool:
    """Whether picking rows is a product of matrices: not where a row is a matrix, or one label picks one row."""
    return len(index) > 0 if len(table) == 2 else len(table) == len(index) == 1


@symbols.rule("embedding_grad")
def _embedding_grad(node: Node, delta: Term, index: Term) -> Term:
    """onehot(t)ᵀ δ: the rows are added up by their labels."""
    picked = _onehot(index, node.shape[0])
    stack, rows = node.inputs[0].shape[:-2], node.inputs[1].shape
    if not _is_matrix_of_rows(node.shape, rows):
        return plain_call(node, delta, index)
    if not stack:
        return _gently(picked).times_matrix(delta)
    return _stacked(_gently(picked).times_matrix(delta), stack, node.shape)


@symbols.rule("log_softmax_grad")
def _log_softmax_grad(node: Node, delta: Term, y: Term) -> Term:
    """δ - softmax(s) sum_j δ_j; behind a cross-entropy, (softmax(s) - onehot(t))/N."""
    p = _softmax_of(y)
    inner = node.inputs[0]
    if inner.op.name == "nll_grad" and len(inner.inputs) == 2 and inner.attrs["reduction"] != "none":
        samples = inner.inputs[1].size if inner.attrs["reduction"] == "mean" else 1
        if len(delta.factors) == 1 and isinstance(delta.factors[0], Call) and delta.factors[0].op == "onehot":
            return (p - term(delta.factors[0], 2)) / Term(Fraction(max(samples, 1)))
    return delta - p * _total(node, delta)


def _total(node: Node, x: Term) -> Term:
    """The sum along the axis of a softmax."""
    return term(BigSum(x.expr(), "j", axes=(node.attrs["dim"],), shape=node.shape, keepdim=True), x.rank)


def _softmax_of(y: Term) -> Term:
    """The probabilities behind their logarithms: softmax(s) for ln softmax(s), e^y for a named y."""
    first = y.factors[0] if len(y.factors) == 1 else None
    if isinstance(first, Call) and first.op == "log_softmax":
        function = Function("softmax", "softmax", r"\operatorname{softmax}", 0, first.function.sub)
        return term(Call(function, first.args, "softmax", first.attrs), y.rank)
    return spell(OPS["exp"], (y,), {})


@symbols.rule("softmax_grad")
def _softmax_grad(node: Node, delta: Term, p: Term) -> Term:
    return p * (delta - _total(node, delta * p))


# --- products -------------------------------------------------------------------------------------------------------------
@symbols.rule("matmul")
def _matmul(node: Node, a: Term, b: Term) -> Term:
    """A B; a vector is a column, so that a product with one on the left is aᵀ b, or Bᵀ a."""
    ranks = tuple(len(x.shape) for x in node.inputs)
    if stack := _same_stack(node):
        left, right = (term(_shape_dropped(f.expr())) for f in (a, b))
        return _stacked(left.times_matrix(right), stack, node.shape)
    if ranks == (1, 2):
        return _gently(b).times_matrix(a)
    return (_gently(a) if ranks == (1, 1) else a).times_matrix(b)


def _same_stack(node: Node) -> Shape:
    """The axes over which a product rows(δ)ᵀ rows(x) of two flattened stacks is a sum; () where it is no such product."""
    left, right = node.inputs
    if left.op.name != "permute" or left.role != "helper" or right.role != "helper" or right.op.name != "reshape":
        return ()
    flat = left.inputs[0]
    if flat.op.name != "reshape" or flat.role != "helper" or len(flat.shape) != 2:
        return ()
    before, after = flat.inputs[0].shape, right.inputs[0].shape
    if len(before) < 3 or before[:-1] != after[:-1] or (before[-1], after[-1]) != (flat.shape[1], right.shape[1]):
        return ()
    return before[:-2]


def _shape_dropped(expr: Expr) -> Expr:
    """A flattened stack (or its transpose) as the stack itself."""
    if isinstance(expr, Transpose):
        return Transpose(_shape_dropped(expr.arg))
    return expr.args[0] if isinstance(expr, Call) and expr.op == "reshape" else expr


def _stacked(product: Term, stack: Shape, shape: Shape) -> Term:
    """The sum of a product of matrices over the stack."""
    index = ",".join(_letter(i) for i in range(len(stack)))
    total = BigSum(
        Term(Fraction(1), product.factors, 2).expr(), index, axes=tuple(range(len(stack))), shape=(*stack, *shape)
    )
    return Term(product.coefficient, (total,), 2)


@symbols.rule("outer")
def _outer(node: Node, a: Term, b: Term) -> Term:
    return a.times_matrix(b.transposed())


@symbols.rule("linear")
def _linear(node: Node, x: Term, weight: Term, bias: Term | None = None) -> Term:
    product = x.times_matrix(_gently(weight)) if len(node.inputs[0].shape) > 1 else weight.times_matrix(x)
    return product if bias is None else product + bias


for _name, _rule in LAYERS.items():
    symbols.rule(_name)(_rule)


# --- shapes -----------------------------------------------------------------------------------------------------------------
def _gently(x: Term) -> Term:
    """The transpose, which goes into a product of matrices and into nothing else."""
    return Term(x.coefficient, (_transposed(Term(Fraction(1), x.factors, x.rank).expr()),), 2) if x.factors else x


def _transposed(e: Expr) -> Expr:
    if isinstance(e, Transpose):
        return e.arg
    if isinstance(e, Mul) and e.style == "matrix":
        return Mul(tuple(_transposed(f) for f in reversed(e.factors)), "matrix")
    return Transpose(e)


@symbols.rule("permute")
def _permute(node: Node, x: Term) -> Term:
    dims = tuple(d % len(node.shape) for d in node.attrs["dims"])
    last = len(dims) - 1
    if x.number or dims == tuple(range(last + 1)):
        return x
    return _gently(x) if dims == (*range(last - 1), last, last - 1) else plain_call(node, x)


def _lined_up(x: Term, shape: Shape) -> Term:
    """The same formula, with its entries in another shape by broadcasting."""
    if x.number:
        return x
    return Term(x.coefficient, (Shaped(Term(Fraction(1), x.factors, x.rank).expr(), shape),), len(shape))


@symbols.rule("reshape")
def _reshape(node: Node, x: Term) -> Term:
    before, after = node.inputs[0].shape, node.shape
    if before == after:
        return x
    if [n for n in before if n > 1] == [n for n in after if n > 1]:
        return _lined_up(x, after)
    if x.number:
        return x
    if len(after) == 2 and after[0] == before[0]:
        return _named_shape("vec", "vec", r"\operatorname{vec}", node, x)
    if len(before) == 2 and after[0] == before[0]:
        return _named_shape("unvec", "vec⁻¹", r"\operatorname{vec}^{-1}", node, x)
    return plain_call(node, x)


def _named_shape(name: str, text: str, latex: str, node: Node, x: Term) -> Term:
    call = Call(Function(name, text, latex), (x.expr(),), "reshape", (("shape", node.shape),))
    return term(call, len(node.shape))


@symbols.rule("expand")
def _expand(node: Node, x: Term) -> Term:
    return _lined_up(x, node.shape)


@symbols.rule("cast", "stop_gradient")
def _same(node: Node, x: Term) -> Term:
    return x


# --- sums -------------------------------------------------------------------------------------------------------------------
@symbols.rule("sum", "sum_to")
def _sum(node: Node, x: Term) -> Term:
    return _big_sum(node, x)


@symbols.rule("mean")
def _mean(node: Node, x: Term) -> Term:
    """(1/N) Σ over all entries; the mean over some axes by its name."""
    if x.number:
        return x
    if len(axes_of(node.attrs["dim"], len(node.inputs[0].shape))) < len(node.inputs[0].shape):
        return plain_call(node, x)
    count = node.inputs[0].size // max(node.size, 1)
    return Term(Fraction(1, count)) * _big_sum(node, x)


def mean_over(x: Term, axes: tuple[int, ...], rank: int) -> Term:
    """The mean over some axes, which stay as axes of size 1."""
    if x.number:
        return x
    function = Function("mean", "mean", r"\operatorname{mean}", 0, tuple(_letter(a) for a in axes))
    return term(Call(function, (x.expr(),), "mean", (("dim", axes), ("keepdim", True))), rank)


def _summed_axes(node: Node) -> tuple[int, ...]:
    source = node.inputs[0]
    if node.op.name != "sum_to":
        return axes_of(node.attrs["dim"], len(source.shape))
    pad = len(source.shape) - len(node.shape)
    return tuple(i for i, n in enumerate(source.shape) if i < pad or node.shape[i - pad] != n)


def _big_sum(node: Node, x: Term) -> Term:
    """The sum over the reduced axes, with an index on what is summed; for a constant, the constant times their number."""
    source, axes = node.inputs[0], _summed_axes(node)
    if x.number:
        return Term(x.coefficient * (source.size // max(node.size, 1)))
    whole = len(axes) == len(source.shape)
    if whole and _has_matrix(x.expr()) and not _has_matrix(x.transposed().expr()):
        x = x.transposed()  # over all entries the sum of a matrix is that of its transpose
    body = _indexed(x.expr(), LETTERS[: len(source.shape)], _ranks(source)) if whole else x.expr()
    index = ",".join(LETTERS[a] for a in axes if a < len(LETTERS)) or "n"
    keep = len(node.shape) == len(source.shape)
    return term(BigSum(body, index, axes=axes, shape=source.shape, keepdim=keep), len(node.shape))


def _ranks(source: Node) -> dict[str, int]:
    """How many axes each named quantity has that a formula is made of."""
    found: dict[str, int] = {}
    stack, seen = [source], set[Node]()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        found.setdefault((node.of or node).name, len(node.shape))
        if node is source or node.role == "helper" or node.of is not None:  # an error signal may be written out
            stack.extend(node.inputs)
    return found


def _indexed(expr: Expr, letters: str, ranks: Mapping[str, int]) -> Expr:
    """Put indices on the tensors of an entry-by-entry formula; a formula with matrix products stays whole."""
    if not letters or _has_matrix(expr):
        return expr

    def index(leaf: Num | Sym) -> Expr:
        rank = ranks.get(leaf.ref.name, 0) if isinstance(leaf, Sym) and leaf.ref is not None else 0
        if not isinstance(leaf, Sym) or not rank:
            return leaf
        return Sym(leaf.name, (*leaf.sub, *letters[-rank:]), leaf.sup, leaf.accent, leaf.ref)

    return _plain_products(map_leaves(expr, index))


_ENTRYWISE = frozenset({"elementwise", "arithmetic", "comparison", "loss"})


def _has_matrix(expr: object) -> bool:
    """Whether a formula has a part in which an entry depends on other entries: a product of matrices, a softmax, a sum."""
    if isinstance(expr, (Transpose, BigSum)) or (isinstance(expr, Mul) and expr.style not in ("", "elementwise")):
        return True
    if isinstance(expr, Call) and expr.op.rstrip("'01") in OPS and OPS[expr.op.rstrip("'01")].family not in _ENTRYWISE:
        return True
    if isinstance(expr, Shaped) or (isinstance(expr, Call) and expr.op == "onehot"):
        return True
    if isinstance(expr, tuple):
        return any(_has_matrix(e) for e in expr)
    if isinstance(expr, Expr):
        return any(_has_matrix(getattr(expr, f)) for f in expr.__dataclass_fields__)  # type: ignore[attr-defined]
    return False


def _plain_products(expr: Expr) -> Expr:
    """Between indexed entries a product is a plain one."""
    if isinstance(expr, Mul) and expr.style == "elementwise":
        return Mul(tuple(_plain_products(f) for f in expr.factors))
    if isinstance(expr, (Num, Sym)):
        return expr
    fields = {f: _inner(getattr(expr, f)) for f in expr.__dataclass_fields__}  # type: ignore[attr-defined]
    return replace(expr, **fields)  # type: ignore[type-var]


def _inner(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_inner(v) for v in value)
    return _plain_products(value) if isinstance(value, Expr) else value
