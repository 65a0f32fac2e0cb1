"""Accidents in the middle of a training, each named at its step, and awkward loops that are healthy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
T = X[:, :3].argmax(1)
STEPS, AT = 48, 24


def net(f: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), f(), nn.Linear(24, 24), f(), nn.Linear(24, 3))


def sgd(model: nn.Module, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.5, **more})


class Loop:
    """A training loop whose parts a case replaces."""

    def __init__(self, model: nn.Module | None = None, optimizer: Any = None, steps: int = STEPS) -> None:
        self.model = model or net()
        self.optimizer = optimizer or sgd(self.model)
        self.steps = steps

    def before(self, i: int) -> None:
        self.optimizer.zero_grad()

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        return X, T

    def loss(self, i: int, y: Tensor, t: Tensor) -> Tensor:
        return F.cross_entropy(y, t)

    def after(self, i: int) -> None:
        pass

    def step(self, i: int) -> None:
        self.optimizer.step()

    def __call__(self) -> Any:
        with bp.watch(self.model, self.optimizer) as w:
            for i in range(self.steps):
                self.before(i)
                x, t = self.batch(i)
                self.loss(i, self.model(x), t).backward()
                self.step(i)
                self.after(i)
        return w.report()


def setting(key: str, value: float, steps: int = 1, **more: Any) -> Loop:
    model = net()
    loop = Loop(model, sgd(model, **more))
    usual = loop.optimizer.param_groups[0][key]

    def before(i: int) -> None:
        loop.optimizer.zero_grad()
        loop.optimizer.param_groups[0][key] = value if AT <= i < AT + steps else usual

    loop.before = before  # type: ignore[method-assign]
    return loop


def growing_decay() -> Loop:
    model = net()
    loop = Loop(model, sgd(model, weight_decay=1e-4, lr=0.1, momentum=0.0))

    def before(i: int) -> None:
        loop.optimizer.zero_grad()
        group = loop.optimizer.param_groups[0]
        group["weight_decay"] *= 10.0 if AT <= i < AT + 5 else 1.0

    loop.before = before  # type: ignore[method-assign]
    return loop


def uncleared(to_none: bool) -> Loop:
    loop = Loop()
    loop.before = lambda i: loop.optimizer.zero_grad(to_none) if i < AT else None  # type: ignore[method-assign]
    return loop


def writing(write: Callable[[nn.Module], Any], f: type[nn.Module] = nn.Tanh) -> Loop:
    loop = Loop(net(f))

    def before(i: int) -> None:
        loop.optimizer.zero_grad()
        if i == AT:
            with torch.no_grad():
                write(loop.model)

    loop.before = before  # type: ignore[method-assign]
    return loop


def losing(loss: Callable[[Tensor, Tensor], Tensor], model: nn.Module | None = None) -> Loop:
    loop = Loop(model)
    loop.loss = lambda i, y, t: loss(y, t) if i == AT else F.cross_entropy(y, t)  # type: ignore[method-assign]
    return loop


class Capped(nn.Module):
    """A cut-off behind the last layer, as for counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.out = nn.Linear(12, 24), nn.Linear(24, 1)
        nn.init.constant_(self.out.bias, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.out(torch.tanh(self.a(x))))


def cut_off() -> Loop:
    loop = Loop(Capped())
    loop.loss = lambda i, y, t: F.mse_loss(y, torch.full_like(y, -5e3 if i == AT else 2.0))  # type: ignore[method-assign]
    return loop


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.calls = nn.Linear(12, 24), nn.Linear(24, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        h, self.calls = torch.tanh(self.a(x)), self.calls + 1
        y: Tensor = self.b(h.detach() if self.calls > AT else h)
        return y


def halved() -> Loop:
    model = net(nn.ReLU).half()
    loop = Loop(model, sgd(model, lr=1e-3))
    loop.batch = lambda i: (X.half(), T)  # type: ignore[method-assign]
    loop.loss = lambda i, y, t: F.cross_entropy(y.float(), t) * (1e12 if i == AT else 1.0)  # type: ignore[method-assign]
    return loop


def nothing(steps: int = STEPS) -> Loop:
    model = net(nn.ReLU)
    for p in model.parameters():
        nn.init.zeros_(p)
    return Loop(model, torch.optim.Adam(model.parameters(), lr=1e-2), steps)


ACCIDENTS: dict[str, tuple[Callable[[], Loop], int, str, str, str]] = {
    "a rate for one step": (lambda: setting("lr", 5e3), AT, "learning rate", "", "raised from 0.05 to 5000 at step 24"),
    "a negative rate": (lambda: setting("lr", -0.05, 9), AT, "learning rate", "", "negative"),
    "a momentum over 1": (lambda: setting("momentum", 1.2, 9), AT, "learning rate", "", "momentum is 1.2"),
    "a decay that grows": (growing_decay, AT, "weight decay", "", "rose from 0.0001 to"),
    "no zero_grad any more": (lambda: uncleared(True), AT, "accumulating", "", "still there"),
    "no zero_grad in place": (lambda: uncleared(False), AT, "accumulating", "", "still there"),
    "weights set to 0": (lambda: writing(lambda m: m.get_parameter("2.weight").zero_()), AT, "overwritten", "2.w", "All its"),
    "weights set to 0 by data": (lambda: writing(lambda m: m.get_parameter("2.weight").data.zero_()), AT, "overwritten", "2.w", "All its"),
    "weights that are blown up": (lambda: writing(lambda m: m.get_parameter("4.weight").mul_(1e6)), AT, "overwritten", "4.w", "something"),
    "a target far off": (lambda: losing(lambda y, t: (y - 1e9).square().mean()), AT, "exploding", "the loss", "targets"),
    "a target of NaN": (lambda: losing(lambda y, t: (y - torch.nan).square().mean()), AT, "not finite", "the loss", "a target that"),
    "an input far off": (lambda: feeding_linear(), AT, "exploding", "", "Input 0 of the model"),
    "a cut-off output": (cut_off, AT, "exploding", "the loss", "targets"),
    "a cut in mid-training": (lambda: Loop(Cut()), AT, "disconnected", "a", "No gradient has reached it"),
    "half precision": (halved, AT, "not finite", "the loss", "65,504"),
    "all weights 0": (nothing, 0, "dead", "0.weight", "All its weights are 0"),
}  # fmt: skip


def feeding_linear() -> Loop:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
    loop = Loop(model, sgd(model, lr=1e-3))
    loop.batch = lambda i: (X * (1e5 if i == AT else 1.0), T)  # type: ignore[method-assign]
    return loop


@pytest.mark.parametrize("name", ACCIDENTS)
def test_an_accident_is_named_at_its_step(name: str) -> None:
    make, step, kind, layer, words = ACCIDENTS[name]
    found = make()()
    assert found.verdict == kind and found.first.step == step, found.events
    assert layer in found.first.layer and words in found.first.cause, found.first


def test_what_follows_is_a_second_event() -> None:
    """A step that kills the last layer: first the jump, then the layer; a NaN behind a jump names it."""
    found = cut_off()()
    dead = next(e for e in found.events if e.kind == "dead")
    assert dead.step == AT + 1 and dead.layer == "out" and "no gradient arrives" in dead.cause
    found = losing(lambda y, t: (y - 1e18).square().mean(), net(nn.ReLU))()
    later = next(e for e in found.events if e.kind == "not finite")
    assert later.step == AT + 1 and "follows what began at step 24" in later.cause


# --- healthy ------------------------------------------------------------------------------------------------------------
def scheduled(make: Callable[[Any], Any], **more: Any) -> Loop:
    model = net()
    loop = Loop(model, sgd(model, **more), 3 * STEPS)
    schedule = make(loop.optimizer)
    loop.after = lambda i: schedule.step()  # type: ignore[method-assign]
    return loop


def accumulating() -> Loop:
    loop = Loop(steps=4 * STEPS)
    loop.before = lambda i: loop.optimizer.zero_grad(set_to_none=i % 8 == 0) if i % 4 == 0 else None  # type: ignore[method-assign]
    loop.step = lambda i: loop.optimizer.step() if i % 4 == 3 else None  # type: ignore[method-assign]
    return loop


def cleared_by_hand() -> Loop:
    loop = Loop()
    loop.before = lambda i: [p.grad.data.zero_() for p in loop.model.parameters() if p.grad is not None] and None  # type: ignore[method-assign, assignment]
    loop.step = lambda i: (nn.utils.clip_grad_norm_(loop.model.parameters(), 1.0), loop.optimizer.step()) and None  # type: ignore[method-assign]
    return loop


def masked() -> Loop:
    loop = Loop()
    masks = {n: (torch.rand(p.shape) > 0.8).float() for n, p in loop.model.named_parameters() if p.ndim > 1}

    def after(i: int) -> None:
        with torch.no_grad():
            for n, p in loop.model.named_parameters():
                p.mul_(masks[n]) if n in masks and i > AT else None

    loop.after = after  # type: ignore[method-assign]
    return loop


def averaged() -> Loop:
    loop = Loop()
    kept = {n: v.clone() for n, v in loop.model.state_dict().items()}

    def after(i: int) -> None:
        for n, v in loop.model.state_dict().items():
            kept[n].lerp_(v, 0.1)
        loop.model.load_state_dict(kept) if i % 10 == 9 else None

    loop.after = after  # type: ignore[method-assign]
    return loop


def adapted() -> Loop:
    """A frozen base with an addition and a head that begin at 0."""
    torch.manual_seed(0)
    base = nn.Linear(12, 24).requires_grad_(False)
    a, b, head = nn.Linear(12, 4, bias=False), nn.Linear(4, 24, bias=False), nn.Linear(24, 3)
    nn.init.zeros_(b.weight)
    nn.init.zeros_(head.weight)
    model = nn.ModuleDict({"base": base, "a": a, "b": b, "head": head})
    model.forward = lambda x: head(F.relu(base(x) + b(a(x))))
    own = [p for p in model.parameters() if p.requires_grad]
    return Loop(model, torch.optim.Adam(own, lr=3e-3))


def masked_batches() -> Loop:
    loop = Loop()
    loop.loss = lambda i, y, t: F.cross_entropy(y, t) * float(i % 11 != 10)  # type: ignore[method-assign]
    return loop


HEALTHY: dict[str, Callable[[], Loop]] = {
    "a warm-up from 0": lambda: scheduled(lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: min(k / 30, 1.0))),
    "restarts": lambda: scheduled(lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 20, eta_min=1e-6)),
    "one cycle": lambda: scheduled(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=4 * STEPS), weight_decay=1e-3),
    "micro-batches": accumulating,
    "cleared by hand": cleared_by_hand,
    "masks": masked,
    "averages": averaged,
    "beginnings at 0": adapted,
    "batches of nothing": masked_batches,
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_an_awkward_loop(name: str) -> None:
    found = HEALTHY[name]()()
    assert found.verdict == "healthy", found.events


def test_two_players_may_leave_gradients_in_each_other() -> None:
    torch.manual_seed(0)
    made, told = (
        nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
        nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)),
    )
    ours, theirs = (torch.optim.Adam(m.parameters(), lr=1e-3) for m in (made, told))
    with bp.watch(made, ours) as w, bp.watch(told, theirs) as v:
        for _ in range(40):
            ours.zero_grad()
            fake = made(torch.randn(32, 4))
            F.softplus(-told(fake)).mean().backward()
            ours.step()
            theirs.zero_grad(set_to_none=False)
            (F.softplus(told(fake.detach())) + F.softplus(-told(torch.randn(32, 2)))).mean().backward()
            theirs.step()
    assert w.report().verdict == v.report().verdict == "healthy", (w.events, v.events)
