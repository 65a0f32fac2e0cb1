"""One step of training, as it is recorded, measured and handed to the user: plain, checkpointed, or in parts.

The same function runs on fake tensors (the prediction) and on real ones (the measurement).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint

__all__ = ["Segment", "Way", "batch_of", "parts_of", "rearranged", "train_step"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Segment:
    """Consecutive blocks whose activations are not kept but computed again: their paths in the model.

    ``random`` says whether they draw random numbers, whose state must then be kept for the second time.
    """

    blocks: tuple[str, ...]
    random: bool = False


@dataclass(frozen=True)
class Way:
    """How a training step is made.

    Args:
        segments: what is checkpointed.
        parts: into how many micro-batches the batch is split.
        optimizer: settings of the optimizer that are changed, as {"foreach": False}.
        mean: whether the loss is a mean over the batch (then a part counts by its share) or a sum.
    """

    segments: tuple[Segment, ...] = ()
    parts: int = 1
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    mean: bool = True


def train_step(
    model: nn.Module,
    optimizer: Any,
    inputs: Inputs,
    targets: Any,
    loss: Callable[..., Tensor] | None,
    way: Way,
    enter: Callable[[str], None] = lambda phase: None,
) -> Tensor:
    """Clear the gradients, run forward and backward (for each part), update; the loss, detached.

    What the step has computed is let go when it returns; the gradients stay until the next step clears them.
    """
    enter("clear")
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
    else:
        model.zero_grad(set_to_none=True)
    total: Tensor | None = None
    with rearranged(model, way.segments):
        for args, keywords, wanted, share in parts_of(inputs, targets, way):
            found = _pass(model, args, keywords, wanted, loss, share, enter)
            total = found if total is None else total + found
    if optimizer is not None:
        enter("update")
        optimizer.step()
    assert total is not None
    return total


def _pass(
    model: nn.Module, args: Any, keywords: Any, targets: Any, loss: Any, share: float, enter: Callable[[str], None]
) -> Tensor:
    enter("forward")
    output = model(*args, **keywords)
    enter("loss")
    value = output if loss is None else loss(output) if targets is None else loss(output, targets)
    if share != 1:
        value = value * share
    enter("backward")
    value.backward()
    found: Tensor = value.detach()
    return found


def batch_of(inputs: Inputs) -> int:
    """The batch size: the first axis of the first tensor among the inputs (0 where there is none)."""
    sizes = (t.shape[0] for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.ndim)
    return next(sizes, 0)


def parts_of(inputs: Inputs, targets: Any, way: Way) -> Iterator[tuple[Any, Any, Any, float]]:
    """The micro-batches, as views: arguments, keywords, targets, and the share of each in the loss."""
    args, keywords = inputs
    if way.parts == 1:
        yield args, keywords, targets, 1.0
        return
    whole = batch_of(inputs)
    size = -(-whole // way.parts)
    for start in range(0, whole, size):
        end = min(start + size, whole)
        cut = tree_map(lambda t, a=start, b=end: _rows(t, whole, a, b), (args, keywords, targets))
        yield *cut, (end - start) / whole if way.mean else 1.0


def _rows(value: Any, whole: int, start: int, end: int) -> Any:
    is_batch = isinstance(value, Tensor) and value.ndim and value.shape[0] == whole
    return value[start:end] if is_batch else value


@contextmanager
def rearranged(model: nn.Module, segments: Sequence[Segment]) -> Iterator[None]:
    """The model with these segments checkpointed while inside; it is left as it was."""
    with ExitStack() as stack:
        for parent, group in _by_parent(segments).items():
            holder = model.get_submodule(parent)
            joined = any(len(s.blocks) > 1 for s in group)
            if joined and isinstance(holder, nn.Sequential):
                stack.enter_context(_forward(holder, _sequence(holder, parent, group)))
            else:
                for s in group:
                    block = model.get_submodule(s.blocks[0])
                    stack.enter_context(_forward(block, _checkpointed(block.forward, [block], s.random)))
        yield


def _by_parent(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for s in segments:
        found.setdefault(s.blocks[0].rpartition(".")[0], []).append(s)
    return found


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give a module another ``forward`` for a while."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if own is not None:
            module.forward = own


def _sequence(holder: nn.Sequential, parent: str, group: Sequence[Segment]) -> Callable[[Any], Any]:
    """The forward of a Sequential in which some runs of blocks are checkpointed."""
    owner = {path.rpartition(".")[2]: s for s in group for path in s.blocks}
    pieces: list[tuple[Segment | None, list[nn.Module]]] = []
    for name, block in holder.named_children():
        s = owner.get(name)
        if s is None or not pieces or pieces[-1][0] is not s:
            pieces.append((s, []))
        pieces[-1][1].append(block)

    def forward(x: Any) -> Any:
        for s, blocks in pieces:
            run = _chain(blocks)
            x = run(x) if s is None else _checkpointed(run, blocks, s.random)(x)
        return x

    return forward


def _chain(blocks: Sequence[nn.Module]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        for block in blocks:
            x = block(x)
        return x

    return run


def _checkpointed(run: Callable[..., Any], blocks: Sequence[nn.Module], random: bool) -> Callable[..., Any]:
    """``run`` under a checkpoint; running statistics are not moved a second time when it is computed again."""
    norms = [m for b in blocks for m in b.modules() if isinstance(m, _NormBase) and m.track_running_stats]

    def again(*args: Any, **keywords: Any) -> Any:
        def contexts() -> tuple[Any, Any]:
            return ExitStack(), _still(norms)

        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=random, context_fn=contexts, **keywords)

    return again


@contextmanager
def _still(norms: Sequence[Any]) -> Iterator[None]:
    """Keep batch-norm statistics where they are: momentum 0, no counting."""
    kept = [(m, m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum, m.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for m, momentum, count in kept:
            m.momentum, m.num_batches_tracked = momentum, count
