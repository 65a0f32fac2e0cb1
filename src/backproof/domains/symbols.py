"""The symbols domain: what a node is, as a formula.

Two views share the spelling of operations: ``matrix`` keeps whole tensors (S = X W), ``entries`` writes one entry in
terms of entries (s₁₂ = x₁₁ w₁₂ + x₁₂ w₂₂). Named quantities are never substituted; steps without a name are. A
:class:`Writer` knows the graph, the reader's layout, index base and symbols.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, reduce
from typing import Any

import numpy as np

from ..document.math import (
    Add,
    BigSum,
    Call,
    Expr,
    Function,
    Indicator,
    Mul,
    Num,
    Partial,
    Ref,
    Rel,
    Sym,
    Transpose,
    map_leaves,
)
from ..errors import MissingRule
from ..graph import Graph, Node
from ..notation import delta_of, named, symbol
from ..ops import OPS, Elementwise, Op
from ..ops.own import FAMILY as OWN
from ..ops.shapes import axes_of
from .base import Domain
from .convolved import LAYERS
from .entries import Array, entries
from .spelling import FROM_OUTPUT, spell
from .terms import Term, constant, function_of, places_unknown, term

__all__ = ["Layout", "Writer", "symbols"]

symbols = Domain("symbols", "formulas of whole tensors")


class _Formulas:
    """The arithmetic of terms, for the entries domain."""

    def number(self, value: Any) -> Any:
        return constant(value)

    def apply(self, op: Op, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        return spell(op, args, attrs)

    def largest(self, values: list[Any], sign: int) -> Any:
        name = "maximum" if sign > 0 else "minimum"
        return reduce(lambda a, b: spell(OPS[name], (a, b), {}), values)

    def where_largest(self, values: list[Any]) -> dict[int, Any]:
        """Each place with the condition that its entry exceeds those before it and is not below those after it."""
        found = {}
        for i, value in enumerate(values):
            signs = ((">", values[:i]), (">=", values[i + 1 :]))
            conditions = [
                term(Indicator(Rel(sign, value.expr(), self.largest(others, 1).expr())))
                for sign, others in signs
                if others
            ]
            found[i] = reduce(lambda a, b: a * b, conditions, Term(Fraction(1)))
        return found


@dataclass(frozen=True)
class Layout:
    """Which quantities are shown transposed, so that a page has the reader's layout."""

    flipped: frozenset[str] = frozenset()

    @staticmethod
    def of(graph: Graph, wanted: str) -> Layout:
        """rows: S = X W; columns: s = W x; torch: s = x Wᵀ; own: as the graph has it."""
        if wanted == "own":
            return Layout()
        inner = {n.inputs[1].name for n in graph.nodes if n.op.name == "matmul" and n.inputs[1].role == "parameter"}
        outer = {n.inputs[1].name for n in graph.nodes if n.op.name == "linear"}
        weights = inner | outer if wanted == "flip" else (inner if wanted in ("columns", "torch") else outer)
        values = (
            {n.name for n in graph.nodes if n.role != "parameter" and n.op.name != "constant"}
            if wanted == "columns"
            else set()
        )
        matrices = {n.name for n in graph.nodes if len(n.shape) == 2}
        return Layout(frozenset((weights | values) & matrices))


@dataclass
class Writer:
    """Writes formulas of a joint graph's nodes.

    Args:
        graph: the (joint) graph.
        layout: what is shown transposed.
        base: what indices count from.
        names: symbols that the reader writes differently.
        step: the update whose numbers the formulas refer to.
        integers: the entries of index tensors, which formulas are written for.
        known: symbols of particular nodes by name, where the rules of :mod:`backproof.notation` are not meant.
        unnamed: names of values whose error signals get no symbol: formulas write them out.
    """

    graph: Graph
    layout: Layout = Layout()
    base: int = 1
    names: Mapping[str, str] = field(default_factory=dict)
    step: int = 0
    known: Mapping[str, Expr] = field(default_factory=dict)
    integers: Mapping[str, Any] = field(default_factory=dict)
    unnamed: frozenset[str] = frozenset()

    @cached_property
    def _outputs(self) -> dict[tuple[str, Node], Node]:
        """(operation, operand) -> the named node that it is."""
        return {(n.op.name, n.inputs[0]): n for n in self.graph.nodes if n.role == "value" and len(n.inputs) == 1}

    @cached_property
    def _differentiated(self) -> Node | None:
        """The node whose adjoint is 1."""
        return next((n.of for n in self.graph.nodes if n.of is not None), None)

    # --- symbols ------------------------------------------------------------------------------------------------------
    def symbol(self, node: Node) -> Expr:
        """The symbol of a node: of an adjoint, delta of a value or the partial derivative by a leaf."""
        of = node.of
        if node.name in self.known:
            return self.known[node.name]
        if of is None:
            return symbol(node, self.names, self.step)
        if of.is_leaf:
            return Partial(
                self.loss_symbol(),
                named(of.name, symbols=self.names, ref=Ref(of.name, (), "gradient", self.step)),
            )
        return delta_of(of, self.names, self.step)

    def loss_symbol(self) -> Expr:
        """The symbol of what is differentiated."""
        first = self._differentiated or self.graph.loss
        return Sym("L") if first is None else named(first.name, symbols=self.names)

    def entry(self, node: Node, place: tuple[int, ...]) -> Expr:
        """The symbol of one entry, with indices in the reader's order and base."""
        whole = self.symbol(node)
        of = node.of or node
        order = tuple(reversed(place)) if of.name in self.layout.flipped else place
        labels = tuple(str(i + self.base) for i in order)

        def index(leaf: Num | Sym) -> Expr:
            if not isinstance(leaf, Sym) or leaf.ref is None:
                return leaf
            ref = Ref(leaf.ref.name, place, leaf.ref.kind, leaf.ref.step, leaf.ref.state)
            return Sym(leaf.name, (*leaf.sub, *labels), leaf.sup, leaf.accent, ref)

        return map_leaves(whole, index)

    # --- entries ------------------------------------------------------------------------------------------------------
    def entries(self, node: Node) -> Array:
        """For each entry of a node its formula in terms of entries of named quantities."""
        return self._each(self._entry_terms(node, {}, top=True))

    def _each(self, terms: Array) -> Array:
        out = np.empty(terms.shape, dtype=object)
        for place in np.ndindex(*terms.shape):
            written: Any = terms[place]
            out[place] = written.expr()
        return out

    def _entry_terms(self, node: Node, seen: dict[Node, Array], top: bool = False) -> Array:
        if node in seen and not top:
            return seen[node]
        if self.is_named(node) and not top:
            found = self._entry_symbols(node)
        elif node.role == "constant":
            found = self._constants(node)
        elif (named_output := self._from_output(node)) is not None:
            shape = FROM_OUTPUT[node.op.name]
            found = _mapped(self._entry_terms(named_output, seen), shape)
        else:
            found = self._apply(node, [self._entry_terms(x, seen) for x in node.inputs])
        seen[node] = found
        return found

    def _from_output(self, node: Node) -> Node | None:
        if node.op.name not in FROM_OUTPUT:
            return None
        return self._outputs.get((node.op.name.rstrip("'"), node.inputs[0]))

    def _apply(self, node: Node, operands: list[Array]) -> Array:
        if places_unknown(node, operands):
            raise MissingRule(f"the places that {node.name} names or reads depend on numbers, and have no formula")
        if node.op.name == "square":
            return _mapped(operands[0], lambda x: x.power(Term(Fraction(2))))
        if isinstance(node.op, Elementwise):
            operands = [_mapped(x, lambda v: constant(v) if isinstance(v, int) else v) for x in operands]
        value = entries.apply(node, _Formulas(), *operands)
        if not isinstance(value, np.ndarray):
            value, only = np.empty((), dtype=object), value
            value[()] = only
        return value.reshape(node.shape)

    def is_named(self, node: Node) -> bool:
        """Whether formulas use its symbol; the adjoint of a step without a name, and of the loss (1), are written out."""
        of = node.of
        if of is not None and (of.role == "helper" or of is self._differentiated or of.name in self.unnamed):
            return False
        return node.role in ("value", "adjoint", "parameter", "input", "target", "buffer", "draw") or (
            node.role == "constant" and node.size > 1
        )

    def _entry_symbols(self, node: Node) -> Array:
        if node.name in self.integers:
            return np.array(self.integers[node.name], dtype=object).reshape(node.shape)
        out = np.empty(node.shape, dtype=object)
        for place in np.ndindex(*node.shape):
            out[place] = term(self.entry(node, place))
        return out

    # --- whole tensors --------------------------------------------------------------------------------------------------
    def matrix(self, node: Node) -> Expr:
        """The formula of a node in terms of whole named quantities."""
        return self._shown(node, self._matrix_term(node, {}, top=True)).expr()

    def _shown(self, node: Node, t: Term) -> Term:
        of = node.of or node
        return _upright(t.transposed(), self._vectors) if of.name in self.layout.flipped else t

    @cached_property
    def _vectors(self) -> frozenset[str]:
        """The names of the quantities with one axis, which need no transposing in a sum."""
        return frozenset(n.name for n in self.graph.nodes if len(n.shape) == 1)

    def _matrix_term(self, node: Node, seen: dict[Node, Term], top: bool = False) -> Term:
        if node in seen and not top:
            return seen[node]
        if self.is_named(node) and not top:
            found = self._shown(node, term(self.symbol(node), len(node.shape)))
        elif node.role == "constant":
            found = self._constants(node).reshape(-1)[0] if node.size == 1 else term(self.symbol(node), len(node.shape))
        elif (named_output := self._from_output(node)) is not None:
            found = FROM_OUTPUT[node.op.name](self._matrix_term(named_output, seen))
        elif node.op.name == "select" and len(node.inputs[0].shape) == 1 and self.is_named(node.inputs[0]):
            found = term(self.entry(node.inputs[0], (node.attrs["index"] % node.inputs[0].shape[0],)))
        elif node.op.name == "unselect" and len(node.shape) == 1:
            unit = Sym("e", (str(node.attrs["index"] % node.shape[0] + self.base),))
            found = self._matrix_term(node.inputs[0], seen) * term(unit, 1)
        else:
            rule = symbols.lookup(node.op)
            operands = [self._matrix_term(x, seen) for x in node.inputs]
            found = rule(node, *operands) if rule else _plain_call(node, *operands)
        seen[node] = found
        return found

    def _constants(self, node: Node) -> Array:
        """A constant's entries: its number, or its name where it has one (lr, beta1); index tensors stay integers."""
        raw = node.value.tolist() if hasattr(node.value, "tolist") else node.value
        array = np.array(raw, dtype=object)
        if node.name in self.known:
            return _mapped(array, lambda v: term(self.known[node.name]))
        if node.dtype in ("int64", "int32") and array.ndim:
            return array.reshape(node.shape)
        return _mapped(array.reshape(node.shape), constant)


def _upright(t: Term, vectors: frozenset[str]) -> Term:
    """In a sum a vector is added to every column as it is."""

    def turn(e: Expr) -> Expr:
        plain = isinstance(e, Transpose) and isinstance(e.arg, Sym) and e.arg.ref is not None
        return e.arg if plain and e.arg.ref.name in vectors else e  # type: ignore[attr-defined]

    factors = tuple(Add(tuple(turn(x) for x in f.terms)) if isinstance(f, Add) else f for f in t.factors)
    return Term(t.coefficient, factors, t.rank)


def _mapped(array: Array, change: Any) -> Array:
    out = np.empty(array.shape, dtype=object)
    for place in np.ndindex(*array.shape):
        out[place] = change(array[place])
    return out


# --- rules for whole tensors ---------------------------------------------------------------------------------------------
@symbols.rule("elementwise", "arithmetic", "comparison", "loss")
def _elementwise(node: Node, *x: Term) -> Term:
    return spell(node.op, x, node.attrs)


def _plain_call(node: Node, *x: Term) -> Term:
    attrs = tuple((k, v) for k, v in node.attrs.items() if v is not None)
    return term(Call(function_of(node), tuple(a.expr() for a in x), node.op.name, attrs), len(node.shape))


@symbols.rule("index", "softmax", "reduce", "nll", "complex", "scan", "contraction", "matrix")
def _called(node: Node, *x: Term) -> Term:
    return _plain_call(node, *x)


@symbols.rule(OWN)
def _own(node: Node, *x: Term) -> Term:
    """backward_f(δ, x): what somebody's own code sends back."""
    name = node.attrs["label"]
    safe = re.sub(r"\W", "", name)
    function = Function("own_backward", f"backward_{name}", rf"\operatorname{{backward}}_{{\mathrm{{{safe}}}}}")
    return term(Call(function, tuple(a.expr() for a in x), "own_backward"), len(node.shape))


@symbols.rule("nll_grad")
def _nll_grad(node: Node, delta: Term, t: Term, weight: Term | None = None) -> Term:
    """-δ onehot(t)/N: the target class of each sample receives its share."""
    if weight is not None or node.attrs["reduction"] == "none":
        return _plain_call(node, delta, t, *([] if weight is None else [weight]))
    samples = node.inputs[1].size if node.attrs["reduction"] == "mean" else 1
    return -(Term(Fraction(1, samples)) * delta * _onehot(t, node.shape[1]))


def _onehot(t: Term, classes: int) -> Term:
    function = Function("onehot", "onehot", r"\operatorname{onehot}")
    return term(Call(function, (t.expr(),), "onehot", (("classes", classes),)), 2)


@symbols.rule("log_softmax_grad")
def _log_softmax_grad(node: Node, delta: Term, y: Term) -> Term:
    """δ - softmax(s) sum_j δ_j; behind a cross-entropy, (softmax(s) - onehot(t))/N."""
    p = _softmax_of(y)
    inner = node.inputs[0]
    if inner.op.name == "nll_grad" and len(inner.inputs) == 2 and inner.attrs["reduction"] != "none":
        samples = inner.inputs[1].size if inner.attrs["reduction"] == "mean" else 1
        found = [c for f in delta.factors for c in _calls(f) if c.op == "onehot"]
        if found and delta.factors == (found[0],):
            return (p - term(found[0], 2)) / Term(Fraction(samples))
    return delta - p * _total(node, delta)


def _total(node: Node, x: Term) -> Term:
    """The sum along the axis of a softmax."""
    return term(BigSum(x.expr(), "j", axes=(node.attrs["dim"],), shape=node.shape, keepdim=True), x.rank)


def _calls(expr: Expr) -> list[Call]:
    return [expr] if isinstance(expr, Call) else []


def _softmax_of(y: Term) -> Term:
    """The probabilities behind their logarithms: softmax(s) for ln softmax(s), e^y for a named y."""
    first = y.factors[0] if len(y.factors) == 1 else None
    if isinstance(first, Call) and first.op == "log_softmax":
        return term(
            Call(Function("softmax", "softmax", r"\operatorname{softmax}"), first.args, "softmax", first.attrs), y.rank
        )
    return spell(OPS["exp"], (y,), {})


@symbols.rule("softmax_grad")
def _softmax_grad(node: Node, delta: Term, p: Term) -> Term:
    return p * (delta - _total(node, delta * p))


@symbols.rule("matmul")
def _matmul(node: Node, a: Term, b: Term) -> Term:
    """A B; a vector is a column, so that a product with one on the left is aᵀ b, or Bᵀ a."""
    ranks = tuple(len(x.shape) for x in node.inputs)
    if ranks == (1, 2):
        return b.transposed().times_matrix(a)
    return (a.transposed() if ranks == (1, 1) else a).times_matrix(b)


@symbols.rule("outer")
def _outer(node: Node, a: Term, b: Term) -> Term:
    return a.times_matrix(b.transposed())


@symbols.rule("linear")
def _linear(node: Node, x: Term, weight: Term, bias: Term | None = None) -> Term:
    product = x.times_matrix(weight.transposed())
    return product if bias is None else product + bias


for _name, _rule in LAYERS.items():
    symbols.rule(_name)(_rule)


@symbols.rule("permute")
def _permute(node: Node, x: Term) -> Term:
    return x.transposed() if len(node.shape) == 2 else _plain_call(node, x)


@symbols.rule("reshape", "expand", "cast")
def _same(node: Node, x: Term) -> Term:
    return Term(x.coefficient, x.factors, len(node.shape)) if x.factors else x


@symbols.rule("stop_gradient")
def _stop(node: Node, x: Term) -> Term:
    return x


@symbols.rule("sum", "sum_to")
def _sum(node: Node, x: Term) -> Term:
    return _big_sum(node, x)


@symbols.rule("mean")
def _mean(node: Node, x: Term) -> Term:
    count = node.inputs[0].size // max(node.size, 1)
    return Term(Fraction(1, count)) * _big_sum(node, x) if not x.number else x


def _big_sum(node: Node, x: Term) -> Term:
    """The sum over the reduced axes, with an index on what is summed; for a constant, the constant times their number."""
    source = node.inputs[0]
    if x.number:
        return Term(x.coefficient * (source.size // max(node.size, 1)))
    letters = "nijklm"
    if node.op.name == "sum_to":
        pad = len(source.shape) - len(node.shape)
        axes: tuple[int, ...] = tuple(
            i for i in range(len(source.shape)) if i < pad or node.shape[i - pad] != source.shape[i]
        )
    else:
        axes = axes_of(node.attrs["dim"], len(source.shape))
    whole = len(axes) == len(source.shape)
    if whole and _has_matrix(x.expr()) and not _has_matrix(x.transposed().expr()):
        x = x.transposed()  # over all entries the sum of a matrix is that of its transpose
    body = _indexed(x.expr(), letters[: len(source.shape)], _ranks(source)) if whole else x.expr()
    index = ",".join(letters[a] for a in axes if a < len(letters)) or "n"
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


def _has_matrix(expr: object) -> bool:
    if isinstance(expr, Transpose) or (isinstance(expr, Mul) and expr.style not in ("", "elementwise")):
        return True
    if isinstance(expr, tuple):
        return any(_has_matrix(e) for e in expr)
    if isinstance(expr, Expr):
        return any(_has_matrix(getattr(expr, f)) for f in expr.__dataclass_fields__)  # type: ignore[attr-defined]
    return False


def _plain_products(expr: Expr) -> Expr:
    """Between indexed entries a product is a plain one."""
    from dataclasses import replace

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
