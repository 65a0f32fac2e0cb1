"""``bp.check_optimizer``: is this optimizer the rule that it claims to be, and if not, in what does it deviate?"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...document.blocks import Block, Callout, Document, Paragraph, Section, Table
from ...document.math import Num
from ...errors import InputError
from ...optimizers import RULES, Optimizer
from ...optimizers import optimizer as find_optimizer
from ...optimizers.witness import torch_class, torch_settings
from ...result import Result
from ..verdicts import Evidence
from ..writing.worked import evidence_section
from .probes import MATRICES, NAMES, SHAPES, TINY, Probes, probes, steerable, walked, with_norms
from .program import Program, numbers_of, program_of
from .search import SECONDS, Found, search
from .targets import ACCURACY, Difference, Target, distance, first_difference, matches
from .words import changed_lines, said

__all__ = [
    "Deviation",
    "OptimizerChecked",
    "check_optimizer",
    "closest_rule",
    "deviation_of",
    "ranked_rules",
    "targets_of",
]

ALIASES = {
    "learning_rate": "lr", "eta": "lr", "b1": "beta1", "b2": "beta2", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps",
    "mu": "momentum", "wd": "weight_decay", "decay": "weight_decay", "l2": "weight_decay", "damping": "dampening",
}  # fmt: skip
TRIED = {"weight_decay": 0.1, "momentum": 0.9, "amsgrad": True, "nesterov": True, "maximize": True, "centered": True,
         "dampening": 0.3, "lr_decay": 0.1, "decoupled_weight_decay": True}  # fmt: skip
"""Settings that are off by default and that are tried too, with the values that they get."""


@dataclass(frozen=True)
class Deviation:
    """One deviation.

    Args:
        name: in words; "" where no single edit (or pair) of the reference explains it.
        settings: the settings under which it shows, beside those asked for.
        first: where the two part first.
        lines: the formulas that differ, (the reference's, this optimizer's).
    """

    name: str
    settings: dict[str, Any]
    first: Difference
    lines: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The deviation as plain data."""
        d = self.first
        return {
            "deviation": self.name or None,
            "settings": self.settings,
            "first_step": d.update,
            "probe": NAMES[d.probe],
            "parameter": d.parameter,
            "entry": list(d.index),
            "yours": d.theirs,
            "reference": d.ours,
            "formulas": [{"reference": a, "yours": b} for a, b in self.lines],
        }


@dataclass(frozen=True)
class OptimizerChecked(Result):
    """What a comparison of two optimizers found; see :func:`check_optimizer`.

    ``ok`` is whether no difference was seen; ``.deviations`` has each with its ``.name`` and ``.first``.
    """

    name: str
    reference: Optimizer
    deviations: tuple[Deviation, ...]
    tried: tuple[dict[str, Any], ...]
    evidence: tuple[Evidence, ...] = field(default=())
    steered: bool = True

    @property
    def ok(self) -> bool:
        """Whether no difference was seen."""
        return not self.deviations

    @property
    def cause(self) -> str | None:
        """The first deviation in words; None where there is none, or none could be named."""
        return next((d.name for d in self.deviations if d.name), None)

    @property
    def first_step(self) -> int | None:
        """The first update that differs."""
        return self.deviations[0].first.update if self.deviations else None

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether a difference was seen."""
        return not self.ok or any(e.agrees is False for e in self.evidence)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "optimizer": self.name,
            "against": self.reference.rule.name,
            "ok": self.ok,
            "cause": self.cause,
            "first_step": self.first_step,
            "deviations": [d.to_dict() for d in self.deviations],
            "tried": list(self.tried),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The comparison as a page."""
        blocks: list[Block] = [b for d in self.deviations for b in _section(d)]
        settings = "; ".join(_spoken(s) or "as given" for s in self.tried)
        how = (
            f"Both made {len(self.tried)} times 10 updates of two small parameters in float64 on {len(NAMES)} probes: "
            f"{', '.join(NAMES)}. Settings: {settings}. The reference is read from its formulas."
        )
        if not self.steered:
            how += " It has neither parameter groups nor .lr, so its learning rate was never changed."
        blocks.append(Section("How they were compared", (Paragraph((how,)),), "given", "how"))
        if self.evidence:
            blocks.append(evidence_section(self.evidence))
        verdict = (
            f"No difference to {self.reference.described()} was seen."
            if self.ok
            else f"{self.deviations[0].name or 'It differs, and no change of the rule that was tried explains it'}."
        )
        return Document(
            f"{self.name} against {self.reference.rule.name}", tuple(blocks), "", verdict[0].upper() + verdict[1:],
            "agrees" if self.ok else "finding", self.to_dict(),
        )  # fmt: skip


def _section(d: Deviation) -> tuple[Block, ...]:
    first = d.first
    title = d.name or "A difference without a name"
    table = Table(
        (("",), ("w after the update",)),
        (
            ("yours", Num(first.theirs)),
            ("the reference", Num(first.ours)),
            ("difference", Num(first.theirs - first.ours)),
        ),
        f"Update {first.update}, {NAMES[first.probe]}, parameter {first.parameter + 1}, entry {list(first.index)}",
        (1,),
    )
    lines = tuple((a or "(none)", b or "(none)") for a, b in d.lines)
    formulas = (Table((("the reference",), ("yours",)), lines, "The formulas that differ"),) if lines else ()
    why = "It shows first at the defaults." if not d.settings else f"It shows with {_spoken(d.settings)}."
    note = () if d.name else (Callout("note", ("No edit of the reference's formulas, nor two, give this path.",)),)
    return (Section(title[0].upper() + title[1:], (Paragraph((why,)), table, *formulas, *note), "result", ""),)


def _spoken(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        k if v is True else f"{k} {v:g}" if isinstance(v, (int, float)) else f"{k} {v}" for k, v in settings.items()
    )


# --- the check --------------------------------------------------------------------------------------------------------------
def check_optimizer(mine: Any, against: Any = None, *, seconds: float = SECONDS, **hyper: Any) -> OptimizerChecked:
    """Compare an optimizer with a rule, update by update, and name the deviation.

    Both go the same ways: six probes of ten updates each, on small parameters. Where they part, the formulas of the
    reference are edited, one place after another (a term moved, a factor dropped, a name, a sign, a function, an order, a
    count of updates changed, a number fitted; then two at once), until they go where ``mine`` goes.

    Args:
        mine: a class of optimizers (torch's base class is not needed: a constructor that takes parameters, and ``step()``),
            (class, settings), or an instance, whose class and settings are taken. The learning rate is changed on the way in
            its parameter groups, or in ``.lr`` where it has none; without either it is left alone.
        against: what it should be: a name, a class of torch.optim, (class, settings); by default the closest known rule.
        seconds: the time for the search of each deviation.
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
    deviations: list[Deviation] = []
    tried: list[dict[str, Any]] = []
    for extra in _variations(kind, reference, given):
        rule = find_optimizer(reference, **extra)
        tried.append(extra)
        deviation = deviation_of(kind, {**given, **_own_names(kind, extra)}, rule, extra, seconds)
        if deviation is not None:
            deviations.append(deviation)
            break
    name = getattr(kind, "__name__", type(kind).__name__)
    steered = _steered(kind, given)
    return OptimizerChecked(name, reference, tuple(deviations), tuple(tried), _witnessed(reference), steered)


def _kind_of(mine: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(mine, tuple) and len(mine) == 2 and isinstance(mine[1], Mapping):
        return mine[0], dict(mine[1])
    if isinstance(mine, str):
        return torch_class(mine), {}
    if isinstance(mine, torch.optim.Optimizer):
        known = inspect.signature(type(mine)).parameters
        return type(mine), {k: v for k, v in mine.param_groups[0].items() if k in known and k != "params"}
    if callable(mine):
        return mine, {}
    raise InputError(
        f"{mine!r} is no optimizer; give a class that takes parameters and has step(), or (class, settings)"
    )


def _defaults(kind: Any) -> dict[str, Any]:
    """The settings of a class with their defaults: from its signature, and from the parameter group that it makes."""
    try:
        parameters = inspect.signature(kind).parameters.values()
        trial = kind([torch.zeros(1, requires_grad=True)])
    except (Exception, SystemExit):  # a user's own code may raise anything; it is made with its settings later
        parameters, trial = {}.values(), None
    own = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    group = (getattr(trial, "param_groups", None) or [{}])[0]
    return {**own, **{k: v for k, v in group.items() if k not in ("params", "initial_lr")}}


def _ours(settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Somebody's settings under the rule's names; what the rule does not have is left out."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "betas" and isinstance(value, (tuple, list)) and len(value) == 2:
            flat |= {"beta1": value[0], "beta2": value[1]}
        else:
            flat[ALIASES.get(name, name)] = value
    if "beta" in flat and "momentum" in known and "momentum" not in flat:
        flat["momentum"] = flat["beta"]
    return {k: v for k, v in flat.items() if k in known and (v is None) == (known[k] is None)}


def _reference(kind: Any, given: Mapping[str, Any], against: Any) -> Optimizer:
    if against is None:
        return closest_rule(kind, given)
    plain = find_optimizer(against)
    own = _ours({**_defaults(kind), **given}, plain.rule.hyper)
    asked = {k: v for k, v in plain.hyper.items() if v != plain.rule.hyper[k]}
    return find_optimizer(against, **{**own, **asked})


def _own_names(kind: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings under the names that the class has for them."""
    known = _defaults(kind)
    names = {ALIASES.get(n, n): n for n in known}
    return {names.get(k, k): v for k, v in extra.items()}


def _variations(kind: Any, reference: Optimizer, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings as given, then each that both have and that is off, turned on."""
    off = _ours(_defaults(kind), reference.rule.hyper)
    found: list[dict[str, Any]] = [{}]
    for name, value in TRIED.items():
        if name not in off or reference.hyper[name] or ALIASES.get(name, name) in _ours(given, reference.rule.hyper):
            continue
        extra: dict[str, Any] = {name: value}
        if name in ("nesterov", "dampening") and not reference.hyper.get("momentum"):
            extra = {"momentum": 0.9, name: value}
        try:
            find_optimizer(reference, **extra)
        except InputError:
            continue
        found.append(extra)
    return found


def targets_of(kind: Any, settings: Mapping[str, Any], rule: Optimizer) -> list[Target]:
    """Where an optimizer goes on the probes that suit a rule."""
    hyper = dict(numbers_of(rule))
    if "lr" in rule.hyper and not rule.hyper["lr"]:
        hyper["lr"] = 0.01
    given = _given(rule, hyper, _steered(kind, settings))
    return [Target(p, w) for p, w in zip(given, walked(lambda ps: kind(ps, **settings), given), strict=True)]


def _steered(kind: Any, settings: Mapping[str, Any]) -> bool:
    """Whether a schedule could change the learning rate; a class without parameter groups may have no place for it."""
    try:
        return steerable(kind([torch.zeros(1, requires_grad=True)], **settings)) != ""
    except (Exception, SystemExit):  # said where it is made to take its steps
        return True


def _given(rule: Optimizer, hyper: Mapping[str, float], steered: bool) -> list[Probes]:
    shapes = MATRICES if rule.rule.ranks else SHAPES
    least = max(hyper.get("eps", TINY) * 0.3, 1e-12) if "eps" in hyper else TINY
    return with_norms([probes(shape, k, len(shapes), hyper, least, steered) for k, shape in enumerate(shapes)])


def _accuracy(rule: Optimizer) -> float:
    return 1e-3 if rule.rule.rounds else ACCURACY


def _programs(rule: Optimizer, targets: list[Target]) -> Program:
    return program_of(rule, tuple(targets[0].probes.start.shape[1:]))


def deviation_of(
    kind: Any, settings: Mapping[str, Any], rule: Optimizer, extra: dict[str, Any], seconds: float, quick: bool = False
) -> Deviation | None:
    """In what an optimizer deviates from a rule; None where it does not."""
    targets = targets_of(kind, settings, rule)
    if rule.rule.whole or rule.rule.name == "sparseadam":
        targets = targets[:1]  # its formulas depend on the shape
    program = _programs(rule, targets)
    first = first_difference(program, targets, _accuracy(rule))
    if first is None:
        return None
    found: Found | None = search(program, targets, seconds, _accuracy(rule), quick) if seconds else None
    if found is None:
        return Deviation("", extra, first)
    return Deviation(said(found, program), extra, first, tuple(changed_lines(program, found.program)))


def _witnessed(rule: Optimizer) -> tuple[Evidence, ...]:
    """The reference's formulas against torch.optim's own class on the same probes."""
    try:
        kind = torch_class(rule.rule.name)
    except KeyError:
        return ()
    targets = targets_of(kind, torch_settings(rule.rule, rule.hyper), rule)
    targets = targets[:1] if rule.rule.whole or rule.rule.name == "sparseadam" else targets
    agrees = matches(_programs(rule, targets), targets, _accuracy(rule))
    count = sum(t.went.size for t in targets)
    return (Evidence(f"the formulas of {rule.rule.name}", "torch.optim on the same probes", agrees, 0.0 if agrees else 1.0,
                     count, count),)  # fmt: skip


# --- the closest rule -----------------------------------------------------------------------------------------------------------
def closest_rule(kind: Any, settings: Mapping[str, Any]) -> Optimizer:
    """The known rule (or published variant) whose updates are the nearest to somebody's, with its settings carried over.

    Raises:
        InputError: the optimizer cannot be made, or cannot take a step.
    """
    ranked = ranked_rules(kind, settings)
    return ranked[0][1]


def ranked_rules(kind: Any, settings: Mapping[str, Any]) -> list[tuple[float, Optimizer]]:
    """Every rule for parameters of any shape with its distance, the nearest first."""
    own = {**_defaults(kind), **settings}
    plain = find_optimizer("sgd", **{k: v for k, v in _ours(own, RULES["sgd"].hyper).items() if k == "lr"})
    targets = targets_of(kind, settings, plain)[:1]
    found = []
    for name, rule in RULES.items():
        if rule.asks or rule.ranks:
            continue
        try:
            known = find_optimizer(name, **_ours(own, rule.hyper))
        except InputError:
            continue
        target = Target(Probes(**{**vars(targets[0].probes), "hyper": _without_rate(known)}), targets[0].went)
        gap = distance(_programs(known, [target]), target, sizes=True)
        found.append((gap + (1e-6 if rule.variant_of else 0), known))
    return sorted(found, key=lambda entry: entry[0])


def _without_rate(rule: Optimizer) -> dict[str, float]:
    return {k: v for k, v in numbers_of(rule).items() if k != "lr"}
