"""Two parameter groups with settings of their own, parameters without a gradient, and what a step does besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import InputError
from ...optimizers import Optimizer
from ...optimizers import optimizer as find_optimizer
from .box import Box
from .checked import Deviation, spoken
from .ignored import subsets
from .probes import Probes, with_norms
from .program import numbers_of, program_of
from .settings import own_names
from .targets import Target, first_difference, matches

__all__ = ["group_deviation", "notes_on"]

UPDATES = 6
SHAPE = (2, 2)


def group_deviation(
    kind: Any, given: Mapping[str, Any], reference: Optimizer, changed: Mapping[str, Any]
) -> Deviation | None:
    """A setting of one parameter group that counts for another, or a group that is forgotten; None where all is well.

    A class that does not take parameter groups is not blamed for it.
    """
    if not changed or reference.rule.ranks:
        return None
    later = " ".join(text for _, text in reference.equations(5, SHAPE))
    changed = {k: v for k, v in changed.items() if k in later}  # not what counts at the start alone
    rules = [reference, find_optimizer(reference, **changed)]
    given_ways = _probes(rules)
    try:
        went = _went(kind, given, reference, changed, given_ways)
    except InputError:
        return None
    targets = [Target(p, w) for p, w in zip(given_ways, went, strict=True)]
    programs = [program_of(r, SHAPE) for r in rules]
    if all(matches(p, [t]) for p, t in zip(programs, targets, strict=True)):
        return None
    extra = {"second group": spoken(changed)}
    place = next(k for k in (0, 1) if not matches(programs[k], [targets[k]]))
    first = first_difference(programs[place], [targets[place]])
    first = None if first is None else replace(first, parameter=place)
    return Deviation(_named(rules, programs, targets, changed), extra, first)


def _probes(rules: list[Optimizer]) -> list[Probes]:
    rng = np.random.default_rng(11)
    found = []
    for place, rule in enumerate(rules):
        hyper = dict(numbers_of(rule))
        lr = float(hyper.pop("lr", 1.0))
        gradients = list(rng.normal(size=(UPDATES, 1, *SHAPE)))
        found.append(
            Probes(rng.normal(size=(1, *SHAPE)), gradients, [np.full((1, 1, 1), lr)] * UPDATES, hyper, place, 2)
        )
    return with_norms(found)


def _went(
    kind: Any, given: Mapping[str, Any], reference: Optimizer, changed: Mapping[str, Any], ways: list[Probes]
) -> list[Any]:
    theirs = own_names(kind, changed, reference, given)

    def make(parameters: list[Any]) -> Any:
        return kind([{"params": parameters[:1]}, {"params": parameters[1:], **theirs}], **given)

    gradients = [[p.gradients[t][0] for p in ways] for t in range(UPDATES)]
    return [w[:, None] for w in Box(make).went([p.start[0] for p in ways], gradients)]


def _named(rules: list[Optimizer], programs: list[Any], targets: list[Target], changed: Mapping[str, Any]) -> str:
    for place, owner, words in ((1, 0, "first"), (0, 1, "last")):
        if matches(programs[place], [targets[place]]) or not matches(programs[owner], [targets[owner]]):
            continue
        if (targets[place].went == targets[place].probes.start).all():
            return f"the parameters of the {'second' if place else 'first'} parameter group never move"
        for names in subsets(list(changed)):
            borrowed = {n: rules[owner].hyper[n] for n in names}
            if matches(programs[place], [_with(targets[place], borrowed)]):
                verb = "counts" if len(names) == 1 else "count"
                return f"{', '.join(names)} of the {words} parameter group {verb} for all groups"
    return ""


def _with(target: Target, settings: Mapping[str, Any]) -> Target:
    own = {k: float(v) for k, v in settings.items()}
    lr = own.pop("lr", None)
    rates = target.probes.lr if lr is None else [np.full((1, 1, 1), lr)] * target.probes.updates
    return Target(replace(target.probes, hyper={**target.probes.hyper, **own}, lr=rates), target.went)


# --- remarks ----------------------------------------------------------------------------------------------------------------------
def notes_on(kind: Any, given: Mapping[str, Any]) -> tuple[str, ...]:
    """What is no deviation of the rule, and yet surprises in training."""
    rng = np.random.default_rng(2)
    starts = [rng.normal(size=SHAPE) for _ in range(2)]
    gradients = [[rng.normal(size=SHAPE), None if t < 2 else rng.normal(size=SHAPE)] for t in range(4)]
    box, found = Box(lambda ps: kind(ps, **given)), []
    try:
        went, _, parameters = box.watched(starts, gradients)
    except InputError as error:
        return (f"A parameter without a gradient is not skipped, as torch.optim does: {error}.",)
    if (went[1][1] != starts[1]).any():
        found.append("A parameter without a gradient moves all the same; torch.optim skips it.")
    if any(
        (p.grad is None) or (p.grad.to_dense().numpy() != g).any()
        for p, g in zip(parameters, gradients[-1], strict=True)
    ):
        found.append(
            "Its step changes the gradients themselves (.grad): what reads them after the step finds other numbers."
        )
    alone = box.went([starts[1]], [[now[1]] for now in gradients[2:]])[0]
    if not np.allclose(alone, went[1][2:], rtol=1e-9, atol=1e-12):
        found.append("A parameter that gets its first gradient later takes other steps than one that starts then: torch.optim "
                     "counts updates for each parameter.")  # fmt: skip
    return tuple(found)
