"""From a problem and its settings to a program that can be run."""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import sympy
import torch
from torch import Tensor, nn

from ..domains.exact import exact
from ..errors import BackproofError, FormulaError, InputError
from ..formula import Given, read_model, read_quantity
from ..graph import Graph, Role
from ..optimizers import RULES, optimizer
from ..problems.problem import ANALYSES, Conventions, FormulaProblem, Problem
from .plain_model import as_module
from .program import Batch, Program

__all__ = ["CONVENTIONS", "MAX_STEPS", "Prepared", "alike", "asked", "prepare", "refuse_unknown"]

MAX_STEPS = 100_000
CONVENTIONS = ("reduction", "batch", "layout", "index_base", "symbols", "arithmetic", "evidence", "seed")


@dataclass(frozen=True)
class Prepared:
    """A problem ready to be worked.

    Args:
        gradients: the asked derivatives as (of, with respect to).
        also: the asked analyses.
        exact: whether to try exact arithmetic.
        settings: every setting with its value, for the record.
        answer_names: the names under which values are answered.
    """

    id: str
    title: str
    about: str
    program: Program
    conventions: Conventions
    gradients: tuple[tuple[str, str], ...]
    also: tuple[str, ...]
    exact: bool
    settings: dict[str, Any]
    answer_names: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def prepare(problem: Problem | FormulaProblem, settings: Mapping[str, Any], id: str = "") -> Prepared:
    """Apply settings to a problem and capture it.

    Raises:
        InputError, FormulaError, CaptureError: a setting, given or formula cannot be used.
    """
    if isinstance(problem, FormulaProblem):
        return _Formulas(problem, settings, id).prepared()
    return _Python(problem, settings, id).prepared()


def refuse_unknown(settings: Mapping[str, Any], known: list[str]) -> None:
    """Refuse a setting that there is not, and say which one may have been meant."""
    for key in settings:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(dict.fromkeys(known))}"
            raise InputError(f"the problem has no setting '{key}'; {hint}")


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_STEPS:
        raise InputError(f"{name} must be a whole number from 1 to {MAX_STEPS}, not {value!r}")
    return value


def _number(value: Any, name: str) -> Any:
    """A hyper-parameter: a number, or an exact expression such as "1/3"."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, (int, float, str)):
        raise InputError(f"{name} must be a number, not {value!r}")
    try:
        given = read_quantity(value, f"'{name}'")
    except FormulaError as error:
        raise InputError(str(error)) from None
    return given.value


def asked(text: str, known: Mapping[str, Any]) -> tuple[str, str]:
    """The pair (y, w) that "dy/dw" or "y/w" means."""
    top, slash, bottom = text.replace(" ", "").partition("/")
    if not slash:
        raise FormulaError(f"a derivative is asked as \"y/w\", not '{text}'")
    names = tuple(n if n in known else n.removeprefix("d") for n in (top, bottom))
    for name in names:
        if name not in known:
            raise FormulaError(f"the derivative '{text}' is asked, and there is no '{name}'; known: {', '.join(known)}")
    return names  # type: ignore[return-value]


# --- TOML ---------------------------------------------------------------------------------------------------------------
class _Formulas:
    """Prepares a problem of formulas."""

    def __init__(self, problem: FormulaProblem, settings: Mapping[str, Any], id: str) -> None:
        rule = settings.get("optimizer", problem.optimizer)
        hyper = list(RULES[rule].hyper) if isinstance(rule, str) and rule in RULES else []
        refuse_unknown(settings, [*problem.given, *hyper, "steps", "optimizer", *CONVENTIONS])
        self.problem, self.settings, self.id = problem, dict(settings), id
        if clash := [n for n in problem.given if rule is not None and n in (*hyper, "steps", "optimizer")]:
            raise FormulaError(
                f"the given '{clash[0]}' has the name of a setting of the {rule} optimizer; rename it, "
                "so that --set can tell the two apart"
            )
        self.conventions = problem.conventions.changed({k: v for k, v in settings.items() if k not in problem.given})
        self.place = f" in {problem.file}" if problem.file and not id else ""
        self.indices: dict[str, int] = {}

    def prepared(self) -> Prepared:
        problem, givens = self.problem, self._givens()
        self.indices = {n: int(g.value) for n, g in givens.items() if isinstance(g.value, (int, sympy.Integer))}
        program = self._program(givens)
        names = program.graph.by_name
        gradients = tuple(
            asked(text, {n: names[n] for n in (*problem.given, *problem.model)}) for text in problem.gradients
        )
        shown = {name: _spoken(self.settings.get(name, value)) for name, value in problem.given.items()}
        return Prepared(
            id=self.id or problem.file,
            title=problem.title,
            about=problem.about,
            program=program,
            conventions=self.conventions,
            gradients=gradients,
            also=problem.also,
            exact=program.exact is not None,
            settings={**_shown(program, self.conventions), **shown},
            remarks=problem.remarks,
        )

    def _givens(self) -> dict[str, Given]:
        found = {}
        for name, value in self.problem.given.items():
            found[name] = read_quantity(self.settings.get(name, value), f"the given '{name}'{self.place}")
        return found

    def _program(self, givens: Mapping[str, Given]) -> Program:
        graph = self._graph({name: g.shape for name, g in givens.items()})
        start = {name: torch.tensor(_floats(g), dtype=torch.float64).reshape(g.shape) for name, g in givens.items()}
        program = Program(
            graph,
            start,
            self._trained(graph),
            batch=cast(Batch, self.conventions.batch),
            samples=self._samples(givens),
            capture_for=lambda leaves: self._graph({n: tuple(t.shape) for n, t in leaves.items()}),
        )
        if self.conventions.batch == "sample" and not program.samples:
            raise InputError(
                f'batch = "sample" needs samples = [...] in [step], the givens with one row per sample{self.place}'
            )
        program.optimizer = self._optimizer()
        if program.optimizer is not None and graph.loss is None:
            raise FormulaError(
                f"an update needs a loss that is one number, and '{list(self.problem.model)[-1]}' has shape "
                f"{list(graph.nodes[-1].shape)}{self.place}; write sum(...) or mean(...)"
            )
        program.steps = _whole(self.settings.get("steps", self.problem.steps), "steps") if program.optimizer else 1
        if self._wants_exact(givens):
            program.exact = {n: exact.array(g.value, g.shape) for n, g in givens.items()}
        return program

    def _wants_exact(self, givens: Mapping[str, Given]) -> bool:
        if self.conventions.arithmetic == "auto":
            return all(g.exact for g in givens.values()) and sum(math.prod(g.shape) for g in givens.values()) <= 60
        return self.conventions.arithmetic == "exact"

    def _graph(self, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
        problem = self.problem
        roles: dict[str, Role] = dict.fromkeys(problem.parameters, "parameter")
        graph = read_model(
            problem.model,
            shapes,
            roles=roles,
            reduction=self.conventions.reduction,
            loss=problem.loss,
            title=problem.title,
            file=problem.file,
            lines=problem.lines,
            indices=self.indices,
        )
        if problem.samples and graph.loss is not None and not problem.parameters:
            return graph
        return graph

    def _trained(self, graph: Graph) -> tuple[str, ...]:
        for name in self.problem.parameters:
            if name not in self.problem.given:
                raise FormulaError(
                    f"the parameter '{name}' is not given{self.place}; known: {', '.join(self.problem.given)}"
                )
        return self.problem.parameters

    def _samples(self, givens: Mapping[str, Given]) -> tuple[str, ...]:
        names = self.problem.samples
        for name in names:
            if name not in givens or not givens[name].shape:
                raise FormulaError(f"samples names '{name}', which is not a given list{self.place}")
        sizes = {name: givens[name].shape[0] for name in names}
        if len(set(sizes.values())) > 1:
            raise InputError(
                "the givens with one row per sample have different numbers of rows: "
                + ", ".join(f"{n} {k}" for n, k in sizes.items())
            )
        return names

    def _optimizer(self) -> Any:
        name = self.settings.get("optimizer", self.problem.optimizer)
        if name is None:
            return None
        if not self.problem.parameters:
            raise FormulaError(f'[step] has an optimizer but no parameters = ["w"]{self.place}')
        same = name == self.problem.optimizer
        known = RULES[name].hyper if isinstance(name, str) and name in RULES else {}
        hyper = dict(self.problem.hyper) if same else {k: v for k, v in self.problem.hyper.items() if k in known}
        hyper |= {k: v for k, v in self.settings.items() if k in known and k not in self.problem.given}
        words = RULES[name].choices if isinstance(name, str) and name in RULES else {}
        return optimizer(name, **{k: v if k in words else _number(v, k) for k, v in hyper.items()})


def _floats(given: Given) -> list[float]:
    return [float(v) for v in given.flat()]


def _spoken(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, list)) else str(value)


def _shown(program: Program, conventions: Conventions) -> dict[str, Any]:
    """The conventions that matter, as the record shows them."""
    found: dict[str, Any] = {}
    if program.optimizer is not None:
        hyper = {k: v if isinstance(v, (int, float, bool)) else str(v) for k, v in program.optimizer.hyper.items()}
        found |= {"optimizer": program.optimizer.rule.name, **hyper, "steps": program.steps}
    kept = ("reduction", "batch", "layout", "index_base", "arithmetic", "evidence", "seed")
    return {**found, **{k: getattr(conventions, k) for k in kept}, "symbols": dict(conventions.symbols)}


# --- Python -------------------------------------------------------------------------------------------------------------
class _Python:
    """Prepares a problem written in Python."""

    def __init__(self, problem: Problem, settings: Mapping[str, Any], id: str) -> None:
        self.problem, self.id = problem, id
        self.settings = dict(settings)
        own = problem.settings
        self.conventions = Conventions(symbols=dict(problem.symbols)).changed({**own, **settings})
        self.values = {k: alike(k, settings.get(k, v), v) for k, v in own.items()}

    def prepared(self) -> Prepared:
        problem = self.problem
        model = as_module(self._made(problem.model, model=True))
        if isinstance(model, nn.Module):
            model = copy.deepcopy(model).double()
        inputs = _double(self._made(problem.inputs))
        targets = _double(self._made(problem.targets))
        if inputs is None:
            raise InputError("the problem has no inputs: bp.Problem(model, inputs, ...)")
        program = self._program(model, inputs, targets)
        names = {
            **{program.graph.by_name[n].name: n for n in program.graph.by_name},
            **self._aliases(program.graph),
        }
        asks = [a.removeprefix("gradient:") for a in problem.ask if a.partition(":")[0] not in ANALYSES]
        also = tuple(a for a in problem.ask if a.partition(":")[0] in ANALYSES)
        gradients = tuple((names[a], names[b]) for a, b in (asked(text, names) for text in asks))
        return Prepared(
            id=self.id,
            title=problem.title or program.graph.title,
            about=problem.about,
            program=program,
            conventions=self.conventions,
            gradients=gradients,
            also=also,
            exact=program.exact is not None,
            settings={**_shown(program, self.conventions), **{k: _spoken(v) for k, v in self.values.items()}},
            answer_names=self._answer_names(program.graph),
        )

    def _made(self, value: Any, model: bool = False) -> Any:
        """The value itself, or what its recipe makes from the settings."""
        if inspect.isclass(value) or not callable(value) or isinstance(value, nn.Module):
            return value() if inspect.isclass(value) else value
        try:
            wants = list(inspect.signature(value).parameters)
        except (TypeError, ValueError):
            return value
        if not (wants and set(wants) <= set(self.values)) and (wants or model):
            return value
        try:
            return value(**{k: self.values[k] for k in wants})
        except BackproofError:
            raise
        except Exception as error:
            raise InputError(
                f"the problem's recipe {value.__name__}({', '.join(wants)}) fails with these settings: "
                f"{type(error).__name__}: {str(error)[:200]}"
            ) from None

    def _program(self, model: Any, inputs: Any, targets: Any) -> Program:
        from .trace import _check_finite, _program, give_rules

        self._override_parameters(model)
        program = _program(
            model,
            self._override_inputs(model, inputs),
            targets,
            _double_module(self.problem.loss),
            None,
            "model",
            parameters=self.problem.parameters,
        )
        _check_finite(program.graph, program.start)
        self._check_settings(program)
        program.batch = self.conventions.batch  # type: ignore[assignment]
        program.seed = self.conventions.seed
        spec = self.settings.get("optimizer", self.problem.optimizer)
        if spec is not None:
            hyper = {
                k: _number(v, k)
                for k, v in {**self.values, **self.settings}.items()
                if k in RULES["adam"].hyper or k in RULES["sgd"].hyper
            }
            spec = self._made_for(spec, model)
            give_rules(program, spec, model)
            if hyper and not program.groups:
                program.optimizer = optimizer(spec, **hyper)
            program.steps = _whole(self.settings.get("steps", self.values.get("steps", self.problem.steps)), "steps")
            if program.graph.loss is None:
                raise InputError("an update needs a loss: give loss=..., or a model whose output is one number")
        if self.conventions.arithmetic == "exact":
            from .trace import _exact_leaves

            program.exact = _exact_leaves(program.graph, program.start)
        return program

    def _made_for(self, spec: Any, model: Any) -> Any:
        """An optimizer, or what a function of the model makes: ``lambda model: torch.optim.SGD([...])``."""
        recipe = callable(spec) and not inspect.isclass(spec) and not isinstance(spec, functools.partial)
        return spec(model) if recipe and not hasattr(spec, "param_groups") else spec

    def _override_parameters(self, model: Any) -> None:
        """Set parameters that ``--set`` names, by their names in the module or as the reader writes them."""
        named = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
        for key, value in self.settings.items():
            name = next((n for n in named if key in (n, self.problem.symbols.get(n))), None)
            if name is not None and key not in self.values:
                given = read_quantity(value, f"'{key}'")
                if math.prod(given.shape) != named[name].numel():
                    raise InputError(
                        f"'{key}' has shape {list(named[name].shape)}, and the value given has {list(given.shape)}"
                    )
                with torch.no_grad():
                    named[name].copy_(torch.tensor(_floats(given), dtype=torch.float64).reshape(named[name].shape))

    def _override_inputs(self, model: Any, inputs: Any) -> Any:
        if not isinstance(inputs, Mapping):
            return inputs
        return {
            k: _like(self.settings[k], v, k) if k in self.settings and isinstance(v, Tensor) else v
            for k, v in inputs.items()
        }

    def _check_settings(self, program: Program) -> None:
        names = [n.name for n in program.graph.parameters] + [n.name for n in program.given]
        hyper = sorted({k for rule in RULES.values() for k in rule.hyper})
        known = [*self.values, *names, *self.problem.symbols.values(), "steps", "optimizer", *CONVENTIONS]
        refuse_unknown(
            self.settings,
            known + (hyper if self.problem.optimizer is not None or "optimizer" in self.settings else []),
        )

    def _aliases(self, graph: Graph) -> dict[str, str]:
        return {alias: name for name, alias in self.problem.symbols.items() if name in graph.by_name}

    def _answer_names(self, graph: Graph) -> dict[str, str]:
        return {name: alias for alias, name in self._aliases(graph).items()}


def alike(key: str, value: Any, default: Any) -> Any:
    """A setting of the same kind as its default; a number where a list stands is refused, and so on."""
    if value is default or default is None:
        return value
    if isinstance(default, bool) != isinstance(value, bool):
        raise InputError(f"the setting '{key}' must be like {default!r}, not {value!r}")
    if isinstance(default, (int, float, list)) and not isinstance(default, bool):
        given = read_quantity(value, f"the setting '{key}'")
        if isinstance(default, list) != bool(given.shape):
            raise InputError(
                f"the setting '{key}' must be {'a list of numbers' if isinstance(default, list) else 'a number'}, not {value!r}"
            )
        if isinstance(default, int) and not isinstance(given.value, int):
            raise InputError(f"the setting '{key}' must be a whole number, not {value!r}")
        return _unexact(given.value)
    return value


def _unexact(value: Any) -> Any:
    if isinstance(value, list):
        return [_unexact(v) for v in value]
    return value if isinstance(value, (int, float)) else float(value)


def _double(value: Any) -> Any:
    def change(x: Any) -> Any:
        return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x

    return torch.utils._pytree.tree_map(change, value)


def _double_module(value: Any) -> Any:
    """A loss that is a module (with class weights, say) in float64; the user's own is left alone."""
    return copy.deepcopy(value).double() if isinstance(value, nn.Module) else value


def _like(value: Any, tensor: Tensor, name: str) -> Tensor:
    given = read_quantity(value, f"'{name}'")
    return torch.tensor(_floats(given), dtype=tensor.dtype).reshape(given.shape)
