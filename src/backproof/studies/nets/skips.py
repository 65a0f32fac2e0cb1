"""Whether a network has skips that carry their input on unchanged: read off the graph, and tried on the modules."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...capturing import capture
from ...errors import BackproofError
from ..verdicts import Evidence

__all__ = ["Skips", "skips_of"]

_SIDE = 8


@dataclass(frozen=True)
class Skips:
    """The skips of a network.

    Args:
        graph: for each sum of two branches in the captured graph, the module and what its shorter branch does
            ("identity", "conv"...); None where the network could not be captured.
        passing: for each block, whether it passes its input on when all its parameters are zero.
        evidence: the comparison of the two.
    """

    graph: dict[str, str] | None
    passing: dict[str, bool]
    evidence: tuple[Evidence, ...]

    @property
    def identity_path(self) -> bool:
        """Whether some block's skip is the identity."""
        return (
            any(kind == "identity" for kind in self.graph.values())
            if self.graph is not None
            else any(self.passing.values())
        )

    def to_dict(self) -> dict[str, Any]:
        """By module: "identity", or what stands on the skip."""
        return (
            dict(self.graph)
            if self.graph is not None
            else {k: "identity" if v else "" for k, v in self.passing.items()}
        )


def skips_of(model: nn.Module, inputs: Tensor) -> Skips:
    """Find the skips of a network, for inputs of this shape."""
    passing = _passing(model)
    try:
        facts = capture(deepcopy(model).eval(), inputs).facts
        graph = {s["module"]: s["skip"] for s in facts["skips"]} if "skips" in facts else None
    except BackproofError:
        graph = None
    if graph is None:
        return Skips(None, passing, (_compared({}, {}, "the network could not be captured"),))
    return Skips(graph, passing, (_compared(graph, passing, ""),))


def _passing(model: nn.Module) -> dict[str, bool]:
    """Blocks (modules with convolutions among their own children) with every parameter zero: does anything pass?

    All convolutions and norms then give zero, so that only an identity can.
    """
    found = {}
    for name, module in model.named_modules():
        convolution = next((m for m in module.children() if isinstance(m, nn.Conv2d)), None)
        if not name or convolution is None or isinstance(module, nn.Sequential):
            continue
        twin = deepcopy(module).eval()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
            found[name] = bool(twin(torch.ones(1, convolution.in_channels, _SIDE, _SIDE)).abs().max() > 0)
    return found


def _compared(graph: dict[str, str], passing: dict[str, bool], note: str) -> Evidence:
    what, oracle = "which skips are the identity", "what a block passes on when all its parameters are zero"
    if note:
        return Evidence(what, oracle, None, None, 0, 0, note)
    wrong = [n for n, passes in passing.items() if passes != (graph.get(n) == "identity")]
    error = len(wrong) / max(len(passing), 1)
    return Evidence(what, oracle, not wrong, error, len(passing), len(passing), ", ".join(wrong[:3]))
