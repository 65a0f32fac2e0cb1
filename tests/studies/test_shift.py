"""Networks on shifted and scrambled pictures: small runs, the parts by themselves, and the full one at night."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.studies.load import load_problem
from backproof.studies.nets import equivariance, parameters
from backproof.studies.nets.equivariance import convolutional_part, field_of, moved, permuted_evidence
from backproof.studies.nets.loop_evidence import confirmed_loop
from backproof.studies.nets.parameters import counted
from tests.data.files import folder

SHEET = "epfl-ml-9/cnn-shift"
SMALL: dict[str, Any] = {"epochs": 1, "limit": 48, "batch": 16, "size": 8, "canvas": 12}


def small_mlp(canvas: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(canvas * canvas, 12), nn.Tanh(), nn.Linear(12, classes))


def small_cnn(canvas: int, classes: int) -> nn.Module:
    body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


CONTENDERS = {"dense": bp.Contender(small_mlp, lr=1e-2), "local": bp.Contender(small_cnn, lr=1e-2, weight_decay=1e-3)}


def test_networks_of_ones_own_on_pictures_of_ones_own(tmp_path: Path) -> None:
    answer = bp.shift_study(CONTENDERS, data=str(folder(tmp_path)), canvas=13, epochs=3, batch=10, noise=0.1)
    assert set(answer.answers) >= {"dense", "local", "parameters", "costs", "orderings"}
    assert answer.answers["parameters"] == {"dense": 13 * 13 * 12 + 12 + 39, "local": 30 + 112 + 15}
    assert all(e.agrees is not False for e in answer.evidence), [e for e in answer.evidence if e.agrees is False]
    assert sum(e.agrees is True for e in answer.evidence) >= 10
    dense = answer.answers["dense"]
    assert answer.answers["costs"]["dense"]["shifted"] == pytest.approx(dense["centred"] - dense["shifted"])
    again = bp.shift_study(CONTENDERS, data=str(tmp_path), canvas=13, epochs=3, batch=10, noise=0.1)
    assert again.answers == answer.answers


def test_the_sheet_at_a_small_size() -> None:
    solved = bp.solve(SHEET, **SMALL)
    assert not solved.finding and solved.answers["parameters"] == {"mlp": 237_066, "cnn": 360_778}
    assert [e.agrees for e in solved.evidence] == [True] * len(solved.evidence)
    for name in ("mlp", "cnn"):
        assert all(0 <= solved.answers[name][v] <= 100 for v in ("centred", "shifted", "scrambled"))
    text = solved.text()
    assert "25 x 25" in text and "(5·5·32 + 1)·64" in text and "360778" in text.replace(" ", "").replace(",", "")


def test_the_parameters_on_the_canvas_of_the_sheet() -> None:
    problem, _ = load_problem(SHEET)
    for name, number in (("mlp", 1_003_018), ("cnn", 360_778)):
        net = problem.work.__globals__[name](56, 10)  # type: ignore[union-attr]
        assert sum(c.number for c in counted(net)) == number == sum(p.numel() for p in net.parameters())


@pytest.mark.nightly
def test_the_orderings_of_the_sheet() -> None:
    answers = bp.solve(SHEET).answers
    costs = answers["costs"]
    assert costs["mlp"]["shifted"] >= 15 and costs["cnn"]["shifted"] < 6
    assert costs["cnn"]["scrambled"] >= 4 and costs["mlp"]["scrambled"] < 3
    assert answers["orderings"] == {"shifted": ["mlp", "cnn"], "scrambled": ["cnn", "mlp"]}


HOSTILE = [
    {"epochs": 0},
    {"epochs": -1},
    {"epochs": 10**9},
    {"epochs": "many"},
    {"canvas": 4},
    {"canvas": 10**6},
    {"canvas": 10, "size": 12},
    {"size": 100, "canvas": 28},
    {"batch": 0},
    {"noise": math.nan},
    {"noise": -1.0},
    {"limit": -3},
    {"cnn_lr": math.nan},
    {"mlp_lr": -1.0},
    {"data": "no-such-folder"},
    {"width": 3},
]


@pytest.mark.parametrize("settings", HOSTILE, ids=str)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError) as refused:
        bp.solve(SHEET, **{**SMALL, **settings})
    assert "\n" not in str(refused.value)


# --- the parts, and how their evidence bites ------------------------------------------------------------------------------
def test_the_receptive_field_is_the_one_that_gradients_show() -> None:
    part = convolutional_part(small_cnn(12, 3))
    assert part is not None and field_of(part).stride == 2
    x = torch.rand(1, 1, 24, 24, requires_grad=True)
    part(x)[0, :, 6, 6].sum().backward()
    assert x.grad is not None
    rows = (x.grad[0, 0].abs().sum(1) > 0).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field_of(part).size == 8


def test_feature_maps_follow_by_whole_strides_only() -> None:
    part = convolutional_part(small_cnn(12, 3))
    assert part is not None
    images = torch.rand(3, 1, 12, 12)
    assert moved(part, images, 2).inside < 1e-12 and moved(part, images, 1).inside > 1e-3
    assert moved(part, images, 2).whole > moved(part, images, 2).inside


def test_a_network_that_is_not_equivariant_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Placed(nn.ReLU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x + torch.arange(x.shape[3]).to(x))

    def placed(canvas: int, classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), Placed(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, classes))

    part = convolutional_part(placed(9, 2))
    assert part is not None
    found = equivariance.moved_evidence("placed", moved(part, torch.rand(2, 1, 9, 9), 1), 2)
    assert found.agrees is False


def test_only_a_first_layer_without_places_can_be_permuted() -> None:
    images, order = torch.rand(4, 1, 9, 9), torch.randperm(81)
    found = permuted_evidence("dense", small_mlp(9, 3), images, order)
    assert found is not None and found.agrees and permuted_evidence("local", small_cnn(9, 3), images, order) is None


def test_a_wrong_update_is_found_out() -> None:
    x, y = torch.rand(6, 1, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1})
    good = confirmed_loop("net", small_mlp(5, 3), x, y, "cross_entropy", optimizer)
    assert [e.agrees for e in good] == [True, True]

    class Other(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            self.param_groups[0]["lr"] = 0.011
            return super().step(closure)

    import backproof.studies.nets.loop_evidence as module

    plain = module.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train", lambda *a, **k: plain(*a, **{**k, "optimizer": (Other, optimizer[1])}))
        bad = confirmed_loop("net", small_mlp(5, 3), x, y, "cross_entropy", optimizer)
    assert [e.agrees for e in bad] == [True, False]


def test_a_wrong_count_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small_cnn(9, 3)
    assert parameters.counting_evidence("net", net).agrees
    monkeypatch.setattr(parameters, "_product", lambda inside, bias, outside: (None, 7))
    assert parameters.counting_evidence("net", nn.Sequential(nn.Linear(3, 3))).agrees
    monkeypatch.setattr(parameters, "_formula", lambda module: (parameters.Num(7), 7))
    assert parameters.counting_evidence("net", net).agrees is False
