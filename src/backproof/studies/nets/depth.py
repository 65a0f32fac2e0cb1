"""What skips do as a network gets deeper: residual and plain networks trained side by side, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures, Samples, digits, pictures
from ...data.canvas import canvas_for
from ...errors import InputError
from ...progress import task
from ..answer import Answer
from ..numbers_in import number_in
from ..training import History, train
from ..training.chance import drawn_from, generator_for, number_for
from ..verdicts import Evidence
from .flows import Flow, flow_of
from .layers import Layers, layers_of, slopes_confirmed
from .loop_evidence import confirmed_loop
from .parameters import counting_evidence
from .skips import Skips, skips_of

__all__ = ["Run", "Study", "depth_study"]

Build = Callable[[int, int, int, bool], nn.Module]
MOST_EPOCHS, DEEPEST = 1000, 1000
_PROBE, _TRACED = 64, 4
KINDS = ("residual", "plain")
SMALL = 0.01
"""The share of the step size after which a gradient is looked at again."""


@dataclass(frozen=True)
class Run:
    """One network that was trained, and its gradients layer by layer: first at the start, then after each epoch.

    ``flow`` is the error signal at the start, predicted and measured; None where nothing is predicted.
    """

    depth: int
    kind: str
    history: History
    layers: tuple[Layers, ...]
    flow: Flow | None = None

    @property
    def accuracy(self) -> float:
        """On test pictures, in %."""
        return 100 * float(self.history.rows[-1].get("validation_accuracy", math.nan))

    def summary(self) -> dict[str, Any]:
        """What is answered about it."""
        last = self.history.rows[-1]
        return {
            "accuracy": self.accuracy,
            "gradient_ratio": self.layers[0].ratio,
            "gradient_ratios": [x.ratio for x in self.layers],
            "predicted": None if self.flow is None else self.flow.to_dict(),
            "persistence": self.layers[0].persistence_first,
            "loss": last["loss"],
            "parameters": sum(p.numel() for p in self.history.model.parameters()),
        }


@dataclass(frozen=True)
class Study:
    """All that the page shows."""

    pictures: Pictures
    canvas: int
    depth: int
    model: nn.Module
    skips: Skips
    runs: tuple[Run, ...]
    epochs: int
    batch: int
    lr: float
    weight_decay: float

    def run(self, depth: int, kind: str) -> Run:
        """The run of a depth and kind."""
        return next(r for r in self.runs if (r.depth, r.kind) == (depth, kind))

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths that were trained."""
        return tuple(dict.fromkeys(r.depth for r in self.runs))


def depth_study(
    build: Build,
    *,
    depth: int = 20,
    depths: Sequence[int] = (8, 20, 32),
    width: int = 16,
    data: str = "",
    canvas: int = 32,
    lr: float = 3e-3,
    weight_decay: float = 1e-3,
    epochs: int = 5,
    batch: int = 32,
    seed: int = 0,
    limit: int = 0,
    checkpoint: str = "",
) -> Answer:
    """Train networks of growing depth with and without skips, and measure every layer's gradient as they learn.

    The pictures stand at a random place of the canvas, drawn anew in every epoch. AdamW, a cosine schedule stepped
    after every batch, cross-entropy.

    Args:
        build: a function of (depth, width, classes, skips) that makes a network for inputs [N, 1, canvas, canvas]; it
            raises InputError for a depth that it cannot have.
        depth: of the network whose structure is looked at: its parameters, and whether skips carry their input on.
        depths: of the networks that are trained.
        width: channels of the first stage.
        data: a folder in the format of MNIST; "" is scikit-learn's digits.
        canvas: pixels along a side.
        lr, weight_decay, epochs, batch, seed: of the training.
        limit: how many training pictures are used; 0 is all.
        checkpoint: a path; each network's run is kept beside it (``NAME-20-plain.SUFFIX``) and resumed.

    Returns:
        An answer with ``parameters``, ``identity_path`` and ``depths``: for each depth and kind the accuracy in %, and
        the gradient ratio: the geometric mean of the gradients' norms over the convolutions of the first stage,
        divided by that of the last stage, before training; and under ``predicted`` the ratios of the error signal's norms,
        stage by stage, as the theory of signal propagation gives them and measured on the same pictures.

    Raises:
        InputError: a setting is out of range, the data or a checkpoint cannot be read.
    """
    from .depth_page import depth_blocks, depth_remarks

    trained = _depths(depths)
    numbers = _checked(depth, width, canvas, lr, weight_decay, epochs, batch, limit)
    found = (digits(seed) if not data else pictures(data, seed)).limited(numbers["limit"])
    found = found if data else found.resized(min(24, numbers["canvas"]))
    nets = {
        (d, k): _built(build, d, numbers["width"], found.classes, k, seed) for d in (depth, *trained) for k in KINDS
    }
    model = nets[depth, KINDS[0]]
    runs = _Runs(found, numbers, float(lr), float(weight_decay), seed, _file(checkpoint))
    with task("training", 2 * len(trained)) as advance:
        made = []
        for d, k in [(d, k) for d in trained for k in KINDS]:
            made.append(runs.one(d, k, nets[d, k], nets[d, KINDS[1]]))
            advance()
    skips = skips_of(model, torch.zeros(2, 1, canvas, canvas))
    study = Study(
        found, canvas, depth, model, skips, tuple(made), numbers["epochs"], numbers["batch"], lr, weight_decay
    )
    shallow = nets[min(trained), KINDS[0]]
    evidence = (counting_evidence(f"depth {depth}", model), *skips.evidence, *runs.evidence(study, nets, shallow))
    return Answer(_answers(study), depth_blocks(study), evidence, depth_remarks(study))


def _depths(depths: Any) -> tuple[int, ...]:
    found = tuple(depths) if isinstance(depths, (list, tuple)) else (depths,)
    if not 0 < len(found) <= 20:
        raise InputError(f"depths is a list of 1 to 20 numbers of layers, not {depths!r}")
    return tuple(number_in("depths", d, 1, DEEPEST) for d in dict.fromkeys(found))


def _checked(
    depth: Any, width: Any, canvas: Any, lr: Any, weight_decay: Any, epochs: Any, batch: Any, limit: Any
) -> dict[str, int]:
    for name, value, most in (("lr", lr, 1e3), ("weight_decay", weight_decay, 1e3)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
            raise InputError(f"{name} must be a number from 0 to {most:g}, not {value!r}")
    return {
        "depth": number_in("depth", depth, 1, DEEPEST),
        "width": number_in("width", width, 1, 256),
        "canvas": number_in("canvas", canvas, 8, 256),
        "epochs": number_in("epochs", epochs, 1, MOST_EPOCHS),
        "batch": number_in("batch", batch, 2, 4096),
        "limit": number_in("limit", limit, 0, 10**7),
    }


def _built(build: Build, depth: int, width: int, classes: int, kind: str, seed: int) -> nn.Module:
    with drawn_from(seed, "weights"):
        model = build(depth, width, classes, kind == KINDS[0])
    if not isinstance(model, nn.Module):
        raise InputError(f"the network is built as an nn.Module, not a {type(model).__name__}")
    return model


def _file(checkpoint: Any) -> Path | None:
    if not isinstance(checkpoint, str):
        raise InputError(f"checkpoint is the path of a file, not {checkpoint!r}")
    return Path(checkpoint) if checkpoint else None


class _Runs:
    """Trains the networks, all in the same way."""

    def __init__(
        self, found: Pictures, numbers: Mapping[str, int], lr: float, weight_decay: float, seed: int, file: Path | None
    ) -> None:
        self.pictures, self.numbers, self.seed, self.file = found, numbers, seed, file
        self.optimizer = (torch.optim.AdamW, {"lr": lr, "weight_decay": weight_decay, "fused": True})
        place = number_for(seed, "permutation")
        self.canvas = canvas_for(found.train, numbers["canvas"], "shifted", 0.0, place)
        self.tests = self.canvas(found.test, generator_for(seed, "test")), found.test_labels
        count = min(_PROBE, len(found.train))
        self.probe = self.canvas(found.train[:count], generator_for(seed, "probe")), found.train_labels[:count]

    def one(self, depth: int, kind: str, model: nn.Module, plain: nn.Module) -> Run:
        """Train one network and measure its layers before, and after every epoch."""
        names = [n for n, m in plain.named_modules() if isinstance(m, nn.Conv2d)]
        step = SMALL * float(self.optimizer[1]["lr"])
        start = layers_of(deepcopy(model).double(), self.probe[0].double(), self.probe[1], names, step)

        def observe(epoch: int, net: nn.Module) -> Mapping[str, Any]:
            return layers_of(deepcopy(net), *self.probe, names, step).to_dict()

        history = train(
            deepcopy(model).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            (self.pictures.train, self.pictures.train_labels),
            loss="cross_entropy",
            optimizer=self.optimizer,
            epochs=self.numbers["epochs"],
            batch_size=self.numbers["batch"],
            schedule="cosine",
            seed=self.seed,
            checkpoint=self._checkpoint(depth, kind),
            validation=Samples(len(self.tests[0]), self.tests),
            augment=self.canvas,
            observe=observe,
            title=f"depth {depth}, {kind}",
        )
        later = (Layers.of_dict(names, start.stages, row) for row in history.rows if "gradients" in row)
        flow = flow_of(model, *self.probe, names, start.stages)
        return Run(depth, kind, history, (start, *later), flow)

    def _checkpoint(self, depth: int, kind: str) -> Path | None:
        return None if self.file is None else self.file.with_name(f"{self.file.stem}-{depth}-{kind}{self.file.suffix}")

    def evidence(self, study: Study, nets: Mapping[tuple[int, str], nn.Module], shallow: nn.Module) -> list[Evidence]:
        """The loop on a small batch, slopes by differences in the deepest networks, and accuracies counted again."""
        images, labels = self.probe[0][:_TRACED], self.probe[1][:_TRACED]
        found = [
            *confirmed_loop(f"depth {min(study.depths)}", shallow, images, labels, "cross_entropy", self.optimizer)
        ]
        deepest = max(study.depths)
        for kind in KINDS:
            run = study.run(deepest, kind)
            found.append(slopes_confirmed(f"depth {deepest}, {kind}", nets[deepest, kind], *self.probe, run.layers[0]))
        return [*found, *(_recounted(run, *self.tests) for run in study.runs)]


def _recounted(run: Run, inputs: Tensor, labels: Tensor) -> Evidence:
    """The loss and the accuracy on test pictures, from the trained network in float64 and counted by NumPy."""
    import numpy as np

    count = min(64, len(inputs))
    plain, wide = run.history.model.eval(), deepcopy(run.history.model).double().eval()
    with torch.no_grad():
        scores, first = wide(inputs[:count].double()).numpy(), plain(inputs[:count])
    loss = float(np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(count), labels[:count].numpy()]))
    shares = (
        float(np.mean(scores.argmax(1) == labels[:count].numpy())),
        float((first.argmax(1) == labels[:count]).double().mean()),
    )
    error = abs(float(F.cross_entropy(first, labels[:count])) - loss) / max(loss, 1e-2)
    agrees = abs(shares[0] - shares[1]) <= 1 / count and error < 5e-3
    return Evidence(
        f"test accuracy of depth {run.depth}, {run.kind}",
        "float64, counted by NumPy",
        agrees,
        error,
        count,
        len(inputs),
    )


def _answers(study: Study) -> dict[str, Any]:
    return {
        "parameters": sum(p.numel() for p in study.model.parameters()),
        "identity_path": study.skips.identity_path,
        "skips": study.skips.to_dict(),
        "depths": [{"depth": d, **{k: study.run(d, k).summary() for k in KINDS}} for d in study.depths],
    }
