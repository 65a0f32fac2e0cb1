"""Which activations to keep and which to compute again: a dynamic programme over the blocks of a network.

A checkpointed segment keeps only what goes into it; in the backward pass it is run again, and then all its activations
are live at once, on top of what the segments before it keep. For segments 1..m with kept bytes k_i and inner bytes a_i,

    peak = max over i of (k_1 + ... + k_{i-1} + a_i + gradients of the blocks after i),

and the cost is the forward work of the checkpointed segments. Every partition of up to 100 blocks is covered by growing
it block by block and keeping, for each rounded pair (kept, peak), the cheapest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from .record import Record
from .stepping import Segment

__all__ = ["Block", "Choice", "blocks_of", "choices", "uniform"]

CELLS = 40
"""Into how many steps the range of bytes is rounded, in each direction."""


@dataclass(frozen=True)
class Block:
    """A module that can be checkpointed: its path, what goes in, what it keeps, its work, its gradients' bytes.

    ``needed`` says whether what goes in is kept in the plain step too (then the block before it accounts for it).
    ``joins`` is the path of the Sequential in which it may form one segment with its neighbours, or "-" for none.
    """

    path: str
    entering: int
    needed: bool
    kept: int
    work: int
    gradients: int
    random: bool
    joins: str


@dataclass(frozen=True)
class Choice:
    """Some segments, with their estimated peak (of activations and gradients alone) and work."""

    peak: int
    work: int
    segments: tuple[Segment, ...]


def blocks_of(model: nn.Module, record: Record) -> tuple[Block, ...]:
    """The blocks of the model's Sequentials and module lists, in the order in which they run."""
    kept = _kept(record)
    found = _inside(model, "", kept, record)
    order = {name: i for i, name in enumerate(record.called)}
    blocks = [_block(model, path, joins, kept, record) for path, joins in found if path in order]
    return tuple(sorted(blocks, key=lambda b: order[b.path]))


def _kept(record: Record) -> dict[str, int]:
    """The saved bytes of the first step by the module that made them."""
    line = record.timeline
    span = line.span(1)
    found: dict[str, int] = {}
    for s in line.storages:
        if s.kind == "activations" and s.birth in span:
            found[s.module] = found.get(s.module, 0) + s.bytes
    return found


def _within(path: str, of: str) -> bool:
    return path == of or path.startswith(f"{of}.") or of == ""


def _sum(values: dict[str, int], path: str) -> int:
    return sum(size for module, size in values.items() if _within(module, path))


def _inside(model: nn.Module, path: str, kept: dict[str, int], record: Record) -> list[tuple[str, str]]:
    """The blocks of the outermost chains; a block that holds most of its chain's activations is opened if it has chains."""
    module = model.get_submodule(path)
    children = [(f"{path}.{n}" if path else n, c) for n, c in module.named_children()]
    is_chain = isinstance(module, (nn.Sequential, nn.ModuleList)) and len(children) > 1
    if not is_chain:
        return [b for p, _ in children for b in _inside(model, p, kept, record)]
    joins = path if isinstance(module, nn.Sequential) and path in record.called else "-"
    whole = _sum(kept, path)
    found = []
    for p, _ in children:
        inner = _inside(model, p, kept, record) if 2 * _sum(kept, p) > whole else []
        found += inner or [(p, joins)]
    return found


def _block(model: nn.Module, path: str, joins: str, kept: dict[str, int], record: Record) -> Block:
    line = record.timeline
    own = [at for i in line.span(1) if _within((at := line.instants[i]).module, path) and at.phase == "forward"]
    gradients = sum(p.numel() * p.element_size() for p in model.get_submodule(path).parameters() if p.requires_grad)
    work, random = sum(at.flops for at in own), any(at.random for at in own)
    entering = [line.storages[n] for n in record.called[path]]
    size, needed = sum(s.bytes for s in entering), any(s.kind == "activations" for s in entering)
    return Block(path, size, needed, _sum(kept, path), work, gradients, random, joins)


State = tuple[int, int, int, tuple[tuple[int, int], ...]]  # kept, peak, work, segments as (first, last)


def choices(blocks: Sequence[Block]) -> list[Choice]:
    """The partitions worth trying: the estimated peak falls and the work grows along the list; the first is the plain one."""
    after = [sum(b.gradients for b in blocks[i:]) for i in range(len(blocks) + 1)]
    unit = max(1, (sum(b.kept + b.entering for b in blocks) + after[0]) // CELLS)
    states: list[list[State]] = [[(0, 0, 0, ())], *([] for _ in blocks)]
    for i, block in enumerate(blocks):
        for state in _best(states[i], unit):
            kept, peak, work, segments = state
            follows = _ends_at(segments, i - 1)
            plain = kept + block.kept + (block.entering if follows and block.needed else 0)
            states[i + 1].append((plain, max(peak, plain + after[i + 1]), work, segments))
            own = block.entering if follows or not block.needed else 0
            for j in _ends(blocks, i):
                inner = sum(b.kept for b in blocks[i : j + 1])
                high = max(peak, kept + own + inner + after[j + 1])
                cost = work + sum(b.work for b in blocks[i : j + 1])
                states[j + 1].append((kept + own, high, cost, (*segments, (i, j))))
    return _front(states[-1], blocks)


def _ends_at(segments: tuple[tuple[int, int], ...], i: int) -> bool:
    return bool(segments) and segments[-1][1] == i


def _ends(blocks: Sequence[Block], i: int) -> range:
    """Where a segment that begins at block i may end."""
    last = i
    while last + 1 < len(blocks) and blocks[last + 1].joins == blocks[i].joins != "-" and last - i < 40:
        last += 1
    return range(i, last + 1)


def _best(states: Sequence[State], unit: int) -> list[State]:
    """For each rounded (kept, peak) the cheapest state."""
    found: dict[tuple[int, int], State] = {}
    for s in states:
        cell = (s[0] // unit, s[1] // unit)
        if cell not in found or (s[2], s[1], s[0]) < (found[cell][2], found[cell][1], found[cell][0]):
            found[cell] = s
    return list(found.values())


def _front(states: Sequence[State], blocks: Sequence[Block]) -> list[Choice]:
    found: list[Choice] = []
    for _, peak, work, segments in sorted(states, key=lambda s: (s[2], s[1], len(s[3]))):
        if not found or peak < found[-1].peak:
            chosen = tuple(_segment(blocks[i : j + 1]) for i, j in segments)
            found.append(Choice(peak, work, chosen))
    return found


def _segment(blocks: Sequence[Block]) -> Segment:
    return Segment(tuple(b.path for b in blocks), any(b.random for b in blocks))


def uniform(blocks: Sequence[Block], segments: int) -> tuple[Segment, ...]:
    """The textbook's choice: so many segments of equal length (as far as the blocks may be joined)."""
    size = -(-len(blocks) // segments)
    found: list[list[Block]] = []
    for i, block in enumerate(blocks):
        if i % size == 0 or block.joins == "-" or block.joins != found[-1][-1].joins:
            found.append([])
        found[-1].append(block)
    return tuple(_segment(group) for group in found)
