"""What a field is used for: inputs that fit, the margin that a tile needs, and tiles put together against the whole."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...capturing.origin import ModuleOrigin
from ...domains.boxes import Seen
from ...domains.positions import Digit, Track
from ...errors import InputError
from ...graph import Graph, Node
from ...progress import track
from ..program import run_original
from ..verdicts import Evidence
from .poison import positive

if TYPE_CHECKING:
    from .receptive import ReceptiveField

__all__ = ["Fits", "Halo", "alignment", "fits", "halo_evidence", "halo_of", "tiled"]


# --- inputs that fit ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Fits:
    """The sizes along one axis of the input (the others as given) on which the network runs.

    Args:
        minimum: the smallest; None if there is none up to the largest tried.
        period, residues: from ``minimum`` on, n runs if n mod period is one of these; all sizes if the period is 1.
        only: the sizes that run, where they follow no period (a linear layer takes one size).
        failing: the module that fails one below the smallest, and what it says; "" if nothing does.
    """

    minimum: int | None
    period: int = 1
    residues: tuple[int, ...] = (0,)
    only: tuple[int, ...] = ()
    failing: str = ""

    def __contains__(self, n: object) -> bool:
        if not isinstance(n, int) or self.minimum is None or n < self.minimum:
            return False
        return n in self.only if self.only else n % self.period in self.residues

    def __str__(self) -> str:
        if self.minimum is None:
            return "none"
        if self.only:
            return ", ".join(map(str, self.only))
        if self.period == 1:
            return f"{self.minimum} and above"
        residues = " or ".join(map(str, self.residues))
        return f"{self.minimum} and above that leave {residues} when divided by {self.period}"

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"minimum": self.minimum, "period": self.period, "residues": list(self.residues),
                "only": list(self.only), "failing": self.failing}  # fmt: skip


def fits(graph: Graph, source: Node, axis: int, stride: int) -> Fits:
    """Find the sizes along an axis on which the network runs, by running it on the meta device (shapes alone).

    Args:
        graph: a network captured from a module.
        source: its input.
        axis: a spatial axis, counted from 0.
        stride: a period to begin with: the grid of the network's strides.

    Raises:
        InputError: the graph was not captured from a module.
    """
    runs = _shapes_of(graph, source, axis)
    given = source.shape[axis + 2]
    smallest = _smallest(runs, given, stride)
    if smallest is None:
        return Fits(None)
    failing = runs(smallest - 1) or "" if smallest > 1 else ""
    tried = {n: runs(n) is None for n in range(smallest, smallest + 3 * stride + 1)}
    for period in (p for p in range(1, stride + 1) if stride % p == 0):
        residues = tuple(sorted({n % period for n in range(smallest, smallest + period) if tried[n]}))
        if all((n % period in residues) == ok for n, ok in tried.items()):
            return Fits(smallest, period, residues, (), failing)
    only = tuple(n for n, ok in {**tried, given: True}.items() if ok)
    return Fits(smallest, 1, (), tuple(sorted(only)), failing)


def _smallest(runs: Callable[[int], str | None], given: int, stride: int) -> int | None:
    """The smallest size that runs; sizes that run may leave gaps of up to ``stride``."""

    def first_from(n: int) -> int | None:
        return next((m for m in range(n, n + stride) if runs(m) is None), None)

    if (found := first_from(1)) is not None:
        return found
    low, high = 1, given  # nothing runs in [low, low + stride); high runs
    while high - low > 2 * stride:
        middle = (low + high) // 2
        found = first_from(middle)
        low, high = (middle, high) if found is None or found >= high else (low, found)
    return next((n for n in range(low, high + 1) if runs(n) is None), None)


def _shapes_of(graph: Graph, source: Node, axis: int) -> Callable[[int], str | None]:
    """A function of the size: None if the network runs, else what fails and in which module.

    The operations' own shape rules say where it runs; where they refuse, or don't know, the program is run. On the meta device,
    unless it has tensors of its own that stay on another one.
    """
    origin = graph.origin
    if not isinstance(origin, ModuleOrigin):
        raise InputError("which inputs fit is found by running the network: give the module, not a formula")
    known: dict[int, str | None] = {}
    given = source.shape[axis + 2]
    device = "meta" if _failure(origin, source, axis, given, "meta") is None else "cpu"

    def runs(n: int) -> str | None:
        if n not in known:
            known[n] = None if _by_rules(graph, source, axis, n) else _failure(origin, source, axis, n, device)
        return known[n]

    return runs


_FIXED = ("reshape", "expand", "embedding", "slice", "adaptive_avg_pool", "unslice", "sum_to")


def _by_rules(graph: Graph, source: Node, axis: int, size: int) -> bool:
    """Whether the shape rules of the operations let a size through; not if one has a size of the captured input in it."""
    shape = list(source.shape)
    shape[axis + 2] = size
    found: dict[Node, tuple[int, ...]] = {source: tuple(shape)}
    for node in graph.nodes:
        shapes = [found.get(x, x.shape) for x in node.inputs]
        if node.is_leaf or shapes == [x.shape for x in node.inputs]:
            continue
        if node.op.name == "adaptive_avg_pool" and set(node.shape[2:]) == {1}:
            continue  # to one position, whatever the size
        if node.op.name in _FIXED or (node.op.family == "normalisation" and node.attrs.get("training")):
            return False
        try:
            found[node] = tuple(node.op.shape(shapes, node.attrs))
        except InputError:
            return False
        if 0 in found[node]:
            return False
    return True


def _resized(origin: ModuleOrigin, source: Node, axis: int, size: int, device: str) -> Any:
    """The example's arguments on a device, the input with another size along one axis."""
    values, form = torch.utils._pytree.tree_flatten((origin.args, origin.keywords))
    shape = list(source.shape)
    shape[axis + 2] = size
    found = []
    for name, value in zip(origin.order, values, strict=False):
        if name == source.name:
            value = torch.zeros(shape, dtype=value.dtype, device=device)
        elif isinstance(value, Tensor):
            value = value.detach().to(device)
        found.append(value)
    return torch.utils._pytree.tree_unflatten(found, form)


def _failure(origin: ModuleOrigin, source: Node, axis: int, size: int, device: str) -> str | None:
    """None if the program runs on inputs of a size, else the module that fails and what it says."""
    model = origin.wrapped.model
    state = {name: t.detach().to(device) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    if device == "cpu":
        state = {name: t.clone() for name, t in state.items()}  # running statistics are left alone
    try:
        args, keywords = _resized(origin, source, axis, size, device)
        with torch.no_grad(), torch.device(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = torch.func.functional_call(model, state, args, keywords)
    except Exception as error:  # the user's own program may raise anything
        names = {id(module): name for name, module in model.named_modules()}
        return f"{_module_in(error, names)}: {(str(error).splitlines() or [''])[0][:160]}"
    empty = isinstance(result, Tensor) and result.numel() == 0
    return "the output is empty" if empty else None


def _module_in(error: BaseException, names: Mapping[int, str]) -> str:
    """The innermost module at work when an error was raised."""
    found, trace = "", error.__traceback__
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self")), found) or found
        trace = trace.tb_next
    return found or "the model"


# --- tiles ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Halo:
    """What a tile of the input must have around it, along one axis, so that its outputs are those of the whole.

    Outputs that belong to the inputs a .. b - 1 (a and b multiples of ``grid``) need the inputs a - before .. b - 1 + after.
    """

    before: int
    after: int
    grid: int

    def to_dict(self) -> dict[str, int]:
        """As plain data."""
        return {"before": self.before, "after": self.after, "grid": self.grid}


def alignment(values: Mapping[Node, Seen | None], axis: int) -> int:
    """The grid to which tiles must be aligned: all strides on the way repeat after it."""
    grid = 1
    for seen in values.values():
        for t in seen[axis].tracks if seen is not None else ():
            grid = lcm(grid, abs(t.relation.advance) or 1)
    return grid


def halo_of(told: Track, grid: int) -> Halo:
    """The halo of a layer along one axis, from its relation."""
    relation = told.relation
    if relation.advance <= 0:
        raise InputError("positions run backwards, or not at all, along this axis; it can't be tiled")
    grid = lcm(grid, relation.advance)
    count = grid // relation.advance * relation.period
    rows = [relation.at(o) for o in range(count)]
    before = max(-row.low for row in rows if row.mask)
    after = max(row.low + row.size - grid for row in rows if row.mask)
    return Halo(max(before, 0), max(after, 0), grid)


def tiled(
    model: Callable[[Tensor], Tensor], x: Tensor, halos: Sequence[Halo], strides: Sequence[Any], tile: int
) -> Tensor:
    """Run a network tile by tile and put the results together.

    Args:
        model: from [N, C, spatial...] to the same form.
        x: the whole input.
        halos: per spatial axis; both sides are rounded up to the grid, so that strides begin where they do in the whole and
            the tile is of a size that fits.
        strides: of the output, per spatial axis (a Fraction).
        tile: how many inputs along each axis a tile is meant to give the outputs of; rounded up to the grid.
    """
    cuts = [_cuts(n, halo, tile) for n, halo in zip(x.shape[2:], halos, strict=True)]
    parts: list[tuple[tuple[int, ...], Tensor]] = []
    for pieces in track(list(itertools.product(*cuts)), "tiles"):
        y = model(x[(slice(None), slice(None), *(slice(p.start, p.end) for p in pieces))])
        inner = tuple(p.outputs(s) for p, s in zip(pieces, strides, strict=True))
        first = tuple(int(p.a / s) for p, s in zip(pieces, strides, strict=True))
        parts.append((first, y[(slice(None), slice(None), *inner)]))
    ends = [max(first[i] + part.shape[i + 2] for first, part in parts) for i in range(len(cuts))]
    whole = torch.full((*parts[0][1].shape[:2], *ends), float("nan"), dtype=parts[0][1].dtype)
    for first, part in parts:
        place = tuple(slice(o, o + n) for o, n in zip(first, part.shape[2:], strict=True))
        whole[(slice(None), slice(None), *place)] = part
    return whole


@dataclass(frozen=True)
class _Piece:
    """A tile along one axis: the inputs a .. b - 1 whose outputs it gives, and the inputs start .. end - 1 it takes."""

    a: int
    b: int
    start: int
    end: int
    last: bool

    def outputs(self, stride: Any) -> slice:
        """Which of the outputs are its own."""
        skip = int((self.a - self.start) / stride)
        return slice(skip, None if self.last else skip + int((self.b - self.a) / stride))


def _cuts(size: int, halo: Halo, tile: int) -> list[_Piece]:
    grid = halo.grid
    step = -(-max(tile, 1) // grid) * grid
    before, after = (-(-h // grid) * grid for h in (halo.before, halo.after))
    starts = list(range(0, size, step))
    if len(starts) > 1 and size - starts[-1] < step:
        starts.pop()  # what is left over goes with the tile before
    ends = [*starts[1:], size]
    return [
        _Piece(a, b, max(a - before, 0), min(b + after, size), b == size) for a, b in zip(starts, ends, strict=True)
    ]


def halo_evidence(found: ReceptiveField) -> tuple[Evidence, ...]:
    """One tile in the middle: a NaN beyond its halo changes none of its outputs, and the halo's last cells change some."""
    row = found.last
    if not found.tiles or not isinstance(found.graph.origin, ModuleOrigin):
        return ()
    evidence = []
    for axis, (halo, stride) in enumerate(zip(found.halo, row.stride, strict=True)):
        size, track_ = found.source.shape[axis + 2], row.tracks[axis]
        a = -(-size // 2 // halo.grid) * halo.grid
        start, end = a - halo.before, a + halo.grid + halo.after
        if (
            start < 1
            or end > size - 1
            or stride is None
            or track_ is None
            or track_.digits != (Digit(axis + 2, 1, row.output_size[axis]),)
        ):
            continue
        own = (axis + 2, int(a / stride), int(halo.grid / stride))
        outside = _moved(found, row.name, own, axis, [range(start), range(end, size)])
        last = [i for i, needed in ((start, halo.before), (end - 1, halo.after)) if needed]
        inside = [_moved(found, row.name, own, axis, [range(i, i + 1)]) for i in last]
        wrong = int(outside) + sum(not moved for moved in inside)
        what = f"the halo of {row.name}, axis {axis}: {halo.before} before and {halo.after} after"
        evidence.append(
            Evidence(
                what,
                "a NaN beyond it and at its last cells, run",
                wrong == 0,
                float(wrong),
                1 + len(last),
                1 + len(last),
            )
        )
    return tuple(evidence)


def _moved(found: ReceptiveField, name: str, own: tuple[int, int, int], axis: int, places: Sequence[range]) -> bool:
    """Whether a NaN at some indices of the input changes the outputs of a tile."""
    generator = torch.Generator().manual_seed(0)
    leaves = {key: positive(v, generator) for key, v in found.graph.origin.leaves().items()}
    x = leaves[found.source.name].clone()
    for place in places:
        x.narrow(axis + 2, place.start, len(place)).fill_(float("nan"))
    with torch.no_grad():
        out = run_original(found.graph, {**leaves, found.source.name: x})[name]
    return bool(out.narrow(*own).isnan().any())
