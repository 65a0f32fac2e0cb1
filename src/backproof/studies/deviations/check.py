"""``bp.check_optimizer``: is this optimizer the rule that it claims to be, and if not, in what does it deviate?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...optimizers import RULES, Optimizer
from ...optimizers import optimizer as find_optimizer
from ...optimizers.witness import torch_class, torch_settings
from ...progress import task
from ..verdicts import Evidence
from .box import steerable
from .checked import Deviation, OptimizerChecked
from .groups import group_deviation, notes_on
from .ignored import ignored, unread, unused, without_flag
from .plainer import plainer
from .precision import rounded_state, step_apart
from .probes import ALIKE, MATRICES, NAMES, SHAPES, TINY, Probes, probes, walked, with_norms
from .program import Program, Run, numbers_of, program_of
from .published import published
from .search import SECONDS, Found, narrow_state, search, telling
from .settings import all_changed, defaults_of, ours, own_names, turned_on
from .structure import at_random, structure
from .switches import switches
from .targets import ACCURACY, Target, distance, first_difference, matches, without_probe
from .unfinite import unfinite
from .words import changed_lines, said

__all__ = ["check_optimizer", "closest_rule", "deviation_of", "ranked_rules", "targets_of"]

FRESH = 1007
"""The seed of the probes on which a named deviation is confirmed."""


def check_optimizer(mine: Any, against: Any = None, *, seconds: float = SECONDS, **hyper: Any) -> OptimizerChecked:
    """Compare an optimizer with a rule, update by update, and name the deviation.

    Both go the same ways: seven probes of 24 updates each, on small parameters, at the settings given, with each setting
    that is off turned on, with all numbers changed at once, and with two parameter groups. Where they part, the formulas
    of the reference are edited, one place after another (a term moved, a factor dropped, a name, a sign, a function, an
    order, a count of updates changed, a number fitted), and changed around (the gradient before, the step after, over
    time, between parameters), then two of these at once, until they go where ``mine`` goes. What was found is confirmed
    on probes with other random numbers. What the class does as a function (does an entry depend on others, how does the
    step grow with the gradient...) is measured and said besides.

    Args:
        mine: a class of optimizers (torch's base class is not needed: a constructor that takes parameters, and ``step()``),
            (class, settings), or an instance, whose class and settings are taken. The learning rate is changed on the way in
            its parameter groups, or in ``.lr`` where it has none; without either it is left alone.
        against: what it should be: a name, a class of torch.optim, (class, settings); by default the closest known rule.
        seconds: the time of the processor for the search.
        **hyper: settings of both, under torch's names.

    Returns:
        An :class:`OptimizerChecked`: ``.ok``, ``.cause``, ``.first_step``, ``.deviations``.

    Raises:
        InputError: it cannot be made or cannot take a step, or there is no rule to compare with.

    Example:
        >>> import torch, backproof as bp
        >>> bp.check_optimizer(torch.optim.Adam, "adam").ok
        True
        >>> bp.check_optimizer(torch.optim.SGD, "sgd", momentum=0.9).ok
        True
    """
    kind, given = _kind_of(mine)
    given = {**given, **hyper}
    reference = _reference(kind, given, against)
    if reference.rule.asks:
        raise InputError("an optimizer that asks for the loss again (LBFGS) is not compared update by update")
    deviations, tried = _compared(kind, given, reference, seconds)
    notes: tuple[str, ...] = ()
    if not deviations and not reference.rule.whole:
        changed = all_changed(kind, reference)
        apart = group_deviation(kind, given, reference, changed)
        deviations = [apart] if apart is not None else []
        notes = notes_on(kind, given)
    name = getattr(kind, "__name__", type(kind).__name__)
    steered = _steered(kind, given)
    evidence = _witnessed(reference)
    return OptimizerChecked(name, reference, tuple(deviations), tuple(tried), evidence, steered, notes)


def _compared(
    kind: Any, given: Mapping[str, Any], reference: Optimizer, seconds: float
) -> tuple[list[Deviation], list[dict[str, Any]]]:
    """The deviation of the first settings under which there is one, and the settings that were tried."""
    tried: list[dict[str, Any]] = []
    variations = turned_on(kind, reference, given)
    changed = all_changed(kind, reference)
    variations += [changed] if changed else []
    with task("settings compared", len(variations)) as advance:
        for extra in variations:
            rule = find_optimizer(reference, **extra)
            settings = {**given, **own_names(kind, extra, reference, given)}
            try:
                deviation = deviation_of(kind, settings, rule, extra, seconds)
            except InputError:
                if not extra:
                    raise
                continue  # a setting that the class itself refuses
            finally:
                advance()
            tried.append(extra)
            if deviation is not None:
                return [deviation], tried
    return [], tried


def _kind_of(mine: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(mine, tuple) and len(mine) == 2 and isinstance(mine[1], Mapping):
        return mine[0], dict(mine[1])
    if isinstance(mine, str):
        return torch_class(mine), {}
    if isinstance(mine, torch.optim.Optimizer):
        known = defaults_of(type(mine))
        return type(mine), {k: v for k, v in mine.param_groups[0].items() if k in known and k != "params"}
    if callable(mine):
        return mine, {}
    raise InputError(
        f"{mine!r} is no optimizer; give a class that takes parameters and has step(), or (class, settings)"
    )


def _reference(kind: Any, given: Mapping[str, Any], against: Any) -> Optimizer:
    if against is None:
        return closest_rule(kind, given)
    plain = find_optimizer(against)
    own = ours({**defaults_of(kind), **given}, plain)
    asked = {k: v for k, v in plain.hyper.items() if v != plain.rule.hyper[k]}
    return find_optimizer(against, **{**own, **asked})


# --- where it goes ------------------------------------------------------------------------------------------------------------------
def targets_of(kind: Any, settings: Mapping[str, Any], rule: Optimizer, seed: int = 7) -> list[Target]:
    """Where an optimizer goes on the probes that suit a rule.

    A class that can't do with parameters of several shapes is given such of one shape.
    """
    hyper = dict(numbers_of(rule))
    if "lr" in rule.hyper and not rule.hyper["lr"]:
        hyper["lr"] = 0.01
    steered = _steered(kind, settings)
    shapes = MATRICES if rule.rule.ranks else SHAPES
    try:
        return _targets(kind, settings, _given(shapes, hyper, steered, seed))
    except InputError as error:
        if "TimeoutError" in str(error):
            raise
        try:
            return _targets(kind, settings, _given(ALIKE, hyper, steered, seed))
        except InputError:
            raise error from None


def _targets(kind: Any, settings: Mapping[str, Any], given: list[Probes]) -> list[Target]:
    return [Target(p, w) for p, w in zip(given, walked(lambda ps: kind(ps, **settings), given), strict=True)]


def _steered(kind: Any, settings: Mapping[str, Any]) -> bool:
    """Whether a schedule could change the learning rate; a class without parameter groups may have no place for it."""
    try:
        return steerable(kind([torch.zeros(1, requires_grad=True)], **settings)) != ""
    except (Exception, SystemExit):  # said where it is made to take its steps
        return True


def _given(shapes: tuple[tuple[int, ...], ...], hyper: Mapping[str, float], steered: bool, seed: int) -> list[Probes]:
    least = max(hyper.get("eps", TINY) * 0.3, 1e-12) if "eps" in hyper else TINY
    return with_norms([probes(shape, k, len(shapes), hyper, least, steered, seed) for k, shape in enumerate(shapes)])


def _accuracy(rule: Optimizer) -> float:
    return 1e-3 if rule.rule.rounds else ACCURACY


def _program(rule: Optimizer, targets: list[Target]) -> Program:
    return program_of(rule, tuple(targets[0].probes.start.shape[1:]))


def _one_shape(rule: Optimizer, targets: list[Target]) -> list[Target]:
    """The targets that a program of the rule is for: the first one where its formulas depend on the shape."""
    return targets[:1] if rule.rule.whole or rule.rule.name == "sparseadam" else targets


# --- in what it deviates ----------------------------------------------------------------------------------------------------------
def deviation_of(
    kind: Any, settings: Mapping[str, Any], rule: Optimizer, extra: dict[str, Any], seconds: float, quick: bool = False
) -> Deviation | None:
    """In what an optimizer deviates from a rule; None where it does not."""
    targets = _one_shape(rule, targets_of(kind, settings, rule))
    program = _program(rule, targets)
    first = first_difference(program, targets, _accuracy(rule))
    if first is None or _scalars_alone(rule, program, targets):
        return None
    bare = Deviation("", extra, first)
    if not seconds:
        return bare
    random = _random(kind, settings, rule)
    if random:
        return replace(bare, name=random, first=None)
    measured = () if quick else tuple(structure(lambda ps: kind(ps, **settings), _rate(rule), _shapes(targets)))
    bare = replace(bare, measured=measured)
    for words, other in published(frozenset(numbers_of(rule))):
        if telling(targets) and matches(other, targets, _accuracy(rule)):
            return replace(bare, name=f"it is another rule: {words}")
    with np.errstate(all="ignore"):  # edits give programs that divide by 0 and overflow
        found = _sought(kind, settings, rule, targets, program, seconds, quick)
    if found is None:
        name = _still(targets) or unfinite(program, targets) or rounded_state(kind, settings, program, targets)
        name = name or _other_rule(kind, settings, rule)
        return replace(bare, name=name)
    found = plainer(found, program)
    evidence = _confirmed(kind, settings, rule, found)
    if not evidence.agrees or not telling(targets):
        return bare
    known = {k: float(v) for k, v in numbers_of(rule).items()}
    name = said(found, program, known)
    name += unused(program, found.program, rule, name)
    name += without_flag(rule, _shapes(targets)[0], targets, _accuracy(rule), name)
    name += _at_constant_rate(program, targets, _accuracy(rule))
    return replace(bare, name=name, lines=tuple(changed_lines(program, found.program)), confirmed=evidence)


def _at_constant_rate(program: Program, targets: list[Target], accuracy: float) -> str:
    """Words for a deviation that shows only where the learning rate changes."""
    constant = [without_probe(t, NAMES.index("a learning rate that changes")) for t in targets]
    return " (while the learning rate is constant, it is the rule)" if matches(program, constant, accuracy) else ""


def _still(targets: list[Target]) -> str:
    still = all((t.went == t.probes.start).all() for t in targets)
    return "w never moves: its step changes nothing, whatever the gradient" if still else ""


def _scalars_alone(rule: Optimizer, program: Program, targets: list[Target]) -> bool:
    """Whether only the numbers that the rule keeps per tensor are rounded to float32, as torch.optim keeps them."""
    return bool(rule.rule.shared) and all(step_apart(program, t) < 1e-6 for t in targets)


def _sought(
    kind: Any,
    settings: Mapping[str, Any],
    rule: Optimizer,
    targets: list[Target],
    program: Program,
    seconds: float,
    quick: bool,
) -> Found | None:
    if not telling(targets):
        return None
    defaults = ours(defaults_of(kind), rule)
    if rounded_state(kind, settings, program, targets, measured=True):
        return narrow_state(program, targets, _accuracy(rule))
    deaf = ignored(program, targets, rule, defaults, _accuracy(rule))
    switched = list(switches(rule, _shapes(targets)[0]))
    single = list(unread(program, rule, defaults, 1))
    return deaf or search(program, targets, seconds, _accuracy(rule), quick, switched, single)


def _other_rule(kind: Any, settings: Mapping[str, Any], rule: Optimizer) -> str:
    """In words, that it is another rule that is known here."""
    own = {**defaults_of(kind), **settings}
    for name, other in RULES.items():
        if other.asks or other.whole or name in (rule.rule.name, "sparseadam"):
            continue
        try:
            known = find_optimizer(name, **ours(own, find_optimizer(name)))
        except InputError:
            continue
        targets = targets_of(kind, settings, known)
        if matches(_program(known, targets), targets):
            return f"it is another rule: {known.described()}"
    return ""


def _rate(rule: Optimizer) -> float:
    return float(rule.hyper.get("lr") or 0.01)


def _shapes(targets: list[Target]) -> list[tuple[int, ...]]:
    return [tuple(t.probes.start.shape[1:]) for t in targets]


def _random(kind: Any, settings: Mapping[str, Any], rule: Optimizer) -> str:
    def rule_step(w: Any, g: Any) -> Any:
        hyper = {k: v for k, v in numbers_of(rule).items() if k != "lr"}
        own = Probes(w[None], [g[None]], [np.full((1, 1, 1), _rate(rule))], hyper, 0, 1)
        return w - Run(program_of(rule, w.shape), own).update(0)[0]

    return at_random(lambda ps: kind(ps, **settings), _rate(rule), rule_step)


def _confirmed(kind: Any, settings: Mapping[str, Any], rule: Optimizer, found: Found) -> Evidence:
    """The class against the formulas with the deviation, on probes with other random numbers."""
    fresh = _one_shape(rule, targets_of(kind, settings, rule, FRESH))
    accuracy = max(_accuracy(rule), 1e-7 if found.rests_on_numbers else 0.0)
    agrees = matches(found.program, fresh, accuracy)
    count = sum(t.went.size for t in fresh)
    return Evidence("the formulas with this deviation", "the class itself, on probes with other random numbers", agrees,
                    0.0 if agrees else 1.0, count, count)  # fmt: skip


def _witnessed(rule: Optimizer) -> tuple[Evidence, ...]:
    """The reference's formulas against torch.optim's own class on the same probes."""
    try:
        kind = torch_class(rule.rule.name)
    except KeyError:
        return ()
    targets = _one_shape(rule, targets_of(kind, torch_settings(rule.rule, rule.hyper), rule))
    agrees = matches(_program(rule, targets), targets, _accuracy(rule))
    count = sum(t.went.size for t in targets)
    return (Evidence(f"the formulas of {rule.rule.name}", "torch.optim on the same probes", agrees, 0.0 if agrees else 1.0,
                     count, count),)  # fmt: skip


# --- the closest rule -----------------------------------------------------------------------------------------------------------
def closest_rule(kind: Any, settings: Mapping[str, Any]) -> Optimizer:
    """The known rule (or published variant) whose updates are the nearest to somebody's, with its settings carried over.

    Raises:
        InputError: the optimizer cannot be made, or cannot take a step.
    """
    return ranked_rules(kind, settings)[0][1]


def ranked_rules(kind: Any, settings: Mapping[str, Any]) -> list[tuple[float, Optimizer]]:
    """Every rule for parameters of any shape with its distance, the nearest first."""
    own = {**defaults_of(kind), **settings}
    plain = find_optimizer("sgd")
    plain = find_optimizer("sgd", **{k: v for k, v in ours(own, plain).items() if k == "lr"})
    targets = targets_of(kind, settings, plain)[:1]
    found = []
    for name, rule in RULES.items():
        if rule.asks or rule.ranks:
            continue
        try:
            known = find_optimizer(name, **ours(own, find_optimizer(name)))
        except InputError:
            continue
        target = Target(replace(targets[0].probes, hyper=_without_rate(known)), targets[0].went)
        gap = distance(_program(known, [target]), target, sizes=True)
        found.append((gap + (1e-6 if rule.variant_of else 0), known))
    return sorted(found, key=lambda entry: entry[0])


def _without_rate(rule: Optimizer) -> dict[str, float]:
    return {k: v for k, v in numbers_of(rule).items() if k != "lr"}
