"""Right networks at awkward numbers: what cancels, ties, saturates or is torch's own rounding is no disagreement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp
from backproof.domains.kernels import KERNELS, SLOPES
from backproof.studies.confirming.coarse import coarse_kernels


class Net(nn.Module):
    """A function of an input, some layers and a weight w."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module, w: Tensor | None = None) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)
        self.w = nn.Parameter(torch.ones(()) if w is None else w)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.w, *self.layers)


def _nets() -> dict[str, tuple[Net, Tensor]]:
    torch.manual_seed(0)
    r, eye = torch.randn, torch.eye(5, dtype=torch.bool)
    return {
        "torch's hardsigmoid has a float32 1/6": (
            Net(lambda x, w, layer: (w * F.hardsigmoid(layer(x)) ** 2).sum(), nn.Linear(3, 5)), r(4, 3)),
        "a bias before an instance norm, targets zero": (
            Net(lambda x, w, c, n: w * n(c(x)).pow(2).mean(), nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3)), r(2, 2, 6, 6)),
        "a bias before a batch norm": (
            Net(lambda x, w, layer, n: w * n(layer(x)).pow(2).mean(), nn.Linear(3, 4), nn.BatchNorm1d(4)), r(8, 3)),
        "a batch norm of a constant": (
            Net(lambda x, w, n: (n(w * x) ** 3).sum(), nn.BatchNorm1d(4)), torch.full((3, 4), 0.3)),
        "the square of an RMS norm, whose epsilon belongs to the dtype": (
            Net(lambda x, w, layer, n: w * n(layer(x)).pow(2).sum(), nn.Linear(4, 8), nn.RMSNorm(8)), r(6, 4)),
        "a ReLU of what cancels": (
            Net(lambda x, w: F.relu(w[0] * x + w[1] * x + w[2] * x).sum(), w=torch.tensor([0.1, 0.2, -0.3])), r(8)),
        "e^x - 1 at tiny x": (Net(lambda x, w: (((w * x * 1e-9).exp() - 1) / 1e-9).pow(2).sum(), w=r(5)), r(4, 5)),
        "a saturated tanh": (Net(lambda x, w, layer: w * torch.tanh(layer(x) * 50).sum(), nn.Linear(3, 4)), r(4, 3)),
        "a sine far out": (Net(lambda x, w: torch.sin(w * x * 1e6).sum(), w=r(5)), r(4, 5)),
        "a sum of deviations": (Net(lambda x, w: ((x - x.mean()).sum() * w).abs().sum(), w=r(2)), r(9)),
        "a log-sum-exp far out": (Net(lambda x, w: torch.logsumexp(w * x + 1000, -1).sum(), w=r(5)), r(4, 5)),
        "an attention's bias of the keys": (
            Net(lambda x, w, q, k: w * F.scaled_dot_product_attention(q(x), k(x), x).pow(2).sum(),
                nn.Linear(4, 4), nn.Linear(4, 4)), r(2, 3, 4)),
        "a mask of minus infinity": (
            Net(lambda x, w: F.softmax((w * x).masked_fill(eye, -torch.inf), -1).pow(2).sum(), w=r(5)), r(5, 5)),
        "weights of zero": (Net(lambda x, w: (w * x).norm(dim=-1).sum(), w=torch.zeros(3)), r(4, 3)),
        "the deviation of a constant": (
            Net(lambda x, w: (w * x + w.std() + (w * x).std(-1)[:, None]).pow(2).sum(), w=torch.full((3,), 0.1)),
            torch.ones(4, 3)),
        "the distance from itself": (
            Net(lambda x, w: (x + torch.cdist(w * x, w * x).sum()).pow(2).sum(), w=r(3)), r(4, 3)),
    }  # fmt: skip


NETS = _nets()
LONG = "a bias before an instance norm, targets zero"
"""Three seconds in each test: of them one a day is enough."""
SOME = [pytest.param(n, marks=pytest.mark.nightly) if n == LONG else n for n in NETS]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_right_network_gives_no_alarm(name: str, dtype: torch.dtype) -> None:
    net, x = NETS[name]
    record = bp.trace(net.to(dtype), x.to(dtype), optimizer=torch.optim.Adam(net.parameters()), evidence="full")
    assert [e for e in record.evidence if e.agrees is False] == []
    assert any(e.agrees for e in record.evidence)


@pytest.mark.parametrize("name", NETS)
def test_a_right_problem_gives_no_alarm(name: str) -> None:
    """Adam divides a gradient that is nothing but rounding by its own size."""
    net, x = NETS[name]
    problem = bp.Problem(net.double(), x.double(), optimizer=torch.optim.Adam(net.parameters()), steps=2)
    assert [e for e in bp.solve(problem).evidence if e.agrees is False] == []


def test_torchs_own_rounding_is_said() -> None:
    net, x = NETS["torch's hardsigmoid has a float32 1/6"]
    record = bp.trace(net.double(), x.double(), evidence="full")
    notes = [e.note for e in record.evidence if "hardsigmoid" in e.note]
    assert notes and all("wrong by 3e-08" in note for note in notes)
    assert coarse_kernels(record.graph, {**record.steps[0].leaves, **record.steps[0].values}).keys() == {"hardsigmoid"}


@pytest.mark.parametrize(("table", "key", "text"), [
    (SLOPES, "relu'", "(x > 0).to(x.dtype) * 1.0000001"),
    (KERNELS, "mul", "a * b * 1.0000001"),
])  # fmt: skip
def test_a_mistake_does_not_hide_behind_what_cancels(
    monkeypatch: pytest.MonkeyPatch, table: dict[str, str], key: str, text: str
) -> None:
    """One part in ten million, in a network that has a kink within rounding of its point as well."""
    from backproof.domains import numbers

    monkeypatch.setitem(table, key, text)
    numbers._kernel.cache_clear()
    torch.manual_seed(0)

    def loss(x: Tensor, w: Tensor) -> Tensor:
        return (F.relu(0.1 * x + 0.2 * x - 0.3 * x) + F.relu(w * x)).sum()

    try:
        problem = bp.Problem(
            loss, {"x": torch.randn(6).double(), "w": torch.ones(6).double()}, parameters=("w",), optimizer="sgd"
        )
        assert "gradient of w" in {e.what for e in bp.solve(problem).evidence if e.agrees is False}
    finally:
        monkeypatch.undo()
        numbers._kernel.cache_clear()


def test_single_operations_that_cancel_are_no_alarm() -> None:
    """Beyond the 50-digit budget entries are computed again one by one; what cancels there is compared with its terms."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.InstanceNorm2d(16), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16)).double()
    x: Any = torch.randn(2, 3, 20, 20).double()
    record = bp.trace(net, x, torch.zeros_like(net(x)), loss="mse", evidence="sampled")
    assert [e for e in record.evidence if e.agrees is False] == []


@pytest.mark.parametrize("name", NETS)
def test_a_derivation_gives_no_alarm(name: str) -> None:
    net, x = NETS[name]
    assert [e for e in bp.derive(net.float(), x.float()).evidence if e.agrees is False] == []


KINKS: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "ReLU at 0": (lambda x, w: F.relu(x * w).sum(), torch.zeros(3)),
    "equal largest": (lambda x, w: (x * 0 + w).amax(-1).sum(), torch.ones(3)),
    "a layer norm of a constant": (lambda x, w: (F.layer_norm(x * 0 + 2 * w, (3,)) ** 3).sum(), torch.ones(3)),
    "the largest two": (lambda x, w: (x * w).topk(2, dim=-1).values.sum(), torch.ones(3)),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_derivation_on_a_kink_gives_no_alarm(name: str) -> None:
    torch.manual_seed(0)
    function, w = KINKS[name]
    found = bp.derive(function, torch.randn(4, 3), w)
    assert [e for e in found.evidence if e.agrees is False] == []


class _Unrolled(nn.Module):
    """A state that begins as zeros of the default dtype, as in any recurrent network written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 4)
        for t in range(3):
            h = torch.tanh(self.inner(h) + self.outer(x[:, t]))
        return h.pow(2).sum()


def test_zeros_of_the_default_dtype_follow_to_float64() -> None:
    torch.manual_seed(0)
    assert all(e.agrees for e in bp.derive(_Unrolled(), torch.randn(2, 3, 3)).evidence)
