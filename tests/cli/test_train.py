"""``backproof train``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.files import folder

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(36, 3))
"""


@pytest.fixture
def net(in_tmp: Path) -> str:
    (in_tmp / "net.py").write_text(NET)
    folder(in_tmp / "pictures", zipped=True)
    return "net.py:Net"


def test_a_network_learns_a_folder_of_pictures(cli: Callable, net: str, in_tmp: Path) -> None:
    words = ("train", net, "--data", "pictures", "--set", "lr=0.05", "--epochs", "4", "--checkpoint", "c", "--json")
    first = cli(*words, "--schedule", "cosine", "--out", "h.html")
    assert first.status == 0, first.err
    rows = json.loads(first.out)["rows"]
    assert len(rows) == 4 and rows[-1]["validation_accuracy"] > 0.9
    assert cli(*words, "--schedule", "cosine").out == first.out  # read from the checkpoint
    assert (in_tmp / "h.html").stat().st_size > 1000


def test_divergence_is_a_finding(cli: Callable, net: str) -> None:
    steep = ("--set", "lr=1e30", "--set", "weight_decay=1e9")
    ran = cli("train", net, "--data", "pictures", "--optimizer", "sgd", *steep, "--epochs", "9", "--json")
    assert ran.status == 1 and "stopped" in json.loads(ran.out)["rows"][-1]


@pytest.mark.parametrize(
    "words",
    [
        ("--data", "nowhere"),
        ("--data", "x.npy"),
        ("--data", "pictures", "--set", "lr=nan"),
        ("--data", "pictures", "--set", "lrr=1"),
        ("--data", "pictures", "--epochs", "0"),
        ("--data", "pictures", "--epochs", "-1"),
        ("--data", "pictures", "--epochs", "1000000000"),
        ("--data", "pictures", "--loss", "mse"),
        ("--data", "digits"),
        ("--data", "pictures", "--checkpoint", "pictures"),
        (),
    ],
)
def test_what_cannot_be_is_refused(cli: Callable, net: str, words: tuple[str, ...]) -> None:
    ran = cli("train", net, *words)
    assert (ran.status, ran.out) == (2, "") and "Traceback" not in ran.err and "bug" not in ran.err
