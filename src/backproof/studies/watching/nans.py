"""Where the first value that is not finite comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...capturing.hooks import Seen

__all__ = ["source_of_nan"]


def source_of_nan(
    seen: Sequence[Seen], inputs: Sequence[Tensor], parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> tuple[str, str, str]:
    """(layer, cause, remedy) of the first value that is not finite, from a second forward pass on the same batch."""
    for i, x in enumerate(inputs):
        if not bool(x.isfinite().all()):
            bad = (~x.isfinite()).nonzero()[0].tolist()
            return "", (f"Input {i} of the model holds {_kind(x)}: {int((~x.isfinite()).sum())} of {x.numel()} entries, the "
                        f"first at {bad}: it comes from the data."), "Clean the data, or leave such samples out."  # fmt: skip
    for name, p in parameters.items():
        if not bool(p.isfinite().all()):
            return name, f"The parameter itself holds {_kind(p)}: the update before made it so.", _SMALLER
    for entry in seen:
        sizes = entry.sizes
        if not bool(sizes["finite"]):
            given = (
                f", given inputs from {float(sizes['low']):.3g} to {float(sizes['high']):.3g}" if "low" in sizes else ""
            )
            if not bool(sizes.get("given", True)):
                given = ": what it is given is not finite already, so it arises between the modules before it, in the forward method itself"
            if "top" in sizes:
                given += f" (float16 ends at {float(sizes['top']):,.0f})"
            what = "NaN" if bool(sizes["nan"]) else "an infinity"
            return entry.name, f"{type(entry.module).__name__} puts out {what}{given}.", (
                "Keep what goes into it in its range: a small constant under a logarithm, root or quotient; a normalisation.")  # fmt: skip
    largest = max((float(g.abs().max()) for g in gradients.values() if g.numel()), default=0.0)
    if math.isfinite(largest) and largest > 1e15:
        return "", f"The gradients are so large (up to {largest:.3g}) that their squares are infinite.", _SMALLER
    return _behind_the_forward_pass(seen, gradients)


def _behind_the_forward_pass(seen: Sequence[Seen], gradients: Mapping[str, Tensor]) -> tuple[str, str, str]:
    """All is finite in the forward pass: where the gradients begin not to be."""
    bad = [n for n, g in gradients.items() if not bool(g.isfinite().all())]
    if any("top" in s.sizes for s in seen) or any(gradients[n].dtype == torch.float16 for n in bad):
        everywhere = bool(bad) and bad[-1] == list(gradients)[-1]
        return "the loss" if everywhere or not bad else bad[-1], (
            "The forward pass is finite and the gradients are not: an overflow of float16, whose largest finite value is "
            f"{torch.finfo(torch.float16).max:,.0f} (the loss, or its scale, is too large for it), or a logarithm, "
            f"root or quotient at 0. The gradients that are not finite are those of {_some(bad)}."), (
            "Let torch.amp.GradScaler choose the scale and skip such steps, or use bfloat16.")  # fmt: skip
    if bad and bad[-1] == list(gradients)[-1]:
        return "the loss", (
            f"The forward pass is finite{_range(seen)}: the NaN arises in the loss (a target that is not finite, a logarithm of 0, a "
            "quotient by 0) or in its backward pass "
            "(the slope of a root or norm at 0, an overflow). The gradients that are not finite are those of "
            f"{_some(bad)}."), (
            "Look at the targets; use the loss on logits (cross_entropy, BCEWithLogits), or a small constant inside.")  # fmt: skip
    return bad[-1] if bad else "", (
        "The forward pass and the gradients of the parameters behind it are finite: the NaN arises on the way back to it (the slope "
        "of a root or norm at 0, a quotient by 0, an overflow). The gradients that are not finite are those of "
        f"{_some(bad)}."), "Add a small constant inside the root, norm or quotient that follows it."  # fmt: skip


_SMALLER = "Lower the learning rate, warm it up, or clip the gradient's norm (torch.nn.utils.clip_grad_norm_)."


def _range(seen: Sequence[Seen]) -> str:
    """The size of what the model puts out, in words."""
    return f" (the model puts out values of root mean square {float(seen[-1].sizes['rms']):.3g})" if seen else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "no parameter"


def _kind(t: Tensor) -> str:
    return "NaN" if bool(torch.isnan(t).any()) else "an infinity"
