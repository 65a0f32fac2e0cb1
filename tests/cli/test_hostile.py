"""Bad input: exit 2, one paragraph that says what is wrong, no traceback, nothing on stdout, no file left."""

from collections.abc import Callable
from pathlib import Path

import pytest

SINE = "ctu-vir-3/sine-neuron"

GOOD = {"x": "[2, 1]", "w": '["pi/2", "pi"]', "u": "w @ x", "y": "sin(u) - b", "L": "(y - t)**2", "more": ""}


def toml(**changed: str) -> str:
    """A good TOML problem in which one thing is changed."""
    g = {**GOOD, **changed}
    return f"""
[given]
x = {g["x"]}
w = {g["w"]}
b = 0
t = 2
[model]
u = {g["u"]!r}
y = {g["y"]!r}
L = {g["L"]!r}
[step]
parameters = ["w"]
optimizer = "sgd"
lr = 0.5
{g["more"]}
"""


@pytest.fixture
def refused(cli: Callable, in_tmp: Path) -> Callable[..., str]:
    """Run a command that must be refused, and return what it said."""

    def run(*words: str) -> str:
        before = sorted(path.name for path in in_tmp.iterdir())
        ran = cli(*words)
        assert (ran.status, ran.out) == (2, ""), ran
        assert ran.err.startswith("backproof: ") and ran.err.count("backproof: ") == 1
        assert "Traceback" not in ran.err and "\n\n" not in ran.err and len(ran.err) < 2_100
        assert "a bug in Backproof" not in ran.err, ran.err
        after = sorted(path.name for path in in_tmp.iterdir() if path.name != "__pycache__")
        assert after == before
        return str(ran.err)

    return run


TOML_FILES = {
    "nan": (toml(x="[nan, 1]"), "x"),
    "infinity": (toml(x="[inf, 1]"), "x"),
    "nan in quotes": (toml(x='["nan", 1]'), ""),
    "ragged": (toml(x="[[1, 2], [3]]"), "x"),
    "shapes that do not fit": (toml(w="[1, 2, 3]"), "w @ x"),
    "loss that is no scalar": (toml(L="w * x"), "L"),
    "unknown name": (toml(y="sin(v) - b"), "v"),
    "unknown function": (toml(y="sinn(u) - b"), "sinn"),
    "unknown key": (toml(more="lrr = 1"), "lrr"),
    "unknown table": (toml(more="[givens]\nz = 1"), "givens"),
    "asks for what is not there": (toml(more="[ask]\ngradients = ['L/nothing']"), "nothing"),
    "syntax of a formula": (toml(y="sin(u"), ""),
    "empty formula": (toml(y=""), "y"),
    "a cycle": (toml(u="y @ x"), "y"),
    "import": (toml(y="__import__('os').system('touch owned')"), ""),
    "lambda": (toml(y="(lambda: u)()"), ""),
    "attribute": (toml(y="u.__class__"), ""),
    "comprehension": (toml(y="[v for v in x]"), ""),
    "walrus": (toml(y="(v := u)"), ""),
    "string": (toml(y="'u' * 2"), ""),
    "code in a given": (toml(w='["exec(1)", "pi"]'), ""),
    "100,000 characters": (toml(y="u" + " + u" * 25_000), ""),
    "100,000 brackets": (toml(y="(" * 50_000 + "u" + ")" * 50_000), ""),
    "100,000 minus signs": (toml(y="-" * 100_000 + "u"), ""),
    "no model": ("[given]\nx = 1\n", "model"),
    "broken TOML": ("[given\nx = 1\n", ""),
    "empty": ("", ""),
    "a date": (toml(x="2020-01-01"), "x"),
    "unknown optimizer": (toml().replace('"sgd"', '"sdg"'), "sdg"),
    "a model that is a number": ("model = 3\n", "model"),
}


@pytest.mark.parametrize("case", TOML_FILES)
def test_a_toml_problem(refused: Callable, in_tmp: Path, case: str) -> None:
    text, says = TOML_FILES[case]
    (in_tmp / "problem.toml").write_text(text)
    assert says in refused("solve", "problem.toml", "--out", "solved.html")


def test_bytes_that_are_no_text(refused: Callable, in_tmp: Path) -> None:
    (in_tmp / "problem.toml").write_bytes(b"\xff\xfe\x00[given]")
    assert "problem.toml" in refused("solve", "problem.toml")


PYTHON_FILES = {
    "no problem": ("x = 1\n", "problem"),
    "of another type": ("problem = 3\n", "problem"),
    "raises": ("a = 0\nproblem = 1 / a\n", "bad.py:2"),
    "no Python": ("problem = = 1\n", "bad.py:1"),
}


@pytest.mark.parametrize("case", PYTHON_FILES)
def test_a_python_problem(refused: Callable, in_tmp: Path, case: str) -> None:
    text, says = PYTHON_FILES[case]
    (in_tmp / "bad.py").write_text(text)
    assert says in refused("solve", "bad.py")


WORDS = {
    "missing file": (["solve", "nofile.toml"], "nofile.toml"),
    "missing Python file": (["solve", "nofile.py"], "nofile.py"),
    "a folder": (["solve", "."], ""),
    "an empty name": (["solve", ""], ""),
    "wrong id": (["solve", "ctu-vir-3/sine-neurone"], "sine-neuron"),
    "setting that is a word": (["solve", SINE, "--set", "lr=abc"], "lr"),
    "setting that is nan": (["solve", SINE, "--set", "lr=nan"], "lr"),
    "setting nobody knows": (["solve", SINE, "--set", "lrr=1"], "lrr"),
    "setting that does not fit": (["solve", SINE, "--set", "x=[1,2,3]"], ""),
    "setting with code": (["solve", SINE, "--set", "b=__import__('os').system('touch owned')"], ""),
    "broken setting": (["solve", SINE, "--set", "x=[1, 2"], "x"),
    "no such format": (["solve", SINE, "--out", "x.xyz"], ".html"),
    "no such folder": (["solve", SINE, "--out", "nowhere/x.html"], "nowhere"),
}


@pytest.mark.parametrize("case", WORDS)
def test_words_of_the_command_line(refused: Callable, case: str) -> None:
    words, says = WORDS[case]
    assert says in refused(*words)


NET = """
import torch
from torch import nn
net = nn.Linear(2, 1)
def vector_loss(y, t): return (y - t) ** 2
def word_loss(y, t): return "small"
class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x
def nothing(x): return None
def raises(x): raise KeyError("no such layer")
"""

TRACES = {
    "input that does not fit": (["net.py:net", "--input", "4x3"], ""),
    "too many inputs": (["net.py:net", "--input", "4x2", "--input", "4x2"], ""),
    "nan in the data": (["net.py:net", "--input", "nan.npy"], ""),
    "loss that is no scalar": (
        ["net.py:net", "--input", "4x2", "--targets", "4x1", "--loss", "net.py:vector_loss"],
        "",
    ),
    "loss that is no tensor": (
        ["net.py:net", "--input", "4x2", "--targets", "4x1", "--loss", "net.py:word_loss"],
        "",
    ),
    "targets that do not fit": (
        ["net.py:net", "--input", "4x2", "--targets", "3x1", "--loss", "mse"],
        "",
    ),
    "no output": (["net.py:nothing", "--input", "4"], ""),
    "a model that raises": (["net.py:raises", "--input", "4"], "no such layer"),
    "a model of several losses": (["net.py:net", "--input", "4x2", "--optimizer", "sgd"], "loss"),
}


@pytest.mark.parametrize("case", TRACES)
def test_a_network(refused: Callable, in_tmp: Path, case: str) -> None:
    import numpy as np

    np.save(in_tmp / "nan.npy", np.full((4, 2), np.nan, dtype=np.float32))
    (in_tmp / "net.py").write_text(NET)
    words, says = TRACES[case]
    assert says in refused("trace", *words)


def test_a_data_dependent_branch_is_recorded_with_its_line(process: Callable, in_tmp: Path) -> None:
    (in_tmp / "net.py").write_text(NET)
    ran = process("capture", "net.py:Branch", "--input", "4", cwd=in_tmp)
    said = " ".join(ran.out.split())
    assert ran.status == 0 and ran.err == ""
    assert "This is the run that happened on these inputs" in said and "the branch at net.py:9" in said


def test_a_tower_of_powers_ends(process: Callable, in_tmp: Path) -> None:
    """Exact arithmetic has a budget: this number has more digits than the world has atoms."""
    (in_tmp / "problem.toml").write_text(toml(y="9**9**9**9**9 * u"))
    ran = process("solve", "problem.toml", cwd=in_tmp, timeout=60)
    assert ran.status == 2 and ran.out == "" and "Traceback" not in ran.err
