"""A step read in torch's kernels: the textbook's numbers, the program's own bits, and no torch.autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import backproof as bp
from backproof.differentiate import differentiate
from backproof.domains import fused
from backproof.domains.numbers import evaluate
from backproof.graph import Graph, Node
from backproof.ops import OPS
from backproof.studies.planned import planned_step

from .random_graphs import RandomGraph, random_graphs
from .samples import CASES, case_name, sample
from .test_random_graphs import DAILY


def compare(graph: Graph, leaves: dict[Node, Tensor]) -> None:
    """Every value and gradient of the plan is the one that the textbook's formulas give, of the same shape and dtype."""
    joint = differentiate(graph) if graph.loss is not None else None
    textbook = evaluate(joint.graph if joint else graph, leaves)
    step = planned_step(graph)
    kept = {p for p in (*step.values.values(), *step.gradients.values()) if p is not None}
    found = step.plan.run({n.name: t for n, t in leaves.items()}, step.plan.drops(kept))
    for name, place in step.values.items():
        same(name, found[place], textbook[graph.by_name[name]])
    for name, at in step.gradients.items():
        adjoint = joint.gradients[graph.by_name[name]] if joint else None
        assert (adjoint is None) == (at is None), name
        if adjoint is not None and at is not None:
            same(f"grad({name})", found[at], textbook[adjoint])


def same(name: str, ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, name
    if ours.numel() and ours.is_floating_point():
        bounded = torch.nan_to_num(ours - theirs, 0.0, 0.0, 0.0)  # inf - inf; both are compared below
        assert bounded.norm() <= 1e-10 * torch.nan_to_num(theirs, 0.0, 0.0, 0.0).norm().clamp(min=1e-2), name
        assert torch.equal(ours.isfinite(), theirs.isfinite()), name
    else:
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_every_operation(case: tuple[str, int]) -> None:
    found = sample(OPS[case[0]], OPS[case[0]].examples[case[1]])
    compare(found.graph, found.leaves)


@settings(max_examples=150, **DAILY)
@given(random_graphs())
def test_random_graphs(found: RandomGraph) -> None:
    compare(found.graph, found.leaves)


# --- networks: bits and gradients ---------------------------------------------------------------------------------------
def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Attention(nn.Module):
    """Attention that torch computes in one call, causal, with a mask of numbers or of truth values, or with none."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.qkv = kind, nn.Linear(8, 8)
        self.register_buffer("seen", torch.ones(5, 5, dtype=torch.bool).tril())
        self.register_buffer("added", torch.linspace(-1, 1, 25).reshape(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (self.qkv(x), 2 * self.qkv(x), self.qkv(x)))
        mask = {"added": self.added, "boolean": self.seen}.get(self.kind)
        return nn.functional.scaled_dot_product_attention(q, k, v, mask, is_causal=self.kind == "causal")


class Tied(nn.Module):
    """A norm whose input other operations use too, and a kernel that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.conv(torch.relu(y + self.norm(y))) * y.mean()


class Written(nn.Module):
    """A norm written by hand from a mean and a variance: no kernel of torch may take its place."""

    def forward(self, x: Tensor) -> Tensor:
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(var + 1e-5) * mean


ACTIVATIONS: list[nn.Module] = [
    nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.LeakyReLU(0.1), nn.Hardtanh(-0.5, 2.0),
    nn.ReLU6(), nn.Hardswish(), nn.Softplus(2.0), nn.Mish(), nn.ELU(), nn.Softmax(-1), nn.LogSoftmax(1),
]  # fmt: skip
IMAGES: list[nn.Module] = [
    nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.Conv2d(4, 6, 3, padding="same", bias=False), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1),
    nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d(3), nn.BatchNorm2d(4), nn.BatchNorm2d(4).eval(), nn.BatchNorm2d(4, momentum=0.3),
    nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4),
    nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([4, 6, 6]), nn.LayerNorm(6, elementwise_affine=False),
    nn.LayerNorm(6, bias=False), nn.RMSNorm(6), Tied(),
]  # fmt: skip
NETWORKS: list[tuple[nn.Module, tuple[int, ...]]] = [
    *((module, (3, 4, 5)) for module in (*ACTIVATIONS, Written())),
    *((module, (3, 4, 6, 6)) for module in IMAGES),
    *((Attention(kind), (2, 5, 8)) for kind in ("plain", "causal", "added", "boolean")),
    (nn.Conv1d(4, 3, 3), (2, 4, 7)), (nn.MaxPool1d(2), (2, 4, 6)), (nn.AvgPool1d(2), (2, 4, 6)),
    (nn.BatchNorm1d(4), (6, 4)), (nn.MaxPool3d(2), (1, 2, 4, 4, 4)), (nn.AvgPool3d(2), (1, 2, 4, 4, 4)),
    (nn.AdaptiveAvgPool3d(2), (1, 2, 4, 4, 4)), (nn.Conv3d(2, 2, 2), (1, 2, 3, 3, 3)), (nn.Linear(6, 2), (2, 3, 6)),
]  # fmt: skip


def weighed(y: Tensor) -> Tensor:
    return (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("module", "shape"), NETWORKS, ids=lambda x: str(x).split("(")[0] if isinstance(x, nn.Module) else ""
)
def test_the_program_s_own_bits(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    net, x = copy.deepcopy(module).to(dtype), doubles(*shape).to(dtype)
    graph = bp.capture(net, x, loss=weighed)
    step = bp.trace(graph).steps[0]
    buffers = {n.name for n in graph.of_role("buffer")}
    leaves = {
        n: t.clone().requires_grad_(t.is_floating_point() and n not in buffers)
        for n, t in graph.origin.leaves().items()
    }
    theirs = graph.origin.values(leaves)
    for name in set(theirs) & set(step.values):
        assert torch.equal(step.values[name], theirs[name].detach()), name
    before = copy.deepcopy(net)
    before(x)
    assert all(torch.equal(new, dict(before.named_buffers())[name]) for name, new in step.buffers.items())
    if dtype == torch.float64:
        _gradients_are_autograd_s(graph, step, leaves, theirs)


def _gradients_are_autograd_s(graph: Graph, step: Any, leaves: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert graph.loss is not None
    wanted = {n: t for n, t in {**leaves, **theirs}.items() if t.requires_grad and step.gradients.get(n) is not None}
    gradients = torch.autograd.grad(theirs[graph.loss.name], list(wanted.values()), allow_unused=True)
    for name, expected in zip(wanted, gradients, strict=True):
        if expected is not None:
            same(name, step.gradients[name], expected)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The names of the kernels that are called."""
    called: set[str] = set()

    def noting(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            called.add(name)
            return kernel(*args, **more)

        return run

    for name, kernel in fused.FUSED.items():
        monkeypatch.setitem(fused.FUSED, name, noting(name, kernel))
    yield called


def test_every_kernel_is_used_by_a_network_above(used: set[str]) -> None:
    for module, shape in NETWORKS:
        bp.trace(bp.capture(copy.deepcopy(module).double(), doubles(*shape), loss=weighed))
    net = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(0, 1))
    bp.trace(bp.capture(net, torch.tensor([[1, 4, 1]]), loss="cross_entropy", targets=torch.tensor([0, 2, 1])))
    assert used == set(fused.FUSED)


def test_what_is_written_by_hand_stays_as_it_is(used: set[str]) -> None:
    bp.trace(bp.capture(Written().double(), doubles(2, 3, 4), loss=weighed))
    assert not {name for name in used if "norm" in name}


def test_a_wrong_kernel_is_found_by_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, t = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), doubles(5, 3), torch.arange(5) % 2
    assert not bp.trace(net, x, t, loss="cross_entropy", evidence="full").finding
    right = fused.FUSED["torch.tanh_grad"]
    monkeypatch.setitem(fused.FUSED, "torch.tanh_grad", lambda delta, y: right(delta, y) * (1 + 1e-6))
    record = bp.trace(net, x, t, loss="cross_entropy", evidence="full")
    assert record.finding
    assert {e.oracle for e in record.evidence if e.agrees is False} == {"the textbook's formulas"}


def test_torch_autograd_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [bp.capture(copy.deepcopy(m), doubles(*s).float(), loss=weighed) for m, s in NETWORKS[-14:]]

    def refuse(*args: Any, **more: Any) -> None:
        raise AssertionError("torch.autograd was called")

    for name in ("grad", "backward"):
        monkeypatch.setattr(torch.autograd, name, refuse)
    monkeypatch.setattr(Tensor, "backward", refuse)
    for graph in graphs:
        step = bp.trace(graph).steps[0]
        assert not any(
            t.requires_grad or t.grad_fn for t in (*step.values.values(), *step.gradients.values()) if t is not None
        )


def test_a_record_stays_when_the_model_is_trained_on() -> None:
    net = nn.Linear(2, 1)
    record = bp.trace(net, torch.ones(3, 2), torch.zeros(3, 1), loss="mse")
    before = record.steps[0].parameters["weight"].before.clone()
    with torch.no_grad():
        net.weight.add_(1)
    assert torch.equal(record.steps[0].parameters["weight"].before, before)
