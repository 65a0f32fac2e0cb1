"""The functions for other people's tests, and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from backproof.testing import assert_gradients, gradcheck
from tests.docs.blocks import ROOT, blocks_of, execute

FILE = """
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x * g

def plain(x):
    return x * x

inputs = (torch.linspace(-1, 1, 5, dtype=torch.float64),)
"""


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return 3 * g


def test_gradcheck_takes_the_place_of_torchs() -> None:
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    settings = {"eps": 1e-6, "atol": 1e-4, "fast_mode": True, "nondet_tol": 0.0}
    for check in (gradcheck, torch.autograd.gradcheck):
        assert check(torch.sin, (x,), **settings) is True  # type: ignore[operator]
        assert check(Doubled.apply, (x,), raise_exception=False) is False  # type: ignore[operator]
        with pytest.raises(GradcheckError):
            check(Doubled.apply, x)  # type: ignore[operator]


def test_assert_gradients_says_it_in_a_few_lines() -> None:
    assert assert_gradients(torch.tanh, torch.randn(5)).ok
    with pytest.raises(AssertionError) as failure:
        assert_gradients(Doubled.apply, torch.randn(100, dtype=torch.float64))
    message = str(failure.value)
    assert len(message.splitlines()) < 12 and "factor 3/2" in message and "Doubled" in message


def test_the_command_line(cli: Callable[..., object], in_tmp: Path) -> None:
    (in_tmp / "layers.py").write_text(FILE)
    wrong = cli("check", "layers.py:Square", "--inputs", "layers.py:inputs", "--json")
    assert wrong.status == 1  # type: ignore[attr-defined]
    said = json.loads(wrong.out)  # type: ignore[attr-defined]
    assert said["ok"] is False and "1/2" in said["cause"] and "layers.py" in said["where"]["source"]
    right = cli("check", "layers.py:plain", "--input", "5:float64", "--out", "x.html")
    assert right.status == 0 and (in_tmp / "x.html").exists()  # type: ignore[attr-defined]
    bad = cli("check", "layers.py:inputs")
    assert bad.status == 2 and "Traceback" not in bad.err  # type: ignore[attr-defined]
    assert cli("check", "layers.py:plain").status == 2  # type: ignore[attr-defined]


def test_the_page_that_replaces_gradcheck(in_tmp: Path) -> None:
    names = dict[str, object]()
    for block in blocks_of(ROOT / "docs" / "replace-gradcheck.md"):
        execute(block, in_tmp, names)


def test_the_example_of_the_docs(cli: Callable[..., object]) -> None:
    file = ROOT / "docs" / "checks" / "custom_backward.py"
    wrong = cli("check", f"{file}:Cut", "--inputs", f"{file}:inputs")
    assert wrong.status == 1 and "branch" in wrong.out and "custom_backward.py" in wrong.out  # type: ignore[attr-defined]
    assert cli("check", f"{file}:Right", "--inputs", f"{file}:inputs").status == 0  # type: ignore[attr-defined]
