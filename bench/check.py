"""Slips in hand-written backward passes: ``bp.check`` beside ``torch.autograd.gradcheck``, at three sizes.

For every slip of mutants.py: is it found, are the wrong entries the right set, is the cause named, and what does it cost. The
right operations must not be flagged. gradcheck's slow mode is run at the small size only (at 5,000 inputs it needs minutes).
A port of ``jax.test_util.check_grads`` (one Gaussian direction, a fixed step and tolerance) stands beside it. The last rows are
what a complete check costs where everything is right, warm.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from _measure import show
from mutants import FAMILIES, SIZES, Family, Mutant, draw, function_of, mutants

Families = tuple[Family, ...]
SETS = {"own": "mutants", "unseen": "mutants_unseen", "held-out": "mutants_held_out"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[0, 1, 2], help="0: about 100 inputs, 1: 5,000, 2: 50,000"
    )
    parser.add_argument("--set", choices=SETS, default="own", help="which set of slips")
    parser.add_argument("--ours", action="store_true", help="leave the other tools out")
    parser.add_argument("--without-slow", action="store_true", help="leave gradcheck's slow mode out")
    parser.add_argument("--details", action="store_true", help="print a line for each slip to stderr")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    import backproof as bp

    families: Families = importlib.import_module(SETS[arguments.set]).FAMILIES
    bp.check(function_of(FAMILIES[0], ""), FAMILIES[0].leaves(0))  # the first one pays for imports
    record = []
    for size in arguments.sizes:
        record.append(_ours(families, size, arguments.details))
        if arguments.ours:
            continue
        record.append(_theirs(families, size, "gradcheck, fast mode", _gradcheck(True)))
        record.append(_theirs(families, size, "check_grads (jax), ported", _check_grads))
        if size == 0 and not arguments.without_slow:
            record.append(_theirs(families, size, "gradcheck, slow mode", _gradcheck(False)))
    record += _costs()
    heads = ("size", "checked by", "found", "right ones flagged", "entries exact", "cause named", "seconds (median)")
    rows = [[str(r[key]) for key in ("size", "by", "found", "flagged", "exact", "named", "seconds")] for r in record]
    show("check", heads, rows, record, arguments.json)


def _truth(mutant: Mutant, inputs: tuple[Any, ...]) -> set[tuple[int, tuple[int, ...]]]:
    """The entries whose gradient differs from autograd's on the plain forward pass, for Gaussian weights."""
    import torch

    floats = [k for k, t in enumerate(inputs) if t.requires_grad]
    leaves = [inputs[k] for k in floats]
    right = _several(mutant.family.forward(*inputs))
    wrong = _several(function_of(mutant.family, mutant.slip)(*inputs))
    generator = torch.Generator().manual_seed(77)
    weights = [torch.randn(o.shape, dtype=o.dtype, generator=generator) for o in right]
    a = torch.autograd.grad(right, leaves, weights, allow_unused=True)
    b = torch.autograd.grad(wrong, leaves, weights, allow_unused=True)
    found = set()
    for k, leaf, x, y in zip(floats, leaves, a, b, strict=True):
        x, y = (torch.zeros_like(leaf) if g is None else g for g in (x, y))
        found |= {(k, tuple(i)) for i in ((x - y).abs() > 1e-12 * x.abs().max()).nonzero().tolist()}
    return found


def _several(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _ours(families: Families, size: int, details: bool) -> dict[str, Any]:
    """A slip of which no entry is wrong at the given inputs (a branch that they leave out) has no set to be exact about."""
    import backproof as bp

    found = exact = named = there = 0
    slips, times = list(mutants(families)), []
    for mutant in slips:
        inputs = mutant.family.leaves(size)
        start = time.process_time()
        result = bp.check(function_of(mutant.family, mutant.slip), inputs)
        times.append(time.process_time() - start)
        truth = _truth(mutant, inputs)
        same = {(int(e.input.position or 0), e.index) for e in result.wrong} == truth
        found += result.ok is False
        named += result.cause is not None
        there += bool(truth)
        exact += same and bool(truth)
        if details:
            kind = "found" if result.ok is False else "MISSED"
            print(f"{SIZES[size]}\t{mutant.name}\t{kind}\t{'exact' if same else 'other entries'}\t{times[-1]:.2f}\t"
                  f"{result.cause}\t{result.where}", file=sys.stderr, flush=True)  # fmt: skip
    flagged = sum(
        bp.check(function_of(m.family, ""), m.family.leaves(size)).ok is not True for m in mutants(families, right=True)
    )
    said = f"{exact}/{there}", f"{named}/{len(slips)}"
    return _row(families, size, "bp.check", found, len(slips), flagged, *said, times)


def _theirs(families: Families, size: int, name: str, check: Callable[..., bool]) -> dict[str, Any]:
    slips, times, found = list(mutants(families)), [], 0
    for mutant in slips:
        inputs = mutant.family.leaves(size)
        start = time.process_time()
        found += not check(function_of(mutant.family, mutant.slip), inputs)
        times.append(time.process_time() - start)
    flagged = sum(not check(function_of(m.family, ""), m.family.leaves(size)) for m in mutants(families, right=True))
    return _row(families, size, name, found, len(slips), flagged, "says none", "says none", times)


def _row(
    families: Families,
    size: int,
    by: str,
    found: int,
    of: int,
    flagged: int,
    exact: str,
    named: str,
    times: list[float],
) -> dict[str, Any]:
    spent = f"{statistics.median(times):.4f}"
    return {"size": SIZES[size], "by": by, "found": f"{found}/{of}", "flagged": f"{flagged}/{len(families)}",
            "exact": exact, "named": named, "seconds": spent}  # fmt: skip


# --- what a complete check costs where everything is right -------------------------------------------------------------------
def _costs() -> list[dict[str, Any]]:
    """A scalar loss of 10,000 inputs and a convolution of 35,000, warm; gradcheck's slow mode would need minutes for the latter."""
    import torch

    import backproof as bp

    mlp, conv = (next(f for f in FAMILIES if f.name == n) for n in ("MLP", "Convolution"))
    sizes = {"loss": (draw(16, 80), draw(100, 80), draw(100), draw(10, 100), draw(16, 10)),
             "convolution": (draw(2, 32, 16, 16), draw(64, 32, 3, 3), draw(64))}  # fmt: skip
    rows = []
    for name, family in (("loss", mlp), ("convolution", conv)):
        inputs = tuple(t.requires_grad_(k not in family.constants) for k, t in enumerate(sizes[name]))
        function = function_of(family, "")
        count = sum(t.numel() for t in inputs if t.requires_grad)
        ways: dict[str, Callable[[], object]] = {
            "bp.check, at the given inputs": lambda f=function, x=inputs: bp.check(f, x, elsewhere=False),
            "bp.check, generated inputs too": lambda f=function, x=inputs: bp.check(f, x),
            "gradcheck, fast mode": lambda f=function, x=inputs: torch.autograd.gradcheck(f, x, fast_mode=True),
        }
        if name == "loss":
            ways["gradcheck, slow mode"] = lambda f=function, x=inputs: torch.autograd.gradcheck(f, x)
        rows += [_cost(f"{name}, {count:,} inputs", by, way) for by, way in ways.items()]
    return rows


def _cost(size: str, by: str, way: Callable[[], object]) -> dict[str, Any]:
    rounds, times = (2 if "slow" in by else 15), []
    for _ in range(rounds + 1):
        start = time.process_time()
        way()
        times.append(time.process_time() - start)
    spent = f"{statistics.median(times[1:]):.4f}"
    return {"size": size, "by": by, "found": "", "flagged": "", "exact": "", "named": "", "seconds": spent}


def _gradcheck(fast: bool) -> Callable[..., bool]:
    def check(fn: Callable[..., Any], inputs: tuple[Any, ...]) -> bool:
        import torch
        from torch.autograd import gradcheck as function

        # a fast check that fails runs a whole slow one for its message; it is left out of the time here
        gradcheck = sys.modules[function.__module__]
        gradcheck._run_slow_mode_and_get_error = lambda *_, **__: ""  # type: ignore[attr-defined]
        try:
            return bool(torch.autograd.gradcheck(fn, inputs, fast_mode=fast, raise_exception=False))
        except (RuntimeError, IndexError):
            return False

    return check


def _check_grads(fn: Callable[..., Any], inputs: tuple[Any, ...]) -> bool:
    """One Gaussian direction and weight, a step of 1e-4, a tolerance of 1e-5, as jax has it for float64."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def gaussian(t: Any) -> Any:
        return torch.randn(t.shape, dtype=t.dtype, generator=generator)

    leaves = [t for t in inputs if t.requires_grad]
    out = _several(fn(*inputs))
    u, v = [gaussian(t) for t in leaves], [gaussian(o) for o in out]
    gradients = torch.autograd.grad(out, leaves, v, allow_unused=True)
    claimed = sum(float((g * d).sum()) for g, d in zip(gradients, u, strict=True) if g is not None)

    def moved(h: float) -> Any:
        steps = iter(u)
        with torch.no_grad():
            return fn(*(t + h * next(steps) if t.requires_grad else t for t in inputs))

    ends = zip(v, _several(moved(1e-4)), _several(moved(-1e-4)), strict=True)
    slope = sum(float((w * (after - before)).sum()) for w, after, before in ends) / 2e-4
    return abs(claimed - slope) <= 1e-5 + 1e-5 * abs(slope)


if __name__ == "__main__":
    main()
