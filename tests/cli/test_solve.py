"""``backproof solve`` on published exercises, as a person runs it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SINE = "ctu-vir-3/sine-neuron"

TOML = """
title = "A sine neuron"
arithmetic = "exact"
[given]
x = [2, 1]
w = ["pi/2", "pi"]
b = 0
t = 2
[model]
u = "w @ x"
y = "sin(u) - b"
L = "(y - t)**2"
[ask]
gradients = ["y/w", "L/w"]
[step]
parameters = ["w"]
optimizer = "sgd"
lr = 0.5
steps = 1
"""

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 3)
        self.out = nn.Linear(3, 1)
    def forward(self, x):
        z = torch.relu(self.hidden(x))
        return self.out(z)
"""


@pytest.fixture(scope="module")
def solved(process: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, dict[str, Any]]:
    """Solve the sine neuron once, with every file that needs no LaTeX."""
    folder = tmp_path_factory.mktemp("sine")
    names = [f"solved.{suffix}" for suffix in ("html", "tex", "md", "ipynb", "txt", "json", "py")]
    ran = process("solve", SINE, "--json", *(w for name in names for w in ("--out", name)), cwd=folder)
    assert ran.status == 0, ran.err
    return ran, folder, json.loads(ran.out)


def test_the_record_is_what_the_course_computed(solved) -> None:
    _, _, record = solved
    assert record["problem"] == SINE
    step = record["steps"][0]
    assert step["step"] == 1 and step["loss"] == 4
    assert step["values"]["y"] == 0  # and not -2.4e-16
    assert step["values"]["u"] == pytest.approx(2 * math.pi, abs=1e-12)
    w = step["parameters"]["w"]
    assert w["before"] == pytest.approx([math.pi / 2, math.pi])
    assert w["gradient"] == pytest.approx([-8, -4]) == step["gradients"]["w"]
    assert w["after"] == pytest.approx([math.pi / 2 + 4, math.pi + 2])
    assert step["exact"]["u"] == "2*pi"


def test_the_answers(solved) -> None:
    answers = solved[2]["answers"]
    assert set(answers) >= {"y", "dy/dw", "L", "dL/dw", "w_after", "loss_after", "accumulated"}
    assert answers["dy/dw"] == pytest.approx([2, 1])
    assert answers["dL/dw"] == pytest.approx([-8, -4])
    assert answers["loss_after"] == pytest.approx(6.472, abs=5e-4)


def test_every_number_was_confirmed(solved) -> None:
    evidence = solved[2]["evidence"]
    assert len({entry["oracle"] for entry in evidence}) >= 2
    assert all(entry["agrees"] is not False for entry in evidence)


def test_every_file_is_written_and_whole(solved) -> None:
    ran, folder, record = solved
    assert sorted(path.suffix[1:] for path in folder.iterdir()) == [
        "html", "ipynb", "json", "md", "py", "tex", "txt",
    ]  # fmt: skip
    assert all(f"wrote {path.name}" in ran.err for path in folder.iterdir())
    assert json.loads((folder / "solved.json").read_text()) == record
    assert (folder / "solved.html").read_text().rstrip().endswith("</html>")


def test_switch_initial_values_and_dimension(cli: Callable) -> None:
    ran = cli("solve", SINE, "--set", "x=[1,2,3]", "--set", "w=[.1,.2,.3]", "--set", "lr=0.25", "--json")
    assert ran.status == 0, ran.err
    step = json.loads(ran.out)["steps"][0]
    y = math.sin(1.4)
    assert step["values"]["y"] == pytest.approx(y)
    gradient = [2 * (y - 2) * math.cos(1.4) * x for x in (1, 2, 3)]
    assert step["parameters"]["w"]["gradient"] == pytest.approx(gradient)
    after = [w - 0.25 * g for w, g in zip((0.1, 0.2, 0.3), gradient, strict=True)]
    assert step["parameters"]["w"]["after"] == pytest.approx(after)


def test_a_toml_file_can_do_what_the_built_in_one_does(cli: Callable, in_tmp: Path, solved) -> None:
    (in_tmp / "sine.toml").write_text(TOML)
    ran = cli("solve", "sine.toml", "--json")
    assert ran.status == 0, ran.err
    step = json.loads(ran.out)["steps"][0]
    expected = solved[2]["steps"][0]
    assert (step["loss"], step["values"]["u"]) == (expected["loss"], expected["values"]["u"])
    assert step["parameters"]["w"]["after"] == expected["parameters"]["w"]["after"]


def test_the_conventions_of_the_relu_tanh_net(cli: Callable) -> None:
    words = "--set lr=0.5 --set reduction=mean --set batch=sample --set steps=3 --json".split()
    ran = cli("solve", "uva-dl-1/relu-tanh-net", *words)
    assert ran.status == 0, ran.err
    record = json.loads(ran.out)
    assert len(record["steps"]) == 12  # 3 passes over 4 samples, one record for each update
    assert {"s", "z", "s_out", "y_out"} <= set(record["steps"][0]["values"])
    assert {"W", "w"} <= set(record["steps"][0]["parameters"])


def test_text_is_plain_when_piped(process: Callable, in_tmp: Path) -> None:
    (in_tmp / "sine.toml").write_text(TOML)
    ran = process("solve", "sine.toml", cwd=in_tmp)
    assert ran.status == 0 and "\x1b" not in ran.out
    assert "π" in ran.out and "-2.4" not in ran.out


def test_trace_a_network_of_ones_own(cli: Callable, in_tmp: Path) -> None:
    (in_tmp / "net.py").write_text(NET)
    words = "--input 4x2 --targets 4x1 --loss mse --optimizer sgd --set lr=0.1 --steps 2 --json".split()
    ran = cli("trace", "net.py:Net", *words, "--evidence", "full")
    assert ran.status == 0, ran.err
    steps = json.loads(ran.out)["steps"]
    assert len(steps) == 2 and steps[1]["loss"] < steps[0]["loss"]
    first, second = (step["parameters"]["hidden.weight"] for step in steps)
    assert first["after"] == second["before"]
    assert "z" in steps[0]["values"]


def test_capture_shows_the_graph(cli: Callable, in_tmp: Path) -> None:
    (in_tmp / "net.py").write_text(NET)
    ran = cli("capture", "net.py:Net", "--input", "4x2")
    assert ran.status == 0, ran.err
    assert all(word in ran.out for word in ("linear", "relu", "hidden", "net.py:11"))
    assert json.loads(cli("capture", "net.py:Net", "--input", "4x2", "--json").out)
