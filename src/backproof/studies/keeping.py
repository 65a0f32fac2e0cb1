"""What of a run is kept: everything, statistics, some modules, or all of it in a file; and the memory that it takes."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..domains.occupancy import Drops
from ..errors import InputError
from ..graph import Graph, Node
from .machine import free_bytes, spelled
from .optimizer.replay import seen_shape
from .planned import Planned, planned_step
from .program import Program
from .statistics import CHUNK, Statistics
from .storing import Store, Stored

__all__ = ["Keep", "Keeping", "all_finite", "keeping"]

Keep = Literal["all", "statistics"] | Sequence[str]
_FREE = 0.9
"""The share of the free memory that a record may take."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor has an infinite entry or one that is no number; one pass over each that adds them up."""
    return all(_finite(t) for t in tensors if t.is_floating_point())


def _finite(tensor: Tensor) -> bool:
    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


@dataclass
class Keeping:
    """Reads steps in torch's own kernels and keeps what is asked for.

    Args:
        keep: "all", "statistics", or the modules and values whose tensors are kept; of the others there are statistics.
        store: the file that tensors are written to; None keeps them in memory.
        predicted: the bytes that the run takes at its peak beyond the model, as worked out before it.
        remarks: what a reader should know about it.
    """

    keep: Keep = "all"
    store: Store | None = None
    predicted: int = 0
    remarks: tuple[str, ...] = ()
    _drops: dict[int, Drops] = field(default_factory=dict)

    def __enter__(self) -> Keeping:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Finish the file, or leave none behind after an error."""
        if self.store is not None:
            self.store.close() if error is None else self.store.abandon()

    def read(self, graph: Graph, leaves: Mapping[str, Tensor], number: int) -> tuple[Any, Any]:
        """The values and gradients of a step."""
        step = planned_step(graph)
        if id(graph) not in self._drops:
            self._drops[id(graph)] = step.plan.drops(self._held(graph, step))
        drops = self._drops[id(graph)]
        if self.keep == "all" and self.store is None:
            found = step.plan.run(leaves, drops)
            values = {name: found[place] for name, place in step.values.items()}
            return values, {name: None if place is None else found[place] for name, place in step.gradients.items()}
        return self._passing(graph, step, leaves, drops, number)

    def _held(self, graph: Graph, step: Planned) -> set[int]:
        """The places whose tensors stay in memory."""
        places = [p for p in (*step.values.values(), *step.gradients.values()) if p is not None]
        if self.store is None and self.keep == "all":
            return set(places)
        always = _always(graph, step)
        wanted = () if self.store is not None else (p for _, name, p in step.named if self._wants(graph, name))
        return {*always, *wanted}

    def _wants(self, graph: Graph, name: str) -> bool:
        if isinstance(self.keep, str):
            return self.keep == "all"
        return any(_names(word, graph.by_name[name]) for word in self.keep)

    def _passing(
        self, graph: Graph, step: Planned, leaves: Mapping[str, Tensor], drops: Drops, number: int
    ) -> tuple[Any, Any]:
        """Look at each tensor when it is there: write it down, or take its statistics, or leave it where it is."""
        near: dict[str, dict[str, Any]] = {
            "values": {},
            "gradients": {n: None for n, p in step.gradients.items() if p is None},
        }
        always = _always(graph, step)
        at: dict[int, list[tuple[str, str]]] = {}
        for kind, name, place in step.named:
            at.setdefault(place, []).append((kind, name))

        def show(place: int, tensor: Any) -> None:
            for kind, name in at.get(place, ()):
                if self.store is not None and self._wants(graph, name):
                    self.store.put(f"step.{number}.{kind}.{name}", tensor)
                if place in always or (self.store is None and self._wants(graph, name)):
                    near[kind][name] = tensor
                elif not self._wants(graph, name):
                    near[kind][name] = Statistics.of(tensor)

        step.plan.run(leaves, drops, show)
        return self._given(step, near, number)

    def _given(self, step: Planned, near: Mapping[str, Mapping[str, Any]], number: int) -> tuple[Any, Any]:
        orders = {"values": tuple(step.values), "gradients": tuple(step.gradients)}
        if self.store is None:
            return tuple({name: near[kind][name] for name in names} for kind, names in orders.items())  # type: ignore[return-value]
        path = self.store.path
        return tuple(Stored(path, f"step.{number}.{k}.", names, near[k]) for k, names in orders.items())  # type: ignore[return-value]


def _always(graph: Graph, step: Planned) -> set[int]:
    """The places of what the next update needs: the loss, the parameters' gradients, the buffers' new values."""
    ends = [graph.loss] if graph.loss is not None else list(graph.outputs)
    values = [step.values.get(n.name) for n in (*ends, *graph.state.values())]
    return {p for p in (*values, *(step.gradients.get(n.name) for n in graph.parameters)) if p is not None}


def _names(word: str, node: Node) -> bool:
    """Whether a word is a node's name or a module that it belongs to."""
    module = node.name.rpartition(".")[0] if node.is_leaf else node.module
    return word == node.name or word == module or module.startswith(f"{word}.")


# --- before a run -------------------------------------------------------------------------------------------------------
def keeping(program: Program, keep: Keep | None, store: str | os.PathLike[str] | None) -> Keeping:
    """Decide what a run keeps, and whether it fits.

    Args:
        program: what will be run.
        keep: "all", "statistics" or names; None for all if it fits, else statistics with a remark.
        store: a file that the kept tensors are written to.

    Raises:
        InputError: a name is unknown, or the run would not fit into the memory that is free.
    """
    _check(program.graph, keep)
    chosen = Keeping("all" if keep is None else keep)
    if store is not None:
        chosen.store = Store(store, _shapes(program, chosen))
    chosen.predicted = _predicted(program, chosen)
    free = free_bytes(next((t.device for t in program.start.values()), None))
    if free is None or chosen.predicted <= _FREE * free:
        return chosen
    less = Keeping("statistics")
    less.predicted = _predicted(program, less)
    takes = f"takes {spelled(chosen.predicted)}, and {spelled(free)} are free"
    if keep is None and store is None and less.predicted <= _FREE * free:
        less.remarks = (
            f"Keeping every value and gradient {takes}: of the tensors there are statistics. "
            "keep=[...] keeps some, store=FILE writes all of them to disk.",
        )
        return less
    raise InputError(_too_large(chosen, less, takes, free))


def _too_large(chosen: Keeping, less: Keeping, takes: str, free: int) -> str:
    if less.predicted > _FREE * free or chosen.store is not None:
        return f"this run {takes}; a smaller batch or fewer steps need less"
    return (
        f"what you want to keep {takes}; keep='statistics' takes {spelled(less.predicted)}, a list such as "
        "keep=['layer4'] keeps some modules, and store='trace.safetensors' writes every tensor to disk"
    )


def _check(graph: Graph, keep: Keep | None) -> None:
    if keep is None or keep in ("all", "statistics"):
        return
    if isinstance(keep, str) or not all(isinstance(word, str) for word in keep):
        raise InputError(f"keep is 'all', 'statistics' or a list of names, not {keep!r}")
    for word in keep:
        if not any(_names(word, node) for node in graph.nodes):
            known = {n.name for n in graph.nodes if n.role not in ("helper", "constant")} | {
                n.module for n in graph.nodes
            }
            near = difflib.get_close_matches(word, known, 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise InputError(f"there is no module or value called '{word}' to keep{hint}")


def _steps(program: Program) -> list[Graph]:
    """The graph of each update."""
    return [program.graph_for(sample) for _ in range(program.steps) for sample in program.batches()]


def _shapes(program: Program, chosen: Keeping) -> dict[str, tuple[tuple[int, ...], str]]:
    found = {}
    for number, graph in enumerate(_steps(program), start=1):
        for kind, name, _ in planned_step(graph).named:
            node = graph.by_name[name]
            if chosen._wants(graph, name):
                found[f"step.{number}.{kind}.{name}"] = (node.shape, node.dtype)
    return found


def _predicted(program: Program, chosen: Keeping) -> int:
    """The bytes at the peak: the start, what earlier steps left, and the largest moment of the last one."""
    graphs = _steps(program)
    by_graph: dict[int, tuple[int, int]] = {}
    for graph in graphs:
        if id(graph) not in by_graph:
            step = planned_step(graph)
            drops = step.plan.drops(chosen._held(graph, step))
            peak, left = step.plan.occupancy.peak(drops)
            looking = 8 * min(CHUNK, max((n.size for n in graph.nodes), default=0)) if chosen.keep != "all" else 0
            by_graph[id(graph)] = peak + looking, left
    peak, left = by_graph[id(graphs[-1])]
    start = sum(t.numel() * t.element_size() for t in program.start.values())
    updated, most = _of_updates(program)
    before = sum(by_graph[id(g)][1] + updated for g in graphs[:-1])
    zeros = max((updated // (1 + len(r.state)) for r in program.rules if r.state), default=0)
    return start + zeros + before + max(peak, left + most)


def _of_updates(program: Program) -> tuple[int, int]:
    """The bytes that an update of all parameters leaves behind (they and their state), and its largest moment."""
    done = most = 0
    made: dict[Any, float] = {}
    for name in sorted(program.trained, key=lambda n: -program.start[n].numel()):
        rule, w = program.rule_of(name), program.start[name]
        if rule is None:
            continue
        if rule not in made:  # read off the largest parameter of each rule
            computed = (n.size for n in rule.graph(seen_shape(w), 1).nodes if not n.is_leaf)
            made[rule] = sum(computed) / max(w.numel(), 1)
        size, kept = w.numel() * w.element_size(), 2 if rule.rule.asks else len(rule.state_of(seen_shape(w)))
        most = max(most, done + int(size * made[rule]))
        done += size * (1 + kept)
    return done, max(most, done)
