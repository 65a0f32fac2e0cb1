"""A search measures on what was left out, keeps its trials, and says what its figures are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import backproof as bp
from backproof.studies.prepare import prepare
from backproof.studies.search import held_out
from backproof.studies.search import search as module
from backproof.studies.search.least_squares import line_answer, points
from backproof.studies.search.space import space_of

X = torch.linspace(-1, 1, 9).unsqueeze(1)
WAVE = torch.sin(3 * X) + 0.1


def net(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))


def problem(**changed: Any) -> bp.Problem:
    kept = {
        "loss": "mse",
        "optimizer": (torch.optim.SGD, {"lr": 0.1}),
        "steps": 12,
        "settings": {"width": 3, "seed": 0},
    }
    return bp.Problem(net, X, WAVE, **{**kept, **changed})


SPACE = {"lr": (0.01, 0.5, "log"), "width": [2, 3]}


def left_out_by_hand(width: int, lr: float) -> list[float]:
    """Nine trainings in plain torch."""
    found = []
    for i in range(9):
        model = net(width, 0).double()
        kept = torch.arange(9) != i
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for _ in range(12):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(X[kept].double()), WAVE[kept].double()).backward()
            optimizer.step()
        found.append(float((model(X[i].double()) - WAVE[i].double()).detach() ** 2))
    return found


def test_the_held_out_loss_is_that_of_trainings_without_the_sample() -> None:
    found = bp.search(problem(), trials=3, space=SPACE, seed=4)
    by_hand = left_out_by_hand(found.best["width"], found.best["lr"])
    assert found.value == pytest.approx(np.mean(by_hand), rel=1e-10) and not found.finding
    assert found.value == min(t.value for t in found.trials if t.value is not None)
    assert [t.why for t in found.trials][:2] == [
        "the problem's own settings", "half the rate that the curvature at the start allows"
    ]  # fmt: skip
    assert found.nested is not None and "Nested" in found.text()


def test_the_nested_figure_never_uses_the_sample_that_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bp.search(problem(), trials=3, space=SPACE, seed=4)
    pairs = held_out.leave_out(9, 2).test.tolist()
    total = 0.0
    for i in range(9):
        inner = []
        for t in found.trials:
            both = zip(pairs, t.kept["pairs"], strict=True)
            inner.append(np.mean([losses[1 - pair.index(i)] for pair, losses in both if i in pair]))
        total += found.trials[int(np.argmin(inner))].kept["out"][i]
    assert found.nested == pytest.approx(total / 9)


def test_a_wrong_training_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It bites: copies that are trained together on rows of which one is swapped don't give the claimed losses."""
    right = held_out.fit_many

    def swapped(program: Any, split: Any) -> Any:
        return right(program, held_out.Split(split.train.roll(1, 0), split.test))

    monkeypatch.setattr(module, "fit_many", swapped)
    found = bp.search(problem(), trials=1, space=SPACE)
    assert found.finding and [e.oracle for e in found.evidence if e.agrees is False]


def test_trials_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    kept = str(tmp_path / "trials.db")
    bp.search(problem(), trials=2, space=SPACE, storage=kept)
    resumed = bp.search(problem(), trials=5, space=SPACE, storage=kept)
    at_once = bp.search(problem(), trials=5, space=SPACE)
    assert [t.settings for t in resumed.trials] == [t.settings for t in at_once.trials]
    assert resumed.value == pytest.approx(at_once.value, rel=1e-12)
    others = bp.search(problem(steps=5), trials=1, space=SPACE, storage=kept)
    assert len(others.trials) == 1


def test_a_damaged_storage_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "trials.db"
    bp.search(problem(), trials=1, space=SPACE, storage=str(kept))
    for damaged in (b"not a database at all", kept.read_bytes()[:5000]):
        kept.write_bytes(damaged)
        with pytest.raises(bp.InputError, match="storage"):
            bp.search(problem(), trials=1, space=SPACE, storage=str(kept))
    for path in (str(tmp_path), str(tmp_path / "none" / "x.db")):
        with pytest.raises(bp.InputError, match="storage"):
            bp.search(problem(), trials=1, space=SPACE, storage=path)


@pytest.mark.parametrize(
    "space",
    [{}, {"lr": (1, 0.1)}, {"lr": (0, 1, "log")}, {"lr": (float("nan"), 1)}, {"lr": (0.1, float("inf"))}, {"lr": 3},
     {"width": []}, {"width": [10**9]}, {"width": (1, 10**9)}, {"lr": ("a", "b")}, {"lr": (0.1, 1, "cubic")},
     {"momentumm": (0, 1)}, {"width": [[2]]}, {"lr": (True, 2)}],
)  # fmt: skip
def test_a_space_that_cannot_be_searched_is_refused(space: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError):
        bp.search(problem(), trials=2, space=space)


@pytest.mark.parametrize("changed", [{"trials": 0}, {"trials": -1}, {"trials": 2.5}, {"trials": 10**9}, {"seed": -1}])
def test_hostile_numbers_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(bp.InputError):
        bp.search(problem(), **{"trials": 2, "space": SPACE, **changed})


def test_what_diverges_is_stopped_and_said() -> None:
    found = bp.search(problem(steps=80), trials=6, space={"lr": [0.1, 1e6]})
    stopped = [t for t in found.trials if t.value is None]
    assert stopped and "diverged" in stopped[0].kept["why_not"] and found.best["lr"] == 0.1
    with pytest.raises(bp.InputError, match="diverged"):
        bp.search(problem(steps=80), trials=2, space={"lr": [1e6, 1e7]})


def test_many_samples_are_divided_and_a_fifth_is_put_aside() -> None:
    x = torch.linspace(-1, 1, 70).unsqueeze(1)
    big = bp.Problem(net, x, x**2, loss="mse", optimizer="adam", steps=5, settings={"width": 4, "seed": 0, "lr": 0.1})
    found = bp.search(big, trials=2, space={"lr": (0.01, 0.5, "log")})
    assert "put aside" in found.protocol and found.nested is not None and not found.finding


def test_toml_problems_and_problems_with_too_few_samples_are_searched() -> None:
    line = bp.search("epfl-ml-12/linear-regression", trials=2, steps=5)
    assert set(line.best) == {"lr"} and not line.finding
    alone = bp.search("ctu-vir-3/sine-neuron", trials=3, space={"lr": (0.001, 0.2)})
    assert alone.protocol.startswith("the training loss") and not alone.finding
    with pytest.raises(bp.InputError, match=r"bp\.Problem"):
        bp.search("epfl-ml-12/torch-tour", trials=2)


def test_spaces_are_said_in_words() -> None:
    space = space_of({"lr": (1e-4, 1, "log"), "hidden": [2, 4], "steps": (10, 90)})
    said = [part.said() for part in space.values()]
    assert said == ["0.0001 to 1, by the logarithm", "2, 4", "whole numbers, 10 to 90"]


def test_together_and_alone_are_the_same_for_every_rule() -> None:
    for rule in ("sgd", "adam", "adamw"):
        program = prepare(problem(), {"optimizer": rule, "lr": 0.05, "steps": 6}).program
        split = held_out.leave_out(9)
        together, alone = held_out.fit_many(program, split), held_out.fit_alone(program, split)
        assert torch.allclose(together.test, alone.test, rtol=1e-10, atol=0)


# --- the line and the network on its points ------------------------------------------------------------------------------
def test_the_line_is_numpys() -> None:
    x, y = [0.5, 1.0, 2.5, 3.0, 4.5], [1.0, 0.2, 2.0, 2.5, 2.2]
    line, answer = line_answer(*points(x, y))
    assert [line.slope, line.intercept] == pytest.approx(np.polyfit(x, y, 1))
    refits = [np.polyfit(np.delete(x, i), np.delete(y, i), 1) for i in range(5)]
    left = np.mean([(np.polyval(w, x[i]) - y[i]) ** 2 for i, w in enumerate(refits)])
    assert answer.answers["line_loo_mse"] == pytest.approx(left)
    assert all(e.agrees for e in answer.evidence)


def test_the_network_with_one_hidden_layer_on_other_points() -> None:
    x, y = [0.0, 1.0, 2.0, 3.0, 4.0, 5.5, 6.0], [0.0, 0.9, 1.1, 1.0, 1.3, 3.0, 2.9]
    solved = bp.solve("epfl-ml-12/mlp", x=x, y=y, trials=3, epochs=20, hidden=3, activation="tanh", seed=2)
    found = solved.answers
    assert not solved.finding and found["best"]["hidden"] == 3 and found["best"]["activation"] == "tanh"
    assert {"train_mse", "loo_mse", "line_mse", "line_loo_mse", "nested_mse", "other_starts"} <= set(found)
    assert found["line_mse"] == pytest.approx(np.mean((np.polyval(np.polyfit(x, y, 1), x) - np.array(y)) ** 2))
    assert all(part in solved.text() for part in ("Is it better than the line?", "other random starts"))


@pytest.mark.parametrize(
    "settings",
    [{"trials": 0}, {"hidden": 10**9}, {"hidden": 0}, {"hidden": "many"}, {"activation": "softplus"}, {"x": [1.0]},
     {"x": [1.0] * 15}, {"x": [1.0, 2.0, 3.0, 4.0]}, {"y": [float("nan")] * 15}, {"epochs": 10**9}, {"seed": -1},
     {"x": [1.0], "y": [2.0]}, {"x": [], "y": []}, {"x": [[1.0]] * 15}, {"x": [1.0] * 14 + [2.0]}, {"hidden": True}],
)  # fmt: skip
def test_hostile_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError):
        bp.solve("epfl-ml-12/mlp", **settings)


@pytest.mark.nightly
def test_the_sheets_network_fits_better_than_the_line() -> None:
    found = bp.solve("epfl-ml-12/mlp").answers
    assert found["line_mse"] == pytest.approx(0.16891526, abs=1e-8)
    assert found["train_mse"] < found["line_mse"] and found["loo_mse"] > found["train_mse"]
