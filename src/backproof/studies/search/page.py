"""A finished search as a page: what was tried, what was found, and how far the figures can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...document.blocks import Block, Callout, Document, Paragraph, Plot, Section, Series, Table
from ...document.math import Num
from ..verdicts import summary
from ..writing.worked import evidence_section
from .space import Choices, Range
from .trials import Tried

if TYPE_CHECKING:
    from .search import Search

__all__ = ["blocks_of", "document_of"]

SHOWN = 12


def document_of(found: Search) -> Document:
    """The page of a search."""
    notes = tuple(Callout("note", (r,)) for r in found.remarks)
    blocks: list[Block] = [*blocks_of(found)]
    if notes:
        blocks.append(Section("Remarks", notes, "result", "remarks"))
    blocks.append(evidence_section(found.evidence))
    standing = "finding" if found.finding else "agrees"
    title = f"A search for settings: {found.title or found.id}"
    return Document(title, tuple(blocks), found.protocol, summary(found.evidence), standing, found.to_dict())  # type: ignore[arg-type]


def blocks_of(found: Search) -> tuple[Block, ...]:
    """What was searched, what came out, the trials, and what mattered."""
    rows = tuple((n, part.said(), str(found.settings.get(n, ""))) for n, part in found.space.items())
    given: list[Block] = [
        Table((("setting",), ("tried",), ("in the problem",)), rows),
        Paragraph((f"What is minimised: {found.protocol}.",)),
    ]
    return (
        Section("What is searched", tuple(given), "given", "space"),
        Section("What was found", _outcome(found), "result", "best"),
        Section("The trials", (_by_trial(found), *_by_setting(found), _table(found)), "forward", "trials"),
    )


def _outcome(found: Search) -> tuple[Block, ...]:
    best = tuple((n, _cell(v)) for n, v in found.best.items())
    figures: list[tuple[Any, ...]] = [
        ("on the samples it was trained on", Num(found.train)),
        ("on samples left out, by which it was chosen", Num(found.value)),
    ]
    if found.nested is not None:
        figures.append(("on samples that the choice has not seen either", Num(found.nested)))
    return (
        Table((("setting",), ("best",)), best, "The settings with the smallest held-out loss"),
        Table((("loss",), ("",)), tuple(figures), "Three figures, each more honest than the one before", (1,)),
    )


def _by_trial(found: Search) -> Plot:
    done = [t for t in found.trials if t.value is not None]
    best, low = [], float("inf")
    for t in done:
        low = min(low, t.value if t.value is not None else low)
        best.append(low)
    x = tuple(float(t.number) for t in done)
    values = tuple(float(t.value or 0.0) for t in done)
    return Plot(
        (Series("trial", x, values, "points"), Series("best so far", x, tuple(best))),
        "trial",
        "held-out loss",
        ("The held-out loss of each trial, and the best so far.",),
        f"{len(done)} trials; the best held-out loss is {min(values):.4g}",
        log_y=min(values) > 0,
    )


def _by_setting(found: Search) -> tuple[Block, ...]:
    """Each setting's part in the spread of the losses, and one plot for each range."""
    done = [t for t in found.trials if t.value is not None]
    if len(done) < 6:
        return ()
    shares = {n: _share(n, part, done) for n, part in found.space.items()}
    order = sorted(shares, key=lambda n: -shares[n])
    rows = tuple((n, f"{100 * shares[n]:.0f} %") for n in order)
    said = (
        "How much each setting explains: the share of the variance of the trials' ranks that lies between groups of "
        "its values (choices, or thirds of a range). Trials are not drawn evenly, so this is a hint."
    )
    plots = tuple(_scatter(n, part, done) for n in order if isinstance(part := found.space[n], Range))
    return (Paragraph((said,)), Table((("setting",), ("explains",)), rows), *plots[:2])


def _share(name: str, part: Range | Choices, done: list[Tried]) -> float:
    order = sorted(done, key=lambda t: t.value or 0.0)
    rank = {t.number: float(i) for i, t in enumerate(order)}
    groups: dict[Any, list[float]] = {}
    sorted_by_value = sorted((t for t in done if name in t.settings), key=lambda t: _key(t.settings[name]))
    for i, t in enumerate(sorted_by_value):
        group = str(t.settings[name]) if isinstance(part, Choices) else 3 * i // len(sorted_by_value)
        groups.setdefault(group, []).append(rank[t.number])
    mean = (len(done) - 1) / 2
    total = sum((r - mean) ** 2 for r in rank.values())
    between = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups.values())
    return between / total if total else 0.0


def _key(value: Any) -> tuple[str, float]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return ("" if number else str(value), float(value) if number else 0.0)


def _scatter(name: str, part: Range, done: list[Tried]) -> Plot:
    pairs = [(float(t.settings[name]), float(t.value or 0.0)) for t in done if name in t.settings]
    x, y = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    return Plot(
        (Series("trial", x, y, "points"),),
        name,
        "held-out loss",
        (f"The held-out loss against {name}.",),
        f"{len(pairs)} trials over {name}",
        log_x=part.log,
        log_y=min(y) > 0,
    )


def _table(found: Search) -> Table:
    """The best trials in order, with why each was tried."""
    done = sorted((t for t in found.trials if t.value is not None), key=lambda t: t.value or 0.0)[:SHOWN]
    names = list(found.space)
    rows = tuple(
        (str(t.number), *(_cell(t.settings.get(n)) for n in names), Num(t.kept["train"]) if "train" in t.kept else None,
         Num(float(t.value or 0.0)), t.why)
        for t in done
    )  # fmt: skip
    columns = (("trial",), *((n,) for n in names), ("training loss",), ("held-out loss",), ("why tried",))
    return Table(columns, rows, f"The best {len(done)} of {len(found.trials)} trials")


def _cell(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value) if value is not None else None
    return Num(value)
