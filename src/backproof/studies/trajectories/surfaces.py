"""What is gone down: a formula in x and y, a quadratic of given curvatures, or the loss of a network.

Points are rows: [runs, numbers]; every row is a run of its own, and the runs of a formula are made all at once.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...differentiate import Joint, differentiate
from ...domains.numbers import evaluate
from ...errors import InputError
from ...formula import read_model
from ..analyses.general import gradient, loss_at
from ..program import Program
from ..trace import _program

__all__ = ["NAMED", "FormulaSurface", "NetworkSurface", "SpectrumSurface", "Surface", "surface_of"]

NAMED = {
    "rosenbrock": ("(1 - x)**2 + 100 * (y - x**2)**2", (-1.2, 1.0)),
    "valley": ("x**2 / 2 + 25 * y**2", (-4.0, 1.0)),
    "saddle": ("x**2 / 2 - y**2 / 2 + y**4 / 4", (-2.0, 0.1)),
    "himmelblau": ("(x**2 + y - 11)**2 + (x + y**2 - 7)**2", (0.0, 0.0)),
    "beale": ("(1.5 - x + x * y)**2 + (2.25 - x + x * y**2)**2 + (2.625 - x + x * y**3)**2", (1.0, 1.5)),
}
"""Surfaces by name: the formula and where it is started from."""


class Surface(Protocol):
    """A loss with its gradient, where runs start, and the plane on which they are drawn."""

    title: str

    def starts(self, seeds: Sequence[int]) -> Tensor:
        """Where the run of each seed starts: [seeds, numbers]."""

    def losses(self, points: Tensor) -> Tensor:
        """The loss at each row."""

    def slopes(self, points: Tensor) -> Tensor:
        """The gradient at each row."""

    def plane(self, points: Tensor) -> Plane:
        """The plane for a picture of runs that went through these points."""

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the tensors that a row holds, one after another."""


@dataclass(frozen=True)
class Plane:
    """A plane in the space of the numbers: origin + a · axes[0] + b · axes[1], with the names of its two directions."""

    origin: Tensor
    axes: Tensor
    names: tuple[str, str]

    def project(self, points: Tensor) -> Tensor:
        """The coordinates (a, b) of the nearest point of the plane, for each row."""
        flat: Tensor = (points - self.origin) @ torch.linalg.pinv(self.axes)
        return flat

    def lift(self, coordinates: Tensor) -> Tensor:
        """The points of the plane with these coordinates."""
        return self.origin + coordinates @ self.axes


@dataclass
class FormulaSurface:
    """A formula in x and y; parsed, never evaluated as code."""

    text: str
    start: tuple[float, float]
    spread: float = 0.3
    title: str = ""
    _graphs: dict[int, Joint] = field(default_factory=dict)
    _last: tuple[Tensor, Joint, Any] | None = None

    def __post_init__(self) -> None:
        self.title = self.title or self.text
        if not bool(torch.isfinite(self.losses(torch.tensor([self.start], dtype=torch.float64))).all()):
            raise InputError(f"the loss {self.text} is not finite at the start {self.start}; give another start")

    def starts(self, seeds: Sequence[int]) -> Tensor:
        """Where the run of each seed starts."""
        base = torch.tensor(self.start, dtype=torch.float64)
        return torch.stack([base + self.spread * _normal(seed, 2) for seed in seeds])

    def losses(self, points: Tensor) -> Tensor:
        """The loss at each row."""
        joint, values = self._read(points)
        heights: Tensor = values[joint.graph.by_name["f"]]
        return heights

    def slopes(self, points: Tensor) -> Tensor:
        """The gradient at each row."""
        joint, values = self._read(points)
        found = [joint.gradients[joint.graph.by_name[n]] for n in ("x", "y")]
        return torch.stack(
            [torch.zeros(len(points), dtype=torch.float64) if d is None else values[d] for d in found], 1
        )

    def plane(self, points: Tensor) -> Plane:
        """The plane for a picture."""
        return Plane(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), ("x", "y"))

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """x and y as one vector."""
        return ((2,),)

    def _read(self, points: Tensor) -> tuple[Joint, Any]:
        if self._last is not None and self._last[0] is points:
            return self._last[1], self._last[2]
        count = len(points)
        if count not in self._graphs:
            shapes: dict[str, tuple[int, ...]] = {"x": (count,), "y": (count,)}
            formulas = {"loss": self.text, "f": "loss + 0 * (x + y)", "L": "sum(f)"}
            graph = read_model(formulas, shapes, roles={})
            self._graphs[count] = differentiate(graph, of=graph.by_name["L"])
        joint = self._graphs[count]
        leaves = {joint.graph.by_name["x"]: points[:, 0], joint.graph.by_name["y"]: points[:, 1]}
        self._last = points, joint, evaluate(joint.graph, leaves)
        return self._last[1], self._last[2]


@dataclass
class SpectrumSurface:
    """The quadratic sum of L_i w_i² / 2 with given curvatures."""

    curvatures: Tensor
    title: str = ""

    def __post_init__(self) -> None:
        self.title = (
            self.title or f"a quadratic with curvatures {', '.join(f'{c:g}' for c in self.curvatures.tolist()[:6])}"
        )

    def starts(self, seeds: Sequence[int]) -> Tensor:
        """Where the run of each seed starts."""
        return torch.stack([_normal(seed, len(self.curvatures)) for seed in seeds])

    def losses(self, points: Tensor) -> Tensor:
        """The loss at each row."""
        return (self.curvatures * points**2).sum(1) / 2

    def slopes(self, points: Tensor) -> Tensor:
        """The gradient at each row."""
        return self.curvatures * points

    def plane(self, points: Tensor) -> Plane:
        """The plane for a picture."""
        low, high = int(self.curvatures.argmin()), int(self.curvatures.argmax())
        high = high if high != low else (low + 1) % len(self.curvatures)
        axes = torch.zeros(2, len(self.curvatures), dtype=torch.float64)
        axes[0, low], axes[1, high] = 1, 1
        names = (f"w along curvature {self.curvatures[low]:g}", f"w along curvature {self.curvatures[high]:g}")
        return Plane(torch.zeros(len(self.curvatures), dtype=torch.float64), axes, names)

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """All numbers as one vector."""
        return ((len(self.curvatures),),)


@dataclass
class NetworkSurface:
    """The loss of a network as a function of all its trained parameters, on all samples."""

    program: Program
    model: Any
    title: str = ""

    def starts(self, seeds: Sequence[int]) -> Tensor:
        """Where the run of each seed starts."""
        return torch.stack([self._start(seed) for seed in seeds])

    def _start(self, seed: int) -> Tensor:
        """The parameters of a model that is initialised anew; of one that cannot be, its own with a little noise."""
        names = self.program.trained
        own = {n: self.program.start[n] for n in names}
        layers = (
            [m for m in self.model.modules() if list(m.parameters(recurse=False))]
            if isinstance(self.model, nn.Module)
            else []
        )
        if layers and all(hasattr(m, "reset_parameters") for m in layers):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                twin = copy.deepcopy(self.model)
                for module in (m for m in twin.modules() if hasattr(m, "reset_parameters")):
                    module.reset_parameters()
            fresh = {n: p.detach().double() for n, p in twin.named_parameters()}
            own = {n: fresh.get(n, t) for n, t in own.items()}
            return torch.cat([own[n].reshape(-1) for n in names])
        flat = torch.cat([t.reshape(-1) for t in own.values()])
        return flat + 0.1 * float(flat.std()) * _normal(seed, len(flat))

    def losses(self, points: Tensor) -> Tensor:
        """The loss at each row."""
        return torch.tensor([loss_at(self.program, self._named(p)) for p in points], dtype=torch.float64)

    def slopes(self, points: Tensor) -> Tensor:
        """The gradient at each row."""
        return torch.stack([gradient(self.program, self._named(p)) for p in points])

    def plane(self, points: Tensor) -> Plane:
        """The two directions in which the runs spread most (their first two principal components)."""
        middle = points.mean(0)
        _, _, directions = torch.linalg.svd(points - middle, full_matrices=False)
        if len(directions) < 2:
            directions = torch.cat([directions, torch.ones_like(directions)])[:2]
        return Plane(middle, directions[:2], ("first principal direction", "second principal direction"))

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the trained parameters."""
        return tuple(tuple(self.program.start[n].shape) for n in self.program.trained)

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        found, start = {}, 0
        for name in self.program.trained:
            shape = self.program.start[name].shape
            found[name] = flat[start : start + shape.numel()].reshape(shape)
            start += shape.numel()
        return found


def surface_of(
    what: Any, inputs: Any = None, targets: Any = None, *, loss: Any = None, start: Any = None, output: Any = None
) -> Surface:
    """The surface that a name, a formula in x and y, a list of curvatures, or a model means.

    Raises:
        InputError, FormulaError: it is none of these, or cannot be read.
    """
    if isinstance(what, str):
        if what.isidentifier() and what.lower() not in (*NAMED, "x", "y"):
            near = difflib.get_close_matches(what.lower(), NAMED, 1)
            raise InputError(
                f"there is no surface '{what}'{f'; did you mean {near[0]}?' if near else '.'} Known are {', '.join(NAMED)}; a formula in "
                "x and y, such as 'x**2 + 10*y**2', and the curvatures of a quadratic mean others"
            )
        text, default = NAMED.get(what.lower(), (what, (1.0, 1.0)))
        return FormulaSurface(text, _pair(start, default), title=what)
    if isinstance(what, (list, tuple)) and what and all(isinstance(c, (int, float)) for c in what):
        curvatures = torch.tensor([float(c) for c in what], dtype=torch.float64)
        if len(what) < 2 or not bool((curvatures > 0).all()) or not bool(torch.isfinite(curvatures).all()):
            raise InputError(f"the curvatures of a quadratic are two or more positive numbers, not {list(what)}")
        return SpectrumSurface(curvatures)
    program = _program(what, inputs, targets, loss, output, "float64")
    if program.graph.loss is None:
        raise InputError("an optimizer goes down a loss: give loss=..., or a model whose output is one number")
    return NetworkSurface(program, what, program.graph.title)


def _pair(start: Any, default: tuple[float, float]) -> tuple[float, float]:
    if start is None:
        return default
    if not isinstance(start, (list, tuple)) or len(start) != 2 or not all(math.isfinite(float(v)) for v in start):
        raise InputError(f"start is two numbers, x and y, not {start!r}")
    return float(start[0]), float(start[1])


def _normal(seed: int, count: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
