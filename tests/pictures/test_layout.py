"""The geometry of layered layouts, on random graphs."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import time
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.errors import BackproofError
from backproof.pictures.layout import Layout, layered
from backproof.pictures.ranks import components
from backproof.pictures.routes import Box, clipped, crosses
from backproof.pictures.spread import separated

Sizes = dict[int, tuple[float, float]]
Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn, most: int = 14) -> tuple[Sizes, Edges]:
    count = draw(st.integers(1, most))
    length = st.floats(4, 120)
    sizes = {node: (draw(length), draw(length)) for node in range(count)}
    pairs = [(a, b) for b in range(count) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=3 * count)) if pairs else []
    return sizes, edges


def boxes(sizes: Sizes, plan: Layout) -> dict[int, Box]:
    return {node: Box(*plan.centers[node], *size) for node, size in sizes.items()}


flows = st.sampled_from(["right", "down"])


@given(graphs(), flows)
def test_nodes_never_overlap_and_lie_on_the_canvas(graph: tuple[Sizes, Edges], flow: str) -> None:
    sizes, edges = graph
    plan = layered(sizes, edges, flow=flow)  # type: ignore[arg-type]
    found = boxes(sizes, plan)
    for a, b in combinations(found.values(), 2):
        apart = abs(a.x - b.x) - (a.width + b.width) / 2, abs(a.y - b.y) - (a.height + b.height) / 2
        assert max(apart) > 10
    for box in found.values():
        assert box.width / 2 - 1e-6 <= box.x <= plan.width - box.width / 2 + 1e-6
        assert box.height / 2 - 1e-6 <= box.y <= plan.height - box.height / 2 + 1e-6


@given(graphs(), flows)
def test_edges_go_with_time_from_centre_to_centre(graph: tuple[Sizes, Edges], flow: str) -> None:
    sizes, edges = graph
    plan = layered(sizes, edges, flow=flow)  # type: ignore[arg-type]
    axis = 0 if flow == "right" else 1
    assert set(plan.routes) == set(edges)
    for (a, b), points in plan.routes.items():
        assert (points[0], points[-1]) == (plan.centers[a], plan.centers[b])
        assert all(math.isfinite(value) for point in points for value in point)
        assert all(p[axis] <= q[axis] + 1e-6 for p, q in pairwise(points))
        assert points[0][axis] < points[-1][axis]


@given(graphs(), flows)
def test_no_edge_crosses_a_node_that_is_not_its_end(graph: tuple[Sizes, Edges], flow: str) -> None:
    sizes, edges = graph
    plan = layered(sizes, edges, flow=flow)  # type: ignore[arg-type]
    found = boxes(sizes, plan)
    for edge, points in plan.routes.items():
        others = [box for node, box in found.items() if node not in edge]
        assert not any(crosses(p, q, box, -0.5) for p, q in pairwise(points) for box in others), edge


@given(graphs(), st.randoms(use_true_random=False))
def test_a_spine_is_straight_and_captions_keep_their_room(graph: tuple[Sizes, Edges], chance: random.Random) -> None:
    sizes, edges = graph
    spine = [0]
    while following := [b for a, b in edges if a == spine[-1]]:
        spine.append(chance.choice(following))
    aside = {node: chance.uniform(0, 60) for node in sizes}
    plan = layered(sizes, edges, spine=spine, aside=aside)
    assert len({plan.centers[node][1] for node in spine}) == 1
    tall = {n: Box(x, y + aside[n] / 2, sizes[n][0], sizes[n][1] + aside[n]) for n, (x, y) in plan.centers.items()}
    for a, b in combinations(tall.values(), 2):
        assert abs(a.x - b.x) > (a.width + b.width) / 2 or abs(a.y - b.y) > (a.height + b.height) / 2


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.1, 5), st.floats(0, 20)), min_size=1, max_size=7))
def test_separated_positions_are_the_nearest_that_keep_their_distances(
    rows: list[tuple[float, float, float]],
) -> None:
    wishes, weights, distances = ([row[i] for row in rows] for i in range(3))
    found = separated(wishes, weights, distances[1:])
    assert all(b - a >= d - 1e-6 for (a, b), d in zip(pairwise(found), distances[1:], strict=True))

    def cost(places: list[float]) -> float:
        return sum(w * (x - wish) ** 2 for x, wish, w in zip(places, wishes, weights, strict=True))

    for shift in (-0.1, 0.1):
        for first in range(len(found)):
            for last in range(first, len(found)):
                moved = [x + shift if first <= i <= last else x for i, x in enumerate(found)]
                if all(b - a >= d for (a, b), d in zip(pairwise(moved), distances[1:], strict=True)):
                    assert cost(moved) >= cost(found) - 1e-6


def test_parts_that_are_not_joined_lie_beside_one_another() -> None:
    sizes = dict.fromkeys("abcd", (20.0, 20.0))
    plan = layered(sizes, [("a", "b"), ("c", "d")])
    assert plan.centers["a"][1] == plan.centers["b"][1] != plan.centers["c"][1]
    assert components(sizes, [("a", "b"), ("c", "d")]) == [["a", "b"], ["c", "d"]]


def test_one_node_and_none() -> None:
    assert layered({"a": (30, 20)}, []).centers == {"a": (15, 10)}
    assert layered({}, []).width == 0


@pytest.mark.parametrize("edges", [[("a", "b"), ("b", "a")], [("a", "a")]])
def test_a_cycle_is_refused(edges: list[tuple[str, str]]) -> None:
    with pytest.raises(BackproofError, match="without a cycle"):
        layered({"a": (9, 9), "b": (9, 9)}, edges)


def test_an_unknown_node_is_refused() -> None:
    with pytest.raises(BackproofError, match="names 'b'"):
        layered({"a": (9, 9)}, [("a", "b")])


def many(count: int) -> tuple[Sizes, Edges]:
    chance = random.Random(1)
    sizes = {node: (chance.uniform(20, 90), chance.uniform(20, 40)) for node in range(count)}
    pairs = {(chance.randrange(max(0, b - 4), b), b) for b in range(1, count) for _ in range(2)}
    return sizes, sorted(pairs)


def test_three_hundred_nodes_are_quick() -> None:
    graph = many(300)

    def seconds() -> float:
        start = time.process_time()
        layered(*graph)
        return time.process_time() - start

    assert min(seconds() for _ in range(4)) < 0.2


def test_the_layout_is_the_same_in_every_process() -> None:
    program = (
        "from backproof.pictures.layout import layered\n"
        "names = [f'n{i}' for i in range(40)]\n"
        "edges = [(names[i], names[j]) for i in range(40) for j in (i + 1, i + 3, i + 8) if j < 40]\n"
        "print(layered({name: (30, 20) for name in names}, edges))"
    )

    def printed(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert printed("1") == printed("2")


@settings(max_examples=50)
@given(st.floats(-200, 200), st.floats(-200, 200), st.booleans())
def test_clipped_lines_end_on_the_borders(x: float, y: float, is_round: bool) -> None:
    start, end = Box(0, 0, 40, 40), Box(x, y, 40, 40)
    if math.dist((0, 0), (x, y)) < 70:
        return
    line = clipped(((0, 0), (x, y)), start, end, round_start=is_round, round_end=is_round, space=0)
    for point, box in zip((line[0], line[-1]), (start, end), strict=True):
        dx, dy = abs(point[0] - box.x), abs(point[1] - box.y)
        assert (math.hypot(dx, dy) if is_round else max(dx, dy)) == pytest.approx(20, abs=1e-3)
