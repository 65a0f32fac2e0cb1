"""What passes back through a softmax: its Jacobian entry by entry, and the gradient of any loss on it in closed form.

For p = softmax(o): ∂p_i/∂o_j = p_i ([i = j] - p_j), so that ∂L/∂o_j = p_j (a_j - Σ_i a_i p_i) with a_i = ∂L/∂p_i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch import Tensor

from ...differentiate import differentiate
from ...document.blocks import Block, Derivation, Equation, Paragraph, Section, Table
from ...document.math import (
    Add,
    BigSum,
    Call,
    Div,
    Expr,
    Function,
    Indicator,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Rel,
    Sym,
    Transpose,
)
from ...domains.digits import context, digits
from ...domains.numbers import evaluate
from ...errors import InputError
from ...graph import Builder, Graph, Node
from ...notation import named
from ...result import plain
from ..answer import Answer
from ..prepare import Prepared
from ..program import run_original
from ..trace import Step
from ..verdicts import TOLERANCE, Evidence
from ..writing.written import matrix_of
from .kinks import one_sided

__all__ = ["FORMULA", "closed_form", "softmax", "softmax_node"]

MOST = 1000
MOST_ROWS = 12
MOST_SLOPES = 60
SYMPY = "SymPy's own derivative"
FORMULA = "p_j (a_j - sum_i a_i p_i)"


def closed_form(p: Tensor, a: Tensor) -> Tensor:
    """The gradient by the logits from that by the probabilities: p_j (a_j - Σ_i a_i p_i)."""
    return p * (a - (a * p).sum())


def softmax(prepared: Prepared, steps: Sequence[Step], name: str = "p") -> Answer:
    """The Jacobian of a softmax, derived and with its numbers, and the loss's gradient through it in closed form.

    Args:
        prepared, steps: the problem and its record.
        name: the quantity that is a softmax of a list of numbers.
    """
    node = softmax_node(prepared, name)
    step, o = steps[0], node.inputs[0]
    p = step.values[name]
    jacobian = torch.diag(p) - torch.outer(p, p)
    letters = _Letters(prepared, node)
    evidence = [*_jacobian_evidence(prepared, step, node, jacobian), _general(p.numel())]
    blocks: list[Block] = [*_derived_jacobian(letters), _shown_jacobian(letters, jacobian)]
    answers: dict[str, Any] = {"p": plain(p), "jacobian": plain(jacobian)}
    a, gradient = step.gradients.get(name), step.gradients.get(o.name)
    derivation = letters.jacobian()
    remarks: tuple[str, ...] = ()
    if step.loss is not None and a is not None and gradient is not None:
        closed = closed_form(p, a)
        answers |= {"loss": step.loss, "gradient": plain(gradient), "a": plain(a)}
        answers["closed_form"] = f"dL/do_j = {FORMULA}, a_i = dL/dp_i"
        blocks += [*_derived_gradient(letters), _numbers(letters, step, p, a, closed)]
        derivation += letters.gradient()
        evidence += _gradient_evidence(prepared, step, o, gradient, closed)
    section = Section("Through the softmax", tuple(blocks), "backward", "softmax")
    return Answer(answers, (section,), tuple(evidence), remarks, tuple(derivation))


def softmax_node(prepared: Prepared, name: str) -> Node:
    """The softmax of a named list of numbers that is called so; anything else is refused."""
    graph = prepared.program.graph
    node = graph.by_name.get(name)
    if node is None or node.op.name != "softmax" or len(node.shape) != 1 or node.inputs[0].role == "helper":
        known = [n.name for n in graph.nodes if n.op.name == "softmax" and len(n.shape) == 1]
        raise InputError(
            f'also = ["softmax:{name}"] needs a value that is the softmax of a named list of numbers, as in p = "softmax(o)"; '
            f"here are {', '.join(known) or 'none'}"
        )
    if node.size > MOST:
        raise InputError(f"the Jacobian of '{name}' has {node.size}² entries; it is written for up to {MOST} classes")
    return node


# --- the general derivation -------------------------------------------------------------------------------------------------
class _Letters:
    """The quantities as the reader writes them, with indices that stand for any class."""

    def __init__(self, prepared: Prepared, node: Node) -> None:
        names = {**prepared.answer_names, **prepared.conventions.symbols}
        self.base = prepared.conventions.index_base
        self.p, self.o = (named(n.name, symbols=names) for n in (node, node.inputs[0]))
        loss = prepared.program.graph.loss
        self.loss = Sym("L") if loss is None else named(loss.name, symbols=names)

    def at(self, letter: Sym, index: str) -> Sym:
        return Sym(letter.name, (*letter.sub, index), letter.sup, letter.accent)

    def e(self, index: str) -> Expr:
        return Call(Function("exp", "exp", r"\exp"), (self.at(self.o, index),), "exp")

    @property
    def total(self) -> Expr:
        return Sym("S")

    def jacobian(self) -> list[Equation]:
        """From the definition to p_i ([i = j] - p_j)."""
        p, o, at = self.p, self.o, self.at
        pi, pj, square = at(p, "i"), at(p, "j"), Pow(self.total, Num(2))
        one = Add((Num(1), Neg(pi)))
        same = Div(Add((Mul((self.e("i"), self.total)), Neg(Mul((self.e("i"), self.e("i")))))), square)
        other = Div(Add((Mul((Num(0), self.total)), Neg(Mul((self.e("i"), self.e("j")))))), square)
        both = Mul((pi, Add((Indicator(Rel("=", Sym("i"), Sym("j"))), Neg(pj)))))
        return [
            Equation(
                pi, (Div(self.e("i"), self.total),), "softmax, with the sum of all k exponentials in the denominator"
            ),
            Equation(
                self.total, (BigSum(self.e("j"), "j"),), "its derivative by any one logit is that logit's exponential"
            ),
            Equation(
                Partial(pi, at(o, "i")), (same, Mul((pi, one))), "i = j: quotient rule, the numerator depends on it too"
            ),
            Equation(
                Partial(pi, at(o, "j")), (other, Neg(Mul((pi, pj)))), "i ≠ j: quotient rule, only the sum depends on it"
            ),
            Equation(Partial(pi, at(o, "j")), (both,), "both cases in one; [ ] is 1 where it holds, else 0"),
            Equation(Partial(p, o), (self.whole(),), "the same as a k × k matrix, which is symmetric"),
        ]

    def whole(self) -> Expr:
        diagonal = Call(Function("diag", "diag", r"\operatorname{diag}"), (self.p,))
        return Add((diagonal, Neg(Mul((self.p, Transpose(self.p)), "matrix"))))

    def gradient(self) -> list[Equation]:
        """From the chain rule to the closed form."""
        p, o, at = self.p, self.o, self.at
        a, dl = Sym("a", ("i",)), Partial(self.loss, at(o, "j"))
        pi, pj = at(p, "i"), at(p, "j")
        chain = BigSum(Mul((a, Partial(pi, at(o, "j")))), "i")
        put_in = BigSum(Mul((a, pi, Add((Indicator(Rel("=", Sym("i"), Sym("j"))), Neg(pj))))), "i")
        split = Add((Mul((Sym("a", ("j",)), pj)), Neg(Mul((pj, BigSum(Mul((a, pi)), "i"))))))
        closed = Mul((pj, Add((Sym("a", ("j",)), Neg(BigSum(Mul((a, pi)), "i"))))))
        return [
            Equation(a, (Partial(self.loss, pi),), "what the loss says to each probability"),
            Equation(dl, (chain,), "chain rule: the logit reaches the loss through every probability"),
            Equation(dl, (put_in,), "the Jacobian put in"),
            Equation(dl, (split,), "only i = j is left of the first term"),
            Equation(dl, (closed,), "closed form"),
        ]


def _derived_jacobian(letters: _Letters) -> list[Block]:
    text = Paragraph(
        (
            "A softmax is no function of one number applied entry by entry: each ",
            letters.at(letters.p, "i"),
            " depends on every ",
            letters.at(letters.o, "j"),
            ". For any number k of classes, with S for the sum in the denominator:",
        )
    )
    return [text, Derivation(tuple(letters.jacobian()))]


def _shown_jacobian(letters: _Letters, jacobian: Tensor) -> Block:
    left = Partial(letters.p, letters.o)
    if jacobian.numel() > 64:
        return Paragraph((f"With the given numbers it has {jacobian.numel()} entries; they are in the record.",))
    return Derivation(
        (Equation(left, (matrix_of(jacobian),), "the numbers put in; every row and every column adds up to 0"),)
    )


def _derived_gradient(letters: _Letters) -> list[Block]:
    text = Paragraph(("For any loss of the probabilities the gradient then has one closed form:",))
    return [text, Derivation(tuple(letters.gradient()))]


def _numbers(letters: _Letters, step: Step, p: Tensor, a: Tensor, closed: Tensor) -> Block:
    if p.numel() > 30:
        return Paragraph((f"The numbers of all {p.numel()} classes are in the record.",))
    mean = float((a * p).sum())
    rows = tuple(
        (str(j + letters.base), Num(float(p[j])), Num(float(a[j])), Num(float(a[j]) - mean), Num(float(closed[j])))
        for j in range(p.numel())
    )
    columns = (
        ("j",), (letters.at(letters.p, "j"),), (Sym("a", ("j",)),), (Sym("a", ("j",)), " − Σ a p"),
        (Partial(letters.loss, letters.at(letters.o, "j")),),
    )  # fmt: skip
    return Table(columns, rows, f"The closed form with the numbers put in; Σ a p = {mean:.6g}", (1, 2, 3, 4))


# --- evidence ------------------------------------------------------------------------------------------------------------------
def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / max(float(theirs.abs().max()), 1e-3)) if ours.numel() else 0.0


def _row(what: str, oracle: str, ours: Tensor, theirs: Tensor) -> Evidence:
    error = _error(ours, theirs)
    return Evidence(what, oracle, error <= TOLERANCE, error, theirs.numel(), theirs.numel())


def _jacobian_evidence(prepared: Prepared, step: Step, node: Node, ours: Tensor) -> list[Evidence]:
    """Rows of the Jacobian by other ways: all of them, or of a large one some."""
    o, what = node.inputs[0], "closed form of the Jacobian"
    places = sorted({round(float(i)) for i in torch.linspace(0, node.size - 1, min(node.size, MOST_ROWS))})
    leaves = {n: t.detach().clone().requires_grad_(t.is_floating_point()) for n, t in step.leaves.items()}
    values = {**leaves, **run_original(step.graph, leaves)}
    theirs = [torch.autograd.grad(values[node.name][i], values[o.name], retain_graph=True)[0] for i in places]
    ways = {
        "our joint graph, row by row": _by_graph(step.graph, step, node, places),
        "autograd": torch.stack(theirs),
        "central differences in 50 digits": _by_differences(o, step, places),
    }
    return [replace(_row(what, oracle, ours[places], rows), of=ours.numel()) for oracle, rows in ways.items()]


def _by_graph(graph: Graph, step: Step, node: Node, places: Sequence[int]) -> Tensor:
    rows = []
    for i in places:
        builder = Builder(graph.nodes)
        entry = builder.emit("select", node, dim=0, index=i)
        joint = differentiate(Graph(tuple(builder.nodes), (entry,)), of=entry, wrt=[node.inputs[0]])
        delta = joint.gradients[node.inputs[0]]
        assert delta is not None
        given = {n: step.leaves[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}
        rows.append(evaluate(joint.graph, given)[delta])
    return torch.stack(rows)


def _by_differences(o: Node, step: Step, places: Sequence[int]) -> Tensor:
    """Central differences of exp(o_j) / Σ exp(o_i) in 50 digits: columns, which are the rows of a symmetric matrix."""
    tensor = step.values.get(o.name, step.leaves.get(o.name))
    assert tensor is not None
    at = [context.mpf(float(v)) for v in tensor]
    largest, h = max(at), context.mpf(10) ** -16
    weights = [context.exp(v - largest) for v in at]

    def p(j: int, shift: Any) -> list[Any]:
        moved = [context.exp(at[j] + shift - largest) if i == j else w for i, w in enumerate(weights)]
        total = sum(moved)
        return [w / total for w in moved]

    rows = [[float((b - a) / (2 * h)) for a, b in zip(p(j, -h), p(j, h), strict=True)] for j in places]
    return torch.tensor(rows, dtype=torch.float64)


def _general(k: int) -> Evidence:
    """The two cases of the quotient rule with letters for the logits, for as many classes as SymPy does quickly."""
    count = max(1, min(k, 4))
    o = sympy.symbols(f"o0:{count}", real=True)
    p = [sympy.exp(v) / sum(map(sympy.exp, o)) for v in o]
    left = [
        sympy.simplify(sympy.diff(p[i], o[j]) - p[i] * (int(i == j) - p[j])) for i in range(count) for j in range(count)
    ]
    same = all(d == 0 for d in left)
    return Evidence(
        "closed form of the Jacobian",
        SYMPY,
        same,
        0.0 if same else 1.0,
        count**2,
        count**2,
        f"letters for {count} logits",
    )


def _gradient_evidence(prepared: Prepared, step: Step, o: Node, gradient: Tensor, closed: Tensor) -> list[Evidence]:
    what = "closed form of the gradient"
    rows = [_row(what, "our joint graph", closed, gradient)]
    leaves = {n: t.detach().clone().requires_grad_(t.is_floating_point()) for n, t in step.leaves.items()}
    values = {**leaves, **run_original(step.graph, leaves)}
    assert step.graph.loss is not None
    theirs = torch.autograd.grad(values[step.graph.loss.name].reshape(()), values[o.name])[0]
    rows.append(_row(what, "autograd", closed, theirs))
    return [*rows, *_by_slopes(step, o, closed)]


def _by_slopes(step: Step, o: Node, closed: Tensor) -> list[Evidence]:
    """Against differences of the loss in 50 digits; on a kink they do not apply."""
    if not o.is_leaf:
        return []
    what, oracle = "closed form of the gradient", "central differences in 50 digits"
    arrays: Mapping[str, Any] = {n: digits.array(t.tolist(), tuple(t.shape)) for n, t in step.leaves.items()}
    worst, seen, apart = 0.0, 0, []
    size = max(float(closed.abs().max()), 1e-3)
    count = closed.numel()
    for j in range(0, count, -(-count // MOST_SLOPES)):
        left, right = one_sided(step.graph, arrays, o.name, (j,))
        if abs(left - right) > 1e-9 * max(abs(left), abs(right), 1e-3):
            apart.append(f"entry {j}: slope {left:.4g} to the left, {right:.4g} to the right")
            continue
        worst, seen = max(worst, abs((left + right) / 2 - float(closed[j])) / size), seen + 1
    found = [Evidence(what, oracle, worst <= TOLERANCE, worst, seen, count - len(apart))] if seen else []
    if apart:
        found.append(Evidence(what, f"{oracle} at kinks", None, None, len(apart), len(apart), "; ".join(apart[:3])))
    return found
