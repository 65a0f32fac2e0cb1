"""Several optimizers under one constant gradient, side by side: closed forms, what they depend on, their numbers."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from ...document.blocks import Block, Derivation, Equation, Paragraph, Plot, Section, Series, Table
from ...document.math import Expr, Num, Sym, Words
from ...errors import InputError
from ...notation import named
from ...optimizers import RULES, Optimizer
from ...optimizers import optimizer as find_optimizer
from ..answer import Answer
from ..verdicts import Evidence
from .constant import GRADIENT, LATEST, confirmed, numbers_at
from .page import chain, equations_of
from .recurrence import Closed, T, read, solve_recurrence, symbol_of, turned
from .study import quantity
from .sympy_math import formula_of

__all__ = ["constant_gradient"]

_RATES = ("momentum", "beta1", "beta2", "alpha", "rho", "dampening")
PLOTTED = 200


@dataclass(frozen=True)
class _Entry:
    """One optimizer of the comparison: its rule, its closed forms in the asked symbols, and the numbers behind them."""

    label: str
    rule: Optimizer
    closed: Closed
    symbols: dict[Any, str]


def constant_gradient(
    rules: Mapping[str, tuple[str, Mapping[str, Any]]],
    values: Mapping[str, Any],
    *,
    gradient: str = "c",
    t: str = "t",
) -> Answer:
    """Solve update rules under the same constant gradient, from w = 0.

    Args:
        rules: label -> (optimizer, {setting: name of a value, or a number}).
        values: name -> a number, or a name that stands for itself; the gradient is positive, t counts the updates made.
        gradient, t: which of the values are the gradient and the number of updates.

    Returns:
        An Answer with ``formulas`` and, under each label, the same with the given numbers put in; ``depends_on_c`` (with
        the gradient's own name), ``limits``, and the derivation, plots and evidence.

    Raises:
        InputError: a value is out of range, or is neither a number nor a name.

    Example:
        >>> import backproof as bp
        >>> found = bp.constant_gradient({"sgd": ("sgd", {"lr": "lr"})}, {"c": "c", "t": "t", "lr": 0.5})
        >>> found.answers["formulas"]["sgd"], found.answers["sgd"]
        ({'w': '-c*lr*t'}, {'w': '-c*t/2'})
    """
    settings = {name: s for _, own in rules.values() for s, name in own.items() if isinstance(name, str)}
    given = {k: _given(k, v, settings.get(k, ""), k == gradient, k == t) for k, v in values.items()}
    _distinct(given)
    entries = [_entry(label, name, own, given, gradient) for label, (name, own) in rules.items()]
    names = {e.label: {n: str(f.subs(_renamed(given, t))) for n, f in e.closed.forms.items()} for e in entries}
    answers: dict[str, Any] = {e.label: _put_in(e, given, gradient, t) for e in entries}
    answers["formulas"] = names
    answers[f"depends_on_{gradient}"] = {e.label: _dependence(e, gradient) for e in entries}
    answers["limits"] = {e.label: {n: str(v) for n, v in _limits(e).items()} for e in entries}
    evidence = tuple(row for e in entries for row in _evidence(e, given, gradient, t))
    sections = tuple(_section(e, given, gradient, t, answers[e.label]) for e in entries)
    blocks = (*sections, _dependence_section(entries, gradient, answers), *_plots(entries, given, gradient, t))
    derivation = tuple(eq for e in entries for eq in _equations(e, gradient, t))
    return Answer(answers, blocks, evidence, _remarks(entries, gradient), derivation)


# --- what is given ------------------------------------------------------------------------------------------------------------
def _given(name: str, value: Any, setting: str, is_gradient: bool, is_time: bool) -> Any:
    """A number in its range, or a symbol."""
    if isinstance(value, str) and _is_name(value):
        return sympy.Symbol(value, positive=True, integer=True) if is_time else sympy.Symbol(value, positive=True)
    number = quantity(name, value)
    if is_time and not (1 <= number <= LATEST and number == int(number)):
        raise InputError(
            f"{name} counts the updates that were made: a whole number from 1 to 10^15, not {value!r}. Before the first "
            "update nothing has moved, and a bias correction 1 - beta^0 = 0 would be divided by"
        )
    if is_time:
        return int(number)
    if is_gradient and not 0 < number < 1e100:
        raise InputError(f"the constant gradient {name} must be a positive number, not {value!r}")
    if setting in _RATES and not 0 <= number < 1:
        raise InputError(f"{name} must be at least 0 and below 1, not {value!r}: the past would never be forgotten")
    if not 0 <= number < 1e100:
        raise InputError(f"{name} must be a number from 0 on, not {value!r}")
    return number


def _is_name(text: str) -> bool:
    return (
        text.isascii() and text.isidentifier() and len(text) <= 20 and not keyword.iskeyword(text)
        and text.lower() not in ("pi", "e", "nan", "inf", "infinity", "true", "false")
    )  # fmt: skip


def _distinct(given: Mapping[str, Any]) -> None:
    """Two quantities must not be called by one name, nor one by another's."""
    names = [str(v) for v in given.values() if isinstance(v, sympy.Symbol)]
    if len(set(names)) < len(names):
        raise InputError(f"two quantities are given the same symbol: {', '.join(names)}; call them differently")


def _renamed(given: Mapping[str, Any], t: str) -> dict[Any, Any]:
    """Formulas are written with the names of the quantities."""
    return {T: sympy.Symbol(t)} if t != "t" else {}


# --- solving --------------------------------------------------------------------------------------------------------------------
def _entry(label: str, name: str, own: Mapping[str, Any], given: Mapping[str, Any], gradient: str) -> _Entry:
    symbols = {setting: value for setting, value in own.items() if isinstance(value, str)}
    fixed = {setting: value for setting, value in own.items() if not isinstance(value, str)}
    if unknown := [v for v in symbols.values() if v not in given]:
        raise InputError(f"{label} needs the value '{unknown[0]}'; given: {', '.join(given)}")
    stand_in = {s: given[v] if _positive(given[v]) else _stand_in(name, s) for s, v in symbols.items()}
    rule = find_optimizer(name, **{**fixed, **stand_in})
    numbers = {k: sympy.Rational(repr(float(v))) for k, v in rule.numbers().items()}
    hyper = {**numbers, **{s: symbol_of(v) for s, v in symbols.items()}}
    closed = solve_recurrence(rule, hyper, symbol_of(gradient), 0)
    return _Entry(label, rule, closed, {symbol_of(v): s for s, v in symbols.items()})


def _positive(value: Any) -> bool:
    return not isinstance(value, sympy.Symbol) and value > 0


def _stand_in(name: str, setting: str) -> float:
    """A number in the place of a symbol, so that the rule has its general equations."""
    default = RULES[name].hyper.get(setting, 0) if name in RULES else 0
    return float(default) or (0.9 if setting in _RATES else 1.0)


def _numbers(entry: _Entry, given: Mapping[str, Any], gradient: str) -> dict[Any, Any]:
    return {**{s: given[s.name] for s in entry.symbols}, symbol_of(gradient): given[gradient]}


def _put_in(entry: _Entry, given: Mapping[str, Any], gradient: str, t: str) -> dict[str, Any]:
    """The closed forms with what is given as numbers put in: numbers where nothing is left open."""
    values = _numbers(entry, given, gradient)
    if not any(isinstance(v, sympy.Symbol) for v in (*values.values(), given[t])):
        return dict(numbers_at(entry.closed, _with(entry, given), {**values, GRADIENT: given[gradient]}, given[t]))
    exact = {s: sympy.Rational(repr(v)) if isinstance(v, float) else v for s, v in values.items()}
    return {n: str(_filled(f, exact, given[t])) for n, f in entry.closed.forms.items()}


def _filled(form: Any, exact: Mapping[Any, Any], time: Any) -> Any:
    """Numbers put in; past a thousand updates in floating point, because an exact power would fill pages."""
    if isinstance(time, int) and time > 1000:
        return form.subs({s: sympy.Float(v, 17) if v.is_number else v for s, v in exact.items()}).subs(T, time)
    return form.subs(exact).subs(T, time)


def _with(entry: _Entry, given: Mapping[str, Any]) -> Optimizer:
    """The rule with the numbers given, for updates made one by one."""
    hyper = {**entry.rule.hyper, **{s: given[v.name] for v, s in entry.symbols.items()}}
    return Optimizer(entry.rule.rule, hyper)


# --- what it depends on ---------------------------------------------------------------------------------------------------------
_POWERS = {0: "independent of {}", 1: "linear in {}", 2: "quadratic in {}", -1: "inverse to {}"}


def _dependence(entry: _Entry, gradient: str) -> dict[str, str]:
    """How each quantity grows with the gradient: f(k c) / f(c) = k^p, with p computed."""
    c, k = symbol_of(gradient), sympy.Symbol("k_", positive=True)
    found = {}
    for name, form in entry.closed.forms.items():
        ratio = sympy.simplify(form.doit().subs(c, k * c) / form.doit()) if form != 0 else sympy.Integer(1)
        power = sympy.simplify(sympy.diff(ratio, k) * k / ratio)
        plain = power.is_Integer and sympy.simplify(ratio - k**power) == 0
        text = (
            _POWERS.get(int(power), f"proportional to {{}}^{power}")
            if plain
            else "neither a power of {} nor independent"
        )
        found[name] = text.format(gradient)
    return found


def _limits(entry: _Entry) -> dict[str, Any]:
    """Where the state tends for t to infinity, all rates below 1."""
    found = {}
    for name in entry.rule.state:
        if name in entry.closed.forms:
            late = entry.closed.forms[name].replace(lambda e: e.is_Pow and e.exp.has(T), lambda e: sympy.Integer(0))
            found[name] = sympy.oo if late.has(T) else turned(sympy.simplify(late))
    return found


def _remarks(entries: Sequence[_Entry], gradient: str) -> tuple[str, ...]:
    """Which equations would divide by zero before the first update, and which averages are none."""
    return (*_divisions(entries), *(r for e in entries for r in _no_averages(e, gradient)))


def _no_averages(entry: _Entry, gradient: str) -> Iterator[str]:
    """The states that are proportional to the gradient and do not tend to it: sums of the past, not means of it."""
    c = symbol_of(gradient)
    for name, limit in _limits(entry).items():
        share = sympy.simplify(limit / c)
        if share.is_finite is False or share.has(c) or share == 1 or share == 0:
            continue
        missing = turned(sympy.simplify(1 / share))
        yield (
            f"{entry.label}: {name} is no average of the gradients. The mean of a constant gradient {gradient} is {gradient}; this "
            f"{name} tends to {limit}. An exponential moving average has the factor {missing} before the new gradient."
        )


def _divisions(entries: Sequence[_Entry]) -> tuple[str, ...]:
    broken = {e.label: _broken_at_zero(e.rule) for e in entries}
    return tuple(
        f"{label}: the equations of {' and '.join(names)} would divide by 1 - 1 = 0 at t = 0, so t is counted from 1."
        for label, names in broken.items()
        if names
    )


def _broken_at_zero(rule: Optimizer) -> list[str]:
    """The named steps of a rule that divide by something that is 0 at t = 0."""
    graph = rule.graph((), 2)
    leaves = {n.name: sympy.Symbol(f"{n.name}_", positive=True) for n in graph.nodes if n.is_leaf and _letters(n.name)}
    values = read(graph, {**leaves, "t": T})
    return [
        n.name
        for n in graph.nodes
        if n.op.name == "div" and n.role == "value" and sympy.simplify(values[n.inputs[1]].subs(T, 0)) == 0
    ]


def _letters(name: str) -> bool:
    return name[:1].isalpha()


# --- evidence -------------------------------------------------------------------------------------------------------------------
def _evidence(entry: _Entry, given: Mapping[str, Any], gradient: str, t: str) -> tuple[Evidence, ...]:
    """The closed forms at the given numbers (at others where a symbol is open), exactly and against torch.optim."""
    from dataclasses import replace

    settings = {s: sympy.Symbol(s, positive=True) for s in entry.symbols.values()}
    own = {v: settings[s] for v, s in entry.symbols.items()} | {symbol_of(gradient): GRADIENT}
    open_ = any(isinstance(given[v.name], sympy.Symbol) for v in entry.symbols)
    rule = entry.rule if open_ else _with(entry, given)
    forms = {n: f.subs(own, simultaneous=True) for n, f in entry.closed.forms.items()}
    rows = confirmed(rule, replace(entry.closed, forms=forms), entry.label, start=0)
    time = given[t]
    if isinstance(time, int) and time <= 300 and not open_ and not isinstance(given[gradient], sympy.Symbol):
        rows += confirmed(rule, replace(entry.closed, forms=forms), entry.label, time, given[gradient], 0)[-1:]
    return rows


# --- the page -------------------------------------------------------------------------------------------------------------------
def _symbol(name: str) -> Expr:
    return {"lr": Sym("eta")}.get(name) or named(name)


def _shown(entry: _Entry, gradient: str) -> dict[str, Expr]:
    return {v.name: _symbol(v.name) for v in entry.symbols} | {gradient: named(gradient)}


def _at(name: str, time: str) -> Expr:
    own = named(name)
    return Sym(own.name, (*own.sub, time), own.sup, own.accent)


def _equations(entry: _Entry, gradient: str, t: str) -> tuple[Equation, ...]:
    shown = _shown(entry, gradient)
    return tuple(
        Equation(_at(n, t), tuple(formula_of(x, shown) for x in chain(entry.closed, n)), entry.closed.how[n])
        for n in entry.closed.forms
    )


def _section(entry: _Entry, given: Mapping[str, Any], gradient: str, t: str, found: Mapping[str, Any]) -> Section:
    source = Paragraph((f"{entry.rule.rule.source} The gradient is {gradient} in every update, w starts at 0.",))
    rule = Derivation(equations_of(entry.rule, {s: _symbol(v.name) for v, s in entry.symbols.items()}))
    blocks: list[Block] = [
        source,
        rule,
        Paragraph(("Solved, after t updates:",)),
        Derivation(_equations(entry, gradient, t)),
    ]
    if entry.closed.unsolved:
        blocks.append(Paragraph((f"No closed form was found for {', '.join(entry.closed.unsolved)}.",)))
    if numbers := {n: v for n, v in found.items() if isinstance(v, float)}:
        put = {
            **{v.name: _num(given[v.name]) for v in entry.symbols},
            gradient: _num(given[gradient]),
            "t": Num(given[t]),
        }
        rows = tuple(
            Equation(_at(n, str(given[t])), (formula_of(entry.closed.forms[n], put), Num(v)))
            if n in entry.closed.forms
            else Equation(_at(n, str(given[t])), (Num(v),))
            for n, v in numbers.items()
        )
        blocks += [Paragraph(("With the numbers put in:",)), Derivation(rows)]
    return Section(f"{entry.label} under a constant gradient", tuple(blocks), "update", f"path-{entry.label}")


def _num(value: Any) -> Expr:
    return Num(float(value), None if isinstance(value, (int, float)) else str(value))


def _dependence_section(entries: Sequence[_Entry], gradient: str, answers: Mapping[str, Any]) -> Section:
    rows: list[Any] = []
    for e in entries:
        limits = _limits(e)
        for name, text in answers[f"depends_on_{gradient}"][e.label].items():
            limit = (
                formula_of(limits[name], _shown(e, gradient)) if name in limits and limits[name] != sympy.oo else None
            )
            rows.append((e.label, _at(name, "t"), text, limit))
    head = (("optimizer",), ("quantity",), ("dependence",), ("tends to",))
    text = Paragraph(
        (f"Each closed form with k {gradient} in place of {gradient}, divided by itself, is a power of k:",)
    )
    return Section(f"How they depend on {gradient}", (text, Table(head, tuple(rows))), "result", "dependence")


def _plots(entries: Sequence[_Entry], given: Mapping[str, Any], gradient: str, t: str) -> tuple[Block, ...]:
    """Each quantity over the updates, with the numbers given and stand-ins for the others."""
    blocks: list[Block] = []
    last = given[t] if isinstance(given[t], int) and 2 <= given[t] <= PLOTTED else 50
    times = sorted({max(1, round(last * i / 40)) for i in range(41)})
    for e in entries:
        values = {v: _stand(given[v.name], float(e.rule.hyper[s])) for v, s in e.symbols.items()}
        values |= {symbol_of(gradient): _stand(given[gradient], 1.0)}
        rule = Optimizer(e.rule.rule, {**e.rule.hyper, **{s: values[v] for v, s in e.symbols.items()}})
        found = [numbers_at(e.closed, rule, {**values, GRADIENT: values[symbol_of(gradient)]}, k) for k in times]
        at = ", ".join(f"{v.name} = {float(x):g}" for v, x in values.items())
        for group in (tuple(n for n in found[0] if n != "w"), ("w",)):
            if group:
                series = tuple(Series(n, tuple(map(float, times)), tuple(f[n] for f in found)) for n in group)
                alt = f"{', '.join(group)} of {e.label} over {last} updates"
                blocks.append(Plot(series, "updates t", "", (Words(e.label), f": {at}"), alt))
    return (Section("Over time", tuple(blocks), "result", "over-time"),)


def _stand(value: Any, otherwise: float) -> Any:
    return otherwise if isinstance(value, sympy.Symbol) else value
