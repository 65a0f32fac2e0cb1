"""What a teacher would remark on a record: the step raised the loss, the label is out of reach, a unit is dead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ..domains.ranges import Range, reach
from ..errors import MissingRule
from ..graph import Graph, Node
from .program import Program
from .trace import Step

__all__ = ["compared", "out_of_reach", "remarks_on"]


def remarks_on(program: Program, steps: Sequence[Step], loss_after: float | None) -> list[str]:
    """The remarks on a record, from its own numbers."""
    return [*_rising(program, steps, loss_after), *out_of_reach(program, steps), *_silent(steps)]


def _rising(program: Program, steps: Sequence[Step], loss_after: float | None) -> list[str]:
    losses = [s.loss for s in steps] + [loss_after]
    if program_has_samples(steps) or any(v is None for v in losses):
        return []
    ups = [i + 1 for i, (a, b) in enumerate(pairwise(losses)) if _above(a, b)]
    if not ups:
        return []
    first = ups[0]
    which = (
        f"Update {first} raises"
        if len(ups) == 1
        else f"{len(ups)} of {len(steps)} updates raise, first update {first},"
    )
    rule = program.optimizer
    plain = rule is not None and rule.rule.name == "sgd" and not rule.state
    why = ": the step is too long for the curvature there" if plain else ""
    return [f"{which} the loss from {losses[first - 1]:.6g} to {losses[first]:.6g}{why}."]


def _above(before: float | None, after: float | None) -> bool:
    """Whether the loss has risen by more than rounding."""
    assert before is not None and after is not None
    return after - before > 1e-9 * abs(before) + 1e-25


def program_has_samples(steps: Sequence[Step]) -> bool:
    """Whether the losses belong to different samples, and so cannot be compared."""
    return any(s.sample is not None for s in steps)


# --- targets that no weights can reach ------------------------------------------------------------------------------------
def compared(graph: Graph) -> list[tuple[Node, Node]]:
    """Pairs (prediction, given) whose difference the loss squares or takes the size of."""
    pairs = []
    for node in graph.nodes:
        if node.op.name in ("squared_error", "absolute_error", "huber_error", "smooth_l1_error"):
            pairs.append((node.inputs[0], node.inputs[1]))
        elif node.op.name == "sub" and any(_even(user, node) for user in graph.users[node]):
            pairs += [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]
    return [(y, t) for y, t in pairs if t.is_leaf and t.role in ("input", "target") and not y.is_leaf]


def _even(user: Node, node: Node) -> bool:
    power = user.op.name == "pow" and user.inputs[0] is node and user.inputs[1].value in (2, 4)
    return power or user.op.name in ("square", "abs")


def out_of_reach(program: Program, steps: Sequence[Step]) -> list[str]:
    """Remarks on targets outside the range of what they are compared with, for all values of the trained parameters."""
    if not steps or program.graph.loss is None:
        return []
    given = {
        n: (float(t.min()), float(t.max())) for n, t in program.start.items() if n not in program.trained and t.numel()
    }
    try:
        ranges = reach(program.graph, given)
    except MissingRule:
        return []
    found = []
    for y, t in compared(program.graph):
        low, high = ranges[y]
        least, most = given.get(t.name, (math.nan, math.nan))
        if most > high or least < low:
            value = most if most > high else least
            found.append(
                f"The label {t.name} = {value:g} is out of reach: {y.name} stays within {_interval((low, high))} "
                f"whatever the weights are, so |{y.name} - {t.name}| is never less than "
                f"{(value - high if value > high else low - value):g}."
            )
    return found


def _interval(r: Range) -> str:
    low = "(-∞" if math.isinf(r[0]) else f"[{r[0]:g}"
    return f"{low}, ∞)" if math.isinf(r[1]) else f"{low}, {r[1]:g}]"


def _silent(steps: Sequence[Step]) -> list[str]:
    """Parameters that no gradient reaches."""
    if not steps or steps[0].loss is None:
        return []
    none = [n for n, p in steps[0].parameters.items() if p.gradient is None]
    return (
        [f"The loss does not depend on {', '.join(none)}: no gradient arrives there, and no update changes it."]
        if none
        else []
    )
