"""``bp.optimizer``: what an update rule does, what it keeps, how it moves under a constant gradient, when it is stable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy
import torch

from ...document.blocks import Block, Callout, Derivation, Document, Equation, Paragraph, Plot, Section, Series, Table
from ...document.math import Expr, Num, Sym, Words
from ...domains.symbols import Writer
from ...errors import FormulaError, InputError
from ...formula import read_quantity
from ...notation import named
from ...optimizers import RULES, Optimizer
from ...optimizers import optimizer as find_optimizer
from ...optimizers.witness import torch_class, torch_settings
from ...result import Result, plain, written
from ..verdicts import Evidence, summary
from ..writing.updates import HYPER, known_symbols
from ..writing.worked import evidence_section
from .constant import GRADIENT, LATEST, START, closed_forms, confirmed, numbers_at
from .kept import Kept, classes, measured
from .recurrence import Closed, T, symbol_of
from .stability import Stability, stability
from .sympy_math import formula_of

__all__ = ["Compared", "OptimizerStudy", "chain", "equations_of", "optimizer", "path_section", "quantity"]

SHOWN: Mapping[str, Expr] = {**HYPER, "g": Sym("g"), "w0": Sym("w", ("0",)), "L": Sym("L")}


def optimizer(spec: Any, **hyper: Any) -> OptimizerStudy:
    """Study an optimizer: its equations, its state, its path under a constant gradient, its stability limit.

    Args:
        spec: a torch.optim class, an instance, (class, settings), or a name such as "adam".
        **hyper: hyper-parameters that are not the defaults.

    Returns:
        An :class:`OptimizerStudy`. Optimizers without a rule of formulas here (LBFGS, Muon, your own class) have their
        state measured and nothing else.

    Raises:
        InputError: it is no optimizer, or a setting is unknown or out of range.

    Example:
        >>> import backproof as bp
        >>> adam = bp.optimizer("adam", lr=0.1, eps=0)
        >>> adam.state
        {'m': 4, 'v': 4}
        >>> adam.under_constant_gradient(3.0, 10)["w"]
        -1.0
        >>> bp.optimizer("sgd", lr=0.1, momentum=0.9).stability_limit()
        38.0
    """
    kind = _foreign(spec)
    if kind is not None:
        return OptimizerStudy(kind.__name__.lower(), None, kind, dict(hyper))
    rule = find_optimizer(spec, **{k: _setting(k, v) for k, v in hyper.items()})
    try:
        kind = torch_class(rule.rule.name)
    except KeyError:
        kind = None
    return OptimizerStudy(rule.rule.name, rule, kind, dict(rule.hyper))


def _foreign(spec: Any) -> Any:
    """The class of an optimizer for which there is no rule here."""
    if isinstance(spec, str):
        return classes().get(spec.lower()) if spec.lower() not in RULES else None
    kind = spec if isinstance(spec, type) else type(spec)
    if not issubclass(kind, torch.optim.Optimizer):
        return None
    own = kind.__module__.startswith("torch.optim") and kind.__name__.lower() in RULES
    return None if own else kind


def _setting(name: str, value: Any) -> Any:
    if isinstance(value, (bool, tuple, list)) or value is None:
        return value
    return quantity(name, value)


def quantity(name: str, value: Any) -> Any:
    """A number as given, or the exact number that a text such as "9/10" means."""
    if isinstance(value, sympy.Basic) and value.is_number:
        return value
    try:
        given = read_quantity(value, f"'{name}'")
    except FormulaError as error:
        raise InputError(str(error)) from None
    if given.shape:
        raise InputError(f"'{name}' is one number, not {value!r}")
    return given.value


@dataclass(frozen=True)
class OptimizerStudy(Result):
    """What is known about an optimizer; see :func:`optimizer`.

    Args:
        name: its name in lower case.
        rule: its formulas with the settings; None where there are none here.
        kind: the class of torch.optim (or the user's own), for measuring.
        hyper: the settings.
    """

    name: str
    rule: Optimizer | None
    kind: Any
    hyper: dict[str, Any]
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    # --- what it keeps ------------------------------------------------------------------------------------------------------
    @cached_property
    def kept(self) -> Kept | None:
        """What torch's class was measured to keep; None where there is no class to measure."""
        return self._measured(torch.float32)

    def _measured(self, dtype: torch.dtype) -> Kept | None:
        if self.kind is None:
            return None
        settings = torch_settings(self.rule.rule, self.hyper) if self.rule else self.hyper
        return measured(self.kind, settings, dtype)

    @property
    def state(self) -> dict[str, float]:
        """Name -> bytes per parameter in float32."""
        return self.state_for(torch.float32)

    def state_for(self, dtype: Any) -> dict[str, float]:
        """Name -> bytes per parameter for parameters of a dtype; torch keeps its state in the parameter's own dtype."""
        kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
            raise InputError(f"{dtype!r} is not a floating-point dtype; give one as torch.bfloat16 or 'bfloat16'")
        if self.rule is not None:
            return dict.fromkeys(self.rule.per_parameter, kind.itemsize)
        found = self._measured(kind)
        assert found is not None
        return found.bytes

    @property
    def values(self) -> float:
        """The numbers kept per parameter."""
        if self.rule is not None:
            return len(self.rule.per_parameter)
        assert self.kept is not None
        return self.kept.total

    @property
    def scalars(self) -> dict[str, int]:
        """Name -> bytes per tensor of what torch keeps once per tensor; 0 for a Python number."""
        return self.kept.scalars if self.kept is not None else {}

    # --- what it does ---------------------------------------------------------------------------------------------------------
    @property
    def equations(self) -> tuple[Equation, ...]:
        """The update's equations (those of a late update); empty without formulas."""
        return () if self.rule is None else equations_of(self.rule)

    @cached_property
    def closed(self) -> Closed:
        """The closed forms under a constant gradient g, solved from the equations."""
        return closed_forms(self._formulas("closed forms"))

    def _formulas(self, what: str) -> Optimizer:
        if self.rule is None:
            raise InputError(f"there are no formulas of {self.name} here, so it has no {what}; its state is measured")
        return self.rule

    def under_constant_gradient(self, g: Any, t: Any, w0: Any = 0) -> dict[str, Any]:
        """Every quantity after ``t`` updates with the same gradient ``g``.

        Args:
            g: the gradient, a number or a symbol (a SymPy symbol or a name such as "c", taken as positive).
            t: the number of updates, a whole number from 1 on, or a symbol.
            w0: the parameter at the start.

        Returns:
            "w", the state and the steps between: numbers where all is given, else SymPy formulas with the settings'
            numbers put in. What has no closed form is computed step by step, and left out where t is a symbol.
        """
        rule = self._formulas("closed forms")
        values = {symbol_of(k): v for k, v in _numbers(rule).items()}
        given = {GRADIENT: _argument("g", g), START: _argument("w0", w0)}
        time = _time(t)
        if isinstance(time, int) and not any(v.free_symbols for v in map(sympy.sympify, given.values())):
            if given[GRADIENT] == 0:
                raise InputError("the gradient is 0: a constant gradient other than 0 is studied")
            return dict(numbers_at(self.closed, rule, {**values, **given}, time))
        exact = {s: sympy.Rational(repr(v)) if isinstance(v, float) else v for s, v in {**values, **given}.items()}
        forms = {n: f.subs(exact).subs(T, time) for n, f in self.closed.forms.items()}
        return {n: sympy.simplify(f) if not f.has(sympy.Sum) else f for n, f in forms.items()}

    @cached_property
    def stability(self) -> Stability:
        """The stability limit with its formula."""
        return stability(self._formulas("stability limit"))

    def stability_limit(self) -> float:
        """The largest curvature of a quadratic on which it converges (for adaptive rules, of the preconditioned one)."""
        return self.stability.value

    def compare(self, other: Any, **hyper: Any) -> Compared:
        """This optimizer beside another one."""
        return Compared(self, other if isinstance(other, OptimizerStudy) else optimizer(other, **hyper))

    # --- evidence -------------------------------------------------------------------------------------------------------------
    @cached_property
    def evidence(self) -> tuple[Evidence, ...]:
        """The closed forms and the state, each confirmed."""
        if self.rule is None:
            return ()
        found = list(confirmed(self.rule, self.closed, self.name)) if self.kind is not None else []
        if self.kept is not None:
            ours, theirs = sum(self.state.values()), sum(self.kept.bytes.values())
            names = {self.rule.rule.kept.get(s, s) for s in self.rule.per_parameter}
            same = ours == theirs and names == set(self.kept.bytes)
            what = f"bytes that {self.name} keeps per parameter"
            found.append(Evidence(what, "measured: one step of torch.optim's class", same, abs(ours - theirs), 1, 1))
        return tuple(found)

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether two ways to a number disagree."""
        return any(e.agrees is False for e in self.evidence)

    # --- shown ------------------------------------------------------------------------------------------------------------------
    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """Equations, state, closed forms, stability limit and evidence as plain data."""
        record: dict[str, Any] = {
            "optimizer": self.name,
            "settings": {k: v if isinstance(v, (bool, int, float)) else str(v) for k, v in self.hyper.items()},
            "state": self.state,
            "state_values": self.values,
            "scalars": self.scalars,
            "state_is": "declared by its formulas, measured from torch" if self.rule else "measured from torch",
        }
        if self.rule is not None:
            record |= {
                "equations": [{"name": written(e.left)[0], "formula": written(e.steps[0])[1]} for e in self.equations],
                "under_constant_gradient": {n: str(f) for n, f in self.closed.forms.items()},
                "no_closed_form": list(self.closed.unsolved),
                "stability_limit": self.limit(),
            }
        found: dict[str, Any] = plain({**record, "evidence": [e.to_dict() for e in self.evidence]}, full)
        return found

    def limit(self) -> float | None:
        """The stability limit, or None where there is none of this kind."""
        if self.rule is None:
            return None
        try:
            return self.stability.value
        except InputError:
            return None

    def document(self) -> Document:
        """The study as a page."""
        blocks: list[Block] = []
        if self.rule is not None:
            source = self.rule.rule.source
            blocks.append(Section("The rule", (Paragraph((source,)), Derivation(self.equations)), "update", "rule"))
        blocks.append(self._state_section())
        if self.rule is not None:
            blocks += [path_section(self), *self._stability_section()]
        if self.evidence:
            blocks.append(evidence_section(self.evidence))
        verdict = summary(self.evidence) if self.evidence else "the state is measured; there are no formulas here"
        standing = "finding" if self.finding else "agrees" if self.evidence else ""
        title = f"The optimizer {self.rule.described() if self.rule else self.name}"
        return Document(title, tuple(blocks), "", verdict, standing, self.to_dict())  # type: ignore[arg-type]

    def _state_section(self) -> Section:
        theirs = self.rule.rule.kept if self.rule else {}
        half = self.state_for(torch.bfloat16)
        rows = tuple(
            (named(n), theirs.get(n, n), Num(b), Num(half[n]) if n in half else None) for n, b in self.state.items()
        )
        table = Table((("state",), ("in torch",), ("bytes, float32",), ("bytes, bfloat16",)), rows, "", (2, 3))
        how = (
            f"{self.values:g} numbers per parameter, {sum(self.state.values()):g} bytes in float32. torch keeps them in "
            "the parameter's own dtype."
        )
        once = ", ".join(self.scalars)
        text = how + (f" Once per tensor: {once}." if once else "")
        measured = () if self.rule else (Callout("note", ("There are no formulas of it here: this is measured.",)),)
        return Section("What it keeps", (Paragraph((text,)), *((table,) if rows else ()), *measured), "given", "state")

    def _stability_section(self) -> tuple[Block, ...]:
        try:
            limit = self.stability
        except InputError:
            return ()
        if not 0 < limit.value < math.inf:
            return ()
        of = "of the preconditioned quadratic" if limit.preconditioned else "of a quadratic"
        text = Paragraph(
            (
                f"The largest curvature {of} on which it converges: there an eigenvalue of one update's matrix reaches "
                f"{limit.where}.",
            )
        )
        row = Equation(Sym("L", ("max",)), (formula_of(limit.formula, SHOWN), Num(limit.value)))
        return (Section("When it is stable", (text, Derivation((row,))), "result", "stability"),)


def equations_of(rule: Optimizer, symbols: Mapping[str, Expr] | None = None) -> tuple[Equation, ...]:
    """The equations of an update, with the settings and the gradient written as asked."""
    graph = rule.graph((), 1000)
    scribe = Writer(graph, known={**known_symbols(graph), "g": Sym("g"), **(symbols or {})})
    return tuple(Equation(scribe.symbol(n), (scribe.matrix(n),)) for n in graph.nodes if n.role == "value")


def _numbers(rule: Optimizer) -> dict[str, Any]:
    return {k: v for k, v in rule.hyper.items() if not isinstance(v, bool) and v}


def _argument(name: str, value: Any) -> Any:
    """A number, or a positive symbol."""
    if isinstance(value, sympy.Basic) and value.free_symbols:
        return value
    if isinstance(value, str) and value.isidentifier() and value not in ("pi", "e", "nan", "inf"):
        return sympy.Symbol(value, positive=True)
    return quantity(name, value)


def _time(t: Any) -> Any:
    """The number of updates as an int, or a symbol."""
    if isinstance(t, (str, sympy.Symbol)) and str(t).isidentifier():
        return T if str(t) == "t" else sympy.Symbol(str(t), integer=True, positive=True)
    number = quantity("t", t)
    if not (1 <= number <= LATEST and number == int(number)):
        raise InputError(f"t is a number of updates, a whole number from 1 to 10^15, not {t}")
    return int(number)


def path_section(study: OptimizerStudy) -> Section:
    """The closed forms under a constant gradient, with how each was found, and a plot."""
    closed = study.closed
    text = Paragraph(("The gradient is the same number ", Sym("g"), " in every update, and t counts the updates made."))
    rows = tuple(
        Equation(_at_time(n), tuple(formula_of(x, SHOWN) for x in chain(closed, n)), closed.how[n])
        for n in closed.forms
    )
    blocks: list[Block] = [text, Derivation(rows)]
    if closed.unsolved:
        names = ", ".join(closed.unsolved)
        blocks.append(Callout("note", (f"No closed form was found for {names}; the plot makes the updates.",)))
    blocks.append(_path_plot(study))
    return Section("Under a constant gradient", tuple(blocks), "update", "constant-gradient")


def chain(closed: Closed, name: str) -> tuple[Any, ...]:
    """The sum behind a closed form, where there is one, and the form."""
    return (*([closed.sums[name]] if name in closed.sums else []), closed.forms[name])


def _at_time(name: str) -> Expr:
    own = named(name)
    return Sym(own.name, own.sub if "t" in own.sub else (*own.sub, "t"), own.sup, own.accent)


def _path_plot(study: OptimizerStudy) -> Plot:
    times = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50)
    found = [study.under_constant_gradient(1, t) for t in times]
    names = [n for n in ("w", *(study.rule.state if study.rule else ())) if n in found[0]]
    series = tuple(Series(n, tuple(map(float, times)), tuple(f[n] for f in found)) for n in names)
    return Plot(series, "updates t", "", (Words("g = 1"),), f"{', '.join(names)} over 50 updates with gradient 1")


@dataclass(frozen=True)
class Compared(Result):
    """Two optimizers side by side."""

    one: OptimizerStudy
    two: OptimizerStudy

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether anything disagrees in either study."""
        return self.one.finding or self.two.finding

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """Both records, and where they differ."""
        return {"one": self.one.to_dict(full), "two": self.two.to_dict(full), "differs": self.differs()}

    def differs(self) -> list[str]:
        """What differs: the equations, the numbers kept, the stability limit."""
        a, b = self.one, self.two
        found = []
        if [written(e.left)[0] + written(e.steps[0])[0] for e in a.equations] != [
            written(e.left)[0] + written(e.steps[0])[0] for e in b.equations
        ]:
            found.append("equations")
        found += ["state"] if a.state != b.state else []
        return found + (["stability_limit"] if a.limit() != b.limit() else [])

    def document(self) -> Document:
        """A table, then both rules and both paths."""
        rows = (
            ("numbers per parameter", Num(self.one.values), Num(self.two.values)),
            ("bytes per parameter, float32", Num(sum(self.one.state.values())), Num(sum(self.two.state.values()))),
            *self._limits(),
        )
        names = (self.one.name, self.two.name)
        table = Table((("",), (names[0],), (names[1],)), rows, "", (1, 2))
        rules = tuple(
            Section(f"The rule of {s.name}", (Derivation(s.equations),), "update")
            for s in (self.one, self.two)
            if s.rule
        )
        paths = tuple(path_section(s) for s in (self.one, self.two) if s.rule)
        evidence = (*self.one.evidence, *self.two.evidence)
        blocks = (table, *rules, *paths, *((evidence_section(evidence),) if evidence else ()))
        verdict = summary(evidence) if evidence else ""
        return Document(f"{names[0]} and {names[1]}", blocks, "", verdict, "", self.to_dict())

    def _limits(self) -> tuple[Any, ...]:
        pair = [s.limit() for s in (self.one, self.two)]
        cells = [Num(v) if isinstance(v, float) and math.isfinite(v) else "none" for v in pair]
        return (("stability limit of the curvature", *cells),)
