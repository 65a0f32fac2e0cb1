"""An independent witness of what a unit sees: a NaN put into the input turns exactly those units into NaN that depend on it.

It runs the user's own program, and knows nothing of kernels, strides or branches. Where a NaN arrives although nothing is
seen, a large finite change is tried instead: what is multiplied by an exact zero (a share of an interpolation) carries a NaN
on, and no value.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...domains.cells import unit_mask
from ..program import run_original
from ..verdicts import Evidence

if TYPE_CHECKING:
    from .receptive import FieldLayer, ReceptiveField

__all__ = ["poisoned", "positive"]

ORACLE = "a NaN in the input, run through the program itself"
LAYERS, CELLS = 4, 12


def poisoned(found: ReceptiveField) -> tuple[Evidence, ...]:
    """Some local layers, the last among them: lines at both ends of a field, inside and outside, and single cells."""
    if not hasattr(found.graph.origin, "leaves"):
        return ()
    runs = _Runs(found)
    local = [layer for layer in found.layers if layer.is_local and layer.name in runs.plain]
    if not local:
        return ()
    step = max(len(local) // LAYERS, 1)
    chosen = local[::-step][:LAYERS]
    evidence = []
    for layer in chosen:
        for axis in range(len(layer.output_size)):
            evidence.append(_line(runs, layer, [n // 2 for n in layer.output_size], axis))
    evidence += [_line(runs, chosen[0], [0 for _ in chosen[0].output_size], 0)]
    if len(chosen[0].output_size) > 1:
        evidence.append(_cells(runs, chosen[0], [n // 2 for n in chosen[0].output_size]))
    return tuple(evidence)


class _Runs:
    """The program with weights that are not zero, run on inputs that are changed at some places; each run kept."""

    def __init__(self, found: ReceptiveField) -> None:
        self.found, self.name = found, found.source.name
        generator = torch.Generator().manual_seed(0)
        given = found.graph.origin.leaves()
        self.leaves = {name: positive(value, generator) for name, value in given.items()}
        self._kept: dict[tuple[object, ...], dict[str, Tensor]] = {}
        self.plain = self._run(self.leaves[self.name])

    def _run(self, x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return run_original(self.found.graph, {**self.leaves, self.name: x})

    def arrives(self, layer: FieldLayer, position: Sequence[int], place: tuple[int | slice, ...], seen: bool) -> bool:
        """Whether what is changed at a place of the input (all samples and channels) arrives at a position."""
        node = self.found.graph.by_name[layer.name]
        unit = torch.from_numpy(np.array(np.broadcast_to(unit_mask(node, position, layer.places)[0], node.shape)))
        arrived = bool(self._changed(place, float("nan"))[layer.name][unit].isnan().any())
        if arrived and not seen:
            moved = self._changed(place, 1e3)[layer.name][unit]
            arrived = not torch.equal(moved, self.plain[layer.name][unit])
        return arrived

    def _changed(self, place: tuple[int | slice, ...], value: float) -> dict[str, Tensor]:
        key = (str(place), str(value))
        if key not in self._kept:
            x = self.leaves[self.name].clone()
            x[(slice(None), slice(None), *place)] = value
            self._kept[key] = self._run(x)
            if len(self._kept) > 40:
                self._kept.pop(next(iter(self._kept)))
        return self._kept[key]


def positive(value: Tensor, generator: torch.Generator) -> Tensor:
    """Weights that are not zero, so that nothing is multiplied away."""
    if not value.is_floating_point():
        return value
    share = max(value[0].numel() if value.dim() else 1, 1)
    return (torch.rand(value.shape, generator=generator) + 0.1).to(value.dtype) / share


def _line(runs: _Runs, layer: FieldLayer, position: Sequence[int], axis: int) -> Evidence:
    """All cells of one index along an axis at once: the projection of the field on that axis."""
    seen = runs.found.indices(layer.name, tuple(position), axis)
    size = runs.found.source.shape[2 + axis]
    ends = (min(seen, default=0), max(seen, default=0))
    tried = sorted({i for s in ends for i in (s - 1, s, s + 1) if 0 <= i < size})
    wrong = 0
    for i in tried:
        place = (*(slice(None),) * axis, i)
        wrong += runs.arrives(layer, position, place, i in seen) != (i in seen)
    what = f"the field of {layer.name} at {list(position)}, axis {axis}"
    return Evidence(what, ORACLE, wrong == 0, float(wrong), len(tried), size)


def _cells(runs: _Runs, layer: FieldLayer, position: Sequence[int]) -> Evidence:
    """Single cells in and around the box of a field, drawn from a seed."""
    seen = runs.found.indices(layer.name, tuple(position))
    rng, shape = random.Random(0), runs.found.source.shape[2:]
    tried: set[tuple[int, ...]] = set()
    for _ in range(CELLS):
        cell = []
        for axis, size in enumerate(shape):
            along = [c[axis] for c in seen] or [0]
            cell.append(rng.randint(max(min(along) - 1, 0), min(max(along) + 1, size - 1)))
        tried.add(tuple(cell))
    wrong = sum(runs.arrives(layer, position, cell, cell in seen) != (cell in seen) for cell in sorted(tried))
    what = f"single cells of the field of {layer.name} at {list(position)}"
    return Evidence(what, ORACLE, wrong == 0, float(wrong), len(tried), runs.found.source.size)
