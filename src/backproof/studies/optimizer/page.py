"""The page of an optimizer's study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import sympy
import torch

from ...document.blocks import Block, Callout, Derivation, Document, Equation, Paragraph, Plot, Section, Series, Table
from ...document.math import Add, Expr, Neg, Num, Rel, Sym, Words
from ...domains.symbols import Writer
from ...errors import InputError
from ...notation import named
from ...optimizers import Optimizer
from ..verdicts import summary
from ..writing.updates import HYPER, known_symbols
from ..writing.worked import evidence_section
from .bounded import Bounded
from .recurrence import Closed, T, symbol_of
from .stability import Stability
from .sympy_math import formula_of

if TYPE_CHECKING:
    from .study import OptimizerStudy

__all__ = ["chain", "document_of", "equations_of", "path_section"]

SHOWN: Mapping[str, Expr] = {**HYPER, "g": Sym("g"), "w0": Sym("w", ("0",)), "L": Sym("L")}


def document_of(study: OptimizerStudy) -> Document:
    """The study as a page."""
    rule = study.rule
    blocks: list[Block] = []
    if rule is not None:
        blocks.append(_rule_section(study, rule))
    blocks.append(_state_section(study))
    if rule is not None:
        blocks += [path_section(study)] if study.closable else []
        if study.scalable:
            blocks.append(
                Section("When the gradient is larger or smaller", (Paragraph((str(study.scale),)),), "result", "scale")
            )
        blocks += _stability_section(study)
    else:
        blocks += study.fitted.blocks()
    if study.evidence:
        blocks.append(evidence_section(study.evidence))
    verdict = summary(study.evidence) if study.evidence else f"its rule is {study.fitted.says}" if rule is None else ""
    standing = "finding" if study.finding else "agrees" if study.evidence else ""
    title = f"The optimizer {rule.described() if rule else study.name}"
    return Document(title, tuple(blocks), "", verdict, standing, study.to_dict())  # type: ignore[arg-type]


def _rule_section(study: OptimizerStudy, rule: Optimizer) -> Section:
    blocks: list[Block] = [Paragraph((rule.rule.source,)), Derivation(equations_of(rule))]
    if study.variants:
        own = rule.rule.name.partition("/")[2] or "torch"
        others = ", ".join(v for v in ("torch", *study.variants) if v != own)
        blocks.append(Paragraph((f'This is the variant "{own}". Others under the same name: {others}.',)))
    if rule.rule.asks:
        blocks += _two_loops()
    return Section("The rule", tuple(blocks), "update", "rule")


def _two_loops() -> Iterable[Block]:
    """The direction of L-BFGS from two pairs, as the later steps have it."""
    from .quasi_newton import direction_graph

    graph = direction_graph(2, 3)
    scribe = Writer(graph, known={n.name: named(n.name) for n in graph.nodes if n.is_leaf and n.role != "constant"})
    equations = tuple(Equation(scribe.symbol(n), (scribe.matrix(n),)) for n in graph.nodes if n.role == "value")
    yield Paragraph(
        ("Later steps go along d from the last pairs s (steps) and y (changes of the gradient); with two pairs:",)
    )
    yield Derivation(equations)


def _state_section(study: OptimizerStudy) -> Section:
    theirs = study.rule.rule.kept if study.rule else {}
    half = study.state_for(torch.bfloat16)
    rows = tuple(
        (named(n), theirs.get(n, n), Num(b), Num(half[n]) if n in half else None) for n, b in study.state.items()
    )
    table = Table((("state",), ("in torch",), ("bytes, float32",), ("bytes, bfloat16",)), rows, "", (2, 3))
    whole = study.rule is not None and study.rule.rule.whole
    how = (
        f"{study.values:g} {'number' if study.values == 1 else 'numbers'} per parameter, {sum(study.state.values()):g} bytes in float32"
        + (" for a matrix of 256 x 128. " if whole else ". ")
        + ("torch keeps them in the parameter's own dtype." if study.rule and study.values else "")
    ).strip()
    once = ", ".join(study.scalars)
    text = how + (f" Once per tensor: {once}." if once else "")
    measured = () if study.rule else (Callout("note", ("There are no formulas of it here: this is measured.",)),)
    return Section("What it keeps", (Paragraph((text,)), *((table,) if rows else ()), *measured), "given", "state")


def _stability_section(study: OptimizerStudy) -> tuple[Block, ...]:
    try:
        limit = study.stability
    except InputError:
        return ()
    if limit.measured is not None:
        return (Section("When it is stable", tuple(_measured(limit.measured)), "result", "stability"),)
    if not 0 < limit.value < math.inf:
        never = "no curvature makes it diverge" if limit.value else "it converges for no curvature"
        return (Section("When it is stable", (Paragraph((f"On a quadratic {never}.",)),), "result", "stability"),)
    of = "of the preconditioned quadratic" if limit.preconditioned else "of a quadratic"
    text = Paragraph(
        (
            f"The largest curvature {of} on which it converges: there an eigenvalue of one update's matrix reaches "
            f"{limit.where}.",
        )
    )
    row = Equation(Sym("L", ("max",)), (formula_of(limit.formula, SHOWN), Num(limit.value)))
    return (
        Section(
            "When it is stable",
            (text, Derivation((row,)), *_later(study, limit), *_convergence(study, limit.value)),
            "result",
            "stability",
        ),
    )


def _measured(found: Bounded) -> Iterable[Block]:
    """A rule without a limit of the curvature: what torch.optim did on quadratics."""
    yield Paragraph((found.says,))
    rows = tuple((Num(r.curvature), _size(r.largest), _size(r.late)) for r in found.runs)
    head = (("curvature L",), ("largest entry of w",), ("in the last tenth of the updates",))
    yield Table(
        head, rows, f"torch.optim on the quadratic L |w|²/2, {found.updates} updates, lr {found.lr:g}", (0, 1, 2)
    )


def _size(value: float) -> Expr | str:
    return Num(value) if math.isfinite(value) else "overflows"


def _later(study: OptimizerStudy, limit: Stability) -> Iterable[Block]:
    """For a learning rate that shrinks by itself: the limit at a later update, with that rate put in."""
    rates = study.rule.rule.rates if study.rule else ()
    if not rates or rates[0] not in study.closed.forms:
        return
    here = sympy.simplify(limit.formula.subs(symbol_of("lr"), study.closed.forms[rates[0]].subs(T, T - 1)))
    yield Paragraph(
        ("That is the limit at the first update. The rate shrinks by itself: at a larger curvature w grows at first, until the limit, "
         "which at update t is",)
    )  # fmt: skip
    yield Derivation((Equation(Sym("L", ("max,t",)), (formula_of(here, SHOWN),)),))


def _convergence(study: OptimizerStudy, limit: float) -> Iterable[Block]:
    """How fast, and with what noise left, at curvatures below the limit."""
    shares = (0.001, 0.01, 0.1, 0.5, 0.9)
    rows = []
    for share in shares:
        rate, floor = study.rate(share * limit), study.noise_floor(share * limit)
        rows.append((Num(share * limit), Num(rate), _digit(rate), Num(floor)))
    head = (("curvature L",), ("factor of an update",), ("updates for a digit",), ("noise floor",))
    caption = (
        "What an update multiplies the distance to the minimum by in the long run, how many updates that takes for one decimal digit, "
        "and the variance of w that gradient noise of variance 1 leaves"
    )
    yield Table(head, tuple(rows), caption, (0, 1, 2, 3))
    formula = study.linear.floor_formula()
    if formula is not None:
        yield Derivation((Equation(Sym("V"), (formula_of(formula, SHOWN),), "the variance of w in the long run"),))


def _digit(rate: float) -> Expr | str:
    """The updates that bring the distance down to a tenth."""
    if rate < 1e-6:
        return "at once"
    return Num(math.log(10) / -math.log(rate)) if rate < 1 else "never"


def equations_of(rule: Optimizer, symbols: Mapping[str, Expr] | None = None) -> tuple[Equation, ...]:
    """The equations of an update, with the settings and the gradient written as asked."""
    graph = rule.graph(rule.plain_shape, 1000)
    scribe = Writer(graph, known={**known_symbols(graph), "g": Sym("g"), **(symbols or {})})
    return tuple(Equation(scribe.symbol(n), (scribe.matrix(n),)) for n in graph.nodes if n.role == "value")


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
        why = f"No closed form was found for {names}: a new value is no linear function of the old one. The plot makes the updates."
        blocks.append(Callout("note", (why,)))
    blocks += _long_run(study)
    blocks.append(_path_plot(study))
    return Section("Under a constant gradient", tuple(blocks), "update", "constant-gradient")


def _long_run(study: OptimizerStudy) -> Iterable[Block]:
    """Where w tends, or how far it still moves in each update."""
    late = study.late
    if late is None:
        return
    if late.rest is not None:
        yield Paragraph(("In the long run w comes to rest at",))
        yield Derivation((Equation(Sym("w", ("∞",)), (formula_of(late.rest, SHOWN),)),))
    else:
        yield Paragraph(("In the long run an update moves w by",))
        change = Add((_at_time("w"), Neg(Sym("w", ("t-1",)))))
        yield Derivation((Equation(Rel("approx", change, formula_of(late.step, SHOWN)), ()),))


def chain(closed: Closed, name: str) -> tuple[Any, ...]:
    """The sum behind a closed form, where there is one, and the form."""
    return (*([closed.sums[name]] if name in closed.sums else []), closed.written(name))


def _at_time(name: str) -> Expr:
    own = named(name)
    return Sym(own.name, own.sub if "t" in own.sub else (*own.sub, "t"), own.sup, own.accent)


def _path_plot(study: OptimizerStudy) -> Plot:
    times = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50)
    found = [study.under_constant_gradient(1, t) for t in times]
    names = [n for n in ("w", *(study.rule.state if study.rule else ())) if n in found[0]]
    series = tuple(Series(n, tuple(map(float, times)), tuple(f[n] for f in found)) for n in names)
    return Plot(series, "updates t", "", (Words("g = 1"),), f"{', '.join(names)} over 50 updates with gradient 1")
