"""The balls domain encloses what every operation can give, and is exact where the answer is rational."""

from __future__ import annotations

import random

import flint
import mpmath
import pytest
import sympy
import torch

import backproof as bp
from backproof.domains.balls import Box, read_balls
from backproof.domains.curves import X, curve, precision, rational
from backproof.domains.spans import Span, Unbounded
from backproof.ops import OPS, Elementwise, derivative

Q = flint.fmpq
FUNCTIONS = sorted(
    op.name
    for op in OPS.values()
    if isinstance(op, Elementwise) and op.operands == ("x",) and op.differentiable and None not in op.attrs.values()
)
"""Every function of one variable that has a slope; an activation added to ops is tried here too."""


def sizes(name: str, which: str):
    op = OPS[name] if which == "value" else derivative(OPS[name], 0)
    expr = sympy.nsimplify(op.formula(X), rational=True)  # 0.01 means one hundredth
    return curve(expr), sympy.lambdify(X, expr, "mpmath")


@pytest.mark.parametrize("which", ["value", "slope"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_range_holds_every_value_and_is_no_wider_than_they_are(name: str, which: str) -> None:
    made, function = sizes(name, which)
    draw = random.Random(name)
    region = [round(100 * end) for end in OPS[name].region]  # type: ignore[attr-defined]
    for _ in range(3):
        a, b = sorted(Q(draw.randint(*region), 100) for _ in range(2))
        with mpmath.workdps(50):
            (lo, hi), start, end = (digits(v) for v in made.range(a, b)), digits(a), digits(b)
            seen = [function(start + i * (end - start) / 200) for i in range(201)]
            slack = mpmath.mpf(10) ** -30  # of the 50 digits of this comparison, not of the range
            assert lo <= min(seen) + slack and max(seen) <= hi + slack
            assert hi - max(seen) <= 0.02 * (1 + hi - lo) and min(seen) - lo <= 0.02 * (1 + hi - lo)


def digits(fraction: flint.fmpq) -> mpmath.mpf:
    return mpmath.mpf(int(fraction.p)) / int(fraction.q)


@pytest.mark.parametrize(
    ("name", "largest"),
    [("sigmoid", Q(1, 4)), ("tanh", Q(1)), ("relu", Q(1)), ("sin", Q(1)), ("hardsigmoid", Q(1, 6)), ("softsign", Q(1))],
)
def test_the_largest_slope_is_the_fraction_that_it_is(name: str, largest: object) -> None:
    made, _ = sizes(name, "slope")
    assert made.range(Q(-4), Q(5))[1] == largest


def test_a_slope_that_is_no_fraction_is_rounded_upwards() -> None:
    made, function = sizes("gelu", "slope")
    with mpmath.workdps(60):
        peak = function(mpmath.sqrt(2))
        hi = made.range(Q(-3), Q(3))[1]
        above = mpmath.mpf(int(hi.p)) / int(hi.q) - peak
        assert 0 <= above < mpmath.mpf(10) ** -30


def test_a_kink_belongs_to_the_side_that_is_meant() -> None:
    made, _ = sizes("relu", "slope")
    assert made.range(Q(-1), Q(0)) == (0, 0) and made.range(Q(0), Q(0)) == (0, 0) and made.range(Q(-1), Q(1)) == (0, 1)


def test_what_has_no_bound_is_refused() -> None:
    with pytest.raises(Unbounded):
        curve(1 / X).range(Q(-1), Q(1))
    assert curve(1 / X).range(Q(1), Q(4)) == (Q(1, 4), Q(1))
    with pytest.raises(Unbounded):
        Span.of(Q(-1), Q(1)).inverse()


@pytest.mark.parametrize(("given", "means"), [(0.1, Q(1, 10)), ("1/3", Q(1, 3)), (2, Q(2)), (-1.5, Q(-3, 2))])
def test_a_number_means_what_a_person_means(given: object, means: object) -> None:
    assert rational(given) == means


@pytest.mark.parametrize("given", [float("nan"), float("inf"), "x", None, "1/0"])
def test_what_is_no_number_is_refused(given: object) -> None:
    with pytest.raises(bp.InputError, match="finite number"):
        rational(given)


def test_more_precision_gives_a_narrower_range() -> None:
    made = sympy.exp(X)
    with precision(60):
        wide = curve(made).range(Q(1), Q(2))
    narrow = curve(made).range(Q(1), Q(2))
    assert wide[0] <= narrow[0] and narrow[1] <= wide[1] and wide != narrow


class Mixed(torch.nn.Module):
    """Products, sums, reductions, shapes and functions in one."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        s = torch.tanh(a @ b) * 0.5 - a.mean(1, keepdim=True)
        t = torch.outer(s[0], b[:, 1]).reshape(-1).unsqueeze(0).expand(2, -1)
        return (t.sum(0) / (3 + torch.sigmoid(b.sum())) + (a * a).sum()).permute(0)


def test_a_graph_over_boxes_holds_every_run() -> None:
    graph = bp.capture(Mixed(), torch.zeros(2, 3), torch.zeros(3, 3))
    a, b = graph.of_role("input")
    boxes = read_balls(graph, {a: Box.filled(Q(-1), Q(2), a.shape), b: Box.filled(Q(-1, 2), Q(1), b.shape)})
    box = boxes[graph.outputs[0]]
    lo, hi = (torch.tensor([int(v.p) / int(v.q) for v in end], dtype=torch.float64) for end in (box.lo, box.hi))
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        values = torch.rand(15, generator=generator, dtype=torch.float64)
        out = Mixed()(values[:6].reshape(2, 3) * 3 - 1, values[6:].reshape(3, 3) * 1.5 - 0.5)
        assert bool((lo <= out).all() and (out <= hi).all())


def test_a_point_is_computed_exactly() -> None:
    graph = bp.capture(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Sigmoid()), torch.zeros(2))
    known = {"0.weight": [[0.5, -0.25]], "0.bias": [0.0], "input": [1.0, 2.0]}
    boxes = read_balls(graph, {n: Box.exactly(known[n.name], n.shape) for n in graph.nodes if n.is_leaf})
    out = boxes[graph.outputs[0]]
    assert out.lo[0] == out.hi[0] == Q(1, 2)
