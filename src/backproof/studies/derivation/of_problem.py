"""Derive a problem of formulas: what it asks, with symbols and arbitrary functions in the place of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ...errors import FormulaError, InputError
from ...formula import Given, declared, is_function, read_model, read_quantity
from ...graph import Graph, Role
from ...problems.problem import FormulaProblem
from ...problems.repeat import expanded
from ..prepare import CONVENTIONS, asked, refuse_unknown
from .backward import Backward
from .by_depth import BUILT_FROM, AtDepth, by_depth
from .check import Draws, confirm
from .derived import Derived

__all__ = ["at_depth", "derive_problem", "general", "without_numbers"]


def without_numbers(problem: FormulaProblem, settings: Mapping[str, Any]) -> bool:
    """Whether a problem has a given that is a symbol or an arbitrary function, and so is derived, not computed."""
    place = problem.file or "the problem"
    problem, settings = at_depth(problem, settings)
    if problem.repeat is not None:
        return True
    return any(declared(settings.get(n, v), f"'{n}' in {place}") is not None for n, v in problem.given.items())


def at_depth(problem: FormulaProblem, settings: Mapping[str, Any]) -> tuple[FormulaProblem, dict[str, Any]]:
    """A problem with [repeat] at the depth that the settings give ({"L": 5}), and the other settings."""
    repeat, rest = problem.repeat, dict(settings)
    if repeat is None or not isinstance(repeat.to, str) or repeat.to not in rest:
        return problem, rest
    depth = rest.pop(repeat.to)
    if not isinstance(depth, int) or isinstance(depth, bool):
        raise InputError(f"the depth {repeat.to} must be a whole number, not {depth!r}")
    return expanded(problem, depth), rest


def derive_problem(problem: FormulaProblem, settings: Mapping[str, Any], id: str = "") -> Derived:
    """Derive what a problem of formulas asks, or the gradients of all its symbols."""
    problem, settings = at_depth(problem, settings)
    if problem.repeat is not None:
        return _for_every_depth(problem, settings, id)
    refuse_unknown(settings, [*problem.given, *CONVENTIONS])
    made, seed = _made(problem, settings, id)
    work, start, functions = made.work, made.start, made.functions
    shown = {n: v if isinstance(v := settings.get(n, given), (int, float, str, list)) else str(v)
             for n, given in problem.given.items()}  # fmt: skip
    evidence = confirm(work, start, functions, Draws(seed))
    return Derived(
        id or problem.file, problem.title, problem.about, shown, work, start, functions,
        (*problem.remarks, *_unused(problem)), evidence,
    )  # fmt: skip


def _made(problem: FormulaProblem, settings: Mapping[str, Any], id: str) -> tuple[AtDepth, int]:
    """The derivation of a problem of formulas, and the seed of its random numbers."""
    conventions = problem.conventions.changed({k: v for k, v in settings.items() if k not in problem.given})
    place = f" in {problem.file}" if problem.file and not id else ""
    numbers, shapes, functions = _givens(problem, settings, place)
    graph = _graph(problem, shapes, functions, numbers, conventions.reduction)
    of, wrt = _wanted(problem, graph, numbers, place)
    work = Backward(graph, graph.by_name[of], wrt, conventions.symbols, conventions.layout)
    start = {
        n: torch.tensor([float(v) for v in g.flat()], dtype=torch.float64).reshape(g.shape) for n, g in numbers.items()
    }
    return AtDepth(work, start, tuple(functions)), conventions.seed


def _for_every_depth(problem: FormulaProblem, settings: Mapping[str, Any], id: str) -> Derived:
    """The derivation of a problem whose depth is a symbol."""
    assert problem.repeat is not None and isinstance(problem.repeat.to, str)
    symbol, first = problem.repeat.to, problem.repeat.first
    taken = {
        n.partition("_")[0] for n in (*problem.given, *problem.model, *problem.repeat.given, *problem.repeat.model)
    }
    if symbol in taken:
        raise FormulaError(
            f"{problem.file or 'the problem'}: '{symbol}' is the depth and cannot name a quantity; rename one"
        )
    refuse_unknown(settings, [*problem.given, *CONVENTIONS])

    def make(repeats: int) -> AtDepth:
        return _made(expanded(problem, repeats + first - 1), settings, id)[0]

    derived = general(f"{problem.title}, for every depth {symbol}", make, symbol)
    remarks = (*problem.remarks, *_unused(problem))
    return replace(derived, id=id or problem.file, about=problem.about, remarks=remarks)


def general(title: str, make: Callable[[int], AtDepth], symbol: str) -> Derived:
    """The derivation for every depth; at one depth, what it was built from stands behind it."""
    found = by_depth(make, symbol)
    base = make(BUILT_FROM)
    return Derived(title, title, "", {}, base.work, base.start, base.functions, (), found.evidence, by_depth=found)


def _unused(problem: FormulaProblem) -> tuple[str, ...]:
    if problem.optimizer is None and not problem.also:
        return ()
    return ("A problem without numbers is derived: its update and its analyses need numbers and are left out.",)


def _givens(
    problem: FormulaProblem, settings: Mapping[str, Any], place: str
) -> tuple[dict[str, Given], dict[str, tuple[int, ...]], list[str]]:
    """The givens with numbers, the shapes of all quantities, and the names of the arbitrary functions."""
    numbers, shapes, functions = dict[str, Given](), dict[str, tuple[int, ...]](), list[str]()
    for name, original in problem.given.items():
        value, said = settings.get(name, original), f"the given '{name}'{place}"
        found = declared(value, said)
        if found is None and declared(original, said) == declared("function", said):
            raise InputError(f"'{name}' is an arbitrary function in a derivation; use .evaluate to put one in")
        if found is None:
            numbers[name] = read_quantity(value, said)
            shapes[name] = numbers[name].shape
        elif found.kind == "function":
            if is_function(name):
                raise FormulaError(
                    f"{said} is declared a function, and formulas know a function of that name; rename it"
                )
            functions.append(name)
        else:
            shapes[name] = found.shape
    return numbers, shapes, functions


def _graph(
    problem: FormulaProblem,
    shapes: Mapping[str, tuple[int, ...]],
    functions: Sequence[str],
    numbers: Mapping[str, Given],
    reduction: str,
) -> Graph:
    roles: dict[str, Role] = dict.fromkeys(problem.parameters, "parameter")
    indices = {n: int(g.value) for n, g in numbers.items() if not g.shape and float(g.value).is_integer()}
    return read_model(
        problem.model, shapes, roles=roles, reduction=reduction, loss=problem.loss, title=problem.title,
        file=problem.file, lines=problem.lines, functions=functions, indices=indices,
    )  # fmt: skip


def _wanted(problem: FormulaProblem, graph: Graph, numbers: Mapping[str, Given], place: str) -> tuple[str, list[str]]:
    """What is differentiated, and by what: as asked, else the loss by the parameters, else by every symbol."""
    names = {n: graph.by_name[n] for n in [*problem.given, *problem.model] if n in graph.by_name}
    pairs = [asked(text, names) for text in problem.gradients]
    if len({top for top, _ in pairs}) > 1:
        raise FormulaError(f"a derivation is of one quantity; {', '.join(problem.gradients)} asks for several{place}")
    if pairs:
        return pairs[0][0], [bottom for _, bottom in pairs]
    if graph.loss is None:
        last = list(problem.model)[-1]
        raise FormulaError(
            f"'{last}' has shape {list(graph.by_name[last].shape)}; a derivation needs a loss that is one number{place}"
        )
    for name in problem.parameters:
        if name not in graph.by_name:
            raise FormulaError(f"the parameter '{name}' is no given quantity{place}; known: {', '.join(problem.given)}")
    symbols = [n for n in names if names[n].is_leaf and n not in numbers]
    return graph.loss.name, list(reversed(problem.parameters or symbols))
