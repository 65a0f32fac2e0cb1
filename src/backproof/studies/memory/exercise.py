"""The exercise about a model that does not fit: a plan that is applied and measured, its trade-off, and billions."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...domains.bytes import read_bytes
from ...errors import BackproofError, InputError
from ...progress import track
from ..answer import Answer
from ..verdicts import Evidence
from .billions import Remedy, Shape, billions, counted_parameters
from .measure import PROFILER, WITHIN, Measurement, Run, run_of
from .memory import Memory, memory
from .page import curve_section, pages
from .plan import Plan, Search
from .segments import blocks_of, uniform
from .stepping import Way

__all__ = ["Point", "memory_exercise"]

MOST_BATCH, MOST_MEASURED = 10**12, 3 * 10**9
HAND_COUNT = 0.01


@dataclass(frozen=True)
class Point:
    """One way on the trade-off curve: how many segments, predicted peak and overhead, and the measured run."""

    segments: int
    peak: int
    overhead: float
    measured: int | None
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """The point as plain data."""
        return dict(vars(self))


def memory_exercise(default: Callable[[], Any]) -> Callable[..., Answer]:
    """The work of the exercise, with the network that it takes unless another is named.

    Args:
        default: a function without arguments that returns (module, example inputs).

    Returns:
        A function of the exercise's settings.
    """

    def work(
        model: Any, budget: Any, batch: int, optimizer: str, input: list[int], layers: int, width: int, heads: int,
        vocab: int, sequence: int, billions_batch: int, devices: int, seed: int,
    ) -> Answer:  # fmt: skip
        allowed = read_bytes(budget)
        shape = Shape(layers, width, heads, vocab, sequence, billions_batch).checked()
        if not 1 <= devices <= 10**6:
            raise InputError(f"devices must be from 1 to 1,000,000, not {devices}")
        source = _source(default if model == "default" else model, batch, optimizer, input, seed)
        return _answer(source, allowed, shape, devices)

    return work


# The network


def _source(model: Any, batch: int, optimizer: Any, input: Sequence[int], seed: int) -> Memory:
    if not 1 <= batch <= MOST_BATCH:
        raise InputError(f"batch must be from 1 to {MOST_BATCH:,}, not {batch}")
    if any(not isinstance(n, int) or not 1 <= n <= 10**6 for n in input):
        raise InputError(f"input is the shape of one sample, as [3, 32, 32], not {input!r}")
    torch.manual_seed(seed % 2**63)
    net, example = _network(model)
    x = _inputs(net, example, batch, input)
    return memory(net, x, loss=_half_mean_square, optimizer=optimizer)


def _half_mean_square(output: Any) -> Tensor:
    """Half the mean of the squared outputs: a loss for any network that returns a tensor."""
    found = output[0] if isinstance(output, tuple) else output
    return found.square().mean() / 2  # type: ignore[no-any-return]


def _network(model: Any) -> tuple[nn.Module, Any]:
    """The module, and its example input if it brings one."""
    found = _load(model) if isinstance(model, str) else model
    if (isinstance(found, type) and issubclass(found, nn.Module)) or inspect.isfunction(found):
        found = _made(found)
    example = None
    if isinstance(found, tuple) and len(found) == 2:
        found, example = found
    if not isinstance(found, nn.Module):
        raise InputError(f"the model is a {type(found).__name__}; it must be an nn.Module, or what makes one")
    return found, example[0] if isinstance(example, tuple) and len(example) == 1 else example


def _made(maker: Any) -> Any:
    try:
        return maker()
    except BackproofError:
        raise
    except Exception as error:
        name = getattr(maker, "__name__", "the function")
        raise InputError(f"{name}() fails: {type(error).__name__}: {str(error)[:200]}") from None


def _load(address: str) -> Any:
    """The object at FILE.py:name."""
    place, colon, name = address.rpartition(":")
    path = Path(place)
    if not colon or not name.isidentifier():
        raise InputError(f'model is "default" or FILE.py:name, not {address!r}')
    if not path.is_file() or path.suffix != ".py":
        raise InputError(f"there is no Python file {place!r} for the model {address!r}")
    spec = importlib.util.spec_from_file_location(f"{path.stem}__user", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path.name} fails: {type(error).__name__}: {str(error)[:200]}") from None
    if not hasattr(module, name):
        known = ", ".join(n for n in vars(module) if not n.startswith("_"))
        raise InputError(f"{path.name} has no {name!r}; it has {known[:200] or 'nothing'}")
    return getattr(module, name)


def _inputs(net: nn.Module, example: Any, batch: int, input: Sequence[int]) -> Tensor:
    """A batch: of the given shape, like the example, or as wide as the first linear layer; described only if it is large."""
    if example is not None and not isinstance(example, Tensor):
        raise InputError("the model's example input must be one tensor")
    if input:
        shape = tuple(input)
    elif example is not None and example.ndim:
        shape = tuple(example.shape[1:])
    else:
        first = next((m for m in net.modules() if isinstance(m, nn.Linear)), None)
        if first is None:
            raise InputError("the shape of one sample is not known: --set input=[3,32,32]")
        shape = (first.in_features,)
    whole = example is not None and not example.is_floating_point()
    size = batch * torch.Size(shape).numel() * 4
    dtype = example.dtype if example is not None else next(net.parameters()).dtype
    if size > MOST_MEASURED // 4:
        return torch.empty((batch, *shape), dtype=dtype, device="meta")
    return torch.zeros((batch, *shape), dtype=dtype) if whole else torch.randn((batch, *shape)).to(dtype)


# The answer


def _answer(source: Memory, budget: int, shape: Shape, devices: int) -> Answer:
    plan = source.plan(budget)
    real = source.peak_bytes <= MOST_MEASURED and _is_real(source)
    points, runs = _curve(source, real)
    measured = plan.measure() if real else None
    remedies = billions(shape, devices)
    evidence = [*_confirmed(plan, measured, points), *_counted(remedies, shape)]
    sections = pages(source, plan, measured, runs, (remedies, shape))
    blocks = (*sections[:-1], *curve_section(points, plan), sections[-1])
    return Answer(
        _answers(source, plan, measured, points, remedies),
        blocks,
        tuple(evidence),
        _remarks(real),
        finding=plan.finding,
    )


def _is_real(source: Memory) -> bool:
    tensors = [*source.case.model.parameters(), *source.case.inputs[0]]
    return all(t.device.type == "cpu" for t in tensors)


def _remarks(real: bool) -> tuple[str, ...]:
    loss = (
        "The loss is half the mean square of the output: what it is does not matter for the memory. Memory is counted in live "
        "bytes of tensors; the program itself and what an allocator keeps in reserve come on top."
    )
    return (
        (loss,)
        if real
        else (loss, "The step is too large to be run here, so nothing was measured: these are predictions.")
    )


def _answers(
    source: Memory, plan: Plan, measured: Measurement | None, points: Sequence[Point], remedies: Sequence[Remedy]
) -> dict[str, Any]:
    return {
        "plain_peak": plan.plain_peak,
        "budget": plan.budget,
        "plan": plan.to_dict(),
        "plan_peak": plan.predicted_peak,
        "plan_peak_measured": measured.measured_peak if measured else None,
        "overhead": plan.predicted_overhead,
        "overhead_measured": measured.measured_overhead if measured else None,
        "gradients_equal": measured.gradients_equal if measured else None,
        "largest_gradient_difference": measured.largest_difference if measured else None,
        "breakdown": source.breakdown,
        "when": source.when,
        "floor": plan.floor,
        "meets": plan.meets,
        "curve": [p.to_dict() for p in points],
        "billions": {r.name: r.to_dict() for r in remedies},
    }


def _curve(source: Memory, real: bool) -> tuple[list[Point], dict[int, Run]]:
    """The peak for k equal segments, predicted and (where it can be run) measured."""
    search, points, runs = Search(source), list[Point](), dict[int, Run]()
    blocks = blocks_of(source.case.model, source.record)
    counts = sorted({k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, len(blocks)) if 1 <= k <= len(blocks)})
    for k in track([0, *counts], "the trade-off between memory and work"):
        way = Way(uniform(blocks, k)) if k else Way()
        if k and any(p.segments == len(way.segments) for p in points):
            continue
        if real and len(runs) < 12:
            runs[k] = run_of(source, way)
        run = runs.get(k)
        peak = max(run.first_peak, run.peak) if run else None
        points.append(
            Point(len(way.segments), search.peak(way), search.overhead(way), peak, run.seconds if run else None)
        )
    return points, runs


def _confirmed(plan: Plan, measured: Measurement | None, points: Sequence[Point]) -> list[Evidence]:
    found = []
    pairs = [(p.peak, p.measured) for p in points if p.measured is not None]
    if pairs:
        worst = max(abs(a / b - 1) for a, b in pairs)
        found.append(
            Evidence(
                "the peaks with k segments",
                PROFILER,
                worst <= WITHIN,
                worst,
                len(pairs),
                len(points),
            )
        )
    if measured is None:
        return found
    found += measured.evidence(plan.changes_result)
    if plan.meets:
        fits = measured.measured_peak <= plan.budget * (1 + WITHIN)
        excess = max(0.0, measured.measured_peak / plan.budget - 1)
        found.append(Evidence("the measured peak is within the budget", PROFILER, fits, excess, 1, 1))
    return found


def _counted(remedies: Sequence[Remedy], shape: Shape) -> list[Evidence]:
    """The parameters counted in the module, and the activations counted by hand, term by term."""
    n = counted_parameters(shape)
    recorded, by_hand = remedies[0].activations, shape.activations(4)
    error = abs(recorded / by_hand - 1)
    return [
        Evidence(
            "the number of parameters",
            "the module on the meta device",
            n == shape.parameters,
            abs(n / shape.parameters - 1),
            1,
            1,
        ),
        Evidence(
            "the activations of the transformer", "a count by hand, term by term", error <= HAND_COUNT, error, 1, 1
        ),
    ]
