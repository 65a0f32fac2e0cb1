"""L-BFGS over numbers: the two loops read from their formulas, the line search and the tests for the end as in torch.optim.

Nocedal and Wright 2006, algorithms 7.4, 7.5, 3.5 and 3.6; the interpolation is the minimum of the cubic through two values and
two slopes (their equation 3.59). All parameters are one vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...domains.numbers import evaluate
from ...formula.read import add_formula
from ...graph import Builder, Graph, Node
from ...optimizers.lbfgs import direction

__all__ = ["QuasiNewton", "direction_graph"]

Asked = Callable[[Tensor], tuple[float, Tensor]]
ARMIJO, CURVATURE, MOST_TRIALS = 1e-4, 0.9, 25
LEAST_CURVATURE = 1e-10


@lru_cache(maxsize=256)
def direction_graph(pairs: int, size: int) -> Graph:
    """The direction from so many pairs of vectors of a size, as a Graph."""
    builder = Builder()
    leaves = ["g", *(f"{n}_{i}" for i in range(1, pairs + 1) for n in "sy")]
    names: dict[str, Node] = {n: builder.leaf(n, "input", (size,), "float64") for n in leaves}
    for name, text in direction(pairs):
        add_formula(builder, names, name, text, f"the direction of L-BFGS: {name}")
    return Graph(tuple(builder.nodes), (names["d"],), title="lbfgs")


@dataclass
class _Point:
    """A place on the line: how far along, the loss, the gradient, and the slope of the loss along the line."""

    t: float
    loss: float
    gradient: Tensor
    slope: float


@dataclass
class QuasiNewton:
    """torch.optim.LBFGS as its formulas say, on one vector.

    Args:
        hyper: its settings under torch's names.
        pairs: the pairs (step, change of the gradient) kept, oldest first.
        count: the inner steps made so far.
        asked: how often the loss was asked for.
    """

    hyper: dict[str, Any]
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    count: int = 0
    asked: int = 0
    d: Tensor | None = None
    previous: Tensor | None = None
    t: float = 1.0

    def step(self, w: Tensor, ask: Asked) -> Tensor:
        """Make one update: up to ``max_iter`` steps from ``w``; ``ask`` gives the loss and the gradient at a point."""
        h = self.hyper
        evaluations = int(h["max_eval"] or int(h["max_iter"]) * 5 // 4)
        loss, gradient = self._ask(ask, w)
        used = 1
        if float(gradient.abs().max()) <= h["tolerance_grad"]:
            return w
        for inner in range(1, int(h["max_iter"]) + 1):
            d = self._turn(gradient)
            before = loss
            slope = float(gradient.dot(d))
            if slope > -h["tolerance_change"]:
                break
            if h["line_search_fn"] == "strong_wolfe":
                found, trials = self._search(w, d, _Point(0.0, loss, gradient, slope), ask, evaluations - used)
                self.t, loss, gradient, used = found.t, found.loss, found.gradient, used + trials
                w = w + self.t * d
            else:
                w = w + self.t * d
                if inner == int(h["max_iter"]):
                    break
                (loss, gradient), used = self._ask(ask, w), used + 1
            if used >= evaluations or self._at_rest(gradient, d, loss - before):
                break
        return w

    def _at_rest(self, gradient: Tensor, d: Tensor, gained: float) -> bool:
        h = self.hyper
        flat = float(gradient.abs().max()) <= float(h["tolerance_grad"])
        change = float(h["tolerance_change"])
        return flat or float((self.t * d).abs().max()) <= change or abs(gained) < change

    def _ask(self, ask: Asked, w: Tensor) -> tuple[float, Tensor]:
        self.asked += 1
        return ask(w)

    def _turn(self, gradient: Tensor) -> Tensor:
        """The next direction, with the last step entered among the pairs, and the first guess of its length."""
        self.count += 1
        lr = float(self.hyper["lr"])
        if self.count == 1 or self.previous is None or self.d is None:
            self.d, self.t = -gradient, min(1.0, 1.0 / float(gradient.abs().sum())) * lr
        else:
            y, s = gradient - self.previous, self.t * self.d
            if float(y.dot(s)) > LEAST_CURVATURE:
                self.pairs = [*self.pairs, (s, y)][-int(self.hyper["history_size"]) :]
            self.d, self.t = self._read(gradient), lr
        self.previous = gradient.clone()
        return self.d

    def _read(self, gradient: Tensor) -> Tensor:
        graph = direction_graph(len(self.pairs), gradient.numel())
        given = {"g": gradient}
        for i, (s, y) in enumerate(self.pairs, 1):
            given |= {f"s_{i}": s, f"y_{i}": y}
        leaves = {n: given[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"}
        return evaluate(graph, leaves)[graph.outputs[0]]

    # --- the line search ------------------------------------------------------------------------------------------------
    def _search(self, w: Tensor, d: Tensor, start: _Point, ask: Asked, most: int) -> tuple[_Point, int]:
        """A step length that meets the strong Wolfe conditions, or the best that was found; and how often it asked."""
        trials = 0

        def at(t: float) -> _Point:
            nonlocal trials
            trials += 1
            loss, gradient = self._ask(ask, w + t * d)
            return _Point(t, loss, gradient, float(gradient.dot(d)))

        limit = most
        size = float(d.abs().max())
        bracket = self._bracket(start, at(self.t), at, limit)
        if len(bracket.points) == 1:
            return bracket.points[0], trials
        return self._zoom(start, bracket, at, limit, size), trials

    def _bracket(self, start: _Point, new: _Point, at: Callable[[float], _Point], limit: int) -> _Bracket:
        """Go further until a good step lies between two that were tried."""
        last = start
        for tried in range(limit):
            too_far = new.loss > start.loss + ARMIJO * new.t * start.slope or (tried > 1 and new.loss >= last.loss)
            if too_far:
                return _Bracket([last, new], tried)
            if abs(new.slope) <= -CURVATURE * start.slope:
                return _Bracket([new], tried)
            if new.slope >= 0:
                return _Bracket([last, new], tried)
            least, most = new.t + 0.01 * (new.t - last.t), new.t * 10
            t = _cubic(last, new, (least, most))
            last, new = new, at(t)
        return _Bracket([start, new], limit)

    def _zoom(self, start: _Point, bracket: _Bracket, at: Callable[[float], _Point], limit: int, size: float) -> _Point:
        """Narrow the bracket until its lower end meets the conditions."""
        points, tried, stuck = bracket.points, bracket.tried, False
        low, high = (0, 1) if points[0].loss <= points[1].loss else (1, 0)
        while tried < limit:
            width = abs(points[1].t - points[0].t)
            if width * size < self.hyper["tolerance_change"]:
                break
            t, stuck = _inside(points, stuck)
            new = at(t)
            tried += 1
            if new.loss > start.loss + ARMIJO * new.t * start.slope or new.loss >= points[low].loss:
                points[high] = new
                low, high = (0, 1) if points[0].loss <= points[1].loss else (1, 0)
                continue
            done = abs(new.slope) <= -CURVATURE * start.slope
            if not done and new.slope * (points[high].t - points[low].t) >= 0:
                points[high] = points[low]
            points[low] = new
            if done:
                break
        return points[low]


@dataclass
class _Bracket:
    points: list[_Point]
    tried: int


def _cubic(a: _Point, b: _Point, bounds: tuple[float, float] | None = None) -> float:
    """The minimum of the cubic through two values and slopes, kept within bounds; their middle where it has none."""
    least, most = bounds or (min(a.t, b.t), max(a.t, b.t))
    left, right = (a, b) if a.t <= b.t else (b, a)
    mean = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = mean**2 - a.slope * b.slope
    if square < 0:
        return (least + most) / 2
    root = torch.tensor(square, dtype=torch.float64).sqrt().item()
    share = (right.slope + root - mean) / (right.slope - left.slope + 2 * root)
    return min(max(right.t - (right.t - left.t) * share, least), most)


def _inside(points: list[_Point], stuck: bool) -> tuple[float, bool]:
    """The next trial inside a bracket; not too near its ends twice in a row."""
    t = _cubic(points[0], points[1])
    low, high = sorted(p.t for p in points)
    margin = 0.1 * (high - low)
    if min(high - t, t - low) >= margin:
        return t, False
    if not (stuck or t >= high or t <= low):
        return t, True
    return (high - margin if abs(t - high) < abs(t - low) else low + margin), False
