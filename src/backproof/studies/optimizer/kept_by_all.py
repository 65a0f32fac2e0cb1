"""What every optimizer of torch.optim keeps: counted in torch, and declared by its rule here."""

from __future__ import annotations

import math
from typing import Any

import torch

from ...document.blocks import Paragraph, Section, Table
from ...document.math import Num
from ...optimizers import RULES
from ...optimizers import optimizer as find_optimizer
from ..answer import Answer
from ..verdicts import TOLERANCE, Evidence
from .kept import SHAPE, Kept, classes, measured

__all__ = ["kept_by_all"]

VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("sgdm", "sgd", {"momentum": 0.9}),
    ("adam amsgrad", "adam", {"amsgrad": True}),
    ("rmsprop momentum", "rmsprop", {"momentum": 0.9}),
    ("rmsprop centered", "rmsprop", {"centered": True}),
    ("rmsprop centered momentum", "rmsprop", {"centered": True, "momentum": 0.9}),
)


def kept_by_all() -> Answer:
    """How many numbers and bytes each optimizer of torch.optim keeps per parameter: measured, and compared with its rule here."""
    values: dict[str, float] = {}
    sizes: dict[str, dict[str, float]] = {}
    rows: list[Any] = []
    evidence: list[Evidence] = []
    for label, name, settings in sorted([*((n, n, {}) for n in classes()), *VARIANTS]):
        found = {kind: measured(classes()[name], settings, kind) for kind in (torch.float32, torch.bfloat16)}
        whole, half = found[torch.float32], found[torch.bfloat16]
        values[label] = _whole(whole.total)
        sizes[label] = {"float32": _whole(sum(whole.bytes.values())), "bfloat16": _whole(sum(half.bytes.values()))}
        what, once = ", ".join(whole.values) or "nothing", ", ".join(whole.scalars)
        rows.append(
            (label, Num(values[label]), Num(sizes[label]["float32"]), Num(sizes[label]["bfloat16"]), what, once)
        )
        if name in RULES:
            evidence.append(_declared(label, name, settings, whole, half))
    head = (
        ("optimizer",), ("values per parameter",), ("bytes, float32",), ("bytes, bfloat16",), ("what",), ("once per tensor",),
    )  # fmt: skip
    table = Table(head, tuple(rows), "Counted on a 256 x 128 matrix", (1, 2, 3))
    text = Paragraph(
        (
            "Beside the parameter and its gradient, which every optimizer needs, an optimizer keeps values of its own for "
            "each parameter, in the parameter's own dtype. They are counted in torch.optim itself. Adafactor keeps rows and "
            "columns instead of entries, so its number depends on the shape; LBFGS keeps pairs of vectors, and what is shown is "
            "with all 100 pairs: 2 x history_size + 2 values.",
        )
    )
    return Answer(
        {"state_values": values, "state_bytes": sizes},
        (Section("How many values each keeps", (text, table), "given", "kept"),),
        tuple(evidence),
    )


def _declared(label: str, name: str, settings: dict[str, Any], whole: Kept, half: Kept) -> Evidence:
    """The rule's own count of values and bytes against the measured one."""
    ours = sum(find_optimizer(name, **settings).values_of(SHAPE).values()) / math.prod(SHAPE)
    gaps = (ours - whole.total, 4 * ours - sum(whole.bytes.values()), 2 * ours - sum(half.bytes.values()))
    error = max(map(abs, gaps))
    what = f"values and bytes that {label} keeps per parameter"
    return Evidence(what, "measured: steps of torch.optim's class", error <= TOLERANCE, error, 3, 3)


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
