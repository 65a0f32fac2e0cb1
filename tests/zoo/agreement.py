"""A network of the zoo, captured and compared with torch.autograd on the network as it stands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import backproof as bp
from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.graph import Graph

from .own_models import OWN
from .published_models import PUBLISHED, Specimen

SINGLE = {"DeBERTa", "BLOOM", "Llama", "Mistral", "Gemma", "Gemma 2", "Qwen2", "T5", "Mamba"}
"""Networks that compute something in float32 whatever they are given."""

__all__ = ["SINGLE", "InFloat64", "agreement", "built", "captured"]


class InFloat64(TorchFunctionMode):
    """float64 where a network asks for float32, for a norm or a rotation: else autograd is right to seven digits alone."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wide(x: Any) -> Any:
            return torch.float64 if x is torch.float32 else x

        func = torch.Tensor.double if func is torch.Tensor.float else func
        return func(*(wide(x) for x in args), **{key: wide(x) for key, x in (kwargs or {}).items()})


def _precise(specimen: Specimen) -> AbstractContextManager[Any]:
    return InFloat64() if specimen.name in SINGLE else nullcontext()


def built(name: str) -> Specimen:
    """The network of that name in float64 and in eval mode, the same at each call."""
    torch.manual_seed(0)
    specimen = replace((OWN | PUBLISHED)[name](), name=name)
    specimen.model.double().eval()
    return specimen


def _picked(specimen: Specimen) -> Callable[[Any], Tensor]:
    return lambda result: getattr(result, specimen.output) if specimen.output else result


def captured(specimen: Specimen) -> Graph:
    """Its graph, with the loss that the specimen has."""
    with _precise(specimen):
        return bp.capture(specimen.model, specimen.inputs, loss=specimen.loss, output=_picked(specimen))


@dataclass(frozen=True)
class Difference:
    """How far a tensor is from autograd's: the norm of the difference, and autograd's norm."""

    name: str
    error: float
    norm: float


def agreement(specimen: Specimen, graph: Graph) -> list[Difference]:
    """The loss and every parameter's gradient, read over the graph, against the module itself and torch.autograd."""
    with _precise(specimen):
        loss = specimen.loss(_picked(specimen)(specimen.model(**specimen.inputs)))
    parameters = {name: p for name, p in specimen.model.named_parameters() if p.requires_grad}
    theirs = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()), allow_unused=True), strict=True))
    joint = differentiate(graph)
    given = graph.origin.leaves()
    values = evaluate(joint.graph, {n: given[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"})
    assert graph.loss is not None
    found = [_difference("loss", values[graph.loss], loss.detach())]
    for node in graph.parameters:
        if node.is_frozen:
            continue
        gradient, expected = joint.gradients[node], theirs[node.name]
        zero = torch.zeros(node.shape, dtype=torch.float64)
        found.append(
            _difference(
                node.name, zero if gradient is None else values[gradient], zero if expected is None else expected
            )
        )
    assert {d.name for d in found} >= set(parameters) - set(graph.facts["tied_weights"])
    return found


def _difference(name: str, ours: Tensor, theirs: Tensor) -> Difference:
    assert ours.shape == theirs.shape, name
    return Difference(name, float((ours - theirs).norm()), float(theirs.norm()))
