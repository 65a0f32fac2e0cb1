"""What a network's graph and one run of it say besides the mean squares: units at rest, cuts, spreads of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ...domains.signals.norms import statistics_of
from ...graph import Graph, Node
from ...ops.shapes import axes_of
from .gates import Dropout, Gates, dropouts_of, gates_of
from .measuring import Measured, Network
from .predicting import function_behind, gains_of
from .softmaxes import Soft, softmaxes
from .through_time import Through, through_time

__all__ = ["Facts", "Weight", "facts_of", "weight_of"]

TABLE_SIZE = 3.0


@dataclass(frozen=True)
class Weight:
    """The parameter of a linear map, how many inputs each output has, and its bias."""

    node: Node
    fan_in: int
    bias: Node | None = None


@dataclass(frozen=True)
class Facts:
    """What may be wrong besides the flow.

    Args:
        not_finite: where the first NaN or infinity comes from, in words.
        cut: parameters that no gradient reaches though they are trained.
        frozen: parameters held fixed.
        symmetric, zeros: maps whose units all have the same weights; whose weights are all 0.
        biases: the mean of each map's biases.
        spreads: for each map the weights' root mean square, and what would keep the gradient.
        skips: how many sums have an identity path.
        input_scale: the root mean square of the inputs where no normalisation follows at once.
        has_loss: whether the backward pass starts from a loss.
        centred: a normalisation whose output the loss merely adds up, "" for none.
        flat: for each map behind which a normalisation has a scale of 0, the name of that scale.
        scales: all scales of normalisations that are 0.
        softs: the softmaxes.
        times: the weights that are applied again and again.
        gates: the bounded functions of each module that stand behind no linear map directly.
        dropouts: the dropouts.
        tables: the root mean squares of large embeddings behind which no normalisation follows at once.
    """

    not_finite: str = ""
    cut: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    symmetric: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    biases: Mapping[str, float] = None  # type: ignore[assignment]
    spreads: Mapping[str, tuple[float, float]] = None  # type: ignore[assignment]
    skips: int = 0
    input_scale: float = 1.0
    has_loss: bool = False
    centred: str = ""
    flat: Mapping[str, str] = field(default_factory=dict)
    scales: tuple[str, ...] = ()
    softs: tuple[Soft, ...] = ()
    times: tuple[Through, ...] = ()
    gates: tuple[Gates, ...] = ()
    dropouts: tuple[Dropout, ...] = ()
    tables: Mapping[str, float] = field(default_factory=dict)


def weight_of(graph: Graph, node: Node) -> Weight | None:
    """The weight behind a map's output (its bias added)."""
    bias = None
    if node.op.name == "add":
        bias = next((x for x in node.inputs if x.role == "parameter"), None)
        node = next((x for x in node.inputs if x.op.name == "matmul"), node)
    for place in (1, 0):
        if place >= len(node.inputs) or node.op.name not in ("linear", "matmul", "conv", "conv_transpose"):
            continue
        leaf, turned = node.inputs[place], False
        while leaf.op.name in ("permute", "cast", "reshape"):
            leaf, turned = leaf.inputs[0], turned != (leaf.op.name == "permute")
        if leaf.role == "parameter" and (place or node.op.name == "matmul"):
            last = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].role == "parameter" else bias
            return Weight(leaf, _fan_in(node, leaf, place, turned), last)
    return None


def _fan_in(node: Node, leaf: Node, place: int, turned: bool) -> int:
    shape = leaf.shape
    if node.op.name == "conv_transpose":
        return max(shape[0] * math.prod(shape[2:]) // math.prod(node.attrs["stride"]) // node.attrs["groups"], 1)  # type: ignore[no-any-return]
    if node.op.name in ("linear", "conv"):
        return max(math.prod(shape[1:]), 1)
    first = (place == 1) != turned  # x @ W sums over W's first axis, W @ x over its last
    return max(shape[0 if first else -1], 1)


def facts_of(network: Network, run: Measured, maps: Sequence[Node]) -> Facts:
    """Look at one run of a network."""
    graph = network.graph
    weights = {n: w for n in maps if (w := weight_of(graph, n)) is not None}
    values = {n: network.given[w.node] for n, w in weights.items()}
    return Facts(
        _first_not_finite(graph, run) or _first_on_the_way_back(run),
        _cut(network, graph),
        tuple(n.name for n in graph.parameters if n.is_frozen),
        tuple(n.name for n in maps if n in weights and _alike(values[n], weights[n])),
        tuple(n.name for n in maps if n in weights and not bool(values[n].any())),
        {n.name: float(network.given[w.bias].mean()) for n, w in weights.items() if w.bias is not None},
        {n.name: (_rms(values[n]), _wanted(graph, n) / math.sqrt(w.fan_in)) for n, w in weights.items()},
        sum(s["skip"] == "identity" for s in graph.facts["skips"]),
        max(
            (_rms(network.given[n]) for n in graph.of_role("input") if n.is_float and not _normed(graph, n)),
            default=1.0,
        ),
        graph.loss is not None,
        _centred(graph),
        {n.name: scale for n in maps if (scale := _flat(network, graph, n))},
        tuple(x.name for n in graph.nodes for x in _scales_at_zero(network, n)),
        softmaxes(graph, run.values),
        through_time(graph, run.backward),
        gates_of(graph, run.values, {f for n in maps if (f := function_behind(graph, n)) is not None}),
        dropouts_of(graph),
        _large_tables(network, graph),
    )


def _large_tables(network: Network, graph: Graph) -> dict[str, float]:
    """The embeddings whose entries have root mean square above 3, unless a normalisation follows at once."""
    found = {}
    for node in graph.nodes:
        if node.op.name == "embedding" and node.inputs[0].role == "parameter" and not _normed(graph, node):
            size = _rms(network.given[node.inputs[0]])
            if size > TABLE_SIZE:
                found[node.inputs[0].name] = size
    return found


def _flat(network: Network, graph: Graph, node: Node) -> str:
    """The scale of the normalisation right behind a map, where all of it is 0."""
    return next((x.name for u in graph.users[node] for x in _scales_at_zero(network, u)), "")


def _scales_at_zero(network: Network, node: Node) -> list[Node]:
    """The scale of a normalisation, if all of it is 0."""
    scale = node.inputs[3:4] if node.op.family == "normalisation" else ()
    return [x for x in scale if x.role == "parameter" and not bool(network.given[x].any())]


def _centred(graph: Graph) -> str:
    """A normalisation whose output is added up over the axes that it centred."""
    for node in graph.nodes:
        if node.op.name not in ("sum", "mean"):
            continue
        x = node.inputs[0]
        while x.op.name in ("reshape", "identity", "cast", "permute"):
            x = x.inputs[0]
        dims = statistics_of(x) if x.op.family == "normalisation" else None
        whole = node.shape == () or (dims is not None and set(dims) <= set(axes_of(node.attrs["dim"], len(x.shape))))
        if dims is not None and whole:
            return x.name
    return ""


def _rms(t: Tensor) -> float:
    return math.sqrt(float((t.double() ** 2).mean())) if t.numel() else 0.0


def _normed(graph: Graph, node: Node) -> bool:
    """Whether a normalisation stands behind a value, perhaps one map later."""
    users = [u for u in graph.users[node] if u.op.name not in ("mean", "var")]
    after = [v for u in users for v in graph.users[u]]
    return any(u.op.family == "normalisation" for u in (*users, *after))


def _wanted(graph: Graph, node: Node) -> float:
    """The gain with which the gradient keeps its size at s of unit mean square."""
    function = function_behind(graph, node)
    gains = None if function is None else gains_of(function)
    return gains[1] if gains else 1.0


def _alike(weight: Tensor, w: Weight) -> bool:
    """Whether all units have the same weights (not all 0), and more than one of them."""
    rows = weight if weight.ndim < 2 or weight[0].numel() == w.fan_in else weight.movedim(1, 0)
    return (
        rows.ndim > 1 and len(rows) > 1 and rows[0].numel() > 1 and bool((rows == rows[:1]).all()) and bool(rows.any())
    )


def _cut(network: Network, graph: Graph) -> tuple[str, ...]:
    """Trained parameters of linear maps that no gradient reaches, though values come from them."""
    trained = [n for n in graph.parameters if not n.is_frozen and len(n.shape) > 1]
    ends = [network.start]
    reached: set[Node] = set(ends)
    for node in reversed(graph.nodes):
        if node in reached and node.op.name != "stop_gradient" and node.op.differentiable:
            reached.update(node.inputs)
    return tuple(n.name for n in trained if n not in reached)


def _first_not_finite(graph: Graph, run: Measured) -> str:
    for node in graph.nodes:
        value = run.values.get(node)
        if value is None or not value.is_floating_point() or bool(value.isfinite().all()) or node.is_leaf:
            continue
        if _meant(graph, node):
            continue
        kind = "NaN" if bool(value.isnan().any()) else "infinite"
        where = f" at {node.source}" if node.source else ""
        before = ", ".join(
            f"{x.name} from {float(run.values[x].min()):.3g} to {float(run.values[x].max()):.3g}"
            for x in node.inputs[:2]
            if x in run.values and run.values[x].numel()
        )
        return (
            f"{node.op.name} in {node.name}{where} is the first to give a value that is {kind}; it was given {before}."
        )
    return ""


def _first_on_the_way_back(run: Measured) -> str:
    """The step of the backward pass at which an error signal that arrives as NaN or infinity began."""
    if not run.broken or all(bool(t.isfinite().all()) for t in run.deltas.values()):
        return ""
    node = run.broken[0]
    where = f" at {node.source}" if node.source else ""
    return (
        f"The values are finite, but not every slope: the backward pass{where} divides by 0 or overflows (in "
        f"{node.name}). The slope of a root, a norm or a logarithm is infinite where it is given 0."
    )


def _meant(graph: Graph, node: Node) -> bool:
    """Whether an infinity is a mask: what is added to scores, or stands in a where, before a softmax."""
    return node.op.name in ("where", "add", "mul", "cat", "expand", "reshape", "select", "slice") and any(
        "softmax" in u.op.name or _meant(graph, u) for u in graph.users[node]
    )
