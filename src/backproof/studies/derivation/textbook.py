"""The textbook's view of a network: a normalisation that computes its own mean and variance is one step, not four.

The graph is the same, but what goes back through such a step is written in the closed form that books print:

- batch norm in training: Ioffe and Szegedy, Batch normalization (2015), section 3, with the sums over the batch collected:
  δ_x = (γ/√(σ² + ε)) ⊙ (δ - mean δ - x̂ ⊙ mean(δ ⊙ x̂));
- layer norm: Ba, Kiros and Hinton, Layer normalization (2016), the same with the means over a sample's features and
  δ ⊙ γ in the place of δ;
- RMS norm: Zhang and Sennrich, Root mean square layer normalization (2019): no mean is taken off, so the first mean is
  missing.
"""

from __future__ import annotations

from dataclasses import replace

from ...graph import Graph, Node
from ...ops import OPS, Op
from ...ops.shapes import axes_of
from ...ops.textbook import SCALE, STANDARDISE

__all__ = ["as_textbook"]


def as_textbook(graph: Graph) -> Graph:
    """The same network with each normalisation by x's own mean and variance as one step x̂ and its affine map."""
    if not any(_is_own(n) or _rms(n) for n in graph.nodes):
        return graph
    made = _Made(graph)
    for node in graph.nodes:
        made.add(node)
    loss = None if graph.loss is None else made.twins[graph.loss]
    outputs = tuple(made.twins[n] for n in graph.outputs)
    return Graph(tuple(made.nodes), outputs, loss, graph.title, graph.origin)


def _is_own(node: Node) -> bool:
    """Whether a normalisation's mean and variance are those of its input."""
    if node.op.name not in ("batch_norm", "layer_norm"):
        return False
    x, mean, var = node.inputs[:3]
    same = mean.op.name == "mean" and var.op.name == "var" and mean.inputs[0] is x and var.inputs[0] is x
    return (
        same and not var.attrs["correction"] and mean.attrs["dim"] == var.attrs["dim"] and mean.attrs["dim"] is not None
    )


def _rms(node: Node) -> tuple[Node, Node, tuple[int, ...]] | None:
    """x, r and the axes of the mean, where a node is x r with r = 1/√(mean x² + ε) or x/√(mean x² + ε)."""
    if node.op.name != "mul" or len(node.inputs) != 2:
        return None
    for x, scale in (node.inputs, node.inputs[::-1]):
        mean = _mean_of_squares(scale, x)
        if mean is not None and scale.shape == mean.shape and node.shape == x.shape and mean.attrs["keepdim"]:
            return x, scale, axes_of(mean.attrs["dim"], len(x.shape))
    return None


def _mean_of_squares(scale: Node, x: Node) -> Node | None:
    if scale.op.name != "rsqrt":
        return None
    inside = scale.inputs[0]
    terms = inside.inputs if inside.op.name == "add" else (inside,)
    if any(t.op.name != "mean" and t.role != "constant" for t in terms):
        return None
    mean = next((t for t in terms if t.op.name == "mean"), None)
    return mean if mean is not None and _is_square(mean.inputs[0], x) else None


def _is_square(node: Node, x: Node) -> bool:
    if node.op.name == "pow" and node.inputs[0] is x:
        return node.inputs[1].role == "constant" and node.inputs[1].size == 1 and node.inputs[1].value in (2, 2.0)
    return (node.op.name == "square" and node.inputs[0] is x) or (node.op.name == "mul" and node.inputs == (x, x))


class _Made:
    """The nodes of the new graph, and the twin of each old one."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self.twins: dict[Node, Node] = {}
        self.names = {n.name for n in graph.nodes}

    def add(self, node: Node) -> None:
        inputs = tuple(self.twins[x] for x in node.inputs)
        if _is_own(node):
            twin = self._normalised(node, inputs)
        elif (found := _rms(node)) is not None:
            x, scale, axes = found
            twin = self._hat(node, SCALE, (self.twins[x], self.twins[scale]), axes, node.role == "value")
        else:
            twin = replace(node, inputs=inputs)
            self.nodes.append(twin)
        self.twins[node] = twin

    def _normalised(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        axes = axes_of(node.inputs[1].attrs["dim"], len(node.shape))
        hat = self._hat(node, STANDARDISE, inputs[:3], axes, len(inputs) == 3)
        last = hat
        for op, operand in zip(("mul", "add"), inputs[3:], strict=False):
            wide = self._wide(node, operand)
            is_last = operand is inputs[-1]
            name, role = (node.name, node.role) if is_last else (self._free(f"{node.module}.{op}"), "helper")
            last = replace(node, op=OPS[op], inputs=(wide, last) if op == "mul" else (last, wide), attrs={},
                           name=name, role=role)  # fmt: skip
            self.nodes.append(last)
        return last

    def _hat(self, node: Node, op: Op, inputs: tuple[Node, ...], axes: tuple[int, ...], is_node: bool) -> Node:
        """x̂: the node itself where nothing follows, else a value of its own."""
        path = node.module or node.name.rpartition(".")[0]
        name = node.name if is_node else self._free(f"{path}.x_hat" if path else "x_hat")
        attrs = {"dim": axes, "eps": node.attrs.get("eps", 0.0)}
        hat = replace(node, op=op, inputs=inputs, attrs=attrs, name=name, role="value")
        self.nodes.append(hat)
        return hat

    def _wide(self, node: Node, operand: Node) -> Node:
        """A vector with one entry per channel in the shape in which it broadcasts against a batch norm's input."""
        if node.op.name != "batch_norm" or len(node.shape) == 2:
            return operand
        shape = (*operand.shape, *(1,) * (len(node.shape) - 2))
        wide = replace(operand, op=OPS["reshape"], inputs=(operand,), attrs={"shape": shape}, shape=shape,
                       name=self._free(f"{node.module}.wide"), role="helper", value=None)  # fmt: skip
        self.nodes.append(wide)
        return wide

    def _free(self, name: str) -> str:
        count, found = 2, name
        while found in self.names:
            found, count = f"{name}#{count}", count + 1
        self.names.add(found)
        return found
