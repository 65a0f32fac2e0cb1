"""How a model is called: inputs and outputs of every form, losses, functions, dtypes, shapes, names, state."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp
from backproof.errors import CaptureError, InputError

from .models import (
    Layer,
    Many,
    Residual,
    Words,
    agrees_with_eager,
    computed,
    doubles,
    gradients,
    named,
    read,
)

X = doubles(4, 3)
T = doubles(4, 2, seed=1)


def roles(graph: Any) -> dict[str, str]:
    return {n.name: n.role for n in graph.nodes if n.is_leaf and n.role != "constant"}


# --- inputs and outputs -----------------------------------------------------------------------------------------------
def test_a_dict_of_keywords_and_a_dict_out() -> None:
    inputs = {"batch": {"a": X, "b": X + 1}, "scale": doubles(3, seed=2)}
    graph = bp.capture(Many(), inputs, loss="mse", targets=doubles(4, 3, seed=3), output="logits")
    assert roles(graph) == {"batch.a": "input", "batch.b": "input", "scale": "input", "target": "target"}
    agrees_with_eager(graph)


def test_several_tensors_and_one_tuple_are_the_same() -> None:
    def f(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum()

    for inputs in ((X, X + 1), ((X, X + 1),)):
        assert roles(bp.capture(f, *inputs)) == {"a": "input", "b": "input"}


def test_a_pair_inside_an_argument() -> None:
    graph = bp.capture(lambda pair, k: (pair[0] * pair[1] * k).sum(), (X, X + 1), 3.0)
    assert roles(graph) == {"pair1": "input", "pair2": "input"}
    agrees_with_eager(graph)


def test_the_same_tensor_as_input_and_target() -> None:
    """An autoencoder: two names, and two gradients."""
    graph = bp.capture(nn.Linear(3, 3).double(), X, loss="mse", targets=X)
    assert roles(graph) == {"weight": "parameter", "bias": "parameter", "input": "input", "target": "target"}
    agrees_with_eager(graph)


@pytest.mark.parametrize(
    ("output", "pick"), [(1, lambda r: r[1]), (lambda r: r[0][:, :1], lambda r: r[0][:, :1])], ids=["index", "function"]
)
def test_output_says_what_the_loss_takes(output: Any, pick: Any) -> None:
    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sin(), x.cos()

    graph = bp.capture(f, X, loss="sum", output=output)
    agrees_with_eager(graph)
    assert graph.loss is not None
    assert torch.allclose(read(graph)[graph.loss], pick(f(X)).sum())


def test_the_output_named_logits_is_taken_by_itself() -> None:
    class Result:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    graph_output = bp.capture(lambda x: x * 2, X, loss=lambda y: y.sum(), output=lambda y: Result(y).logits)
    agrees_with_eager(graph_output)


def test_integer_inputs() -> None:
    words = torch.tensor([[1, 2, 2], [0, 4, 1]])
    graph = bp.capture(Words().double(), words, loss="cross_entropy", targets=torch.tensor([3, 0]))
    assert graph.by_name["words"].dtype == "int64"
    agrees_with_eager(graph)
    assert "words" not in gradients(graph)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 5, 3), (2, 1, 2, 3)])
def test_linear_takes_any_number_of_axes(shape: tuple[int, ...]) -> None:
    graph = bp.capture(nn.Linear(3, 2).double(), doubles(*shape), loss=lambda y: (y * y).sum())
    agrees_with_eager(graph)


# --- functions and losses --------------------------------------------------------------------------------------------
def test_a_function_with_parameters() -> None:
    def f(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
        s = x @ w + b
        return s.sum()

    graph = bp.capture(f, doubles(3), doubles(4, seed=1), X, parameters=["w", "b"])
    assert roles(graph) == {"w": "parameter", "b": "parameter", "x": "input"}
    assert graph.title == "f"
    agrees_with_eager(graph)


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(InputError, match="no argument called 'W' to train; known: x"):
        bp.capture(lambda x: x.sum(), X, parameters=["W"])


def test_a_model_whose_output_is_one_number_is_its_own_loss() -> None:
    graph = bp.capture(lambda x: (x * x).mean(), X)
    assert graph.loss is graph.outputs[0]
    assert bp.capture(lambda x: x * x, X).loss is None


def test_a_loss_that_is_no_number() -> None:
    with pytest.raises(CaptureError, match=r"the loss must be one number, and '.*' has shape \[4, 2\]; reduce it"):
        bp.capture(nn.Linear(3, 2).double(), X, loss=lambda y: y * 2)


def test_an_unknown_loss() -> None:
    with pytest.raises(InputError, match="no loss called 'mze'; known: mse, "):
        bp.capture(nn.Linear(3, 2).double(), X, loss="mze", targets=T)


LOSS_CASES: list[tuple[str, Any, Tensor]] = [
    ("mse", nn.MSELoss(), T),
    ("mse-sum", nn.MSELoss(reduction="sum"), T),
    ("l1", nn.L1Loss(), T),
    ("huber", nn.HuberLoss(delta=0.7), T),
    ("smooth_l1", nn.SmoothL1Loss(beta=0.3), T),
    ("bce_logits", nn.BCEWithLogitsLoss(), torch.sigmoid(T)),
    ("bce_logits-weight", nn.BCEWithLogitsLoss(weight=torch.tensor([0.5, 2.0], dtype=torch.float64)), torch.sigmoid(T)),
    ("soft_margin", nn.SoftMarginLoss(), torch.sign(T)),
    ("hinge_embedding", nn.HingeEmbeddingLoss(margin=0.8), torch.sign(T)),
    ("poisson", nn.PoissonNLLLoss(), T.abs()),
    ("poisson-log", nn.PoissonNLLLoss(log_input=True, reduction="sum"), T.abs()),
    ("kl", nn.KLDivLoss(reduction="sum"), torch.softmax(T, 1)),
    ("kl-batchmean", nn.KLDivLoss(reduction="batchmean"), torch.softmax(T, 1)),
    ("kl-log", nn.KLDivLoss(reduction="sum", log_target=True), torch.log_softmax(T, 1)),
    ("cross_entropy", nn.CrossEntropyLoss(), torch.tensor([0, 1, 1, 0])),
    ("cross_entropy-sum", nn.CrossEntropyLoss(reduction="sum"), torch.tensor([0, 1, 1, 0])),
    ("cross_entropy-soft", nn.CrossEntropyLoss(), torch.softmax(T, 1)),
    ("cross_entropy-smooth", nn.CrossEntropyLoss(label_smoothing=0.1), torch.tensor([0, 1, 1, 0])),
    (
        "cross_entropy-weights",
        nn.CrossEntropyLoss(weight=torch.tensor([0.2, 2.0], dtype=torch.float64)),
        torch.tensor([0, 1, 1, 0]),
    ),
    ("cross_entropy-ignore", nn.CrossEntropyLoss(ignore_index=1), torch.tensor([0, 1, 1, 0])),
    (
        "cross_entropy-both",
        nn.CrossEntropyLoss(weight=torch.tensor([0.2, 2.0], dtype=torch.float64), ignore_index=0),
        torch.tensor([0, 1, 1, 0]),
    ),
    ("nll", lambda y, t: F.nll_loss(F.log_softmax(y, dim=-1), t), torch.tensor([0, 1, 1, 0])),
]


@pytest.mark.parametrize(("name", "loss", "target"), LOSS_CASES, ids=[c[0] for c in LOSS_CASES])
def test_losses(name: str, loss: Any, target: Tensor) -> None:
    model = nn.Linear(3, 2).double()
    graph = bp.capture(model, X, loss=loss, targets=target)
    # torch has no gradient with respect to the labels of a soft margin
    agrees_with_eager(
        graph, roles=("parameter", "input") if name == "soft_margin" else ("parameter", "input", "target")
    )


def test_cross_entropy_of_pixels() -> None:
    logits, target = doubles(2, 3, 4), torch.tensor([[0, 1, 2, 2], [1, 1, 0, 2]])
    agrees_with_eager(bp.capture(lambda y: y * 2, logits, loss="cross_entropy", targets=target))


@pytest.mark.parametrize("name", ["l1", "mse", "huber", "smooth_l1", "bce_with_logits"])
def test_losses_by_name_are_torch_s(name: str) -> None:
    target = torch.sigmoid(T)
    graph = bp.capture(nn.Linear(3, 2).double(), X, loss=name, targets=target)
    expected = {"bce_with_logits": F.binary_cross_entropy_with_logits}.get(name) or getattr(F, f"{name}_loss")
    assert graph.loss is not None
    assert torch.allclose(read(graph)[graph.loss], expected(graph.origin.wrapped.model(X), target), rtol=1e-14)


# --- errors of the user's ---------------------------------------------------------------------------------------------
class WrongShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        return h


def test_a_wrong_shape_names_the_user_s_line() -> None:
    with pytest.raises(CaptureError) as error:
        bp.capture(WrongShape().double(), X)
    message = str(error.value)
    assert re.search(
        r"does not run on these inputs in 'fc' .* at .*test_calls\.py:\d+ \(h = self\.fc\(x\)\): .*4x3 and 4x2", message
    )
    assert message.endswith("Check the shapes and dtypes of the inputs and targets") and "\n" not in message


def test_a_wrong_dtype() -> None:
    with pytest.raises(CaptureError, match=r"does not run on these inputs.*dtype"):
        bp.capture(nn.Linear(3, 2), X)


# --- dtypes --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["float64", "float32"]
)
def test_the_graph_has_the_model_s_dtype(dtype: torch.dtype, relative: float) -> None:
    model = Residual(3, 2).to(dtype)
    graph = bp.capture(model, X.to(dtype), loss=lambda y: (0.5 * y**2 + 1).mean())
    assert {n.dtype for n in graph.values} == {str(dtype).removeprefix("torch.")}
    assert all(str(v.dtype) == f"torch.{n.dtype}" for n, v in read(graph).items() if n in graph.values)
    agrees_with_eager(graph, relative)


# --- names ---------------------------------------------------------------------------------------------------------------
def test_names_from_assignments_and_modules() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.w = Layer(3, 4), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            z = self.first(x)
            y = (z * self.w).sum(dim=1)
            y = y + 1
            return torch.tanh(y)

    graph = bp.capture(Net(), X.float())
    assert named(graph) == ["first.s", "z", "mul", "y", "y#2", "tanh"]
    s = graph.by_name["first.s"]
    assert (s.module, s.source.text) == ("first.linear", "s = self.linear(x)")
    assert graph.by_name["y"].source.file == __file__
    assert graph.title == "Net"


def test_a_loop_numbers_its_variable() -> None:
    graph = bp.capture(Residual(3, 3), X.float())
    assert [n for n in named(graph) if n.startswith("h")] == ["h", "h#2", "h#3", "h#4"]
    assert [n for n in named(graph) if n.endswith(".z")] == ["layers.0.z", "layers.1.z", "layers.2.z"]


def test_names_in_a_plain_function() -> None:
    def f(x: Tensor) -> Tensor:
        s = torch.sin(x)
        return (s * s).sum()

    graph = bp.capture(f, X)
    assert named(graph) == ["s", "mul", "sum"]
    assert graph.by_name["s"].source.text == "s = torch.sin(x)"


def test_a_lambda_does_not_take_the_name_of_its_line() -> None:
    graph = bp.capture(lambda x: x.sin().sum(), X)
    assert named(graph) == ["sin", "sum"]


def test_sequential_names() -> None:
    graph = bp.capture(
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
        X.float(),
        loss=nn.MSELoss(),
        targets=torch.ones(4, 1),
    )
    assert named(graph) == ["0.linear", "1.tanh", "2.linear", "mse_loss"]
    assert [n.name for n in graph.parameters] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [n.module for n in graph.parameters] == ["0", "0", "2", "2"]


def test_code_without_source() -> None:
    scope: dict[str, Any] = {"nn": nn, "torch": torch}
    exec(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        h = self.fc(x)\n"
        "        return torch.tanh(h).sum()\n",
        scope,
    )
    graph = bp.capture(scope["Net"]().double(), X)
    assert named(graph) == ["fc.linear", "tanh", "sum"]
    agrees_with_eager(graph)


# --- what capture leaves alone ----------------------------------------------------------------------------------------
class Counting(nn.Module):
    """A buffer that the forward pass changes, and a random number that it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.fc(x) + torch.rand(2)


@pytest.mark.parametrize(
    "model",
    [Counting(), Residual(3, 2), nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))],
    ids=["counting", "plain", "norm"],
)
def test_state_and_random_numbers_are_unchanged(model: nn.Module) -> None:
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    training, x = [m.training for m in model.modules()], X.float()
    kept = x.clone()
    try:
        bp.capture(model, x)
    except CaptureError:
        pass
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert [m.training for m in model.modules()] == training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(x, kept) and not x.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_parameters_are_read_live() -> None:
    model = nn.Linear(3, 1).double()
    graph = bp.capture(model, X, loss="sum")
    assert graph.loss is not None
    before = read(graph)[graph.loss]
    with torch.no_grad():
        model.bias += 1
    assert torch.allclose(read(graph)[graph.loss], before + 4)


def test_frozen_parameters_are_captured_and_held_fixed() -> None:
    model = nn.Linear(3, 1).double()
    model.weight.requires_grad_(False)
    graph = bp.capture(model, X, loss="sum")
    assert {n.name for n in graph.parameters} == {"weight", "bias"}
    assert set(gradients(graph)) == {"bias", "input"}
    step = bp.trace(model, X, loss="sum", optimizer="sgd", evidence="full").steps[0]
    assert step.parameters["weight"].gradient is None
    assert torch.equal(step.parameters["weight"].after, model.weight)
    assert not torch.equal(step.parameters["bias"].after, model.bias)


def test_capture_works_under_no_grad_and_with_gradients_asked_for() -> None:
    with torch.no_grad():
        graph = bp.capture(lambda x: (x * x).sum(), X)
    assert torch.allclose(gradients(graph)["x"], 2 * X)
    graph = bp.capture(lambda x: (x * x).sum(), X.clone().requires_grad_())
    assert torch.allclose(gradients(graph)["x"], 2 * X)


def test_every_named_value_is_the_one_that_the_exported_program_computes() -> None:
    graph = bp.capture(Residual(3, 2).double(), X, loss=lambda y: (y * y).mean())
    ours, theirs = read(graph), graph.origin.values(graph.origin.leaves())
    assert {n.name for n in graph.values} <= set(theirs)
    for node in graph.values:
        assert torch.allclose(ours[node], theirs[node.name], rtol=1e-13), node
    assert computed(graph)
