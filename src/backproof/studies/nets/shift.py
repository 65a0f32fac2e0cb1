"""Which networks mind where a picture stands, and which mind what stands beside what: trained and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures, Samples, digits, pictures
from ...data.canvas import VARIANTS, Canvas, canvas_for
from ...errors import InputError
from ...progress import task
from ..answer import Answer
from ..numbers_in import number_in
from ..training import History, train
from ..training.chance import drawn_from, generator_for, number_for
from ..verdicts import Evidence
from .equivariance import Field, Moved, convolutional_part, field_of, moved, moved_evidence, permuted_evidence
from .loop_evidence import confirmed_loop
from .parameters import Count, counted, counting_evidence

__all__ = ["Contender", "Measured", "Setup", "shift_study"]

MOST_EPOCHS = 1000
_LEAST_TESTED, _MOST_DRAWS = 1000, 3
_RECOUNTED = 100
_TESTS = 4  # so often a run is tested on its way
_BATCH = 256


@dataclass(frozen=True)
class Contender:
    """A network that takes part.

    Args:
        build: a function of (canvas, classes) that makes it, for inputs [N, 1, canvas, canvas].
        lr, weight_decay: of AdamW, with which it is trained.
    """

    build: Callable[[int, int], nn.Module]
    lr: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Setup:
    """On what the networks are trained."""

    pictures: Pictures
    canvases: Mapping[str, Canvas]
    tests: Mapping[str, tuple[Tensor, Tensor]]
    epochs: int
    batch: int
    seed: int

    @property
    def canvas(self) -> int:
        """Pixels along a side."""
        return self.canvases[VARIANTS[0]].size


@dataclass(frozen=True)
class Measured:
    """What was found out about one network."""

    name: str
    contender: Contender
    counts: tuple[Count, ...]
    counts_twice: int
    histories: Mapping[str, History]
    accuracy: Mapping[str, float]
    by_shift: tuple[tuple[int, float], ...]
    field: Field | None
    moved: tuple[Moved, ...]
    evidence: tuple[Evidence, ...]

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(c.number for c in self.counts)

    def cost(self, variant: str) -> float:
        """What a variant costs in points, against centred pictures."""
        return self.accuracy[VARIANTS[0]] - self.accuracy[variant]


def shift_study(
    contenders: Mapping[str, Contender],
    *,
    data: str = "",
    canvas: int | str = "auto",
    size: int | str = "auto",
    noise: float = 0.5,
    epochs: int | str = "auto",
    batch: int | str = "auto",
    seed: int = 0,
    limit: int = 0,
) -> Answer:
    """Train networks on pictures that are centred, shifted at random, or scrambled, and compare.

    The position and the noise of every picture are drawn anew in every epoch; the permutation is fixed. Optimizer
    AdamW with a cosine schedule stepped after every batch.

    Args:
        contenders: the networks by name.
        data: a folder in the format of MNIST; "" is scikit-learn's digits.
        canvas: pixels along a side; "auto" is twice the picture.
        size: of the pictures on the canvas; "auto" is 14 for the digits and otherwise the pictures' own.
        noise: standard deviation of the Gaussian noise, in units of the pictures' deviation.
        epochs, batch: "auto" is 14 epochs of batches of 16 for the digits, 5 of 128 otherwise.
        seed: of everything random.
        limit: how many training pictures are used; 0 is all.

    Returns:
        An answer with, for each network, the accuracy in % for each variant, the ``parameters``, the ``costs`` in
        points and the ``orderings``.

    Raises:
        InputError: a setting is out of range, or the data cannot be read.
    """
    from .shift_page import shift_blocks, shift_remarks

    setup = _setup(data, canvas, size, noise, epochs, batch, seed, limit)
    runs = [(name, variant) for name in contenders for variant in VARIANTS]
    with task("training", len(runs)) as advance:
        histories = {}
        for name, variant in runs:
            histories[name, variant] = _trained(name, contenders[name], setup, variant)
            advance()
    found = [
        _measured(name, contender, setup, {v: histories[name, v] for v in VARIANTS})
        for name, contender in contenders.items()
    ]
    evidence = tuple(e for m in found for e in m.evidence)
    return Answer(_answers(found, setup), shift_blocks(found, setup), evidence, shift_remarks(found, setup))


# --- the setup ----------------------------------------------------------------------------------------------------------
def _setup(data: str, canvas: Any, size: Any, noise: float, epochs: Any, batch: Any, seed: int, limit: int) -> Setup:
    own = not data
    epochs = _or_auto("epochs", epochs, 1, MOST_EPOCHS, 14 if own else 5)
    batch = _or_auto("batch", batch, 1, 4096, 16 if own else 128)
    limit = number_in("limit", limit, 0, 10**7)
    wide = None if canvas == "auto" else number_in("canvas", canvas, 8, 256)
    large = None if size == "auto" else number_in("size", size, 4, 256)
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise <= 100:
        raise InputError(f"noise must be a number from 0 to 100, not {noise!r}")
    found = (digits(seed) if own else pictures(data, seed)).limited(limit)
    side = large or (14 if own else max(found.size))
    found = found.resized(side) if large or own else found
    wide = wide or 2 * side
    canvases = {v: canvas_for(found.train, wide, v, noise, number_for(seed, "permutation")) for v in VARIANTS}
    tests = {v: _tested(c, found, seed) for v, c in canvases.items()}
    return Setup(found, canvases, tests, epochs, batch, seed)


def _or_auto(name: str, value: Any, least: int, most: int, auto: int) -> int:
    return auto if value == "auto" else number_in(name, value, least, most)


def _tested(canvas: Canvas, found: Pictures, seed: int) -> tuple[Tensor, Tensor]:
    """The test pictures as they are tested; few are drawn up to three times, at other places and with other noise."""
    draws = max(1, min(_MOST_DRAWS, -(-_LEAST_TESTED // len(found.test))))
    generator = generator_for(seed, "test", canvas.variant)
    inputs = torch.cat([canvas(found.test, generator) for _ in range(draws)])
    return inputs, found.test_labels.repeat(draws)


# --- one network --------------------------------------------------------------------------------------------------------
def _optimizer(contender: Contender) -> Any:
    return torch.optim.AdamW, {"lr": contender.lr, "weight_decay": contender.weight_decay, "fused": True}


def _measured(name: str, contender: Contender, setup: Setup, histories: Mapping[str, History]) -> Measured:
    start, optimizer = _built(contender, setup, setup.canvas), _optimizer(contender)
    models = {v: h.model.eval() for v, h in histories.items()}
    part = convolutional_part(models[VARIANTS[0]])
    sample = setup.tests[VARIANTS[0]][0][:8]
    field = None if part is None else field_of(part)
    shifts = () if part is None or field is None else tuple(moved(part, sample, p) for p in {field.stride: 0, 1: 0})
    evidence = _evidence(name, start, models, setup, optimizer, shifts)
    accuracy = {v: 100 * float(h.rows[-1].get("validation_accuracy", math.nan)) for v, h in histories.items()}
    twice = sum(c.number for c in counted(_built(contender, setup, 2 * setup.canvas)))
    by_shift = _by_shift(models[VARIANTS[0]], setup)
    return Measured(name, contender, counted(start), twice, histories, accuracy, by_shift, field, shifts, evidence)


def _built(contender: Contender, setup: Setup, canvas: int) -> nn.Module:
    with drawn_from(setup.seed, "weights"):
        model = contender.build(canvas, setup.pictures.classes)
    if not isinstance(model, nn.Module):
        raise InputError(f"a contender is built as an nn.Module, not a {type(model).__name__}")
    return model


def _trained(name: str, contender: Contender, setup: Setup, variant: str) -> History:
    inputs, labels = setup.tests[variant]
    return train(
        _built(contender, setup, setup.canvas),
        (setup.pictures.train, setup.pictures.train_labels),
        loss="cross_entropy",
        optimizer=_optimizer(contender),
        epochs=setup.epochs,
        batch_size=setup.batch,
        schedule="cosine",
        seed=setup.seed,
        validation=Samples(len(inputs), (inputs, labels)),
        validate_every=max(1, setup.epochs // _TESTS),
        augment=setup.canvases[variant],
        title=f"{name}, {variant}",
    )


def _by_shift(model: nn.Module, setup: Setup) -> tuple[tuple[int, float], ...]:
    """The accuracy in % of the network that only saw centred pictures, on test pictures moved to the right."""
    inputs, labels = setup.tests[VARIANTS[0]]
    inputs, labels = inputs[: len(setup.pictures.test)][:1000], labels[: len(setup.pictures.test)][:1000]
    free = (setup.canvas - setup.pictures.size[1]) // 2
    return tuple((d, 100 * _share(model, torch.roll(inputs, d, 3), labels)) for d in range(free + 1))


def _share(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    return float((_predicted(model, inputs) == labels).double().mean())


def _predicted(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in inputs.split(_BATCH)])


# --- how it is confirmed ------------------------------------------------------------------------------------------------
def _evidence(
    name: str,
    start: nn.Module,
    models: Mapping[str, nn.Module],
    setup: Setup,
    optimizer: Any,
    shifts: Sequence[Moved],
) -> tuple[Evidence, ...]:
    images, labels = setup.tests[VARIANTS[0]]
    batch = setup.batch if setup.batch <= 16 else 16
    found = [counting_evidence(name, start)]
    found += confirmed_loop(name, start, images[:batch], labels[:batch], "cross_entropy", optimizer)
    found += [_recounted(name, variant, model, setup) for variant, model in models.items()]
    if shifts:
        found.append(moved_evidence(name, shifts[0], 8))
    permutation = setup.canvases["scrambled"].permutation
    permuted = permuted_evidence(name, models[VARIANTS[0]], images[:32], permutation)
    return (*found, *([permuted] if permuted else []))


def _recounted(name: str, variant: str, model: nn.Module, setup: Setup) -> Evidence:
    """The classes of some test pictures predicted again, one picture at a time, in float64, and counted by NumPy."""
    import copy

    import numpy as np

    inputs, labels = (x[:_RECOUNTED] for x in setup.tests[variant])
    wide = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        scores = np.concatenate([wide(x[None].double()).numpy() for x in inputs])
        loss = float(F.cross_entropy(torch.from_numpy(scores), labels))
        plain = float(F.cross_entropy(torch.cat([model(p) for p in inputs.split(_BATCH)]), labels))
    share = float(np.mean(scores.argmax(1) == labels.numpy()))
    difference = abs(share - _share(model, inputs, labels))
    error = max(difference, abs(loss - plain) / max(loss, 1e-3))
    what, oracle = f"accuracy of {name} on {variant} pictures", "float64, one picture at a time"
    return Evidence(what, oracle, difference == 0 and error < 5e-3, error, len(inputs), len(setup.tests[variant][0]))


def _answers(found: Sequence[Measured], setup: Setup) -> dict[str, Any]:
    answers: dict[str, Any] = {m.name: dict(m.accuracy) for m in found}
    answers["parameters"] = {m.name: m.parameters for m in found}
    answers["parameters_by_canvas"] = {
        str(setup.canvas): {m.name: m.parameters for m in found},
        str(2 * setup.canvas): {m.name: m.counts_twice for m in found},
    }
    answers["costs"] = {m.name: {v: m.cost(v) for v in VARIANTS[1:]} for m in found}
    answers["orderings"] = {
        v: [m.name for m in sorted(found, key=lambda m: m.cost(v), reverse=True)] for v in VARIANTS[1:]
    }
    answers["canvas"], answers["tested"] = setup.canvas, len(setup.tests[VARIANTS[0]][0])
    return answers
