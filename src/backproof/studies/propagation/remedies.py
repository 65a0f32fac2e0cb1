"""Remedies: what each is predicted to do, and what it does to a copy of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...errors import BackproofError
from ...graph import Builder, Graph, Node
from .diagnosis import Remedy, first_finding
from .facts import Facts, Weight, facts_of, weight_of
from .layers import Layer
from .measuring import Measured, Network
from .predicting import Predicted, function_behind, gains_of
from .softmaxes import openness, softmaxes
from .units import at_rest, saturated

__all__ = ["Trials"]

Leaves = dict[Node, Tensor]
_REPEATS = 3
_KEEP = 0.9


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

    def _tried(self, words: str, code: str, change: _Change, ends: Sequence[Node] = (), effect: str = "") -> Remedy:
        """A remedy, predicted and applied: the norm at the first of two maps over that at the second."""
        maps = [change.moved.get(n, n) for n in ends or self.maps]
        graph = change.graph
        network = (
            self.network if graph is self.network.graph else Network(graph, [change.moved.get(n, n) for n in self.maps])
        )
        leaves = {**network.given, **change.leaves}
        start = change.moved.get(self.network.start, self.network.start)
        told = Predicted(graph, leaves, [maps[0], maps[-1]], start, network.cotangent is not None)
        runs = [network.run(change.leaves, self.generator, 8) for _ in range(_REPEATS)]
        after, left, _ = first_finding(*_seen(network, change.leaves, runs[0]))
        norms = [[math.sqrt(sum(r.backward[n] for r in runs) / _REPEATS * n.size) for n in (maps[0], maps[-1])]]
        foreseen = [math.sqrt(told.backward(n) * n.size) for n in (maps[0], maps[-1])]
        predicted, measured = (a / b if b > 0 else 0.0 for a, b in (foreseen, norms[0]))
        return Remedy(words, code, predicted, measured, effect, after=after, left=left)

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
        gains = {w.node.name: (self._gain[n], w.fan_in) for n, w in self.weights.items()}
        rows = [f"    {name!r}: ({gain:.5g}, {fan_in})," for name, (gain, fan_in) in gains.items()]
        biases = list(dict.fromkeys(w.bias.name for w in self.weights.values() if w.bias is not None))
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

    # --- softmaxes, norms, memory -----------------------------------------------------------------------------------------
    def _scores(self) -> Remedy | None:
        shut = [s for s in self.facts.softs if s.shut]
        cures = {s.scores: s.cure for s in shut}
        change = _rebuilt(self.network.graph, {n: _times(c) for n, c in cures.items()})
        first = min(shut, key=lambda s: s.open)
        after = self.network_with(change).run({}, self.generator, 1)
        nodes = {change.moved.get(s.node, s.node): s for s in shut}
        found = [s for s in softmaxes(change.graph, after.values) if s.node in nodes]
        root = first.cure == 1 / math.sqrt(max(first.width, 1)) and first.width > 0
        factor = f"1/sqrt({first.width}) = {first.cure:.3g}" if root else f"{first.cure:.3g}"
        words = f"Multiply the scores of {_few([s.node.name for s in shut])} by {factor} before the softmax"
        if not root:
            words += ", or make the weights behind them smaller by so much"
        code = (
            "scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5" if root else f"scores = scores * {first.cure:.3g}"
        )
        foreseen = openness(float(f"{first.spread * first.cure:.3g}"), first.keys)
        left = min((s.open for s in found), default=math.nan)
        effect = (
            f"The softmax then leaves {100 * foreseen:.0f} % of its slope by theory (Gaussian scores), {100 * left:.0f} % on "
            f"the copy, instead of {100 * first.open:.0f} %."
        )
        return self._tried(words, code, change, effect=effect)

    def network_with(self, change: _Change) -> Network:
        """The changed copy as a network."""
        return Network(change.graph, [change.moved.get(n, n) for n in self.maps])

    def _scale_of_the_norm(self) -> Remedy:
        leaves = {n: torch.ones_like(self.network.given[n]) for n in self.network.given if n.name in self.facts.scales}
        words = f"Start the scale of the normalisation ({_few(list(self.facts.scales))}) at 1"
        rows = "\n".join(f"torch.nn.init.ones_(model.get_parameter({name!r}))" for name in self.facts.scales)
        return self._tried(words, f"import torch\n\n{rows}", _Change(self.network.graph, {}, leaves))

    def _memory(self) -> Remedy | None:
        """Gates that start open: biases of log(T - 1) (Tallec and Ollivier 2018); without gates, orthogonal weights."""
        time = min(self.facts.times, key=lambda t: t.ratio)
        weight, steps = time.weight, len(time.calls)
        rows, width = weight.shape[0], weight.shape[-1]
        bias = next(
            (
                n
                for n in self.network.given
                if n.name == weight.name.replace("weight_hh", "bias_hh") and n is not weight
            ),
            None,
        )
        open_ = math.log(max(steps - 1, 2))
        if rows in (3 * width, 4 * width) and bias is not None:
            value = self.network.given[bias].clone()
            value[width : 2 * width] = open_
            leaves = {bias: value}
            gate = "forget" if rows == 4 * width else "update"
            words = f"Start the biases of the {gate} gates at log({steps} - 1) = {open_:.3g}, so that the state is kept for so many steps"
            code = (f"import torch\n\nwith torch.no_grad():\n    b = model.get_parameter({bias.name!r})\n"
                    f"    b[{width} : {2 * width}] = {open_:.4g}")  # fmt: skip
        elif rows == width:
            start = torch.linalg.qr(torch.randn(weight.shape, generator=self.generator, dtype=torch.float64))[0]
            leaves = {weight: start}
            words = "Draw the recurrent weights orthogonal, or use a layer with gates (torch.nn.LSTM, torch.nn.GRU)"
            code = f"import torch\n\ntorch.nn.init.orthogonal_(model.get_parameter({weight.name!r}))"
        else:
            return None
        tried = self._tried(words, code, _Change(self.network.graph, {}, leaves), (time.calls[0], time.calls[-1]))
        return replace(tried, over=f"these steps (now {time.ratio:.3g})")

    # --- inputs and loss --------------------------------------------------------------------------------------------------
    def _standardise(self) -> Remedy | None:
        leaves = {}
        for node in self.network.graph.of_role("input"):
            if node.is_float and node.size > 1:
                t = self.network.given[node]
                leaves[node] = (t - t.mean()) / t.std().clamp_min(1e-12)
        words = "Standardise the inputs: (x - x.mean()) / x.std(), with the mean and deviation of the training data"
        return self._tried(words, "x = (x - mean) / std", _Change(self.network.graph, {}, leaves)) if leaves else None

    def _embeddings(self) -> Remedy:
        sizes = self.facts.tables
        leaves = {n: t / sizes[n.name] for n, t in self.network.given.items() if n.name in sizes}
        words = f"Start the embedding ({_few(list(sizes))}) with entries of standard deviation 1"
        rows = "\n".join(f"    model.get_parameter({n!r}).div_({size:.5g})" for n, size in sizes.items())
        return self._tried(
            words, f"import torch\n\nwith torch.no_grad():\n{rows}", _Change(self.network.graph, {}, leaves)
        )

    def _dropout(self) -> Remedy:
        """p = 0.1 in the place of what is larger; with weights drawn anew where that alone does not do."""
        masks = {}
        for d in self.facts.dropouts:
            if d.keep < _KEEP:
                kept = torch.rand(d.mask.shape, generator=self.generator, dtype=torch.float64) < _KEEP
                masks[d.mask] = kept.double() * (d.keep / _KEEP)
        words = f"Use a dropout of p = {1 - _KEEP:.2g}"
        code = "\n".join(["for m in model.modules():", f"    if isinstance(m, torch.nn.Dropout) and m.p > {1 - _KEEP:.2g}:",
                          f"        m.p = {1 - _KEEP:.2g}"])  # fmt: skip
        alone = self._tried(words, f"import torch\n\n{code}", _Change(self.network.graph, {}, masks))
        if alone.cures:
            return alone
        words += ", and draw the weights with the gain of the activation behind each, over sqrt(fan_in)"
        both = _Change(self.network.graph, {}, {**masks, **self._redrawn()})
        return self._tried(words, f"{self._init_code()}\n\n{code}", both)

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


def _seen(network: Network, leaves: Leaves, run: Measured) -> tuple[list[Layer], Facts]:
    """What one run of a changed copy shows, without a prediction."""
    copied, nothing = copy(network), math.nan
    copied.given = {**network.given, **leaves}
    layers = []
    for n in network.watched:
        function = function_behind(network.graph, n)
        rest = at_rest(network.graph, n, run.values), saturated(network.graph, n, run.values)
        pairs = (nothing, run.forward[n]), (nothing, run.backward[n]), (1.0, 1.0)
        layers.append(Layer(n.name, n.module, function.op.name if function else "", *pairs, None, *rest, size=n.size))
    facts = facts_of(copied, run, network.watched)
    return layers, replace(
        facts, dropouts=tuple(d for d in facts.dropouts if d.mask not in leaves)
    )  # others were put there


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


def _times(factor: float) -> Insert:
    def insert(builder: Builder, node: Node, moved: Mapping[Node, Node]) -> Node:
        return builder.emit("mul", node, builder.constant(factor), name=f"{node.name}.scaled", role="value")

    return insert


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _plus(x: Node, scale: float) -> Insert:
    def insert(builder: Builder, node: Node, moved: Mapping[Node, Node]) -> Node:
        branch = builder.emit("mul", node, builder.constant(scale))
        return builder.emit("add", moved.get(x, x), branch, name=f"{node.name}.skip", role="value")

    return insert
