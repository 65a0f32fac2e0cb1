"""A watched training loop: what goes wrong is named with its step and layer, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp

X = torch.randn(128, 32, generator=torch.Generator().manual_seed(0))
T = torch.arange(128) % 4


def mlp(f: type[nn.Module] = nn.ReLU, layers: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(m for _ in range(layers) for m in (nn.Linear(32, 32), f())), nn.Linear(32, 4))


class Functional(nn.Module):
    """ReLU as a function: no module of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))


class Logarithm(Functional):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(F.relu(super().forward(x)))


class Sequenced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.reshape(-1, 4, 8))[0][:, -1])


def run(
    net: nn.Module,
    rate: float = 0.05,
    steps: int = 12,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    batch: Callable[[int], tuple[Tensor, Tensor]] = lambda i: (X[:32], T[:32]),
    before: Callable[[int, nn.Module], None] = lambda i, net: None,
    optimizer: Any = None,
    late_zero: bool = False,
    **more: Any,
) -> Any:
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=rate)
    with bp.watch(net, optimizer, **more) as w:
        for i in range(steps):
            before(i, net)
            x, t = batch(i)
            if not late_zero:
                optimizer.zero_grad()
            value = loss(net(x), t)
            if late_zero:
                optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return w.report()


def spoiled(i: int) -> tuple[Tensor, Tensor]:
    x = X[:32].clone()
    if i == 7:
        x[3, 5] = float("nan")
    return x, T[:32]


def killed(i: int, net: nn.Module) -> None:
    if i == 8:
        with torch.no_grad():
            net.get_parameter("2.bias").fill_(-1e4)


def killed_functional(i: int, net: nn.Module) -> None:
    if i == 5:
        with torch.no_grad():
            net.get_parameter("a.bias").fill_(-1e4)


def logarithm_of_0(y: Any, t: Any) -> Any:
    return (y * 0).log().mean() + y.sum() * 1e-3


WRONG = {
    "NaN in the data": (lambda: run(mlp(), batch=spoiled), 7, "not finite", "data"),
    "a huge learning rate": (lambda: run(mlp(), 1e4), 0, "learning rate", "times its own size"),
    "units that die": (lambda: run(mlp(), before=killed), 8, "dead", "cut off"),
    "units that die behind a function": (lambda: run(Functional(), before=killed_functional), 5, "dead", "gradient of exactly 0"),
    "deep sigmoids": (lambda: run(mlp(nn.Sigmoid, 12)), 0, "vanishing", "factor"),
    "a logarithm of 0": (lambda: run(Logarithm()), 0, "not finite", "output is not finite"),
    "a loss of a logarithm of 0": (lambda: run(nn.Sequential(*mlp(), nn.Softmax(1)), loss=logarithm_of_0), 0, "not finite", "loss"),
    "a tiny loss": (lambda: run(mlp(), loss=lambda y, t: F.cross_entropy(y, t) * 1e-12), 0, "loss scale", "small"),
    "no step": (lambda: run(mlp(), 0.0), 0, "not trained", "learning rate is 0"),
    "no zero_grad": (lambda: accumulated(), 1, "accumulating", "still there"),
    "half of it not given": (lambda: half(), 0, "not trained", "not given"),
    "a cut": (lambda: run(nn.Sequential(Cut(), nn.Linear(32, 4))), 0, "disconnected", "No gradient reaches"),
    "saturated": (lambda: run(large()), 0, "saturated", "near its ends"),
    "frozen and forgotten": (lambda: frozen(), 0, "not trained", "requires_grad False"),
    "evaluation mode": (lambda: run(nn.Sequential(nn.Linear(32, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).eval()), 0,
                        "evaluation mode", "running statistics"),
    "a cell that is called again and again": (lambda: run(Recurrent(), 1e-6), 0, "exploding", "(call "),
    "a root of 0 on the way back": (lambda: run(Rooted(), batch=blank), 5, "not finite", "on the way back"),
    "NaN in the data of a closure": (lambda: by_closure(mlp(), torch.optim.SGD), 7, "not finite", "data"),
    "half precision": (lambda: run(Halved(), batch=large_batch), 4, "not finite", "float16 ends at"),
    "a compiled model": (lambda: run(torch.compile(mlp(), backend="eager"), batch=spoiled), 7, "not finite", "data"),
}  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.Linear(32, 32), nn.Linear(32, 4)
        with torch.no_grad():
            self.cell.weight.copy_(1.6 * torch.eye(32))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(30):
            x = torch.relu(self.cell(x))
        return self.out(x)


class Rooted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(32, 8, bias=False), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h / (1 + h.square().sum(1, keepdim=True).sqrt()))


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(32, 8), nn.Linear(8, 4)
        with torch.no_grad():
            self.a.weight.mul_(20)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            return self.b(torch.relu(self.a(x))).float()


def blank(i: int) -> tuple[Tensor, Tensor]:
    return X[:32] * float(i != 5), T[:32]


def large_batch(i: int) -> tuple[Tensor, Tensor]:
    return X[:32].clamp(-2, 2) * (30_000.0 if i == 4 else 1.0), T[:32]


def frozen() -> Any:
    net = mlp()
    net[2].requires_grad_(False)
    return run(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.05))


def by_closure(net: nn.Module, kind: Any, **more: Any) -> Any:
    optimizer = kind(net.parameters(), lr=0.05, **more)
    with bp.watch(net, optimizer) as w:
        for i in range(12):
            x, t = spoiled(i) if kind is torch.optim.SGD else (X[:32], T[:32])

            def closure(x: Tensor = x, t: Tensor = t) -> Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), t)
                loss.backward()
                return loss

            optimizer.step(closure)
    return w.report()


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x).detach()


def accumulated() -> Any:
    net = mlp()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with bp.watch(net, optimizer) as w:
        for _ in range(6):
            F.cross_entropy(net(X[:32]), T[:32]).backward()
            optimizer.step()
    return w.report()


def half() -> Any:
    net = mlp()
    return run(net, optimizer=torch.optim.SGD(net[0].parameters(), lr=0.05))


def large() -> nn.Module:
    net = mlp(nn.Tanh)
    for m in net[:-1]:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, std=10.0)
    return net


@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_is_named(name: str) -> None:
    make, step, kind, words = WRONG[name]
    found = make()
    event = next((e for e in found.events if e.kind == kind), None)
    assert event is not None, found.events
    assert event.step == step == found.first.step and words in event.cause, event
    assert found.finding and kind in found.text() and found.html()


@pytest.mark.parametrize(
    "make",
    [
        lambda: run(mlp(), steps=40),
        lambda: run(mlp(), late_zero=True),
        lambda: run(mlp(nn.Tanh, 2), optimizer=None, rate=0.5),
        lambda: run(Functional()),
        lambda: run(Sequenced(), rate=0.5),
        lambda: run(nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))),
    ],
)
def test_nothing_is_said_of_a_loop_that_works(make: Callable[[], Any]) -> None:
    found = make()
    assert found.verdict == "healthy" and not found.finding, found.events
    assert "Nothing went wrong" in found.text()


def test_the_loop_is_left_as_it_is() -> None:
    """The same weights to the bit, no hook left, the generators untouched."""
    nets = [mlp(), mlp()]
    ends = []
    for i, net in enumerate(nets):
        torch.manual_seed(5)
        if i:
            run(net, steps=8)
        else:
            optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
            for _ in range(8):
                optimizer.zero_grad()
                F.cross_entropy(net(X[:32]), T[:32]).backward()
                optimizer.step()
        ends.append(torch.rand(1))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    assert torch.equal(*ends)
    assert "forward" not in vars(nets[1]) and not any(m._forward_hooks for m in nets[1].modules())
    assert not any(p._backward_hooks for p in nets[1].parameters())


def test_without_an_optimizer_and_with_micro_batches() -> None:
    net = mlp()
    with bp.watch(net) as w:
        for _ in range(3):
            F.cross_entropy(net(X[:32]), T[:32]).backward()
            net.zero_grad()
    assert w.report().steps == 3 and w.report().verdict == "healthy"
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with bp.watch(net, optimizer) as w:
        for _ in range(4):
            optimizer.zero_grad()
            for k in range(2):
                F.cross_entropy(net(X[32 * k : 32 * k + 32]), T[:32]).backward()
            optimizer.step()
    assert w.report().steps == 4 and w.report().verdict == "healthy", w.events


def test_it_stops_when_asked_and_refuses_what_it_cannot_watch() -> None:
    with pytest.raises(bp.InputError, match="Step 7: not finite"):
        run(mlp(), batch=spoiled, stop=True)
    with pytest.raises(bp.InputError, match="no trainable parameter"):
        bp.watch(nn.ReLU())
    with pytest.raises(bp.InputError, match=r"nn\.Module"):
        bp.watch("net")  # type: ignore[arg-type]
    with pytest.raises(bp.InputError, match="budget"):
        bp.watch(mlp(), budget=2.0)


def test_the_cause_is_what_came_before() -> None:
    """A raised learning rate is named; what is so from the start isn't blamed on an update; a loss that is infinite is seen."""
    net = mlp()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with bp.watch(net, optimizer) as w:
        for k in range(24):
            if k == 20:
                optimizer.param_groups[0]["lr"] = 1e8
            optimizer.zero_grad()
            F.mse_loss(net(X[:32]), X[:32, :4]).backward()
            optimizer.step()
    assert w.first is not None and "raised from 0.05 to 1e+08" in w.first.cause, w.events
    deep = mlp(nn.Sigmoid, 12)
    optimizer = torch.optim.SGD(deep.parameters(), lr=5.0)
    with bp.watch(deep, optimizer) as w:
        optimizer.zero_grad()
        F.mse_loss(deep(X[:32]), X[:32, :4]).backward()
        optimizer.step()
    fades = next(e for e in w.events if e.kind == "vanishing")
    assert "learning rate" not in fades.cause
    cut = nn.Sequential(mlp(), nn.ReLU())
    with bp.watch(cut, torch.optim.SGD(cut.parameters(), lr=0.05)) as w:
        torch.log(cut(X[:32])).mean().backward()
        w.optimizer.step()
    assert w.report().verdict == "not finite"


def test_several_optimizers_line_searches_and_a_watch_within_a_watch() -> None:
    net = mlp()
    both = [torch.optim.SGD(part.parameters(), lr=0.05) for part in (net[:2], net[2:])]
    with bp.watch(net, both) as outer, bp.watch(net, both[1]) as inner:
        for _ in range(8):
            for one in both:
                one.zero_grad()
            F.cross_entropy(net(X[:32]), T[:32]).backward()
            for one in both:
                one.step()
    assert outer.report().verdict == "healthy" and outer.report().steps == 8, outer.events
    assert all(v > 0 for v in outer.looks[0].updates.values())
    assert inner.first is not None and "not given" in inner.first.cause
    assert by_closure(mlp(nn.Tanh), torch.optim.LBFGS, max_iter=3).verdict == "healthy"
    with pytest.raises(bp.InputError, match="list of such"):
        bp.watch(net, net)  # type: ignore[arg-type]


def test_an_interrupted_loop_leaves_no_hook() -> None:
    net = mlp()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with pytest.raises(KeyboardInterrupt), bp.watch(net, optimizer):
        net(X[:32])
        raise KeyboardInterrupt
    assert "forward" not in vars(net) and not any(m._forward_hooks for m in net.modules())
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
