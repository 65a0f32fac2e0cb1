"""Predict and measure how the signal and the gradient go through a network, layer by layer: ``bp.propagate``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ...capturing import capture
from ...domains.fields import MOST
from ...errors import InputError
from ...graph import Graph, Node
from ...progress import task
from ..caveats import caveats, require_forward_gradient, require_numbers
from .diagnosis import diagnose
from .facts import facts_of, weight_of
from .layers import Layer, Propagation
from .measuring import Measured, Network, Pool, Sizes, redrawn
from .predicting import Predicted, function_behind, gains_of
from .remedies import Trials
from .units import at_rest, saturated

__all__ = ["Layer", "Propagation", "propagate"]

POSITIONS, SEEDS = 640, 8


def propagate(
    model: nn.Module | Graph | Any,
    *inputs: Any,
    loss: Any = None,
    targets: Any = None,
    seed: int = 0,
    seeds: int = SEEDS,
    factory: Callable[[], nn.Module] | None = None,
    batches: Iterable[Any] = (),
) -> Propagation:
    """Predict and measure the mean square of the signal and of the gradient at every linear map.

    q(s) = n E[w²] E[z²] forwards and E[δ²] n E[w²] E[f'(s)²] backwards, with the mean squares of the model's own weights
    and, between inputs, tokens and pixels, the correlations E[x_p x_p']; convolutions, normalisation, attention, pools and
    residual sums each by a rule of their own (:mod:`backproof.domains.signals`). Steps that have no formula (a softmax,
    a largest entry, a loss) are averaged over draws of Gaussian values with the predicted covariance; so are parts whose
    maps share their weights (through time, or a block that is applied twice), all calls at once. The band is
    exp(±2 sqrt(Σ (E[f⁴]/E[f²]² + 1)/n)) over the layers so far, n units wide (forwards; backwards with f').

    Args:
        model: a network (or its Graph).
        *inputs: a batch of inputs. Of a large batch of pictures or texts as many are used as can be correlated with each
            other (about 640 pixels or tokens in a layer).
        loss, targets: the loss that the backward pass starts from; without it, from a unit Gaussian at the output.
        seed: of all draws.
        seeds: with how many other draws of the weights the measurement is repeated (0: none).
        factory: makes the network with new weights of its initial distribution, whose mean squares the prediction then
            takes; without it each parameter's own entries are put in another order.
        batches: further inputs like the first (each a tensor or a tuple), over which the draws are spread.

    Returns:
        The layers with predictions and measurements, and ``verdict``, ``cause``, ``remedy``.

    Raises:
        InputError: there is no linear map, or the inputs or parameters are not finite.

    Example:
        >>> import torch, backproof as bp
        >>> _ = torch.manual_seed(0)
        >>> sizes = [layer for _ in range(12) for layer in (torch.nn.Linear(64, 64), torch.nn.Sigmoid())]
        >>> bp.propagate(torch.nn.Sequential(*sizes), torch.randn(32, 64)).verdict
        'vanishing'
    """
    if not 0 <= seeds <= 10_000:
        raise InputError(f"seeds is from 0 to 10,000, not {seeds}")
    graph, notes = _captured(model, inputs, loss, targets)
    require_numbers(graph)
    require_forward_gradient(graph, "what is predicted is the gradient by the chain rule")
    maps = _maps(graph)
    if not maps:
        raise InputError("the network has no linear map behind which a signal could be measured")
    network = Network(graph, maps)
    network.refuse_what_is_not_finite()
    with task("propagating", 3) as advance:
        run = network.run({}, torch.Generator().manual_seed(seed), 64)
        pool = Pool()
        over = _over_seeds(network, seeds, seed, factory, tuple(batches), pool)
        advance(note="measured")
        given = pool.rescaled(network.given) if factory is not None else network.given
        told = Predicted(graph, given, maps, network.start, network.cotangent is not None, seed)
        advance(note="predicted")
        layers = tuple(_layers(network, told, run, over))
        facts = facts_of(network, run, maps)
        diagnosis = diagnose(layers, facts, Trials(network, maps, facts, seed))
    return Propagation(
        layers, diagnosis, graph.title, seeds if over else 0, (*notes, *_silent(layers), *caveats(graph))
    )


# --- what is read -------------------------------------------------------------------------------------------------------
def _captured(model: Any, inputs: tuple[Any, ...], loss: Any, targets: Any) -> tuple[Graph, tuple[str, ...]]:
    """The graph, of so many samples that their correlations can be kept."""
    if isinstance(model, Graph):
        return model, ()
    graph = capture(model, *inputs, loss=loss, targets=targets)
    batch, most = _batch(inputs), _positions(graph)
    if most <= POSITIONS or batch is None or batch <= 2:
        return graph, ()
    kept = max(2, POSITIONS * batch // most)
    fewer = torch.utils._pytree.tree_map(lambda t: t[:kept] if _has(t, batch) else t, (inputs, targets))
    smaller = capture(model, *fewer[0], loss=loss, targets=fewer[1])
    return smaller, (f"The first {kept} of the {batch} samples were used.",)


def _has(value: Any, batch: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] == batch


def _batch(inputs: Any) -> int | None:
    sizes = {t.shape[0] for t in torch.utils._pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor) and t.ndim > 1}
    return sizes.pop() if len(sizes) == 1 else None


def _positions(graph: Graph) -> int:
    """The most samples x pixels (or tokens) that any weight's linear maps put out, all its calls together."""
    found: dict[Node | None, int] = {}
    for node in _maps(graph):
        w = weight_of(graph, node)
        places = node.size // max(node.shape[1 if node.op.name.startswith("conv") else -1], 1) if node.shape else 1
        key = None if w is None else w.node
        found[key] = max(found.get(key, 0), places) if key is None else found.get(key, 0) + places
    return max(found.values(), default=0)


def _maps(graph: Graph) -> list[Node]:
    """The output of each linear map, its bias added; embeddings too."""
    found: list[Node] = []
    for node in graph.nodes:
        table = node.op.name == "embedding" and node.inputs[0].role == "parameter"
        if table or (node.op.name != "add" and weight_of(graph, node) is not None) or _recurrent(node):
            found.append(_with_bias(graph, node))
    return list(dict.fromkeys(found))


def _recurrent(node: Node) -> bool:
    """Whether an operation that is no single linear map holds weight matrices of its own (a recurrent layer)."""
    known = ("linear", "matmul", "conv", "conv_transpose", "embedding", "permute", "reshape", "cast", "identity")
    wide = [x for x in node.inputs if x.role == "parameter" and len(x.shape) > 1]
    return len(wide) > 1 and node.op.name not in known and node.op.family not in ("arithmetic", "elementwise", "index")


def _with_bias(graph: Graph, node: Node) -> Node:
    """The sum behind a product to which a bias is added."""
    users = graph.users[node]
    biased = len(users) == 1 and users[0].op.name == "add" and node.op.name == "matmul"
    return users[0] if biased and any(x.role == "parameter" for x in users[0].inputs) else node


# --- what is measured -----------------------------------------------------------------------------------------------------
def _over_seeds(
    network: Network,
    seeds: int,
    seed: int,
    factory: Callable[[], nn.Module] | None,
    batches: tuple[Any, ...],
    pool: Pool,
) -> list[Measured]:
    """The network with other weights, on the batches in turn."""
    found = []
    names = [n for n in network.graph.of_role("input") if n in network.given]
    for k, (leaves, generator) in enumerate(redrawn(network, seeds, seed, factory)):
        pool.add(leaves)
        batch = batches[k % (len(batches) + 1) - 1] if batches and k % (len(batches) + 1) else None
        tensors = [t for t in torch.utils._pytree.tree_leaves(batch) if isinstance(t, torch.Tensor)]
        given = {n: t.double() if t.is_floating_point() else t for n, t in zip(names, tensors, strict=False)}
        if any(t.shape != torch.Size(n.shape) for n, t in given.items()):
            raise InputError("each of batches has inputs of the shapes of the first")
        found.append(network.run({**leaves, **given}, generator, 4))
    return found


def _layers(network: Network, told: Predicted, run: Measured, over: Sequence[Measured]) -> Iterable[Layer]:
    graph, maps = network.graph, network.watched
    for k, (node, bands) in enumerate(zip(maps, told.bands(), strict=True)):
        function = function_behind(graph, node)
        chi = (
            told.backward(node) / told.backward(maps[k + 1])
            if k + 1 < len(maps) and told.backward(maps[k + 1])
            else math.nan
        )
        seen = (run.forward[node], run.backward[node])
        sizes = [Sizes.of([getattr(r, way)[node] for r in over]) for way in ("forward", "backward")] if over else None
        yield Layer(
            node.name,
            node.module,
            "" if function is None else function.op.name,
            (told.forward(node), seen[0]),
            (told.backward(node), seen[1]),
            bands,
            chi if math.isfinite(chi) else None,
            at_rest(graph, node, run.values),
            saturated(graph, node, run.values),
            None if sizes is None else (sizes[0], sizes[1]),
            told.correlation(node),
            None if function is None else gains_of(function),
            told.reason(node),
            node.size,
        )


def _silent(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Where nothing was predicted, and why."""
    silent = [x for x in layers if x.reason]
    if not silent:
        return ()
    names = ", ".join(x.name for x in silent[:4]) + (f" and {len(silent) - 4} more" if len(silent) > 4 else "")
    return (f"Measured only, not predicted: {names} ({silent[0].reason}; at most {MOST:,} positions are correlated).",)
