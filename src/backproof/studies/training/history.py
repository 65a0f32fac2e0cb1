"""What a training run leaves behind: a row per epoch, and the trained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ...document.blocks import Block, Callout, Document, Parts, Plot, Section, Series, Table
from ...document.math import Num
from ...result import Result, plain

__all__ = ["History", "curves"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class History(Result):
    """A training run, epoch by epoch.

    Args:
        rows: one mapping per epoch: ``epoch``, ``loss`` (the mean over the epoch's batches, each before its update),
            ``lr`` (of the last update), and where they apply ``accuracy``, ``validation_loss``,
            ``validation_accuracy`` (shares from 0 to 1), ``stopped``, and what ``observe`` gave.
        model: the trained copy of the model.
        title: what was trained.
        settings: with what.
        remarks: what a careful reader should know.
        seconds: how long each epoch took that was run here (none for those read from a checkpoint).
    """

    rows: tuple[Row, ...]
    model: nn.Module = field(compare=False, repr=False)
    title: str = "Training"
    settings: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    seconds: tuple[float, ...] = field(default=(), compare=False)

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether the training broke off because the loss was no longer a number."""
        return bool(self.rows and "stopped" in self.rows[-1])

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The rows as plain data; no times, so that two equal runs give equal records."""
        count = sum(p.numel() for p in self.model.parameters())
        return {
            "model": self.title,
            "parameters": count,
            "settings": plain(self.settings, full),
            "rows": plain([dict(row) for row in self.rows], full),
            "remarks": list(self.remarks),
        }

    def document(self) -> Document:
        """The curves, the remarks and the table."""
        blocks: list[Block] = [Callout("finding" if self.finding else "note", (r,)) for r in self.remarks]
        blocks += curves({"": self.rows})
        blocks.append(Section("Epoch by epoch", (_table(self.rows),), "result", "epochs"))
        subtitle = " · ".join(f"{k} {v}" for k, v in self.settings.items())
        standing = "finding" if self.finding else ""
        return Document(f"Training of {self.title}", tuple(blocks), subtitle, "", standing, self.to_dict())  # type: ignore[arg-type]


_COLUMNS = {
    "epoch": "epoch",
    "lr": "learning rate at its end",
    "loss": "training loss",
    "accuracy": "training accuracy",
    "validation_loss": "test loss",
    "validation_accuracy": "test accuracy",
}


def _table(rows: tuple[Row, ...]) -> Table:
    keys = [k for k in _COLUMNS if any(k in row for row in rows)]
    keys += [k for k in dict.fromkeys(k for row in rows for k in row) if k not in keys and _is_number(rows, k)]
    columns: tuple[Parts, ...] = tuple((_COLUMNS.get(k, k.replace("_", " ")),) for k in keys)
    cells = tuple(tuple(_cell(row.get(k)) for k in keys) for row in rows)
    return Table(columns, cells, "Losses are means over the epoch's batches", tuple(range(len(keys))))


def _is_number(rows: tuple[Row, ...], key: str) -> bool:
    return all(isinstance(row.get(key, 0.0), (int, float)) for row in rows)


def _cell(value: Any) -> Num | str | None:
    if value is None:
        return None
    return Num(value) if math.isfinite(value) else str(value)


def curves(runs: Mapping[str, tuple[Row, ...]]) -> list[Block]:
    """The loss curves and, where there are any, the accuracy curves of runs by their names."""
    found: list[Block] = []
    for label, keys, log in (("loss", ("loss", "validation_loss"), True), ("accuracy", _SHARES, False)):
        series = [s for name, rows in runs.items() for key in keys if (s := _series(name, rows, key)) is not None]
        if series:
            names = ", ".join(s.label for s in series)
            caption: Parts = (f"The {label} after each epoch.",)
            alt = f"Curves of the {label} over the epochs: {names}"
            found.append(Plot(tuple(series), "epoch", label, caption, alt, log_y=log))
    return found


_SHARES = ("accuracy", "validation_accuracy")


def _series(name: str, rows: tuple[Row, ...], key: str) -> Series | None:
    points = [(float(row["epoch"]), float(row[key])) for row in rows if key in row]
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if not points:
        return None
    part = "test" if key.startswith("validation") else "training"
    return Series(f"{name}, {part}" if name else part, tuple(x for x, _ in points), tuple(y for _, y in points))
