"""Find a way to make the same training step within a budget of bytes, and say what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from ...document.blocks import Block, Callout, Document, Items, Paragraph, Section, Table
from ...domains.bytes import spoken_bytes
from ...errors import InputError
from ...progress import task
from ...result import Result
from .record import Case, make_optimizer, recorded
from .segments import Choice, blocks_of, choices, uniform
from .stepping import Way, batch_of, train_step

if TYPE_CHECKING:
    from .measure import Measurement
    from .memory import Memory

__all__ = ["Plan", "Search", "largest_batch", "plan_for"]

REMEDIES = ("optimizer", "checkpoints", "parts")
LARGEST_BATCH = 2**40
MOST_PARTS = 256


@dataclass(frozen=True)
class Plan(Result):
    """A way to make a training step within a budget.

    Args:
        budget: the bytes allowed.
        way: the segments, parts and optimizer settings.
        predicted_peak: the predicted peak of a step of the steady state (or of the first, where that is larger).
        predicted_overhead: the additional floating-point operations, as a share of the plain step's.
        changes_result: whether the update is another one (beyond rounding): parts with batch norm or random numbers.
        steps: what is done, in sentences.
        tried: every way that was predicted: what it is, peak, overhead.
        plain_peak: the peak without any remedy.
        floor: the bytes of parameters, gradients, optimizer state, buffers and inputs, which no remedy here removes.
        note: why no better is offered, where the budget is not met.
    """

    budget: int
    way: Way
    predicted_peak: int
    predicted_overhead: float
    changes_result: bool
    steps: tuple[str, ...]
    tried: tuple[tuple[str, int, float], ...]
    plain_peak: int
    floor: int
    source: Memory = field(repr=False)
    note: str = ""

    @property
    def meets(self) -> bool:
        """Whether the predicted peak is within the budget."""
        return self.predicted_peak <= self.budget

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether no plan meets the budget; then this is the nearest."""
        return not self.meets

    def apply(self) -> Callable[..., Tensor]:
        """A training step that works this way: ``loss = step()`` or ``step(inputs, targets)`` for another batch.

        It clears the gradients, runs forward and backward, and updates the parameters of the model that was given. The
        model is not rearranged outside the step.

        Raises:
            InputError: the model is on the meta device.
        """
        case = self.source.case
        if any(p.device.type == "meta" for p in case.model.parameters()):
            raise InputError("the model is only described (on the meta device); make it with numbers to run its step")
        optimizer = case.optimizer
        if not isinstance(optimizer, torch.optim.Optimizer) or self.way.optimizer:
            optimizer = make_optimizer(case.optimizer, case.model, case.model, self.way.optimizer)

        def step(inputs: Any = None, targets: Any = None) -> Tensor:
            given = case.inputs if inputs is None else _as_inputs(inputs)
            wanted = case.targets if targets is None else targets
            return train_step(case.model, optimizer, given, wanted, case.loss, self.way)

        return step

    def measure(self) -> Measurement:
        """Run the plain step and this one in a process of its own, and compare: memory, time, gradients."""
        from .measure import measured

        return measured(self.source, self.way, self.predicted_peak, self.predicted_overhead)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "budget": self.budget,
            "meets": self.meets,
            "plain_peak": self.plain_peak,
            "floor": self.floor,
            "predicted_peak": self.predicted_peak,
            "predicted_overhead": self.predicted_overhead,
            "changes_result": self.changes_result,
            "steps": list(self.steps),
            "segments": [list(s.blocks) for s in self.way.segments],
            "parts": self.way.parts,
            "optimizer": dict(self.way.optimizer),
            "tried": [{"way": w, "peak": p, "overhead": o} for w, p, o in self.tried],
            "note": self.note,
        }

    def document(self) -> Document:
        """The plan as a page."""
        return Document("A plan for the memory of a training step", self.blocks(), record=self.to_dict())

    def blocks(self) -> tuple[Block, ...]:
        """The plan's steps and what was tried."""
        rows = tuple(
            (w, spoken_bytes(p), f"{100 * o:.1f} %", "yes" if p <= self.budget else "no") for w, p, o in self.tried
        )
        head = (("way",), ("peak",), ("more work",), ("within the budget",))
        verdict: tuple[Block, ...] = ()
        if not self.meets:
            text = (
                f"No plan meets the budget of {spoken_bytes(self.budget)}. The nearest needs {spoken_bytes(self.predicted_peak)}; "
                f"parameters, gradients, optimizer state and inputs alone take {spoken_bytes(self.floor)} at the update."
            )
            verdict = (Callout("finding", (f"{text} {self.note}".strip(),)),)
        return (
            *verdict,
            Paragraph((_spoken(self),)),
            Items(tuple((s,) for s in self.steps), ordered=True),
            Section("What was tried", (Table(head, rows),), "result", "tried"),
        )


def _spoken(plan: Plan) -> str:
    changes = "The update is not the same" if plan.changes_result else "The update is the same up to rounding"
    return (
        f"Budget {spoken_bytes(plan.budget)}; the plain step needs {spoken_bytes(plan.plain_peak)}, this plan "
        f"{spoken_bytes(plan.predicted_peak)} at {100 * plan.predicted_overhead:.1f} % more work. {changes}."
    )


def _as_inputs(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple) else (inputs,)), {}


class Search:
    """Predicts ways, each once."""

    def __init__(self, source: Memory) -> None:
        self.source = source
        self.case, self.plain = source.case, source.record
        self.work = self.plain.timeline.flops(2)
        self.seen: dict[str, tuple[Way, int, float]] = {}

    def peak(self, way: Way) -> int:
        """The predicted peak of a way: the larger of its first step and of its steady state."""
        return self._found(way)[1]

    def overhead(self, way: Way) -> float:
        """The additional work of a way, as a share of the plain step's."""
        return self._found(way)[2]

    def _found(self, way: Way) -> tuple[Way, int, float]:
        key = described(way)
        if key not in self.seen:
            peak, work = self._predicted(way)
            self.seen[key] = (way, peak, max(0.0, work / self.work - 1))
        return self.seen[key]

    def _predicted(self, way: Way) -> tuple[int, float]:
        """The peak and the work. Of many parts the first three are recorded: the later ones are like the second."""
        if way == Way(mean=way.mean):
            return max(self.plain.timeline.peak(1), self.plain.timeline.peak(2)), self.work
        case, fewer, whole = self.case, way, batch_of(self.case.inputs)
        size = -(-whole // way.parts)
        parts = -(-whole // size)
        if parts > 3:
            case, fewer = case.with_batch(3 * size), replace(way, parts=3)
        line = recorded(case, fewer, scratch=self.source.scratch).timeline
        update = line.flops(2, lambda at: at.phase == "update")
        work = (line.flops(2) - update) * (parts / 3 if parts > 3 else 1) + update
        return max(line.peak(1), line.peak(2)) + self.case.bytes - case.bytes, work

    @property
    def floor(self) -> int:
        """What no remedy here removes: all that is live when the update begins."""
        line = self.plain.timeline
        kinds = ("parameters", "buffers", "inputs", "gradients", "optimizer state")
        first = next((i for i in line.span(2) if line.instants[i].phase == "update"), line.span(2)[-1])
        return sum(size for kind, size in line.breakdown(first).items() if kind in kinds)

    def cheapest(self, found: Sequence[Choice], base: Way, budget: int) -> Way | None:
        """The least work among choices of segments that stays within the budget; None if the most frugal does not."""
        low, high = 0, len(found) - 1
        ways = [replace(base, segments=c.segments) for c in found]
        if not ways or self.peak(ways[high]) > budget:
            frugal = [w for w in ways[-4:-1] if self.peak(w) <= budget]
            return frugal[0] if frugal else None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.peak(ways[middle]) <= budget else (middle + 1, high)
        return ways[low]


def described(way: Way) -> str:
    """A way in words."""
    words = []
    if way.optimizer:
        words.append("optimizer with " + ", ".join(f"{k}={v}" for k, v in way.optimizer.items()))
    if way.segments:
        words.append(f"{len(way.segments)} checkpointed segments ({_spans(way)})")
    if way.parts > 1:
        words.append(f"{way.parts} micro-batches")
    return "; ".join(words) or "the plain step"


def _spans(way: Way) -> str:
    return ", ".join(s.blocks[0] if len(s.blocks) == 1 else f"{s.blocks[0]} to {s.blocks[-1]}" for s in way.segments)


def plan_for(source: Memory, budget: int, allow: Sequence[str] = REMEDIES) -> Plan:
    """The first way in the order of :func:`_ways` whose predicted peak is within the budget; else the nearest."""
    if unknown := [a for a in allow if a not in REMEDIES]:
        raise InputError(f"'{unknown[0]}' is no remedy; known: {', '.join(REMEDIES)}")
    search = Search(source)
    base = Way(mean=True)
    parts, mean, why = _parts(source, allow)
    with task("planning"):
        for way in _ways(search, budget, allow, replace(base, mean=mean), parts):
            if search.peak(way) <= budget:
                return _plan(search, way, budget, why)
        nearest = min(search.seen.values(), key=lambda found: (found[1], found[2]))[0]
    return _plan(search, nearest, budget, why)


def _ways(search: Search, budget: int, allow: Sequence[str], base: Way, parts: Sequence[int]) -> Iterator[Way]:
    """Ways in the order of preference: what costs nothing, then what keeps the gradients to the bit, then parts."""
    yield base
    settings = _optimizers(search.source) if "optimizer" in allow else []
    yield from (replace(base, optimizer=s) for s in settings)
    start = min((base, *(replace(base, optimizer=s) for s in settings)), key=search.peak)
    blocks = blocks_of(search.case.model, search.plain) if "checkpoints" in allow else ()
    found = choices(blocks)[1:] if blocks else []
    hopeless = budget < search.floor
    frugal = [replace(start, segments=c.segments) for c in found[-1:]]
    if found and (way := None if hopeless else search.cheapest(found, start, budget)) is not None:
        yield way
    if found:  # the estimate behind the choices leaves out temporaries: try the plain patterns too
        frugal += [replace(start, segments=uniform(blocks, n)) for n in {len(blocks), math.isqrt(len(blocks))}]
    yield from frugal
    frugal = sorted(frugal, key=search.peak)[:1]
    counts = [n for n in parts if n <= 64][-1:] if hopeless else parts
    yield from _falling(search, (replace(start, parts=n) for n in counts))
    for way in _falling(search, (replace(w, parts=n) for w in frugal for n in counts)):
        yield (search.cheapest(found, replace(way, segments=()), budget) or way) if search.peak(way) <= budget else way


def _falling(search: Search, ways: Iterator[Way]) -> Iterator[Way]:
    """The ways as long as each needs at least 1 % less than the one before."""
    before = math.inf
    for way in ways:
        yield way
        if search.peak(way) > 0.99 * before:
            return
        before = search.peak(way)


def _optimizers(source: Memory) -> list[dict[str, Any]]:
    """Other implementations of the same rule: no temporaries for all tensors at once, or fused into one kernel."""
    spec = source.case.optimizer
    if spec is None:
        return []
    instance = isinstance(spec, torch.optim.Optimizer)
    kind, settings = (type(spec), spec.defaults) if instance else spec
    found: list[dict[str, Any]] = []
    if settings.get("foreach"):
        found.append({"foreach": False})
    floating = all(p.is_floating_point() for p in source.case.model.parameters())
    if kind in (torch.optim.Adam, torch.optim.AdamW) and not settings.get("fused") and floating:
        found.append({"foreach": False, "fused": True})
    return found


def _parts(source: Memory, allow: Sequence[str]) -> tuple[list[int], bool, str]:
    """The numbers of micro-batches to try, whether the loss is a mean, and why there are none."""
    batch = batch_of(source.case.inputs)
    if "parts" not in allow or batch < 2:
        return [], True, ""
    kind = reduction(source)
    if kind is None:
        return [], True, "The loss is neither a mean nor a sum over the batch, so micro-batches are not offered."
    return [2**k for k in range(1, MOST_PARTS.bit_length()) if 2**k <= batch], kind == "mean", ""


def reduction(source: Memory) -> str | None:
    """Whether the loss is a "mean" or a "sum" over the batch, by trying it on random outputs; None if neither."""
    case, spec = source.case, source.record.output
    batch = batch_of(case.inputs)
    if case.loss is None or spec is None or not spec.shape or spec.shape[0] != batch:
        return None
    rows = min(batch, 4)
    generator = torch.Generator().manual_seed(0)
    output = torch.rand((rows, *spec.shape[1:]), generator=generator).to(spec.dtype) * 0.8 + 0.1
    targets = tree_map(lambda t: _some_rows(t, batch, rows), case.targets)
    return _compared(case.loss, output, targets, rows)


def _some_rows(value: Any, batch: int, rows: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    some = value[:rows] if value.ndim and value.shape[0] == batch else value
    return torch.zeros(some.shape, dtype=some.dtype) if some.device.type == "meta" else some.detach()


def _compared(loss: Callable[..., Tensor], output: Tensor, targets: Any, rows: int) -> str | None:
    def value(start: int, end: int) -> float:
        wanted = tree_map(lambda t: t[start:end] if isinstance(t, Tensor) and t.ndim else t, targets)
        return float(loss(output[start:end]) if targets is None else loss(output[start:end], wanted))

    try:
        with torch.no_grad():
            whole, one, others = value(0, rows), value(0, 1), value(1, rows)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    close = 1e-4 * max(abs(whole), 1e-6)
    if abs(whole - (one + (rows - 1) * others) / rows) <= close:
        return "mean"
    return "sum" if abs(whole - one - others) <= close else None


def _plan(search: Search, way: Way, budget: int, why: str) -> Plan:
    tried = tuple((name, peak, overhead) for name, (_, peak, overhead) in search.seen.items())
    return Plan(
        budget,
        way,
        search.peak(way),
        search.overhead(way),
        _changes(search, way),
        tuple(_steps(way, search.case)) or ("Nothing needs to be done: the plain step fits.",),
        tried,
        search.peak(Way(mean=way.mean)),
        search.floor,
        search.source,
        why,
    )


def _changes(search: Search, way: Way) -> bool:
    """Whether parts make another update: batch statistics of a part, or random numbers in another order."""
    if way.parts == 1:
        return False
    line = search.plain.timeline
    training = any(isinstance(m, _BatchNorm) and m.training for m in search.case.model.modules())
    return training or any(line.instants[i].random for i in line.span(1))


def _steps(way: Way, case: Case) -> Iterator[str]:
    if way.optimizer:
        settings = ", ".join(f"{k}={v}" for k, v in way.optimizer.items())
        yield f"Make the optimizer with {settings}: the same rule, without copies of all parameters at once."
    for s in way.segments:
        name = s.blocks[0] if len(s.blocks) == 1 else f"{s.blocks[0]} to {s.blocks[-1]}"
        yield f"Do not keep the activations of {name}; keep what goes in and run it again in the backward pass."
    if way.parts > 1:
        batch = batch_of(case.inputs)
        size = -(-batch // way.parts)
        share = "weighted by its share of the batch" if way.mean else "unweighted, since the loss is a sum"
        yield (
            f"Split the batch of {batch} into {-(-batch // size)} parts of at most {size}, each loss {share}, and add up the "
            "gradients before the update."
        )


def largest_batch(source: Memory, budget: int) -> int:
    """The largest batch size whose predicted peak is within the budget."""
    sizes: dict[int, int] = {}

    def fits(size: int) -> bool:
        if size not in sizes:
            line = recorded(source.case.with_batch(size), Way(), scratch=source.scratch).timeline
            sizes[size] = max(line.peak(1), line.peak(2))
        return sizes[size] <= budget

    if batch_of(source.case.inputs) == 0:
        raise InputError("the inputs have no batch axis, so there is no largest batch")
    with task("looking for the largest batch"):
        return _largest(fits, sizes, budget)


def _largest(fits: Callable[[int], bool], sizes: Mapping[int, int], budget: int) -> int:
    """Bisection, with guesses from the straight line through the nearest two sizes."""
    if not fits(1):
        return 0
    low, high = 1, 2
    while high < LARGEST_BATCH and fits(high):
        low, guess = high, _guess(sizes, high // 2 or 1, high, budget)
        high = min(max(2 * high, guess + 1), LARGEST_BATCH)
    while high - low > 1:
        guess = _guess(sizes, low, high, budget)
        middle = min(max(guess, low + 1), high - 1)
        low, high = (middle, high) if fits(middle) else (low, middle)
        if high - low > 1 and (middle + 1 if low == middle else middle - 1) not in (low, high):
            half = (low + high) // 2
            low, high = (half, high) if fits(half) else (low, half)
    return low


def _guess(sizes: Mapping[int, int], low: int, high: int, budget: int) -> int:
    if low not in sizes or high not in sizes or sizes[high] <= sizes[low]:
        return (low + high) // 2
    return low + int((budget - sizes[low]) * (high - low) / (sizes[high] - sizes[low]))
