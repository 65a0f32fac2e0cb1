"""Record training steps of a model on fake tensors, and turn the record into a timeline of bytes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ...domains.bytes import FOREVER, Instant, Storage, Timeline
from ...errors import InputError
from ...joint import Recorder, Seen, Spec
from .scratch import Scratch, measure_scratch
from .stepping import Inputs, Way, batch_of, train_step

__all__ = ["Case", "Record", "make_optimizer", "recorded"]

RNG_STATE = 5056
"""The bytes of the CPU generator's state, which a checkpoint keeps where its blocks draw random numbers."""


@dataclass(frozen=True)
class Case:
    """What is trained: model, inputs, targets, loss and optimizer.

    Args:
        model: an nn.Module, real or on the meta device; it is not changed.
        inputs: positional and keyword arguments of its forward.
        targets: what the loss compares with, or None.
        loss: a function, or None where the output is the loss.
        optimizer: an instance, (class, settings), or None.
    """

    model: nn.Module
    inputs: Inputs
    targets: Any
    loss: Callable[..., Any] | None
    optimizer: Any

    @property
    def bytes(self) -> int:
        """The bytes of inputs and targets."""
        tensors = [t for t in tree_leaves((self.inputs, self.targets)) if isinstance(t, Tensor)]
        return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())

    def with_batch(self, size: int) -> Case:
        """The same with another batch size; the tensors are descriptions without memory."""
        whole = batch_of(self.inputs)

        def resized(value: Any) -> Any:
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == whole:
                return torch.empty((size, *value.shape[1:]), dtype=value.dtype, device="meta")
            return value

        inputs, targets = tree_map(resized, (self.inputs, self.targets))
        return replace(self, inputs=inputs, targets=targets)


@dataclass(frozen=True)
class Record:
    """A timeline, with what a plan needs besides.

    Args:
        timeline: storages and instants.
        called: the modules that ran, and the numbers of the storages that each was first given.
        output: the layout of the model's output, where it is one tensor.
        unmeasured: how many distinct operations were too large to be run by themselves.
    """

    timeline: Timeline
    called: Mapping[str, tuple[int, ...]]
    output: Spec | None
    unmeasured: int


def make_optimizer(spec: Any, model: nn.Module, twin: nn.Module, changes: Mapping[str, Any]) -> Any:
    """The optimizer that a specification means, for the parameters of the model's twin (or of the model itself)."""
    if spec is None:
        return None
    twins = dict(zip((id(p) for p in model.parameters()), twin.parameters(), strict=True))
    try:
        if isinstance(spec, torch.optim.Optimizer):
            groups = [
                {**_supported(type(spec), {**g, **changes}), "params": [twins[id(p)] for p in g["params"]]}
                for g in spec.param_groups
            ]
            return type(spec)(groups, **_supported(type(spec), {**spec.defaults, **changes}))
        kind, settings = spec
        return kind([p for p in twin.parameters() if p.requires_grad], **{**settings, **changes})
    except KeyError:
        raise InputError(
            "the optimizer holds parameters that are not the model's; make it from model.parameters()"
        ) from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the optimizer could not be made: {str(error)[:200]}") from None


def _supported(kind: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    known = inspect.signature(kind).parameters
    return {k: v for k, v in settings.items() if k in known and k != "params"}


def recorded(case: Case, way: Way, *, steps: int = 2, scratch: dict[Any, Scratch] | None = None) -> Record:
    """Record training steps made in a way.

    Args:
        case: what is trained.
        way: how the step is made.
        steps: how many steps; 2 are a first one and one of the steady state. 0 means one step of the steady state.
        scratch: what single operations are known to allocate inside themselves; unknown ones are run and entered.
            None: no operation is run.
    """
    recorder = Recorder()
    try:
        output = _run(recorder, case, way, steps)
    except InputError:
        raise
    except torch._subclasses.fake_tensor.DynamicOutputShapeException as error:
        raise InputError(_data_dependent(error)) from None
    except torch._subclasses.fake_tensor.DataDependentOutputException as error:
        raise InputError(_data_dependent(error)) from None
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError, KeyError) as error:
        raise InputError(f"the training step could not be recorded: {_short(error)}") from None
    if scratch is not None:
        measure_scratch(recorder.calls, scratch)
    return _record(recorder, scratch or {}, way, output)


def _data_dependent(error: Exception) -> str:
    return (
        f"the size of a tensor depends on the numbers in another ({_short(error)}), so the memory of a step cannot be "
        "said without running it on real data; torch.where instead of selecting by a mask keeps the size fixed"
    )


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else 'no message'}"


def _run(recorder: Recorder, case: Case, way: Way, steps: int) -> Spec | None:
    twin = recorder.model(case.model)
    outputs: list[Spec | None] = []
    inputs, targets, loss = _fakes(recorder, case, outputs)
    with recorder.running():
        optimizer = make_optimizer(case.optimizer, case.model, twin, way.optimizer)
        if steps == 0:
            _prime(recorder, twin, optimizer)
        for _ in range(max(steps, 1)):
            _enter_step(recorder, twin, optimizer, inputs, targets, loss, way)
            recorder.next_step()
    return outputs[0] if outputs else None


def _fakes(recorder: Recorder, case: Case, outputs: list[Spec | None]) -> tuple[Inputs, Any, Any]:
    def fake(value: Any) -> Any:
        return recorder.tensor(value, "inputs", "input") if isinstance(value, Tensor) else value

    inputs, targets = tree_map(fake, (case.inputs, case.targets))
    if case.loss is None:
        return inputs, targets, None
    given = recorder.model(case.loss) if isinstance(case.loss, nn.Module) else case.loss

    def loss(output: Any, *wanted: Any) -> Tensor:
        one = isinstance(output, Tensor)
        outputs.append(Spec(tuple(output.shape), tuple(output.stride()), output.dtype) if one else None)
        found: Tensor = given(output, *wanted)
        return found

    return inputs, targets, loss


def _enter_step(
    recorder: Recorder, twin: nn.Module, optimizer: Any, inputs: Inputs, targets: Any, loss: Any, way: Way
) -> None:
    def enter(phase: str) -> None:
        if phase == "update":
            recorder.label({n: p.grad for n, p in twin.named_parameters() if p.grad is not None}, "gradients")
        recorder.enter(phase)

    train_step(twin, optimizer, inputs, targets, loss, way, enter)
    recorder.label({n: p.grad for n, p in twin.named_parameters() if p.grad is not None}, "gradients")
    recorder.label(_state(twin, optimizer), "optimizer state")


def _prime(recorder: Recorder, twin: nn.Module, optimizer: Any) -> None:
    """Bring the optimizer into its steady state without a forward pass: one update with gradients of zeros."""
    recorder.enter("update")
    recorder.step = 0
    for p in twin.parameters():
        p.grad = torch.empty_like(p) if p.requires_grad else None
    recorder.label({n: p.grad for n, p in twin.named_parameters() if p.grad is not None}, "gradients")
    if optimizer is not None:
        optimizer.step()
        recorder.label(_state(twin, optimizer), "optimizer state")
    recorder.step = 1


def _state(twin: nn.Module, optimizer: Any) -> dict[str, Tensor]:
    if optimizer is None:
        return {}
    names = {id(p): n for n, p in twin.named_parameters()}
    found: dict[str, Tensor] = {}
    for p, state in optimizer.state.items():
        leaves: Sequence[Any] = tree_leaves(state)
        found.update({f"{names.get(id(p), '?')}[{i}]": t for i, t in enumerate(leaves) if isinstance(t, Tensor)})
    return found


def _record(recorder: Recorder, known: Mapping[Any, Scratch], way: Way, output: Spec | None) -> Record:
    scratch = {n: known[c.key] for n, c in enumerate(recorder.calls) if c.key in known}
    instants = tuple(
        Instant(
            s.step, s.phase, s.op, s.module, s.source, s.flops,
            scratch[s.call].inside if s.call in scratch else 0, s.again, s.random,
        )
        for s in recorder.spots
    )  # fmt: skip
    storages = [_storage(s, instants, scratch) for s in recorder.storages]
    unmeasured = sum(c.bytes > 0 and n not in scratch for n, c in enumerate(recorder.calls))
    return Record(Timeline((*storages, *_generators(instants, way)), instants), recorder.called, output, unmeasured)


def _storage(seen: Seen, instants: Sequence[Instant], scratch: Mapping[int, Scratch]) -> Storage:
    size = seen.bytes
    if seen.call in scratch and seen.place < len(scratch[seen.call].sizes):
        size = scratch[seen.call].sizes[seen.place]
    at = instants[seen.birth] if 0 <= seen.birth < len(instants) else None
    where = (at.op, at.module, at.source) if at else ("", "", "")
    death = FOREVER if seen.death is None else seen.death
    return Storage(size, seen.kind or "temporaries", max(seen.birth, 0), death, *where, seen.name, seen.shape)


def _generators(instants: Sequence[Instant], way: Way) -> list[Storage]:
    """The generator states that checkpoints keep, from the forward pass to the end of the backward pass."""
    random = sum(s.random for s in way.segments) * way.parts
    if not random:
        return []
    ends: dict[int, tuple[int, int]] = {}
    for i, at in enumerate(instants):
        if at.phase in ("forward", "loss", "backward"):
            ends[at.step] = (ends.get(at.step, (i, i))[0], i)
    return [Storage(RNG_STATE * random, "activations", a, b, "generator state") for a, b in ends.values()]
