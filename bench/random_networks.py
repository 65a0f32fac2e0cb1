"""Random networks against torch.autograd: the largest disagreement of any gradient, and the seconds.

Three kinds, made by the generators of the tests: graphs over every operation (read and differentiated by us, and run
by torch under autograd), programs of torch calls, and nn.Modules with a loss (captured by us, and differentiated by
eager autograd on the original). The disagreement is the largest difference of an entry, relative to the largest entry
of that gradient or 0.01, whichever is larger.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from _measure import show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--graphs", type=int, default=1000, metavar="N", help="random graphs (1000)")
    parser.add_argument(
        "--programs", type=int, default=200, metavar="N", help="random programs and random modules, each (200)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the generators (0)")
    arguments = parser.parse_args()
    record = [measured(kind, _count(kind, arguments), arguments.seed) for kind in ("graphs", "programs", "modules")]
    heads = (
        "kind",
        "networks",
        "gradients",
        "nodes",
        "operations",
        "largest disagreement",
        "of float32 constants",
        "seconds",
    )
    show("random_networks", heads, [_row(r) for r in record], record, arguments.json)


def _count(kind: str, arguments: argparse.Namespace) -> int:
    return int(arguments.graphs if kind == "graphs" else arguments.programs)


def measured(kind: str, count: int, seed: int) -> dict[str, Any]:
    """Run ``count`` random networks of a kind."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    strategy, compare = _kinds()[kind]
    found: dict[str, Any] = {
        "kind": kind,
        "networks": 0,
        "gradients": 0,
        "nodes": 0,
        "worst": 0.0,
        "worst_float32": 0.0,
    }
    operations: set[str] = set()

    def run(case: Any) -> None:
        nodes, pairs = compare(case)
        names = {n.op.name for n in nodes if not n.is_leaf}
        operations.update(names)
        key = "worst_float32" if "hardsigmoid" in names else "worst"  # torch's 1/6 in its slope is a float32
        found[key] = max([found[key], *(disagreement(a, b) for a, b in pairs)])
        found["networks"] += 1
        found["gradients"] += len(pairs)
        found["nodes"] += len(nodes)

    health = list(HealthCheck)
    options = settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=health, phases=[Phase.generate]
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeded(seed)(options(given(strategy())(run)))()
    return {**found, "operations": len(operations), "seconds": time.perf_counter() - start}


def _kinds() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    from tests.capture.programs import random_nets, random_programs
    from tests.laws.random_graphs import random_graphs

    return {
        "graphs": (random_graphs, of_graph),
        "programs": (random_programs, of_program),
        "modules": (random_nets, of_module),
    }


def disagreement(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the gradient's largest entry or 0.01."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-2)) if ours.numel() else 0.0


def _filled(gradients: Iterable[Any], like: Iterable[Any]) -> list[Any]:
    import torch

    return [torch.zeros_like(x) if g is None else g.detach() for g, x in zip(gradients, like, strict=True)]


def of_graph(found: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """Our gradients of a random graph's leaves, and autograd's."""
    import torch

    from backproof.differentiate import differentiate
    from backproof.domains.numbers import evaluate
    from tests.laws.samples import on_autograd

    joint, leaves = differentiate(found.graph), list(found.leaves)
    ours = evaluate(joint.graph, found.leaves)
    values = on_autograd(found.graph, found.leaves, tuple(leaves))
    loss, inputs = values[found.graph.loss], [values[n] for n in leaves]
    theirs = torch.autograd.grad(loss, inputs, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
    adjoints = [joint.gradients[n] for n in leaves]
    mine = _filled((None if a is None else ours[a] for a in adjoints), inputs)
    return found.graph.nodes, list(zip(mine, _filled(theirs, inputs), strict=True))


def of_program(case: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """Our gradients of a captured program of torch calls, and those of the program itself run eagerly."""
    import torch

    import backproof as bp
    from tests.capture.models import gradients

    program, tensors = case
    graph = bp.capture(program, tuple(tensors), title="program")
    leaves = [t.clone().requires_grad_() for t in tensors]
    loss = program(*leaves)
    theirs = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
    ours = gradients(graph)
    names = [n.name for n in graph.nodes if n.role == "input"]
    mine = _filled((ours.get(n) for n in names), tensors)
    return graph.nodes, list(zip(mine, _filled(theirs, tensors), strict=True))


def of_module(case: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """Our gradients of a captured module's parameters, and those of ``loss.backward()`` on the module itself."""
    import backproof as bp
    from tests.capture.models import gradients
    from tests.capture.programs import LOSSES

    net, x, target, loss = case
    graph = bp.capture(net, x, loss=LOSSES[loss], targets=target)
    net.zero_grad()
    LOSSES[loss](net(x), target).backward()
    named, ours = dict(net.named_parameters()), gradients(graph)
    mine = _filled((ours.get(n) for n in named), named.values())
    return graph.nodes, list(zip(mine, _filled((p.grad for p in named.values()), named.values()), strict=True))


def _row(r: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{r['networks']:,}", f"{r['gradients']:,}", f"{r['nodes']:,}", str(r["operations"]))
    return (r["kind"], *counts, f"{r['worst']:.1e}", f"{r['worst_float32']:.1e}", f"{r['seconds']:.1f}")


if __name__ == "__main__":
    main()
