"""Cut a box where it matters, and bound each part by itself: affine forms are sharper where boxes are small.

The cuts halve the entries that move most what goes into functions; all parts are read at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...domains.affine import Affine, read_parts
from ...graph import Graph, Node
from ...ops import Elementwise
from .boxes import Region

__all__ = ["ends_over_parts"]

ROOM = 6_000_000


def ends_over_parts(
    graph: Graph, region: Region, values: Mapping[Node, Affine], cuts: int
) -> tuple[int, dict[Node, tuple[Tensor, Tensor]]] | None:
    """The number of parts, and for every node the outermost ends over them; None where there is nothing to cut.

    Args:
        graph: what to read.
        region: which is cut.
        values: the affine forms over the whole of it.
        cuts: how many entries are halved at most: 2^cuts parts.
    """
    free = [n for n in values if n in region.free]
    size = sum(n.size for n in free)
    scores = _influence(graph, values, size)
    cuts = min(cuts, int((scores > 0).sum()))
    widest = max(v.g.numel() for v in values.values())
    if not cuts or widest << cuts > ROOM:
        return None
    chosen = scores.topk(cuts).indices
    fixed = {n: v for n, v in values.items() if n.is_leaf and n.role != "constant" and n not in free}
    lo = torch.cat([values[n].lo.reshape(-1) for n in free])
    hi = torch.cat([values[n].hi.reshape(-1) for n in free])
    found = read_parts(graph, fixed, _cut(free, lo, hi, chosen))
    return 1 << cuts, {n: _hull(values[n], lo, hi) for n, (lo, hi) in found.items()}


def _influence(graph: Graph, values: Mapping[Node, Affine], size: int) -> Tensor:
    """[entries] How much each free entry moves all that goes into functions of one operand."""
    inner = {n.inputs[0] for n in graph.nodes if isinstance(n.op, Elementwise) and len(n.inputs) == 1}
    total = torch.zeros(size, dtype=torch.float64)
    for node in inner:
        rows = values[node].g[:size]
        moved = rows.abs().reshape(len(rows), node.size).sum(1)
        total[: len(moved)] += moved
    return total


def _cut(free: list[Node], lo: Tensor, hi: Tensor, chosen: Tensor) -> dict[Node, tuple[Tensor, Tensor]]:
    """The ends of all parts: each chosen entry in its lower or its upper half, in every combination."""
    count = 1 << len(chosen)
    upper = ((torch.arange(count)[:, None] >> torch.arange(len(chosen))) & 1).bool()
    middle = ((lo + hi) / 2)[chosen].expand(count, -1)
    low, high = lo.repeat(count, 1), hi.repeat(count, 1)
    low[:, chosen] = torch.where(upper, middle, low[:, chosen])
    high[:, chosen] = torch.where(upper, high[:, chosen], middle)
    sizes = [n.size for n in free]
    pairs: Any = zip(free, low.split(sizes, 1), high.split(sizes, 1), strict=True)
    return {n: (a.reshape(count, *n.shape), b.reshape(count, *n.shape)) for n, a, b in pairs}


def _hull(whole: Affine, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """What holds for all parts, and for the whole: the sharper of both."""
    return torch.fmax(lo.amin(0).nan_to_num(-torch.inf), whole.lo), torch.fmin(
        hi.amax(0).nan_to_num(torch.inf), whole.hi
    )
