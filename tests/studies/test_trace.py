"""bp.trace against hooks and torch.optim on the same network, and what it leaves alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x))
        h = h + torch.nn.functional.gelu(self.second(h))
        return self.last(h)  # type: ignore[no-any-return]


def _net() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    return Residual().double(), torch.randn(6, 3).double(), torch.randint(2, (6,))


OPTIMIZERS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"lr": 0.05, "weight_decay": 0.1}),
    (torch.optim.AdamW, {"lr": 0.05, "amsgrad": True}),
]


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
def test_the_record_is_what_torch_does(kind: Any, settings: dict[str, Any]) -> None:
    net, x, t = _net()
    record = bp.trace(net, x, t, loss="cross_entropy", optimizer=(kind, settings), steps=3)
    twin = copy.deepcopy(net)
    optimizer = kind(twin.parameters(), **settings)
    for step in record.steps:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(twin(x), t)
        loss.backward()
        assert step.loss == pytest.approx(loss.item(), rel=1e-13)
        for name, parameter in twin.named_parameters():
            assert torch.allclose(step.parameters[name].before, parameter.detach(), atol=1e-13)
            assert torch.allclose(step.parameters[name].gradient, parameter.grad, atol=1e-13)  # type: ignore[arg-type]
        optimizer.step()
        for name, parameter in twin.named_parameters():
            assert torch.allclose(step.parameters[name].after, parameter.detach(), atol=1e-12)


def test_values_and_error_signals_are_those_of_hooks() -> None:
    net, x, t = _net()
    record = bp.trace(net, x, t, loss="cross_entropy")
    seen: dict[str, torch.Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        seen[next(n for n, m in net.named_modules() if m is module)] = output

    handles = [m.register_forward_hook(keep) for m in net.modules() if isinstance(m, nn.Linear)]
    nn.functional.cross_entropy(net(x), t).backward()
    for handle in handles:
        handle.remove()
    for module, output in seen.items():
        assert torch.equal(record.steps[0].values[f"{module}.linear"], output.detach())
        assert torch.allclose(record.steps[0].gradients[f"{module}.linear"], output.grad, atol=1e-14)  # type: ignore[arg-type]
    assert {"h", "h#2"} <= set(record.steps[0].values)


def test_the_model_is_left_as_it_was() -> None:
    net, x, t = _net()
    before, rng = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    bp.trace(net, x, t, loss="cross_entropy", optimizer="adam", steps=2, evidence="full")
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and net.training
    assert torch.equal(rng, torch.get_rng_state())


def test_float32_stays_float32_and_is_confirmed() -> None:
    net, x, t = _net()
    record = bp.trace(net.float(), x.float(), t, loss="cross_entropy", optimizer="sgd", evidence="full")
    assert record.steps[0].values["h"].dtype == torch.float32
    assert not record.finding
    wide = bp.trace(net, x.float(), t, loss="cross_entropy", arithmetic="float64")
    assert wide.steps[0].values["h"].dtype == torch.float64


def test_sample_by_sample() -> None:
    net, x, t = _net()
    record = bp.trace(net, x, t, loss="cross_entropy", optimizer=("sgd", {"lr": 0.1}), batch="sample", evidence="full")
    assert [s.sample for s in record.steps] == list(range(6)) and not record.finding
    twin = copy.deepcopy(net)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for i in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin(x[i : i + 1]), t[i : i + 1]).backward()
        optimizer.step()
    assert torch.allclose(record.steps[-1].parameters["last.weight"].after, twin.last.weight.detach(), atol=1e-13)  # type: ignore[union-attr]


def test_exact_arithmetic_on_a_module() -> None:
    line = nn.Linear(2, 1).double()
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[0.5, 0.25]]))
        line.bias.zero_()
    record = bp.trace(line, torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0]]), loss="mse", arithmetic="exact")
    assert str(record.steps[0].exact["grad.weight"][0, 1]) == "-9/2"


def test_without_a_loss_there_are_values_and_no_gradients() -> None:
    record = bp.trace(nn.Linear(2, 3), torch.ones(4, 2))
    assert record.steps[0].loss is None
    assert set(record.steps[0].values) == {"linear"}
    assert record.steps[0].parameters["weight"].gradient is None


def test_a_captured_graph_is_read_live() -> None:
    line = nn.Linear(2, 1)
    graph = bp.capture(line, torch.ones(3, 2), loss="mse", targets=torch.zeros(3, 1))
    first = bp.trace(graph).steps[0].loss
    with torch.no_grad():
        line.weight.add_(1)
    assert bp.trace(graph).steps[0].loss != first


def test_a_parameter_that_gets_no_gradient_has_none() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x).sum()  # type: ignore[no-any-return]

    record = bp.trace(Spare(), torch.ones(1, 2), optimizer="sgd", evidence="full")
    assert record.steps[0].parameters["spare.weight"].gradient is None
    assert not record.finding
    assert bp.capture(Spare(), torch.ones(1, 2)).facts["unused_parameters"] == ["spare.weight", "spare.bias"]


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": True}, {"evidence": "some"}, {"arithmetic": "int"}, {"batch": 3}]
)
def test_choices_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(bp.InputError):
        bp.trace(nn.Linear(2, 1), torch.ones(3, 2), torch.zeros(3, 1), loss="mse", optimizer="sgd", **wrong)


def test_not_a_number_in_the_data_is_refused() -> None:
    with pytest.raises(bp.InputError, match=r"'input' contains nan at \[1, 0\]"):
        bp.trace(nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]))


class Deviation(nn.Module):
    """A linear layer that starts constant, and the deviation of its row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(2, 3), nn.Linear(3, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.constant_(self.layer.bias, 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layer(x)
        other: torch.Tensor = torch.std_mean(h, 1, keepdim=True)[0]
        return self.last(h) + h.std(1, keepdim=True) + other  # type: ignore[no-any-return]


@pytest.mark.parametrize("evidence", ["full", "sampled"])
def test_the_deviation_of_a_constant_has_slope_zero_as_in_torch(evidence: str) -> None:
    torch.manual_seed(0)
    record = bp.trace(Deviation(), torch.ones(4, 2), torch.ones(4, 1), loss="mse", optimizer="sgd", evidence=evidence)
    assert not record.finding
    assert any("a kink, with slope" in e.note for e in record.evidence)
    assert all(torch.isfinite(p.after).all() for p in record.steps[0].parameters.values())


@pytest.mark.parametrize("name", ["det", "inv", "slogdet"])
def test_a_singular_matrix_is_refused_in_a_paragraph(name: str) -> None:
    """Where the program itself stops, and where it runs and the gradient alone asks for the inverse."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = getattr(torch.linalg, name)(x)
        return found[1].clamp(min=-3) if name == "slogdet" else found.sum()

    with pytest.raises(bp.BackproofError, match=r"(?s)singular.*multiple of the identity") as refused:
        bp.trace(loss, torch.ones(3, 3).requires_grad_())
    assert "\n" not in str(refused.value) and "test_trace.py" in str(refused.value)
