"""Residual and plain networks: their structure, their gradients, small runs."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import backproof as bp
from backproof.studies.nets import skips
from backproof.studies.nets.layers import layers_of, slopes_confirmed
from backproof.studies.nets.skips import skips_of
from tests.data.files import folder

SHEET = "epfl-ml-9/resnet"
SMALL: dict[str, Any] = {"depths": [8], "epochs": 1, "limit": 48, "width": 4, "batch": 16}


class Unit(nn.Module):
    """x + conv(relu(conv(x))), with a gate on the skip for the third network."""

    def __init__(self, channels: int, skip: bool, gated: bool = False) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.gate = nn.Conv2d(channels, channels, 1) if gated else None
        self.skip = skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.second(torch.relu(self.first(x)))
        if not self.skip:
            return h
        return h + (x if self.gate is None else self.gate(x))


def tower(depth: int, width: int, classes: int, skip: bool) -> nn.Module:
    units = [Unit(width, skip) for _ in range(depth)]
    return nn.Sequential(
        nn.Conv2d(1, width, 3), *units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    )


def test_a_tower_of_ones_own(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": str(folder(tmp_path)), "canvas": 9, "epochs": 2, "batch": 20, "width": 3}
    answer = bp.depth_study(tower, depth=2, depths=[1, 3], **settings)
    assert answer.answers["identity_path"] is True
    assert answer.answers["parameters"] == 30 + 2 * 2 * (27 * 3 + 3) + 12
    assert [d["depth"] for d in answer.answers["depths"]] == [1, 3]
    for row in answer.answers["depths"]:
        for kind in ("residual", "plain"):
            assert row[kind]["gradient_ratio"] > 0 and 0 <= row[kind]["accuracy"] <= 100
            assert len(row[kind]["gradient_ratios"]) == 3
            told, seen = (np.array(row[kind]["predicted"][way]) for way in ("predicted", "measured"))
            assert len(told) == len(seen) and np.abs(np.log(told / seen)).max() < np.log(3)  # three channels
    assert all(e.agrees is not False for e in answer.evidence), [e for e in answer.evidence if e.agrees is False]


@pytest.mark.parametrize(("blocks", "parameters", "path"), [("fixed", 293_450, True), ("published", 393_242, False)])
def test_the_structure_of_the_sheet(blocks: str, parameters: int, path: bool) -> None:
    solved = bp.solve(SHEET, **{**SMALL, "width": 16, "limit": 16, "blocks": blocks})
    assert solved.answers["parameters"] == parameters and solved.answers["identity_path"] is path
    assert sum(kind == "identity" for kind in solved.answers["skips"].values()) == (7 if path else 0)
    assert not solved.finding
    assert [e.agrees for e in solved.evidence if "skips" in e.what] == [True]
    assert ("No skip of this network" in " ".join(solved.remarks)) is not path


def test_runs_are_kept_and_resumed(tmp_path: Path) -> None:
    path = str(tmp_path / "net.ckpt")
    first = bp.solve(SHEET, **SMALL, checkpoint=path)
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert set(kept) == {"net-8-residual.ckpt", "net-8-plain.ckpt"}
    again = bp.solve(SHEET, **SMALL, checkpoint=path)
    assert again.answers == first.answers and kept == {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    with pytest.raises(bp.InputError, match="another run"):
        bp.solve(SHEET, **{**SMALL, "lr": 0.1}, checkpoint=path)


@pytest.mark.parametrize(
    "settings",
    [
        {"depths": [21]},
        {"depths": [8, 2]},
        {"depths": []},
        {"depths": [8.5]},
        {"depths": [10**9]},
        {"depth": 19},
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": 10**9},
        {"lr": math.nan},
        {"lr": -0.1},
        {"canvas": 4},
        {"canvas": 10**6},
        {"width": -1},
        {"width": 10**9},
        {"blocks": "other"},
        {"data": "no-such-folder"},
        {"batch": 1},
        {"checkpoint": "no/such/folder/x.ckpt"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError) as refused:
        bp.solve(SHEET, **{**SMALL, **settings})
    assert "\n" not in str(refused.value)


# --- the parts ----------------------------------------------------------------------------------------------------------
def test_skips_are_read_and_tried() -> None:
    net = nn.Sequential(Unit(2, True), Unit(2, False), Unit(2, True, gated=True))
    found = skips_of(net, torch.zeros(1, 2, 6, 6))
    assert found.passing == {"0": True, "1": False, "2": False}
    assert found.graph is not None and found.graph == {"0": "identity", "2": "conv"}
    assert [e.agrees for e in found.evidence] == [True] and found.identity_path


def test_a_wrong_reading_of_skips_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skips, "_passing", lambda model: {"0": False})
    assert [e.agrees for e in skips_of(Unit(2, True), torch.zeros(1, 2, 6, 6)).evidence] == [True]
    net = nn.Sequential(Unit(2, True))
    assert [e.agrees for e in skips_of(net, torch.zeros(1, 2, 6, 6)).evidence] == [False]


def test_layers_are_measured_as_autograd_has_them() -> None:
    torch.manual_seed(0)
    net, x, y = tower(2, 3, 3, True).double(), torch.rand(6, 1, 8, 8).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    names = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    found = layers_of(deepcopy(net), x, y, names, 1e-3)
    F.cross_entropy(net(x), y).backward()
    assert found.gradients == pytest.approx([float(net.get_parameter(f"{n}.weight").grad.norm()) for n in names])
    assert found.ratio == pytest.approx(1.0)  # one stage
    good = slopes_confirmed("net", net, x, y, found)
    assert good.agrees
    wrong = type(found)(found.names, found.stages, tuple(1.01 * g for g in found.gradients), found.persistences)
    assert slopes_confirmed("net", net, x, y, wrong).agrees is False


def test_a_gradient_that_turns_within_the_step_is_seen() -> None:
    torch.manual_seed(1)
    net, x, y = tower(2, 3, 3, False).double(), torch.rand(8, 1, 8, 8).double(), torch.tensor([0, 1, 2, 0] * 2)
    names = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    still, small, large = (layers_of(deepcopy(net), x, y, names, step).persistences for step in (0.0, 1e-6, 3.0))
    assert still == pytest.approx([1.0] * len(names)) and min(small) > 0.999 and min(large) < 0.9
