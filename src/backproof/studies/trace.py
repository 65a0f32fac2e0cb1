"""Trace k updates of training: every value, every gradient, every parameter before and after, the state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ..capturing.origin import ModuleOrigin, tensors_of
from ..document.blocks import Document
from ..domains.entries import Array
from ..domains.exact import exact
from ..errors import CaptureError, InputError
from ..graph import Graph
from ..result import Result
from .caveats import caveats, require_numbers
from .keeping import Keep, Keeping, all_finite, keeping
from .optimizer.groups import rules_of
from .program import Batch, Program
from .running import run
from .steps import ParameterStep, Step

__all__ = ["Arithmetic", "ParameterStep", "Step", "Trace", "run", "trace"]

Arithmetic = Literal["model", "float64", "exact"]


@dataclass(frozen=True)
class Trace(Result):
    """The record of a training run: ``steps[k].values``, ``.gradients``, ``.parameters``; see :func:`trace`.

    ``predicted_bytes`` is the memory that the run was predicted to take at its peak, beyond the model itself.
    """

    program: Program
    steps: tuple[Step, ...]
    evidence: tuple[Any, ...] = ()
    remarks: tuple[str, ...] = ()
    title: str = ""
    predicted_bytes: int = 0

    @property
    def graph(self) -> Graph:
        """The captured network."""
        return self.program.graph

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether two independent ways to a number disagree."""
        return any(e.agrees is False for e in self.evidence)

    def document(self) -> Document:
        """The record as a worked solution."""
        from .writing.worked import document_of_trace

        return document_of_trace(self)

    def terminal(self) -> Document:
        """The record in a screen or two: of a large network by module."""
        from .writing.opened import is_long

        return self.outline().document() if is_long(self.graph) else self.document()

    def outline(self, depth: int | None = None, module: str = "") -> Result:
        """The record by module: what each gives, the size of its value, error signal, gradient and change.

        Args:
            depth: how many levels of modules are opened; None for as many as are read at a glance.
            module: the module whose inside is shown, with its formulas; "" for the network.

        Example:
            >>> import torch, backproof as bp
            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())
            >>> [line["gives"] for line in bp.trace(net, torch.ones(1, 2)).outline().to_dict()["modules"]]
            ['0.linear', '1.tanh']
        """
        from .writing.opened import outline_of_trace

        return outline_of_trace(self, depth, module)

    def script(self) -> str:
        """A plain PyTorch program that recomputes the record."""
        from .writing.script import script_of

        return script_of(self)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record as plain data."""
        return {
            "model": self.title,
            "steps": [step.to_dict(full) for step in self.steps],
            "evidence": [e.to_dict() for e in self.evidence],
            "remarks": list(self.remarks),
            "predicted_bytes": self.predicted_bytes,
        }


# --- bp.trace -----------------------------------------------------------------------------------------------------------
def trace(
    model: Any,
    inputs: Any = None,
    targets: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    steps: int = 1,
    arithmetic: Arithmetic = "model",
    evidence: str = "none",
    batch: Batch = "full",
    output: Any = None,
    seed: int = 0,
    keep: Keep | None = None,
    store: str | os.PathLike[str] | None = None,
) -> Trace:
    """Record training steps of a network: every value, error signal, gradient, parameter and state.

    Args:
        model: an nn.Module, a function of tensors, or a captured Graph.
        inputs: a tensor, a tuple, or a dict of keywords (not needed for a Graph).
        targets: what the loss compares with.
        loss: a function of (output, targets) or its name; a model whose output is one number is its own loss.
        optimizer: a name, a torch.optim class with its arguments, or an instance; None for one step without update.
        steps: passes over the data.
        arithmetic: "model" (the model's own dtype), "float64", or "exact" (rationals, pi and roots, as on paper).
        evidence: "full", "sampled" or "none": whether every number is confirmed by independent means.
        batch: "full", or "sample" for one update per sample.
        output: which tensor of the output the loss takes.
        seed: of what the model draws at random (as after ``torch.manual_seed(seed)``), and of the sampled evidence.
        keep: what is kept of values and gradients: "all", "statistics" (shape, sizes, a histogram of each), or a list of
            module paths and value names whose tensors are kept, with statistics of the others. By default all if it
            fits into memory, else statistics, and a remark says so.
        store: a .safetensors file that the kept tensors are written to as they are computed; they are read from it when
            they are looked at.

    Returns:
        A :class:`Trace`. The model itself is not changed.

    Raises:
        CaptureError, InputError, MissingRule: the request cannot be carried out; one paragraph says why.

    Example:
        >>> import torch, backproof as bp
        >>> record = bp.trace(torch.nn.Linear(2, 1), torch.ones(3, 2), torch.zeros(3, 1), loss="mse", optimizer="sgd")
        >>> sorted(record.steps[0].parameters)
        ['bias', 'weight']
    """
    _check_choices(arithmetic, evidence, batch, steps)
    program = _program(model, inputs, targets, loss, output, arithmetic)
    give_rules(program, optimizer, model)
    program.steps = steps if program.optimizer else 1
    program.batch, program.seed = batch, seed
    if program.optimizer is not None and program.graph.loss is None:
        raise CaptureError("an update needs a loss: give loss=..., or a model whose output is one number")
    chosen = _keeping(program, arithmetic, keep, store, evidence)
    with chosen or nullcontext():
        records, remarks = run(program, use_exact=arithmetic == "exact", keeping=chosen)
    remarks = (*caveats(program.graph, own_backward=True), *remarks)
    found: tuple[Any, ...] = ()
    if evidence != "none":
        from .confirming.evidence import confirm

        found = confirm(program, records, thorough=evidence == "full", seed=seed)
    if program.graph.surrogates or program.graph.noted.get("hooks_outside"):
        from .confirming.own import own_backwards

        found = (*own_backwards(program, records), *found)
    more, predicted = ((), 0) if chosen is None else (chosen.remarks, chosen.predicted)
    return Trace(program, records, found, (*more, *remarks), program.graph.title, predicted)


def _keeping(
    program: Program, arithmetic: str, keep: Keep | None, store: str | os.PathLike[str] | None, evidence: str
) -> Keeping | None:
    """What is kept of a run in torch's kernels; None for one in exact numbers, or with a backward pass of the user's own."""
    own = bool(program.graph.surrogates)
    program.in_kernels = arithmetic != "exact" and not own
    if not program.in_kernels and (keep not in (None, "all") or store is not None):
        what = "a backward pass of your own is" if own else "exact numbers are"
        raise InputError(f"the record with {what} kept in memory and whole; leave keep and store out")
    chosen = keeping(program, keep, store) if program.in_kernels else None
    if chosen is not None and chosen.keep != "all" and evidence != "none":
        raise InputError(
            "evidence compares every number of the record, so it has to be kept: give keep='all', if need be with "
            "store='trace.safetensors', or leave the evidence out"
        )
    return chosen


def give_rules(program: Program, spec: Any, model: Any) -> None:
    """Enter the update rule of each parameter; what an optimizer does not hold, it does not train."""
    if spec is None:
        return
    if isinstance(model, Graph):
        tensors = tensors_of(model.origin.wrapped) if isinstance(model.origin, ModuleOrigin) else {}
    else:
        tensors = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
    program.optimizer, program.groups = rules_of(spec, tensors)
    if program.groups:
        program.trained = tuple(n for n in program.trained if n in program.groups)


def _check_choices(arithmetic: str, evidence: str, batch: str, steps: int) -> None:
    for name, value, known in (
        ("arithmetic", arithmetic, ("model", "float64", "exact")),
        ("evidence", evidence, ("full", "sampled", "none")),
        ("batch", batch, ("full", "sample")),
    ):
        if value not in known:
            raise InputError(f"{name} is one of {', '.join(known)}, not {value!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 0 < steps <= 100_000:
        raise InputError(f"steps must be a whole number from 1 to 100000, not {steps!r}")


def _program(
    model: Any, inputs: Any, targets: Any, loss: Any, output: Any, arithmetic: str, parameters: tuple[str, ...] = ()
) -> Program:
    from ..capturing import capture

    if isinstance(model, Graph):
        if model.origin is None or not hasattr(model.origin, "leaves"):
            raise InputError("this Graph has no model behind it; trace the model itself")
        graph = model
    else:
        if inputs is None:
            raise InputError("trace needs example inputs: bp.trace(model, inputs, ...)")
        if arithmetic != "model":
            model, inputs, targets = _doubled(model), _double(inputs), _double(targets)
            loss = _doubled(loss)
        graph = capture(model, inputs, loss=loss, targets=targets, output=output, parameters=parameters)
    require_numbers(graph)
    start = {name: tensor.clone() for name, tensor in graph.origin.leaves().items()}  # the model may be trained later
    _check_finite(graph, start)
    return Program(
        graph,
        start,
        tuple(n.name for n in graph.parameters if not n.is_frozen),
        samples=_sample_leaves(graph),
        capture_for=_recapture(model, loss, output, graph),
        exact=_exact_leaves(graph, start) if arithmetic == "exact" else None,
    )


def _doubled(model: Any) -> Any:
    import copy

    return copy.deepcopy(model).double() if isinstance(model, nn.Module) else model


def _double(value: Any) -> Any:
    def change(x: Any) -> Any:
        return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x

    return tree_map(change, value)


def _check_finite(graph: Graph, start: Mapping[str, Tensor]) -> None:
    given = [n for n in graph.of_role("input", "target", "parameter") if not all_finite([start[n.name]])]
    if given:
        node, tensor = given[0], start[given[0].name]
        bad = (~torch.isfinite(tensor)).nonzero()[0].tolist()
        raise InputError(
            f"the {node.role} '{node.name}' contains {tensor[tuple(bad)].item()} at {bad}; "
            "every given must be a finite number"
        )


def _sample_leaves(graph: Graph) -> tuple[str, ...]:
    leaves = [n for n in graph.of_role("input", "target") if n.shape]
    sizes = {n.shape[0] for n in leaves}
    return tuple(n.name for n in leaves) if len(sizes) == 1 else ()


def _recapture(model: Any, loss: Any, output: Any, graph: Graph) -> Any:
    """A function that captures the model again on one sample."""

    def again(leaves: Mapping[str, Tensor]) -> Graph:
        from ..capturing import capture

        origin = graph.origin
        flat, shape = tree_flatten((origin.args, origin.keywords, origin.targets))
        cut = [leaves.get(name or "", x) for name, x in zip(origin.order, flat, strict=True)]
        args, keywords, targets = tree_unflatten(cut, shape)
        wrapped = origin.wrapped
        is_function = hasattr(wrapped.model, "function")
        trained = [n.name for n in graph.parameters] if is_function else []
        model = wrapped.model.function[0] if is_function else _moved(wrapped.model, graph, leaves)
        return capture(
            model,
            keywords or args,
            loss=wrapped._loss[0],
            targets=targets,
            output=wrapped._pick,
            parameters=trained,
        )

    return again


def _moved(model: nn.Module, graph: Graph, leaves: Mapping[str, Tensor]) -> nn.Module:
    """The model at other parameters, where its way depends on them; the model itself where it does not."""
    import copy

    if not graph.noted.get("recorded", {}).get("decisions"):
        return model
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
            if name in leaves:
                tensor.copy_(leaves[name])
    return twin


def _exact_leaves(graph: Graph, start: Mapping[str, Tensor]) -> dict[str, Array]:
    found = {}
    for node in graph.nodes:
        if node.is_leaf and node.role != "constant":
            found[node.name] = exact.array(start[node.name].tolist(), node.shape)
    return found
