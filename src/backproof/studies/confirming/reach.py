"""How far rounding alone can carry the numbers of a record.

A difference means nothing where rounding makes one of that size: where large terms cancel and little but their rounding is
left, or where a kink lies within rounding of the point. The graph is read again a few times with every result shaken by a
few units of rounding; what comes out moves as far as rounding can move it, cancellation and kinks included.
(Monte Carlo arithmetic: D. S. Parker, 1997.) It costs some readings more, and is asked only where something differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...domains.numbers import tensor_of, wide_numbers, widened
from ...graph import Graph, Node
from ..program import Program
from ..running import Reading, replayed
from ..steps import Step

__all__ = ["Reach", "RunReach", "furthest", "shaken_reading"]

ULPS, PAIRS, MORE, BEYOND = 16, 4, 6, 4
"""By how many units of rounding results are shaken, how often to either side, how many times as often where
numbers jump, and how much further a difference may reach."""
MOST_UPDATES = 50
_BY_RESULT = frozenset(("tanh'", "sigmoid'"))  # torch has 1 - y² and y (1 - y), which round by a unit of 1
_EXACT = frozenset(("shape", "index", "comparison", "leaf", "pooling"))
_MOVING = frozenset(
    "identity neg abs sign floor ceil round trunc relu clamp threshold where maximum minimum amax amin".split()
)


def _rounds(node: Node) -> bool:
    """Whether an operation makes numbers of its own; one that moves or chooses them rounds none."""
    return node.is_number and node.op.family not in _EXACT and node.op.name not in _MOVING


def _is_whole(tensor: Tensor, unit: float) -> bool:
    """Whether all entries are small whole numbers, as those of a mask: nothing was rounded."""
    if tensor.is_complex() or not tensor.is_floating_point():
        return not tensor.is_complex()
    return bool(((tensor == tensor.round()) & (tensor.abs() < 0.25 / abs(unit))).all())


def shaken_reading(unit: float, seed: int) -> Reading:
    """A reading in float64 whose results are shaken by so much times :data:`ULPS`; below 0 to the other side, 0 not at all."""
    generators: dict[Any, torch.Generator] = {}

    def shake(value: Any, absolute: bool = False) -> Any:
        if not unit or not isinstance(value, Tensor) or _is_whole(value, unit):
            return value
        generator = generators.setdefault(value.device, torch.Generator(value.device).manual_seed(seed))
        noise = torch.randn(value.shape, dtype=torch.float64, generator=generator, device=value.device)
        return value + ULPS * unit * noise * (1.0 if absolute else value)

    def read(graph: Graph, leaves: Mapping[Node, Tensor]) -> dict[Node, Tensor]:
        device = next((t.device for t in leaves.values()), None)
        values: dict[Node, Any] = {n: tensor_of(n, device, wide=True) for n in graph.of_role("constant")}
        values |= {n: shake(widened(t)) for n, t in leaves.items()}
        with torch.no_grad():
            for node in graph.nodes:
                if node not in values:
                    value = wide_numbers.apply(node, *(values[x] for x in node.inputs))
                    values[node] = shake(value, node.op.name in _BY_RESULT) if _rounds(node) else value
        return values

    return read


@dataclass
class Reach:
    """How far rounding carries the values and gradients of one step from its own leaves; read when asked for.

    Args:
        program, step: what was run; the step.
        unit: half the spacing of the numbers near 1.
    """

    program: Program
    step: Step
    unit: float

    def __call__(self, kind: str, name: str) -> Tensor | None:
        """By how much each entry may differ; None where that is not known."""
        return self._moved.get((kind, name))

    @cached_property
    def _moved(self) -> dict[tuple[str, str], Tensor]:
        return furthest(lambda unit, seed: _numbers_of(self.program, self.step, shaken_reading(unit, seed)), self.unit)


def _numbers_of(program: Program, step: Step, read: Reading) -> dict[Any, Tensor]:
    joint = program.joint(step.graph)
    whole, gradients = (joint.graph, joint.gradients) if joint else (step.graph, {})
    values = read(whole, {n: step.leaves[n.name] for n in whole.nodes if n.is_leaf and n.role != "constant"})
    found = {("value", n.name): values[n] for n in step.graph.nodes if n.name in step.values}
    return found | {
        ("gradient", n.name): values[g]
        for n, g in gradients.items()
        if g is not None and step.gradients.get(n.name) is not None
    }


@dataclass
class RunReach:
    """How far rounding carries the parameters and buffers after each update, from the start of the run."""

    program: Program
    unit: float
    updates: int

    def __call__(self, number: int, name: str) -> Tensor | None:
        """By how much each entry may differ after an update; None where that is not known."""
        if self.updates > MOST_UPDATES or self.program.is_one_run or any(r.rule.asks for r in self.program.rules):
            return None
        return self._moved.get((number, name))

    @cached_property
    def _moved(self) -> dict[Any, Tensor]:
        return furthest(lambda unit, seed: self._after(shaken_reading(unit, seed)), self.unit)

    def _after(self, read: Reading) -> dict[Any, Tensor]:
        found: dict[Any, Tensor] = {}
        for step in replayed(self.program, read, self.updates):
            found |= {(step.number, n): p.after for n, p in step.parameters.items()}
            found |= {(step.number, n): t for n, t in step.buffers.items()}
        return found


def furthest(run: Callable[[float, int], dict[Any, Tensor]], unit: float) -> dict[Any, Tensor]:
    """How far the numbers of some shaken runs are from those of the one that is not.

    Numbers that jump lie on a tie or a kink; there more runs are made, since each takes one way of several.
    """
    centre = run(0.0, 0)
    found = {
        key: torch.zeros(t.shape, dtype=torch.float64, device=t.device) for key, t in centre.items() if _is_float(t)
    }
    for seed in range(2 * PAIRS * MORE):
        if seed == 2 * PAIRS and not any(_jumps(most, centre[key]) for key, most in found.items()):
            break
        moved = run(-unit if seed % 2 else unit, seed // 2)  # to both sides, so that what is near a kink crosses it
        for key, most in found.items():
            if key in moved:
                off = (moved[key] - centre[key]).abs().double().nan_to_num(math.inf, math.inf, math.inf)
                found[key] = torch.maximum(most, BEYOND * off)
    return found


def _jumps(most: Tensor, centre: Tensor) -> bool:
    """Whether some entries moved by about the size of the largest."""
    return bool(most.numel()) and bool(most.max() > 0.1 * centre.abs().max())


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
