"""Every hazard gets its treatment: the value and every gradient of eager autograd, or a refusal that names the line."""

from __future__ import annotations

import contextlib
import linecache
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.errors import CaptureError
from backproof.graph import Graph
from backproof.studies.caveats import caveats
from backproof.studies.trace import trace

from .hazards import HAZARDS, Hazard
from .models import Layer, doubles, eager_gradients, read

X, T = doubles(4, 3), doubles(4, 2, seed=1)


def captured(hazard: Hazard) -> Graph:
    return bp.capture(hazard.program, *hazard.inputs, **(hazard.more or {}))


def allowed(graph: Graph) -> float:
    narrow = {n.dtype for n in graph.nodes if n.is_float}
    return 4e-2 if "bfloat16" in narrow else 1e-5 if "float32" in narrow else 1e-10


def agrees(graph: Graph) -> None:
    """The loss and every gradient of a trace are what eager autograd gives on the program as it stands."""
    relative = allowed(graph)
    assert graph.loss is not None
    leaves = {n: t.clone().requires_grad_(t.is_floating_point()) for n, t in graph.origin.leaves().items()}
    with torch.no_grad():
        for buffer in graph.of_role("buffer"):
            leaves[buffer.name] = leaves[buffer.name].detach()
    loss = graph.origin.loss(leaves).detach()
    assert torch.allclose(read(graph)[graph.loss].reshape(()), loss, rtol=relative, atol=1e-12)
    ours, theirs = trace(graph).steps[0].gradients, eager_gradients(graph)
    for node in graph.nodes:
        if node.role in ("parameter", "input") and node.is_float and not node.is_frozen:
            zero = torch.zeros(node.shape, dtype=getattr(torch, node.dtype))
            mine, expected = ours[node.name], theirs.get(node.name, zero)
            mine = zero if mine is None else mine
            size = float(expected.abs().max().clamp(min=1e-2)) if expected.numel() else 1.0
            assert torch.allclose(mine, expected, rtol=relative, atol=relative * size), (node.name, mine, expected)


@pytest.mark.parametrize("name", [n for n, h in HAZARDS.items() if h.treatment != "refused"])
def test_exact_or_recorded(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    hazard = HAZARDS[name]
    graph = captured(hazard)
    assert capfd.readouterr() == ("", ""), "torch's own noise"
    agrees(graph)
    recorded = graph.facts.get("recorded")
    kind = "exact" if recorded is None else "recorded" if recorded["decisions"] else "general"
    assert kind == hazard.treatment, recorded
    if hazard.says:
        assert any(re.search(hazard.says, remark) for remark in caveats(graph)), caveats(graph)


@pytest.mark.parametrize("name", [n for n, h in HAZARDS.items() if h.treatment == "refused"])
def test_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError) as error:
        captured(HAZARDS[name])
    message = str(error.value)
    assert re.search(HAZARDS[name].says, message), message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_a_dataclass_gives_its_tensors_names() -> None:
    graph = captured(HAZARDS["dataclass_in"])
    assert [n.name for n in graph.of_role("input")] == ["batch.a", "batch.pair1", "batch.pair2"]


# --- wrappers -------------------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrappers_are_taken_off() -> None:
    plain = Layer(3, 2).double()
    for model in (torch.compile(plain), nn.DataParallel(plain), torch.compile(nn.DataParallel(plain))):
        graph = bp.capture(model, X, loss="mse", targets=T)
        assert [n.name for n in graph.values] == ["s", "z", "mse_loss"] and graph.title == "Layer"
        agrees(graph)


def test_lazy_parameters_get_their_shapes_on_a_copy() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Tanh(), nn.LazyLinear(2)).double()
    graph = bp.capture(model, X, loss="mse", targets=T)
    assert [n.shape for n in graph.parameters] == [(3, 3), (3,), (2, 3), (2,)]
    assert nn.parameter.is_lazy(model[0].weight), "the user's model stays as it is"
    agrees(graph)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inside", [False, True])
def test_scripted_models_are_refused(inside: bool) -> None:
    scripted = torch.jit.script(nn.Linear(3, 2).double())
    with pytest.raises(CaptureError, match=r"compiled by TorchScript.*give the nn.Module"):
        bp.capture(nn.Sequential(scripted) if inside else scripted, X)


@pytest.mark.filterwarnings("ignore")
def test_quantised_models_are_refused() -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(CaptureError, match="module '0' is quantised"):
        bp.capture(model, X.float())


def test_a_model_that_prints_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: Tensor) -> Tensor:
        print("here")
        return x.sum() if x.sum() > 100 else x.sin().sum()

    bp.capture(f, X)
    assert capsys.readouterr().out.splitlines() == ["here"]
    assert bp.capture(lambda x: x.sin().sum(), X).facts.get("recorded") is None


def test_a_wrong_shape_behind_a_branch_names_the_line() -> None:
    def f(x: Tensor) -> Tensor:
        y = x * 2
        return (y @ y if y.sum() < 100 else y).sum()

    with pytest.raises(CaptureError, match=r"does not run on these inputs at .*test_hazards\.py:\d+ \(return \(y @ y"):
        bp.capture(f, X)


def test_code_of_a_notebook_has_its_lines() -> None:
    """A notebook's cell is no file; its lines are in linecache under the cell's name."""
    name, text = (
        "<ipython-input-7-abc>",
        "def f(x):\n    h = x.sin()\n    if h.sum() > 9:\n        h = -h\n    return h.sum()\n",
    )
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    scope: dict[str, Any] = {}
    exec(compile(text, name, "exec"), scope)
    graph = bp.capture(scope["f"], X)
    assert [n.name for n in graph.values] == ["h", "sum"]
    assert graph.by_name["h"].source.text == "h = x.sin()"
    assert re.search(r"<ipython-input-7-abc>:3 \(if h\.sum\(\) > 9:\) was not taken", caveats(graph)[0])


def test_recording_leaves_nothing_behind() -> None:
    before = (
        torch.autograd.Function.apply.__func__,
        len(nn.modules.module._global_forward_hooks),
        torch.get_rng_state(),
    )
    for name in ("straight_through", "branch", "vmap", "input_changed", "conditional"):
        with contextlib.suppress(CaptureError):
            captured(HAZARDS[name])
    after = (
        torch.autograd.Function.apply.__func__,
        len(nn.modules.module._global_forward_hooks),
        torch.get_rng_state(),
    )
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])


class Remembering(nn.Module):
    """Keeps what it computes, in attributes, lists and a parameter made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.seen, self.last = nn.Linear(3, 2), [], None
        self.table: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        self.last, self.late = y, nn.Parameter(torch.ones(2, dtype=x.dtype))
        self.seen.append(y)
        self.table["y"] = y
        return (y * self.late).sum()


def test_what_a_forward_pass_keeps_does_not_stay() -> None:
    """torch.export would leave tensors without numbers in the user's model."""
    model = Remembering().double()
    agrees(bp.capture(model, X))
    model = Remembering().double()
    bp.capture(model, X)
    assert model.last is None and model.seen == [] and model.table == {} and not hasattr(model, "late")
