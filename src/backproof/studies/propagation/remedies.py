"""Remedies: what each is predicted to do, and what it does to a copy of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...errors import BackproofError
from ...graph import Builder, Graph, Node
from .diagnosis import Remedy
from .facts import Facts, Weight, weight_of
from .measuring import Network
from .predicting import Predicted, function_behind, gains_of

__all__ = ["Trials"]

Leaves = dict[Node, Tensor]
_REPEATS = 3


@dataclass(frozen=True)
class _Change:
    """A changed copy: its graph, where the old nodes went, the leaves' new values."""

    graph: Graph
    moved: Mapping[Node, Node]
    leaves: Leaves


class Trials:
    """Tries remedies on copies of one network.

    Args:
        network: the network as it is.
        maps: its linear maps in order.
        facts: what was seen.
        seed: of the weights that a remedy draws.
    """

    def __init__(self, network: Network, maps: Sequence[Node], facts: Facts, seed: int) -> None:
        self.network, self.maps, self.facts = network, list(maps), facts
        self.generator = torch.Generator().manual_seed(seed + 31)
        self.weights: dict[Node, Weight] = {n: w for n in maps if (w := weight_of(network.graph, n)) is not None}

    def __call__(self, name: str) -> Remedy | None:
        """The remedy of that name, predicted and tried; None where it does not apply here."""
        made: Callable[[], Remedy | None] = getattr(self, f"_{name.replace(' ', '_')}")
        try:
            return made()
        except BackproofError:
            return None

    def _tried(self, words: str, code: str, change: _Change) -> Remedy:
        maps = [change.moved.get(n, n) for n in self.maps]
        graph = change.graph
        network = self.network if graph is self.network.graph else Network(graph, maps)
        leaves = {**network.given, **change.leaves}
        start = change.moved.get(self.network.start, self.network.start)
        told = Predicted(graph, leaves, [maps[0], maps[-1]], start, network.cotangent is not None)
        runs = [network.run(change.leaves, self.generator, 8) for _ in range(_REPEATS)]
        norms = [[math.sqrt(sum(r.backward[n] for r in runs) / _REPEATS * n.size) for n in (maps[0], maps[-1])]]
        foreseen = [math.sqrt(told.backward(n) * n.size) for n in (maps[0], maps[-1])]
        return Remedy(words, code, *(a / b if b > 0 else 0.0 for a, b in (foreseen, norms[0])))

    # --- weights drawn anew ---------------------------------------------------------------------------------------------
    @cached_property
    def _gain(self) -> dict[Node, float]:
        found = {}
        for node in self.weights:
            function = function_behind(self.network.graph, node)
            gains = None if function is None else gains_of(function)
            found[node] = gains[1] if gains else 1.0
        return found

    def _redrawn(self, scale: float = 1.0) -> Leaves:
        leaves: Leaves = {}
        for node, w in self.weights.items():
            std = self._gain[node] / math.sqrt(w.fan_in) * scale
            leaves[w.node] = torch.randn(w.node.shape, generator=self.generator, dtype=torch.float64) * std
            if w.bias is not None:
                leaves[w.bias] = torch.zeros(w.bias.shape, dtype=torch.float64)
        return leaves

    def _gains(self) -> Remedy:
        gains = list(self._gain.values())
        gain = sorted(gains)[len(gains) // 2] if gains else 1.0
        words = (
            f"Draw the weights with standard deviation {gain:.4g}/sqrt(fan_in) and set the biases to 0: then chi is 1 at "
            "unit variance"
        )
        return self._tried(words, self._init_code(), _Change(self.network.graph, {}, self._redrawn()))

    def _init_code(self) -> str:
        rows = [f"    {w.node.name!r}: ({self._gain[n]:.5g}, {w.fan_in})," for n, w in self.weights.items()]
        biases = sorted({w.bias.name for w in self.weights.values() if w.bias is not None})
        zero = ["    elif name in biases:", "        torch.nn.init.zeros_(p)"] if biases else []
        return "\n".join([
            "import torch",
            "",
            "gains = {  # parameter: (gain of the activation behind it, fan-in)",
            *rows,
            "}",
            *([f"biases = {biases!r}"] if biases else []),
            "for name, p in model.named_parameters():",
            "    if name in gains:",
            "        gain, fan_in = gains[name]",
            "        torch.nn.init.normal_(p, std=gain / fan_in**0.5)",
            *zero,
        ])  # fmt: skip

    # --- other architectures ----------------------------------------------------------------------------------------------
    def _normalise(self) -> Remedy | None:
        inner = set(self.maps[:-1])
        change = _rebuilt(self.network.graph, {n: _layer_norm for n in inner if n.shape and n.shape[-1] > 1})
        words = "Put a layer normalisation (torch.nn.LayerNorm) behind every linear map but the last, weights as above"
        return self._tried(words, "", replace(change, leaves=self._redrawn()))

    def _skip(self) -> Remedy | None:
        graph, found = self.network.graph, {}
        for node in self.maps:
            function = function_behind(graph, node)
            weight = self.weights.get(node)
            if function is not None and weight is not None:
                x = node.inputs[0] if node.op.name != "add" else None
                if x is not None and x.shape == function.shape and not x.is_leaf:
                    found[function] = x
        if not found:
            return None
        scale = 1 / math.sqrt(len(found))
        change = _rebuilt(graph, {f: _plus(x, scale) for f, x in found.items()})
        words = f"Add an identity path around each layer of equal width: x + {scale:.3g}·f(W x), weights as above"
        return self._tried(words, "", replace(change, leaves=self._redrawn()))

    def _branches(self) -> Remedy | None:
        graph = self.network.graph
        sums = [graph.by_name[s["sum"]] for s in graph.facts["skips"]]
        last = [m for s in sums if (m := self._branch_map(s)) is not None]
        if not last:
            return None
        scale = 1 / math.sqrt(len(sums))
        leaves = {}
        for node in dict.fromkeys(last):
            w = self.weights[node]
            leaves[w.node] = self.network.given[w.node] * scale
            if w.bias is not None:
                leaves[w.bias] = self.network.given[w.bias] * scale
        words = (
            f"Scale each residual branch by 1/sqrt({len(sums)}) = {scale:.3g} (its last weights, or the branch itself)"
        )
        names = [self.weights[n].node.name for n in dict.fromkeys(last)]
        code = "\n".join(["import torch", "", f"last = {names!r}", "with torch.no_grad():",
                          "    for name, p in model.named_parameters():", "        if name in last:",
                          f"            p.mul_({scale:.6g})"])  # fmt: skip
        return self._tried(words, code, _Change(graph, {}, leaves))

    def _branch_map(self, total: Node) -> Node | None:
        """The last linear map of the branch of a sum."""
        found = []
        for x in total.inputs:
            node, steps = x, 0
            while node not in self.weights and not node.is_leaf and node.op.name != "add" and steps < 12:
                node, steps = node.inputs[0], steps + 1
            if node in self.weights:
                found.append((steps, node))
        return max(found, key=lambda f: self.maps.index(f[1]))[1] if found else None

    def _leaky(self) -> Remedy | None:
        from ...ops import OPS

        graph = self.network.graph
        relus = [n for n in graph.nodes if n.op.name == "relu"]
        if not relus:
            return None
        moved = _rebuilt(graph, {}, dict.fromkeys(relus, OPS["leaky_relu"]))
        words = "Use an activation whose slope is nowhere 0 (leaky ReLU, GELU); the biases stay as they are"
        return self._tried(words, "", moved)

    # --- inputs and loss --------------------------------------------------------------------------------------------------
    def _standardise(self) -> Remedy | None:
        leaves = {}
        for node in self.network.graph.of_role("input"):
            if node.is_float and node.size > 1:
                t = self.network.given[node]
                leaves[node] = (t - t.mean()) / t.std().clamp_min(1e-12)
        words = "Standardise the inputs: (x - x.mean()) / x.std(), with the mean and deviation of the training data"
        return self._tried(words, "x = (x - mean) / std", _Change(self.network.graph, {}, leaves)) if leaves else None

    def _loss_scale(self) -> Remedy:
        return Remedy("Leave the loss at its own scale (the mean over samples), and put the factor into the learning rate; "
                      "for half precision use torch.amp.GradScaler, which divides it out again before the step")  # fmt: skip

    def _reconnect(self) -> Remedy:
        return Remedy(
            "Take out the detach or no_grad on the way from these weights to the loss, or use what they compute"
        )

    def _uncentre(self) -> Remedy:
        return Remedy("Put a linear layer behind the normalisation, or a loss that is not the sum of its output")

    def _unfreeze(self) -> Remedy:
        names = "\n".join(f"model.get_parameter({n!r}).requires_grad_(True)" for n in self.facts.frozen)
        return Remedy("Let them learn with requires_grad_(True), and give them to the optimizer", names)


# --- changed graphs ---------------------------------------------------------------------------------------------------
Insert = Callable[[Builder, Node, Mapping[Node, Node]], Node]


def _rebuilt(graph: Graph, insert: Mapping[Node, Insert], ops: Mapping[Node, object] | None = None) -> _Change:
    """A copy with something put behind some nodes, or other functions in their places."""
    builder, moved = Builder(), dict[Node, Node]()
    for node in graph.nodes:
        inputs = tuple(moved.get(x, x) for x in node.inputs)
        op = (ops or {}).get(node, node.op)
        changed = inputs != node.inputs or op is not node.op
        if changed:
            attrs = node.attrs if op is node.op else dict(op.attrs)  # type: ignore[attr-defined]
            here = builder.add(replace(node, inputs=inputs, op=op, attrs=attrs))  # type: ignore[arg-type]
        else:
            here = builder.add(node)
        if here is not node:
            moved[node] = here
        if node in insert:
            moved[node] = insert[node](builder, here, moved)
    outputs = tuple(moved.get(n, n) for n in graph.outputs)
    loss = None if graph.loss is None else moved.get(graph.loss, graph.loss)
    whole = replace(graph, nodes=tuple(builder.nodes), outputs=outputs, loss=loss, state={})
    return _Change(whole, moved, {})


def _layer_norm(builder: Builder, node: Node, moved: Mapping[Node, Node]) -> Node:
    dims = tuple(range(1, len(node.shape))) if node.op.name.startswith("conv") else (len(node.shape) - 1,)
    mean = builder.emit("mean", node, dim=dims, keepdim=True)
    var = builder.emit("var", node, dim=dims, keepdim=True, correction=0)
    return builder.emit("layer_norm", node, mean, var, name=f"{node.name}.norm", role="value")


def _plus(x: Node, scale: float) -> Insert:
    def insert(builder: Builder, node: Node, moved: Mapping[Node, Node]) -> Node:
        branch = builder.emit("mul", node, builder.constant(scale))
        return builder.emit("add", moved.get(x, x), branch, name=f"{node.name}.skip", role="value")

    return insert
