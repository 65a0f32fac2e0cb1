"""Optimizers: replays against torch.optim, closed forms, bytes of state, stability limits, injected deviations named.

Every class of torch.optim with its flags makes 1,000 updates with random gradients (L-BFGS: on two losses, beside what torch itself
does when the start is moved by one unit in the last place). Limits are bisected on real torch.optim. The deviations are
those of tests/studies/deviants.py.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

from _measure import show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--updates", type=int, default=1000, help="of each replay")
    parser.add_argument("--without-deviations", action="store_true", help="leave the slow part out")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    record: list[tuple[str, str, str]] = [
        *replays(arguments.updates), *lbfgs(), *closed_forms(), *state(), *limits(), long_run(), *rates_and_floors(), switches(),
        parting(),
    ]  # fmt: skip
    if not arguments.without_deviations:
        record += list(deviations())
    show(
        "optimizers",
        ("what", "result", "of"),
        record,
        [dict(zip(("what", "result", "of"), r, strict=True)) for r in record],
        arguments.json,
    )


def replays(updates: int) -> list[tuple[str, str, str]]:
    from tests.studies.test_replays import CASES, apart

    worst = {str(c): max(apart(c[0], c[1], shape, updates) for shape in ((5, 3), (3, 5))) for c in CASES}
    plain = {k: v for k, v in worst.items() if "muon" not in k}
    muon = max(v for k, v in worst.items() if "muon" in k)
    return [
        (
            f"replay of {updates} random updates, largest difference of w",
            f"{max(plain.values()):.1e}",
            f"{len(plain)} rules and flags",
        ),
        (
            f"replay of {updates} updates of Muon (bfloat16 inside)",
            f"{muon:.1e}",
            f"{len(worst) - len(plain)} settings",
        ),
    ]


def lbfgs() -> list[tuple[str, str, str]]:
    """Ours against torch, and torch against itself from a start moved by one unit in the last place."""
    import torch

    from backproof.optimizers import optimizer
    from backproof.studies.optimizer.quasi_newton import QuasiNewton
    from tests.studies.test_replays import quartic, rosenbrock

    rows = []
    for search in (None, "strong_wolfe"):
        ours_off, self_off, same = 0.0, 0.0, True
        for loss, lr in ((quartic, 1.0), (rosenbrock, 0.1)):
            start = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            runs = []
            for begin in (start, torch.nextafter(start, torch.full_like(start, math.inf))):
                runs.append(_torch_lbfgs(loss, begin, lr, search))

            def ask(x: Any, loss: Any = loss) -> tuple[float, Any]:
                x = x.detach().requires_grad_()
                value = loss(x)
                return float(value.detach()), torch.autograd.grad(value, x)[0]

            engine, at = (
                QuasiNewton(
                    optimizer(torch.optim.LBFGS, lr=lr, max_iter=6, history_size=3, line_search_fn=search).hyper
                ),
                start,
            )
            for k in range(5):
                at = engine.step(at, ask)
                ours_off = max(ours_off, float((at - runs[0][0][k]).abs().max()))
                self_off = max(self_off, float((runs[1][0][k] - runs[0][0][k]).abs().max()))
            same = same and engine.asked == runs[0][1]
        how = "strong Wolfe" if search else "fixed steps"
        rows.append(
            (
                f"L-BFGS, {how}: 5 updates, largest difference of w; torch against itself, start moved by one ulp",
                f"{ours_off:.1e}; {self_off:.1e}",
                "the same evaluations" if same else "OTHER EVALUATIONS",
            )
        )
    return rows


def _torch_lbfgs(loss: Any, start: Any, lr: float, search: Any) -> tuple[list[Any], int]:
    import torch

    w, asked = start.clone().requires_grad_(), [0]
    rule = torch.optim.LBFGS([w], lr=lr, max_iter=6, history_size=3, line_search_fn=search)

    def closure() -> Any:
        rule.zero_grad()
        value = loss(w)
        value.backward()
        asked[0] += 1
        return value

    seen = []
    for _ in range(5):
        rule.step(closure)
        seen.append(w.detach().clone())
    return seen, asked[0]


def closed_forms() -> list[tuple[str, str, str]]:
    """After 57 updates, from the printed formulas; and which of the classes for single numbers have one for w."""
    import backproof as bp
    from tests.studies.test_optimizers import FLAGS

    cases = [*FLAGS, ("sparseadam", {}), ("adafactor", {})]
    studies = [bp.optimizer(n, **s) for n, s in cases]
    errors = [e.error for b in studies for e in b.evidence if "torch.optim in" in e.oracle]
    without = sorted(
        {f"{b.name} {s}" if s else b.name for b, (_, s) in zip(studies, cases, strict=True) if "w" in b.closed.unsolved}
    )
    return [
        (
            "closed forms after 57 updates with one gradient, largest relative error",
            f"{max(errors):.1e}",
            f"{len(errors)} rules and flags; w without one: {', '.join(without)}",
        )
    ]


def long_run() -> tuple[str, str, str]:
    """Where w tends, or what a late update moves it by, against torch.optim after 2,000 updates."""
    import backproof as bp
    from backproof.studies.optimizer import constant, recurrence
    from tests.studies.test_optimizers import LONG_RUN, trained

    worst = 0.0
    for name, settings in LONG_RUN:
        study = bp.optimizer(name, **settings)
        assert study.rule is not None and study.late is not None
        values = {recurrence.symbol_of(k): v for k, v in study.rule.numbers().items()}
        values |= {constant.GRADIENT: 0.7, recurrence.T: 2000}
        before, after = (trained(name, settings, 0.7, t, 0.3) for t in (1999, 2000))
        said = study.late.rest if study.late.rest is not None else study.late.step
        found = after if study.late.rest is not None else after - before
        worst = max(worst, abs(found / float(said.subs(values)) - 1))
    return (
        "the long run under one gradient, against torch.optim after 2,000 updates",
        f"{worst:.1e}",
        f"{len(LONG_RUN)} rules",
    )


SMOOTH: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}), ("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "dampening": 0.5}), ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.7}), ("asgd", {"alpha": 0.0}), ("adam", {}), ("adamw", {"weight_decay": 0.5}),
    ("adam", {"amsgrad": True}), ("rmsprop", {}), ("rmsprop", {"momentum": 0.9}), ]  # fmt: skip


def rates_and_floors() -> list[tuple[str, str, str]]:
    """Rate of convergence and noise floor against runs of torch.optim; a rule that divides is held at its eps."""
    import backproof as bp

    rates, floors = [], []
    for name, settings in SMOOTH:
        study = bp.optimizer(name, lr=0.05, **settings)
        near, far = 0.9 * study.stability_limit(), 0.3 * study.stability_limit()
        rates.append(abs(_spectral_radius(name, {"lr": 0.05, **settings}, near) / study.rate(near) - 1))
        floors.append(abs(_simulated(name, {"lr": 0.05, **settings}, far) / study.noise_floor(far) - 1))
    return [
        (
            "rate of convergence on a quadratic, against 400 updates of torch.optim",
            f"{max(rates):.1e}",
            f"{len(rates)} rules",
        ),
        (
            "noise floor on a quadratic, against 20,000 runs of torch.optim",
            f"{max(floors):.1%}",
            f"{len(floors)} rules",
        ),
    ]


def _simulated(name: str, settings: dict[str, Any], curvature: float) -> float:
    """The variance of w over many runs with unit noise, from torch.optim's own class on a long vector."""
    import torch

    from backproof.optimizers import optimizer
    from backproof.optimizers.witness import scalars_like, torch_class, torch_settings

    divides = name not in ("sgd", "asgd")
    rule = optimizer(name, **settings, **({"eps": 1e9} if divides else {}))
    slope, scale = (1e9, 1e-100) if divides else (1.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    w = torch.zeros(20_000, dtype=torch.float64, requires_grad=True)
    theirs = torch_class(name)([w], **torch_settings(rule.rule, rule.hyper))
    with scalars_like(w):
        late = []
        for k in range(900):
            noise = torch.randn(len(w), generator=generator, dtype=torch.float64)
            w.grad = slope * (curvature * w.detach() + scale * noise)
            theirs.step()
            late += [(w.detach() / scale).var().item()] if k >= 600 else []
    return sum(late) / len(late)


def switches() -> tuple[str, str, str]:
    """foreach, fused, capturable and differentiable say how torch loops: our rule is the same, and so are torch's numbers."""
    import torch

    from backproof.optimizers import optimizer
    from backproof.optimizers.witness import scalars_like
    from backproof.studies.optimizer.kept import classes
    from backproof.studies.optimizer.replay import Replay

    worst, count = 0.0, 0
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    slopes = torch.randn(200, 5, 3, generator=generator, dtype=torch.float64)
    for kind in classes().values():
        for switch in (
            {"foreach": True},
            {"foreach": False},
            {"fused": True},
            {"differentiable": True},
            {"maximize": True},
        ):
            w = start.clone().requires_grad_()
            try:
                theirs = kind([w], **switch)
                rule = optimizer((kind, switch))
                with scalars_like(w):
                    for slope in slopes:
                        w.grad = slope.clone()
                        theirs.step()
            except Exception:  # this class has no such switch on this machine
                continue
            worst, count = (
                max(worst, float((Replay(rule, start).run(list(slopes)) - w.detach()).abs().max())),
                count + 1,
            )
    return (
        "200 updates with foreach, fused, differentiable, maximize: largest difference of w",
        f"{worst:.1e}",
        f"{count} pairs",
    )


def parting() -> tuple[str, str, str]:
    """Every pair of rules and variants: the example on which they part."""
    from itertools import combinations

    from backproof.optimizers import RULES, optimizer
    from backproof.studies.optimizer.parting import smallest_example

    pairs = list(combinations([n for n, r in RULES.items() if not r.asks], 2))
    found = [smallest_example(optimizer(a), optimizer(b)) for a, b in pairs]
    return (
        "pairs of rules told apart by an example of one number",
        str(sum(p is not None for p in found)),
        str(len(pairs)),
    )


def state() -> list[tuple[str, str, str]]:
    import backproof as bp

    evidence = bp.kept_by_all().evidence
    right = sum(e.agrees is True for e in evidence)
    return [
        (
            "bytes of state, float32 and bfloat16: equal to the measured ones",
            str(right),
            f"{len(evidence)} classes and flags",
        )
    ]


def _edge(stable: Callable[[float], bool], low: float, high: float) -> float:
    while high / low - 1 > 2e-11:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if stable(middle) else (low, middle)
    return math.sqrt(low * high)


def limits() -> list[tuple[str, str, str]]:
    import backproof as bp

    cases: list[tuple[str, dict[str, Any]]] = [
        ("sgd", {}), ("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "dampening": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}), ("sgd", {"momentum": 0.9, "weight_decay": 0.7}), ("adam", {}),
        ("adam", {"beta1": 0.8}), ("adamw", {"weight_decay": 2}), ("rmsprop", {}), ("rmsprop", {"momentum": 0.9}),
        ("asgd", {"alpha": 0.0}), ("asgd", {"alpha": 0.0, "lambd": 0.4, "weight_decay": 0.3}),
    ]  # fmt: skip
    errors = []
    for name, settings in cases:
        said = bp.optimizer(name, lr=0.05, **settings).stability_limit()
        errors.append(abs(_bisected(name, {"lr": 0.05, **settings}, said) / said - 1))
    worst = max(_logistic(kind) for kind in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}))
    return [
        (
            "stability limits on a quadratic against bisection on torch.optim, largest relative error",
            f"{max(errors):.1e}",
            f"{len(cases)} rules",
        ),
        ("largest stable rate from curvature, logistic regression, against bisection", f"{worst:.2%}", "3 rules"),
    ]


def _bisected(name: str, settings: dict[str, Any], near: float) -> float:
    """The curvature at which a run of torch.optim neither grows nor shrinks.

    A rule that divides by the size of past gradients is held at its eps, by gradients of 1e-200.
    """
    return _edge(lambda c: _spectral_radius(name, settings, c) < 1, near / 1.02, near * 1.03)


def _spectral_radius(name: str, settings: dict[str, Any], curvature: float) -> float:
    """From how a long run of torch.optim grows: the state after many updates is as many powers of its matrix."""
    import torch

    from backproof.optimizers import optimizer
    from backproof.optimizers.witness import scalars_like, torch_class, torch_settings

    divides = name not in ("sgd", "asgd")
    rule = optimizer(name, **settings, **({"eps": 1e9} if divides else {}))
    scale = 1e-200 if divides else 1.0
    slope = curvature * (1e9 if divides else 1.0)
    seen = []
    w = torch.tensor([scale], dtype=torch.float64, requires_grad=True)
    theirs = torch_class(name)([w], **torch_settings(rule.rule, rule.hyper))
    with scalars_like(w):
        for k in range(400):
            w.grad = slope * w.detach()
            theirs.step()
            if k >= 300:
                seen.append(w.item() / scale)
    return _growth(seen)


def _growth(seen: list[float]) -> float:
    """The larger root of the two-term recurrence that a sequence obeys."""
    import torch

    size = max(map(abs, seen)) or 1.0
    x = [s / size for s in seen]
    a = torch.tensor([[x[k + 1], x[k]] for k in range(len(x) - 2)], dtype=torch.float64)
    b = torch.tensor([[x[k + 2]] for k in range(len(x) - 2)], dtype=torch.float64)
    first, second = torch.linalg.lstsq(a, b, driver="gelsd").solution.reshape(-1).tolist()
    roots = torch.linalg.eigvals(torch.tensor([[first, second], [1.0, 0.0]], dtype=torch.float64))
    return float(roots.abs().max())


def _logistic(settings: dict[str, Any]) -> float:
    """The relative difference of the largest stable rate at the minimum from the one at which torch.optim leaves it."""
    import torch

    import backproof as bp

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    t = (torch.rand(60, 1, generator=generator, dtype=torch.float64) < torch.sigmoid(x.sum(1, keepdim=True))).double()
    model = torch.nn.Linear(3, 1).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    best = torch.optim.LBFGS(
        model.parameters(), max_iter=200, tolerance_grad=1e-14, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        best.zero_grad()
        value = loss(model(x), t)
        value.backward()
        return value

    best.step(closure)
    start = [p.detach().clone() for p in model.parameters()]
    least = float(loss(model(x), t))
    said = bp.curvature(model, x, t, loss=loss, optimizer=("sgd", settings)).largest_lr
    assert said is not None

    def stable(lr: float) -> bool:
        with torch.no_grad():
            for p, s in zip(model.parameters(), start, strict=True):
                p.copy_(s + 1e-3)
        rule = torch.optim.SGD(model.parameters(), lr=lr, **settings)
        for _ in range(1500):
            rule.zero_grad()
            loss(model(x), t).backward()
            rule.step()
        return bool(float(loss(model(x), t).detach()) - least < 1e-7)

    low, high = said / 2, said * 2
    while high / low > 1.003:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if stable(middle) else (low, middle)
    with torch.no_grad():
        for p, s in zip(model.parameters(), start, strict=True):
            p.copy_(s)
    return abs(math.sqrt(low * high) / said - 1)


def deviations() -> list[tuple[str, str, str]]:
    import backproof as bp
    from tests.studies import deviants

    rows = []
    for label, entries in (("first", deviants.FIRST), ("second", deviants.HELD_OUT), ("third", deviants.THIRD)):
        start, right, missed = time.process_time(), 0, []
        for kind, rule, settings, words in entries:
            found = bp.check_optimizer((kind, {**kind.settings, **settings}), rule, seconds=60)
            good = any(w in (found.cause or "") for w in words)
            right += good
            missed += [] if good else [f"{kind.__name__}: {found.cause}"]
        spent = (time.process_time() - start) / len(entries)
        rows.append(
            (
                f"deviations named, {label} set ({spent:.1f} s of processor each)",
                str(right),
                f"{len(entries)}{'; not: ' + ', '.join(missed) if missed else ''}",
            )
        )
    return rows


if __name__ == "__main__":
    main()
