"""The fit as it comes about: the curve after several updates, the loss and the slope per update, and a rival formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ...document.blocks import Block, Paragraph, Parts, Plot, Section, Series, Table
from ...document.math import Num, Sym
from ...domains.numbers import evaluate
from ...errors import FormulaError
from ...formula.read import add_formula
from ...graph import Builder, Graph, Node
from ...notation import named
from ..answer import Answer
from ..prepare import Prepared
from ..program import Program
from ..trace import Step
from ..writing.written import matrix_of

__all__ = ["against", "curve", "watch"]

POINTS = 121
MOST_ENTRIES = 6


def _pair(program: Program) -> tuple[Node, Node, Node] | None:
    """(input, prediction, target) where one number is predicted from one number per sample."""
    from ..remarks import compared

    pairs = compared(program.graph)
    single = [
        n
        for n in program.graph.of_role("input", "target")
        if program.start[n.name].numel() == program.start[n.name].shape[0:1].numel() > 1
    ]
    if not pairs:
        return None
    y, t = pairs[0]
    same = [n for n in single if n is not t and n.shape[:1] == t.shape[:1] and n.name not in program.trained]
    return (same[0], y, t) if len(same) == 1 else None


def curve(program: Program, x: Node, y: Node, parameters: Mapping[str, Tensor]) -> tuple[list[float], list[float]]:
    """The prediction over a fine grid of inputs (over the samples' own inputs where the network has fixed shapes)."""
    given = program.start[x.name].reshape(-1)
    if program.capture_for is None or not program.samples:
        order = given.argsort()
        values = _values(program.graph, {**program.start, **parameters})
        return given[order].tolist(), values[y.name].reshape(-1)[order].tolist()
    room = 0.05 * float(given.max() - given.min())
    dense = torch.linspace(float(given.min()) - room, float(given.max()) + room, POINTS, dtype=torch.float64)
    leaves = {n: _stretched(program, n, t, x, dense) for n, t in {**program.start, **parameters}.items()}
    graph = program.capture_for(leaves)
    return dense.tolist(), _values(graph, leaves)[y.name].reshape(-1).tolist()


def _stretched(program: Program, name: str, value: Tensor, x: Node, dense: Tensor) -> Tensor:
    """A leaf for the fine grid: the input itself, and any other given with a row per sample made as long."""
    if name == x.name:
        return dense.reshape(-1, *value.shape[1:])
    return value[:1].expand(len(dense), *value.shape[1:]) if name in program.samples else value


def _values(graph: Graph, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = evaluate(graph, {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"})
    return {n.name: v for n, v in found.items()}


def _parameters(step: Step, after: bool) -> dict[str, Tensor]:
    return {n: p.after if after else p.before for n, p in step.parameters.items()}


# --- watching ---------------------------------------------------------------------------------------------------------------
def watch(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """The analysis ``watch``: the fit after several updates, and the loss and the size of the gradient per update."""
    program = prepared.program
    if not steps or steps[0].loss is None or steps[0].sample is not None:
        return Answer(remarks=("There is nothing to watch: that needs a loss, and updates on all samples.",))
    sizes = [_size(s) for s in steps]
    blocks: list[Block] = []
    if (plot := _fits(program, steps)) is not None:
        blocks.append(plot)
    at = tuple(float(s.number) for s in steps)
    losses = tuple(float(s.loss) for s in steps if s.loss is not None)
    series = (Series("loss", at, losses), Series("size of the gradient", at, tuple(sizes)))
    log = min((*losses, *sizes)) > 0
    alt = f"The loss and the norm of the gradient before each of {len(steps)} updates"
    blocks.append(
        Plot(series, "update", "", ("The loss and the norm of the gradient, before each update.",), alt, False, log)
    )
    blocks.append(_table(prepared, steps, sizes))
    text = Paragraph(
        (
            f"The loss falls from {losses[0]:.6g} to {losses[-1]:.6g} before the last update. The gradient is largest before "
            f"update {sizes.index(max(sizes)) + 1}: a step of plain gradient descent is as long as the gradient there.",
        )
    )
    return Answer({"gradient_norms": sizes}, (Section("The run, watched", (text, *blocks), "update", "watch"),))


def _size(step: Step) -> float:
    slopes = [p.gradient.reshape(-1) for p in step.parameters.values() if p.gradient is not None]
    return float(torch.linalg.vector_norm(torch.cat(slopes))) if slopes else 0.0


def _places(count: int) -> list[int]:
    """The numbers of updates after which the fit is drawn: none, a few, all."""
    return sorted({0, max(1, count // 10), max(1, count // 3), count})


def _fits(program: Program, steps: Sequence[Step]) -> Plot | None:
    pair = _pair(program)
    if pair is None:
        return None
    x, y, t = pair
    data = Series("data", _flat(program.start[x.name]), _flat(program.start[t.name]), "points")
    lines = []
    for k in _places(len(steps)):
        xs, ys = curve(program, x, y, _parameters(steps[k - 1], True) if k else _parameters(steps[0], False))
        lines.append(Series("at the start" if k == 0 else f"after {k} updates", tuple(xs), tuple(ys)))
    alt = f"{len(data.x)} points and the prediction after {', '.join(map(str, _places(len(steps))))} updates"
    return Plot((data, *lines), x.name, t.name, ("The prediction as it comes to fit the points.",), alt)


def _flat(tensor: Tensor) -> tuple[float, ...]:
    return tuple(tensor.reshape(-1).tolist())


def _table(prepared: Prepared, steps: Sequence[Step], sizes: Sequence[float]) -> Table:
    """A few updates: the parameters, the loss and the size of the gradient before each."""
    shown = [n for n, p in steps[0].parameters.items() if p.before.numel() <= MOST_ENTRIES]
    rows = []
    for k in sorted({*_places(len(steps) - 1), *range(min(4, len(steps)))}):
        step = steps[k]
        cells = [matrix_of(step.parameters[n].before) for n in shown]
        rows.append((Num(step.number), *cells, Num(float(step.loss or 0.0)), Num(sizes[k])))
    names = [(named(prepared.answer_names.get(n, n)),) for n in shown]
    heads: tuple[Parts, ...] = (("update",), *names, ("loss",), ("size of the gradient",))
    numeric = (0, len(heads) - 2, len(heads) - 1)
    return Table(heads, tuple(rows), "Before the update", numeric)


# --- a rival formula ----------------------------------------------------------------------------------------------------------
def against(prepared: Prepared, steps: Sequence[Step], formula: str = "") -> Answer:
    """The analysis ``against:FORMULA``: another formula in the problem's names, drawn beside the prediction.

    Raises:
        FormulaError: the formula cannot be read.
    """
    program = prepared.program
    pair = _pair(program)
    if not formula:
        raise FormulaError('against: needs a formula, as in "against:1 / (1 - exp(w[0] * x - w[1]))"')
    if pair is None or not steps:
        return Answer(remarks=("No other formula is drawn: that needs one input and one target per sample.",))
    x, y, _ = pair
    at = _parameters(steps[0], False)
    xs, ours = curve(program, x, y, at)
    grid = torch.tensor(xs, dtype=torch.float64)
    theirs = _rival(program, formula, x, grid, at)
    if tuple(theirs.shape) != tuple(grid.shape):
        raise FormulaError(f"against:{formula} has shape {list(theirs.shape)} instead of one number per {x.name}")
    poles = _poles(xs, theirs.tolist())
    apart = [abs(a - b) for a, b in zip(ours, theirs.tolist(), strict=True)]
    largest = max((v for v in apart if v == v and v != float("inf")), default=float("inf"))
    return Answer(
        {"against": {"formula": formula, "largest_difference": largest, "poles": poles}},
        (
            Section(
                "Another formula, drawn beside the prediction",
                _rival_blocks(program, pair, xs, ours, theirs, formula, poles),
                "result",
                "against",
            ),
        ),
    )


def _rival(program: Program, formula: str, x: Node, grid: Tensor, at: Mapping[str, Tensor]) -> Tensor:
    """The formula's values at the inputs, with the parameters as they are."""
    builder = Builder()
    leaves = {**program.start, **at, x.name: grid}
    names = {n: builder.leaf(n, "input", tuple(v.shape), "float64") for n, v in leaves.items() if n.isidentifier()}
    add_formula(builder, dict(names), "rival", formula, "the formula of against:")
    graph = Graph(tuple(builder.nodes), (builder.nodes[-1],))
    values = evaluate(graph, {node: leaves[name] for name, node in names.items()})
    return values[graph.outputs[0]]


def _poles(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """Where the values jump from one sign to the other through infinity, between which inputs."""
    found = []
    for (a, b), (u, v) in zip(pairwise(xs), pairwise(ys), strict=True):
        inner = sorted(abs(s) for s in ys if s == s)[len(ys) // 2] or 1.0
        if u * v < 0 and min(abs(u), abs(v)) > 5 * inner:
            found.append(a + (b - a) * abs(v) / (abs(u) + abs(v)))
    return found


def _rival_blocks(
    program: Program, pair: tuple[Node, Node, Node], xs: list[float], ours: list[float], theirs: Tensor, formula: str,
    poles: list[float],
) -> tuple[Block, ...]:  # fmt: skip
    x, y, t = pair
    low, high = min((*ours, *_flat(program.start[t.name]))), max((*ours, *_flat(program.start[t.name])))
    room = 2.0 * (high - low or 1.0)
    inside = [(a, float(v)) for a, v in zip(xs, theirs.tolist(), strict=True) if low - room <= v <= high + room]
    lines = [Series(y.name, tuple(xs), tuple(ours))]
    if inside:
        lines.append(Series("the other formula", tuple(a for a, _ in inside), tuple(v for _, v in inside), "points"))
    data = Series("data", _flat(program.start[x.name]), _flat(program.start[t.name]), "points")
    finite = theirs[torch.isfinite(theirs)]
    spread = (
        f"goes from {float(finite.min()):.4g} to {float(finite.max()):.4g}" if len(finite) else "is infinite everywhere"
    )
    place = "".join(f" It has a pole near {x.name} = {p:.4g}." for p in poles)
    text = Paragraph(
        (
            "At the start of the run the prediction ", Sym(y.name), f" and {formula} are not the same: over the inputs the "
            f"other one {spread}, {y.name} from {min(ours):.4g} to "
            f"{max(ours):.4g}.{place}",
        )
    )  # fmt: skip
    plot = Plot((data, *lines), x.name, t.name, ("Values far outside the picture are left out.",),
                f"The prediction, the other formula, and {len(data.x)} points")  # fmt: skip
    return (text, plot)
