"""The memory of a training step: predicted, measured in a process of its own, and planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.domains.bytes import FOREVER, Instant, Storage, Timeline, read_bytes
from backproof.studies.memory import record as memory_record
from backproof.studies.memory.billions import Shape, billions, counted_parameters, kept_activations
from backproof.studies.memory.measure import run_of
from backproof.studies.memory.segments import blocks_of, choices, uniform
from backproof.studies.memory.stepping import Segment, Way, train_step


class Residual(nn.Module):
    """Convolutions with batch norm and a way around."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.norm(self.first(x)))
        return x + z


class Recurrent(nn.Module):
    """An LSTM of two layers, whose kernel keeps a workspace that no shape tells."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 16, 2, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Attentive(nn.Module):
    """Transformer layers with dropout, in a module list of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.embed = nn.Embedding(20, 16)
        self.layers, self.head = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x)).mean(1))


def mlp(width: int = 48, layers: int = 10) -> nn.Module:
    hidden = (m for _ in range(layers) for m in (nn.Linear(width, width), nn.Sigmoid()))
    return nn.Sequential(*hidden, nn.Linear(width, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), *(Residual() for _ in range(4)), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(3)
    )


CASES: dict[str, tuple[Any, Any]] = {
    "mlp": (mlp, lambda: torch.randn(250, 48)),
    "cnn": (cnn, lambda: torch.randn(9, 3, 16, 16)),
    "lstm": (Recurrent, lambda: torch.randn(7, 11, 8)),
    "attention": (Attentive, lambda: torch.randint(20, (6, 13))),
}


def made(name: str, optimizer: Any = "adam") -> bp.Memory:
    torch.manual_seed(3)
    make, draw = CASES[name]
    model, x = make(), draw()
    model(x)  # what is lazy gets its shape
    return bp.memory(model, x, loss="cross_entropy", targets=torch.randint(3, x.shape[:1]), optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", (torch.optim.AdamW, {"foreach": True})], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_the_measured_one(name: str, optimizer: Any) -> None:
    found = made(name, optimizer)
    run = run_of(found, Way())
    assert found.record.unmeasured == 0
    assert found.peak_bytes == pytest.approx(run.peak, rel=0.002)
    assert found.first_step_peak_bytes == pytest.approx(run.first_peak, rel=0.002)
    assert sum(found.breakdown.values()) == found.peak_bytes


def test_what_every_number_is_for_a_net_counted_by_hand() -> None:
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    found = bp.memory(
        net, torch.ones(100, 64), loss=lambda y, t: (y - t).sum(), targets=torch.zeros(100, 1), optimizer="adam"
    )
    weights = 4 * (64 * 32 + 32 + 32 + 1)
    assert found.breakdown["parameters"] == weights
    assert found.breakdown["optimizer state"] == 2 * weights + 4 * 4  # two averages, and a count for each tensor
    assert found.breakdown["inputs"] == 4 * (6400 + 100)
    line = found.record.timeline
    backward = next(i for i in line.span(2) if line.instants[i].phase == "backward")
    assert line.breakdown(backward)["activations"] == 4 * (3200 + 100 + 1)  # after ReLU; the output; the loss


def test_tied_weights_and_views_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(10, 10), nn.Linear(10, 10)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).view(-1, 10)).t()

    assert bp.memory(Tied(), torch.ones(3, 10)).breakdown["parameters"] == 4 * (100 + 10 + 10)


def test_the_line_that_made_a_storage() -> None:
    lines = {s.source for s in made("cnn").live_at_peak if s.kind == "activations" and s.module.startswith("1")}
    assert any(line.startswith("test_memory.py:") for line in lines)


def test_a_timeline_of_three_storages() -> None:
    at = tuple(Instant(1, "forward", f"op{i}", scratch=10 * (i == 1)) for i in range(3))
    kept = (Storage(5, "parameters", 0, FOREVER), Storage(7, "activations", 0, 1), Storage(11, "temporaries", 2, 2))
    line = Timeline(kept, at)
    assert line.live == (12, 22, 16) and line.peak_at(1) == 1
    assert line.breakdown(1) == {"parameters": 5, "activations": 7, "scratch": 10}


def test_the_model_is_not_changed() -> None:
    found = made("cnn")
    model, before = found.case.model, {n: t.clone() for n, t in made("cnn").case.model.state_dict().items()}
    plan = found.plan(int(0.75 * found.peak_bytes))
    plan.measure()
    after = model.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before) and all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or "forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("name", ["mlp", "cnn", "attention"])
def test_checkpoints_meet_a_budget_with_the_same_gradients(name: str) -> None:
    found = made(name, "sgd")
    plan = found.plan(int(0.7 * found.peak_bytes), allow=("checkpoints",))
    assert plan.meets and plan.way.segments and not plan.changes_result and not plan.finding
    measured = plan.measure()
    assert measured.agrees and measured.gradients_equal and measured.buffers_equal
    assert measured.largest_difference == 0.0
    assert measured.measured_peak <= plan.budget * 1.005
    assert 0 < plan.predicted_overhead < 0.5


def test_parts_are_the_same_up_to_rounding_without_batch_norm() -> None:
    found = made("lstm", "sgd")
    plan = found.plan(int(0.6 * found.peak_bytes))
    assert plan.meets and plan.way.parts > 1 and not plan.changes_result
    measured = plan.measure()
    assert measured.gradients_equal and measured.agrees


def test_parts_with_batch_norm_change_the_result() -> None:
    found = made("cnn", "sgd")
    plan = found.plan(int(0.6 * found.peak_bytes), allow=("parts",))
    assert plan.way.parts > 1 and plan.changes_result and not plan.measure().gradients_equal


def test_many_parts_are_predicted_from_three() -> None:
    found = made("mlp", "sgd")
    from backproof.studies.memory.plan import Search

    way = Way(parts=8)
    run = run_of(found, way)
    assert Search(found).peak(way) == pytest.approx(max(run.peak, run.first_peak), rel=0.002)


def test_a_foreach_optimizer_is_replaced_where_that_is_enough() -> None:
    torch.manual_seed(0)
    net = nn.Linear(300, 300)
    found = bp.memory(net, torch.ones(2, 300), optimizer=(torch.optim.Adam, {"foreach": True}))
    plan = found.plan(found.peak_bytes - 300_000)
    assert plan.meets and plan.way.optimizer["foreach"] is False and not plan.way.segments and plan.way.parts == 1
    assert plan.measure().agrees


def test_a_plan_that_is_applied_trains() -> None:
    found = made("mlp", "sgd")
    plan = found.plan(int(0.7 * found.peak_bytes))
    step, before = plan.apply(), [p.clone() for p in found.case.model.parameters()]
    first = step()
    for _ in range(3):
        last = step()
    assert last < first
    assert any(not torch.equal(a, b) for a, b in zip(before, found.case.model.parameters(), strict=True))
    assert torch.isfinite(step(torch.randn(5, 48), torch.zeros(5, dtype=torch.int64)))


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    found = made("mlp", "sgd")
    budget = 3 * found.peak_bytes
    largest = found.max_batch(budget)
    assert largest > 250

    def peak(batch: int) -> int:
        net = found.case.model
        one = bp.memory(
            net,
            torch.randn(batch, 48),
            loss="cross_entropy",
            targets=torch.zeros(batch, dtype=torch.int64),
            optimizer="sgd",
        )
        return max(one.peak_bytes, one.first_step_peak_bytes)

    assert peak(largest) <= budget < peak(largest + 1)
    assert found.max_batch(1000) == 0


def test_the_budget_that_nothing_meets_is_a_finding() -> None:
    plan = made("mlp").plan(1)
    assert plan.finding and not plan.meets and plan.floor > 1
    assert "No plan meets" in plan.text() and plan.predicted_peak < plan.plain_peak


@pytest.mark.parametrize("budget", [-5, 0, float("nan"), float("inf"), "abc", "", True, None, "-3MB", "1e999", 10**40])
def test_a_budget_that_is_no_number_of_bytes_is_refused(budget: Any) -> None:
    with pytest.raises(bp.InputError, match="budget"):
        read_bytes(budget)


def test_what_cannot_be_predicted_is_refused() -> None:
    class Selecting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x[x[:, 0] > 0])

    with pytest.raises(bp.InputError, match="depends on the numbers"):
        bp.memory(Selecting(), torch.randn(4, 2))
    with pytest.raises(bp.InputError, match="could not be recorded"):
        bp.memory(nn.Linear(3, 1), torch.ones(2, 4))
    with pytest.raises(bp.InputError, match=r"nn\.Module"):
        bp.memory(torch.sin, torch.ones(3))
    with pytest.raises(bp.InputError, match="no optimizer called"):
        bp.memory(nn.Linear(3, 1), torch.ones(2, 3), optimizer="sdg")


def test_a_batch_of_a_billion_is_predicted_without_memory() -> None:
    with torch.device("meta"):
        net, x = mlp(), torch.empty(10**9, 48)
    found = bp.memory(net, x, optimizer="sgd")
    assert 10**12 < found.peak_bytes < 10**13
    with pytest.raises(bp.InputError, match="described"):
        found.plan(10**12).measure()


def test_a_captured_graph_can_be_given() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    x, t = torch.ones(5, 4), torch.zeros(5, 3)
    graph = bp.capture(net, x, loss="mse", targets=t)
    assert bp.memory(graph).peak_bytes == bp.memory(net, x, loss="mse", targets=t).peak_bytes


def test_storages_that_die_too_early_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations that vanish at once make another peak than the measured one."""
    honest = memory_record._storage

    def short(*arguments: Any) -> Storage:
        s = honest(*arguments)
        return Storage(s.bytes, s.kind, s.birth, s.birth) if s.kind == "activations" else s

    monkeypatch.setattr(memory_record, "_storage", short)
    found = made("mlp", "sgd")
    measured = found.plan(found.peak_bytes).measure()
    assert not measured.agrees and [e.agrees for e in measured.evidence()] == [False, True]


def test_a_checkpoint_that_moves_the_statistics_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from backproof.studies.memory import stepping

    monkeypatch.setattr(stepping, "_still", lambda norms: nullcontext())
    found = made("cnn", "sgd")
    measured = found.plan(int(0.7 * found.peak_bytes), allow=("checkpoints",)).measure()
    assert measured.gradients_equal and not measured.buffers_equal


def test_the_best_segments_are_those_of_trying_all() -> None:
    """On a small chain, no partition at all has a lower estimated peak than the most frugal choice."""
    from itertools import product

    found = made("mlp", "sgd")
    blocks = blocks_of(found.case.model, found.record)[:9]
    chosen = choices(blocks)
    assert [c.peak for c in chosen] == sorted((c.peak for c in chosen), reverse=True)

    def peak(labels: tuple[int, ...]) -> int:
        """0: kept; 1: begins a segment; 2: goes on."""
        kept = high = i = 0
        after = [sum(b.gradients for b in blocks[j:]) for j in range(len(blocks) + 1)]
        follows = False
        while i < len(blocks):
            b = blocks[i]
            if labels[i] == 0:
                kept += b.kept + (b.entering if follows and b.needed else 0)
                high, follows, i = max(high, kept + after[i + 1]), False, i + 1
                continue
            j = i + 1
            while j < len(blocks) and labels[j] == 2:
                j += 1
            own = b.entering if follows or not b.needed else 0
            high = max(high, kept + own + sum(c.kept for c in blocks[i:j]) + after[j])
            kept, follows, i = kept + own, True, j
        return high

    def valid(labels: tuple[int, ...]) -> bool:
        return all(b != 2 or a != 0 for a, b in zip((0, *labels), labels, strict=False))

    lowest = min(peak(labels) for labels in product((0, 1, 2), repeat=len(blocks)) if valid(labels))
    assert chosen[-1].peak <= 1.05 * lowest


def test_running_a_segment_by_hand_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    net, x = mlp(5, 3).double(), torch.randn(4, 5, dtype=torch.float64)
    found = []
    for way in (Way(), Way((Segment(("0", "1", "2")), Segment(("4",))))):
        train_step(net, None, ((x,), {}), None, lambda y: y.square().sum(), way)
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_uniform_segments_cover_every_block_once() -> None:
    found = made("mlp", "sgd")
    blocks = blocks_of(found.case.model, found.record)
    for k in (1, 2, 5, len(blocks)):
        paths = [p for s in uniform(blocks, k) for p in s.blocks]
        assert paths == [b.path for b in blocks]


def test_a_transformer_described_is_a_transformer_counted() -> None:
    shape = Shape(3, 24, 4, 50, 7, 5)
    assert counted_parameters(shape) == shape.parameters
    assert kept_activations(shape, torch.float32, False) == pytest.approx(shape.activations(4), rel=1e-4)
    rows = {r.name.split()[0]: r for r in billions(shape, 2)}
    assert rows["checkpoint"].activations < rows["plain,"].activations
    assert rows["bfloat16"].parameters == 2 * shape.parameters
    with pytest.raises(bp.InputError, match="heads"):
        Shape(2, 10, 3, 5, 5, 1).checked()


SMALL = {"layers": 2, "width": 32, "heads": 2, "vocab": 40, "sequence": 8, "billions_batch": 2}


def test_the_exercise_on_another_network(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(*[nn.Sequential(nn.Linear(24, 24), nn.GELU()) for _ in range(9)])\n"
    )
    solved = bp.solve("uva-dl-1/memory", model=f"{path}:net", budget="400kB", batch=200, optimizer="sgd", **SMALL)
    answers = solved.answers
    assert answers["plain_peak"] > 400_000 >= answers["plan_peak"] and answers["gradients_equal"]
    assert answers["plan_peak_measured"] == pytest.approx(answers["plan_peak"], rel=0.01)
    assert not solved.finding and all(e.agrees for e in solved.evidence)
    assert len(answers["curve"]) > 3 and answers["billions"]
    assert "Memory against work" in solved.text()


@pytest.mark.parametrize(
    "settings",
    [
        {"budget": -5}, {"budget": float("nan")}, {"budget": "abc"}, {"batch": 0}, {"batch": 10**14},
        {"optimizer": "nothing"}, {"model": "nowhere.py:net"}, {"model": "net"}, {"heads": 3}, {"layers": 10**9},
        {"devices": 0}, {"input": [-1]}, {"model": 3},
    ],
    ids=str,
)  # fmt: skip
def test_hostile_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.InputError):
        bp.solve("uva-dl-1/memory", **settings)


def test_a_model_file_that_fails_or_lacks_the_name(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("from torch import nn\ndef fails():\n    raise ValueError('no')\nnumber = 3\n")
    for name, said in (("fails", "no"), ("missing", "has no"), ("number", "int")):
        with pytest.raises(bp.InputError, match=said):
            bp.solve("uva-dl-1/memory", model=f"{path}:{name}")
