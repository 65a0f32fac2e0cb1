"""``backproof certify`` and ``backproof propagate`` on a file of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

NET = """
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1, bias=False))
deep = nn.Sequential(*(m for _ in range(12) for m in (nn.Linear(16, 16), nn.Sigmoid())))
"""


@pytest.fixture
def net(in_tmp: Path) -> Path:
    (in_tmp / "net.py").write_text(NET)
    return in_tmp


def test_a_certificate(cli: Callable, net: Path) -> None:
    ran = cli("certify", "net.py:net", "--input", "2", "--wrt", "0.bias[1]", "--biases", "-0.5", "0.5", "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    assert found["exact"] == {"upper": "1/4", "lower": "1/4"} and found["tight"] and found["wrt"] == "0.bias[1]"
    assert [e["agrees"] for e in found["evidence"]] == [True] * len(found["evidence"]) != []


def test_a_vanishing_gradient_is_a_finding(cli: Callable, net: Path) -> None:
    ran = cli("propagate", "net.py:deep", "--input", "8x16", "--json")
    assert ran.status == 1
    found = json.loads(ran.out)
    assert found["verdict"] == "vanishing" and len(found["layers"]) == 12 and "chi" in found["cause"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--wrt", "0.bias", "--weights", "2", "1"], "above the upper end"),
        (["--wrt", "0.bias", "--weights", "nan", "1"], "finite"),
        (["--wrt", "bias"], "'bias'"),
        ([], "--wrt"),
    ],
)
def test_what_cannot_be_certified_is_one_paragraph(cli: Callable, net: Path, words: list[str], says: str) -> None:
    ran = cli("certify", "net.py:net", "--input", "2", *words)
    assert ran.status == 2 and ran.out == "" and says in ran.err and ran.err.count("\n") == 1


@pytest.mark.parametrize(("low", "high", "status"), [("-1/3", "1e-3", 0), ("-1e-3", "0.5", 0), ("-inf", "1", 2)])
def test_an_interval_may_begin_with_any_negative_number(
    cli: Callable, net: Path, low: str, high: str, status: int
) -> None:
    ran = cli("certify", "net.py:net", "--input", "2", "--wrt", "0.bias[1]", "--weights", low, high, "--json")
    assert ran.status == status, ran.err
    assert (low in json.loads(ran.out)["box"]["0.weight"] or low == "-1e-3") if status == 0 else "finite" in ran.err
