"""The effective field beside the theoretical one: how much of what a unit sees counts, by paths and by the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...capturing.origin import ModuleOrigin
from ...domains.cells import paths_to, unit_mask
from ..program import run_original
from ..verdicts import Evidence

if TYPE_CHECKING:
    from .receptive import FieldLayer, ReceptiveField

__all__ = ["Effective", "effective"]

SHARE = 0.95
DRAWS = 4
_PLAIN = {"conv", "conv_transpose", "relu", "add", "cat", "pad", "reshape", "permute", "slice", "expand", "embedding"}


@dataclass(frozen=True)
class Effective:
    """How much each cell of the input counts for one unit.

    Args:
        layer, position: the unit.
        paths: how many paths lead from each cell to it, channels multiplied in; float64, exact below 2^53.
        gradient: the mean of |d unit / d cell| over random inputs and the present parameters; None without a program.
        size: the theoretical field, per axis.
        evidence: path counts against the gradient of the same program with all weights 1.
    """

    layer: str
    position: tuple[int, ...]
    paths: Any = field(repr=False)
    gradient: Any = field(repr=False)
    size: tuple[int, ...]
    evidence: tuple[Evidence, ...] = ()

    @property
    def width(self) -> tuple[int, ...]:
        """Per axis the fewest neighbouring indices that 95 % of all paths come from."""
        return tuple(_narrowest(_along(self.paths, axis)) for axis in range(self.paths.ndim))

    @property
    def gradient_width(self) -> tuple[int, ...] | None:
        """The same for the measured gradient."""
        if self.gradient is None:
            return None
        return tuple(_narrowest(_along(self.gradient, axis)) for axis in range(self.gradient.ndim))

    @property
    def deviation(self) -> tuple[float, ...]:
        """Per axis the standard deviation of where paths come from."""
        return tuple(_deviation(_along(self.paths, axis)) for axis in range(self.paths.ndim))


def effective(found: ReceptiveField, layer: FieldLayer, position: Sequence[int], seed: int = 0) -> Effective:
    """Count paths and measure the gradient for one unit; see :class:`Effective`."""
    node = found.graph.by_name[layer.name]
    paths = paths_to(found.graph, node, position, found.source, layer.places)
    sizes = tuple(int(np.ptp(a) + 1) if len(a) else 0 for a in paths.nonzero())
    gradient = _measured(found, layer, position, seed)
    evidence = _confirmed(found, layer, position, paths)
    return Effective(layer.name, tuple(position), paths, gradient, sizes, evidence)


def _along(counts: Any, axis: int) -> Any:
    return counts.sum(tuple(i for i in range(counts.ndim) if i != axis))


def _narrowest(counts: Any) -> int:
    total = counts.sum()
    if not total > 0:
        return 0
    before = np.concatenate([[0], np.cumsum(counts / total)])
    ends = np.searchsorted(before, before[:-1] + SHARE - 1e-12)
    widths = [int(e) - i for i, e in enumerate(ends) if e < len(before)]
    return min(widths, default=len(counts))


def _deviation(counts: Any) -> float:
    share, place = counts / counts.sum(), np.arange(len(counts))
    mean = float((share * place).sum())
    return float(np.sqrt((share * (place - mean) ** 2).sum()))


def _gradient(found: ReceptiveField, layer: FieldLayer, position: Sequence[int], leaves: dict[str, Any]) -> Any:
    """|d unit / d input|, summed over channels; the unit is the sum over its channels."""
    x = leaves[found.source.name].clone().requires_grad_(True)
    out = run_original(found.graph, {**leaves, found.source.name: x}).get(layer.name)
    if out is None:
        return None
    node = found.graph.by_name[layer.name]
    unit = torch.from_numpy(np.array(np.broadcast_to(unit_mask(node, position, layer.places)[0], node.shape)))
    (grad,) = torch.autograd.grad(out[unit].sum(), x)
    return grad[0].abs().sum(0).double().numpy()


def _measured(found: ReceptiveField, layer: FieldLayer, position: Sequence[int], seed: int) -> Any:
    if not isinstance(found.graph.origin, ModuleOrigin):
        return None
    generator = torch.Generator().manual_seed(seed)
    leaves = found.graph.origin.leaves()
    total: Any = None
    for _ in range(DRAWS):
        given = leaves[found.source.name]
        x = torch.randn(given.shape, generator=generator).to(given.dtype)
        grad = _gradient(found, layer, position, {**leaves, found.source.name: x})
        if grad is None:
            return None
        total = grad if total is None else total + grad
    return total / DRAWS


def _confirmed(found: ReceptiveField, layer: FieldLayer, position: Sequence[int], paths: Any) -> tuple[Evidence, ...]:
    """With all weights 1 the gradient of sums of products counts the paths; other operations weigh them."""
    graph = found.graph
    last = graph.nodes.index(graph.by_name[layer.name])
    used = {n.op.name for n in graph.nodes[: last + 1] if not n.is_leaf}
    if not isinstance(graph.origin, ModuleOrigin) or not used <= _PLAIN or paths.max() >= 2**53:
        return ()
    leaves = {n: torch.ones_like(v, dtype=torch.float64) for n, v in graph.origin.leaves().items()}
    grad = _gradient(found, layer, position, leaves)
    if grad is None:
        return ()
    off = float(abs(grad - paths).max())
    return (
        Evidence(f"the paths to {layer.name}", "autograd with all weights 1", off == 0, off, paths.size, paths.size),
    )
