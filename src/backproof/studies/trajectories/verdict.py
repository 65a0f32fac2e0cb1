"""What a comparison says: who is lowest, how surely, and whether there is anything to be lowest at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from .protocol import Contest
from .surfaces import Surface

__all__ = ["flat", "remarks", "said"]

FURTHER = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
ALIKE = 1e-9
FEW = 10


def said(contests: Mapping[str, Contest], order: Sequence[str], updates: int, surface: Surface) -> str:
    """The verdict in a sentence or two."""
    if flat(contests):
        return "The loss is the same wherever the runs went: there is no lowest one, and nothing to compare."
    best, rest = order[0], order[1:]
    least = contests[best].quantile(0.5)
    text = f"After {updates} updates {best} is lowest: a loss of {least:.4g} in the median"
    if not rest:
        text = f"After {updates} updates {best} has come to a loss of {least:.4g} in the median"
    tied = [n for n in rest if abs(contests[n].quantile(0.5) - least) <= ALIKE * max(abs(least), 1e-300)]
    near = [n for n in rest if n not in tied and contests[n].quantile(0.25) <= contests[best].quantile(0.75)]
    if tied:
        text += f", as {' and '.join(tied)} is" if len(tied) == 1 else f", as {', '.join(tied)} are"
    text += "." + (
        f" Its quartiles overlap those of {', '.join(near)}: other starts may turn their order." if near else ""
    )
    return _where_to(surface, contests[best].trail, best) + text


def _where_to(surface: Surface, trail: Tensor, best: str) -> str:
    """A remark where the way of the lowest leads to no minimum; "" otherwise."""
    falls = [-far.diff() for far in _further(surface, trail)]
    if any(bool((f > 0).all() and (f[1:] > 2 * f[:-1]).all()) for f in falls):
        return f"The loss falls without bound on the way that {best} went, so the lowest loss says only who took the longest steps. "
    if any(bool((f >= 0).all() and f[0] > 0) for f in falls):
        return (
            f"The loss goes on falling, however far one goes on as {best} did: it has no lowest place there, and the longest "
            "steps win. "
        )
    return ""


def remarks(contests: Mapping[str, Contest]) -> tuple[str, ...]:
    """What the table does not say by itself."""
    found = []
    above = [n for n, c in contests.items() if c.at_edge and c.lr >= max(r for r, _ in c.searched)]
    below = [n for n, c in contests.items() if c.at_edge and n not in above]
    for names, end in ((above, "largest"), (below, "smallest")):
        if names:
            found.append(
                f"The best rate is the {end} that was tried for {', '.join(names)}: the loss asks for none in particular."
            )
    return tuple(found)


def flat(contests: Mapping[str, Contest]) -> bool:
    """Whether no run changed the loss at all."""
    return all(max(c.losses) - min(c.losses) <= 1e-14 * max(abs(c.losses[0]), 1e-300) for c in contests.values())


def _further(surface: Surface, trail: Tensor) -> Iterator[Tensor]:
    """The loss from where a run ended on, up to a million times its way further: along the way, and along each of few axes."""
    alive = trail[torch.isfinite(trail).all(1)]
    end, way = alive[-1], alive[-1] - alive[0]
    axes = list(torch.diag(way)) if len(way) <= FEW else []
    for direction in (d for d in (way, *axes) if bool(d.any())):
        found = surface.losses(torch.stack([end, *(end + s * direction for s in FURTHER)]))
        if bool(torch.isfinite(found).all()):
            yield found
