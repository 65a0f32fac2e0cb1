"""What a page needs to compute the record again: every entry's formula, and the update rule, as plain data.

A formula is a number, a leaf ``[quantity, entry]`` (two integers), or ``[head, *parts]`` with a head of ``+ n * / ^``
(n is the negative), ``f`` (a function by name), ``rel``, ``[]`` (1 where a relation holds) or ``cases``. The trees
are those that the page prints, so that what is computed in the page is what is written there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...document.math import (
    Add,
    Call,
    Cases,
    Div,
    Expr,
    Indicator,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Ref,
    Rel,
    Sym,
)  # fmt: skip
from ...domains.symbols import Writer
from ...errors import MissingRule
from ...graph import Graph, Node
from ...notation import named
from ...ops import OPS, Elementwise, derivative
from ...result import written
from ..program import Program
from .inside import alike
from .sympy_tree import Untranslatable, tree_of_sympy
from .updates import known_symbols
from .written import MOST_ENTRIES, StepWriter

if TYPE_CHECKING:
    from .worked import Page

__all__ = ["play_of"]

MOST_PARTS = 40_000
"""Numbers, leaves and heads of all formulas together."""

Tree = Any


def play_of(page: Page) -> dict[str, object]:
    """What the page of a worked solution needs to know besides the record; nothing where there are no steps."""
    program = page.program
    if not page.writers:
        return {}
    graph = page.writers[0].step.graph
    whatif = _whatif(page)
    computed_again = "why" not in whatif
    leaves = [n for n in program.given if n.size <= MOST_ENTRIES]
    return {
        "updates": len(page.writers),
        "large": page.is_large,
        "alike": alike(page),
        "base": page.base,
        "samples": 0 if page.is_large else _samples(program),
        "bySample": program.batch == "sample" and bool(program.samples),
        "batched": _batched(program),
        "loss": graph.loss.name if graph.loss else None,
        "leaves": {
            n.name: program.start[n.name].tolist()
            for n in leaves
            if computed_again or n.name not in program.trained  # those stand in the record
        },
        "given": [n.name for n in program.given],
        "trained": list(program.trained),
        "whatif": whatif,
    }


def _samples(program: Program) -> int:
    return int(program.start[program.samples[0]].shape[0]) if program.samples else 0


def _batched(program: Program) -> list[str]:
    """The values with one row for each sample."""
    count, found = _samples(program), set[Node]()
    for node in program.graph.nodes:
        if node.name in program.samples or any(x in found for x in node.inputs):
            found.add(node)
    return [n.name for n in program.graph.nodes if count and n in found and n.shape[:1] == (count,)]


def _whatif(page: Page) -> dict[str, object]:
    try:
        _refuse(page)
        return _Formulas(page).data()
    except Untranslatable as reason:
        return {"why": str(reason)}
    except MissingRule:
        return {
            "why": "a step of the network, or of its backward pass, has no formula that the page could compute with"
        }


def _refuse(page: Page) -> None:
    if page.program.graph.of_role("draw"):
        raise Untranslatable("the network draws at random, anew in every update")
    if page.writers[0].is_complex:
        raise Untranslatable("the network computes with complex numbers")


class _Formulas:
    """Translates the formulas of one pass and of the update rule."""

    def __init__(self, page: Page) -> None:
        self.page, self.program = page, page.program
        self.writer: StepWriter = page.writers[0]
        self.functions: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, int] = {}
        self.parts = 0

    def data(self) -> dict[str, object]:
        """Everything that the page computes with."""
        graph = self.writer.step.graph
        leaves = [n for n in graph.nodes if n.is_leaf and n.role != "constant"]
        self._require_small(leaves)
        leaves = [n for n in leaves if n.is_float]  # labels and indices are part of the formulas
        for leaf in leaves:
            self.keys[_key(leaf)] = len(self.keys)
        start = len(self.keys)
        quantities = [self._quantity(node) for node in self._nodes()]
        return {
            "inputs": [self._input(node) for node in leaves],
            "first": start,
            "quantities": quantities,
            "sampled": list(self.program.samples),
            "dtype": leaves[0].dtype if leaves else "float64",
            "accumulate": self.program.accumulate,
            **self._rules(),
            "functions": self.functions,
        }

    def _require_small(self, leaves: list[Node]) -> None:
        named_nodes = [*leaves, *(n for n in self.writer.step.graph.nodes if n.role == "value")]
        if any(n.size > MOST_ENTRIES for n in named_nodes):
            raise Untranslatable("the network is too large to be computed again in the page")
        if self.writer.step.graph.noted.get("recorded", {}).get("decisions"):
            raise Untranslatable(
                "the model goes its way by values, and this is one recorded run: other numbers may go another"
            )
        real, kinds = {n.dtype for n in leaves if n.is_float}, {n.name for n in leaves if not n.is_float}
        if self.program.batch == "sample" and kinds & set(self.program.samples):
            raise Untranslatable("each update has a label or an index of its own, and so formulas of its own")
        if len(real) > 1 or not real <= {"float64", "float32"}:
            raise Untranslatable(f"the record is in {', '.join(sorted(real))}, and the page computes in float64")

    def _nodes(self) -> Iterator[Node]:
        """What gets a number, in the order of computation."""
        for node in self.writer.writer.graph.nodes:
            if not node.is_float:
                continue
            if node.role == "value" or (node.role == "adjoint" and node.of is not None and node.of.role != "helper"):
                yield node

    def _input(self, node: Node) -> dict[str, object]:
        kind = "weight" if node.name in self.program.trained else node.role
        label = written(named(node.name, symbols=self.page.names))[0]
        return {"key": _key(node), "name": node.name, "label": label, "kind": kind, "shape": list(node.shape)}

    def _quantity(self, node: Node) -> list[object]:
        scribe = self.writer.writer
        formulas: Any = scribe.entries(node)
        trees = [self._tree(formulas[place]) for place in np.ndindex(*node.shape)]
        self.keys[_key(node)] = len(self.keys)
        return [_key(node), list(node.shape), trees]

    # --- the update rule ----------------------------------------------------------------------------------------------
    def _rules(self) -> dict[str, object]:
        """The assignments of each update; updates with the same ones share them."""
        rule = self.program.optimizer
        if len(self.program.rules) > 1 or (rule is not None and (rule.rule.whole or rule.rule.asks)):
            raise Untranslatable("the update rule is not the same formula for every entry")
        if rule is None:
            return {"rules": [], "ruleOf": [], "state": [], "hyper": {}}
        variants: list[Any] = []
        which = []
        for t in range(1, len(self.page.writers) + 1):
            found = self._rule(rule.graph((), t), rule.state)
            if found not in variants:
                variants.append(found)
            which.append(variants.index(found))
        used = {name for variant in variants for name in variant["hyper"]}
        hyper = {k: float(v) for k, v in rule.numbers().items() if k in used}
        return {"rules": variants, "ruleOf": which, "state": list(rule.state), "hyper": hyper}

    def _rule(self, graph: Graph, state: tuple[str, ...]) -> dict[str, Any]:
        local = {n.name: i for i, n in enumerate(graph.nodes)}
        scribe = Writer(graph, known=known_symbols(graph))
        nodes = [n for n in graph.nodes if n.role == "value"]
        formulas: dict[str, Any] = {n.name: scribe.entries(n)[()] for n in nodes}
        trees = [[name, self._tree(formula, local)] for name, formula in formulas.items()]
        outputs = dict(zip(("w", *state), (n.name for n in graph.outputs), strict=True))
        numbers = {n.name for n in graph.of_role("constant")} - {"t"}
        used = {name for name in numbers if any(_uses(tree, local[name]) for _, tree in trees)}
        return {"names": list(local), "trees": trees, "outputs": outputs, "hyper": sorted(used)}

    # --- trees --------------------------------------------------------------------------------------------------------
    def _tree(self, expr: Expr, local: dict[str, int] | None = None) -> Tree:
        """A formula as plain data; leaves are looked up among the quantities, or in ``local`` by their name."""
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise Untranslatable("the network is too large to be computed again in the page")
        if isinstance(expr, Num):
            return expr.value
        if isinstance(expr, Partial):
            return self._tree(expr.bottom, local)
        if isinstance(expr, Sym):
            return self._leaf(expr, local)
        if isinstance(expr, Call):
            return ["f", self._function(expr), *(self._tree(arg, local) for arg in expr.args)]
        return [self._head(expr), *(self._tree(part, local) for part in _parts(expr))]

    def _head(self, expr: Expr) -> str:
        head = _HEADS.get(type(expr))
        if head is None or (isinstance(expr, Mul) and expr.style):
            raise Untranslatable(f"a formula has a part that the page cannot compute ({type(expr).__name__})")
        return f"{head}{expr.sign}" if isinstance(expr, Rel) else head

    def _leaf(self, sym: Sym, local: dict[str, int] | None) -> Tree:
        if sym.ref is None:
            raise Untranslatable(f"{sym.name} has no number")
        if local is not None:
            return [local[sym.ref.name], 0]
        node = self.writer.step.graph.by_name.get(sym.ref.name)
        key = f"{sym.ref.kind}:{sym.ref.name}"
        if node is None or key not in self.keys:
            raise Untranslatable(f"{sym.ref.name} has no number in the record")
        return [self.keys[key], int(np.ravel_multi_index(sym.ref.index, node.shape)) if node.shape else 0]

    def _function(self, call: Call) -> str:
        """The name of a function in the page's table, where it is put with its formula."""
        primes = "'" * call.function.primes if call.op in OPS else ""
        name = f"{call.op}{primes}{list(call.attrs) or ''}"
        if name not in self.functions:
            self.functions[name] = {
                "name": call.function.name,
                "text": call.function.text,
                "primes": call.function.primes,
                "body": tree_of_sympy(*_elementwise(call)),
            }
        return name


_HEADS: dict[type[Expr], str] = {
    Add: "+", Neg: "n", Mul: "*", Div: "/", Pow: "^", Indicator: "[]", Rel: "rel", Cases: "cases",
}  # fmt: skip


def _parts(expr: Expr) -> tuple[Expr, ...]:
    """The parts of a formula in a row; of cases: value, condition, value, condition..., last value."""
    if isinstance(expr, Cases):
        return tuple(part for row in expr.rows for part in row if part is not None)
    found: list[Expr] = []
    for value in vars(expr).values():
        found += [value] if isinstance(value, Expr) else [x for x in value if isinstance(x, Expr)] if value else []
    return tuple(found)


def _key(node: Node) -> str:
    ref = Ref(node.of.name, kind="gradient") if node.of is not None else Ref(node.name)
    return f"{'before' if node.role == 'parameter' else ref.kind}:{ref.name}"


def _uses(tree: Tree, place: int) -> bool:
    return isinstance(tree, list) and (tree == [place, 0] or any(_uses(part, place) for part in tree))


def _elementwise(call: Call) -> tuple[Elementwise, int, dict[str, Any]]:
    """The operation that a call means, how many operands it has, and its attributes."""
    base = call.op if call.op in OPS else call.op.rstrip("'0123456789")
    op = OPS.get(base)
    if not isinstance(op, Elementwise):
        raise Untranslatable(f"the page has no formula for {call.function.text or call.op}")
    for _ in range(call.function.primes):
        op = derivative(op, 0)
    return op, len(call.args), dict(call.attrs)
