"""What comes of taking a softmax for a function of one number applied entry by entry, found by the gradient check.

The derivative would be the vector p_j (1 - p_j), which is the diagonal of the Jacobian alone, and ∂L/∂o_j = a_j p_j (1 - p_j)
with a = ∂L/∂p; the sum Σ_i a_i p_i over the other classes is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...checking import Checked
from ...document.blocks import Block, Paragraph, Section, Table
from ...document.math import Num, Partial, Sym
from ...errors import InputError
from ...graph import Graph, Node
from ...notation import named
from ...result import plain
from ..answer import Answer
from ..hand_written import checked_formulas
from ..prepare import Prepared
from ..program import run_original
from ..trace import Step
from .softmax import FORMULA, closed_form, softmax_node

__all__ = ["diagonal_form", "elementwise"]

DIAGONAL = "a_j p_j (1 - p_j)"
MOST_SHOWN = 30


def diagonal_form(p: Tensor, a: Tensor) -> Tensor:
    """The gradient by the logits if only the diagonal of the softmax's Jacobian counted: a_j p_j (1 - p_j)."""
    return a * p * (1 - p)


def elementwise(prepared: Prepared, steps: Sequence[Step], name: str = "p") -> Answer:
    """Check the derived gradient through a softmax, and the one that an elementwise derivative would give.

    Args:
        prepared, steps: the problem and its record.
        name: the quantity that is a softmax of a given list of numbers.
    """
    node = softmax_node(prepared, name)
    step, o = steps[0], node.inputs[0]
    if not o.is_leaf or step.graph.loss is None:
        raise InputError(f'also = ["elementwise:{name}"] needs a loss, and a softmax of a list that is given')
    loss = _Loss(step.graph, dict(step.leaves), node, o)
    at, slip = step.leaves[o.name], loss.claim(diagonal_form)
    made = checked_formulas(loss.total, at, "closed form of the gradient", loss.claim(closed_form), (slip,))
    found = made.slips[0]
    wrong = [e.index[0] for e in found.wrong]
    answers = {"elementwise": {"ok": found.ok, "wrong": wrong, "cause": found.cause, "formula": f"dL/do_j = {DIAGONAL}",
                               "gradient": plain(slip(at))}}  # fmt: skip
    blocks = (_said(found, at.numel()), *_shown(prepared, loss, found, at), made.asked)
    return Answer(answers, (Section("If softmax were elementwise", blocks, "backward", "elementwise"),), made.evidence)


@dataclass(frozen=True)
class _Loss:
    """The problem's own program as a function of the logits alone."""

    graph: Graph
    leaves: dict[str, Tensor]
    p: Node
    o: Node

    def values(self, o: Tensor) -> dict[str, Tensor]:
        return run_original(self.graph, {**self.leaves, self.o.name: o})

    def total(self, o: Tensor) -> Tensor:
        """The loss."""
        assert self.graph.loss is not None
        return self.values(o)[self.graph.loss.name].reshape(())

    def claim(self, form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A formula in p and a = ∂L/∂p as a function of the logits."""

        def gradient(o: Tensor) -> Tensor:
            assert self.graph.loss is not None
            with torch.enable_grad():
                values = self.values(o.detach().clone().requires_grad_())
                p = values[self.p.name]
                a = torch.autograd.grad(values[self.graph.loss.name].reshape(()), p)[0]
            return form(p.detach(), a)

        return gradient


def _said(found: Checked, classes: int) -> Block:
    lost = classes * (classes - 1)
    text = (
        f"An elementwise function has one slope per entry, here p_j (1 - p_j). That is the diagonal of the Jacobian above; its "
        f"other {lost:,} entries, -p_i p_j, are lost. The loss's gradient would be dL/do_j = {DIAGONAL} with a = dL/dp. "
    )
    if found.ok:
        return Paragraph(
            (f"{text}At these numbers this happens to be right: what is lost adds up to 0 in every entry.",)
        )
    cause = f" The mistake, as the check names it: {found.cause}." if found.cause else ""
    return Paragraph((f"{text}Checked entry by entry, {found.verdict}.{cause}",))


def _shown(prepared: Prepared, loss: _Loss, found: Checked, at: Tensor) -> tuple[Block, ...]:
    """Each entry: what an elementwise derivative gives, what is right, and whether that is wrong."""
    if at.numel() > MOST_SHOWN:
        return ()
    symbols = {**prepared.answer_names, **prepared.conventions.symbols}
    letter = named(loss.o.name, symbols=symbols)
    o = replace(letter, sub=(*letter.sub, "j"))
    claimed, right = (loss.claim(form)(at) for form in (diagonal_form, closed_form))
    wrong = {e.index[0] for e in found.wrong}
    base = prepared.conventions.index_base
    rows = tuple(
        (str(j + base), Num(float(claimed[j])), Num(float(right[j])), "wrong" if j in wrong else "right")
        for j in range(at.numel())
    )
    slope = Partial(Sym("L") if loss.graph.loss is None else named(loss.graph.loss.name, symbols=symbols), o)
    heads = (("j",), (DIAGONAL,), (slope, f" = {FORMULA}"), ("elementwise is",))
    return (Table(heads, rows, "The gradient entry by entry", (1, 2)),)
