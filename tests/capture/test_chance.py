"""What is drawn at random: named, recorded, the plain run's own numbers, and replayed by every other way."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp
from backproof.errors import CaptureError, InputError


class Random(nn.Module):
    """A function that draws, with a trained weight before it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.linspace(0.2, 1.0, 4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.w).square().sum()


def _reparametrised(h: Tensor) -> Tensor:
    mean, log_variance = h[..., :2], h[..., 2:]
    eps = torch.randn_like(mean)
    return mean + torch.exp(log_variance / 2) * eps


ATTENTION = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True).double()
for _p in ATTENTION.parameters():
    nn.init.uniform_(_p, -0.5, 0.5, generator=torch.Generator().manual_seed(0))

DRAWS: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "dropout": (lambda x: F.dropout(x, 0.3), ["mask"]),
    "dropout in place": (lambda x: F.dropout(x * 1, 0.3, inplace=True), ["mask"]),
    "dropout of a permuted tensor": (lambda x: F.dropout(x.transpose(0, 2), 0.4), ["mask"]),
    "two dropouts": (lambda x: F.dropout(F.dropout(x, 0.2) + x, 0.5), ["mask", "mask#2"]),
    "dropout1d": (lambda x: F.dropout1d(x, 0.3), ["mask"]),
    "dropout1d of one sample": (lambda x: F.dropout1d(x[0], 0.3), ["mask"]),
    "dropout2d": (lambda x: F.dropout2d(x.reshape(4, 3, 2, 2), 0.3), ["mask"]),
    "dropout3d": (lambda x: F.dropout3d(x.reshape(4, 3, 1, 2, 2), 0.3), ["mask"]),
    "everything dropped": (lambda x: F.dropout(x, 1.0) + x, []),
    "nothing dropped": (lambda x: F.dropout(x, 0.0), []),
    "alpha dropout": (lambda x: F.alpha_dropout(x, 0.3, True), ["mask"]),
    "feature alpha dropout": (lambda x: F.feature_alpha_dropout(x, 0.3, True), ["mask"]),
    "attention": (lambda q: F.scaled_dot_product_attention(q, q, q, dropout_p=0.2), ["mask"]),
    "multi-head attention": (lambda x: ATTENTION(x, x, x)[0], ["mask"]),
    "bernoulli": (lambda x: x * torch.bernoulli(torch.sigmoid(x)), ["u"]),
    "in place": (lambda x: torch.empty_like(x).bernoulli_(0.4) * x, ["bernoulli"]),
    "noise": (lambda x: x + 0.1 * torch.randn(x.shape, dtype=x.dtype) * torch.rand_like(x), ["randn", "rand_like"]),
    "normal": (lambda x: torch.normal(x.detach(), 1.0) * x + torch.normal(0.0, 1.0, (4, 3, 4)), ["noise", "normal#2"]),
    "gumbel softmax": (lambda x: F.gumbel_softmax(x, tau=0.7), ["exponential"]),
    "permutation": (lambda x: x[torch.randperm(4)], ["randperm"]),
    "reparametrised": (_reparametrised, ["eps"]),
    "distribution": (lambda x: torch.distributions.Normal(x, x.exp()).rsample(), ["normal"]),
}  # fmt: skip


def _x() -> Tensor:
    return torch.rand(4, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_named_and_replayed(name: str) -> None:
    """The loss is the plain run's under the same seed, and torch agrees with every value and gradient on the same draws."""
    function, names = DRAWS[name]
    model = Random(function)
    record = bp.trace(model, _x(), optimizer="sgd", steps=2, evidence="sampled", seed=5)
    graph = record.graph
    assert [n.name for n in graph.of_role("draw")] == names
    assert all(e.agrees for e in record.evidence)
    torch.manual_seed(5)
    plain = model(_x()).item()
    assert plain == pytest.approx(record.steps[0].loss, rel=1e-15)
    for drawn in names:
        first, second = (step.values[drawn] for step in record.steps)
        assert drawn not in record.steps[0].gradients
        assert not torch.equal(first, second), "a new draw in every step"


def test_randomized_relu_draws_a_slope_for_each_entry() -> None:
    record = bp.trace(
        Random(lambda x: F.rrelu(x - 0.5, 0.1, 0.3, training=True)), _x(), optimizer="sgd", evidence="full"
    )
    slope = record.steps[0].values["slope"]
    assert 0.1 <= slope.min() < slope.max() <= 0.3
    assert all(e.agrees for e in record.evidence)
    model = Random(lambda x: F.rrelu(x - 0.5, 0.1, 0.3, training=False))
    assert bp.trace(model, _x()).steps[0].loss == pytest.approx(model(_x()).item(), rel=1e-15)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.drop, self.fc2 = nn.Linear(3, 4), nn.Dropout(0.4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.fc1(x))
        h = self.drop(z)
        y: Tensor = self.fc2(h)
        return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_training_with_dropout_is_the_plain_training(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net, x, t = Net().to(dtype), torch.randn(5, 3, dtype=dtype), torch.randn(5, 1, dtype=dtype)
    record = bp.trace(net, x, t, loss="mse", optimizer="sgd", steps=3, seed=7)
    twin = copy.deepcopy(net)
    rule = torch.optim.SGD(twin.parameters())
    torch.manual_seed(7)
    for step in record.steps:
        rule.zero_grad()
        y = twin(x)
        loss = F.mse_loss(y, t)
        loss.backward()
        rule.step()
        if step.number == 1:  # bit for bit; later parameters carry the rounding of another order of summation
            assert torch.equal(step.values["y"], y)
            assert step.loss == loss.item()
        kept = step.values["h"] != 0
        assert torch.equal(kept, (step.values["drop.mask"] != 0) & (step.values["z"] != 0))
        assert set(step.values["drop.mask"].unique().tolist()) <= {0.0, 1.0}
    for name, parameter in twin.named_parameters():
        tolerance = {torch.bfloat16: 1e-2, torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
        assert torch.allclose(record.steps[-1].parameters[name].after, parameter, rtol=tolerance, atol=tolerance)


def test_a_random_number_is_no_longer_hidden_in_evaluation() -> None:
    graph = bp.capture(Net().eval(), torch.zeros(5, 3))
    assert not graph.of_role("draw")


def test_the_page_and_the_script_show_what_was_drawn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x, t = Net().double(), torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    record = bp.trace(net, x, t, loss="mse", optimizer="sgd", steps=2, evidence="sampled")
    text = record.text()
    assert "m⁽ᵈʳᵒᵖ⁾ = a draw from Bernoulli(0.6)" in text
    assert "h = (5/3) (z ⊙ m⁽ᵈʳᵒᵖ⁾)" in text
    script = tmp_path / "again.py"
    script.write_text(record.script(), encoding="utf-8")
    found = json.loads(subprocess.run([sys.executable, str(script)], capture_output=True, check=True, text=True).stdout)
    for again, step in zip(found["steps"], record.steps, strict=True):
        assert again["loss"] == step.loss
        assert again["values"]["drop.mask"] == step.values["drop.mask"].tolist()


def test_one_sample_at_a_time_draws_for_that_sample() -> None:
    torch.manual_seed(0)
    record = bp.trace(Net(), torch.randn(3, 3), torch.randn(3, 1), loss="mse", optimizer="sgd", batch="sample",
                      evidence="sampled")  # fmt: skip
    assert [step.values["drop.mask"].shape[0] for step in record.steps] == [1, 1, 1]
    assert all(e.agrees for e in record.evidence)


@pytest.mark.parametrize("draw", [lambda x: torch.multinomial(x, 2), torch.poisson])
def test_draws_that_cannot_be_replayed_are_refused_with_a_way_out(draw: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(CaptureError, match=r"draws from a distribution that the network computes.*gumbel_softmax.*at "):
        bp.capture(lambda x: draw(x.abs()).sum() * x.sum(), torch.ones(3))


def test_a_program_that_draws_more_often_than_it_was_captured_is_found() -> None:
    class Moody(nn.Module):
        count = 1

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(self.count):
                x = F.dropout(x, 0.5)
            return x.sum()

    model = Moody()
    graph = bp.capture(model, torch.ones(4))
    model.count = 2
    with pytest.raises(CaptureError, match="draws more often"):
        graph.origin.loss(graph.origin.leaves())
    model.count = 0
    with pytest.raises(CaptureError, match="'mask' is the first draw that it did not make"):
        graph.origin.loss(graph.origin.leaves())


def test_the_command_line_s_seed_changes_the_draws_and_no_draw_repeats_the_inputs(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("import torch\n\ndef noisy(x):\n    eps = torch.randn_like(x)\n    return (x * eps).sum()\n")
    found = []
    for seed in ("0", "0", "5"):
        command = [
            sys.executable,
            "-m",
            "backproof",
            "trace",
            f"{file}:noisy",
            "--input",
            "3x4",
            "--seed",
            seed,
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout)["steps"][0]["values"]["eps"])
    assert found[0] == found[1] != found[2]
    inputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(torch.tensor(found[0]), inputs)


def test_a_search_over_a_network_that_draws_is_refused() -> None:
    problem = bp.Problem(Net(), torch.randn(8, 3), torch.randn(8, 1), loss="mse", optimizer="sgd", settings={"lr": 0.1})
    with pytest.raises(InputError, match=r"draws at random in training \(drop\.mask\).*model\.eval\(\)"):
        bp.search(problem, trials=2)
