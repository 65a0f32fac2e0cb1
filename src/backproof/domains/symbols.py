"""The symbols domain: what a node is, as a formula.

Two views share the spelling of operations: ``matrix`` keeps whole tensors (S = X W), ``entries`` writes one entry in
terms of entries (s₁₂ = x₁₁ w₁₂ + x₁₂ w₂₂). Named quantities are never substituted; steps without a name are. A
:class:`Writer` knows the graph, the reader's layout, index base and symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, reduce
from typing import Any

import numpy as np

from ..document.math import Add, Expr, Indicator, Num, Partial, Ref, Rel, Sym, Transpose, map_leaves, plain
from ..graph import Graph, Node
from ..notation import delta_of, named, symbol
from ..ops import OPS, Elementwise, Op
from . import textbook
from .entries import Array, entries
from .spelling import FROM_OUTPUT, spell
from .tensors import plain_call, symbols
from .terms import Term, constant, term

__all__ = ["Layout", "Writer", "symbols"]

_ = textbook  # imported for the rules that it registers


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
        by_name: operations that are written by their names, not by their rules.
    """

    graph: Graph
    layout: Layout = Layout()
    base: int = 1
    names: Mapping[str, str] = field(default_factory=dict)
    step: int = 0
    known: Mapping[str, Expr] = field(default_factory=dict)
    integers: Mapping[str, Any] = field(default_factory=dict)
    unnamed: frozenset[str] = frozenset()
    by_name: frozenset[str] = frozenset()

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
        """The formula of a node in terms of whole named quantities, as it is written."""
        return plain(self.shaped(node))

    def shaped(self, node: Node) -> Expr:
        """The same formula with what says how shapes line up, for evaluation."""
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
            rule = None if node.op.name in self.by_name else symbols.lookup(node.op)
            operands = [self._matrix_term(x, seen) for x in node.inputs]
            found = rule(node, *operands) if rule else plain_call(node, *operands)
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
