"""``bp.check_optimizer``: no false alarm on torch's own classes, and injected deviations named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import backproof as bp
from backproof.optimizers import RULES, optimizer
from backproof.studies.deviations.edits import further_edits, plain_edits
from backproof.studies.deviations.plainer import plainer
from backproof.studies.deviations.program import program_of, text_of
from backproof.studies.deviations.search import Found

from .deviants import FIRST, HELD_OUT, THIRD, Own
from .deviants_around import AROUND, PLAIN_WORDS, RIGHT, TWICE, NoMaximum

QUICK = {"DampedFromTheStart", "RateInside", "NesterovOfBefore", "GrowingWeights", "Uphill", "SharedCount", "EtasSwapped",
         "NoRoot", "Averaged", "DeafToSchedules", "AdagradEpsInside", "HalfCorrected"}  # fmt: skip
EVERY = [pytest.param(*entry, id=entry[0].__name__) for entry in (*FIRST, *HELD_OUT, *THIRD)]
SOME = [p for p in EVERY if p.id in QUICK]
WRAPPED = [pytest.param(*entry, id=entry[0].__name__) for entry in AROUND]
QUICK_AROUND = {"ClippedByNorm", "Centralised", "ClippedTogether", "WarmUp", "Belief", "Trusting", "Lookahead", "Noisy",
                "IgnoresEps", "FirstRate", "OneState", "NarrowBuffer", "AlwaysNan"}  # fmt: skip
UNNAMED = {"MeanNotSquared"}
"""Two changes at once, the one of which alone gives no number: found only when there is time enough."""
OUTSIDE = {"Noisy", "AlwaysNan", "FirstRate", "NarrowBuffer"}
"""What no formula says: it is measured on the class itself, and named from that."""


def named(kind: Any, rule: str, settings: dict[str, Any], words: tuple[str, ...]) -> Any:
    found = bp.check_optimizer((kind, {**kind.settings, **settings}), rule, seconds=60)
    assert not found.ok and found.finding
    assert any(w in (found.cause or "") for w in words), found.cause
    return found.deviations[0]


def confirmed(deviation: Any) -> None:
    assert deviation.confirmed.agrees and deviation.first.update > 0
    assert deviation.lines or "share one" in deviation.name or "kept in float32" in deviation.name


@pytest.mark.parametrize(("kind", "rule", "settings", "words"), SOME)
def test_a_deviation_is_named(kind: Any, rule: str, settings: dict[str, Any], words: tuple[str, ...]) -> None:
    confirmed(named(kind, rule, settings, words))


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "rule", "settings", "words"), [p for p in EVERY if p.id not in QUICK | UNNAMED])
def test_every_deviation_is_named(kind: Any, rule: str, settings: dict[str, Any], words: tuple[str, ...]) -> None:
    confirmed(named(kind, rule, settings, words))


@pytest.mark.parametrize(("kind", "rule", "settings", "words"), [p for p in WRAPPED if p.id in QUICK_AROUND])
def test_what_is_done_around_the_rule_is_named(
    kind: Any, rule: str, settings: dict[str, Any], words: tuple[str, ...]
) -> None:
    deviation = named(kind, rule, settings, words)
    if kind.__name__ not in OUTSIDE:
        confirmed(deviation)


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "rule", "settings", "words"), [p for p in WRAPPED if p.id not in QUICK_AROUND])
def test_all_that_is_done_around_the_rule_is_named(
    kind: Any, rule: str, settings: dict[str, Any], words: tuple[str, ...]
) -> None:
    deviation = named(kind, rule, settings, words)
    if kind.__name__ not in OUTSIDE:
        confirmed(deviation)


@pytest.mark.parametrize(
    ("kind", "rule", "settings", "words", "never"), [pytest.param(*e, id=e[0].__name__) for e in PLAIN_WORDS]
)
def test_the_plainest_words_are_taken(
    kind: Any, rule: str, settings: dict[str, Any], words: tuple[str, ...], never: tuple[str, ...]
) -> None:
    found = named(kind, rule, settings, words)
    assert all(w in found.name for w in words) and not any(w in found.name for w in never), found.name


def test_a_setting_that_a_class_does_not_have_is_not_held_against_it() -> None:
    class Without(NoMaximum):
        def __init__(self, params: Any, **settings: Any) -> None:
            known = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
            torch.optim.Optimizer.__init__(self, params, {**known, **settings})

    assert bp.check_optimizer(Without, "adam").ok
    assert "amsgrad" in (bp.check_optimizer(NoMaximum, "adam").cause or "")  # this one has it among its defaults


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "rule", "settings", "words"), [pytest.param(*e, id=e[0].__name__) for e in TWICE])
def test_two_deviations_at_once_are_named(
    kind: Any, rule: str, settings: dict[str, Any], words: tuple[str, str]
) -> None:
    deviation = named(kind, rule, settings, words)
    confirmed(deviation)
    assert all(w in deviation.name for w in words)


@pytest.mark.parametrize(("kind", "rule", "settings"), [pytest.param(*e, id=e[0].__name__) for e in RIGHT])
def test_a_right_one_in_other_words_is_right(kind: Any, rule: str, settings: dict[str, Any]) -> None:
    found = bp.check_optimizer((kind, {**getattr(kind, "settings", {}), **settings}), rule)
    assert found.ok, found.cause


@pytest.mark.parametrize("name", sorted(n for n, r in RULES.items() if not r.variant_of and not r.asks))
def test_no_false_alarm(name: str) -> None:
    found = bp.check_optimizer(name, name)
    assert found.ok and found.cause is None and all(e.agrees for e in found.evidence)


def test_what_cannot_be_named_is_said_so() -> None:
    class Odd(Own):
        def one(self, p: Any, g: Any, s: dict[str, Any], h: dict[str, Any]) -> None:
            p -= 0.01 * torch.sin(3 * g) * torch.exp(p.clamp(max=1)) / (1 + g.abs() ** 3)

    found = bp.check_optimizer(Odd, "sgd", seconds=0.5)
    assert not found.ok and found.cause is None and "explains it" in found.text()
    record = found.to_dict()["deviations"][0]
    assert record["deviation"] is None and not record["confirmed"]
    answers = {m["question"]: m["answer"] for m in record["measured"]}
    assert answers["does the step depend on w itself?"] == "yes, and not linearly"
    assert answers["does the step of an entry depend on the gradients of the other entries?"] == "no"
    assert answers["what does half the learning rate do to the first step?"] == "it is multiplied by 1"


class Plain:
    """An optimizer without torch's base class."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        self.params, self.lr = list(params), lr

    def step(self) -> None:
        with torch.no_grad():
            for p in self.params:
                p -= self.lr * p.grad


def test_a_plain_class() -> None:
    found = bp.check_optimizer(Plain, "sgd")
    assert found.ok  # its rate is changed in .lr, for want of parameter groups


class Refuses(Own):
    def one(self, p: Any, g: Any, s: dict[str, Any], h: dict[str, Any]) -> None:
        raise ArithmeticError("no")


@pytest.mark.parametrize(
    ("mine", "against", "why"),
    [
        (Refuses, "sgd", "ArithmeticError: no"),
        (3, "sgd", "no optimizer"),
        (Plain, "lbfgs", "asks for the loss"),
        (Plain, "x", "known"),
    ],
)
def test_what_makes_no_sense_is_refused(mine: Any, against: Any, why: str) -> None:
    with pytest.raises(bp.InputError, match=why):
        bp.check_optimizer(mine, against)


def test_an_own_class_is_fitted_to_the_closest_rule() -> None:
    exact = bp.optimizer(next(k for k, *_ in FIRST if k.__name__ == "EpsBeforeCorrection"))
    assert exact.fitted.deviation is None and exact.fitted.rule.rule.name in ("adam/eps-hat", "sparseadam")
    near = bp.optimizer(next(k for k, *_ in FIRST if k.__name__ == "Uphill"))
    assert near.fitted.rule.rule.name == "rmsprop" and "uphill" in near.fitted.says
    assert near.state == {"v": 4} and "closest" in near.text()


def test_the_command(cli: Any, tmp_path: Any) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nclass Mine(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n        super().step()\n        super().step()\n"
    )
    done = cli("optimizer", f"{tmp_path}/own.py:Mine", "--against", "sgd", "--json")
    assert done.status == 1 and '"ok": false' in done.out
    assert cli("optimizer", "adam", "--against", "adam").status == 0
    assert cli("optimizer", "adam", "--against", "sgd", "--compare", "sgd").status == 2


class Rigid:
    """Plain SGD of one's own with no place where a schedule could find its rate; right, whatever it is asked for."""

    def __init__(self, parameters: Any, step: float = 0.01) -> None:
        self.parameters, self.size = list(parameters), step

    def step(self) -> None:
        for p in self.parameters:
            p.data -= self.size * p.grad


class Attribute(Rigid):
    """The same with its rate in ``.lr``, where a schedule of one's own sets it."""

    def __init__(self, parameters: Any, lr: float = 0.01) -> None:
        super().__init__(parameters)
        self.lr = lr

    def step(self) -> None:
        for p in self.parameters:
            p.data -= self.lr * p.grad


@pytest.mark.parametrize("kind", [Rigid, Attribute])
def test_a_class_without_parameter_groups_is_not_blamed_for_schedules(kind: Any) -> None:
    assert bp.check_optimizer(kind, ("sgd", {"lr": 0.01})).ok


class Odd(torch.optim.Optimizer):
    """An update that says nothing about a rule, or that does not come back."""

    def __init__(self, parameters: Any, how: str, lr: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr, "how": how})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            how = self.param_groups[0]["how"]
            if how == "nan":
                p.data.fill_(float("nan"))
            elif how != "still":
                raise {"exit": SystemExit, "key": KeyError}[how]("away")


@pytest.mark.parametrize(("how", "says"), [("still", "w stays where it is"), ("nan", "not a finite number")])
def test_updates_that_say_nothing_are_fitted_to_no_rule(how: str, says: str) -> None:
    fitted = bp.optimizer(Odd, how=how).fitted
    assert fitted.deviation is None and says in fitted.says


@pytest.mark.parametrize("how", ["exit", "key"])
def test_whatever_a_step_raises_is_told(how: str) -> None:
    with pytest.raises(bp.InputError, match="could not take a step"):
        bp.check_optimizer((Odd, {"how": how}), "sgd")
    with pytest.raises(bp.InputError, match=r"could not take a step on a twin parameter: \w+: '?away"):
        bp.optimizer(Odd, how=how).document()


def test_a_detour_is_said_line_by_line() -> None:
    start = program_of(optimizer("adam"), (3,))
    ends = ["m_hat = m", "w = w - lr * m_hat / sqrt(v_hat + eps)"]
    away = next(
        e for e in further_edits(start) if e.what == "1 - beta1 ** t" and (*e.where, e.how) == ("m_hat", "w", "eps")
    )
    back = next(e for e in plain_edits(away.program) if [text_of(x) for x in e.program.lines[-3::2]] == ends)
    told = plainer(Found((away, back), (None, None)), start)
    assert [e.kind for e in told.edits] == ["dropped", "moved"] and told.edits[-1].what == "eps"
    assert [text_of(x) for x in told.program.lines] == [text_of(x) for x in back.program.lines]
