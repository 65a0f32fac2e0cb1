"""Programs that people write, captured: torch.export alone beside Backproof, each against eager autograd.

The programs are the table of tests/capture/hazards.py: stopped gradients, code that writes in place, branches on values,
NumPy, control flow, custom backward passes, checkpoints. torch.export counts as right where the exported program has the
eager loss and every gradient of eager autograd within the tolerance of its dtype; Backproof's numbers are those of
``bp.trace``. Then what a capture costs, in turns with torch.export on the same model (a warm process).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import warnings
from collections import Counter
from typing import Any

from _measure import in_turn, show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(io.StringIO()):
        ours, theirs, worst = _programs()
        costs = _costs()
    rows = [
        ("programs", "all", f"{sum(ours.values())}", "", ""),
        *(("Backproof", k, f"{n}", f"{worst.get(k, 0.0):.1e}" if k in worst else "", "") for k, n in ours.items()),
        *(("torch.export", k, f"{n}", "", "") for k, n in theirs.items()),
        *((name, "seconds: export, capture", f"{a:.2f}", f"{b:.2f}", f"{b / a:.2f}") for name, a, b in costs),
    ]
    record = {"backproof": dict(ours), "export": dict(theirs), "worst": worst, "costs": costs}
    show("capturing", ("what", "outcome", "count", "largest disagreement", "ratio"), rows, record, arguments.json)


def _programs() -> tuple[Counter[str], Counter[str], dict[str, float]]:
    from backproof.errors import CaptureError
    from tests.capture.hazards import HAZARDS
    from tests.capture.test_hazards import captured

    ours, theirs, worst = Counter[str](), Counter[str](), dict[str, float]()
    for hazard in HAZARDS.values():
        theirs[_exported(hazard)] += 1
        try:
            graph = captured(hazard)
        except CaptureError:
            ours["refused"] += 1
            continue
        recorded = graph.facts.get("recorded")
        kind = "exact" if recorded is None else "one run, and says so" if recorded["decisions"] else "recorded, holds"
        ours[kind] += 1
        if {n.dtype for n in graph.nodes if n.is_float} == {"float64"}:
            worst[kind] = max(worst.get(kind, 0.0), _disagreement(graph))
    return ours, theirs, worst


def _disagreement(graph: Any) -> float:
    """The largest difference of an entry of a gradient from eager autograd's, relative to the largest entry or 0.01."""
    import torch

    import backproof as bp
    from tests.capture.models import eager_gradients

    ours, worst = bp.trace(graph).steps[0].gradients, 0.0
    frozen = {n.name for n in graph.parameters if n.is_frozen}
    for name, theirs in eager_gradients(graph, ("parameter", "input")).items():
        if name in frozen:
            continue
        mine = ours.get(name)
        mine = torch.zeros_like(theirs) if mine is None else mine
        if theirs.numel():
            size = max(float(theirs.abs().max()), 1e-2)
            worst = max(worst, float((mine - theirs).abs().max()) / size)
    return worst


def _exported(hazard: Any) -> str:
    """What torch.export makes of a program: rejected, or exported with the gradient right or wrong."""
    import torch
    from torch import nn

    from backproof.capturing.example import Example, loss_function
    from backproof.capturing.module import _Function, _picker
    from backproof.capturing.origin import Wrapped
    from backproof.capturing.running import kept_state

    more = hazard.more or {}
    inputs = hazard.inputs[0] if len(hazard.inputs) == 1 else hazard.inputs
    module = hazard.program if isinstance(hazard.program, nn.Module) else _Function(hazard.program)
    wrapped = Wrapped(module, loss_function(more.get("loss")), _picker(more.get("output")))
    try:
        example = Example.of(hazard.program, inputs)
        call = torch.utils._pytree.tree_map(_moving, (example.args, example.keywords, more.get("targets")))
        with kept_state(wrapped):
            exported = torch.export.export(wrapped, call, strict=False).module()
        found = []
        for f in (wrapped, exported):
            with kept_state(f):
                found.append(_gradients(f, torch.utils._pytree.tree_map(_moving, call)))
        eager, other = found
        both = [(g.double(), eager[n].double()) for n, g in other.items() if n in eager]
        same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in both)
    except Exception:
        return "rejected, or its program does not run"
    return "gradient right" if same else "gradient wrong"


def _moving(value: Any) -> Any:
    import torch

    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.detach().clone().requires_grad_() if floating else value


def _gradients(module: Any, call: Any) -> dict[str, Any]:
    import torch

    given = {str(i): t for i, t in enumerate(torch.utils._pytree.tree_leaves(call)) if isinstance(t, torch.Tensor)}
    leaves = {**given, **dict(module.named_parameters())}
    for leaf in leaves.values():
        leaf.grad = None
    torch.manual_seed(0)
    out = [t for t in torch.utils._pytree.tree_leaves(module(*call)) if isinstance(t, torch.Tensor)]
    torch.stack([t.double().sum() for t in out if t.requires_grad]).sum().backward()
    floating = {n: t for n, t in leaves.items() if t.is_floating_point()}
    return {n: torch.zeros_like(t) if t.grad is None else t.grad.clone() for n, t in floating.items()}


def _costs() -> list[tuple[str, float, float]]:
    import torch
    from torch import nn

    import backproof as bp

    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    models = {
        "2-2-2": (nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)), torch.randn(4, 2)),
        "30 convolutions": (
            nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1),
                *(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(29)),
            ),
            torch.randn(1, 3, 32, 32),
        ),
        "6-layer transformer": (nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), torch.randn(2, 10, 64)),
    }
    found = []
    for name, (model, x) in models.items():
        times = in_turn(
            {
                "export": lambda m=model, x=x: torch.export.export(m, (x,), strict=False),
                "capture": lambda m=model, x=x: bp.capture(m, x),
            },
            least=3.0,
            fewest=3,
        )
        medians = [sorted(times[k])[len(times[k]) // 2] for k in ("export", "capture")]
        found.append((name, *medians))
    return found


if __name__ == "__main__":
    main()
