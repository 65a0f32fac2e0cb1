"""What capturing costs, and how it grows: named networks, and one network with more and more blocks.

"eager" is the module run once, which capture does first, so that a wrong shape is reported as the user's; "capture" is
`bp.capture`, and "of it export" the time inside torch.export.export; "gradients" is the transform to the joint graph,
"facts" what the structure says. Processor seconds of one thread, the first capture of the process not counted. The last
column is the rest of capture per node: flat if nothing is quadratic.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import _measure  # first: it makes the package importable
import torch
from _networks import resnet18, resnet50, small, transformer
from torch import Tensor, nn

import backproof as bp
from backproof.differentiate import differentiate


class Block(nn.Module):
    """A norm, a layer that is cut in two, a product, and the skip around them: ten operations of seven kinds."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.norm, self.both = nn.LayerNorm(width), nn.Linear(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """From x of shape [N, width] to the same shape."""
        gate, value = self.both(self.norm(x)).chunk(2, -1)
        return x + torch.relu(gate) * value


def deep(blocks: int) -> nn.Module:
    """So many blocks one after another."""
    return nn.Sequential(*(Block() for _ in range(blocks)))


def pictures() -> Tensor:
    return torch.randn(2, 3, 224, 224)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "ResNet-18, 2 pictures": (resnet18, pictures),
    "ResNet-50, 2 pictures": (resnet50, pictures),
    "transformer of 12 layers, 2 x 64 tokens": (transformer, lambda: torch.randint(1000, (2, 64))),
    **{
        f"{blocks} blocks one after another": (lambda blocks=blocks: deep(blocks), lambda: torch.randn(2, 4))
        for blocks in (25, 100, 400)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bp.capture(small(), torch.randn(4, 2))  # the first export of a process imports what all others share
    record = [measured(name, *case) for name, case in CASES.items()]
    heads = ("network", "nodes", "joint", "eager", "capture", "of it export", "gradients", "facts", "own ms/node")
    _measure.show("capture", heads, [_row(r) for r in record], record, arguments.json)


def measured(name: str, make: Callable[[], nn.Module], inputs: Callable[[], Tensor]) -> dict[str, Any]:
    """The seconds of each part for one network."""
    torch.manual_seed(0)
    model, x = make().eval(), inputs()
    with torch.no_grad():
        eager = _seconds(lambda: model(x))[0]
    with _counted() as inside:
        capture, graph = _seconds(lambda: bp.capture(model, x, loss="mean"))
    export = sum(inside)
    gradients, joint = _seconds(lambda: differentiate(graph))
    facts = _seconds(lambda: graph.facts)[0]
    own = 1000 * (capture - export - eager) / len(graph.nodes)
    return {"network": name, "nodes": len(graph.nodes), "joint": len(joint.graph.nodes), "eager": eager, "export": export,
            "capture": capture, "gradients": gradients, "facts": facts, "own_ms_per_node": own}  # fmt: skip


@contextmanager
def _counted() -> Iterator[list[float]]:
    """The processor seconds of every call of torch.export.export."""
    inner, found = torch.export.export, []

    def timed(*args: Any, **keywords: Any) -> Any:
        seconds, result = _seconds(lambda: inner(*args, **keywords))
        found.append(seconds)
        return result

    torch.export.export = timed
    try:
        yield found
    finally:
        torch.export.export = inner


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def _row(r: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{r[key]:.2f} s" for key in ("eager", "capture", "export", "gradients", "facts"))
    return (r["network"], str(r["nodes"]), str(r["joint"]), *times, f"{r['own_ms_per_node']:.2f}")


if __name__ == "__main__":
    main()
