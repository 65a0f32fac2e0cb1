"""What a trace costs: every value and every gradient of one step, against a plain forward and backward pass.

For each network: the module's own forward and ``loss.backward()`` in torch; ``bp.trace`` of the captured graph with
all values and gradients kept and no evidence; the capture, once; and, where the package torchlens is installed, its
trace of the forward pass, which saves every value (its gradients need a backward pass on top, not counted here).
Medians of calls taken in turn in one process with one thread; float32; no optimizer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import _measure  # first: it makes the package importable
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp


class Block(nn.Module):
    """x + W2 ReLU(W1 x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """From x of shape [N, width] to the same shape."""
        z = torch.relu(self.first(x))
        return x + self.second(z)


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))


def mlp() -> nn.Module:
    widths = [nn.Linear(64, 64) for _ in range(3)]
    return nn.Sequential(*(layer for linear in widths for layer in (linear, nn.ReLU())), nn.Linear(64, 10))


def residual() -> nn.Module:
    return nn.Sequential(*(Block(64) for _ in range(12)), nn.Linear(64, 10))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], int]] = {
    "2-2-2 net, 4 samples": (small, (4, 2), 2),
    "MLP of 3 x 64 units, 32 samples": (mlp, (32, 64), 10),
    "residual MLP of 12 blocks of 64, 32 samples": (residual, (32, 64), 10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = [measured(name, *case) for name, case in CASES.items()]
    heads = ("network", "values", "gradients", "plain", "trace", "x plain", "capture", "torchlens", "x plain")
    _measure.show("trace_cost", heads, [_row(r) for r in record], record, arguments.json)


def measured(name: str, make: Callable[[], nn.Module], shape: tuple[int, int], classes: int) -> dict[str, Any]:
    """The seconds of each way for one network."""
    torch.manual_seed(0)
    model, x, t = make(), torch.randn(shape), torch.randint(classes, shape[:1])

    def plain() -> None:
        model.zero_grad()
        F.cross_entropy(model(x), t).backward()

    bp.capture(small(), torch.randn(4, 2))  # the first export of a process imports what all others share
    start = time.perf_counter()
    graph = bp.capture(model, x, loss="cross_entropy", targets=t)
    capture = time.perf_counter() - start
    step = bp.trace(graph).steps[0]
    _check(step, model, plain)
    ways = {"plain": plain, "trace": lambda: bp.trace(graph), **_torchlens(model, x)}
    return {
        "network": name,
        "values": len(step.values),
        "gradients": sum(g is not None for g in step.gradients.values()),
        "capture": capture,
        "torchlens": None,
        **{way: statistics.median(found) for way, found in _measure.in_turn(ways).items()},
    }


def _check(step: Any, model: nn.Module, plain: Callable[[], None]) -> None:
    """What is timed must be right: the gradients of both ways agree to float32."""
    plain()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(step.gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


def _torchlens(model: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    try:
        import torchlens
    except ImportError:
        return {}
    return {"torchlens": lambda: torchlens.trace(model, x)}


def _row(r: dict[str, Any]) -> tuple[str, ...]:
    other = r["torchlens"]
    theirs = ("-", "-") if other is None else (_ms(other), f"{other / r['plain']:.1f}")
    ours = (_ms(r["plain"]), _ms(r["trace"]), f"{r['trace'] / r['plain']:.1f}", _ms(r["capture"]))
    return (r["network"], str(r["values"]), str(r["gradients"]), *ours, *theirs)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


if __name__ == "__main__":
    main()
