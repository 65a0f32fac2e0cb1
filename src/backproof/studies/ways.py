"""Several programs that claim to compute the same: run each, time it, compare what they return, and name who differs."""

from __future__ import annotations

import inspect
import itertools
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..differentiate import differentiate
from ..document.blocks import Block, Callout, Code, Details, Items, Paragraph, Plot, Section, Series, Table
from ..document.math import Num
from ..domains.numbers import evaluate
from ..errors import BackproofError, InputError
from ..formula import read_model
from ..optimizers import optimizer as find_optimizer
from ..progress import track
from .answer import Answer
from .optimizer.replay import Replay
from .verdicts import TOLERANCE, VALUE_FLOOR, Evidence

__all__ = ["Ran", "by_formulas", "same"]

Way = Callable[..., Mapping[str, Any]]
FEWEST_STEPS = 8
"""Of a result with fewer entries no curve is drawn."""


@dataclass(frozen=True)
class Ran:
    """One program after it ran: its text, what it returned (as arrays by name), and how long it took in seconds."""

    name: str
    text: str
    results: dict[str, np.ndarray[Any, Any]]
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether everything that it returned is a number."""
        return all(bool(np.isfinite(a).all()) for a in self.results.values())


@dataclass(frozen=True)
class Compared:
    """What the comparison of a group found: evidence, the largest difference of the ends, remarks."""

    evidence: tuple[Evidence, ...]
    spread: float
    remarks: tuple[str, ...]


def same(
    ways: Mapping[str, Way],
    *,
    groups: Sequence[Sequence[str]] = (),
    does: Mapping[str, Mapping[str, str]] | None = None,
    final: str = "loss",
    tolerance: float = TOLERANCE,
    **given: Any,
) -> Answer:
    """Run programs that claim to compute the same, and compare everything that they return.

    Each program is a function; the text that is shown is the text that ran (its source, compiled anew), so the page
    cannot show one program and report another. Within a group every entry of every result is compared with the
    median of the group, which names the odd one out of three or more; of two, both are named.

    Args:
        ways: name -> a function of the givens that returns a mapping of names to numbers, lists, arrays or tensors.
        groups: names of ways that claim the same; all of them by default. A way in no group is run and not compared.
        does: name -> {job: who does it}; a table of them, and of what each took over from the one before.
        final: the result of which ``ways`` in the answers gives the last entry, and which is plotted.
        tolerance: the largest relative difference that still counts as agreement.
        **given: what the programs are called with.

    Returns:
        An Answer with ``ways`` (name -> last entry of ``final``) and ``max_difference`` (the largest absolute
        difference of ``final`` within a group, at the last step that is compared), the programs, the comparison and
        the evidence.

    Raises:
        InputError: a program fails, or returns something that cannot be compared.

    Example:
        >>> from backproof.studies.ways import same
        >>> def by_sum(n):
        ...     return {"loss": sum(range(n + 1))}
        >>> def by_formula(n):
        ...     return {"loss": n * (n + 1) / 2}
        >>> same({"sum": by_sum, "formula": by_formula}, n=10).answers
        {'ways': {'sum': 55.0, 'formula': 55.0}, 'max_difference': 0.0}
    """
    groups = groups or (tuple(ways),)
    _check(ways, groups)
    ran = {name: _run(name, way, given) for name, way in track(ways.items(), "programs", len(ways))}
    if missing := [n for n, r in ran.items() if final not in r.results]:
        raise InputError(
            f"the way '{missing[0]}' returns no '{final}'; it returns {', '.join(ran[missing[0]].results)}"
        )
    ends = {name: float(r.results[final].reshape(-1)[-1]) for name, r in ran.items()}
    moved = {k: _moved(v) for k, v in given.items()}
    found = [_compared([ran[n] for n in g], final, tolerance, lambda n: _run(n, ways[n], moved)) for g in groups]
    evidence = tuple(e for c in found for e in c.evidence)
    answers = {"ways": ends, "max_difference": max((c.spread for c in found), default=0.0)}
    blocks = (*_jobs(does or {}), *_outcome(ran, groups, evidence, ends, final), *_programs(ran))
    remarks = tuple(
        f"The run '{n}' is not finite at its end: it diverged, and nothing about it is compared."
        for n, r in ran.items()
        if not r.finite
    )
    return Answer(answers, blocks, evidence, (*remarks, *(r for c in found for r in c.remarks)))


def _check(ways: Mapping[str, Way], groups: Sequence[Sequence[str]]) -> None:
    for name in itertools.chain(*groups):
        if name not in ways:
            raise InputError(f"a group names '{name}', and there is no such way; there are {', '.join(ways)}")
    if not ways or not all(callable(way) for way in ways.values()):
        raise InputError("ways are functions by name: give at least one, each a function of the givens")


# --- running -----------------------------------------------------------------------------------------------------------
def _run(name: str, way: Way, given: Mapping[str, Any]) -> Ran:
    text = _source(way)
    function = _compiled(way, text)
    own = {k: _copied(v) for k, v in given.items()}
    with np.errstate(all="ignore"):
        start = time.perf_counter()
        try:
            found = function(**own)
        except BackproofError:
            raise
        except Exception as error:
            raise InputError(f"the way '{name}' fails: {type(error).__name__}: {str(error)[:200]}") from None
        seconds = time.perf_counter() - start
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"the way '{name}' must return a mapping of names to numbers, not {type(found).__name__}")
    return Ran(name, text, {str(k): _array(name, k, v) for k, v in found.items()}, seconds)


def _copied(value: Any) -> Any:
    """A copy, so that no program sees what another one did to its givens."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _source(way: Way) -> str:
    try:
        return textwrap.dedent(inspect.getsource(way)).strip()
    except (OSError, TypeError):
        return ""


def _compiled(way: Way, text: str) -> Way:
    """The function made from the text that is shown; itself where there is no such text (a console, a closure)."""
    name = getattr(way, "__name__", "")
    if not text.startswith(f"def {name}(") or getattr(way, "__closure__", None):
        return way
    names = dict(way.__globals__)
    exec(compile(text, f"<{name}, as shown>", "exec"), names)
    made: Way = names[name]
    return made


def _array(way: str, key: Any, value: Any) -> np.ndarray[Any, Any]:
    try:
        plain = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        return np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"the way '{way}' returns '{key}', which is no number, list or tensor of numbers") from None


# --- comparing ---------------------------------------------------------------------------------------------------------
def _compared(group: Sequence[Ran], final: str, tolerance: float, again: Callable[[str], Ran]) -> Compared:
    """One comparison for each way: everything that it returned with the median of its group.

    Where they differ, each is run again on givens that are changed by one part in 10^15. If that alone moves the
    results by more than the tolerance, rounding decides them and says nothing about the programs; then ``final`` is compared up to the
    step before which the change is not felt.
    """
    if len(group) < 2:
        return Compared((), 0.0, ())
    keys = [k for k in group[0].results if all(k in r.results for r in group)]
    for key in keys:
        if len(shapes := {r.results[key].shape for r in group}) > 1:
            raise InputError(f"'{key}' has different shapes in ways that claim the same: {sorted(map(list, shapes))}")
    group = [replace(r, results={k: r.results[k] for k in keys}) for r in group]
    if not all(r.finite for r in group):
        return Compared(tuple(_undecided(r, group, "a run of its group diverged") for r in group), 0.0, ())
    found = tuple(_verdict(r, group, final, tolerance) for r in group)
    if all(e.agrees for e in found):
        return Compared(found, _spread(group, final), ())
    return _as_far_as_it_goes(group, found, final, tolerance, [again(r.name) for r in group])


def _as_far_as_it_goes(
    group: Sequence[Ran], found: tuple[Evidence, ...], final: str, tolerance: float, moved: Sequence[Ran]
) -> Compared:
    """The comparison where ways differ: as it is, or up to the step from which rounding decides."""
    pairs = list(zip(group, moved, strict=True))
    alone = [_error(b.results[k], a.results[k]) for a, b in pairs for k in a.results]
    if all(error <= tolerance for error in alone):  # nan where the change makes a run diverge
        return Compared(found, _spread(group, final), ())
    steps = min(_felt(a.results[final], b.results[final], tolerance) for a, b in pairs)
    cut = [replace(r, results={final: r.results[final].reshape(-1)[:steps]}) for r in group]
    names, length = ", ".join(r.name for r in group), group[0].results[final].size
    remark = (
        f"From step {steps + 1} on, a change of the givens by one part in 10^15 alone moves the results of {names} by "
        f"more than they are compared to: rounding decides there, not the program. They are compared up to step {steps} "
        f"of {length}."
    )
    if steps < 2:
        return Compared(tuple(_undecided(r, group, "rounding decides from the start") for r in group), 0.0, (remark,))
    note = f"the first {steps} of {length} steps; rounding decides the rest"
    verdicts = (_verdict(r, cut, final, tolerance) for r in cut)
    return Compared(
        tuple(replace(e, note=f"{e.note}; {note}" if e.note else note) for e in verdicts),
        _spread(cut, final),
        (remark,),
    )


def _felt(curve: np.ndarray[Any, Any], moved: np.ndarray[Any, Any], tolerance: float) -> int:
    """How many steps pass before a change by rounding is felt: before it exceeds a hundredth of the tolerance."""
    scale = max(float(np.abs(curve).max(initial=0.0)), 1e-300)
    felt = ~(np.abs(curve - moved).reshape(-1) / scale <= tolerance / 100)
    return int(np.argmax(felt)) if felt.any() else felt.size


def _spread(group: Sequence[Ran], final: str) -> float:
    """The largest difference of the last entries of ``final``."""
    ends = [float(r.results[final].reshape(-1)[-1]) for r in group]
    return max(ends) - min(ends)


def _oracle(one: Ran, group: Sequence[Ran]) -> str:
    others = ", ".join(r.name for r in group if r.name != one.name)
    return f"the same by {others}" if len(group) == 2 else f"the median of {len(group)} ways"


def _undecided(one: Ran, group: Sequence[Ran], why: str) -> Evidence:
    count = sum(a.size for a in one.results.values())
    return Evidence(f"'{one.name}': {', '.join(one.results)}", _oracle(one, group), None, None, count, count, why)


def _verdict(one: Ran, group: Sequence[Ran], final: str, tolerance: float) -> Evidence:
    middle = {k: np.median(np.stack([r.results[k] for r in group]), axis=0) for k in one.results}
    floor = VALUE_FLOOR * max((float(np.abs(m).max(initial=0.0)) for k, m in middle.items() if k != final), default=0.0)
    errors = {k: _error(one.results[k], m, floor) for k, m in middle.items()}
    worst, count = max(errors, key=lambda k: errors[k]), sum(np.size(a) for a in middle.values())
    agrees = errors[worst] <= tolerance
    note = "" if agrees else f"'{worst}' differs most"
    what = f"'{one.name}': {', '.join(errors)}"
    return Evidence(what, _oracle(one, group), agrees, errors[worst], count, count, note)


def _error(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], floor: float = 0.0) -> float:
    """The largest difference, relative to the largest entry of that result.

    A result that is zero up to rounding beside larger ones of its kind is measured by ``floor``.
    """
    with np.errstate(all="ignore"):
        scale = max(float(np.abs(theirs).max(initial=0.0)), floor, 1e-300)
        return float(np.abs(ours - theirs).max(initial=0.0)) / scale


def _moved(value: Any) -> Any:
    """Floating givens changed by one part in 10^15, up or down at random; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return torch.as_tensor(_moved(value.numpy(force=True)))
    if isinstance(value, np.ndarray):
        signs = np.random.default_rng(0).choice([-1e-15, 1e-15], value.shape)
        return value * (1 + signs) if value.dtype.kind == "f" else value
    if isinstance(value, Mapping):
        return {k: _moved(v) for k, v in value.items()}
    return value * (1 + 1e-15) if isinstance(value, float) else value


# --- the page ----------------------------------------------------------------------------------------------------------
def _jobs(does: Mapping[str, Mapping[str, str]]) -> tuple[Block, ...]:
    """Who does what, and what each way took over from the one before."""
    if not does:
        return ()
    jobs = list(dict.fromkeys(job for row in does.values() for job in row))
    rows = tuple((name, *(row.get(job) for job in jobs)) for name, row in does.items())
    table = Table((("way",), *((job,) for job in jobs)), rows, "Who does what in each program")
    taken = Items(tuple((_taken(a, b, does[a], does[b]),) for a, b in itertools.pairwise(does)))
    said = Paragraph(("What each takes over from the one before:",))
    return (Section("Who does what", (table, said, taken), "given", "jobs"),)


def _taken(before: str, name: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """What changes from one way to the next, in a sentence."""
    changed = [f"{job}: {new[job]} (in {before}: {old[job]})" for job in new if new[job] != old.get(job, new[job])]
    return f"{name}: {'; '.join(changed) or 'nothing changes'}."


def _outcome(
    ran: Mapping[str, Ran],
    groups: Sequence[Sequence[str]],
    evidence: Sequence[Evidence],
    ends: Mapping[str, float],
    final: str,
) -> tuple[Block, ...]:
    mates = {n: [m for m in group if m != n] for group in groups for n in group}
    verdict = {e.what.split("'")[1]: e for e in evidence}
    rows = tuple(
        (n, Num(ends[n]), _said(verdict.get(n)), ", ".join(mates.get(n, ())) or "nothing", f"{r.seconds:.2f}")
        for n, r in ran.items()
    )
    columns = (("way",), (f"last {final}",), ("largest difference",), ("compared with",), ("seconds",))
    wrong = [e for e in evidence if e.agrees is False]
    blocks: list[Block] = [Table(columns, rows, "What came out, and how far each is from those that claim the same")]
    for e in wrong:
        text = f"{e.what.split(':')[0]} does not compute what it claims: it differs from {e.oracle} by {e.error:.3g}"
        blocks.append(Callout("finding", (f"{text} ({e.note}).",)))
    return (Section("Do they agree?", (*blocks, _curves(ran, final)), "result", "agreement"),)


def _said(verdict: Evidence | None) -> Any:
    if verdict is None or verdict.error is None:
        return "not compared" if verdict is None else "diverged"
    return Num(verdict.error)


def _curves(ran: Mapping[str, Ran], final: str) -> Block:
    shown = {n: r.results[final].reshape(-1) for n, r in ran.items()}
    long = {n: a for n, a in shown.items() if a.size >= FEWEST_STEPS}
    if not long:
        return Paragraph((f"There are too few entries of {final} for a curve.",))
    series = tuple(_series(n, a) for n, a in _distinct(long).items())
    return Plot(
        series,
        "step",
        final,
        (f"The {final} at each step; ways that coincide are drawn as one.",),
        f"{len(series)} curves of the {final} over the steps",
        log_y=all(min(s.y) > 0 for s in series),
    )


def _distinct(shown: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """The curves that can be told apart, each under the names of all ways that it stands for."""
    found: list[tuple[list[str], np.ndarray[Any, Any]]] = []
    for name, curve in shown.items():
        like = next((n for n, c in found if c.shape == curve.shape and _error(curve, c) < 1e-6), None)
        if like is None:
            found.append(([name], curve))
        else:
            like.append(name)
    return {n[0] if len(n) == 1 else f"{n[0]} and {len(n) - 1} more": c for n, c in found}


def _series(name: str, curve: np.ndarray[Any, Any]) -> Series:
    chosen = sorted({*np.linspace(0, curve.size - 1, min(curve.size, 200)).astype(int).tolist()})
    return Series(name, tuple(float(i + 1) for i in chosen), tuple(float(curve[i]) for i in chosen))


def _programs(ran: Mapping[str, Ran]) -> tuple[Block, ...]:
    said = Paragraph(("Each program below is the text that ran: it was compiled from what is shown here.",))
    folds = tuple(Details(name, (Code(r.text),)) for name, r in ran.items() if r.text)
    return (Section("The programs", (said, *folds), "forward", "programs"),) if folds else ()


# --- the same as formulas ------------------------------------------------------------------------------------------------
def by_formulas(
    formulas: Mapping[str, str],
    given: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    steps: int,
    optimizer: Any = "sgd",
    **hyper: Any,
) -> dict[str, Any]:
    """Train a model that is written as formulas: Backproof's own graph, its own gradients, its own update.

    Args:
        formulas: name -> formula, in order; the last one is the loss.
        given: the data by name.
        parameters: the trained quantities with their start.
        steps: how many updates.
        optimizer, hyper: the update rule and its settings.

    Returns:
        ``losses`` (before each update) and the parameters at the end, by name.

    Example:
        >>> from backproof.studies.ways import by_formulas
        >>> by_formulas({"loss": "(w - 3)**2"}, {}, {"w": 0.0}, steps=2, lr=0.25)["losses"]
        [9.0, 2.25]
    """
    values = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in {**given, **parameters}.items()}
    roles = dict.fromkeys(parameters, "parameter")
    graph = read_model(formulas, {k: tuple(v.shape) for k, v in values.items()}, roles=roles)  # type: ignore[arg-type]
    if graph.loss is None:
        raise InputError(f"the last formula, '{list(formulas)[-1]}', is the loss and must be one number")
    joint, rule = differentiate(graph), find_optimizer(optimizer, **hyper)
    runs = {n: Replay(rule, values[n]) for n in parameters}
    losses = []
    for _ in range(steps):
        leaves = {n: values[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}
        numbers = evaluate(joint.graph, leaves)
        losses.append(float(numbers[graph.loss]))
        for name in parameters:
            delta = joint.gradients[graph.by_name[name]]
            if delta is not None:
                values[name] = runs[name].step(numbers[delta])
    return {"losses": losses, **{n: values[n] for n in parameters}}
