"""Predicted and measured mean squares agree, and what is wrong with a network is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import backproof as bp
from backproof.domains.variances import gaussian
from backproof.ops import OPS, derivative
from tests.zoo.broken_networks import BROKEN, HEALTHY


def deep(layers: int, width: int, f: type[nn.Module], start: Any = None) -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(*(m for _ in range(layers) for m in (nn.Linear(width, width), f())))
    for m in net:
        if start is not None and isinstance(m, nn.Linear):
            start(m)
    return net


def he(m: nn.Linear) -> None:
    nn.init.normal_(m.weight, std=(2 / m.in_features) ** 0.5)
    nn.init.zeros_(m.bias)


def dead(m: nn.Linear) -> None:
    nn.init.constant_(m.bias, -50.0)


BATCH = torch.randn(32, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("f", "start", "verdict"),
    [(nn.ReLU, he, "healthy"), (nn.ReLU, None, "vanishing"), (nn.Sigmoid, None, "vanishing"), (nn.ReLU, dead, "dead"),
     (nn.ReLU, lambda m: nn.init.normal_(m.weight, std=0.5), "exploding")],
)  # fmt: skip
def test_the_verdict(f: type[nn.Module], start: Any, verdict: str) -> None:
    found = bp.propagate(deep(10, 96, f, start), BATCH)
    assert found.verdict == verdict and found.finding == (verdict != "healthy")
    assert bool(found.cause) == bool(found.remedy) == (verdict != "healthy")
    assert [layer.activation for layer in found.layers] == [f.__name__.lower()] * 10
    assert verdict in found.text()


@pytest.mark.parametrize("f", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Softplus])
def test_predictions_lie_within_their_band(f: type[nn.Module]) -> None:
    found = bp.propagate(deep(6, 96, f, he), BATCH)
    for layer in found.layers:
        for predicted, measured in (layer.forward, layer.backward):
            assert predicted / layer.band <= measured <= predicted * layer.band
        assert layer.band < 6


def test_the_remedy_does_what_it_is_predicted_to_do() -> None:
    net = deep(10, 96, nn.ReLU)
    found = bp.propagate(net, BATCH)
    assert "1.414/sqrt(fan_in)" in found.remedy
    for m in net:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, std=1.414 / m.in_features**0.5)
    assert bp.propagate(net, BATCH).verdict == "healthy"


@pytest.mark.parametrize(
    ("name", "second", "slope"),
    [("relu", 0.5, 0.5), ("tanh", 0.394294, 0.464403), ("sigmoid", 0.293379, 0.044836), ("gelu", 0.425221, 0.455851),
     ("silu", 0.355776, 0.379482), ("elu", 0.644945, 0.668102), ("softplus", 0.921246, 0.293379)],
)  # fmt: skip
def test_gaussian_moments_against_a_sum_over_draws(name: str, second: float, slope: float) -> None:
    from backproof.graph import Builder

    builder = Builder()
    node = builder.emit(name, builder.leaf("x", "input", (1,), "float64"))
    steep = builder.emit(derivative(OPS[name], 0), node.inputs[0])
    assert gaussian(node, 0.0, 1.0, 2) == pytest.approx(second, abs=1e-6)
    assert gaussian(steep, 0.0, 1.0, 2) == pytest.approx(slope, abs=1e-6)
    draws = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.7 + 0.3
    values = getattr(torch, name, getattr(nn.functional, name, None))(draws)
    assert gaussian(node, 0.3, 0.49) == pytest.approx(float(values.mean()), abs=4e-3)


def test_a_residual_network_and_a_loss() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = x + torch.tanh(block(x))
            return x

    torch.manual_seed(0)
    net = Residual()
    found = bp.propagate(net, BATCH[:, :64])
    assert found.verdict == "healthy"
    ratios = [layer.backward[1] / layer.backward[0] for layer in found.layers]
    assert np.allclose(ratios, 1, atol=0.5)
    with_loss = bp.propagate(net, BATCH[:, :64], loss="sum")
    assert with_loss.layers[-1].backward[1] > 0


def test_weights_written_as_matrices() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.ParameterList(torch.randn(64, 64) * (2 / 64) ** 0.5 for _ in range(6))
            self.b = nn.Parameter(torch.zeros(64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for w in self.w:
                x = torch.relu(x @ w + self.b)
            return x

    torch.manual_seed(0)
    found = bp.propagate(Own(), BATCH[:, :64])
    assert found.verdict == "healthy" and [x.activation for x in found.layers] == ["relu"] * 6
    assert all(x.chi is None or abs(x.chi - 1) < 0.1 for x in found.layers)


SLOW = ("a small ResNet", "a small ResNet with its loss", "a VGG with batch norm", "no identity path in 40 layers",
        "residual branches at full size", "post-norm", "an LSTM over 50 steps", "a tanh RNN over 36 steps")  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.nightly) if n in SLOW else n for n in (*BROKEN, *HEALTHY)]
)
def test_what_is_wrong_is_named_and_nothing_else(name: str) -> None:
    case = {**BROKEN, **HEALTHY}[name]
    torch.manual_seed(0)
    found = bp.propagate(case.make(), case.inputs(), seeds=0, **case.more)
    assert found.verdict in case.verdicts, found.cause
    assert any(word in found.cause for word in case.words), found.cause
    for remedy in found.diagnosis.remedies[:1]:
        if remedy.measured == remedy.measured:
            assert 0.5 < remedy.predicted / remedy.measured < 2


def agreement(make: Any, *inputs: torch.Tensor, seeds: int = 30, **more: Any) -> None:
    """Predicted over measured mean squares within 10 % and three standard errors, in each layer."""
    torch.manual_seed(0)
    found = bp.propagate(make(), *inputs, seeds=seeds, factory=make, **more)
    assert found.seeds == seeds and not any(layer.reason for layer in found.layers)
    for layer in found.layers:
        assert layer.seeds is not None
        for (predicted, _), over in zip((layer.forward, layer.backward), layer.seeds, strict=True):
            assert abs(predicted - over.mean) <= 0.1 * over.mean + 3 * over.error, (layer.name, predicted, over)


@pytest.mark.parametrize("f", [nn.ELU, nn.SELU, nn.SiLU, nn.Hardswish])
def test_predictions_over_seeds(f: type[nn.Module]) -> None:
    agreement(
        lambda: nn.Sequential(*(m for _ in range(5) for m in (nn.Linear(128, 128), f()))),
        BATCH.new_ones(1, 1) * torch.randn(16, 128),
    )


@pytest.mark.parametrize(
    "name", ["pre-norm", *(pytest.param(n, marks=pytest.mark.nightly) for n in ("a VGG with batch norm", "post-norm"))]
)
def test_predictions_of_other_networks_over_seeds(name: str) -> None:
    case = HEALTHY[name]
    torch.manual_seed(1)
    agreement(case.make, case.inputs(), seeds=20)


class Casting(nn.Module):
    """Casts on the way, to the model's dtype and to others: a mask, indices divided, and a product in bfloat16."""

    def __init__(self, a: int, mixed: bool) -> None:
        super().__init__()
        self.a, self.b, self.out, self.mixed = nn.Linear(a, a), nn.Linear(a, a), nn.Linear(a, 4), mixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        share = torch.tril(torch.ones(len(x), len(x), dtype=torch.int64)) / len(x)
        x = (share.to(x.dtype) @ x) + (x > 0).to(x.dtype) @ self.b.weight
        if self.mixed:
            x = (torch.relu(x).bfloat16() @ self.b.weight.bfloat16()).to(x.dtype)
        return self.out(torch.softmax(self.b(x), -1, dtype=torch.float32).to(x.dtype))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_casts_are_read_in_float64(dtype: torch.dtype, mixed: bool) -> None:
    """A network is read in float64 whatever its dtypes: as the same weights and inputs in float64 are."""
    torch.manual_seed(0)
    net, x = Casting(32, mixed).to(dtype), torch.randn(8, 32).to(dtype)
    short = bp.propagate(net, x, seeds=0, loss="sum")
    assert all(layer.forward[1] > 0 and layer.backward[1] > 0 for layer in short.layers)
    wide = bp.propagate(net.double(), x.double(), seeds=0, loss="sum")
    for ours, theirs in zip(short.layers, wide.layers, strict=True):
        for short_, wide_ in ((ours.forward, theirs.forward), (ours.backward, theirs.backward)):
            assert short_[1] == pytest.approx(wide_[1], rel=1e-12, abs=0)
            assert short_[0] == pytest.approx(wide_[0], rel=0.1, abs=0)  # partly an average over draws


class Gated(nn.Module):
    """Steps that the theory has no formula for, written out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = nn.Embedding(20, 128), nn.Linear(128, 128), nn.Linear(128, 256)
        self.out, self.norm = nn.Linear(128, 8), nn.RMSNorm(128)

    def forward(self, i: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.table(i))
        h = self.a(x)
        x = x + h * torch.sigmoid(1.702 * h)
        u, v = self.b(x).chunk(2, -1)
        return self.out((u * torch.tanh(v)).amax(1))


def test_predictions_of_what_is_written_by_hand_over_seeds() -> None:
    index = torch.randint(0, 20, (6, 5), generator=torch.Generator().manual_seed(0))
    agreement(Gated, index, loss="cross_entropy", targets=torch.arange(6))


class Recurrent(nn.Module):
    def __init__(self, kind: str, **more: Any) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(96, 96, batch_first=True, **more)
        self.head = nn.Linear(96 * (1 + more.get("bidirectional", False)), 96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][:, -1])


class ByHand(nn.Module):
    """An output that is the next input: two shared weights in one loop."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.w = nn.Parameter(torch.randn(96, 96) / 96**0.5), nn.Parameter(torch.randn(96, 96) / 96**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, y = torch.zeros_like(x[:, 0]), x[:, 0]
        for t in range(1, x.shape[1]):
            h = torch.tanh(x[:, t] + y @ self.u + h @ self.w)
            y = h * torch.sigmoid(y)
        return y


class Again(nn.Module):
    """One block, applied again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = nn.Linear(128, 128), nn.Linear(128, 128)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, 0]
        for _ in range(6):
            x = x + 0.5 * torch.relu(self.block(x))
        return self.head(x)


SHARED = {
    "LSTM": lambda: Recurrent("LSTM"),
    "two bidirectional layers": lambda: Recurrent("GRU", num_layers=2, bidirectional=True),
    "tanh": lambda: Recurrent("RNN"),
    "by hand": ByHand,
    "again": Again,
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.nightly) if n.startswith("two") else n for n in SHARED]
)
def test_weights_that_are_shared(name: str) -> None:
    """Through time the calls of one matrix are correlated; as calls of different ones they are 1.4 to 3 times off."""
    width = 128 if name == "again" else 96
    agreement(SHARED[name], torch.randn(2, 5, width, generator=torch.Generator().manual_seed(0)), seeds=30)


def test_correlations_chi_and_depth_scale() -> None:
    """The correlation of two inputs under tanh and relu, and chi, against the integrals that define them."""
    x = torch.randn(2, 2000, generator=torch.Generator().manual_seed(1))
    x[1] = 0.6 * x[0] + 0.8 * x[1]
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(2000, 1500, bias=False), nn.ReLU(), nn.Linear(1500, 1500, bias=False), nn.ReLU(), nn.Linear(1500, 3)
    )
    found = bp.propagate(net, x, seeds=0)
    c = found.layers[0].correlation
    assert c == pytest.approx(0.6, abs=0.05)
    angle = np.arccos(c)  # Cho and Saul (2009), equation 6: the kernel of ReLU
    assert found.layers[1].correlation == pytest.approx((np.sin(angle) + (np.pi - angle) * c) / np.pi, abs=2e-3)
    assert found.layers[0].chi == pytest.approx(1500 * float((net[2].weight.detach() ** 2).mean()) / 2, rel=1e-6)
    assert found.depth_scale == pytest.approx(1 / abs(np.log(found.chi)))


def test_batches_and_other_weights() -> None:
    net = deep(3, 96, nn.Tanh)
    found = bp.propagate(net, BATCH, seeds=6, batches=[BATCH * 3, BATCH * 0.1])
    one = bp.propagate(net, BATCH, seeds=6)
    assert found.layers[0].seeds[0].mean > 2 * one.layers[0].seeds[0].mean
    with pytest.raises(bp.InputError, match="shapes"):
        bp.propagate(net, BATCH, batches=[BATCH[:3]])
    with pytest.raises(bp.InputError, match="seeds"):
        bp.propagate(net, BATCH, seeds=-1)


def test_a_large_batch_is_cut_and_what_is_too_large_is_measured_only() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3))
    cut = bp.propagate(net, torch.randn(16, 3, 16, 16), seeds=0)
    assert cut.notes == ("The first 2 of the 16 samples were used.",) and cut.layers[0].forward[0] > 0
    large = bp.propagate(net, torch.randn(1, 3, 64, 64), seeds=0)
    assert np.isnan(large.layers[0].forward[0]) and large.layers[0].forward[1] > 0
    assert "Measured only" in large.notes[0] and large.to_dict()["layers"][0]["forward"]["predicted"] is None
    assert "Measured only" in large.text()


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(bp.InputError, match="not finite"):
        bp.propagate(nn.Linear(2, 2), torch.tensor([[float("nan"), 1.0]]))
    with pytest.raises(bp.InputError, match="no linear map"):
        bp.propagate(nn.Tanh(), torch.ones(2))


def test_a_prediction_that_does_not_hold_is_a_finding() -> None:
    """Weights that are alike are no independent draws: the theory is wrong about them, and that is said."""
    case = BROKEN["the same weights for all units"]
    torch.manual_seed(0)
    found = bp.propagate(case.make(), case.inputs(), seeds=0)
    assert len(found.disagreements) == 1 and "backwards at 0.linear" in found.disagreements[0]
    assert found.to_dict()["disagreements"] == list(found.disagreements) and "disagree" in found.text()
    for name in ("He, ReLU", "tanh, gain 5/3", "a narrow net"):
        assert not bp.propagate(HEALTHY[name].make(), HEALTHY[name].inputs(), seeds=8).finding


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_a_softmax_follows_the_spread_of_its_scores(gain: float) -> None:
    from backproof.studies.propagation.softmaxes import openness
    from tests.zoo.broken_networks import Attention

    case = BROKEN["attention with large queries and keys"]
    agreement(lambda: Attention(1 / 8, gain), case.inputs(), seeds=30)
    rows = torch.softmax(gain**2 * torch.randn(20_000, 8, generator=torch.Generator().manual_seed(5)), -1)
    assert openness(gain**2, 8) == pytest.approx(float((1 - (rows**2).sum(1)).mean()) / (1 - 1 / 8), abs=0.02)


def test_remedies_for_softmax_norm_and_memory() -> None:
    """Each does to the copy what it is predicted to do, and its lines cure the network."""
    for name, code in (("attention without 1/sqrt(d)", "scores"), ("a layer norm with a scale of 0", "ones_")):
        case = BROKEN[name]
        torch.manual_seed(0)
        net, x = case.make(), case.inputs()
        found = bp.propagate(net, x, seeds=0)
        assert code in found.code
        if code == "ones_":
            exec(found.code, {"model": net})
        else:
            net.scale *= found.diagnosis.remedies[0].measured and 1 / 8
        assert bp.propagate(net, x, seeds=0).verdict == "healthy"


def test_a_remedy_is_offered_if_the_copy_is_healthy_with_it() -> None:
    """The next that is tried is taken instead; where none does, that is said, and there are no lines to paste."""
    from backproof.studies.propagation.diagnosis import Remedy, diagnose
    from backproof.studies.propagation.facts import Facts
    from backproof.studies.propagation.layers import Layer, Propagation

    layers = [Layer(str(k), "", "relu", (1, 1), (1, 10.0 ** (-2 * k)), (1, 1), None, 0.0) for k in range(9)]
    bad = Remedy("Use the first", "bad", 1e9, 1e8, after="exploding", left="It grows.")
    for second in (Remedy("Use the second", "good", 1, 1.1, after="healthy"), bad):
        tried = {"gains": bad, "normalise": second, "skip": None}
        found = diagnose(layers, Facts(spreads={}, biases={}), tried.__getitem__)
        whole = Propagation(tuple(layers), found)
        cured = second is not bad
        assert found.verdict == "exploding" and found.remedies == ((second, bad) if cured else (bad, bad))
        assert (
            found.remedy.startswith("Use the second." if cured else "None of what was tried")
            and whole.code == "good" * cured
        )
        assert ("exploding: It grows." in found.remedy) is not cured
        assert "exploding" in [str(row[3]) for row in whole._remedies()[0].rows[1:]]


def test_the_remedy_for_dropout_and_embeddings_cures() -> None:
    """Its lines, run, make the network healthy, and the copy showed it."""
    for name in ("a large embedding before a GRU", "a dropout of 0.99"):
        case = BROKEN[name]
        torch.manual_seed(0)
        net, x = case.make(), case.inputs()
        found = bp.propagate(net, x, seeds=0)
        assert found.diagnosis.remedies[0].after == "healthy", found.remedy
        exec(found.code, {"model": net})
        assert bp.propagate(net, x, seeds=0).verdict == "healthy"


def test_narrow_slopes_under_wide_pre_activations() -> None:
    """E[σ'(s)²] for a deviation of 5,000: 1/(6 sqrt(2 pi) 5000), the integral of σ'² being 1/6."""
    from backproof.graph import Builder

    builder = Builder()
    node = builder.emit(derivative(OPS["sigmoid"], 0), builder.leaf("x", "input", (1,), "float64"))
    assert gaussian(node, 0.0, 5000.0**2, 2) == pytest.approx(1 / (6 * (2 * np.pi) ** 0.5 * 5000), rel=1e-4)


class Bytes(nn.Module):
    """Pictures of bytes, a head of another precision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 32, 3), nn.Linear(32, 5).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x.float() / 128 - 1)).mean((2, 3)).bfloat16())


class Through(nn.Module):
    def __init__(self, f: Any) -> None:
        super().__init__()
        self.first, self.last, self.f = nn.Linear(20, 32), nn.Linear(32, 2), f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.f(torch.relu(self.first(x))))


def flat_scale() -> nn.Module:
    net = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    nn.init.zeros_(net[1].weight)
    return net


def test_whatever_the_dtype_and_the_last_layer() -> None:
    """Without a loss, a network that ends in a linear map; casts on the way; a transposed convolution."""
    torch.manual_seed(0)
    up = nn.Sequential(nn.Linear(20, 36), nn.Unflatten(1, (4, 3, 3)), nn.ConvTranspose2d(4, 3, 2, 2))
    assert bp.propagate(up, torch.randn(8, 20), seeds=0).verdict == "healthy"
    found = bp.propagate(Bytes(), torch.randint(0, 256, (4, 3, 8, 8)), seeds=0)
    assert found.verdict == "healthy"
    assert found.layers[-1].backward[1] == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(
    ("make", "verdict", "word"),
    [
        (lambda: Through(torch.sqrt), "not finite", "slope"),
        (lambda: Through(lambda h: h * h.argmax(-1, keepdim=True).float()), "healthy", ""),
        (lambda: Through(lambda h: torch.ones_like(h) * h.argmax(-1, keepdim=True).float()), "disconnected", "first"),
        (flat_scale, "vanishing", "1.weight"),
    ],
)
def test_the_backward_pass_alone(make: Any, verdict: str, word: str) -> None:
    """What the values do not show: an infinite slope, an index, a scale of 0."""
    torch.manual_seed(0)
    found = bp.propagate(make(), torch.randn(32, 20), seeds=0)
    assert (found.verdict, word in found.cause) == (verdict, True), found.cause
