"""bp.train: the same numbers every time, resumed or not, and nobody else's chance is touched."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import backproof as bp
from backproof.progress import shown_by

X = torch.randn(50, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Y = (X.mean((1, 2, 3)) > 0).long()


def net() -> nn.Module:
    torch.manual_seed(3)
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(64, 2))


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return x + 0.1 * torch.randn(x.shape, generator=generator)


def trained(epochs: int = 4, **changed: Any) -> bp.History:
    settings: dict[str, Any] = {
        "loss": "cross_entropy",
        "optimizer": (torch.optim.AdamW, {"lr": 0.01}),
        "batch_size": 16,
        "schedule": "cosine",
        "seed": 7,
        "augment": augment,
        "validation": (X[:10], Y[:10]),
    }
    return bp.train(net(), (X, Y), epochs=epochs, **{**settings, **changed})


def same(a: bp.History, b: bp.History) -> bool:
    states = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return a.rows == b.rows and all(torch.equal(x, y) for x, y in states)


def test_equal_calls_give_equal_bits_and_leave_chance_alone() -> None:
    model = net()
    before = [p.clone() for p in model.parameters()]
    state, python, numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    a = trained()
    torch.rand(5)
    b = trained()
    assert same(a, b) and not same(a, trained(seed=8))
    model, state = net(), torch.get_rng_state()
    bp.train(model, (X, Y), epochs=1, batch_size=16)
    assert torch.equal(state, torch.get_rng_state())
    assert python == random.getstate() and np.array_equal(numpy, np.random.get_state()[1])
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True)) and model.training


def test_the_rows_say_what_happened() -> None:
    rows = trained().rows
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4]
    assert all(0 <= r[k] <= 1 for r in rows for k in ("accuracy", "validation_accuracy"))
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_updates_are_those_of_torch_written_out() -> None:
    """The same training as a plain loop: same order of the samples, nothing else shared."""
    from backproof.studies.training.chance import generator_for

    model = nn.Linear(36, 2)
    found = bp.train(
        model, (X.flatten(1), Y), optimizer=(torch.optim.SGD, {"lr": 0.1}), epochs=2, batch_size=20, seed=5
    )
    own = nn.Linear(36, 2)
    own.load_state_dict(model.state_dict())
    for epoch in (1, 2):
        order = torch.randperm(50, generator=generator_for(5, "epoch", epoch))
        total = 0.0
        for part in (order[:20], order[20:40], order[40:]):
            own.zero_grad()
            loss = F.cross_entropy(own(X.flatten(1)[part]), Y[part])
            loss.backward()
            total += loss.item() * len(part)
            with torch.no_grad():
                for p in own.parameters():
                    assert p.grad is not None
                    p -= 0.1 * p.grad
        assert found.rows[epoch - 1]["loss"] == pytest.approx(total / 50, rel=1e-6)
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(own.parameters(), found.model.parameters(), strict=True))


class _Stop(Exception):
    pass


def interrupted(path: Path, after: int, **changed: Any) -> None:
    """Train until the middle of epoch ``after`` + 1, as a killed process would."""

    def stopping(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count[0] += 1
        if count[0] == 4 * after + 3:
            raise _Stop
        return augment(x, generator)

    count = [0]
    stopping.__qualname__ = augment.__qualname__
    with pytest.raises(_Stop):
        trained(checkpoint=path, augment=stopping, **changed)


SCHEDULES = ["cosine", (torch.optim.lr_scheduler.CosineAnnealingLR, {}), torch.optim.lr_scheduler.LinearLR, None]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["cosine", "torch cosine", "torch linear", "none"])
def test_a_resumed_run_gives_the_same_bits(tmp_path: Path, schedule: Any) -> None:
    path = tmp_path / "run.ckpt"
    interrupted(path, 2, schedule=schedule)
    resumed = trained(checkpoint=path, schedule=schedule)
    assert len(resumed.seconds) == 2 and same(resumed, trained(schedule=schedule))
    again = trained(checkpoint=path, schedule=schedule)
    assert not again.seconds and same(again, resumed)
    assert len(trained(checkpoint=path, schedule=schedule, resume=False).seconds) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    trained(epochs=1, checkpoint=path)
    good = path.read_bytes()
    for changed, words in (
        ({"seed": 8}, "seed is 7, and here it is 8"),
        ({"batch_size": 10}, "batch"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"epochs": 2}, "epochs"),
        ({"augment": None}, "augmentation"),
        ({"validation": (X[:9], Y[:9])}, "data"),
    ):
        with pytest.raises(bp.InputError, match=words):
            trained(**{"epochs": 1, "checkpoint": path, **changed})
    with pytest.raises(bp.InputError, match="another run: its model"):
        bp.train(nn.Linear(36, 2), (X.flatten(1), Y), epochs=1, checkpoint=path)
    for content in (good[:-1], good[:100], b"", b"hello", good[:200] + b"!" + good[201:]):
        path.write_bytes(content)
        with pytest.raises(bp.InputError, match="checkpoint") as refused:
            trained(epochs=1, checkpoint=path)
        assert "\n" not in str(refused.value) and path.read_bytes() == content
    with pytest.raises(bp.InputError, match="does not exist"):
        trained(epochs=1, checkpoint=tmp_path / "no" / "run.ckpt")


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    import hashlib
    import io

    from backproof.studies.training import checkpoint

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "owned",))

    buffer = io.BytesIO()
    torch.save({"about": Evil()}, buffer)
    data = buffer.getvalue()
    path = tmp_path / "run.ckpt"
    path.write_bytes(checkpoint._KIND + hashlib.sha256(data).digest() + data)
    with pytest.raises(bp.InputError, match="holds no run"):
        trained(epochs=1, checkpoint=path)
    assert not (tmp_path / "owned").exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    found = trained(epochs=50, optimizer=(torch.optim.SGD, {"lr": 1e30}), schedule=None, checkpoint=tmp_path / "c")
    assert found.finding and len(found.rows) < 50 and "learning rate" in found.rows[-1]["stopped"]
    assert any("broke off" in r for r in found.remarks) and "broke off" in found.text()


def test_schedules_are_stepped_for_every_batch() -> None:
    seen: list[tuple[int, int]] = []

    def halved(step: int, total: int) -> float:
        seen.append((step, total))
        return 0.5

    assert trained(epochs=2, schedule=halved).rows[-1]["lr"] == 0.005
    assert seen == [(i, 8) for i in range(8)]
    torch_cosine = trained(epochs=2, schedule=torch.optim.lr_scheduler.CosineAnnealingLR)
    ours = trained(epochs=2)
    assert torch_cosine.rows[0]["loss"] == pytest.approx(ours.rows[0]["loss"], rel=1e-5)


class Pairs(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Any:
        return X[i], Y[i]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield X[0], Y[0]


def test_data_in_every_form_give_the_same_run(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.numpy())
    np.save(tmp_path / "y.npy", Y.numpy())
    np.savez(tmp_path / "xy.npz", x=X.numpy(), y=Y.numpy())
    forms = [(X.numpy(), Y.numpy()), Pairs(), TensorDataset(X, Y), (tmp_path / "x.npy", tmp_path / "y.npy")]
    runs = [bp.train(net(), f, epochs=1, batch_size=16) for f in [*forms, tmp_path / "xy.npz", (X, Y)]]
    assert all(same(a, runs[-1]) for a in runs)


def test_an_optimizer_of_ones_own_keeps_its_groups_and_its_model() -> None:
    model = nn.Linear(36, 2)
    groups = [{"params": [model.weight], "lr": 0.0}, {"params": [model.bias]}]
    found = bp.train(model, (X.flatten(1), Y), optimizer=torch.optim.SGD(groups, lr=0.1), epochs=1, batch_size=16)
    assert torch.equal(found.model.get_parameter("weight"), model.weight)
    assert not torch.equal(found.model.get_parameter("bias"), model.bias)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 10**9}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"optimizer": "adamm"}, "adamm"),
        ({"optimizer": (torch.optim.AdamW, {"lr": float("nan")})}, "finite"),
        ({"optimizer": (torch.optim.AdamW, {"lr": -1.0})}, "cannot be made"),
        ({"optimizer": 3}, "no optimizer"),
        ({"schedule": "sawtooth"}, "sawtooth"),
        ({"schedule": torch.optim.lr_scheduler.OneCycleLR}, "cannot be made"),
        ({"schedule": lambda step, total: float("nan")}, "finite"),
        ({"loss": "cross"}, "cross"),
        ({"loss": None}, "needs a loss"),
        ({"loss": "mse"}, "entry by entry"),
        ({"validation": (X[:3], Y[:4])}, "same number"),
    ],
)
def test_what_cannot_be_used_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(bp.InputError, match=words):
        trained(**{"epochs": 1, **changed})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X, Y[:3]), "same number"),
        ((X[:0], Y[:0]), "no samples"),
        ((X * float("nan"), Y), "finite"),
        ((X, Y + 5), "batch of"),
        ((X[:, :, :3], Y), "batch of"),
        (Endless(), "no length"),
        ("nowhere", "no folder"),
        (3, "data is"),
        (("a.npy", "b.npy"), "no file"),
    ],
)
def test_data_that_cannot_be_used_are_refused(data: Any, words: str) -> None:
    with pytest.raises(bp.InputError, match=words):
        bp.train(net(), data, epochs=1)


def test_progress_and_pages() -> None:
    class Told:
        total, advanced = 0, 0

        def begin(self, what: str, total: int | None) -> int:
            self.total = total or 0
            return 0

        def advance(self, number: int, by: int, note: str) -> None:
            self.advanced += by

        def end(self, number: int) -> None: ...

    told = Told()
    with shown_by(told):
        found = trained(epochs=2)
    assert told.total == told.advanced == 8
    assert "longtable" in found.latex()
    for page in (found.text(), found.html(), found.markdown()):
        assert f"{found.rows[0]['loss']:.4g}"[:4] in page
    assert found.to_dict()["rows"][1]["epoch"] == 2 and "seconds" not in str(found.to_dict())
