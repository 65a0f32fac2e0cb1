"""Convolutions, pools and normalisation of torch.nn: values and gradients are the eager module's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp

from .models import agrees_with_eager, doubles, read

LAYERS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 7)),
    (lambda: nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)), (2, 2, 5, 6)),
    (lambda: nn.Conv2d(2, 3, 4, padding="same"), (1, 2, 5, 5)),
    (lambda: nn.Conv2d(2, 3, 3, padding="valid", bias=False), (1, 2, 5, 5)),
    (lambda: nn.Conv2d(3, 3, 3, groups=3), (3, 6, 5)),
    (lambda: nn.Conv3d(1, 2, 2, stride=2), (1, 1, 4, 5, 4)),
    (lambda: nn.ConvTranspose1d(3, 2, 3, stride=2, output_padding=1), (2, 3, 4)),
    (lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, groups=2, dilation=2), (1, 4, 3, 3)),
    (lambda: nn.MaxPool1d(3, 2, padding=1), (2, 2, 7)),
    (lambda: nn.MaxPool2d(2, ceil_mode=True), (1, 2, 5, 5)),
    (lambda: nn.MaxPool2d(3, 1, padding=1, dilation=1), (2, 5, 5)),
    (lambda: nn.MaxPool3d(2), (1, 1, 4, 4, 2)),
    (lambda: nn.AvgPool1d(2), (1, 2, 6)),
    (lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), (1, 2, 6, 5)),
    (lambda: nn.AdaptiveAvgPool1d(3), (2, 2, 7)),
    (lambda: nn.AdaptiveAvgPool2d((2, None)), (1, 2, 5, 3)),
    (lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 4, 4)),
    (lambda: nn.BatchNorm1d(3), (5, 3)),
    (lambda: nn.BatchNorm1d(3, affine=False), (2, 3, 4)),
    (lambda: nn.BatchNorm2d(2, momentum=0.3), (1, 2, 3, 3)),
    (lambda: nn.BatchNorm2d(2, track_running_stats=False), (2, 2, 2, 2)),
    (lambda: nn.BatchNorm2d(2).eval(), (2, 2, 2, 2)),
    (lambda: nn.LayerNorm(4), (2, 3, 4)),
    (lambda: nn.LayerNorm((3, 4), bias=False), (2, 3, 4)),
    (lambda: nn.LayerNorm(4, elementwise_affine=False), (2, 4)),
    (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    (lambda: nn.InstanceNorm2d(2, affine=True), (2, 2, 3, 3)),
    (lambda: nn.RMSNorm(4), (2, 3, 4)),
    (lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), (2, 3, 4)),
    (lambda: nn.Upsample(scale_factor=2), (1, 2, 3, 3)),
    (lambda: nn.PixelShuffle(2), (1, 8, 2, 3)),
    (lambda: nn.ZeroPad2d((1, 0, 2, -1)), (1, 2, 3, 3)),
    (lambda: nn.ConstantPad1d((1, 2), 0.5), (1, 2, 3)),
    (lambda: nn.Sequential(nn.Dropout(0.5).eval(), nn.Flatten()), (2, 3, 2)),
]


def _random(layer: nn.Module) -> nn.Module:
    """The layer in float64, with parameters and running statistics that are not 0 and 1."""
    layer = layer.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.2)
    return layer


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", range(len(LAYERS)), ids=lambda i: str(i))
def test_a_layer(case: int) -> None:
    make, shape = LAYERS[case]
    layer, x = _random(make()), doubles(*shape)
    graph = bp.capture(layer, x, loss=lambda y: (y * torch.arange(y.numel()).reshape(y.shape)).sum())
    agrees_with_eager(graph)
    eager = copy.deepcopy(layer)
    assert torch.allclose(read(graph)[graph.outputs[0]], eager(x), rtol=1e-12)
    state = dict(eager.named_buffers())
    values = read(graph)
    assert {n.name for n in graph.state} == {n for n, b in layer.named_buffers() if not torch.equal(b, state[n])}
    assert all(
        torch.allclose(values[new].double(), state[old.name].double(), rtol=1e-13) for old, new in graph.state.items()
    )


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float"])
def test_attention(mask: str) -> None:
    masks = {"bool": torch.tensor([[True, False, True, True]] * 3), "float": doubles(3, 4, seed=9)}

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=masks.get(mask), is_causal=mask == "causal")
        return (y * y).sum()

    q, k, v = doubles(2, 3, 5), doubles(2, 4, 5, seed=1), doubles(2, 4, 2, seed=2)
    graph = bp.capture(attend, q, k, v)
    agrees_with_eager(graph)
    assert {"scores", "attention"} <= set(graph.by_name)


def test_a_tensor_repeated() -> None:
    x, w = doubles(2, 3), doubles(2, 2, 9, seed=4)
    agrees_with_eager(bp.capture(lambda x, w: (x.repeat(2, 1, 3) * w).sum(), x, w))


def test_the_row_of_a_padding_index_receives_nothing() -> None:
    layer = nn.Embedding(4, 3, padding_idx=1).double()
    agrees_with_eager(bp.capture(layer, torch.tensor([[0, 1], [1, 3]]), loss=lambda y: (y + 1).square().sum()))


def test_ties_go_to_the_first() -> None:
    x = torch.tensor([[[[1.0, 1, 0, 0], [1, 1, 0, 0], [2, 0, 3, 3], [0, 2, 3, 3]]]], dtype=torch.float64)
    agrees_with_eager(bp.capture(nn.MaxPool2d(3, 1), x, loss=lambda y: (y * torch.arange(4).reshape(y.shape)).sum()))


def test_a_buffer_that_the_forward_pass_changes() -> None:
    class Counting(nn.Module):
        count: Tensor
        total: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))
            self.register_buffer("total", torch.zeros(3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            self.total.mul_(0.5).add_(x.sum(0))
            return x * self.total

    graph = bp.capture(Counting(), doubles(2, 3), loss=lambda y: y.sum())
    assert {old.name: new.name for old, new in graph.state.items()} == {"count": "count#2", "total": "total#3"}
    assert torch.allclose(read(graph)[graph.by_name["total#3"]], doubles(2, 3).sum(0))


@pytest.mark.parametrize("affine", [False, True])
def test_instance_norm_keeps_its_running_statistics_as_torch_does(affine: bool) -> None:
    model = nn.InstanceNorm2d(3, affine=affine, track_running_stats=True, momentum=0.3).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    record = bp.trace(nn.Sequential(model), x, x.sin(), loss="mse", optimizer="sgd", evidence="full")
    assert record.evidence and all(e.agrees for e in record.evidence)
    model(x)  # the trace has left the model's buffers alone
    for name in ("running_mean", "running_var"):
        kept = record.steps[0].values[f"0.{name}#2"]
        assert torch.allclose(kept, getattr(model, name), rtol=1e-12, atol=1e-14)


def test_part_of_a_buffer_changed_in_place() -> None:
    class Partly(nn.Module):
        seen: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            self.seen[0].add_(1)
            return x * self.seen

    graph = bp.capture(Partly(), doubles(2, 3))
    (new,) = graph.state.values()
    assert read(graph)[new].tolist() == [1.0, 0.0, 0.0]
    assert torch.equal(read(graph)[graph.outputs[0]], doubles(2, 3) * torch.tensor([1.0, 0.0, 0.0]))


class Block(nn.Module):
    """ResNet's basic block, with torchvision's in-place operations."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.down: Any = None
        if stride != 1 or channels != out:
            self.down = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.down is None else self.down(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


def test_the_skips_of_a_residual_net() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), Block(2, 2), Block(2, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    graph = bp.capture(net.double(), doubles(2, 1, 4, 4), loss=lambda y: y.square().sum())
    assert [(s["module"], s["skip"]) for s in graph.facts["skips"]] == [("1", "identity"), ("2", "conv")]
    agrees_with_eager(graph)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_known_nets(mode: str) -> None:
    vgg = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Dropout(0.0 if mode == "train" else 0.5), nn.Linear(12, 2),
    )  # fmt: skip

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.c2 = nn.Conv2d(1, 2, 5, padding=2), nn.Conv2d(2, 3, 3)
            self.fc = nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.avg_pool2d(torch.tanh(self.c1(x)), 2)
            x = torch.tanh(self.c2(x)).view(-1, 12)
            return self.fc(x)

    for net in (vgg, LeNet()):
        net.train(mode == "train").double()
        agrees_with_eager(bp.capture(net, doubles(2, 1, 8, 8), loss="cross_entropy", targets=torch.tensor([0, 1])))
