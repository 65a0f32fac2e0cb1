"""The computational graph as a drawing."""

from __future__ import annotations

import math
from itertools import combinations

import pytest

from backproof.differentiate import differentiate
from backproof.document.drawing import Drawing, Ellipse, Label, Path, Rectangle
from backproof.document.math import Sym
from backproof.graph import Builder, Graph
from backproof.pictures import operations
from backproof.pictures.folding import apart, folded_by_module, links
from backproof.pictures.frame import bounds
from backproof.pictures.signs import default_symbol, folded, sign
from tests.pictures.models import GRAPHS, formula, relu_tanh, residual, sine


@pytest.fixture(scope="module", params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return GRAPHS[request.param]()


def shown(drawing: Drawing) -> list[Rectangle | Ellipse]:
    return [shape for shape in drawing.shapes if isinstance(shape, Rectangle | Ellipse)]


def words(drawing: Drawing) -> list[str]:
    return [s.content for s in drawing.shapes if isinstance(s, Label) and isinstance(s.content, str)]


def check_geometry(drawing: Drawing) -> None:
    """Everything is finite and on the canvas, and no two boxes overlap."""
    for shape in drawing.shapes:
        left, top, right, bottom = bounds(shape)
        assert all(map(math.isfinite, bounds(shape)))
        assert min(left, top) >= 0 and right <= drawing.width and bottom <= drawing.height
    for a, b in combinations(map(bounds, shown(drawing)), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_the_geometry(graph: Graph) -> None:
    drawing = operations(graph)
    check_geometry(drawing)
    assert drawing.width <= 720


def test_every_leaf_and_every_operation_is_there_once(graph: Graph) -> None:
    inside = {constant.name for node in graph.nodes for constant in folded(node)}
    expected = sorted(node.name for node in graph.nodes if node.name not in inside)
    assert sorted(shape.ref.name for shape in shown(operations(graph)) if shape.ref) == expected


def test_every_operand_has_its_arrow(graph: Graph) -> None:
    arrows = [s for s in operations(graph).shapes if isinstance(s, Path)]
    inside = {constant for node in graph.nodes for constant in folded(node)}
    assert len(arrows) == sum(len(set(node.inputs) - inside) for node in graph.nodes)
    assert all(arrow.arrow and arrow.ref for arrow in arrows)


def test_labels_do_not_cover_one_another(graph: Graph) -> None:
    labels = [bounds(shape) for shape in operations(graph).shapes if isinstance(shape, Label)]
    for a, b in combinations(labels, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] + 1 or b[3] <= a[1] + 1


def test_the_drawing_is_the_same_each_time(graph: Graph) -> None:
    assert operations(graph) == operations(graph)


def test_what_a_picture_says() -> None:
    drawing = operations(relu_tanh())
    assert sorted(words(drawing)) == sorted(["×", "ReLU", "×", "tanh", "−", "( )²", "/2", "Σ"])
    symbols = [s.content for s in drawing.shapes if isinstance(s, Label) and isinstance(s.content, Sym)]
    assert sorted((s.name, s.sub) for s in symbols) == sorted(
        [
            ("X", ()),
            ("y", ()),
            ("W", ()),
            ("w", ()),
            ("s", ()),
            ("z", ()),
            ("s", ("out",)),
            ("y", ("out",)),
            ("L", ()),
        ]
    )


def test_roles() -> None:
    roles = {s.ref.name: s.role for s in shown(operations(relu_tanh())) if s.ref}
    assert roles["X"] == roles["y"] == "given"
    assert roles["W"] == roles["w"] == "parameter"
    assert roles["s"] == "forward" and roles["L"] == "loss"


def test_gradients_come_back_beside_the_arrows() -> None:
    graph = sine()
    drawing = operations(graph, joint=differentiate(graph))
    back = [s for s in drawing.shapes if isinstance(s, Path) and s.role == "backward"]
    assert {path.ref.name for path in back if path.ref and path.ref.kind == "gradient"} >= {"w", "u", "y"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x**2", "( )²"), ("x**3", "( )³"), ("x/2", "/2"), ("2/x", "2/( )"), ("x - 1", "−1"), ("1 - x", "1−( )"),
     ("x * 0.5", "·0.5"), ("x**-1", "1/( )"), ("-1 * x", "−1·( )"), ("x + pi", "+π"), ("x * -2", "·(−2)")],
)  # fmt: skip
def test_small_constants_stand_inside_the_sign(text: str, expected: str) -> None:
    graph = formula({"q": text}, x=())
    assert sign(graph.nodes[-1]) == expected
    assert [shape.ref.name for shape in shown(operations(graph)) if shape.ref] == ["x", "q"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("s_out", Sym("s", ("out",))), ("W1", Sym("W", ("1",))), ("h#2", Sym("h", (), ("2",))), ("x", Sym("x")),
     ("target", Sym("target"))],
)  # fmt: skip
def test_a_symbol_made_from_a_name(name: str, expected: Sym) -> None:
    graph = formula({"q": "x + 1"}, x=())
    node = type(graph.nodes[0])(**{**vars(graph.nodes[0]), "name": name})
    assert default_symbol(node) == expected


def test_a_parameter_of_a_module() -> None:
    symbols = [default_symbol(node) for node in residual(1).parameters]
    assert symbols[:2] == [Sym("W", (), ("stem",)), Sym("b", (), ("stem",))]


# --- large graphs ---
def test_modules_are_folded_and_equal_blocks_drawn_once() -> None:
    drawing = operations(residual(12), max_nodes=20)
    assert {"blocks.0 … blocks.11", "12 × 4 operations"} <= set(words(drawing))
    assert len([s for s in shown(drawing) if s.ref]) <= 20
    assert drawing.height < 500


@pytest.mark.parametrize("most", [3, 5, 10, 30])
def test_folding_keeps_every_operation_and_makes_no_cycle(most: int) -> None:
    graph = residual(6)
    groups = folded_by_module(graph, graph.nodes, most)
    computed = [node for group in groups for node in group.nodes if not node.is_leaf]
    assert len(computed) == len(set(computed)) == sum(not node.is_leaf for node in graph.nodes)
    assert sum(group.operations > 0 for group in groups) <= most
    operations(graph, max_nodes=most)  # a cycle would be refused


def test_a_module_around_another_becomes_two_boxes() -> None:
    builder = Builder()
    node = builder.leaf("x", "input", (2,), "float64")
    for place, module in enumerate(("a", "a", "b", "b", "a", "a")):
        node = builder.emit("tanh", node, name=f"h{place}", role="value", module=module)
    drawing = operations(Graph(tuple(builder.nodes), (node,)), max_nodes=3)
    assert [word for word in words(drawing) if word in ("a", "b")] == ["a", "b", "a"]


def test_a_graph_without_modules_is_cut_into_runs() -> None:
    steps = {"h0": "x * w"} | {f"h{i + 1}": f"tanh(w * h{i})" for i in range(60)}
    drawing = operations(formula(steps, x=(), w=()))
    assert len(shown(drawing)) <= 30
    check_geometry(drawing)


def test_links_know_the_operands_behind_them() -> None:
    graph = sine()
    groups = apart(graph.nodes)
    assert all(b.last in graph.users[a.last] for a, b in links(groups))
