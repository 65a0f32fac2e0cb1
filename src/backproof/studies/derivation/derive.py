"""Derive a network's gradients as formulas: error signals, the rule behind each, the gradients in terms of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...graph import Graph, Node
from ...notation import named
from ...problems.problem import Exercise, FormulaProblem, Problem
from ..caveats import caveats
from ..load import load_problem
from ..prepare import prepare
from .backward import Backward
from .by_depth import AtDepth, checked_symbol
from .check import Draws, confirm
from .deepened import deepened
from .derived import Derived, DerivedEquation
from .of_problem import derive_problem, general, without_numbers

__all__ = ["Derived", "DerivedEquation", "derive", "derive_problem", "without_numbers"]


def derive(
    model_or_problem: Any,
    *inputs: Any,
    loss: Any = None,
    wrt: Sequence[str] | None = None,
    targets: Any = None,
    depth: str | None = None,
    view: str = "matrices",
) -> Derived:
    """Derive the gradients of a network's loss: named error signals, each with its rule, and the gradients in terms of them.

    Named quantities are never substituted, so that the derivation is linear in the depth; products of equal shape (⊙)
    go entry by entry, and a gradient has the shape of its parameter.

    Args:
        model_or_problem: an nn.Module or a function with example inputs, a captured Graph, a problem, or the id or file
            of a problem. With givens such as ``W1 = "symbol"`` and ``f1 = "function"`` a TOML problem needs no numbers.
        *inputs: the example inputs of a model.
        loss: a function of the output (and the targets), or its name; None if the output is the loss.
        wrt: the names of the parameters, inputs or values to derive by; all parameters by default.
        targets: what the loss compares with.
        depth: a letter such as "L": the repeated part of the model (alike layers or blocks of an nn.Sequential or an
            nn.ModuleList) stands so many times, and the derivation holds for every depth.
        view: "matrices", or "entries" for the same with indices and sums beside it.

    Returns:
        A :class:`Derived`: ``.equations`` (``.name .formula .rule``), ``.evaluate(values)``, ``.latex()``.

    Raises:
        InputError, FormulaError, CaptureError, MissingRule: it cannot be derived; one paragraph says why.

    Example:
        >>> import torch, backproof as bp
        >>> derived = bp.derive(lambda w: (torch.tanh(2 * w) - 1).pow(2), torch.tensor(0.5))
        >>> [e.name for e in derived.equations if e.phase == "gradient"]
        ['∂pow/∂w']
    """
    if view not in ("matrices", "entries"):
        raise InputError(f"view is 'matrices' or 'entries', not {view!r}")
    if isinstance(model_or_problem, (str, os.PathLike, Problem, FormulaProblem, Exercise)):
        if inputs:
            raise InputError("a problem brings its own inputs; derive it without any")
        if depth is not None:
            raise InputError('a problem says itself what repeats: [repeat] with to = "L"; leave depth out')
        return replace(_of_problem(model_or_problem, wrt), view=view)
    if depth is not None:
        return replace(_of_depth(model_or_problem, inputs, targets, loss, checked_symbol(depth)), view=view)
    program = _captured(model_or_problem, inputs, targets, loss)
    derived = _of_program(program.graph, program.start, f"Derivation for {program.graph.title}", wrt, {})
    return replace(derived, view=view)


def _captured(model: Any, inputs: tuple[Any, ...], targets: Any, loss: Any) -> Any:
    from ..trace import _program

    return _program(model, inputs if inputs else None, targets, loss, None, "model")


def _of_depth(model: Any, inputs: tuple[Any, ...], targets: Any, loss: Any, symbol: str) -> Derived:
    """The derivation of a module whose repeated part stands ``symbol`` times."""
    if not isinstance(model, torch.nn.Module):
        raise InputError(
            "a depth can be a symbol for an nn.Module with a repeated part, or for a problem with [repeat]"
        )

    def make(repeats: int) -> AtDepth:
        program = _captured(deepened(model, repeats, repeats), inputs, targets, loss)
        of = _output(program.graph)
        clash = {of.name: "C"} if named(of.name).name == symbol else {}
        return AtDepth(
            _backward(program.graph, program.start, of, _default(program.graph), clash, "own"), program.start
        )

    return general(f"Derivation for {type(model).__name__}, for every depth {symbol}", make, symbol)


def _of_problem(problem: Any, wrt: Sequence[str] | None) -> Derived:
    found, id = load_problem(Path(problem) if isinstance(problem, os.PathLike) else problem)
    if isinstance(found, Exercise):
        raise InputError("this exercise is a question of its own, not one network; solve it instead")
    if isinstance(found, FormulaProblem) and without_numbers(found, {}):
        if wrt is not None:
            found = replace(found, parameters=tuple(reversed(wrt)), gradients=())
        return derive_problem(found, {}, id)
    prepared = prepare(found, {}, id)
    program, shown = prepared.program, {**prepared.answer_names, **prepared.conventions.symbols}
    wanted = wrt if wrt is not None else list(reversed(program.trained)) or None
    return _of_program(program.graph, program.start, prepared.title, wanted, shown, id, prepared.conventions.layout)


def _of_program(
    graph: Graph,
    start: Mapping[str, Tensor],
    title: str,
    wrt: Sequence[str] | None,
    names: Mapping[str, str],
    id: str = "",
    layout: str = "own",
) -> Derived:
    of = _output(graph)
    wanted = list(wrt) if wrt is not None else _default(graph)
    for name in wanted:
        if not isinstance(name, str) or name not in graph.by_name:
            known = ", ".join(n.name for n in graph.nodes if n.role in ("parameter", "input", "value"))
            raise InputError(f"there is no '{name}' to derive by; known: {known[:300]}")
    remarks = caveats(graph)
    if graph.surrogates:
        graph = replace(graph, surrogates={}, origin=graph.origin.by_the_forward())
    of = next(n for n in graph.nodes if n is of)
    work = _backward(graph, start, of, wanted, names, layout)
    evidence = confirm(work, dict(start), [], Draws(0))
    return Derived(id or graph.title, title, "", {}, work, start, (), remarks, evidence)


def _output(graph: Graph) -> Node:
    of = graph.loss or (graph.outputs[0] if graph.outputs and graph.outputs[0].size == 1 else None)
    if of is None:
        raise InputError(
            "a derivation needs one number to differentiate: give loss=..., or a model whose output is one"
        )
    return of


def _backward(
    graph: Graph, start: Mapping[str, Tensor], of: Node, wanted: Sequence[str], names: Mapping[str, str], layout: str
) -> Backward:
    integers = {n: t.tolist() for n, t in start.items() if not t.is_floating_point() and t.dtype != torch.bool}
    return Backward(graph, of, wanted, names, layout, integers)


def _default(graph: Graph) -> list[str]:
    found = [n.name for n in graph.parameters if not n.is_frozen]
    return list(reversed(found or [n.name for n in graph.of_role("input") if n.is_float]))
