"""Every script recomputes its record with plain torch, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp

CASES: list[tuple[str, dict[str, Any]]] = [
    ("ctu-vir-3/sine-neuron", {}),
    ("uva-dl-1/relu-tanh-net", {"batch": "sample", "optimizer": "adam"}),
    ("uva-dl-1/relu-tanh-net", {"momentum": 0.9, "nesterov": True}),
    ("epfl-ml-12/linear-regression", {}),
    ("epfl-ml-12/nn-package", {}),
]


def _close(ours: Any, theirs: Any, place: str = "") -> None:
    if isinstance(ours, dict):
        for key, value in ours.items():
            if key not in ("exact", "sample") and not (value is None and key not in theirs):
                _close(value, theirs[key], f"{place}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), place
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            _close(a, b, f"{place}[{i}]")
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-12), place
    else:
        assert ours == theirs, place


def _run(text: str, folder: Path) -> dict[str, Any]:
    (folder / "solution.py").write_text(text)
    assert "backproof" not in text.lower().replace("without backproof", "")
    command = [sys.executable, "-W", "error", "-I", "solution.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


@pytest.mark.parametrize(("problem", "settings"), CASES)
def test_a_problem(tmp_path: Path, problem: str, settings: dict[str, Any]) -> None:
    solution = bp.solve(problem, **settings)
    _close(solution.to_dict()["steps"], _run(solution.script(), tmp_path)["steps"])


def test_a_network_with_softmax_slices_and_class_weights(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            p = torch.softmax(self.fc(x), dim=1)
            parts = torch.cat([p[:, :2], torch.nn.functional.gelu(p[:, 2:])], dim=1)
            return parts * torch.sigmoid(x.sum(dim=1, keepdim=True))

    torch.manual_seed(0)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 1.0]).double())
    record = bp.trace(
        Net().double(), torch.randn(5, 3).double(), torch.randint(4, (5,)), loss=loss, optimizer="adamw", steps=2
    )
    _close(record.to_dict()["steps"], _run(record.script(), tmp_path)["steps"])


def test_a_network_too_large_to_write_out_is_refused() -> None:
    with pytest.raises(bp.InputError, match="numbers written out"):
        bp.trace(nn.Linear(300, 300), torch.ones(1, 300)).script()
