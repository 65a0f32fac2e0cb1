"""What torch.export loses, keeps or hides: stopped gradients, ties, in-place forms, custom backwards, checkpoints."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import backproof as bp
from backproof.errors import CaptureError

from .models import Doubled, Layer, Tied, Twice, agrees_with_eager, computed, doubles, eager_gradients, gradients, named

X = doubles(4, 3)


def test_no_grad_region_stops_the_gradient() -> None:
    def f(x: Tensor) -> Tensor:
        with torch.no_grad():
            c = x * x
        return (x * c).sum()

    graph = bp.capture(f, X)
    agrees_with_eager(graph)
    assert torch.allclose(gradients(graph)["x"], X * X), "decomposing the region would give 3 x²"
    assert "stop_gradient" in dict(computed(graph)).values()


def test_grad_enabled_again_inside_no_grad() -> None:
    def f(x: Tensor) -> Tensor:
        with torch.no_grad():
            a = x.sin()
            with torch.enable_grad():
                b = x.cos()
        return (a * x * b).sum()

    agrees_with_eager(bp.capture(f, X))


@pytest.mark.parametrize("stop", [lambda x: x.detach(), lambda x: x.clone().detach_()], ids=["detach", "detach_"])
def test_detach(stop: object) -> None:
    def f(x: Tensor) -> Tensor:
        return (x * stop(x)).sum()  # type: ignore[operator]

    graph = bp.capture(f, X)
    agrees_with_eager(graph)
    assert torch.allclose(gradients(graph)["x"], X)


def test_nothing_but_stopped_gradients() -> None:
    graph = bp.capture(lambda x: (x.detach() * 2).sum(), X)
    assert gradients(graph) == {}


def test_tied_weights_are_one_node_and_their_gradients_add_up() -> None:
    model = Tied().double()
    graph = bp.capture(model, X, loss=lambda y: (y * y).sum())
    assert [n.name for n in graph.parameters] == ["encoder.weight"]
    assert len(graph.users[graph.parameters[0]]) == 2
    loss = (model(X) ** 2).sum()
    (expected,) = torch.autograd.grad(loss, model.encoder.weight)
    assert torch.allclose(gradients(graph)["encoder.weight"], expected, rtol=1e-12)


def test_a_module_called_twice() -> None:
    graph = bp.capture(Twice().double(), X)
    agrees_with_eager(graph)
    assert [n.name for n in graph.parameters] == ["layer.linear.weight", "layer.linear.bias"]
    assert [(n.name, n.module) for n in graph.values] == [
        ("layer.s", "layer.linear"), ("a", "layer"), ("layer#2.s", "layer#2.linear"), ("b", "layer#2"), ("sum", ""),
    ]  # fmt: skip


# --- in place ----------------------------------------------------------------------------------------------------------
def relu_in_place(x: Tensor) -> Tensor:
    y = x * 2
    y.relu_()
    return y.sum()


def add_in_place(x: Tensor) -> Tensor:
    y = x * 2
    y.add_(x)
    y += 1
    y *= 1.5
    y.mul_(0.5).sub_(x).div_(3.0)
    return (y * x).sum()


def many_in_place(x: Tensor) -> Tensor:
    y = F.silu(x * 2, inplace=True)
    z = torch.sigmoid_(y + 1)
    w = (z * 1).clamp_(0.2, 0.8).exp_()
    return (w * x).sum()


@pytest.mark.parametrize("f", [relu_in_place, add_in_place, many_in_place])
def test_in_place_forms_become_plain(f: object) -> None:
    graph = bp.capture(f, X)
    agrees_with_eager(graph)
    assert not any(op.endswith("_") for _, op in computed(graph))


def test_in_place_module() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 1)).double()
    agrees_with_eager(bp.capture(model, X, loss=nn.MSELoss(), targets=doubles(4, 1, seed=1)))


# --- losses with broadcast_tensors -----------------------------------------------------------------------------------
@pytest.mark.parametrize("loss", ["mse", "l1", "huber", "smooth_l1"])
def test_losses_that_begin_with_broadcast_tensors(loss: str) -> None:
    model = nn.Linear(3, 2).double()
    graph = bp.capture(model, X, loss=loss, targets=doubles(4, 2, seed=1))
    agrees_with_eager(graph)
    assert "expand" not in dict(computed(graph)).values(), "equal shapes need no node"


def test_a_loss_that_really_broadcasts() -> None:
    def loss(y: Tensor, t: Tensor) -> Tensor:
        return F.mse_loss(*torch.broadcast_tensors(y, t))

    graph = bp.capture(nn.Linear(3, 2).double(), X, loss=loss, targets=doubles(2, seed=1))
    agrees_with_eager(graph)


# --- what is lost ------------------------------------------------------------------------------------------------------
def test_the_derivative_of_the_forward_pass_and_the_user_s_own_backward() -> None:
    graph = bp.capture(lambda x: (Doubled.apply(x) * x).sum(), X)
    assert torch.allclose(gradients(graph)["x"], 2 * X)
    assert torch.allclose(eager_gradients(graph)["x"], 3 * X), "the user's own claim"
    step = bp.trace(graph).steps[0]
    assert torch.allclose(step.gradients["x"], 3 * X) and torch.allclose(step.derivatives["x"], 2 * X)


def test_checkpoint_is_transparent() -> None:
    layer = Layer(3, 3).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            h = checkpoint(self.layer, x, use_reentrant=False)
            return (h * x).sum()

    graph = bp.capture(Net(), X)
    agrees_with_eager(graph)
    assert "layer.linear.weight" in gradients(graph)


# --- refusals -----------------------------------------------------------------------------------------------------------
def test_every_gap_at_once_with_its_line() -> None:
    def f(x: Tensor) -> Tensor:
        a = torch.nonzero(x)
        b = torch.poisson(x.abs())
        return (a.sum() * b).sum()

    with pytest.raises(CaptureError) as error:
        bp.capture(f, X)
    message = str(error.value)
    assert re.search(
        r"nonzero.*\(a = torch\.nonzero\(x\)\); .*poisson.*\(b = torch\.poisson\(x\.abs\(\)\)\)$", message
    ), message
    assert "mul" not in message and "Node" not in message, "what follows from a gap is no gap"


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.nonzero().sum(),
        lambda x: None,
        lambda x: "text",
    ],
    ids=["nonzero", "None", "text"],
)
def test_what_has_no_way_in_is_refused_in_one_paragraph(f: object, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError) as error:
        bp.capture(f, X)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_dropout_in_training_is_a_product_and_in_evaluation_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).double()
    assert named(bp.capture(model, X)) == ["0.linear", "1.dropout"]
    assert named(bp.capture(model.eval(), X)) == ["0.linear"]
