"""What could be wrong about one operation: the edits that :mod:`.edits` tries, each with its words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_unflatten

from ..compare import Gradients
from .tape import Step, Tape

__all__ = ["Candidate", "candidates", "forward_candidates", "together"]

MOST_POOL = 40
LINEAR = ("add", "sub", "rsub", "mul", "div", "neg", "reciprocal", "pow", "to", "_to_copy", "clone", "detach")
aten = torch.ops.aten

Candidate = tuple[str, list[Any], Any]
"""What is changed in words, the arguments of the step, and another function to call, or None."""


def candidates(
    tape: Tape, step: Step, claimed: Gradients, names: dict[int, str], far: bool = False
) -> Iterator[Candidate]:
    """The step with one thing changed: what was done in words, its arguments, and another function or None.

    ``far`` gives the changes that are less likely: functions of an operand or of another tensor in its place.
    """
    flat = tape.arguments(step)
    if far:
        yield from _far(tape, step, flat, names)
        return
    yield from _other_function(step, flat)
    if step.outs[0] >= 0:
        for words, before in _upstream(tape, step.outs[0], tape.values[step.outs[0]], names):
            yield words, flat, lambda *_, before=before, **__: before
    for place, number in step.operands:
        value = tape.values[number]
        label = names.get(number, _label(tape, number, names))

        def rest(new: Tensor, place: int = place) -> list[Any]:
            return [*flat[:place], new, *flat[place + 1 :]]

        for words, moved in _moves(value):
            yield f"{label} is {words}", rest(moved), None
        for words, before in _upstream(tape, number, value, names):
            yield words, rest(before), None
        if value.dtype == torch.int64 and _takes_any_index(tape, step):
            for other, tensor in _within(_pool(tape, number, value), value):
                yield f"{names.get(other, _label(tape, other, names))} stands where {label} belongs", rest(tensor), None
        if number in tape.carried:
            yield from ((words, rest(tensor), None) for words, tensor in _carried(tape, step, number, names))
            continue
        if not value.is_floating_point():
            continue
        yield f"the factor {label} is forgotten", rest(torch.ones_like(value)), None
        for other, tensor in _pool(tape, number, value):
            yield f"{_exchange(tape, other, number, names)}", rest(tensor), None
        for words, tensor in _seen_alike(tape, number, names):
            yield f"{words} stands where {label} belongs", rest(tensor), None
        for g in claimed:
            if g is not None and g.shape == value.shape and value.ndim:
                yield f"{label} is used after its update (already updated)", rest(value - 0.1 * g.to(value.dtype)), None


def _carried(tape: Tape, step: Step, number: int, names: dict[int, str]) -> Iterator[tuple[str, Tensor]]:
    """What may stand in the place of an error signal: nothing, or its first entry alone."""
    value, label = tape.values[number], names.get(number, _label(tape, number, names))
    if step.name == "mul":
        yield f"the factor {label} is forgotten", torch.ones_like(value)
    if value.ndim and value.shape[0] > 1:
        first = torch.zeros_like(value)
        first[:1] = value[:1]
        yield f"only the first entry of {label} along axis 0 counts", first


def _other_signals(tape: Tape, number: int, names: dict[int, str]) -> Iterator[tuple[str, Tensor]]:
    """Other error signals of the same shape."""
    value, label = tape.values[number], names.get(number, _label(tape, number, names))
    for other in sorted(tape.carried - {number}):
        tensor = tape.values.get(other)
        if tensor is not None and tensor.shape == value.shape and tensor.dtype == value.dtype:
            yield f"{names.get(other, _label(tape, other, names))} stands where {label} belongs", tensor


def _seen_alike(tape: Tape, number: int, names: dict[int, str]) -> Iterator[tuple[str, Tensor]]:
    """For an operand that is a view of a tensor (transposed, say): the same view of others."""
    step = next((s for s in tape.steps if number in s.outs), None)
    if step is None or not step.function.is_view or not step.operands or step.name in ("alias", "detach"):
        return
    place, source = step.operands[0]
    flat = tape.arguments(step)
    for other, tensor in _pool(tape, source, tape.values[source]):
        try:
            made = tape.call(step, [*flat[:place], tensor, *flat[place + 1 :]])[0]
        except (RuntimeError, IndexError, ValueError, TypeError):
            continue
        yield f"{names.get(other, _label(tape, other, names))} ({step.name})", made


def _takes_any_index(tape: Tape, step: Step) -> bool:
    """Whether the indices of a step can be exchanged: kernels that take several lists of them trust these blindly."""
    return sum(tape.values[n].dtype == torch.int64 for _, n in step.operands) == 1


def _within(pool: Iterator[tuple[int, Tensor]], value: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Those whose numbers stay in the range of these indices, so that nothing is read from outside a tensor."""
    if not value.numel():
        return
    low, high = value.min(), value.max()
    yield from ((n, t) for n, t in pool if bool(t.min() >= low) and bool(t.max() <= high))


def _far(tape: Tape, step: Step, flat: list[Any], names: dict[int, str]) -> Iterator[Candidate]:
    """Another function of an operand, or a function of another tensor in its place."""
    for place, number in step.operands:
        value = tape.values[number]
        rest = (flat[:place], flat[place + 1 :])
        if number in tape.carried:
            for words, signal in _other_signals(tape, number, names):
                yield words, [*rest[0], signal, *rest[1]], None
        if number in tape.carried or not value.is_floating_point():
            continue
        label = names.get(number, _label(tape, number, names))
        for words, changed in _functions(value):
            yield f"{words} stands where {label} belongs", [*flat[:place], changed, *flat[place + 1 :]], None
        for other, tensor in _pool(tape, number, value):
            name = names.get(other, _label(tape, other, names))
            for words, changed in _functions(tensor):
                yield (
                    f"{words} of {name} stands where {label} belongs",
                    [*flat[:place], changed, *flat[place + 1 :]],
                    None,
                )


def _exchange(tape: Tape, other: int, number: int, names: dict[int, str]) -> str:
    """One tensor in the place of another; for an activation and what goes into it, by these names."""
    name, label = (names.get(n, _label(tape, n, names)) for n in (other, number))
    if any(other in s.outs and s.name.endswith("_") for s in tape.steps):
        return f"{name} stands where {label} belongs: a tensor after it was changed in place (already updated)"
    a, b = _source(tape, other), _source(tape, number)
    if _makes(tape, a, b):
        return f"the pre-activation ({name}) stands where the activation ({label}) belongs"
    if _makes(tape, b, a):
        return f"the activation ({name}) stands where the pre-activation ({label}) belongs"
    return f"{name} stands where {label} belongs"


def _makes(tape: Tape, before: int, after: int) -> bool:
    """Whether ``after`` is a function of ``before`` entry by entry."""
    step = next((s for s in tape.steps if after in s.outs and not s.backward), None)
    if step is None or step.name in LINEAR or tape.values[before].shape != tape.values[after].shape:
        return False
    return [n for _, n in step.operands] == [before]


def _upstream(
    tape: Tape, number: int, value: Tensor, names: dict[int, str], depth: int = 3
) -> Iterator[tuple[str, Tensor]]:
    """What the operand was before its last operations: they are forgotten on this way."""
    step = next((s for s in tape.steps if number in s.outs), None)
    if step is None or not step.backward or number not in tape.carried or depth == 0:
        return
    for _, before in step.operands:
        if before in tape.carried and tape.values[before].shape == value.shape:
            if step.name in ("to", "_to_copy", "detach", "alias", "conj_physical", "clone"):
                yield from _upstream(tape, before, value, names, depth)
                continue
            others = [names.get(n, _label(tape, n, names)) for _, n in step.operands if n != before]
            yield (
                f"{step.name} with {others[0]} is forgotten" if others else f"{step.name} is forgotten",
                tape.values[before],
            )
            yield from _upstream(tape, before, value, names, depth - 1)


def forward_candidates(tape: Tape, step: Step, names: dict[int, str]) -> Iterator[Candidate]:
    """The step of the forward pass with another constant: what the backward pass takes it to be."""
    flat = tape.arguments(step)
    if not all(tape.values[n].is_floating_point() for n in step.outs if n >= 0):
        return
    for place, given in enumerate(flat):
        if isinstance(given, bool) or not isinstance(given, int | float) or step.function.is_view:
            continue
        for other in _constants(given):
            text = f"{step.name} is computed with {other:g} where the forward pass has {given:g}"
            yield text, [*flat[:place], other, *flat[place + 1 :]], None
    yield from _epsilon_outside(tape, step)
    if step.name in ("var", "var_mean", "std"):
        for other in (0, 1):
            yield f"the variance is computed with the correction {other}", flat, _corrected(step, other)


def _epsilon_outside(tape: Tape, step: Step) -> Iterator[Candidate]:
    """√x + ε for √(x + ε)."""
    if step.name not in ("sqrt", "rsqrt"):
        return
    before = next((s for s in tape.steps if step.operands[0][1] in s.outs and s.name == "add"), None)
    if before is None or len(before.operands) != 1:
        return
    value, root = tape.values[before.operands[0][1]].sqrt(), step.name == "rsqrt"
    epsilon = float(next(v for v in tape.arguments(before) if isinstance(v, int | float)))
    changed = value + epsilon
    yield (f"{epsilon:g} is added outside the root where it belongs inside", tape.arguments(step),
           lambda *_, **__: changed.reciprocal() if root else changed)  # fmt: skip


def _corrected(step: Step, correction: int) -> Any:
    def run(x: Tensor, dim: Any = None, *_: Any, keepdim: bool = False, **__: Any) -> Any:
        found = getattr(torch, step.name)(x, dim=dim, correction=correction, keepdim=keepdim)
        return found

    return run


def _constants(given: float) -> Iterator[float]:
    for other in (0, 1, -given, 2 * given, given / 2, given * given, -1, 2):
        if other != given and isinstance(other, int | float):
            yield other


def _source(tape: Tape, number: int) -> int:
    """The tensor behind views of it."""
    step = next((s for s in tape.steps if number in s.outs), None)
    if step is None or not step.operands or not (step.function.is_view or step.name in ("to", "detach")):
        return number
    return _source(tape, step.operands[0][1])


def together(tape: Tape, names: dict[int, str], far: bool = False) -> Iterator[tuple[Step, str, dict[int, Any]]]:
    """The same change at several steps of a loop: a weight moved, another function, the state of the neighbouring step."""
    same: dict[Any, list[tuple[int, int]]] = {}
    states: dict[Any, list[tuple[int, int]]] = {}
    for at, step in tape.backward_steps():
        for rank, (_, number) in enumerate(step.operands):
            value, source = tape.values[number], _source(tape, number)
            if number in tape.carried or not (value.is_floating_point() or value.is_complex()):
                continue
            key = (step.name, step.line, rank, value.shape)
            same.setdefault((*key, source), []).append((at, rank))
            if source not in tape.leaves:
                states.setdefault(key, []).append((at, rank))
    loops = {key: members for key, members in states.items() if _is_loop(tape, members)}
    near = ((same, _moved_together), (loops, _neighbours))
    for group, change in ((states, _changed_together),) if far else near:
        for members in group.values():
            if len(members) > 1:
                step = tape.steps[members[0][0]]
                yield from ((step, words, edits) for words, edits in change(tape, members, names))


def _is_loop(tape: Tape, members: Members) -> bool:
    """Whether these steps belong to one operation that the program ran again and again."""
    steps = [tape.steps[at] for at, _ in members]
    return len({s.spot for s in steps}) == 1 and len({s.node for s in steps}) == len(steps)


Members = list[tuple[int, int]]
Together = Iterator[tuple[str, dict[int, Any]]]


def _operand_of(tape: Tape, member: tuple[int, int]) -> int:
    at, rank = member
    return tape.steps[at].operands[rank][1]


def _moved_together(tape: Tape, members: Members, names: dict[int, str]) -> Together:
    number = _operand_of(tape, members[0])
    for words, made in _moves(tape.values[number]):
        yield f"{names.get(number, _label(tape, number, names))} is {words}", {at: (k, made) for at, k in members}


def _changed_together(tape: Tape, members: Members, names: dict[int, str]) -> Together:
    number = _operand_of(tape, members[0])
    ones = {at: (k, torch.ones_like(tape.values[_operand_of(tape, (at, k))])) for at, k in members}
    yield f"the factor {_label(tape, number, names)} is forgotten", ones
    for made in zip(*(list(_functions(tape.values[_operand_of(tape, m)])) for m in members), strict=True):
        words = f"{made[0][0]} stands where {_label(tape, number, names)} belongs"
        yield words, {at: (k, new) for (at, k), (_, new) in zip(members, made, strict=True)}


def _neighbours(tape: Tape, members: Members, names: dict[int, str]) -> Together:
    """The operand of the step before or after; at the end of the loop any tensor of that shape."""
    values = [tape.values[_operand_of(tape, m)] for m in members]
    label = _label(tape, _operand_of(tape, members[0]), names)
    pool = [torch.zeros_like(values[0]), *(t for _, t in _pool(tape, -1, values[0]))]
    if values[0].ndim == 2:
        turned = values[0].t()
        pool += [t.t() for _, t in _pool(tape, -1, turned)]
    for end in pool:
        for words, moved in (("after", [end, *values[:-1]]), ("before", [*values[1:], end])):
            edits = {at: (k, v) for (at, k), v in zip(members, moved, strict=True)}
            yield f"{label} is taken from the step {words}", edits


def _label(tape: Tape, number: int, names: dict[int, str]) -> str:
    """A tensor of the run in words: the operation that made it and the line."""
    if number in tape.weights:
        return "the output's gradient"
    for step in tape.steps:
        if number in step.outs:
            if step.function.is_view and step.operands:
                source = step.operands[0][1]
                inner = names.get(source) or _label(tape, source, names)
                return (
                    inner
                    if step.name in ("view", "detach", "alias", "expand", "unsqueeze")
                    else f"{inner} ({step.name})"
                )
            if step.backward and number not in tape.carried:
                return f"the slope f' ({step.name})" + (f" at {step.line}" if step.line else "")
            kind = {"native_dropout": "dropout"}.get(step.name, step.name)
            if step.backward:
                return f"the error signal after {kind}" + (f" at {step.line}" if step.line else "")
            return f"the result of {kind}" + (f" at {step.line}" if step.line else "")
    return "the output's gradient" if number in tape.weights else "a constant"


def _moves(value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same numbers in another order."""
    if value.is_complex():
        yield "taken without its conjugate, or with it", value.conj().resolve_conj()
    if value.ndim < 1 or value.numel() < 2 or not value.is_floating_point():
        return
    if value.ndim >= 2 and value.shape[-1] == value.shape[-2]:
        yield "transposed in its last two axes", value.transpose(-1, -2)
    if value.ndim >= 3 and value.shape[0] == value.shape[1]:
        yield "exchanged in its first two axes", value.transpose(0, 1)
    if value.ndim == 2:
        yield "read in the wrong memory order", value.t().contiguous().view(value.shape)
        yield "read in the wrong memory order", value.contiguous().view(value.shape[1], value.shape[0]).t()
    if value.ndim >= 3:
        yield "flipped in its last two axes", value.flip(-1, -2)
    for axis in range(value.ndim):
        if value.shape[axis] > 1:
            yield f"flipped along axis {axis}", value.flip(axis)
            yield f"shifted by one along axis {axis}", value.roll(1, axis)
            yield f"shifted by one along axis {axis}", value.roll(-1, axis)


def _functions(value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Other functions of a tensor, slopes among them."""
    yield "the negative", -value
    yield "the absolute value", value.abs()
    yield "the square", value * value
    yield "the inverse", 1 / value
    yield "the sign", value.sign()
    yield "x (1 - x)", value * (1 - value)
    yield "x (1 - x) (1 - 2x)", value * (1 - value) * (1 - 2 * value)
    yield "1 - x", 1 - value
    yield "1 - x²", 1 - value * value
    yield "1 + x", 1 + value
    yield "the slope of tanh", 1 - torch.tanh(value) ** 2
    yield "the slope of the sigmoid", torch.sigmoid(value) * (1 - torch.sigmoid(value))
    yield "the slope of relu", (value > 0).to(value.dtype)
    yield "the sine", torch.sin(value)
    yield "the cosine", torch.cos(value)
    yield "the exponential", torch.exp(value)
    yield "the logarithm", torch.log(value.abs())
    yield "the root", value.abs().sqrt()
    yield "tanh", torch.tanh(value)
    yield "the sigmoid", torch.sigmoid(value)


def _pool(tape: Tape, number: int, value: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Other tensors of the run of the same shape that do not hang on the output's gradient."""
    shown = 0
    for other, tensor in tape.values.items():
        same = tensor.shape == value.shape and tensor.dtype == value.dtype
        if same and other != number and other not in tape.carried and shown < MOST_POOL:
            shown += 1
            yield other, tensor


def _other_function(step: Step, flat: list[Any]) -> Iterator[Candidate]:
    """Another operation in the same place: another axis, one instead of all, writing instead of adding."""
    first = flat[0] if flat else None
    if not isinstance(first, Tensor):
        return
    if step.name in ("cat", "stack"):
        yield from _reordered(step, flat)
    if step.name == "sum" and len(flat) >= 2 and isinstance(flat[1], int) and first.ndim:
        axis = int(flat[1])
        for other in range(first.ndim):
            if other != axis % first.ndim:
                yield f"the sum is taken over axis {other} where axis {axis} belongs", [first, other, *flat[2:]], None
        head = lambda x, d, *r: x.select(d[0], 0).unsqueeze(d[0]) if r and r[0] else x.select(d[0], 0)  # noqa: E731
        alone = "each entry is passed back as if it stood alone, as in an elementwise function"
        yield f"the sum over the axis is forgotten: {alone}", flat, lambda x, *_: x
        yield (
            "only the first entry counts where a sum over its axis belongs (broadcasting is not summed back)",
            flat,
            head,
        )
        yield "the mean stands where the sum belongs", flat, aten.mean.dim
    if step.name == "embedding_dense_backward":
        source, index = first.reshape(-1, first.shape[-1]), flat[1].reshape(-1)
        for words, out in _scatter_slips(source.new_zeros(flat[2], source.shape[-1]), index, source):
            yield words, flat, lambda *_, out=out: out
    if step.name == "where":
        yield "the first branch is taken everywhere", flat, lambda c, a, b: torch.as_tensor(a).expand(c.shape)
        yield "the second branch is taken everywhere", flat, lambda c, a, b: torch.as_tensor(b).expand(c.shape)
    if step.name == "max_pool2d_with_indices_backward":
        yield from _pooled(step, flat)
    if step.name in ("index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"):
        yield from _written(flat)
    if step.name in ("index_add", "index_add_", "scatter_add", "scatter_add_"):
        yield from _written(flat)


def _reordered(step: Step, flat: list[Any]) -> Iterator[Candidate]:
    """Two members of a concatenation exchanged."""
    places = [place for place, _ in step.operands]
    for a, b in itertools.combinations(places, 2):
        if flat[a].shape == flat[b].shape:
            swapped = list(flat)
            swapped[a], swapped[b] = flat[b], flat[a]
            yield f"parts {places.index(a)} and {places.index(b)} of what was split are exchanged", swapped, None


def _written(flat: list[Any]) -> Iterator[Candidate]:
    """index_put: duplicates written over one another, averaged, or with moved indices."""
    target, index, source = flat[0], _indices(flat), _last_tensor(flat)
    if not isinstance(target, Tensor) or index is None or source is None:
        return
    for words, out in _scatter_slips(target, index, source):
        yield words, flat, lambda *_, out=out, **__: out


def _indices(flat: list[Any]) -> Tensor | None:
    found = [v for v in flat if isinstance(v, Tensor) and v.dtype == torch.int64]
    return found[0] if len(found) == 1 else None


def _last_tensor(flat: list[Any]) -> Tensor | None:
    found = [v for v in flat[1:] if isinstance(v, Tensor) and v.is_floating_point()]
    return found[-1] if found else None


def _scatter_slips(target: Tensor, index: Tensor, source: Tensor) -> Iterator[tuple[str, Tensor]]:
    if index.ndim != 1 or source.shape[:1] != index.shape:
        return
    written = target.clone()
    written[index] = source
    yield "duplicates are not accumulated: an index that occurs twice keeps only the last", written
    counts = torch.bincount(index, minlength=len(target)).clamp(1).reshape(-1, *[1] * (target.ndim - 1))
    yield "duplicates are averaged where they belong added up", target.index_add(0, index, source) / counts
    for step in (1, -1):
        yield "the indices are shifted by one", target.index_add(0, index.roll(step), source)
    if source.ndim:
        yield "the rows are shifted by one", target.index_add(0, index, source.roll(1, 0))


def _pooled(step: Step, flat: list[Any]) -> Iterator[Candidate]:
    """Max pooling: the average, the smallest or the first entry of each window in the place of the largest."""
    g, x, kernel, stride, padding, dilation, ceil, _ = tree_unflatten(flat, step.spec)[0]
    window = (kernel, stride or kernel, padding)

    def average(*_: Any) -> Any:
        return aten.avg_pool2d_backward(g, x, *window, ceil, True, None)

    yield "the gradient is averaged over the window, as in average pooling", flat, average
    yield "every entry of the window gets the gradient", flat, lambda *_: average() * math.prod(kernel)
    order = -torch.arange(x[0, 0].numel(), dtype=x.dtype).reshape(x.shape[-2:]).expand(x.shape)
    for words, by in (("smallest", -x), ("first", order), ("last", -order)):
        _, index = F.max_pool2d(by, *window, dilation, ceil, return_indices=True)
        yield f"the gradient goes to the {words} entry of each window", [*flat[:-1], index], None
