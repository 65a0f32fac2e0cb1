"""Recurrent layers: every setting of torch's has torch's values and gradients, and reads as its textbook equations."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.errors import MissingRule
from backproof.graph import Graph

from .models import agrees_with_eager, computed, read

STEPS, BATCH, INPUTS, HIDDEN = 4, 2, 3, 2


class Everything(nn.Module):
    """All that a recurrent layer returns, in one number."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Any = None) -> Tensor:
        found = torch.utils._pytree.tree_leaves(self.layer(x, state))
        return torch.stack([(k + 1) * (y**2).sum() + y.sum() for k, y in enumerate(found)]).sum()


LAYERS: dict[str, Any] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN": nn.RNN,
    "RNN relu": lambda *sizes, **settings: nn.RNN(*sizes, nonlinearity="relu", **settings),
}
# number of layers, both directions, batch first, biases, a state that is given, a batch at all
SETTINGS = list(itertools.product((1, 2), (False, True), (False, True), (True, False), (False, True), (True, False)))


def _layer(kind: str, setting: tuple[Any, ...], **more: Any) -> nn.Module:
    layers, both, first, bias, _, _ = setting
    torch.manual_seed(0)
    layer: nn.Module = LAYERS[kind](
        INPUTS, HIDDEN, layers, bidirectional=both, batch_first=first, bias=bias, **more
    ).double()
    return layer


def _inputs(kind: str, setting: tuple[Any, ...], out: int = HIDDEN) -> tuple[Any, ...]:
    layers, both, first, _, state, batched = setting
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = draw(STEPS, INPUTS) if not batched else draw(BATCH, STEPS, INPUTS) if first else draw(STEPS, BATCH, INPUTS)
    if not state:
        return (x,)
    places = (layers * (1 + both), *([BATCH] if batched else []))
    h = draw(*places, out)
    return x, (h, draw(*places, HIDDEN)) if kind == "LSTM" else h


# every third setting daily, with another remainder for each kind; all of them at night
DAILY = [(kind, s) for k, kind in enumerate(LAYERS) for i, s in enumerate(SETTINGS) if i % 9 == 2 * k]
NIGHTLY = [(kind, s) for kind in LAYERS for s in SETTINGS if (kind, s) not in DAILY]


@pytest.mark.parametrize(
    ("kind", "setting"), [*DAILY, *(pytest.param(*case, marks=pytest.mark.nightly) for case in NIGHTLY)]
)
def test_values_and_gradients_are_torch_s(kind: str, setting: tuple[Any, ...]) -> None:
    graph = bp.capture(Everything(_layer(kind, setting)), *_inputs(kind, setting))
    agrees_with_eager(graph, 1e-11)


@pytest.mark.parametrize("setting", [SETTINGS[5], SETTINGS[-2]])
def test_a_projected_state(setting: tuple[Any, ...]) -> None:
    graph = bp.capture(Everything(_layer("LSTM", setting, proj_size=1)), *_inputs("LSTM", setting, out=1))
    agrees_with_eager(graph, 1e-11)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell, lambda a, b: nn.RNNCell(a, b, False, "relu")])
@pytest.mark.parametrize("shape", [(BATCH, INPUTS), (INPUTS,)])
def test_cells(cell: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    graph = bp.capture(Everything(cell(INPUTS, HIDDEN).double()), torch.randn(shape, dtype=torch.float64))
    agrees_with_eager(graph, 1e-11)


def test_an_lstm_is_bit_for_bit_torch_s() -> None:
    torch.manual_seed(0)
    model, x = Everything(nn.LSTM(3, 5, 2)).double(), torch.randn(6, 2, 3, dtype=torch.float64)
    assert bp.trace(model, x).steps[0].loss == model(x).item()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_dropout_between_layers_is_drawn_and_replayed(kind: str) -> None:
    torch.manual_seed(0)
    model = Everything(LAYERS[kind](3, 2, 3, dropout=0.4, batch_first=True)).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    record = bp.trace(model, x, optimizer="sgd", steps=2, evidence="sampled", seed=3)
    assert all(e.agrees for e in record.evidence)
    assert [n.name for n in record.graph.of_role("draw")] == ["layer.mask", "layer.mask#2"]
    torch.manual_seed(3)
    assert model(x).item() == pytest.approx(record.steps[0].loss, rel=1e-14)
    assert not bp.capture(model.eval(), x).of_role("draw")


# --- how it reads --------------------------------------------------------------------------------------------------------
class Net(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rnn, self.out = layer, nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x)
        y: Tensor = self.out(h[-1])
        return y


def _net(layer: nn.Module, steps: int = 2) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    return (
        Net(layer).double(),
        torch.randn(steps, 1, INPUTS, dtype=torch.float64),
        torch.zeros(1, 1, dtype=torch.float64),
    )


def test_the_letters_are_those_of_the_textbook() -> None:
    net, x, t = _net(nn.LSTM(INPUTS, HIDDEN))
    graph = bp.capture(net, x, loss="mse", targets=t)
    of_step = [n.name for n in graph.values if n.module == "rnn.t2"]
    assert of_step == [f"rnn.t2.{letter}" for letter in "sifgoch"]
    text = bp.trace(graph).text()
    for equation in (
        "a⁽ʳⁿⁿ⁾ = x W_ih,l0⁽ʳⁿⁿ⁾ᵀ + b_ih,l0⁽ʳⁿⁿ⁾",
        "c₂⁽ʳⁿⁿ⁾ = f₂⁽ʳⁿⁿ⁾ ⊙ c₁⁽ʳⁿⁿ⁾ + i₂⁽ʳⁿⁿ⁾ ⊙ g₂⁽ʳⁿⁿ⁾",
        "h₂⁽ʳⁿⁿ⁾ = o₂⁽ʳⁿⁿ⁾ ⊙ tanh(c₂⁽ʳⁿⁿ⁾)",
    ):
        assert equation in text


def test_a_gated_unit_and_a_plain_one() -> None:
    net, x, t = _net(nn.GRU(INPUTS, HIDDEN))
    text = bp.trace(net, x, t, loss="mse").text()
    assert "h₂⁽ʳⁿⁿ⁾ = (h₁⁽ʳⁿⁿ⁾ − n₂⁽ʳⁿⁿ⁾) ⊙ z₂⁽ʳⁿⁿ⁾ + n₂⁽ʳⁿⁿ⁾" in text
    net, x, t = _net(nn.RNN(INPUTS, HIDDEN))
    assert "h₂⁽ʳⁿⁿ⁾ = tanh(s₂⁽ʳⁿⁿ⁾)" in bp.trace(net, x, t, loss="mse").text()


def test_a_long_sequence_is_linear_in_its_length_and_its_page_says_the_steps_once() -> None:
    def nodes(graph: Graph) -> int:
        return len(graph.nodes)

    short, long = (bp.capture(_net(nn.LSTM(INPUTS, HIDDEN))[0], torch.zeros(n, 1, INPUTS).double()) for n in (10, 40))
    assert nodes(long) < 4 * nodes(short)
    net, x, t = _net(nn.LSTM(INPUTS, HIDDEN), steps=60)
    text = bp.trace(net, x, t, loss="mse").markdown()
    assert "The equations of rnn.t2 hold for rnn.t3 to rnn.t60 too, one after another" in " ".join(text.split())


def test_what_a_unit_of_a_recurrent_layer_sees_grows_with_time() -> None:
    class Causal(nn.Module):
        def __init__(self, both: bool) -> None:
            super().__init__()
            self.conv, self.rnn = nn.Conv1d(2, 3, 3, 2), nn.GRU(3, 2, batch_first=True, bidirectional=both)

        def forward(self, x: Tensor) -> Tensor:
            h, _ = self.rnn(self.conv(x).transpose(1, 2))
            return h.transpose(1, 2)

    one, both = (bp.receptive_field(Causal(b), torch.zeros(1, 2, 11)) for b in (False, True))
    last = one.layers[-1].name
    assert [sorted(one.indices(last, (t,))) for t in (0, 1, 4)] == [[0, 1, 2], [0, 1, 2, 3, 4], list(range(11))]
    assert sorted(both.indices(both.layers[-1].name, (0,))) == list(range(11))


def test_every_other_reading_answers_or_names_the_rule_that_is_missing() -> None:
    net, x, t = _net(nn.LSTM(INPUTS, HIDDEN))
    assert bp.memory(net, x, loss="mse", targets=t, optimizer="adam").peak_bytes > 0
    derived = bp.derive(net, x, loss=lambda y: (y * y).sum()).evaluate({})
    assert {"rnn.weight_ih_l0", "rnn.weight_hh_l0"} <= set(derived)
    for ask in (lambda: bp.propagate(net, x), lambda: bp.certify(net, x, wrt="rnn.weight_hh_l0")):
        try:
            ask()
        except MissingRule as error:
            assert "Add one with" in str(error)


def test_the_adjoint_of_gates_is_put_together() -> None:
    """Not a sum of padded pieces: one node that joins them, whatever the number of steps."""
    net, x, t = _net(nn.LSTM(INPUTS, HIDDEN), steps=5)
    graph = bp.capture(net, x, loss="mse", targets=t)
    from backproof.differentiate import differentiate

    joint = differentiate(graph)
    gates = joint.gradients[graph.by_name["rnn.t3.s"]]
    inputs = joint.gradients[graph.by_name["rnn.a"]]
    assert gates is not None and gates.op.name == "cat" and len(gates.inputs) == 4
    assert inputs is not None and inputs.op.name == "stack" and len(inputs.inputs) == 5
    assert not any(n.op.name == "unslice" for n in joint.graph.nodes)
    assert read(graph) and ("rnn.output", "stack") in computed(graph)
