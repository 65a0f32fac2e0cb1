"""How much memory one training step needs, when, and for what: ``bp.memory``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ...capturing.example import loss_function
from ...document.blocks import Block, Callout, Document, Paragraph, Parts, Plot, Section, Series, Table
from ...domains.bytes import KINDS, Instant, Storage, read_bytes, spoken_bytes
from ...errors import InputError
from ...graph import Graph
from ...result import Result
from .record import Case, Record, recorded
from .stepping import Way, batch_of

if TYPE_CHECKING:
    from .measure import Measurement
    from .plan import Plan

__all__ = ["Memory", "case_of", "course", "living_table", "memory", "when"]

LISTED = 12


@dataclass(frozen=True)
class Memory(Result):
    """The memory of a training step; see :func:`memory`.

    ``peak_bytes`` is that of the steady state (step 2 and later), ``first_step_peak_bytes`` that of the first step, in which
    the optimizer makes its state only at the end.
    """

    case: Case = field(repr=False)
    record: Record = field(repr=False)
    scratch: dict[Any, Any] | None = field(repr=False)
    remarks: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """The largest number of live bytes in a step of the steady state."""
        return self.record.timeline.peak(2)

    @property
    def first_step_peak_bytes(self) -> int:
        """The same in the first step."""
        return self.record.timeline.peak(1)

    @property
    def when(self) -> str:
        """The phase and the operation at which the peak is reached."""
        return when(self._instant)

    @property
    def _instant(self) -> Instant:
        return self.record.timeline.instants[self.record.timeline.peak_at(2)]

    @property
    def live_at_peak(self) -> tuple[Storage, ...]:
        """The storages that are live at the peak, the largest first, each with what made it."""
        return self.record.timeline.living(self.record.timeline.peak_at(2))

    @property
    def breakdown(self) -> dict[str, int]:
        """The bytes at the peak by kind; their sum is ``peak_bytes``."""
        return self.record.timeline.breakdown(self.record.timeline.peak_at(2))

    def max_batch(self, budget: Any) -> int:
        """The largest batch size whose step stays within a budget (0 where not even one sample fits).

        Each size that is tried is predicted, not extrapolated.

        Args:
            budget: bytes, or text as "600MB".

        Raises:
            InputError: the budget is no positive number, or the model takes no other batch size.
        """
        from .plan import largest_batch

        return largest_batch(self, read_bytes(budget))

    def plan(self, budget: Any, allow: tuple[str, ...] = ("optimizer", "checkpoints", "parts")) -> Plan:
        """A way to make the same step within a budget; see :class:`backproof.Plan`.

        Args:
            budget: bytes, or text as "600MB".
            allow: which remedies may be used: "optimizer" (another implementation of the same rule), "checkpoints"
                (activations computed again), "parts" (micro-batches whose gradients are added).
        """
        from .plan import plan_for

        return plan_for(self, read_bytes(budget), allow)

    def measure(self) -> Measurement:
        """Run two plain steps in a process of their own and compare: see :meth:`backproof.Plan.measure`."""
        from .measure import measured

        return measured(self, Way(), max(self.peak_bytes, self.first_step_peak_bytes), 0.0)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record as plain data."""
        return {
            "peak_bytes": self.peak_bytes,
            "first_step_peak_bytes": self.first_step_peak_bytes,
            "when": self.when,
            "breakdown": self.breakdown,
            "live_at_peak": [_storage(s) for s in self.live_at_peak[: None if full else LISTED]],
            "operations": len(self.record.timeline.span(2)),
            "not_measured": self.record.unmeasured,
            "remarks": list(self.remarks),
        }

    def document(self) -> Document:
        """The prediction as a page."""
        rows = tuple((k, KINDS[k], spoken_bytes(n), f"{n:,}") for k, n in self.breakdown.items())
        head = (("kind",), ("what it is",), ("size",), ("bytes",))
        blocks: list[Block] = [
            Paragraph((_headline(self),)),
            Section("At the peak", (Table(head, rows), *living_table(self.live_at_peak)), "result", "peak"),
            Section("Through the step", (course(self),), "result", "course"),
        ]
        blocks += [Callout("note", (r,)) for r in self.remarks]
        return Document("Memory of a training step", tuple(blocks), record=self.to_dict())


def _headline(found: Memory) -> str:
    return (
        f"A step of the steady state needs {spoken_bytes(found.peak_bytes)} ({found.peak_bytes:,} bytes) at most, during "
        f"{found.when}. The first step needs {spoken_bytes(found.first_step_peak_bytes)}."
    )


def when(at: Instant) -> str:
    """An instant in words: phase, operation, module, line."""
    phases = {"clear": "the clearing of gradients", "forward": "the forward pass", "loss": "the loss"}
    phase = phases.get(at.phase, {"backward": "the backward pass", "update": "the update"}.get(at.phase, at.phase))
    place = f" of {at.module}" if at.module else ""
    return f"{phase}, in {at.op}{place}" + (f" ({at.source})" if at.source else "")


def _storage(s: Storage) -> dict[str, Any]:
    return {
        "bytes": s.bytes, "kind": s.kind, "name": s.name, "shape": list(s.shape),
        "operation": s.op, "module": s.module, "line": s.source,
    }  # fmt: skip


def living_table(storages: tuple[Storage, ...], most: int = LISTED) -> tuple[Block, ...]:
    """The largest storages as a table, and what the others add up to."""
    shown = storages[:most]
    head: tuple[Parts, ...] = (("size",), ("kind",), ("shape",), ("made by",), ("at",))
    rows = [
        (spoken_bytes(s.bytes), s.kind, " x ".join(map(str, s.shape)) or "one number", _maker(s), s.source)
        for s in shown
    ]
    width = 5 if any(s.source for s in shown) else 4
    rest = storages[most:]
    more = f"{len(rest)} more hold {spoken_bytes(sum(s.bytes for s in rest))}." if rest else ""
    return (
        Table(head[:width], tuple(row[:width] for row in rows), "The largest storages that are live then"),
        *([Paragraph((more,))] if more else []),
    )


def _maker(s: Storage) -> str:
    if s.name and s.kind in ("parameters", "buffers", "inputs", "gradients", "optimizer state"):
        return s.name
    return f"{s.op} in {s.module}" if s.module else s.op


def course(found: Memory) -> Plot:
    """The live bytes through a step of the steady state."""
    span = found.record.timeline.span(2)
    live = [found.record.timeline.live[i] / 1e6 for i in span]
    kept = thinned(live)
    series = Series("predicted", tuple(float(i) for i in kept), tuple(live[i] for i in kept))
    text = f"Live memory over the {len(live)} operations of one step; it rises while activations are kept, and falls."
    return Plot((series,), "operation of the step", "live memory in MB", (text,), text)


def thinned(values: list[float], most: int = 300) -> list[int]:
    """The places of at most so many values: of each stretch its largest."""
    width = max(1, -(-len(values) // most))
    return [max(range(a, min(a + width, len(values))), key=values.__getitem__) for a in range(0, len(values), width)]


def memory(
    model: Any, *inputs: Any, loss: Any = None, optimizer: Any = None, targets: Any = None, measure: bool | None = None
) -> Memory:
    """Predict the memory of one training step, without running it.

    peak = max over the operations of the step of (live storages + what the operation allocates inside itself). The step is
    run by torch itself on tensors without memory, so that autograd and the optimizer keep what they really keep; each
    distinct operation is then run once by itself, to see what its kernel allocates.

    Args:
        model: an nn.Module (the "meta" device is welcome), or a captured Graph.
        *inputs: what the model takes; or one dict of keywords.
        loss: a function of (output, targets) or its name; None if the output is the loss. A model whose output is
            no single number is then given the sum of its outputs as loss.
        optimizer: an instance, a class of torch.optim, (class, settings) or a name; None for no update.
        targets: what the loss compares with.
        measure: whether single operations are run; by default if the model's own tensors are real.

    Returns:
        A Memory: ``.peak_bytes``, ``.first_step_peak_bytes``, ``.when``, ``.live_at_peak``, ``.breakdown``,
        ``.max_batch(budget)``, ``.plan(budget)``.

    Raises:
        InputError: the step cannot be run, or its memory depends on numbers in its data.

    Example:
        >>> import torch, backproof as bp
        >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
        >>> x, t = torch.ones(100, 64), torch.zeros(100, 1)
        >>> found = bp.memory(net, x, loss="mse", targets=t)
        >>> found.breakdown["parameters"], found.breakdown["inputs"]  # (64·64 + 64 + 64 + 1) · 4, (6400 + 100) · 4
        (16900, 26000)
    """
    case, remarks = case_of(model, inputs, loss, optimizer, targets)
    real = all(p.device.type == "cpu" for p in case.model.parameters())
    scratch: dict[Any, Any] | None = {} if (real if measure is None else measure) else None
    record = recorded(case, Way(), scratch=scratch)
    if scratch is None:
        remarks += (
            "What operations allocate inside themselves was not measured; the real peak may be higher by that.",
        )
    elif record.unmeasured:
        remarks += (
            f"{record.unmeasured} distinct operations are too large to be run by themselves, or their kernel refused "
            "made-up numbers; what they allocate inside themselves is not counted.",
        )
    return Memory(case, record, scratch, remarks)


def case_of(model: Any, inputs: Any, loss: Any, optimizer: Any, targets: Any) -> tuple[Case, tuple[str, ...]]:
    """What is trained, checked; and remarks."""
    if isinstance(model, Graph):
        model, inputs, loss, targets = _behind(model, inputs, loss, targets)
    if not isinstance(model, nn.Module):
        raise InputError(f"memory needs an nn.Module, whose parameters it can see, not a {type(model).__name__}")
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        given: tuple[tuple[Any, ...], dict[str, Any]] = ((), dict(inputs[0]))
    else:
        given = (tuple(inputs), {})
    tensors = [t for t in tree_leaves(given) if isinstance(t, Tensor)]
    if not tensors or (batch_of(given) == 0 and tensors[0].ndim and not tensors[0].numel()):
        raise InputError("memory needs example inputs: bp.memory(model, x), with at least one sample in x")
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError("the model has no parameter that is trained, so there is no training step")
    case = Case(model, given, targets, loss_function(loss), _optimizer(optimizer))
    return (_with_stand_in(case), (_STAND_IN,)) if case.loss is None and _is_no_loss(case) else (case, ())


_STAND_IN = "The output is no single number and no loss was given, so the sum of the output stands in for the loss."


def _behind(graph: Graph, inputs: Any, loss: Any, targets: Any) -> tuple[Any, Any, Any, Any]:
    origin: Any = graph.origin
    if not hasattr(origin, "wrapped"):
        raise InputError("this Graph has no model behind it; give the model itself")
    own = (origin.keywords,) if origin.keywords and not origin.args else origin.args
    found = origin.wrapped.loss_module or origin.wrapped._loss[0]
    return origin.wrapped.model, inputs or own, loss or found, origin.targets if targets is None else targets


def _is_no_loss(case: Case) -> bool:
    """Whether the model's output is something else than one number."""
    shapes: list[bool] = []

    def look(output: Any) -> Tensor:
        shapes.append(isinstance(output, Tensor) and output.numel() == 1)
        return _summed(output)

    recorded(Case(case.model, case.inputs, None, look, None), Way(), steps=1)
    return not shapes[0]


def _with_stand_in(case: Case) -> Case:
    return Case(case.model, case.inputs, None, _summed, case.optimizer)


def _summed(output: Any) -> Tensor:
    found = [t for t in tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]
    tensors = [t for t in found if t.requires_grad] or found
    if not tensors:
        raise InputError("the model returns no tensor of floating-point numbers, so there is nothing to train")
    total = tensors[0].sum()
    for t in tensors[1:]:
        total = total + t.sum()
    return total


def _optimizer(spec: Any) -> Any:
    """An instance as it is; a name or class as (class, settings)."""
    if spec is None or isinstance(spec, torch.optim.Optimizer):
        return spec
    kind, settings = spec if isinstance(spec, tuple) and len(spec) == 2 else (spec, {})
    if isinstance(kind, str):
        kind = _named(kind)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or not isinstance(settings, Mapping):
        raise InputError(
            f"{spec!r} is not an optimizer; give a name, a torch.optim class, (class, settings) or an instance"
        )
    if kind is torch.optim.LBFGS:
        raise InputError(
            "LBFGS evaluates the loss many times in one step; the memory of that is not predicted. What it keeps between steps, "
            "2 history_size + 2 numbers per parameter, is in bp.optimizer('lbfgs').state"
        )
    return kind, dict(settings)


def _named(name: str) -> Callable[..., Any]:
    classes = {n.lower(): c for n, c in vars(torch.optim).items() if isinstance(c, type)}
    classes.pop("optimizer", None)
    if name.lower() not in classes:
        raise InputError(f"torch.optim has no optimizer called '{name}'; known: {', '.join(sorted(classes))}")
    found: Callable[..., Any] = classes[name.lower()]
    return found
