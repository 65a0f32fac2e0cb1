"""The network of units as a drawing."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.document.drawing import Drawing, Ellipse, Label, Path, Rectangle
from backproof.document.math import Num, Sym
from backproof.graph import Graph
from backproof.pictures import units
from backproof.pictures.chain import chain
from backproof.pictures.frame import bounds
from backproof.pictures.placing import Line, label_places
from backproof.pictures.routes import Box
from tests.pictures.models import CHAINS, formula, likelihood, perceptron, relu_tanh, residual, sine

WEIGHTS = {"W": [[0.60, 0.70, 0.00], [0.01, 0.43, -0.88]], "w": [0.02, 0.03, 0.09]}


def drawn(graph: Graph, **more: Any) -> Drawing:
    drawing = units(graph, **more)
    assert drawing is not None
    return drawing


def filled(graph: Graph) -> dict[str, Any]:
    """Numbers for every parameter, of both signs."""

    def fill(shape: tuple[int, ...], start: float) -> Any:
        return [fill(shape[1:], start + 0.37 * i) for i in range(shape[0])] if shape else math.sin(7 * start)

    return {node.name: fill(node.shape, 0.1 + i) for i, node in enumerate(graph.parameters)}


@pytest.fixture(scope="module", params=CHAINS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return CHAINS[request.param]()


def lines(drawing: Drawing, graph: Graph) -> list[Path]:
    """The weights' lines."""
    found = chain(graph)
    assert found
    names = {layer.weight.node.name for layer in found.layers}
    return [s for s in drawing.shapes if isinstance(s, Path) and s.ref and s.ref.name in names]


def test_the_geometry(graph: Graph) -> None:
    for drawing in (drawn(graph), drawn(graph, weights=filled(graph))):
        assert drawing.width <= 720
        for shape in drawing.shapes:
            left, top, right, bottom = bounds(shape)
            assert all(map(math.isfinite, bounds(shape)))
            assert min(left, top) >= 0 and right <= drawing.width and bottom <= drawing.height
        circles = [bounds(shape) for shape in drawing.shapes if isinstance(shape, Ellipse)]
        assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for a, b in combinations(circles, 2))


def test_labels_cover_no_label_and_no_unit(graph: Graph) -> None:
    drawing = drawn(graph, weights=filled(graph))
    labels = [bounds(shape) for shape in drawing.shapes if isinstance(shape, Label)]
    for a, b in combinations(labels, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_every_weight_has_its_line_and_every_bias_its_arrow(graph: Graph) -> None:
    drawing, found = drawn(graph), chain(graph)
    assert found
    refs = Counter(s.ref.name for s in drawing.shapes if isinstance(s, Path) and s.ref)
    for layer in found.layers:
        assert refs[layer.weight.node.name] == layer.weight.node.size == layer.inputs * layer.outputs
        for bias in layer.biases:
            assert refs[bias.node.name] == layer.outputs
    indices = [(line.ref.name, line.ref.index) for line in lines(drawing, graph) if line.ref]
    assert len(set(indices)) == len(indices)


def test_references_lie_within_the_quantities(graph: Graph) -> None:
    for shape in drawn(graph, weights=filled(graph)).shapes:
        if shape.ref and shape.ref.index:
            size = graph.by_name[shape.ref.name].shape
            assert len(shape.ref.index) == len(size)
            assert all(0 <= place < n for place, n in zip(shape.ref.index, size, strict=True))


def test_the_drawing_is_the_same_each_time(graph: Graph) -> None:
    assert units(graph, weights=filled(graph)) == units(graph, weights=filled(graph))


def test_numbers_thickness_and_sign() -> None:
    graph = relu_tanh()
    drawing = drawn(graph, weights=WEIGHTS)
    found = {line.ref.index: line for line in lines(drawing, graph) if line.ref and line.ref.name == "W"}
    assert found[0, 0].role == "positive" and found[1, 2].role == "negative" and found[0, 2].role == "muted"
    assert found[1, 2].width > found[0, 1].width > found[0, 0].width > found[1, 0].width > found[0, 2].width
    contents = [s.content for s in drawing.shapes if isinstance(s, Label) and isinstance(s.content, Num)]
    numbers = {number.ref.index: number.value for number in contents if number.ref and number.ref.name == "W"}
    assert numbers == {(i, j): WEIGHTS["W"][i][j] for i in range(2) for j in range(3)}


def test_an_exact_weight_keeps_its_spelling() -> None:
    half = Num(1.5707963, exact="pi/2")
    labels = [s.content for s in drawn(sine(), weights={"w": [half, 3]}).shapes if isinstance(s, Label)]
    assert any(isinstance(label, Num) and label.exact == "pi/2" for label in labels)


def test_units_carry_both_values_and_the_sample() -> None:
    labels = [s for s in drawn(relu_tanh(), sample=2).shapes if isinstance(s, Label)]
    refs = {(label.ref.name, label.ref.index) for label in labels if label.ref}
    assert {("X", (2, 1)), ("s", (2, 0)), ("z", (2, 2)), ("s_out", (2,)), ("y_out", (2,))} <= refs
    symbols = {(s.content.name, s.content.sub) for s in labels if isinstance(s.content, Sym)}
    assert {("x", ("1",)), ("s", ("3",)), ("z", ("1",)), ("y", ("out",))} <= symbols


def test_the_loss_and_its_target() -> None:
    shapes = drawn(relu_tanh()).shapes
    assert [s.ref.name for s in shapes if isinstance(s, Ellipse) and s.role == "loss" and s.ref] == ["L"]
    assert [s.ref.name for s in shapes if isinstance(s, Rectangle) and s.role == "given" and s.ref] == ["y"]


def test_a_chain_is_read_from_its_operations() -> None:
    found = chain(sine())
    assert found and len(found.layers) == 1
    (layer,) = found.layers
    assert (layer.before.name, layer.after.name, layer.functions) == ("u", "y", ["sin"])
    assert [(bias.node.name, bias.minus, bias.late) for bias in layer.biases] == [("b", True, True)]
    sigmoid = chain(likelihood())
    assert sigmoid and [bias.late for bias in sigmoid.layers[0].biases] == [False]


@pytest.mark.parametrize(
    "formulas",
    [
        {"h": "X @ W", "y": "tanh(h) + h"},
        {"h": "X @ W", "k": "X @ W", "y": "h * k"},
        {"y": "X * 2"},
        {"h": "X @ W", "y": "h * c", "L": "sum(y)"},
    ],
    ids=["two ways", "two branches", "no weight", "a gate"],
)
def test_anything_else_is_no_chain(formulas: dict[str, str]) -> None:
    given = {"X": (4, 2), "W": (2, 3), "c": (3,)}
    used = {name: shape for name, shape in given.items() if any(name in text for text in formulas.values())}
    assert units(formula(formulas, **used)) is None


def test_large_or_branching_networks_are_not_drawn_unit_by_unit() -> None:
    assert units(residual(1)) is None
    assert units(perceptron(2, 13, 1)) is None
    assert units(perceptron(12, 12, 12)) is None


def test_a_parameter_outside_the_chain_is_never_left_out() -> None:
    graph = formula({"s": "X @ W", "L": "sum(s**2) + sum(w**2)"}, X=(4, 2), W=(2, 3), w=(3,))
    assert units(graph) is None


@settings(max_examples=12)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.booleans())
def test_random_perceptrons(widths: list[int], bias: bool) -> None:
    graph = perceptron(*widths, bias=bias)
    found = chain(graph)
    assert found and [found.layers[0].inputs, *(layer.outputs for layer in found.layers)] == widths
    assert len(lines(drawn(graph), graph)) == sum(a * b for a, b in pairwise(widths))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20))
def test_labels_on_lines_never_overlap(ends: list[tuple[int, int]]) -> None:
    crowd = [Line((0, 40 * a), (150, 40 * b)) for a, b in ends]
    places = [box for box in label_places(crowd, [(40, 15)] * len(crowd), [Box(0, 0, 40, 40)]) if box]
    for a, b in combinations([*places, Box(0, 0, 40, 40)], 2):
        assert abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2
