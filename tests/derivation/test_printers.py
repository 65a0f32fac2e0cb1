"""One formula tree, three printers: what each prints, read back, is worth what the tree is worth."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import backproof as bp
from backproof.document.math import Expr, Neg, Num, Sym
from backproof.ops import OPS
from backproof.render.math_latex import latex_of
from backproof.render.math_mathml import mathml_of
from backproof.render.math_text import text_of
from backproof.studies.derivation.backward import Backward, Line
from tests.derivation.readers import Reader, latex_items, mathml_items, text_items, worth
from tests.laws.samples import sample
from tests.zoo.networks import NETWORKS, build

READERS = {
    "text": lambda e: text_items(text_of(e)),
    "latex": lambda e: latex_items(latex_of(e)),
    "mathml": lambda e: mathml_items(mathml_of(e)),
}


def lines_of_networks() -> Iterator[tuple[str, Line]]:
    for name in NETWORKS:
        net = build(name)
        graph = bp.capture(net.model, *net.inputs, loss=net.loss, targets=net.targets)
        integers = {n: t.tolist() for n, t in graph.origin.leaves().items() if not t.is_floating_point()}
        work = Backward(graph, graph.loss or graph.outputs[0], [p.name for p in graph.parameters], {}, "own", integers)
        for line in [*work.lines, *(work.expanded if name.startswith("mlp") else ())]:
            yield name, line


def lines_of_operations() -> Iterator[tuple[str, Line]]:
    for op in OPS.values():
        if op.differentiable and op.examples:
            s = sample(op, op.examples[0], seed=1)
            if s.graph.loss is not None:
                for line in Backward(s.graph, s.graph.loss, [n.name for n in s.moving]).lines:
                    yield op.name, line


@pytest.fixture(scope="module")
def sides() -> dict[str, Expr]:
    """Each side of each equation, by how it is written in text."""
    found: dict[str, Expr] = {}
    for _, line in [*lines_of_networks(), *lines_of_operations()]:
        for side in (line.left, line.right):
            found.setdefault(text_of(side), side)
    return found


def gap(e: Expr, printer: str) -> float:
    ours, theirs = worth(e), Reader(READERS[printer](e)).whole()
    return abs(ours - theirs) / max(abs(ours), 1.0)


@pytest.mark.parametrize("printer", READERS)
def test_the_printers_say_the_same(printer: str, sides: dict[str, Expr]) -> None:
    """At least 300 different formulas of real derivations."""
    assert len(sides) >= 300
    for text, side in sides.items():
        assert gap(side, printer) < 1e-9, (text, READERS[printer](side))


@pytest.mark.parametrize("printer", READERS)
def test_the_reading_notices_what_differs(printer: str) -> None:
    """A test that cannot fail is none: a lost sign, another index, another order of a quotient are seen."""
    a, b, c = Sym("a", ("1",)), Sym("b", ("2",)), Sym("c")
    for right, wrong in [(a - b * c, a + b * c), (a / (b * c), (a / b) * c), (a * (b + c), a * b + c),
                         (Sym("a", ("1",)), Sym("a", ("2",))), (a ** Num(2), a ** Num(3)), (Neg(a) * b, a * b)]:  # fmt: skip
        assert abs(worth(right) - Reader(READERS[printer](wrong)).whole()) > 1e-6
        assert gap(right, printer) < 1e-12
