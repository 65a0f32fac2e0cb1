"""Predict and measure how the signal and the gradient go through a network, layer by layer: ``bp.propagate``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...capturing import capture
from ...differentiate import Joint, differentiate
from ...document.blocks import Block, Callout, Document, Paragraph, Part, Parts, Plot, Series, Table
from ...document.math import Num
from ...domains.numbers import numbers, tensor_of
from ...domains.variances import Moments, gaussian, kurtosis, read_variances
from ...errors import InputError
from ...graph import Builder, Graph, Node
from ...ops import Elementwise, derivative
from ...result import Result
from ..caveats import caveats, require_forward_gradient, require_numbers
from ..certificates.boxes import is_bias
from .diagnosis import Diagnosis, diagnose

__all__ = ["Layer", "Propagation", "propagate"]

DRAWS = 64


@dataclass(frozen=True)
class Layer:
    """One linear map: the mean squares of what comes out of it, and of the error signal that comes back to it.

    Args:
        name, module: of the linear map.
        activation: the function behind it ("" for none).
        forward, backward: (predicted, measured) mean squares.
        band: the factor by which a network of this width may lie above or below the prediction (two sigma).
        chi: by how much the mean square of the error signal is multiplied on its way back through this layer's
            activation and weights; None where nothing is behind it.
        dead: the share of its units that are 0 (or at a slope of 0) for all inputs.
    """

    name: str
    module: str
    activation: str
    forward: tuple[float, float]
    backward: tuple[float, float]
    band: float
    chi: float | None
    dead: float

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain data."""
        return {
            "name": self.name,
            "module": self.module,
            "activation": self.activation,
            "forward": dict(zip(("predicted", "measured"), self.forward, strict=True)),
            "backward": dict(zip(("predicted", "measured"), self.backward, strict=True)),
            "band": self.band,
            "chi": self.chi,
            "dead": self.dead,
        }


@dataclass(frozen=True)
class Propagation(Result):
    """The layers in order, and what they say together.

    Args:
        layers: one for each linear map.
        diagnosis: the verdict ("healthy", "vanishing", "exploding" or "dead"), its cause, and a remedy with what it is
            predicted to do.
        title: the model's name.
        remarks: what must be known about how the model was captured.
    """

    layers: tuple[Layer, ...]
    diagnosis: Diagnosis
    title: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In one word."""
        return self.diagnosis.verdict

    @property
    def cause(self) -> str:
        """Why."""
        return self.diagnosis.cause

    @property
    def remedy(self) -> str:
        """What to do, and what that is predicted to do."""
        return self.diagnosis.remedy

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Any verdict other than healthy is a finding."""
        return self.verdict != "healthy"

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The layers and the verdict as plain data."""
        return {
            "model": self.title,
            "layers": [layer.to_dict() for layer in self.layers],
            "verdict": self.verdict,
            "cause": self.cause,
            "remedy": self.remedy,
            "gradient_ratio": self.diagnosis.ratio,
            "remarks": list(self.remarks),
        }

    def document(self) -> Document:
        """The verdict, the layers, and two plots."""
        kind = "agrees" if self.verdict == "healthy" else "finding"
        said: list[Block] = [Callout(kind, (self.diagnosis.sentence,), f"The gradient is {self.verdict}")]  # type: ignore[arg-type]
        said += [Paragraph((text,)) for text in (self.cause, self.remedy) if text]
        said += [Callout("note", (r,)) for r in self.remarks]
        blocks = (*said, self._table(), self._plot("forward"), self._plot("backward"))
        return Document(f"Signal and gradient through {self.title}", blocks, record=self.to_dict())

    def _table(self) -> Table:
        head = (("layer",), ("activation",), ("forward",), ("measured",), ("backward",), ("measured",), ("band ×",))
        rows: tuple[tuple[Part | Parts | None, ...], ...] = tuple(
            (x.name, x.activation, *(Num(v) for v in (*x.forward, *x.backward)), Num(x.band)) for x in self.layers
        )
        return Table(head, rows, "Mean squares, predicted and measured, per layer", (2, 3, 4, 5, 6))

    def _plot(self, way: str) -> Plot:
        series = []
        for i, label in ((0, "predicted"), (1, "measured")):
            points = [(float(k + 1), getattr(x, way)[i]) for k, x in enumerate(self.layers) if getattr(x, way)[i] > 0]
            if points:
                xs, ys = zip(*points, strict=True)
                series.append(Series(label, xs, ys, "points" if i else "line"))
        for words, sign in (("band, upper end", 1), ("band, lower end", -1)):
            ends = [(float(k + 1), getattr(x, way)[0] * x.band**sign) for k, x in enumerate(self.layers)]
            kept = [(a, b) for a, b in ends if b > 0]
            if kept:
                xs, ys = zip(*kept, strict=True)
                series.append(Series(words, xs, ys))
        what = "pre-activation" if way == "forward" else "error signal"
        return Plot(tuple(series), "layer", f"mean square of the {what}", (f"The {way} pass.",),
                    f"Mean square of the {what} per layer, predicted and measured", log_y=True)  # fmt: skip


def propagate(
    model: nn.Module | Graph | Any, *inputs: Any, loss: Any = None, targets: Any = None, seed: int = 0
) -> Propagation:
    """Predict and measure the mean square of the signal and of the gradient at every linear map.

    q(s) = n E[w²] E[z²] forwards and E[δ²] n E[w²] E[f'(s)²] backwards, with the mean squares of the model's own weights;
    the band is exp(±2 sqrt(sum (E[f⁴]/E[f²]² - 1)/n)) for layers n wide (5/n for ReLU).

    Args:
        model: a network (or its Graph) of linear maps, functions entry by entry, and sums.
        *inputs: a batch of inputs.
        loss, targets: the loss that the backward pass starts from; without it, from a unit Gaussian at the output,
            drawn 64 times.
        seed: of these draws.

    Returns:
        The layers with predictions and measurements, and ``verdict``, ``cause``, ``remedy``.

    Raises:
        MissingRule: the variances domain cannot read an operation; all of them are named.
        InputError: there is no linear map, or the inputs are not finite.

    Example:
        >>> import torch, backproof as bp
        >>> _ = torch.manual_seed(0)
        >>> sizes = [layer for _ in range(12) for layer in (torch.nn.Linear(64, 64), torch.nn.Sigmoid())]
        >>> bp.propagate(torch.nn.Sequential(*sizes), torch.randn(32, 64)).verdict
        'vanishing'
    """
    graph = model if isinstance(model, Graph) else capture(model, *inputs, loss=loss, targets=targets)
    require_numbers(graph)
    require_forward_gradient(graph, "what is predicted is the gradient by the chain rule")
    flow = _Flow(graph, seed)
    layers = tuple(flow.layers())
    if not layers:
        raise InputError("the network has no linear map behind which a signal could be measured")
    return Propagation(layers, diagnose(layers, flow.remedied), graph.title, caveats(graph))


class _Flow:
    """One network read over variances (predicted) and over numbers (measured)."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph, self.seed = graph, seed
        self.weights = dict(_maps(graph))
        self.maps = list(self.weights)
        self.joint, self.cotangent = self._joint()
        given = graph.origin.leaves()
        self.given = {
            n: given[n.name].double() for n in graph.nodes if n.is_leaf and n.role != "constant" and n.is_float
        }
        if not all(bool(t.isfinite().all()) for t in self.given.values()):
            raise InputError("an input or a parameter is not finite")
        self.others = {n: given[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant" and not n.is_float}
        self.predicted = self._predicted({})
        self.forward, self.backward, self.zero = self._measured()

    def _joint(self) -> tuple[Joint, Node | None]:
        """The joint graph from the loss, or from the output times a cotangent that is drawn."""
        if self.graph.loss is not None and not any(self.graph.loss is n for n in self.maps):
            return differentiate(self.graph, wrt=self.maps), None
        output = self.graph.outputs[0]
        builder = Builder(self.graph.nodes)
        cotangent = builder.leaf("cotangent", "constant", output.shape, "float64")
        total = builder.emit("sum", builder.emit("mul", output, cotangent))
        whole = replace(self.graph, nodes=tuple(builder.nodes), loss=total)
        return differentiate(whole, total, self.maps), cotangent

    # --- predicted ------------------------------------------------------------------------------------------------
    def _predicted(self, scales: Mapping[Node, float]) -> dict[Node, Moments]:
        """The moments of every node; ``scales`` multiplies the mean square of some weights."""
        leaves: dict[Node, Moments] = {}
        for node, tensor in self.given.items():
            if node.role != "parameter":
                leaves[node] = Moments.known(tensor.numpy())
                continue
            second = float((tensor**2).mean()) * scales.get(node, 1.0)
            mean = float(tensor.mean()) * math.sqrt(scales.get(node, 1.0))
            significant = mean**2 * tensor.numel() > 16 * second
            leaves[node] = Moments.random(second, node.shape, mean if significant else 0.0)
        if self.cotangent is not None:
            leaves[self.cotangent] = Moments.random(1.0, self.cotangent.shape)
        return read_variances(self.joint.graph, leaves)

    def _size(self, moments: Mapping[Node, Moments], node: Node | None) -> float:
        return 0.0 if node is None else float(np.mean(moments[node].second))

    def remedied(self) -> tuple[str, float, float]:
        """The gain that keeps the gradient, the std in words, and the ratio of the gradient it is predicted to give."""
        scales, words = {}, []
        for node in self.maps:
            weight, inputs = self.weights[node]
            wanted = self._wanted(node)
            if wanted is not None:
                now = float((self.given[weight] ** 2).mean())
                scales[weight] = wanted / inputs / now if now > 0 else 1.0
                words.append(math.sqrt(wanted))
        moments = self._predicted(scales)
        first, last = (self._size(moments, self.joint.gradients[n]) for n in (self.maps[0], self.maps[-1]))
        gain = words[len(words) // 2] if words else 1.0
        return f"{gain:.4g}/sqrt(fan_in)", gain, first / last if last > 0 else 0.0

    def _wanted(self, node: Node) -> float | None:
        """n E[w²] so that E[f'(s)²] n E[w²] = 1 at s of unit mean square; 1 where no function is behind."""
        function = self._function(node)
        if function is None:
            return 1.0
        slope = gaussian(_slope(function), 0.0, 1.0, 2)
        return 1 / slope if slope > 0 else None

    def _function(self, node: Node) -> Node | None:
        users = [u for u in self.graph.users[node] if u.op.family == "elementwise" and len(u.inputs) == 1]
        return users[0] if users and isinstance(users[0].op, Elementwise) else None

    # --- measured -------------------------------------------------------------------------------------------------
    def _measured(self) -> tuple[dict[Node, float], dict[Node, float], dict[Node, float]]:
        """Mean squares of each map's output and adjoint with the model's own weights, and the share of units at rest."""
        graph = self.joint.graph
        leaves: dict[Node, Any] = {**self.given, **self.others}
        for node in graph.of_role("constant"):
            if node is not self.cotangent:
                tensor = tensor_of(node)
                leaves[node] = tensor.double() if tensor.is_floating_point() else tensor
        generator = torch.Generator().manual_seed(self.seed)
        backward = dict.fromkeys(self.maps, 0.0)
        draws = DRAWS if self.cotangent is not None else 1
        held: dict[Node, Any] = {}
        for _ in range(draws):
            if self.cotangent is not None:
                leaves[self.cotangent] = torch.randn(self.cotangent.shape, generator=generator, dtype=torch.float64)
            values = numbers.run(graph, {**held, **leaves})
            held = held or {n: v for n, v in values.items() if n in set(self.graph.nodes)}
            for node in self.maps:
                gradient = self.joint.gradients[node]
                backward[node] += _square(values[gradient]) / draws if gradient is not None else 0.0
        forward = {n: _square(held[n]) for n in self.maps}
        return forward, backward, {n: self._at_rest(n, held) for n in self.maps}

    def _at_rest(self, node: Node, values: Mapping[Node, Any]) -> float:
        """The share of units whose slope is 0 for every input."""
        function = self._function(node)
        if function is None:
            return 0.0
        slopes = numbers.apply(_slope(function), values[node]).abs().reshape(-1, node.shape[-1])
        return float((slopes.amax(0) < 1e-12).double().mean())

    def layers(self) -> list[Layer]:
        """The rows, with the band growing forwards and backwards from where each pass begins."""
        shares = [self._share(n) for n in self.maps]
        found = []
        for k, node in enumerate(self.maps):
            spread = math.sqrt(sum(shares))
            gradient = self.joint.gradients[node]
            function = self._function(node)
            found.append(
                Layer(
                    node.name,
                    node.module,
                    "" if function is None else function.op.name,
                    (self._size(self.predicted, node), self.forward[node]),
                    (self._size(self.predicted, gradient), self.backward[node]),
                    math.exp(2 * spread),
                    self._chi(k),
                    self.zero[node],
                )
            )
        return found

    def _share(self, node: Node) -> float:
        """What one layer adds to the variance of the logarithm: (E[f⁴]/E[f²]² - 1)/n, and 2/n without a function."""
        function, width = self._function(node), max(node.shape[-1], 1)
        if function is None:
            return 2 / width
        mean, variance = (float(np.mean(v)) for v in (self.predicted[node].mean, self.predicted[node].variance))
        back = kurtosis(_slope(function), mean, variance)
        return (max(kurtosis(function, mean, variance), back) + 2) / width

    def _chi(self, k: int) -> float | None:
        """How much the error signal's mean square grows on its way from the map behind to this one."""
        if k + 1 >= len(self.maps):
            return None
        here, behind = (self._size(self.predicted, self.joint.gradients[n]) for n in self.maps[k : k + 2])
        return here / behind if behind > 0 else None


def _maps(graph: Graph) -> Iterator[tuple[Node, tuple[Node, int]]]:
    """The output of each linear map (its bias added), with its weight and how many inputs that has."""
    for node in graph.nodes:
        if node.op.name not in ("linear", "matmul"):
            continue
        for place in (1, 0):
            weight = node.inputs[place]
            while weight.op.name == "permute":
                weight = weight.inputs[0]
            if weight.role == "parameter" and (place or node.op.name == "matmul"):
                axis = -1 if node.op.name == "linear" or not place else max(-2, -len(weight.shape))
                yield _with_bias(graph, node), (weight, weight.shape[axis])
                break


def _with_bias(graph: Graph, node: Node) -> Node:
    """The sum behind a product to which a bias is added."""
    users = graph.users[node]
    if len(users) == 1 and users[0].op.name == "add" and any(is_bias(graph, x) for x in users[0].inputs if x.is_leaf):
        return users[0]
    return node


def _slope(node: Node) -> Node:
    assert isinstance(node.op, Elementwise)
    return replace(node, op=derivative(node.op, 0))


def _square(tensor: Tensor) -> float:
    return float((tensor.double() ** 2).mean())
