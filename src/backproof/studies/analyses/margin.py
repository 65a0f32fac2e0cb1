"""The hinge loss on probabilities, L = sum over j != y of max(0, p_j - p_y + margin): what it wants, and its gradient.

After the multi-class hinge of Weston and Watkins (1999), here on probabilities instead of scores, and with the slope 0
at the kink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...document.blocks import Block, Derivation, Equation, Paragraph, Section, Table
from ...document.math import Add, BigSum, Call, Expr, Function, Indicator, Neg, Num, Partial, Rel, Sym
from ...domains.numbers import evaluate
from ...errors import InputError
from ...graph import Node
from ...notation import named
from ...result import plain
from ..answer import Answer
from ..prepare import Prepared
from ..trace import Step
from ..verdicts import TOLERANCE, Evidence
from .softmax import FORMULA, closed_form

__all__ = ["margin"]


def margin(prepared: Prepared, steps: Sequence[Step], names: str = "") -> Answer:
    """What a hinge loss on probabilities is designed to do, its active terms, and its gradient; see the module.

    Args:
        prepared, steps: the problem and its record.
        names: the probabilities, the class and the margin, as in "p,y,margin".
    """
    node, y, m = _quantities(prepared, names)
    step = steps[0]
    p = step.values[node.name]
    if not _is_hinge(prepared, step, node, y, m):
        raise InputError(
            f'also = ["margin:{names}"] is about the loss sum over j != y of max(0, p_j - p_y + margin) of a softmax, '
            "and this problem's loss is another function"
        )
    a = slopes(p, y, m)
    recorded = step.gradients[node.name]
    assert recorded is not None and step.loss is not None
    letters = _Letters(prepared, node, names)
    words = _words(m)
    cases, case_evidence = _cases(prepared, step, node, y, m)
    answers: dict[str, Any] = {
        "p": plain(p), "loss": step.loss, "a": plain(a), "active": [j for j in range(p.numel()) if j != y and a[j] > 0],
        "words": " ".join(words), "cases": cases,
        "formula": f"dL/do_j = {FORMULA}, a_j = [p_j - p_y + margin > 0] for j != y, a_y = -sum_{{j != y}} a_j",
    }  # fmt: skip
    blocks: list[Block] = [Paragraph((w,)) for w in words]
    blocks += [Derivation(tuple(letters.equations())), _table(letters, p, y, m, a), _case_table(cases)]
    evidence = (
        _row("slopes of the hinge loss", "our joint graph", a, recorded),
        _row("the hinge loss", "the sum over j != y of max(0, p_j - p_y + margin)", hinge(p, y, m), _number(step.loss)),
        *case_evidence,
    )
    section = Section("What the loss is designed to do", tuple(blocks), "loss", "margin")
    return Answer(answers, (section,), evidence, (), tuple(letters.equations()))


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def hinge(p: Tensor, y: int, m: float) -> Tensor:
    """The loss by its definition, class by class."""
    terms = [max(0.0, float(p[j]) - float(p[y]) + m) for j in range(p.numel()) if j != y]
    return _number(sum(terms))


def slopes(p: Tensor, y: int, m: float) -> Tensor:
    """a_j = [p_j - p_y + margin > 0], and minus their sum at the right class."""
    a = (p - p[y] + m > 0).double()
    a[y] = 0.0
    a[y] = -a.sum()
    return a


def _quantities(prepared: Prepared, names: str) -> tuple[Node, int, float]:
    parts = [part.strip() for part in names.split(",")]
    graph, start = prepared.program.graph, prepared.program.start
    if len(parts) != 3 or any(part not in graph.by_name for part in parts):
        raise InputError(
            'also = ["margin:p,y,margin"] names the probabilities, the right class and the margin of the loss, '
            f"in this order, and here is {names!r}"
        )
    node = graph.by_name[parts[0]]
    whole = all(part in start and start[part].numel() == 1 for part in parts[1:])
    if node.op.name != "softmax" or len(node.shape) != 1 or not whole or graph.loss is None:
        raise InputError(f"'{parts[0]}' must be the softmax of a list, '{parts[1]}' and '{parts[2]}' given numbers")
    y = float(start[parts[1]])
    if not y.is_integer() or not 0 <= y < node.size:
        raise InputError(f"'{parts[1]}' is a class, a whole number from 0 to {node.size - 1}, not {y:g}")
    return node, int(y), float(start[parts[2]])


def _is_hinge(prepared: Prepared, step: Step, node: Node, y: int, m: float) -> bool:
    """Whether the loss is this one, here and at random probabilities."""
    graph = step.graph
    assert graph.loss is not None
    generator = torch.Generator().manual_seed(3)
    given = {n: step.leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
    for sharp in (0.0, 1.0, 4.0):
        p = step.values[node.name]
        if sharp:
            p = torch.softmax(sharp * torch.randn(node.shape, generator=generator, dtype=p.dtype), 0)
        loss = float(evaluate(graph, {**given, node: p})[graph.loss])
        if abs(loss - float(hinge(p, y, m))) > 1e-9 * max(1.0, abs(loss)):
            return False
    return True


# --- in words and formulas ------------------------------------------------------------------------------------------------
def _words(m: float) -> tuple[str, str, str]:
    general = (
        "The loss asks that the probability of the right class exceed that of every other class by at least the margin. "
        "A class that comes closer than that (p_j > p_y - margin) adds what is missing; a class that keeps its distance "
        "adds nothing and gets no gradient. So, unlike cross-entropy, the loss does not go on pushing a sample that is "
        "classified with enough confidence: the learning is left to those on the wrong side and those near the border."
    )
    limits = (
        "A difference of two probabilities lies between -1 and 1. With margin >= 1 every term is therefore always active: "
        "p_j - p_y + margin > 0 whenever p_j - p_y > -1. The sum then is (k - 1) margin + 1 - k p_y, nothing but a "
        "straight line in p_y, and the hinge does not hinge. Its gradient -k p_y (1 - p_y) at the right logit vanishes "
        "as p_y goes to 0, so the worst mistakes are corrected slowest. A margin of -1 or less would make no term active."
    )
    if m >= 1:
        here = f"Here the margin is {m:g}, so every term is active whatever the logits are."
    elif m > -1:
        here = (
            f"Here the margin is {m:g}: the loss is exactly 0, and so is its gradient, once p_y is larger than every other "
            f"probability by {m:g}."
            if m >= 0
            else f"Here the margin is {m:g}: a class counts only when its probability exceeds p_y by more than {-m:g}."
        )
    else:
        here = f"Here the margin is {m:g}, so no term is ever active and the loss is always 0."
    return general, limits, here


class _Letters:
    def __init__(self, prepared: Prepared, node: Node, names: str) -> None:
        symbols = {**prepared.answer_names, **prepared.conventions.symbols}
        self.base = prepared.conventions.index_base
        self.p = named(node.name, symbols=symbols)
        self.y, self.m = (named(n.strip(), symbols=symbols) for n in names.split(",")[1:])
        loss = prepared.program.graph.loss
        self.loss = Sym("L") if loss is None else named(loss.name, symbols=symbols)

    def at(self, index: str) -> Sym:
        return Sym(self.p.name, (*self.p.sub, index), self.p.sup)

    def equations(self) -> list[Equation]:
        """The loss, and its slope by each probability."""
        gap: Expr = Add((self.at("j"), Neg(self.at(self.y.name)), self.m))
        most = Call(Function("max", "max", r"\max"), (Num(0), gap), "maximum")
        others = Rel("!=", Sym("j"), self.y)
        a = Sym("a", ("j",))
        return [
            Equation(self.loss, (BigSum(most, "j", others),), "one term for every class but the right one"),
            Equation(Partial(self.loss, self.at("j")), (a, Indicator(Rel(">", gap, Num(0)))),
                     "j ≠ y: the slope of max(0, s) is 1 above 0 and 0 below; at 0 there is none, and 0 is taken"),
            Equation(Partial(self.loss, self.at(self.y.name)), (Sym("a", (self.y.name,)), Neg(BigSum(a, "j", others))),
                     "the right class is in every term, with the sign −"),
        ]  # fmt: skip


def _table(letters: _Letters, p: Tensor, y: int, m: float, a: Tensor) -> Block:
    if p.numel() > 30:
        return Paragraph((f"{int(-a[y])} of {p.numel() - 1} terms are active.",))
    rows = tuple(
        (
            str(j + letters.base), Num(float(p[j])), Num(float(p[j] - p[y]) + m) if j != y else None,
            "right class" if j == y else "active" if a[j] > 0 else "not active", Num(float(a[j])),
        )
        for j in range(p.numel())
    )  # fmt: skip
    columns = (("j",), (letters.at("j"),), (Add((letters.at("j"), Neg(letters.at(letters.y.name)), letters.m)),), ("",),
               (Sym("a", ("j",)),))  # fmt: skip
    return Table(columns, rows, "The terms with the given numbers", (1, 2, 4))


# --- special cases -----------------------------------------------------------------------------------------------------------
def _cases(
    prepared: Prepared, step: Step, node: Node, y: int, m: float
) -> tuple[list[dict[str, Any]], tuple[Evidence, ...]]:
    """The loss and its gradient by the logits for a sample that is surely right, undecided and surely wrong."""
    logits = node.inputs[0]
    graph = step.graph
    joint = prepared.program.joint(graph)
    if not logits.is_leaf or joint is None or node.size < 2:
        return [], ()
    wrong = 1 if y == 0 else 0
    samples = {"surely right": {y: 8.0}, "undecided": {}, "surely wrong": {wrong: 8.0}}
    cases, worst = [], 0.0
    for what, high in samples.items():
        o = torch.zeros(node.shape, dtype=torch.float64)
        for j, value in high.items():
            o[j] = value
        values = evaluate(joint.graph, _given(joint.graph.nodes, step.leaves, logits, o))
        p = torch.softmax(o, 0)
        closed = closed_form(p, slopes(p, y, m))
        delta = joint.gradients[logits]
        assert delta is not None and graph.loss is not None
        on_kink = bool((p - p[y] + m)[torch.arange(node.size) != y].abs().min() < 1e-12)
        if not on_kink:
            worst = max(worst, float((values[delta] - closed).abs().max()))
        loss = float(values[graph.loss])
        cases.append({"case": what, "p_y": float(p[y]), "loss": loss, "largest_slope": float(closed.abs().max())})
    return cases, (Evidence("gradients of the special cases", "our joint graph", worst <= TOLERANCE, worst, 3, 3),)


def _given(nodes: Sequence[Node], leaves: Mapping[str, Tensor], logits: Node, o: Tensor) -> dict[Node, Tensor]:
    return {n: o if n.name == logits.name else leaves[n.name] for n in nodes if n.is_leaf and n.role != "constant"}


def _case_table(cases: Sequence[Mapping[str, Any]]) -> Block:
    rows = tuple((c["case"], Num(c["p_y"]), Num(c["loss"]), Num(c["largest_slope"])) for c in cases)
    columns = (("sample",), ("probability of y",), ("loss",), ("largest |dL/do|",))
    return Table(columns, rows, "Three samples at this margin: one logit 8, the others 0; or all equal", (1, 2, 3))


def _row(what: str, oracle: str, ours: Tensor, theirs: Tensor) -> Evidence:
    error = float((ours - theirs).abs().max() / max(float(theirs.abs().max()), 1e-3)) if ours.numel() else 0.0
    return Evidence(what, oracle, error <= TOLERANCE, error, theirs.numel(), theirs.numel())
