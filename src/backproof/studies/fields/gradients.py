"""A second witness of what a unit sees: the gradient of the user's own program, with weights that cannot cancel.

With positive weights, a positive input and operations that pass a positive gradient on, the gradient of a unit is positive at
exactly the cells that it sees. A maximum passes it to one cell of its window only, so behind one it is a subset. Autograd knows
nothing of windows and relations either, and shares nothing with a NaN that is carried along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...domains.cells import unit_mask
from ...graph import Graph, Node
from ..program import run_original
from ..verdicts import Evidence
from .poison import positive

if TYPE_CHECKING:
    from .receptive import FieldLayer, ReceptiveField

__all__ = ["by_gradient"]

ORACLE = "the gradient of the program with positive weights"
SMALLEST = 1e-290
_PASSES = {
    *(
        "conv",
        "conv_transpose",
        "linear",
        "add",
        "cat",
        "pad",
        "reshape",
        "permute",
        "slice",
        "select",
        "expand",
        "embedding",
    ),
    *("avg_pool", "adaptive_avg_pool", "mean", "sum", "identity", "cast", "batch_norm", "stack"),
    *(
        "relu",
        "leaky_relu",
        "elu",
        "celu",
        "selu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "sigmoid",
        "tanh",
        "exp",
        "square",
    ),
}


def by_gradient(found: ReceptiveField) -> tuple[Evidence, ...]:
    """The middle unit of the last local layer: which cells have a gradient, against which are said to be seen."""
    local = [layer for layer in found.layers if layer.is_local]
    if not local or not hasattr(found.graph.origin, "leaves"):
        return ()
    layer = local[-1]
    position = tuple(n // 2 for n in layer.output_size)
    try:
        grad = _gradient(found, layer, position)
    except RuntimeError:  # a program with a dtype of its own in it does not run in float64
        return ()
    return () if grad is None else (_compared(found, layer, position, grad),)


def _gradient(found: ReceptiveField, layer: FieldLayer, position: tuple[int, ...]) -> Any:
    leaves = _harmless(found.graph)
    x = leaves[found.source.name].requires_grad_(True)
    out = run_original(found.graph, {**leaves, found.source.name: x}).get(layer.name)
    if out is None or not out.requires_grad:
        return None
    node = found.graph.by_name[layer.name]
    unit = torch.from_numpy(np.array(np.broadcast_to(unit_mask(node, position, layer.places)[0], node.shape)))
    (grad,) = torch.autograd.grad(out[unit].sum(), x)
    return grad.abs().sum((0, 1)).numpy()


def _harmless(graph: Graph) -> dict[str, Tensor]:
    """Positive leaves in float64; the running means of batch norm are 0, so that nothing becomes negative."""
    generator = torch.Generator().manual_seed(1)
    means = {n.inputs[1].name for n in graph.nodes if n.op.name == "batch_norm"}
    found = {}
    for name, value in graph.origin.leaves().items():
        made = positive(value.double() if value.is_floating_point() else value, generator)
        found[name] = torch.zeros_like(made) if name in means else made
    return found


def _compared(found: ReceptiveField, layer: FieldLayer, position: tuple[int, ...], grad: Any) -> Evidence:
    what = f"all cells of the field of {layer.name} at {list(position)}"
    said = np.zeros(grad.shape, bool)
    for cell in found.indices(layer.name, position):
        said[cell] = True
    has = grad > 0
    beyond, without = int((has & ~said).sum()), int((said & ~has).sum())
    maxima = _stoppers(found.graph, found.graph.by_name[layer.name])
    note = ""
    agrees: bool | None = beyond == 0 and without == 0
    if beyond == 0 and without and maxima:
        agrees, note = True, f"a subset, since {maxima[0]} passes a gradient to some of its operands only"
    elif beyond == 0 and without and grad[has].min(initial=1.0) < SMALLEST:
        agrees, note = None, "the gradient underflows at the ends of the field"
    return Evidence(what, ORACLE, agrees, float(beyond + (0 if agrees else without)), grad.size, grad.size, note)


def _stoppers(graph: Graph, layer: Node) -> list[str]:
    """The operations on the way that need not pass a gradient on."""
    last = graph.nodes.index(layer)
    return sorted({n.op.name for n in graph.nodes[: last + 1] if not n.is_leaf and n.op.name not in _PASSES})
