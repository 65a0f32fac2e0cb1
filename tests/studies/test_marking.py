"""Marking: right as people round, the first wrong step named, what follows from it not charged twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import backproof as bp
from backproof.cli import main

NET = "uva-dl-1/relu-tanh-net"
Rule = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def solved() -> Any:
    return bp.solve(NET, lr=0.3)


def handed_in(solved: Any, digits: int | None = None) -> dict[str, Any]:
    """The record as somebody would hand it in, rounded."""
    steps = {}
    for step in solved.to_dict()["steps"]:
        numbers = dict(step["values"]) | {"loss": step["loss"]}
        numbers |= {f"grad.{n}": g for n, g in step["gradients"].items()}
        numbers |= {f"after.{n}": p["after"] for n, p in step["parameters"].items()}
        steps[step["step"]] = {n: rounded(v, digits) for n, v in numbers.items()}
    return {"step": steps}


def rounded(value: Any, digits: int | None) -> Any:
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return value if digits is None else round(value, digits)


def slope(s: Tensor, y: Tensor) -> Tensor:
    return 1 - y**2


def worked(
    tanh_slope: Rule = slope,
    relu_slope: Rule = lambda s, z: (s > 0).double(),
    sign: float = -1,
    lr: float = 0.3,
    share: float = 1,
    digits: int = 5,
) -> dict[str, Any]:
    """The net worked with torch by somebody who may make one mistake, in every iteration."""
    X = torch.tensor([[0.75, 0.80], [0.20, 0.05], [-0.75, 0.80], [0.20, -0.05]], dtype=torch.float64)
    t = torch.tensor([1.0, 1, -1, -1], dtype=torch.float64)
    W = torch.tensor([[0.60, 0.70, 0.00], [0.01, 0.43, 0.88]], dtype=torch.float64)
    w = torch.tensor([0.02, 0.03, 0.09], dtype=torch.float64)
    steps = {}
    for k in range(3):
        s = X @ W
        z, so = s.relu(), s.relu() @ w
        y = torch.tanh(so)
        gy = (y - t) * share
        gso = gy * tanh_slope(so, y)
        gz = torch.outer(gso, w)
        gs = gz * relu_slope(s, z)
        found = {"s": s, "z": z, "s_out": so, "y_out": y, "L": ((y - t) ** 2 / 2).sum() * share, "grad.y_out": gy,
                 "grad.s_out": gso, "grad.w": z.T @ gso, "grad.z": gz, "grad.s": gs, "grad.W": X.T @ gs}  # fmt: skip
        W, w = W + sign * lr * found["grad.W"], w + sign * lr * found["grad.w"]
        found |= {"after.W": W, "after.w": w}
        steps[k + 1] = {n: rounded(v.tolist(), digits) for n, v in found.items()}
    return {"step": steps}


def counts(marked: Any) -> Counter[str]:
    return Counter(m.verdict for m in marked.items.values())


@pytest.mark.parametrize("digits", [None, 8, 5, 4, 3, 2])
def test_the_record_is_right_however_it_is_rounded(solved: Any, digits: int | None) -> None:
    marked = bp.mark(solved, handed_in(solved, digits))
    assert marked.score == 1 and marked.first_wrong is None and not marked.finding


def test_somebody_elses_right_work_is_right(solved: Any) -> None:
    marked = bp.mark(solved, worked())
    assert marked.score == 1 and set(counts(marked)) == {"correct", "missing"}


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no slope of tanh": ({"tanh_slope": lambda s, y: torch.ones_like(s)}, "step.1.grad.s_out", "forgotten"),
    "slope of tanh at y": ({"tanh_slope": lambda s, y: 1 - torch.tanh(y) ** 2}, "step.1.grad.s_out", "'y_out' stands"),
    "slope of sigmoid": (
        {"tanh_slope": lambda s, y: torch.sigmoid(s) * (1 - torch.sigmoid(s))},
        "step.1.grad.s_out",
        "sigmoid' stands where tanh'",
    ),
    "no slope of relu": ({"relu_slope": lambda s, z: torch.ones_like(s)}, "step.1.grad.s", "forgotten"),
    "uphill": ({"sign": 1}, "step.1.after.W", "+"),
    "no step size": ({"lr": 1.0}, "step.1.after.W", "'g' stands where"),
    "mean for sum": ({"share": 0.25}, "step.1.L", "mean over 4"),
}


@pytest.mark.parametrize("digits", [4, 6])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_made_in_every_iteration_is_named_and_charged_once(solved: Any, name: str, digits: int) -> None:
    slip, place, words = MISTAKES[name]
    marked = bp.mark(solved, worked(**slip, digits=digits))
    assert marked.first_wrong == place and words in (marked.cause or ""), marked.cause
    assert counts(marked)["wrong"] == 1 and counts(marked)["carried"] > 10
    assert 0.9 < marked.score < 1 and marked.finding


def test_one_wrong_entry_is_found_and_what_follows_is_carried(solved: Any) -> None:
    sheet = worked()
    sheet["step"][2]["s"][3][1] += 0.3  # and nothing after it was computed from this number
    marked = bp.mark(solved, sheet)
    assert marked.first_wrong == "step.2.s" and marked.items["step.2.s"].wrong == ((3, 1),)
    assert marked.items["step.2.z"].verdict == "correct"  # somebody who was right again
    assert counts(marked)["wrong"] == 1


def test_all_zeros_earn_nothing() -> None:
    zeros = {"step": {1: {"s": [[0, 0, 0]] * 4, "z": [[0, 0, 0]] * 4, "s_out": [0] * 4, "y_out": [0] * 4}}}
    marked = bp.mark(NET, zeros, steps=1)
    assert marked.score == 0 and counts(marked)["carried"] == 0


def test_what_is_not_there_is_missing_or_undecided(solved: Any) -> None:
    sheet = worked()
    del sheet["step"][3]["grad.W"]
    sheet["step"][2] |= {"grad.v": 1.0, "y_out": [1.0] * 4}
    sheet["step"][9] = {"s": 1}
    marked = bp.mark(solved, sheet)
    assert marked.items["step.3.grad.W"].verdict == "missing" and "step.3.grad.W" in marked.counted
    assert marked.items["step.2.grad.v"].verdict == "undecided" and "did you mean" in marked.items["step.2.grad.v"].note
    assert marked.items["step.2.y_out"].verdict == "wrong" and marked.items["step.9.s"].verdict == "undecided"


def test_other_orientations_and_exact_numbers_are_read() -> None:
    marked = bp.mark("ctu-vir-3/sine-neuron", {"step": {1: {"u": "2*pi", "after.w": [["pi/2 + 4"], ["pi + 2"]]}}})
    assert marked.score == 1
    marked = bp.mark(NET, {"step": {1: {"after.W": torch.zeros(3, 2), "w": 1}}}, steps=1)
    assert "transposed" in marked.items["step.1.after.W"].note or marked.items["step.1.after.W"].verdict == "wrong"
    wrong_shape = bp.mark(NET, {"step": {1: {"s": [1, 2]}}}, steps=1).items["step.1.s"]
    assert wrong_shape.verdict == "wrong" and "shape" in wrong_shape.note


def test_one_coarse_digit_decides_nothing() -> None:
    assert bp.mark(NET, {"step": {1: {"loss": 2.0}}}, steps=1).items["step.1.loss"].verdict == "correct"
    assert bp.mark(NET, {"step": {1: {"loss": 2}}}, steps=1).items["step.1.loss"].verdict == "undecided"
    assert bp.mark(NET, {"step": {1: {"loss": 1.9}}}, steps=1).items["step.1.loss"].verdict == "correct"  # cut off
    assert bp.mark(NET, {"step": {1: {"loss": 1.95}}}, steps=1).items["step.1.loss"].verdict == "wrong"


FORMULAS = {
    "dL/dw": ("z.T @ ((y_out - y) * (1 - y_out**2))", "correct"),
    "L/W": ("X.T @ delta_s", "correct"),
    "delta_s_out": ("(y_out - y) * (1 - s_out**2)", "wrong"),
    "s": ("X @ W", "correct"),
    "z": ("exp(", "undecided"),
    "q": ("s", "undecided"),
    "grad.y_out": ("y_out", "wrong"),
}


def test_formulas_are_compared_by_what_they_are_worth(solved: Any) -> None:
    marked = bp.mark(solved, {"formula": {name: text for name, (text, _) in FORMULAS.items()}})
    assert {n: marked.items[f"formula.{n}"].verdict for n in FORMULAS} == {n: v for n, (_, v) in FORMULAS.items()}


def test_answers_are_marked(solved: Any) -> None:
    marked = bp.mark("epfl-ml-12/linear-regression", {"answers": {"lr_limit": 0.02315, "w": 0.31, "bogus": 1}})
    assert [marked.items[f"answers.{n}"].verdict for n in ("lr_limit", "w", "bogus")] == [
        "correct",
        "wrong",
        "undecided",
    ]


FILE = """
[settings]
lr = 0.3
[step.1]
loss = 1.967
"grad.w" = [-0.408, -0.816, 0.0734]
"after.w" = [0.142, 0.275, 0.068]
[formula]
s = "X @ W"
"""


def test_files_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    assert main(["mark", NET, str(tmp_path / "a.toml"), "--set", "steps=1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == 1 and found["items"]["step.1.grad.w"]["verdict"] == "correct"
    data = {"step": {"1": {"loss": 1.5}}}
    (tmp_path / "b.json").write_text(json.dumps(data))
    page = tmp_path / "b.html"
    assert main(["mark", NET, str(tmp_path / "b.json"), "--set", "steps=1", "--out", str(page)]) == 1
    assert "first wrong item is step.1.loss" in page.read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "loss = 3"),
        ("a.toml", "[step.0]\nloss = 3"),
        ("a.toml", "[step.x]\nloss = 3"),
        ("a.toml", "[step]\n1 = 3"),
        ("a.toml", "[step.1]\nloss = nan"),
        ("a.toml", "[step.1]\nloss = []"),
        ("a.toml", "[step.1]\nloss = [[1], [1, 2]]"),
        ("a.toml", "[step.1]\nloss = 'os.system(1)'"),
        ("a.toml", "[step.1]\nloss = true"),
        ("a.toml", "[formula]\ns = 3"),
        ("a.toml", "[settings]\nlr = 1"),
        ("a.toml", "step = ["),
        ("a.json", "[1]"),
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.txt", "loss = 3"),
        ("a.toml", "\udcff"),
    ],
)
def test_hostile_answers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert main(["mark", NET, str(path), "--set", "steps=1"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and len(said) < 800


CHAIN = {
    "dL/dWout": ("(y - t) * f3'(s_out) * z2", "correct"),
    "dL/dW2": ("delta_2 * z1", "correct"),
    "dL/dW1": ("delta_out * Wout * f2'(s2) * W2 * f1'(s1) * x", "correct"),
    "delta_2": ("delta_out * Wout * f2'(z2)", "wrong"),
    "delta_1": ("delta_2 * W2 * f1'(s1)", "correct"),
    "z1": ("f1(W1 * x)", "correct"),
    "dL/dt": ("y - t", "wrong"),
    "delta_7": ("1", "undecided"),
}


def test_formulas_with_arbitrary_functions_are_marked() -> None:
    marked = bp.mark("uva-dl-1/chain-rule", {"formula": {name: text for name, (text, _) in CHAIN.items()}})
    assert {n: marked.items[f"formula.{n}"].verdict for n in CHAIN} == {n: v for n, (_, v) in CHAIN.items()}
