"""What a trace costs: every value and every gradient of one step, against a plain forward and backward pass.

For each network, in float32: the module's own forward and ``loss.backward()`` in torch; ``bp.trace`` of the captured
graph with all values and gradients kept and no evidence; the capture, once, with the first trace, which works out the
plan; and, where the package torchlens is installed, its trace with all values and gradients saved (``save_grads=True``
and ``log_backward``). Calls are taken in turn in one process with one thread, in processor time; "x plain" is the median
of the ratios of neighbouring calls. "bits" counts the values that differ from those of the program's own run in any bit;
"gradients" is the largest difference of a parameter's gradient from autograd's in float64, over its norm (a gradient
below 1e-12 of the largest, such as that of an attention's key bias, is zero but for rounding and left out).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import _measure  # first: it makes the package importable
import torch
import torch.nn.functional as F
from _networks import resnet18, resnet50, small, transformer
from torch import Tensor, nn

import backproof as bp

Make = Callable[[], nn.Module]
Case = tuple[Make, Callable[[], tuple[Tensor, Tensor]], int]
"""How the network is made, its data, and the fewest rounds."""


def mlp() -> nn.Module:
    widths = [nn.Linear(64, 64) for _ in range(3)]
    return nn.Sequential(*(layer for linear in widths for layer in (linear, nn.ReLU())), nn.Linear(64, 10))


def pictures(count: int, size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, size, size), torch.randint(1000, (count,))


def vectors(count: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, width), torch.randint(classes, (count,))


def tokens(count: int, length: int) -> tuple[Tensor, Tensor]:
    return torch.randint(1000, (count, length)), torch.randint(1000, (count * length,))


CASES: dict[str, Case] = {
    "2-2-2 net, 4 samples": (small, lambda: vectors(4, 2, 2), 300),
    "MLP of 3 x 64 units, 32 samples": (mlp, lambda: vectors(32, 64, 10), 200),
    "ResNet-18, 4 pictures of 112 x 112": (resnet18, lambda: pictures(4, 112), 7),
    "ResNet-50, 2 pictures of 224 x 224": (resnet50, lambda: pictures(2, 224), 5),
    "transformer of 12 layers, width 256, 2 x 128 tokens": (transformer, lambda: tokens(2, 128), 7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--only", metavar="WORD", default="", help="networks whose name has this word")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bp.capture(small(), torch.randn(4, 2))  # the first export of a process imports what all others share
    record = [measured(name, *case) for name, case in CASES.items() if arguments.only in name]
    heads = ("network", "values", "bits", "gradients", "plain", "trace", "x plain", "capture", "torchlens", "x plain")
    _measure.show("trace_cost", heads, [_row(r) for r in record], record, arguments.json)


def measured(name: str, make: Make, data: Callable[[], tuple[Tensor, Tensor]], rounds: int) -> dict[str, Any]:
    """The seconds of each way for one network."""
    torch.manual_seed(0)
    model, (x, t) = make(), data()

    def plain() -> None:
        model.zero_grad()
        F.cross_entropy(model(x), t).backward()

    start = time.process_time()
    graph = bp.capture(model, x, loss="cross_entropy", targets=t)
    step = bp.trace(graph).steps[0]
    capture = time.process_time() - start
    different = _different(graph, step)  # before the plain steps, which count themselves in the buffers of batch norms
    ways = {"plain": plain, "trace": lambda: bp.trace(graph), **_torchlens(model, x, t)}
    times = _measure.in_turn(ways, 0.0, rounds, time.process_time)
    return {
        "network": name,
        "values": len(step.values) + sum(g is not None for g in step.gradients.values()),
        "different": different,
        "gradient_error": _gradient_error(model, x, t),
        "capture": capture,
        **{way: statistics.median(found) for way, found in times.items()},
        **{f"{way}_ratio": _ratio(found, times["plain"]) for way, found in times.items()},
    }


def _ratio(times: list[float], plain: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, plain, strict=True))


def _different(graph: Any, step: Any) -> int:
    """The values of the program's own run that the record has in other bits."""
    theirs = graph.origin.values({name: tensor.clone() for name, tensor in graph.origin.leaves().items()})
    return sum(name in step.values and not torch.equal(step.values[name], v) for name, v in theirs.items())


def _gradient_error(model: nn.Module, x: Tensor, t: Tensor) -> float:
    twin = copy.deepcopy(model).double()
    x = x.double() if x.is_floating_point() else x
    step = bp.trace(twin, x, t, loss="cross_entropy").steps[0]
    twin.zero_grad()
    F.cross_entropy(twin(x), t).backward()
    pairs = [(step.gradients[name], p.grad) for name, p in twin.named_parameters()]
    largest = max(theirs.norm() for _, theirs in pairs if theirs is not None)
    return max(
        ((ours - theirs).norm() / theirs.norm()).item()
        for ours, theirs in pairs
        if ours is not None and theirs is not None and theirs.norm() > 1e-12 * largest
    )


class WithLoss(nn.Module):
    """The network and its loss, for a tool that traces modules."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The loss."""
        return F.cross_entropy(self.model(x), t)


def _torchlens(model: nn.Module, x: Tensor, t: Tensor) -> dict[str, Callable[[], object]]:
    try:
        import torchlens
        from torchlens.options import CaptureOptions
    except ImportError:
        return {}
    whole = WithLoss(model)

    def run() -> object:
        model.zero_grad()
        trace = torchlens.trace(whole, [x, t], capture=CaptureOptions(save_grads=True))
        trace.log_backward(list(trace.ops)[-1].out)
        return trace

    return {"torchlens": run}


def _row(r: dict[str, Any]) -> tuple[str, ...]:
    theirs = (_ms(r["torchlens"]), f"{r['torchlens_ratio']:.2f}") if "torchlens" in r else ("-", "-")
    ours = (_ms(r["plain"]), _ms(r["trace"]), f"{r['trace_ratio']:.2f}", _ms(r["capture"]))
    return (r["network"], str(r["values"]), str(r["different"]), f"{r['gradient_error']:.0e}", *ours, *theirs)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.4g} ms"


if __name__ == "__main__":
    main()
