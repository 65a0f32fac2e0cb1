"""``bp.trajectories``: several optimizers on a surface, a quadratic or a network, each at its own best rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...document.blocks import Document, Figure, Paragraph, Plot, Section, Series, Table
from ...document.math import Num
from ...errors import InputError
from ...optimizers import optimizer as find_optimizer
from ...pictures.trails import Trail, trails_drawing
from ...progress import task
from ...result import Result
from .contours import contours, levels_of
from .protocol import LEAST_NEWTON, Contest, compete
from .runners import parts_of
from .surfaces import NetworkSurface, Surface, surface_of
from .verdict import remarks, said

__all__ = ["Trajectories", "trajectories"]

OPTIMIZERS = ("sgd", ("sgd", {"momentum": 0.9}), "adam", "rmsprop")
GRID = 41
NETWORK_GRID = 17
FIRST_MEASURED = 1_000
"""The seeds that are measured are counted from here, so that none of them was searched."""


@dataclass(frozen=True)
class Trajectories(Result):
    """How several optimizers went; see :func:`trajectories`. ``contests`` has one entry per label."""

    surface: Surface
    contests: dict[str, Contest]
    updates: int
    searched: int
    measured: int

    @property
    def order(self) -> tuple[str, ...]:
        """The labels, the smallest median of the last loss first."""
        return tuple(sorted(self.contests, key=lambda n: self.contests[n].quantile(0.5)))

    @cached_property
    def verdict(self) -> str:
        """Who is lowest and how surely; or that the loss is flat, or falls without bound."""
        return said(self.contests, self.order, self.updates, self.surface)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "verdict": self.verdict,
            "remarks": list(remarks(self.contests)),
            "surface": self.surface.title,
            "updates": self.updates,
            "seeds": {"searched": self.searched, "measured": self.measured},
            "order": list(self.order),
            "optimizers": {label: self._entry(c, full) for label, c in self.contests.items()},
        }

    def _entry(self, c: Contest, full: bool) -> dict[str, Any]:
        found = {
            "lr": c.lr,
            "lr_at_edge": c.at_edge,
            "loss": {
                "median": c.quantile(0.5),
                "low": c.quantile(0.25),
                "high": c.quantile(0.75),
                "all": list(c.finals),
            },
            "searched": [{"lr": r, "loss": s if math.isfinite(s) else None} for r, s in c.searched],
            "losses": list(c.losses),
        }
        if full or c.trail.shape[1] <= 2:
            found["trail"] = c.trail.tolist()
        return found

    def document(self) -> Document:
        """The comparison as a page."""
        blocks = (self._picture(), self._table(), self._curves(), self._protocol())
        verdict = self.verdict
        return Document(f"Optimizers on {self.surface.title}", blocks, "", verdict, "", self.to_dict())

    def _picture(self) -> Section:
        every = torch.cat([_finite(c.trail) for c in self.contests.values()])
        plane = self.surface.plane(every)
        flat = {label: plane.project(_finite(c.trail)) for label, c in self.contests.items()}
        x, y = _window(torch.cat(list(flat.values())))
        grid = NETWORK_GRID if isinstance(self.surface, NetworkSurface) else GRID
        xs, ys = torch.linspace(*x, grid, dtype=torch.float64), torch.linspace(*y, grid, dtype=torch.float64)
        places = torch.stack([xs.repeat(grid), ys.repeat_interleave(grid)], 1)
        heights = self.surface.losses(plane.lift(places)).reshape(grid, grid).tolist()
        lines = [line for level in levels_of(heights) for line in contours(xs.tolist(), ys.tolist(), heights, level)]
        trails = [Trail(label, tuple((float(a), float(b)) for a, b in points)) for label, points in flat.items()]
        drawing = trails_drawing(x, y, lines, trails, plane.names)
        alt = f"The ways of {', '.join(flat)} over lines of equal loss, {self.updates} updates each from the same start"
        seen = (
            "" if plane.axes.shape[1] == 2 else " The runs are projected on this plane; the loss is that on the plane."
        )
        seen += _leaving(x, y, flat)
        caption = ("One seed, each at its own best rate; the circle is the start." + seen,)
        return Section("The ways", (Figure(drawing, caption, alt, "trails"),), "result", "ways")

    def _table(self) -> Section:
        rows = tuple(
            (label, Num(c.lr), Num(c.quantile(0.5)), Num(c.quantile(0.25)), Num(c.quantile(0.75)))
            for label, c in ((n, self.contests[n]) for n in self.order)
        )
        head = (("optimizer",), ("best lr",), ("last loss, median",), ("lower quartile",), ("upper quartile",))
        table = Table(head, rows, f"The loss after {self.updates} updates, over {self.measured} seeds", (1, 2, 3, 4))
        note = tuple(Paragraph((text,)) for text in remarks(self.contests))
        return Section("Which is lowest", (table, *note), "result", "table")

    def _curves(self) -> Section:
        steps = tuple(float(k) for k in range(self.updates + 1))
        most = 1e3 * max(abs(c.losses[0]) for c in self.contests.values())
        kept = {
            n: [(k, v) for k, v in zip(steps, c.losses, strict=True) if v <= most] for n, c in self.contests.items()
        }
        series = tuple(Series(n, tuple(k for k, _ in run), tuple(v for _, v in run)) for n, run in kept.items() if run)
        positive = all(v > 0 for c in self.contests.values() for v in c.losses)
        curves = Plot(
            series, "updates", "loss, median", (), "the median loss over the updates, by optimizer", log_y=positive
        )
        rates = tuple(
            Series(n, tuple(r for r, _ in run), tuple(s for _, s in run))
            for n, c in self.contests.items()
            if (run := [(r, s) for r, s in c.searched if _shown(s) and s <= most])
        )
        tried = Plot(
            rates,
            "lr",
            "last loss, upper quartile",
            (),
            "the last loss over the learning rates that were searched",
            True,
            positive,
        )
        return Section("Over time, and over the rates", (curves, tried), "result", "curves")

    def _protocol(self) -> Section:
        text = (
            f"Every optimizer made {self.updates} updates from the same {self.searched} starts at each of its learning rates "
            "(a third of a decade apart, further while the best lies at an end, then a twelfth around the best); its best rate is "
            f"the one with the smallest upper quartile of the last loss. Then it was measured on {self.measured} other starts, which the "
            "search had not seen. Other settings are as named. A loss that overflows counts as infinite; the curves leave "
            "out losses of more than 1000 times that at the start."
        )
        own = [note for c in self.contests.values() if (note := self._own(c))]
        text = " ".join([text, *own])
        return Section("How they were compared", (Paragraph((text,)),), "given", "protocol")

    def _own(self, contest: Contest) -> str:
        """How a rule was run that is not for any single number."""
        rule = contest.rule
        if rule.rule.asks:
            return (
                f"{rule.rule.name} asks for the loss several times in an update, so each evaluation of the loss and its gradient "
                f"counts as one update of the others; torch.optim's own class was run, its rates from {LEAST_NEWTON:g} on."
            )
        parts = parts_of(rule, self.surface)
        if rule.rule.ranks and len({r.rule.name for r, _ in parts}) > 1:
            return f"{rule.rule.name} updates the matrices; vectors, which it is not for, are updated by AdamW with the same rate."
        if rule.rule.ranks:
            return f"{rule.rule.name} is for matrices, and sees {' and '.join(_shape(s) for _, s in parts)}."
        return (
            f"{rule.rule.name} sees whole tensors: {', '.join(_shape(s) for _, s in parts)}." if rule.rule.whole else ""
        )


def _shape(shape: tuple[int, ...]) -> str:
    return (
        f"a {' x '.join(map(str, shape))} matrix"
        if len(shape) == 2
        else f"a vector of {shape[0]}"
        if shape
        else "a number"
    )


def _shown(loss: float) -> bool:
    return math.isfinite(loss) and 0 < abs(loss) < 1e100


def _finite(points: Tensor) -> Tensor:
    """A trail up to where it leaves the numbers."""
    alive = torch.isfinite(points).all(1) & (points.abs().amax(1) < 1e12)
    lost = (~alive).nonzero()
    return points[: int(lost[0])] if len(lost) else points


def _leaving(x: tuple[float, float], y: tuple[float, float], flat: Mapping[str, Tensor]) -> str:
    """Words for the runs that leave the picture, whose points there are drawn at its edge."""
    low, high = torch.tensor([x[0], y[0]]), torch.tensor([x[1], y[1]])
    gone = [label for label, points in flat.items() if bool(((points < low) | (points > high)).any())]
    return f" Where a run leaves the picture ({', '.join(gone)}), it is drawn along the edge." if gone else ""


def _window(points: Tensor) -> tuple[tuple[float, float], tuple[float, float]]:
    """What the picture shows: most points, and the start, with a margin."""
    low, high = torch.quantile(points, 0.04, dim=0), torch.quantile(points, 0.96, dim=0)
    low, high = torch.minimum(low, points[0]), torch.maximum(high, points[0])
    margin = 0.12 * (high - low).clamp(min=1e-6) + 1e-9
    edges = torch.stack([low - margin, high + margin], 1).tolist()
    return (edges[0][0], edges[0][1]), (edges[1][0], edges[1][1])


def trajectories(
    surface: Any,
    inputs: Any = None,
    targets: Any = None,
    *,
    optimizers: Sequence[Any] = OPTIMIZERS,
    updates: int = 100,
    seeds: int = 9,
    loss: Any = None,
    start: Any = None,
    output: Any = None,
) -> Trajectories:
    """Let several optimizers go down the same loss, each at its own best learning rate.

    Args:
        surface: a name (rosenbrock, valley, saddle, himmelblau, beale), a formula in x and y, a list of curvatures for a
            quadratic, or a model (with ``inputs``, ``targets`` and ``loss`` as for :func:`backproof.trace`).
        optimizers: names, classes, or (class, settings); a learning rate among the settings is searched all the same.
        updates: how many each makes, in the search too.
        seeds: how many starts are measured; as many others are searched (of a network half as many, at least 3).
        start: of a formula: x and y, around which the starts lie.

    Returns:
        A :class:`Trajectories`: ``.contests[label].lr``, ``.order``.

    Raises:
        InputError, FormulaError: the request makes no sense.

    Example:
        >>> import backproof as bp
        >>> found = bp.trajectories([1, 10], optimizers=["sgd"], updates=20, seeds=3)
        >>> 0.15 < found.contests["sgd"].lr < 0.2
        True
    """
    if isinstance(updates, bool) or not isinstance(updates, int) or not 1 <= updates <= 10_000:
        raise InputError(f"updates is a whole number from 1 to 10000, not {updates!r}")
    if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= 1_000:
        raise InputError(f"seeds is a whole number from 1 to 1000, not {seeds!r}")
    rules = [find_optimizer(spec) for spec in optimizers]
    if not rules:
        raise InputError("name at least one optimizer")
    where = surface_of(surface, inputs, targets, loss=loss, start=start, output=output)
    count = max(3, seeds // 2 if isinstance(where, NetworkSurface) else seeds)
    contests: dict[str, Contest] = {}
    with task("searching rates", len(rules)) as advance:
        for rule in rules:
            label = _label(rule, contests)
            contests[label] = compete(where, rule, updates, range(count), range(FIRST_MEASURED, FIRST_MEASURED + seeds))
            advance(note=f"{label}: lr {contests[label].lr:.3g}")
    return Trajectories(where, contests, updates, count, seeds)


def _label(rule: Any, taken: Any) -> str:
    """The rule's name with the settings that are not its defaults; numbered where that is taken."""
    name: str = rule.rule.name
    own = {k: v for k, v in rule.hyper.items() if k != "lr" and v != rule.rule.hyper.get(k)}
    label = " ".join([name, *(_setting(k, v) for k, v in own.items() if v is not None)])
    return label if label not in taken else f"{label} #{len(taken) + 1}"


def _setting(name: str, value: Any) -> str:
    return name if value is True else str(value) if isinstance(value, str) else f"{name} {float(value):g}"
