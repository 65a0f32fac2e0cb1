"""Receptive fields: how many are exact, how many rows of the published table match, what an analysis costs.

Random networks: every unit (in 2D some) of nets with all kinds of layers against the gradient with positive weights; beside
it what the common rule gives on the same units, the theoretical box cut at the border of the input. The published table:
size, stride and padding of every row. Sizes: configurations of layers against torch on the meta device. Times: of the
analysis alone, of a graph captured before; medians.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from typing import Any

import _measure  # first: it makes the package importable
import numpy as np
import torch

import backproof as bp
from backproof.domains.cells import seen_cells
from tests.studies.test_published_fields import mismatches, rows
from tests.zoo.published import NETWORKS, marked
from tests.zoo.random_fields import random_net
from tests.zoo.size_configurations import compared

Counts = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "--nets", type=int, default=200, help="seeds of random networks tried (1000 in the nightly tests)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = {"cells": cells(arguments.nets), "table": table(), "sizes": sizes(), "times": times()}
    _measure.show("receptive", ("what", "how many", "of", "seconds"), _rows(record), record, arguments.json)


def cells(count: int) -> Counts:
    """Units of random networks whose set of cells is exactly the one with a gradient, and those that a cut box gets right."""
    found = {"nets": 0, "units": 0, "exact": 0, "boxes": 0, "capture": 0.0, "analysis": 0.0}
    for seed in range(count):
        rank = 1 + seed % 2
        drawn = random_net(seed, rank, 26 if rank == 1 else 11)
        if drawn is not None:
            _one(found, seed, *drawn)
    return found


def _one(found: Counts, seed: int, net: torch.nn.Module, shape: tuple[int, ...]) -> None:
    start = time.perf_counter()
    graph = bp.capture(net, torch.zeros(shape, dtype=torch.float64))
    middle = time.perf_counter()
    fields = bp.receptive_field(graph, evidence=False)
    last = fields.layers[-1]
    units = list(itertools.product(*(range(n) for n in last.output_size)))
    units = units if len(shape) == 3 else random.Random(seed).sample(units, min(len(units), 12))
    masks = seen_cells(graph, graph.by_name[last.name], units, fields.source, last.places)
    found["capture"] += middle - start
    found["analysis"] += time.perf_counter() - middle
    x = torch.full(shape, 1e-3, dtype=torch.float64, requires_grad=True)
    y = net(x)
    for unit, mask in zip(units, masks, strict=True):
        (grad,) = torch.autograd.grad(y[(0, slice(None), *unit)].sum(), x, retain_graph=True)
        true = (grad[0].abs().sum(0) > 0).numpy()
        found["exact"] += np.array_equal(mask, true)
        found["boxes"] += np.array_equal(_box(last, unit, shape), true)
    found["nets"] += 1
    found["units"] += len(units)


def _box(layer: Any, unit: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """The theoretical box cut at the border, without gaps: what every calculator gives."""
    box = np.ones(shape[2:], bool)
    for axis, track in enumerate(layer.tracks):
        row = None if track is None else track.relation.at(unit[axis])
        along = np.arange(shape[axis + 2])
        inside = (along >= row.low) & (along < row.low + row.size) if row is not None else np.zeros(len(along), bool)
        box &= inside.reshape([-1 if i == axis else 1 for i in range(box.ndim)])
    return box


def table() -> Counts:
    """The rows of the published table whose size, stride and padding come out."""
    start = time.perf_counter()
    cases = [(name, resolution) for name in NETWORKS for resolution in ("None", "224", "321")]
    total = sum(len(rows(*case)) for case in cases)
    wrong = sum(len(mismatches(*case)) for case in cases)
    return {"rows": total, "matched": total - wrong, "seconds": time.perf_counter() - start}


def sizes(count: int = 20_000) -> Counts:
    """Configurations of layers whose output size (or refusal) is torch's own."""
    start = time.perf_counter()
    outcomes = [compared(seed) for seed in range(count)]
    return {"tried": count, "wrong": outcomes.count(False), "refused": outcomes.count(None),
            "seconds": time.perf_counter() - start}  # fmt: skip


def times() -> Counts:
    """The seconds from a captured graph to the fields of all layers."""
    found = {}
    for name in ("resnet_v1_50", "resnet_v1_152", "inception_resnet_v2"):
        graph = bp.capture(marked(name)[0], torch.zeros(1, 1, 224, 224))
        bp.receptive_field(graph, evidence=False)
        spent = []
        for _ in range(11):
            start = time.perf_counter()
            bp.receptive_field(graph, evidence=False)
            spent.append(time.perf_counter() - start)
        found[name] = statistics.median(spent)
    return found


def _rows(record: dict[str, Counts]) -> list[tuple[str, ...]]:
    drawn, listed, tried = record["cells"], record["table"], record["sizes"]
    units = f"{drawn['units']:,}"
    return [
        (f"units of {drawn['nets']} random nets, exact", f"{drawn['exact']:,}", units, f"{drawn['analysis']:.2f}"),
        ("the same, a box cut at the border", f"{drawn['boxes']:,}", units, "-"),
        ("capture of these nets", str(drawn["nets"]), str(drawn["nets"]), f"{drawn['capture']:.1f}"),
        ("rows of the published table", str(listed["matched"]), str(listed["rows"]), f"{listed['seconds']:.1f}"),
        (
            "sizes as torch has them",
            f"{tried['tried'] - tried['wrong']:,}",
            f"{tried['tried']:,}",
            f"{tried['seconds']:.1f}",
        ),
        *((f"fields of {name}", "all layers", "-", f"{spent:.4f}") for name, spent in record["times"].items()),
    ]


if __name__ == "__main__":
    main()
