"""The run at a glance: the loss before each update as a curve, and a table row for each update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ...document.blocks import Block, Instant, Parts, Plot, Series, Table
from ...document.math import Expr, Num, Ref, Sym
from ...graph import Node
from ...notation import named

if TYPE_CHECKING:
    from .worked import Page

__all__ = ["over_time"]

_MOST_ROWS = 120
_MOST_COLUMNS = 6
"""Columns of the parameters: their entries, or their norms."""


def over_time(page: Page, loss_after: float | None) -> list[Block]:
    """The loss and the parameters over the updates.

    Args:
        page: what was run.
        loss_after: the loss after the last update, where it is known.
    """
    losses = [float(step.loss) for step in page.steps if step.loss is not None]
    if not losses:
        return []
    by_sample = any(step.sample is not None for step in page.steps)
    both = losses if loss_after is None or by_sample else [*losses, loss_after]
    blocks: list[Block] = [_table(page, both, len(losses))]
    if len(both) > 2:
        blocks.insert(0, _curve(both))
    return [Instant("the loss over the updates", tuple(blocks), "result", 0, (), (), "loss")]


def _curve(losses: Sequence[float]) -> Plot:
    wide = max(losses) / max(min(losses), 1e-300) > 1e3 and min(losses) > 0
    goes = "falls" if losses[-1] < losses[0] else "goes"
    return Plot(
        (Series("loss", tuple(map(float, range(1, len(losses) + 1))), tuple(losses)),),
        "update",
        "loss",
        ("The loss before each update.",),
        f"The loss {goes} from {losses[0]:.4g} to {losses[-1]:.4g}",
        log_y=wide,
    )


def _table(page: Page, losses: Sequence[float], updates: int) -> Table:
    """A row for each update, or of a very long run for some; what the parameters are then stands beside the loss."""
    rows = range(len(losses))
    keep = rows if len(rows) <= _MOST_ROWS else sorted({*rows[:: -(-len(rows) // _MOST_ROWS)], rows[-1]})
    shown = _columns(page) if updates > 1 else []
    heads: tuple[Parts, ...] = (("at",), (_loss_name(page),), *(head for head, _, _ in shown))
    cells = tuple((_when(i, updates), Num(losses[i]), *_then(page, shown, i)) for i in keep)
    caption = "The loss and the parameters" if shown else "The loss"
    return Table(heads, cells, caption, tuple(range(1, len(heads))))


def _when(i: int, updates: int) -> str:
    return f"before update {i + 1}" if i < updates else f"after update {updates}"


def _loss_name(page: Page) -> Expr:
    loss = page.graph.loss
    return Sym("L") if loss is None else named(loss.name, symbols=page.names)


# --- parameters -------------------------------------------------------------------------------------------------------
Column = tuple[Parts, str, tuple[int, ...] | None]
"""A heading, the parameter, and the entry that is shown; None for its norm."""


def _columns(page: Page) -> list[Column]:
    trained = [node for node in page.graph.parameters if node.name in page.program.trained]
    if not page.is_large and sum(node.size for node in trained) <= _MOST_COLUMNS:
        return [column for node in trained for column in _entries(page, node)]
    if len(trained) > _MOST_COLUMNS:
        return []
    return [(("‖", named(node.name, symbols=page.names), "‖"), node.name, None) for node in trained]


def _entries(page: Page, node: Node) -> list[Column]:
    import numpy as np

    scribe = page.writers[0].writer
    return [((scribe.entry(node, place),), node.name, place) for place in np.ndindex(*node.shape)]


def _then(page: Page, columns: Sequence[Column], i: int) -> list[Num | None]:
    """The parameters before update i + 1."""
    return [_number(page, name, place, i) for _, name, place in columns]


def _number(page: Page, name: str, place: tuple[int, ...] | None, i: int) -> Num | None:
    last = i >= len(page.steps)
    record = page.steps[-1 if last else i].parameters.get(name)
    if record is None:
        return None
    tensor: Tensor = record.after if last else record.before
    if place is None:
        return Num(float(tensor.norm()))
    ref = Ref(name, place, "after" if last else "before", page.steps[-1 if last else i].number)
    return Num(float(tensor[place]), None, ref)
