"""How well the memory of a training step is predicted: `bp.memory` against torch's profiler, network by network.

The truth is the running sum of torch.profiler's memory events over the second step in a process of its own, plus what is there
before it (parameters, buffers, optimizer state, batch). The prediction never runs the step. "steady" and "first" are the
errors of `.peak_bytes` and `.first_step_peak_bytes`; "sum" is the rule of thumb for comparison: parameters, gradients
and state, and every output of a module twice (what module summaries count). Networks with fixed seeds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import _measure  # first: it makes the package importable
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.domains.bytes import spoken_bytes
from backproof.studies.memory.measure import run_of
from backproof.studies.memory.stepping import Way

OPTIMIZERS: dict[str, Any] = {
    "SGD": torch.optim.SGD,
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "Adam": torch.optim.Adam,
    "AdamW foreach": (torch.optim.AdamW, {"foreach": True}),
}


class Bottleneck(nn.Module):
    """Three convolutions with batch norm, and a way around them."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """From [N, C, h, w] to the same shape."""
        return torch.relu(x + self.body(x))


class Classifier(nn.Module):
    """Something that reads a sequence, and a linear layer on what it makes of it."""

    def __init__(self, first: nn.Module, reader: nn.Module, width: int) -> None:
        super().__init__()
        self.first, self.reader, self.head = first, reader, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """From [N, T] to [N, 10]."""
        found = self.reader(self.first(x))
        return self.head((found[0] if isinstance(found, tuple) else found).mean(1))


def mlp() -> nn.Module:
    hidden = (m for _ in range(9) for m in (nn.Linear(256, 256), nn.ReLU()))
    return nn.Sequential(*hidden, nn.Linear(256, 10))


def vgg() -> nn.Module:
    widths = (3, 16, 16, 32, 32)
    blocks = (
        m
        for a, b in itertools.pairwise(widths)
        for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    )
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(32 * 4, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 10))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1), *(Bottleneck(32, 16) for _ in range(4)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(96, 4, 384, batch_first=True, activation="gelu")
    return Classifier(nn.Embedding(500, 96), nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), 96)


def lstm() -> nn.Module:
    return Classifier(nn.Embedding(500, 64), nn.LSTM(64, 128, 2, batch_first=True), 128)


def gru() -> nn.Module:
    return Classifier(nn.Embedding(500, 64), nn.GRU(64, 96, batch_first=True), 96)


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32),
        nn.SiLU(), nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(16 * 256, 10),
    )  # fmt: skip


def image() -> Tensor:
    return torch.randn(12, 3, 32, 32)


def words() -> Tensor:
    return torch.randint(500, (8, 40))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "MLP, 9 layers of 256, batch 512": (mlp, lambda: torch.randn(512, 256)),
    "VGG with dropout, in-place ReLU": (vgg, image),
    "ResNet of bottlenecks, batch norm": (resnet, image),
    "autoencoder, group norm, transposed": (autoencoder, image),
    "transformer encoder, dropout": (transformer, words),
    "LSTM of two layers": (lstm, words),
    "GRU": (gru, words),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = [measured(name, how) for name in CASES for how in OPTIMIZERS]
    heads = ("network", "optimizer", "measured", "predicted", "steady", "first", "sum", "seconds", "step")
    _measure.show("memory", heads, [_row(r) for r in record], record, arguments.json)


def measured(name: str, how: str) -> dict[str, Any]:
    """The errors for one network and optimizer."""
    torch.manual_seed(0)
    make, draw = CASES[name]
    model, x = make(), draw()
    start = time.perf_counter()
    found = bp.memory(model, x, loss="cross_entropy", targets=torch.randint(10, x.shape[:1]), optimizer=OPTIMIZERS[how])
    seconds = time.perf_counter() - start
    run = run_of(found, Way())
    return {
        "network": name,
        "optimizer": how,
        "measured": run.peak,
        "predicted": found.peak_bytes,
        "steady": found.peak_bytes / run.peak - 1,
        "first": found.first_step_peak_bytes / run.first_peak - 1,
        "sum": rule_of_thumb(model, x, how) / run.peak - 1,
        "seconds": seconds,
        "step": run.seconds,
    }


def rule_of_thumb(model: nn.Module, x: Tensor, how: str) -> int:
    """Parameters, gradients and state, and every leaf module's output twice."""
    outputs: list[int] = []

    def count(_: Any, __: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        outputs.append(first.numel() * first.element_size())

    hooks = [m.register_forward_hook(count) for m in model.modules() if not list(m.children())]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    copies = {"SGD": 2, "momentum": 3}.get(how, 4)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return copies * weights + 2 * sum(outputs) + x.numel() * x.element_size()


def _row(r: dict[str, Any]) -> tuple[str, ...]:
    sizes = (spoken_bytes(r["measured"]), spoken_bytes(r["predicted"]))
    errors = (f"{100 * r['steady']:+.3f} %", f"{100 * r['first']:+.3f} %", f"{100 * r['sum']:+.0f} %")
    return (r["network"], r["optimizer"], *sizes, *errors, f"{r['seconds']:.2f} s", f"{r['step']:.2f} s")


if __name__ == "__main__":
    main()
