"""Derive a network's gradients as formulas: error signals, the rule behind each, the gradients in terms of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...document.blocks import Document
from ...errors import FormulaError, InputError
from ...formula import Given, declared, is_function, read_model, read_quantity
from ...graph import Graph, Role
from ...problems.problem import Exercise, FormulaProblem, Problem
from ...result import Result, written
from ..caveats import caveats
from ..load import load_problem
from ..prepare import CONVENTIONS, asked, prepare, refuse_unknown
from ..verdicts import Evidence, summary
from .backward import Backward, Line
from .check import Draws, confirm
from .functions import function_of

__all__ = ["Derived", "DerivedEquation", "derive", "derive_problem", "without_numbers"]


@dataclass(frozen=True)
class DerivedEquation:
    """One equation of a derivation.

    Args:
        name: what it gives, as text ("δ₂", "∂L/∂W₁").
        formula: the equation in LaTeX.
        rule: the rule behind it, in words.
        text: the equation as plain text.
        typed: its right side in the language of problems, where all quantities are single numbers; else "".
        phase: "forward", "backward" (an error signal), "gradient", or "expanded" (a gradient with all put in).
        of: the quantity: the value that is computed, or the one whose gradient it is.
    """

    name: str
    formula: str
    rule: str
    text: str
    typed: str
    phase: str
    of: str


@dataclass(frozen=True)
class Derived(Result):
    """A derivation: ``equations``, ``answers``, ``evidence``, ``evaluate``; see :func:`derive`."""

    id: str
    title: str
    about: str
    settings: dict[str, Any]
    work: Backward = field(repr=False)
    start: Mapping[str, Tensor] = field(repr=False)
    functions: tuple[str, ...]
    remarks: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    @cached_property
    def equations(self) -> tuple[DerivedEquation, ...]:
        """Forward, error signals, gradients, in order; then each gradient with every error signal put in."""
        return tuple(self._equation(line) for line in [*self.work.lines, *self.work.expanded])

    def _equation(self, line: Line) -> DerivedEquation:
        (name, left), (text, latex) = written(line.left), written(line.right)
        of = (line.node.of or line.node).name
        typed = self.work.typed(line.right) or ""
        return DerivedEquation(name, f"{left} = {latex}", line.rule, f"{name} = {text}", typed, line.phase, of)

    @cached_property
    def answers(self) -> dict[str, Any]:
        """The gradients written out, the error signals, and the gradients in terms of them, as typed formulas."""
        top, work = self.work.of.name, self.work
        found: dict[str, Any] = {f"d{top}/d{n.name}": "0" for n in work.wrt if n not in work.reached}
        shown = "expanded" if work.is_expandable else "gradient"
        found |= {f"d{top}/d{e.of}": _formula(e) for e in self.equations if e.phase == shown}
        found["delta"] = {work.delta_names[e.of]: _formula(e) for e in self.equations if e.phase == "backward"}
        found["in_deltas"] = {f"d{top}/d{e.of}": _formula(e) for e in self.equations if e.phase == "gradient"}
        if recursion := recursion_of(work):
            found["recursion"] = recursion
        return found

    @property
    def steps(self) -> tuple[Any, ...]:
        """A derivation has no updates."""
        return ()

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether an independent way disagrees."""
        return any(e.agrees is False for e in self.evidence)

    def evaluate(self, values: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """The gradients, computed from the printed formulas alone; no autograd, no graph.

        Args:
            values: numbers for givens and parameters by name (what is missing is taken from the capture, names that
                the derivation has not are ignored), and for each arbitrary function what to put in: the name of a
                function (``"tanh"``), a formula in x (``"x**3 - x"``), or a function of a SymPy symbol.

        Returns:
            the gradient of every quantity derived by, and the error signal of every value that has one, by name.

        Raises:
            InputError: a symbol has no value, or a value has another shape.
            MissingRule: a printed formula has a part that cannot be read back.
        """
        given = dict(values or {})
        functions = {n: function_of(n, given[n]) for n in self.functions if n in given}
        leaves = {n.name: self._leaf(n.name, n.shape, given) for n in self.work.graph.nodes if self._is_wanted(n)}
        if missing := [n for n in self.functions if n not in functions]:
            raise InputError(
                f"the function '{missing[0]}' is arbitrary; say which to put in, as in {missing[0]}=\"tanh\""
            )
        return self.work.evaluate(leaves, functions)

    def _is_wanted(self, node: Any) -> bool:
        return bool(node.is_leaf and node.role != "constant")

    def _leaf(self, name: str, shape: tuple[int, ...], given: Mapping[str, Any]) -> Tensor:
        if name not in given and name not in self.start:
            raise InputError(f"'{name}' is a symbol without a number; give it one, as in evaluate({{'{name}': ...}})")
        value = given.get(name, self.start.get(name))
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"'{name}' must be numbers of the shape {list(shape)}, not {value!r}") from None
        tensor = tensor.detach()
        if tuple(tensor.shape) != shape:
            raise InputError(f"'{name}' has the shape {list(shape)}, and the value given has {list(tensor.shape)}")
        integers = name in self.start and not self.start[name].is_floating_point()
        return tensor if integers else tensor.double()

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record: problem, settings, derivation, answers, remarks, evidence; there are no steps."""
        return {
            "problem": self.id,
            "settings": self.settings,
            "steps": [],
            "derivation": [
                {
                    "name": e.name,
                    "formula": e.formula,
                    "rule": e.rule,
                    "text": e.text,
                    "typed": e.typed,
                    "phase": e.phase,
                }
                for e in self.equations
            ],
            "answers": self.answers,
            "remarks": list(self.remarks),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The derivation as a worked solution."""
        from .page import blocks_of

        free = bool(self.functions) or any(name not in self.start for name in self._leaf_names)
        return Document(
            self.title,
            tuple(blocks_of(self)),
            "derived, not computed" if free else "derived",
            summary(self.evidence),
            "finding" if self.finding else "agrees",
            self.to_dict(),
        )

    @property
    def _leaf_names(self) -> list[str]:
        return [n.name for n in self.work.graph.nodes if self._is_wanted(n)]


def _formula(equation: DerivedEquation) -> str:
    return equation.typed or equation.text.partition(" = ")[2]


def recursion_of(work: Backward) -> str | None:
    """The recursion of a chain, delta_{k-1} = delta_k W_k f_{k-1}'(s_{k-1}), where every error signal has that form."""
    from ...document.math import Call, Mul, Sym

    lines = work.backward
    if len(lines) < 3:
        return None
    for before, line in pairwise(lines):
        factors = line.right.factors if isinstance(line.right, Mul) else ()
        if len(factors) != 3 or factors[0] != before.left or not isinstance(factors[1], Sym):
            return None
        call = factors[2]
        own = line.node.of.name if line.node.of else ""
        if not (isinstance(call, Call) and call.function.primes == 1 and _stands_for(call.args[0], own)):
            return None
    return "delta_{k-1} = delta_k * W_k * f_{k-1}'(s_{k-1})"


def _stands_for(expr: Any, name: str) -> bool:
    ref = getattr(expr, "ref", None)
    return ref is not None and ref.name == name


# --- problems without numbers -------------------------------------------------------------------------------------------------
def without_numbers(problem: FormulaProblem, settings: Mapping[str, Any]) -> bool:
    """Whether a problem has a given that is a symbol or an arbitrary function, and so is derived, not computed."""
    place = problem.file or "the problem"
    return any(declared(settings.get(n, v), f"'{n}' in {place}") is not None for n, v in problem.given.items())


def derive_problem(problem: FormulaProblem, settings: Mapping[str, Any], id: str = "") -> Derived:
    """Derive what a problem of formulas asks, or the gradients of all its symbols."""
    refuse_unknown(settings, [*problem.given, *CONVENTIONS])
    conventions = problem.conventions.changed({k: v for k, v in settings.items() if k not in problem.given})
    place = f" in {problem.file}" if problem.file and not id else ""
    numbers, shapes, functions = _givens(problem, settings, place)
    graph = _graph(problem, shapes, functions, numbers, conventions.reduction)
    of, wrt = _wanted(problem, graph, numbers, place)
    work = Backward(graph, graph.by_name[of], wrt, conventions.symbols, conventions.layout)
    start = {
        n: torch.tensor([float(v) for v in g.flat()], dtype=torch.float64).reshape(g.shape) for n, g in numbers.items()
    }
    shown = {n: v if isinstance(v := settings.get(n, given), (int, float, str, list)) else str(v)
             for n, given in problem.given.items()}  # fmt: skip
    evidence = confirm(work, start, functions, Draws(conventions.seed))
    return Derived(
        id or problem.file, problem.title, problem.about, shown, work, start, tuple(functions),
        (*problem.remarks, *_unused(problem)), evidence,
    )  # fmt: skip


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


# --- models -----------------------------------------------------------------------------------------------------------------------
def derive(
    model_or_problem: Any, *inputs: Any, loss: Any = None, wrt: Sequence[str] | None = None, targets: Any = None
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
    if isinstance(model_or_problem, (str, os.PathLike, Problem, FormulaProblem, Exercise)):
        if inputs:
            raise InputError("a problem brings its own inputs; derive it without any")
        return _of_problem(model_or_problem, wrt)
    from ..trace import _program

    program = _program(model_or_problem, inputs if inputs else None, targets, loss, None, "model")
    return _of_program(program.graph, program.start, f"Derivation for {program.graph.title}", wrt, {})


def _of_problem(problem: Any, wrt: Sequence[str] | None) -> Derived:
    found, id = load_problem(Path(problem) if isinstance(problem, os.PathLike) else problem)
    if isinstance(found, Exercise):
        raise InputError("this exercise is a question of its own, not one network; solve it instead")
    if isinstance(found, FormulaProblem) and without_numbers(found, {}):
        if wrt is not None:
            from dataclasses import replace

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
    of = graph.loss or (graph.outputs[0] if graph.outputs and graph.outputs[0].size == 1 else None)
    if of is None:
        raise InputError(
            "a derivation needs one number to differentiate: give loss=..., or a model whose output is one"
        )
    wanted = list(wrt) if wrt is not None else _default(graph)
    for name in wanted:
        if not isinstance(name, str) or name not in graph.by_name:
            known = ", ".join(n.name for n in graph.nodes if n.role in ("parameter", "input", "value"))
            raise InputError(f"there is no '{name}' to derive by; known: {known[:300]}")
    integers = {n: t.tolist() for n, t in start.items() if not t.is_floating_point() and t.dtype != torch.bool}
    remarks = caveats(graph)
    if graph.surrogates:
        graph = replace(graph, surrogates={}, origin=graph.origin.by_the_forward())
    of = next(n for n in graph.nodes if n is of)
    work = Backward(graph, of, wanted, names, layout, integers)
    evidence = confirm(work, dict(start), [], Draws(0))
    return Derived(id or graph.title, title, "", {}, work, start, (), remarks, evidence)


def _default(graph: Graph) -> list[str]:
    found = [n.name for n in graph.parameters if not n.is_frozen]
    return list(reversed(found or [n.name for n in graph.of_role("input") if n.is_float]))
