"""``bp.check``: is this gradient right, and if not, which entry, which line and which mistake?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..graph import Graph
from .checked import Checked
from .claims import claimed_gradients
from .compiled import compiled_notes, compiled_of, eager_of
from .derived import closeness, loss_of, with_complex_step, with_derivation
from .examine import Examination
from .operators import with_opcheck
from .program import Program, program_of
from .second import gradient_program

__all__ = ["check"]


def check(
    fn: Callable[..., Any] | Graph,
    inputs: Any = None,
    *,
    reference: Callable[..., Any] | None = None,
    claim: Any = None,
    surrogate: Callable[..., Any] | None = None,
    second: bool = False,
    compiled: bool = False,
    elsewhere: bool = True,
    undefined: bool = True,
    seed: int = 0,
) -> Checked:
    r"""Check a gradient entry by entry against oracles that do not share its mistake.

    For weights v (1 for a scalar, Gaussian otherwise) the gradient of Re⟨v, f(x)⟩ that autograd computes is compared with
    that of the forward pass differentiated without any custom backward, and both with central differences in float64 along
    Gaussian directions. What rounding can make of each entry is measured, not assumed.

    Args:
        fn: a function of tensors, an ``nn.Module`` (its parameters are checked too) or ``Function.apply``; or a captured graph
            with a loss, whose gradients are compared with Backproof's own derivation and with the complex step too (inputs
            may then be left out).
        inputs: a tensor, a tuple, or a dict of keywords. If some require a gradient only those are checked, else all floats.
        reference: a trusted implementation of the same function; forward and backward are compared with it in float64.
        claim: somebody's gradient of a scalar ``fn``: by name (of an input or parameter) a tensor, a formula in the names of
            inputs and parameters ("cos(w @ x) * x", or LaTeX: r"\delta x^\top"), or a callable of the inputs; other names
            define what the formulas use ("delta": "y - t"). Where there is one input, only a tensor or formula.
        surrogate: for a straight-through estimator, the function whose gradient is meant.
        second: check the gradient of the gradient (double backward) instead.
        compiled: check what ``torch.compile`` makes of ``fn`` instead; ``fn`` itself, run eagerly, is then the reference. A
            function that is compiled already is compared with its eager form too.
        elsewhere: also look at inputs made from the given ones, so that rare branches are entered.
        undefined: also call the backward pass with output gradients that are undefined (None).
        seed: of weights, directions and generated inputs.

    Returns:
        The verdict with ``.ok .wrong .cause .where .notes .oracles``.

    Raises:
        InputError: the function cannot be run at these inputs, or a claim does not fit.

    Example:
        >>> import torch, backproof as bp
        >>> x = torch.linspace(-1, 1, 4, dtype=torch.float64)
        >>> found = bp.check(lambda x: (x**2).sum(), x, claim={"x": "x"})
        >>> found.ok, len(found.wrong), found.cause
        (False, 4, 'a constant factor 0.5: the gradient is multiplied by 1/2')

    Source: the slopes are those of any textbook; the running error is measured as in D. S. Parker, Monte Carlo
    Arithmetic (1997).
    """
    if surrogate is not None and reference is not None:
        raise InputError(
            "give a reference (a trusted implementation) or a surrogate (the gradient that is meant), not both"
        )
    for what, given in (("reference", reference), ("surrogate", surrogate)):
        if given is not None and not callable(given):
            raise InputError(f"{what} must be a function or a module, not {type(given).__name__}")
    if isinstance(fn, Graph):
        return _graph(fn, inputs, claim, seed)
    title = _title(fn)
    if compiled:
        fn = compiled_of(fn)
    program, reference = program_of(fn, inputs), reference or eager_of(fn)
    if second:
        program, title, elsewhere = gradient_program(program, seed), f"double backward of {title}", False
    exam = Examination(fn, program, reference, surrogate, inputs, seed, elsewhere, title=title)
    exam.notes += compiled_notes(fn)
    exam.undefined = undefined
    if claim is not None:
        exam.claims = claimed_gradients(claim, program, inputs)
    return with_opcheck(fn, program, exam.verdict())


def _graph(graph: Graph, inputs: Any, claim: Any, seed: int) -> Checked:
    """The loss of a captured graph, with Backproof's own derivation and the complex step as further oracles."""
    loss, leaves, drawn = loss_of(graph, inputs)
    program = program_of(loss, leaves)
    exam = Examination(
        loss, program, None, None, leaves, seed, True, title=f"the loss of {graph.title or 'a captured graph'}"
    )
    if claim is not None:
        exam.claims = claimed_gradients(claim, program, leaves)
    found = exam.verdict()
    fixed = {**leaves, **drawn}
    found = with_derivation(graph, fixed, _claimed(exam, program), found)
    exact = exam.prepared()
    wide = fixed | dict(zip(map(str, exact.names), exact.start, strict=True))
    close = closeness(fixed if exam.claims else wide)
    return with_complex_step(graph, wide, _claimed(exam, exact), found, close, seed)


def _claimed(exam: Examination, program: Program) -> dict[str, Tensor | None]:
    """The gradients that are checked, by name."""
    ones = [torch.ones_like(o) for o in program.at(program.start)]
    return dict(zip(map(str, program.names), exam.claimed(program, program.start, ones), strict=True))


def _title(fn: Any) -> str:
    owner = getattr(fn, "__self__", None)
    if isinstance(owner, type):
        return owner.__name__
    return type(fn).__name__ if isinstance(fn, nn.Module) else getattr(fn, "__name__", type(fn).__name__)
