"""MODEL, --input, --targets, --loss and --optimizer."""

from collections.abc import Callable
from pathlib import Path

import pytest

NET = """
import torch
from torch import nn
from neighbour import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(WIDTH, 1)
    def forward(self, x):
        return self.l(x)

class Sized(Net):
    def __init__(self, width):
        super().__init__()

class Holder:
    inner = Net()

net = Net()
def make(): return Net()
def with_inputs(): return Net(), torch.ones(3, 2)
pair = (net, (torch.ones(3, 2),))
keywords = (net, {"x": torch.ones(3, 2)})
def function(x): return x.sin()
def broken(): raise RuntimeError("no weights")
def loss(y, t): return (y - t).abs().max()
data = [[1.0, 2.0]]
number = 3
print("hello from the file")
"""


@pytest.fixture
def net(in_tmp: Path) -> Path:
    (in_tmp / "neighbour.py").write_text("WIDTH = 2\n")
    (in_tmp / "net.py").write_text(NET)
    return in_tmp


@pytest.mark.parametrize("name", ["Net", "net", "make", "Holder.inner"])
def test_ways_to_give_a_module(cli: Callable, stub: Callable, net: Path, name: str) -> None:
    calls = stub("capture")
    ran = cli("capture", f"net.py:{name}", "--input", "4x2")
    assert ran.status == 0 and "hello" not in ran.out
    (model, x), options = calls[0]
    assert type(model).__name__ == "Net" and x.shape == (4, 2)
    assert options == {"loss": None, "targets": None}


@pytest.mark.parametrize("name", ["pair", "with_inputs", "keywords"])
def test_a_model_brings_its_inputs(cli: Callable, stub: Callable, net: Path, name: str) -> None:
    calls = stub("trace")
    assert cli("trace", f"net.py:{name}").status == 0
    _, inputs, targets = calls[0][0]
    x = inputs["x"] if name == "keywords" else inputs[0]
    assert x.shape == (3, 2) and targets is None


def test_inputs_by_keyword_reach_capture_as_one_mapping(cli: Callable, stub: Callable, net: Path) -> None:
    calls = stub("capture")
    cli("capture", "net.py:keywords")
    assert set(calls[0][0][1]) == {"x"}


def test_a_function_and_a_module_of_a_package(cli: Callable, stub: Callable, net: Path) -> None:
    calls = stub("capture")
    assert cli("capture", "net.py:function", "--input", "2").status == 0
    assert cli("capture", "torch.nn:ReLU", "--input", "2").status == 0
    assert cli("capture", "torch:sin", "--input", "2").status == 0
    assert [call[0][1].shape for call in calls] == [(2,)] * 3


def test_the_seed_decides_weights_and_inputs(cli: Callable, stub: Callable, net: Path) -> None:
    calls = stub("capture")
    for seed in ("1", "1", "2"):
        cli("capture", "net.py:Net", "--input", "4x2", "--seed", seed)
    (m1, x1), (m2, x2), (m3, x3) = (call[0] for call in calls)
    assert (x1 == x2).all() and (m1.l.weight == m2.l.weight).all()
    assert (x1 != x3).any() and (m1.l.weight != m3.l.weight).any()


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("1x3x8x8", (1, 3, 8, 8), "float32"),
        ("5:float64", (5,), "float64"),
        ("4:float16", (4,), "float16"),
        ("9x2:int64:7", (9, 2), "int64"),
        ("3:bool", (3,), "bool"),
        ("[[1, .5]]", (1, 2), "float32"),
        ("[1, 0]", (2,), "int64"),
        ("net.py:data", (1, 2), "float32"),
        ("a.npy", (3,), "float64"),
    ],
)
def test_tensors(net: Path, text: str, shape: tuple[int, ...], dtype: str) -> None:
    import numpy as np
    import torch

    from backproof.cli.tensors import tensor_from

    np.save(net / "a.npy", np.arange(3.0))
    tensor = tensor_from(text, torch.Generator().manual_seed(0))
    assert (tuple(tensor.shape), str(tensor.dtype)) == (shape, f"torch.{dtype}")
    if text.startswith("9x2"):
        assert 0 <= tensor.min() and 2 <= tensor.max() < 7


def test_trace_passes_loss_optimizer_and_targets(cli: Callable, stub: Callable, net: Path) -> None:
    import torch

    calls = stub("trace")
    options = "--input 4x2 --targets 4x1 --loss mse --optimizer sgd --set lr=0.25 --set momentum=.9 --steps 3"
    assert cli("trace", "net.py:Net", *options.split(), "--arithmetic", "float64").status == 0
    (model, _, targets), given = calls[0]
    optimizer = given.pop("optimizer")
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["lr"] == 0.25 and optimizer.defaults["momentum"] == 0.9
    assert optimizer.param_groups[0]["params"][0] is model.l.weight
    assert targets.shape == (4, 1)
    assert given == {
        "loss": torch.nn.functional.mse_loss,
        "steps": 3,
        "arithmetic": "float64",
        "evidence": "none",
        "keep": None,
        "store": None,
        "seed": 1,  # the inputs were drawn from seed 0
    }


def test_a_loss_from_a_file_needs_no_targets(cli: Callable, stub: Callable, net: Path) -> None:
    calls = stub("capture")
    cli("capture", "net.py:Net", "--input", "4x2", "--loss", "net.py:loss")
    cli("capture", "net.py:Net", "--input", "4x2", "--targets", "4x1", "--loss", "torch.nn:MSELoss")
    assert [getattr(call[1]["loss"], "__name__", "module") for call in calls] == ["loss", "module"]


def test_every_loss_by_name_exists() -> None:
    from backproof.cli.training import LOSSES, loss_named

    for name, torch_name in LOSSES.items():
        assert loss_named(name, has_targets=True) is loss_named(torch_name, has_targets=True)


REFUSED = {
    "no file": (["nofile.py:Net"], "there is no file nofile.py"),
    "no module": (["no_such_package.x:Net"], "no_such_package"),
    "no colon": (["net.py"], "path/to/file.py:name"),
    "wrong name": (["net.py:Nett", "--input", "4x2"], "net.py has no 'Nett'. It has, among others: Net"),
    "not a model": (["net.py:number", "--input", "4x2"], "of type int, not a model"),
    "class with arguments": (["net.py:Sized", "--input", "4x2"], "without arguments raised TypeError"),
    "maker that fails": (["net.py:broken", "--input", "4x2"], "RuntimeError: no weights"),
    "no inputs": (["net.py:Net"], "add --input"),
    "not a tensor": (["net.py:Net", "--input", "4by2"], "'4by2' is not a tensor"),
    "no such dtype": (["net.py:Net", "--input", "4x2:int63"], "no dtype 'int63'"),
    "a dtype that is none": (["net.py:Net", "--input", "4x2:nn"], "no dtype 'nn'"),
    "empty": (["net.py:Net", "--input", "0x2"], "each size is at least 1"),
    "too large": (["net.py:Net", "--input", "99999999x99999999"], "2**31"),
    "ragged": (["net.py:Net", "--input", "[[1, 2], [3]]"], "is not a tensor"),
    "words": (["net.py:Net", "--input", "[one, two]"], "is not a tensor"),
    "broken list": (["net.py:Net", "--input", "[1, 2"], "is not a tensor"),
    "no data file": (["net.py:Net", "--input", "none.npy"], "there is no file none.npy"),
    "bad data file": (["net.py:Net", "--input", "bad.npy"], "could not be read"),
    "unknown loss": (["net.py:Net", "--input", "4x2", "--loss", "msee"], "Did you mean mse"),
    "loss without targets": (["net.py:Net", "--input", "4x2", "--loss", "mse"], "--targets"),
    "loss that is none": (["net.py:Net", "--input", "4x2", "--loss", "net.py:number"], "not a function"),
    "unknown optimizer": (["net.py:Net", "--input", "4x2", "--optimizer", "sdg"], "Did you mean sgd"),
    "unknown setting": (
        ["net.py:Net", "--input=4x2", "--optimizer=sgd", "--set", "lrr=1"],
        "Did you mean lr",
    ),
    "lr that is a word": (["net.py:Net", "--input=4x2", "--optimizer=sgd", "--set", "lr=abc"], "lr=abc"),
    "lr that is nan": (["net.py:Net", "--input=4x2", "--optimizer=adam", "--set", "lr=nan"], "finite"),
    "set without optimizer": (["net.py:Net", "--input", "4x2", "--set", "lr=1"], "--optimizer"),
    "nothing to train": (["torch.nn:ReLU", "--input", "4", "--optimizer", "sgd"], "no parameters"),
    "file with a bug": (["bug.py:x"], "bug.py:2: running bug.py raised ZeroDivisionError"),
    "file that exits": (["exits.py:x"], "SystemExit"),
    "file that is no Python": (["syntax.py:x"], "syntax.py:1: SyntaxError"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_and_what_to_do(cli: Callable, stub: Callable, net: Path, case: str) -> None:
    calls = stub("trace")
    (net / "bug.py").write_text("a = 0\nx = 1 / a\n")
    (net / "exits.py").write_text("import sys\nsys.exit(0)\n")
    (net / "syntax.py").write_text("x = = 1\n")
    (net / "bad.npy").write_text("not numbers")
    words, says = REFUSED[case]
    ran = cli("trace", *words)
    complaint = ran.err.removeprefix("hello from the file\n")
    assert (ran.status, ran.out, calls) == (2, "", [])
    assert complaint.startswith("backproof: ") and says in complaint
    assert "bug in Backproof" not in complaint and "Traceback" not in complaint
