"""A step of training worked out once: the plan that reads the joint graph with torch's own kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..capturing.origin import ModuleOrigin
from ..differentiate import in_kernels
from ..domains.plan import Plan, planned
from ..graph import Graph, Node

__all__ = ["Planned", "planned_step"]


@dataclass(frozen=True)
class Planned:
    """The plan of a step and where in it the record's tensors lie.

    Args:
        plan: the calls.
        values: every named value and its place.
        gradients: every named quantity that has a gradient and its place; None where none arrives.
    """

    plan: Plan
    values: Mapping[str, int]
    gradients: Mapping[str, int | None]

    @cached_property
    def named(self) -> tuple[tuple[str, str, int], ...]:
        """Everything that a record can keep: "values" or "gradients", the name, the place."""
        values = (("values", name, place) for name, place in self.values.items())
        gradients = (("gradients", name, place) for name, place in self.gradients.items() if place is not None)
        return (*values, *gradients)


def planned_step(graph: Graph) -> Planned:
    """Return the plan of one step of a graph; made at the first call.

    Args:
        graph: the network; without a loss there are values alone.
    """
    if "step" not in graph.memo:
        graph.memo["step"] = _planned(graph)
    found: Planned = graph.memo["step"]
    return found


def _planned(graph: Graph) -> Planned:
    whole, gradients, instead = in_kernels(graph, _calls(graph))
    named = [n for n in graph.nodes if n.role not in ("helper", "constant")]
    values = [n for n in named if not n.is_leaf or n.role == "draw"]
    arriving = {n.name: gradients.get(n) for n in named if n.is_number and n.role != "draw"}
    adjoints = [g for g in arriving.values() if g is not None]
    plan = planned(whole, [*values, *adjoints], instead)
    places = plan.places
    return Planned(
        plan,
        {n.name: places[n] for n in values},
        {name: None if g is None else places[g] for name, g in arriving.items()},
    )


def _calls(graph: Graph) -> dict[Node, tuple[object, Mapping[str, object]]]:
    if not isinstance(graph.origin, ModuleOrigin):
        return {}
    named = graph.by_name
    return {named[name]: call for name, call in graph.origin.calls.items() if name in named}
