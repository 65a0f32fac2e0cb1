"""``bp.optimizer`` and the exercise with Adam and SGD with momentum, against torch.optim and against sums made one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sympy
import torch

import backproof as bp
from backproof.optimizers import RULES, optimizer
from backproof.optimizers.witness import scalars_like, torch_settings
from backproof.studies.optimizer import constant, kept, recurrence

EXERCISE = "epfl-ml-9/adam-sgdm"
FLAGS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.8}),
    ("sgd", {"momentum": 0.8, "dampening": 0.3}),
    ("sgd", {"momentum": 0.8, "nesterov": True}),
    ("sgd", {"momentum": 0.8, "weight_decay": 0.1}),
    ("sgd", {"momentum": 1.0}),
    ("adam", {"beta1": 0.0}),
    ("adam", {"amsgrad": True}),
    ("adam", {"weight_decay": 0.1}),
    ("adamw", {"lr": 0.05}),
    ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("rmsprop", {"centered": True, "momentum": 0.5}),
    ("adadelta", {}),
    ("adamax", {}),
    ("nadam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("radam", {}),
    ("rprop", {}),
    ("rprop", {"lr": 60.0}),
    ("rprop", {"lr": 1e-7}),
    ("asgd", {"t0": 7}),
    ("asgd", {"alpha": 1.0, "weight_decay": 0.1}),
    ("radam", {"beta2": 0.6}),
    ("nadam", {"momentum_decay": 0.1}),
]


def trained(name: str, settings: dict[str, Any], gradient: float, t: int, start: float) -> float:
    """w after t updates of torch.optim's class."""
    w = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    rule = RULES[name]
    optimizer = kept.classes()[name]([w], **torch_settings(rule, {**rule.hyper, **settings}))
    with scalars_like(w):
        for _ in range(t):
            w.grad = torch.tensor([gradient], dtype=torch.float64)
            optimizer.step()
    return w.item()


@pytest.mark.parametrize(("name", "settings"), FLAGS, ids=str)
def test_a_constant_gradient_leads_where_torch_goes(name: str, settings: dict[str, Any]) -> None:
    study = bp.optimizer(name, **settings)
    found = study.under_constant_gradient(-0.7, 41, w0=0.3)["w"]
    assert found == pytest.approx(trained(name, settings, -0.7, 41, 0.3), rel=1e-12)
    assert not study.finding and len(study.evidence) >= 2


def test_the_closed_forms_of_adam_and_momentum() -> None:
    c, t, lr, beta = sympy.symbols("c t lr momentum", positive=True)
    adam = bp.optimizer(torch.optim.Adam, lr=0.1, eps=0).under_constant_gradient("c", "t")
    assert sympy.simplify(adam["w"] + sympy.Rational(1, 10) * recurrence.T) == 0
    form = bp.optimizer("sgd", momentum=0.9).closed.forms["w"]
    plain = form.subs({constant.GRADIENT: c, constant.START: 0, recurrence.T: t})
    steps = sum(-lr * sum(beta ** (k - j) * c for j in range(1, k + 1)) for k in range(1, 6))
    assert sympy.expand(sympy.simplify(plain.subs(t, 5) - steps)) == 0


SOLVED = ["nadam", "radam", "rprop", "asgd", "adadelta"]


@pytest.mark.parametrize("name", SOLVED)
def test_every_value_has_a_form_and_the_sums_give_what_torch_gives(name: str) -> None:
    """Past the update where RAdam's equations change, and where Rprop's step meets its bound."""
    study = bp.optimizer(name)
    assert study.closed.unsolved == () and "w" in study.closed.forms
    for t in (3, 6, 60):
        found = study.under_constant_gradient(0.4, t, w0=-0.2)["w"]
        assert found == pytest.approx(trained(name, {}, 0.4, t, -0.2), rel=1e-12)


def test_the_average_of_asgd_and_the_product_of_nadam_are_written_out() -> None:
    asgd, nadam = bp.optimizer("asgd", t0=4, alpha=1.0), bp.optimizer("nadam")
    assert not asgd.closed.forms["w"].has(sympy.Product)  # with alpha = 1 the factors cancel in pairs
    assert nadam.closed.forms["P"].has(sympy.Product) and str(nadam.closed.written("w")).count("d(k)") == 1


LONG_RUN: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"momentum": 0.9}), ("sgd", {"weight_decay": 0.1, "lr": 0.1}), ("adamw", {"lr": 0.05, "weight_decay": 1.0}),
    ("nadam", {}), ("radam", {"beta2": 0.9}), ("rmsprop", {"alpha": 0.9}), ("adadelta", {"eps": 0.1}), ("rprop", {}),
    ("asgd", {"lambd": 0.5, "lr": 0.1}), ("adagrad", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), LONG_RUN, ids=str)
def test_the_long_run_is_where_torch_goes(name: str, settings: dict[str, Any]) -> None:
    study = bp.optimizer(name, **settings)
    assert study.rule is not None and study.late is not None
    values = {recurrence.symbol_of(k): v for k, v in study.rule.numbers().items()} | {
        constant.GRADIENT: 0.7,
        recurrence.T: 2000,
    }
    before, after = (trained(name, settings, 0.7, t, 0.3) for t in (1999, 2000))
    if study.late.rest is not None:
        assert after == pytest.approx(float(study.late.rest.subs(values)), rel=2e-2)
    else:
        assert after - before == pytest.approx(float(study.late.step.subs(values)), rel=2e-2)


def test_a_trillion_updates_are_as_quick_as_one() -> None:
    found = bp.optimizer("sgd", lr=0.1, momentum=0.9).under_constant_gradient(2, 10**12)
    assert found["m"] == 20 and found["w"] == pytest.approx(-0.1 * 20 * (1e12 - 9), rel=1e-12)


@pytest.mark.parametrize(("name", "settings"), FLAGS, ids=str)
def test_what_is_kept_is_what_torch_keeps(name: str, settings: dict[str, Any]) -> None:
    study = bp.optimizer(name, **settings)
    assert study.kept is not None
    assert sum(study.state.values()) == sum(study.kept.bytes.values())
    assert sum(study.state_for("bfloat16").values()) * 2 == sum(study.state.values())
    assert set(study.scalars) == (set(RULES[name].scalars))


def test_state_without_formulas_is_measured() -> None:
    muon, lbfgs, adafactor = (bp.optimizer(n) for n in ("muon", torch.optim.LBFGS, "Adafactor"))
    assert muon.state == {"B": 4} and muon.equations and not muon.finding
    assert lbfgs.values == 202 and adafactor.values == pytest.approx((256 + 128) / (256 * 128))
    own = bp.optimizer(Own)
    assert own.rule is None and own.equations == () and own.to_dict()["state_is"] == "measured from torch"
    with pytest.raises(bp.InputError, match="no formulas"):
        own.stability_limit()


class Own(torch.optim.Optimizer):
    """An optimizer of the user's own, with one value per parameter."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["seen"] = p.grad.clone()


def test_an_optimizer_of_ones_own_is_measured() -> None:
    assert bp.optimizer(Own).state == {"seen": 4}


LIMITS: list[tuple[str, dict[str, Any], Callable[[float], float]]] = [
    ("sgd", {}, lambda lr: 2 / lr),
    ("sgd", {"momentum": 0.9}, lambda lr: 3.8 / lr),
    ("sgd", {"momentum": 0.9, "dampening": 0.9}, lambda lr: 38 / lr),
    ("sgd", {"momentum": 0.9, "nesterov": True}, lambda lr: 3.8 / (2.8 * lr)),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.7}, lambda lr: 3.8 / lr - 0.7),
    ("adam", {}, lambda lr: 38 / lr),
    ("adamw", {"weight_decay": 2}, lambda lr: (2 - 2 * lr) * 19 / lr),
    ("rmsprop", {"momentum": 0.9}, lambda lr: 3.8 / lr),
]


@pytest.mark.parametrize(("name", "settings", "limit"), LIMITS, ids=[f"{n}-{s}" for n, s, _ in LIMITS])
def test_stability_limits(name: str, settings: dict[str, Any], limit: Callable[[float], float]) -> None:
    assert bp.optimizer(name, lr=0.05, **settings).stability_limit() == pytest.approx(limit(0.05), rel=1e-9)


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"lambd": 0.3, "weight_decay": 0.2}], ids=str)
def test_the_limit_of_asgd_is_that_of_its_first_update(settings: dict[str, Any]) -> None:
    limit = bp.optimizer("asgd", lr=0.05, **settings).stability_limit()
    for share, grows in ((1 - 1e-9, False), (1 + 1e-9, True)):
        w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        w.grad = share * limit * w.detach()
        with scalars_like(w):
            torch.optim.ASGD([w], lr=0.05, **settings).step()
        assert (abs(w.item()) > 1) == grows


@pytest.mark.parametrize(
    ("name", "settings"),
    [("rprop", {}), ("muon", {}), ("adafactor", {}), ("lbfgs", {"line_search_fn": "strong_wolfe"})],
)
def test_no_curvature_makes_these_diverge(name: str, settings: dict[str, Any]) -> None:
    found = bp.optimizer(name, **settings).stability
    assert found.value == math.inf and found.measured is not None and "No curvature" in found.measured.says
    late = [r.late for r in found.measured.runs]
    assert max(late) < 1.5 * min(late) or max(late) < 1e-12


@pytest.mark.parametrize(("lr", "limit"), [(0.4, math.inf), (1.9, math.inf), (2.1, 0.0)])
def test_lbfgs_needs_a_rate_below_two(lr: float, limit: float) -> None:
    study = bp.optimizer("lbfgs", lr=lr)
    assert study.stability_limit() == limit and not study.finding
    assert study.stability.measured is not None and study.stability.measured.factor == pytest.approx(1 - lr, abs=1e-9)


@pytest.mark.parametrize("share", [0.999, 1.001])
def test_torch_converges_below_the_limit_and_not_above(share: float) -> None:
    settings = {"lr": 0.05, "momentum": 0.7, "nesterov": True}
    curvature = share * bp.optimizer("sgd", **settings).stability_limit()
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], **settings)
    for _ in range(20_000):
        w.grad = curvature * w.detach()
        optimizer.step()
    assert (abs(w.item()) < 1e-3) == (share < 1)


def test_two_beside_one_another() -> None:
    both = bp.optimizer("adam").compare("adamw")
    assert both.differs() == ["equations", "stability_limit"] and not both.finding
    assert "adamw" in both.text()


# --- the exercise -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def symbols() -> Any:
    return bp.solve(EXERCISE)


def test_the_exercise_in_symbols(symbols: Any) -> None:
    c, t, lr, beta, b1, b2 = sympy.symbols("c t lr beta beta1 beta2")
    own = {"beta": beta}  # SymPy has a function of that name
    found = {k: {n: sympy.sympify(f, own) for n, f in symbols.answers[k].items()} for k in ("sgdm", "adam")}
    s = (1 - beta**t) / (1 - beta)
    assert sympy.simplify(found["sgdm"]["m"] - c * s) == 0
    w = sympy.simplify((found["sgdm"]["w"] + lr * c / (1 - beta) * (t - beta * s)).subs(t, 6))
    assert w == 0
    assert found["adam"]["m_hat"] == c and found["adam"]["v_hat"] == c**2 and found["adam"]["w"] == -lr * t
    assert sympy.simplify(found["adam"]["v"] - c**2 * (1 - b2**t)) == 0
    assert sympy.simplify(found["adam"]["m"] - c * (1 - b1**t)) == 0
    assert symbols.answers["depends_on_c"]["sgdm"]["w"] == "linear in c"
    assert symbols.answers["depends_on_c"]["adam"]["w"] == "independent of c"
    assert symbols.answers["depends_on_c"]["adam"]["v"] == "quadratic in c"


def test_what_each_optimizer_keeps(symbols: Any) -> None:
    values = symbols.answers["state_values"]
    assert values["sgdm"] == 1 and values["adam"] == values["adamw"] == 2 and values["sgd"] == 0
    assert set(values) >= set(kept.classes())
    assert not symbols.finding and all(e.agrees for e in symbols.evidence)


def test_the_exercise_in_numbers() -> None:
    c, t, lr, beta = 1.5, 9, 0.2, 0.7
    solved = bp.solve(EXERCISE, c=c, t=t, lr=lr, beta=beta, beta1="9/10", beta2=0)
    m = w = 0.0
    for _ in range(t):
        m = beta * m + c
        w -= lr * m
    assert solved.answers["sgdm"]["m"] == pytest.approx(m) and solved.answers["sgdm"]["w"] == pytest.approx(w)
    assert solved.answers["adam"]["w"] == pytest.approx(-lr * t)
    assert solved.answers["adam"]["v"] == pytest.approx(c * c) and not solved.finding


def test_names_do_not_get_in_one_anothers_way() -> None:
    """A value may be called as another optimizer's setting is, or as a symbol of ours is."""
    rules = {"r": ("rmsprop", {"lr": "beta1", "alpha": "g"})}
    found = bp.constant_gradient(rules, {"k": 2.0, "t": 4, "beta1": 0.1, "g": 0.5}, gradient="k")
    assert found.answers["r"]["w"] == pytest.approx(trained("rmsprop", {"lr": 0.1, "alpha": 0.5}, 2.0, 4, 0.0))


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 1}, {"beta": 1.5}, {"beta1": 1}, {"t": -1}, {"t": 0}, {"t": 2.5}, {"t": 1e30}, {"c": 0}, {"c": -1},
        {"lr": math.nan}, {"lr": math.inf}, {"lr": -1}, {"beta": "abc("}, {"beta": "c"}, {"c": [1, 2]}, {"c": True},
        {"c": "__import__('os')"}, {"lr": "9**9**9**9"}, {"nothing": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError):
        bp.solve(EXERCISE, **settings)


def test_a_wrong_closed_form_is_found() -> None:
    study = bp.optimizer("sgd", momentum=0.9)
    wrong = replace(study.closed, forms={**study.closed.forms, "m": study.closed.forms["m"] * recurrence.T})
    assert study.rule is not None
    assert [e.agrees for e in constant.confirmed(study.rule, wrong, "sgd")] == [False, False]


def test_a_wrong_count_is_found(monkeypatch: pytest.MonkeyPatch, cli: Any) -> None:
    monkeypatch.setitem(RULES, "adam", replace(RULES["adam"], shared=("v",)))
    assert bp.optimizer("adam").finding and cli("optimizer", "adam").status == 1


def test_the_command(cli: Any) -> None:
    done = cli("optimizer", "sgd", "--set", "momentum=0.5", "--compare", "adam")
    assert done.status == 0 and "stability limit" in done.out
    for words in (["nonsense"], ["adam", "--set", "lr=nan"], ["adam", "--set", "beta1=1"], ["sgd", "--set", "foo=1"]):
        refused = cli("optimizer", *words)
        assert refused.status == 2 and refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [("adam", {"betas": 0.9}), ("adam", {"betas": [0.9]}), ("rprop", {"etas": [0.5, 1.2, 2.0]}),
     ("muon", {"ns_coefficients": [1, 2]}), ("adafactor", {"eps": 0.001})],
)  # fmt: skip
def test_a_pair_is_a_pair(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(bp.InputError, match="is a list of"):
        bp.optimizer(name, **settings)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adamw"])
def test_a_rate_of_zero_moves_nothing(name: str) -> None:
    study = bp.optimizer(name, lr=0)
    study.document()
    assert study.scale.power == 0 and study.under_constant_gradient(2.0, 3)["w"] == 0


def test_a_class_without_torchs_base_is_told_what_can_be_done() -> None:
    with pytest.raises(bp.InputError, match=r"bp\.check_optimizer"):
        bp.optimizer(type("Plain", (), {"step": lambda self: None}))


PAIRS = [
    ("rprop", {}, "rprop", {"step_max": 49.0}), ("adam", {}, "adam", {"amsgrad": True}), ("radam", {}, "radam", {"beta2": 0.99}),
    ("sgd", {"momentum": 0.9, "dampening": 0.9}, "sgd", {}), ("muon", {}, "muon", {"ns_steps": 4}), ("adadelta", {}, "nadam", {}),
]  # fmt: skip


@pytest.mark.parametrize(("one", "own", "two", "other"), PAIRS, ids=str)
def test_the_example_on_which_two_part_is_what_torch_does(one: str, own: Any, two: str, other: Any) -> None:
    part = bp.optimizer(one, **own).compare(two, **other).parting
    assert part is not None and 1 <= part.update <= len(part.one)
    for name, settings, walked in ((one, own, part.one), (two, other, part.two)):
        shape = (1, 1) if RULES[name].ranks else (1,)
        w = torch.full(shape, part.start, dtype=torch.float64, requires_grad=True)
        theirs = kept.classes()[name]([w], **torch_settings(RULES[name], {**RULES[name].hyper, **settings}))
        with scalars_like(w):
            for gradient, expected in zip(part.gradients, walked, strict=True):
                w.grad = torch.full(shape, gradient, dtype=torch.float64)
                theirs.step()
                assert w.item() == pytest.approx(expected, rel=1e-12)


def test_two_that_are_alike_or_not_comparable_are_said_to_be() -> None:
    assert "settings are the same" in bp.optimizer("adamw", weight_decay=0).compare("adamw", weight_decay=0).text()
    assert "asks for the loss itself" in bp.optimizer("lbfgs").compare("sgd").text()


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(n for n in RULES if "/" not in n))
def test_every_page_compiles_in_latex(name: str, tmp_path: Any) -> None:
    bp.optimizer(name).save(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["nadam", "asgd", "muon"])
def test_pages_compile_in_latex(name: str, tmp_path: Any) -> None:
    bp.optimizer(name).save(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


CLASSES = [k for k in vars(torch.optim).values() if isinstance(k, type) and k is not torch.optim.Optimizer]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)
def test_a_rule_is_spelled_as_its_class(kind: Any) -> None:
    assert optimizer(kind).described().partition(",")[0] == kind.__name__
