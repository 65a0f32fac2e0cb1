"""Receptive fields beside what other programs say: the size of the last layer's field, along each axis, and the seconds.

True is what the gradient says (weights positive, the largest over all positions): it shares nothing with any of the
programs. Beside Backproof stand TorchLens (its solver), torch-scan (the largest field that it reports for a module), each
if it is installed, and the rule of rfa_toolbox, written here because that package does not run on this Python: sizes
and jumps forwards through the graph, the larger branch kept, dilation not looked at, a transposed convolution taken
for a convolution. Named networks first, each with something that such tools stumble over, then random ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import _measure  # first: it makes the package importable
import torch
from torch import Tensor, nn

import backproof as bp
from tests.zoo.random_fields import positive, random_net

LONG = 400  # about the length of the input of a random network
Size = tuple[int, ...] | None
Case = tuple[nn.Module, tuple[int, ...]]


class Sum(nn.Module):
    """Ways side by side, added."""

    def __init__(self, *ways: nn.Module) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, x: Tensor) -> Tensor:
        """From x to the sum of what the ways make of it."""
        total = self.ways[0](x)
        for way in self.ways[1:]:
            total = total + way(x)
        return total


def conv(kernel: Any, stride: int = 1, padding: Any = 0, dilation: int = 1) -> nn.Module:
    return nn.Conv2d(1, 1, kernel, stride, padding, dilation)


def named() -> dict[str, Case]:
    """Networks with something that a simple rule gets wrong, and one that it gets right."""
    block = Sum(nn.Identity(), nn.Sequential(conv(3, padding=1), conv(3, padding=1)))
    inception = Sum(conv((1, 7), padding=(0, 3)), conv((7, 1), padding=(3, 0)), conv(3, padding=1))
    deeper = nn.Sequential(conv(3, 2, 1), conv(3, padding=1), nn.ConvTranspose2d(1, 1, 2, 2))
    causal = [nn.Sequential(nn.ConstantPad1d((2 * d, 0), 0.0), nn.Conv1d(1, 1, 3, dilation=d)) for d in (1, 2, 4)]
    return {
        "three convolutions and a pool": (
            nn.Sequential(conv(5, padding=2), nn.AvgPool2d(2), conv(3), conv(3)),
            (1, 1, 48, 48),
        ),
        "a residual block": (nn.Sequential(conv(3, 2, 1), block), (1, 1, 32, 32)),
        "dilation 1, 2, 4": (
            nn.Sequential(*(conv(3, padding=d, dilation=d) for d in (1, 2, 4))),
            (1, 1, 32, 32),
        ),
        "down and up by a transposed convolution": (
            nn.Sequential(conv(3, 2, 1), nn.ConvTranspose2d(1, 1, 4, 2, 1)),
            (1, 1, 32, 32),
        ),
        "a U-Net of one level": (Sum(conv(3, padding=1), deeper), (1, 1, 32, 32)),
        "1×7 beside 7×1 beside 3×3": (inception, (1, 1, 32, 32)),
        "bilinear upsampling": (
            nn.Sequential(conv(3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear"), conv(3, padding=1)),
            (1, 1, 32, 32),
        ),
        "a causal net in 1D": (nn.Sequential(*causal), (1, 1, 48)),
    }


def resnet18() -> Case:
    """The convolutions of a ResNet-18, with one channel each."""

    def part(stride: int) -> nn.Module:
        way = nn.Sequential(conv(3, stride, 1), nn.ReLU(), conv(3, padding=1))
        return nn.Sequential(Sum(nn.Identity() if stride == 1 else conv(1, stride), way), nn.ReLU())

    stem = (conv(7, 2, 3), nn.ReLU(), nn.AvgPool2d(3, 2, 1))  # a maximum would pass the gradient to one of its cells
    return nn.Sequential(*stem, *(part(s) for s in (1, 1, 2, 1, 2, 1, 2, 1))), (1, 1, 896, 896)


# --- ways to a size -----------------------------------------------------------------------------------------------------
def true_size(model: nn.Module, shape: Sequence[int]) -> Size:
    """The largest extent of the gradient's support over all positions of the output, axis by axis."""
    x = torch.full(tuple(shape), 1e-3, dtype=torch.float64, requires_grad=True)
    y = model(x).sum(1)[0]
    rank, found = y.ndim, [0] * y.ndim
    for axis in range(rank):
        for i in range(y.shape[axis]):
            (grad,) = torch.autograd.grad(y.select(axis, i).sum(), x, retain_graph=True)
            seen = (grad[0].abs().sum(0) > 0).any(dim=tuple(a for a in range(rank) if a != axis)) if rank > 1 else (
                grad[0].abs().sum(0) > 0
            )  # fmt: skip
            places = seen.nonzero()
            found[axis] = max(found[axis], int(places.max() - places.min()) + 1 if len(places) else 0)
    return tuple(found)


def ours(model: nn.Module, shape: Sequence[int]) -> Size:
    size = bp.receptive_field(model, tuple(shape), evidence=False).last.size
    return None if None in size else tuple(int(n or 0) for n in size)


def torchlens_size(model: nn.Module, shape: Sequence[int]) -> Size:
    import torchlens

    trace = torchlens.trace(model, torch.randn(tuple(shape), dtype=torch.float64))
    size = trace.layers[-1].receptive_field.size
    return tuple(int(n) for n in (size if isinstance(size, tuple) else (size,)))


def torchscan_size(model: nn.Module, shape: Sequence[int]) -> Size:
    import torchscan

    found = torchscan.crawl_module(model.float(), tuple(shape[1:]))
    model.double()
    sizes = [
        layer["metrics"]["receptive_field"]["value"]
        for layer in found["layers"]
        if "receptive_field" in layer["metrics"]
    ]
    return (int(max(sizes)),) * (len(shape) - 2)


def rule_size(model: nn.Module, shape: Sequence[int]) -> Size:
    """size + (kernel - 1) jump and jump · stride at each window, forwards; of two branches the larger size."""
    graph = bp.capture(model, torch.zeros(tuple(shape), dtype=torch.float64))
    rank = len(shape) - 2
    known = {graph.of_role("input")[0]: ((1,) * rank, (1,) * rank)}
    for node in graph.nodes:
        before = [known[x] for x in node.inputs if x in known]
        if before:
            size = tuple(max(b[0][a] for b in before) for a in range(rank))
            jump = tuple(max(b[1][a] for b in before) for a in range(rank))
            known[node] = _through(node, size, jump, rank)
    return known[graph.outputs[0]][0]


def _through(node: Any, size: tuple[int, ...], jump: tuple[int, ...], rank: int) -> tuple[Any, Any]:
    kernel = node.inputs[1].shape[2:] if node.op.name in ("conv", "conv_transpose") else node.attrs.get("kernel")
    if not kernel:
        return size, jump
    stride = node.attrs["stride"]
    wider = tuple(s + (k - 1) * j for s, k, j in zip(size, kernel, jump, strict=True))
    return wider, tuple(j * s for j, s in zip(jump, stride, strict=True))


WAYS: dict[str, Callable[[nn.Module, Sequence[int]], Size]] = {
    "backproof": ours,
    "torchlens": torchlens_size,
    "torch-scan": torchscan_size,
    "rule of rfa": rule_size,
}


def said(way: Callable[[nn.Module, Sequence[int]], Size], case: Case) -> tuple[Size | str, float]:
    """What a program says, or the name of its error, and the seconds."""
    start = time.perf_counter()
    try:
        answer: Size | str = way(*case)
    except ImportError:
        answer = "-"
    except Exception as error:
        answer = type(error).__name__
    return answer, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--nets", type=int, default=40, help="random networks")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = {**named(), "the convolutions of ResNet-18": resnet18()}
    for _, (model, _) in cases.items():
        positive(model.double().eval())
    bp.receptive_field(nn.Sequential(conv(3)), (1, 1, 8, 8))  # the first capture of a process imports what it needs
    record = [{"network": name, **_compared(case)} for name, case in cases.items()]
    drawn = [compared for case in _drawn(arguments.nets) if (compared := _compared(case))["true"] < (LONG // 2,)]
    rows = [_row(r) for r in record]
    rows.append((f"{len(drawn)} random networks: sizes right", "-", *(_right(drawn, way) for way in WAYS)))
    rows.append(("the same: median seconds", "-", *(_seconds(drawn, way) for way in WAYS)))
    _measure.show("field_rivals", ("network", "true", *WAYS), rows, {"named": record, "random": drawn}, arguments.json)


def _drawn(count: int) -> list[Case]:
    """In one dimension; of these, nets are compared whose true field is shorter than half the input.

    So nothing is global, and no field is cut at both ends or goes around a circle.
    """
    found = [random_net(seed, 1, LONG) for seed in range(count)]
    return [case for case in found if case is not None]


def _compared(case: Case) -> dict[str, Any]:
    answers = {name: said(way, case) for name, way in WAYS.items()}
    return {"true": true_size(*case), **{name: {"says": a, "seconds": s} for name, (a, s) in answers.items()}}


def _row(r: dict[str, Any]) -> tuple[str, ...]:
    cells = [
        f"{_text(r[way]['says'])}{'' if r[way]['says'] == r['true'] else ' ✗'} {r[way]['seconds']:.2f} s"
        for way in WAYS
    ]
    return (r["network"], _text(r["true"]), *(c if not c.startswith("- ") else "-" for c in cells))


def _text(size: Size | str) -> str:
    return size if isinstance(size, str) else "?" if size is None else "×".join(map(str, size))


def _right(drawn: list[dict[str, Any]], way: str) -> str:
    if all(r[way]["says"] == "-" for r in drawn):
        return "-"
    return f"{sum(r[way]['says'] == r['true'] for r in drawn)} of {len(drawn)}"


def _seconds(drawn: list[dict[str, Any]], way: str) -> str:
    return f"{statistics.median(r[way]['seconds'] for r in drawn):.2f} s"


if __name__ == "__main__":
    main()
