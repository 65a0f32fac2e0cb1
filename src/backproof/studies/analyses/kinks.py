"""Where a loss is not differentiable: the kinks of its operations, and the slopes to both sides where the givens are on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sympy
from torch import Tensor

from ...document.blocks import Block, Derivation, Equation, Paragraph, Section, Table
from ...document.math import Expr, Num
from ...domains.digits import context, digits
from ...domains.entries import Array
from ...domains.numbers import evaluate
from ...domains.symbols import Writer
from ...graph import Graph, Node
from ...ops import Elementwise
from ..answer import Answer
from ..prepare import Prepared
from ..trace import Step

__all__ = ["kinks", "one_sided"]

CLOSE = 1e-12
MOST_SLOPES = 200


def kinks(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """The points without a derivative: where each operation has its kink, whether the givens are there, and the slopes."""
    if not steps:
        return Answer()
    step, graph = steps[0], steps[0].graph
    names = {**prepared.answer_names, **prepared.conventions.symbols}
    writer = Writer(graph, base=prepared.conventions.index_base, names=names)
    kinked = [n for n in graph.nodes if isinstance(n.op, Elementwise) and n.op.kinks is not None]
    rows = [row for node in kinked for row in _rows(node, *_values(prepared, graph, step))]
    slopes = _slopes(graph, step) if any(on for _, _, on in rows) else []
    apart = [s for s in slopes if s["left"] != s["right"]]
    answers = {"kinks": [{"of": of, "entry": list(place)} for of, place, on in rows if on], "one_sided": apart}
    return Answer(answers, (_section(kinked, writer, rows, apart),), (), _remarks(rows, apart))


def _values(prepared: Prepared, graph: Graph, step: Step) -> tuple[dict[Node, Tensor], Mapping[Node, Node | None]]:
    """Every node's value, its gradients included, and which node is whose gradient."""
    joint = prepared.program.joint(graph)
    whole = graph if joint is None else joint.graph
    given = {n: step.leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    return evaluate(whole, given), {} if joint is None else joint.gradients


def _rows(
    node: Node, values: Mapping[Node, Tensor], gradients: Mapping[Node, Node | None]
) -> list[tuple[str, tuple[int, ...], bool]]:
    """For each entry of a kinked operation its operand's name, its place, and whether the loss is on that kink.

    An entry through which the loss gets no gradient (one that a mask leaves out) does not count.
    """
    assert isinstance(node.op, Elementwise) and node.op.kinks is not None
    operands = np.broadcast_arrays(*(values[x].double().numpy() for x in node.inputs))
    delta = gradients.get(node)
    weight = None if delta is None else values[delta].double().numpy()
    if gradients and weight is None:
        return []
    xs = sympy.symbols(f"x0:{len(operands)}", real=True)
    distances = [sympy.lambdify(xs, e, "numpy") for e in node.op.kinks(*xs, **node.attrs)]
    found = []
    for place in np.ndindex(*node.shape):
        at = [float(x[place]) for x in operands]
        size = max(1.0, *(abs(v) for v in at))
        near = any(abs(float(d(*at))) <= CLOSE * size for d in distances)
        found.append((node.inputs[0].name, place, near and (weight is None or bool(weight[place]))))
    return found


def one_sided(graph: Graph, arrays: Mapping[str, Array], name: str, place: tuple[int, ...]) -> tuple[float, float]:
    """The slopes of the loss to the left and to the right of one entry of a leaf, in 50 digits."""
    assert graph.loss is not None
    h = context.mpf(10) ** -16

    def loss(shift: Any) -> Any:
        moved = arrays[name].copy()
        moved[place] = moved[place] + shift
        leaves = {n: moved if n.name == name else arrays[n.name] for n in graph.nodes if _is_given(n)}
        assert graph.loss is not None
        return digits.run(graph, leaves)[graph.loss].reshape(-1)[0]

    here = loss(0)
    return float((here - loss(-h)) / h), float((loss(h) - here) / h)


def _is_given(node: Node) -> bool:
    return node.is_leaf and node.role != "constant"


def _slopes(graph: Graph, step: Step) -> list[dict[str, Any]]:
    if graph.loss is None:
        return []
    arrays = {n: digits.array(t.tolist(), tuple(t.shape)) for n, t in step.leaves.items()}
    places = [
        (n.name, place)
        for n in graph.nodes
        if _is_given(n) and step.gradients.get(n.name) is not None
        for place in np.ndindex(*n.shape)
    ]
    found = []
    for name, place in places[:MOST_SLOPES]:
        left, right = one_sided(graph, arrays, name, place)
        near = abs(left - right) <= 1e-9 * max(abs(left), abs(right), 1e-3)
        gradient = step.gradients[name]
        assert gradient is not None
        recorded = float(gradient[place])
        row = {"of": name, "entry": list(place), "left": left, "right": left if near else right, "recorded": recorded}
        found.append(row)
    return found


def _section(
    kinked: Sequence[Node],
    writer: Writer,
    rows: Sequence[tuple[str, tuple[int, ...], bool]],
    apart: list[dict[str, Any]],
) -> Section:
    if not kinked:
        text = "Every operation here is differentiable wherever it is defined: the loss has no kink."
        return Section("Where it is not differentiable", (Paragraph((text,)),), "backward", "kinks")
    blocks: list[Block] = [
        Paragraph(("The loss has a derivative wherever none of these is met; a point where one is met is a kink.",)),
        Derivation(tuple(e for n in kinked for e in _conditions(n, writer))),
    ]
    if not any(on for _, _, on in rows):
        blocks.append(Paragraph(("The given numbers are on none of them.",)))
    elif apart:
        base = writer.base
        cells = tuple(
            (f"{s['of']}{[i + base for i in s['entry']] or ''}", Num(s["left"]), Num(s["right"]), Num(s["recorded"]))
            for s in apart
        )
        columns = (("by",), ("slope to the left",), ("slope to the right",), ("recorded",))
        blocks.append(Table(columns, cells, "The given numbers are on a kink: the loss has two slopes", (1, 2, 3)))
    else:
        blocks.append(
            Paragraph(
                ("The given numbers are on one of them, but there it does not change the loss: both slopes agree.",)
            )
        )
    return Section("Where it is not differentiable", tuple(blocks), "backward", "kinks")


def _conditions(node: Node, writer: Writer) -> list[Equation]:
    """The conditions of an operation's kinks: what it compares, and with what."""
    assert isinstance(node.op, Elementwise) and node.op.kinks is not None
    shown = [writer.symbol(x) if writer.is_named(x) else writer.matrix(x) for x in node.inputs]
    xs = sympy.symbols(f"x0:{len(shown)}", real=True)
    points = [p for e in node.op.kinks(*xs, **node.attrs) for p in sympy.solve(e, xs[0])]
    rights: list[Expr] = [
        shown[1] if len(shown) > 1 and p == xs[1] else Num(float(p)) for p in points if p in xs or p.is_number
    ]
    return [Equation(shown[0], (right,), f"kink of {node.op.text}") for right in rights]


def _remarks(rows: Sequence[tuple[str, tuple[int, ...], bool]], apart: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if not apart:
        return ()
    where = sorted({of for of, _, on in rows if on})
    return (
        f"The given numbers lie on a kink ({', '.join(where)}): there is no derivative there. The recorded gradient follows "
        "torch's convention; the slopes to the left and to the right are shown beside it.",
    )
