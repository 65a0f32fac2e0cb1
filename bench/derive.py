"""Derivations side by side: bp.derive, SymPy's matrix calculus, SymPy's scalars with cse, tensorgrad, on the same networks.

The network is a sigmoid MLP, s_l = z_{l-1} W_l, z_l = σ(s_l), with the loss Σ (z_L - t)². A tool is asked for the
gradient of every weight matrix (tensorgrad for one, which is what it takes), and counted are: was it produced, does it
agree with autograd at random numbers, how many characters of LaTeX, how many placeholders, processor seconds. Each runs
in a process of its own and is stopped after ``--limit`` seconds.

    python bench/derive.py [--json] [--limit 60] [--python INTERPRETER_WITH_TENSORGRAD]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from _measure import ENVIRONMENT, show

DEPTHS = {"bp.derive": (1, 2, 4, 8, 16, 64), "SymPy matrices": (1, 2, 4), "SymPy scalars + cse": (1, 2, 4, 6, 8),
          "tensorgrad": (1, 2, 4, 8)}  # fmt: skip
WIDTH = 2


def _numbers(depth: int, samples: int = 3) -> tuple[Any, Any, list[Any]]:
    import torch

    torch.manual_seed(0)
    x, t = (torch.randn(samples, WIDTH, dtype=torch.float64) for _ in range(2))
    return x, t, [torch.randn(WIDTH, WIDTH, dtype=torch.float64) for _ in range(depth)]


def _autograd(x: Any, t: Any, weights: list[Any]) -> list[Any]:
    import torch

    tracked = [w.clone().requires_grad_() for w in weights]
    z = x
    for w in tracked:
        z = torch.sigmoid(z @ w)
    return list(torch.autograd.grad(((z - t) ** 2).sum(), tracked))


# --- ours ---------------------------------------------------------------------------------------------------------------------
def ours(depth: int) -> dict[str, Any]:
    """The whole derivation from a module: captured before the clock starts, LaTeX of every error signal and gradient after."""
    import torch
    from torch import nn

    import backproof as bp
    from backproof.studies.derivation.backward import Backward

    class Net(nn.Module):
        def __init__(self, weights: list[Any]) -> None:
            super().__init__()
            self.w = nn.ParameterList(nn.Parameter(w) for w in weights)

        def forward(self, x: Any, t: Any) -> Any:
            z = x
            for w in self.w:
                z = torch.sigmoid(z @ w)
            return ((z - t) ** 2).sum()

    x, t, weights = _numbers(depth)
    bp.derive(Net(weights[:1]), x, t)
    graph = bp.capture(Net(weights), x, t)
    start = time.process_time()
    found = bp.derive(graph)
    lines = [e.formula for e in found.equations if e.phase in ("backward", "gradient")]
    spent = time.process_time() - start
    start = time.process_time()
    assert graph.loss is not None
    bare = Backward(graph, graph.loss, [p.name for p in graph.parameters])
    assert len([line.right for line in [*bare.backward, *bare.gradients]]) == len(lines)
    alone = time.process_time() - start
    gradients = found.evaluate()
    theirs = _autograd(x, t, weights)
    error = max(float((gradients[f"w.{i}"] - g).abs().max() / g.abs().max()) for i, g in enumerate(theirs))
    text = " \\\\ ".join(lines)
    return {"produced": True, "agrees": error < 1e-9, "characters": len(text), "placeholders": 0, "seconds": spent,
            "without_evidence": alone, "folded": sum(len(e.formula) for e in found.folded if e.phase != "forward")}  # fmt: skip


# --- SymPy --------------------------------------------------------------------------------------------------------------------
def sympy_matrices(depth: int) -> dict[str, Any]:
    """Matrix calculus as its documentation has it: applyfunc and Trace."""
    import sympy

    v = sympy.Symbol("v")
    sigma = sympy.Lambda(v, 1 / (1 + sympy.exp(-v)))
    weights = [sympy.MatrixSymbol(f"W{k}", WIDTH, WIDTH) for k in range(depth)]
    z: Any = sympy.MatrixSymbol("x", WIDTH, 1)
    for w in weights:
        z = (w * z).applyfunc(sigma)
    error = z - sympy.MatrixSymbol("t", WIDTH, 1)
    start, said = time.process_time(), []
    for loss in ((error.T * error), sympy.Trace(error.T * error), (error.T * error)[0, 0]):
        try:
            found = loss.diff(weights[0])
            said.append("0" if found == 0 or getattr(found, "is_ZeroMatrix", False) else "a formula")
        except Exception as reason:
            said.append(type(reason).__name__)
    produced = "a formula" in said
    return {"produced": produced, "agrees": None, "characters": 0, "placeholders": 0, "seconds": time.process_time() - start,
            "said": ", ".join(said)}  # fmt: skip


def sympy_scalars(depth: int) -> dict[str, Any]:
    """Each weight a symbol, one sample; the gradients by diff, and cse over all of them."""
    import sympy

    x, t, weights = _numbers(depth, samples=1)
    names = [[[sympy.Symbol(f"w{k}_{i}{j}") for j in range(WIDTH)] for i in range(WIDTH)] for k in range(depth)]
    z = [sympy.Symbol(f"x{i}") for i in range(WIDTH)]
    inputs, targets = list(z), [sympy.Symbol(f"t{i}") for i in range(WIDTH)]
    start = time.process_time()
    for k in range(depth):
        z = [1 / (1 + sympy.exp(-sum(z[i] * names[k][i][j] for i in range(WIDTH)))) for j in range(WIDTH)]
    loss = sum((a - b) ** 2 for a, b in zip(z, targets, strict=True))
    flat = [s for matrix in names for row in matrix for s in row]
    shared, reduced = sympy.cse([sympy.diff(loss, s) for s in flat])
    text = " \\\\ ".join(
        [*(f"{sympy.latex(a)} = {sympy.latex(b)}" for a, b in shared), *(sympy.latex(r) for r in reduced)]
    )
    spent = time.process_time() - start
    values = dict(
        zip(
            [*inputs, *targets, *flat],
            [*x[0].tolist(), *t[0].tolist(), *(v for w in weights for v in w.flatten().tolist())],
            strict=True,
        )
    )
    for a, b in shared:
        values[a] = float(b.subs(values))
    mine = [float(r.subs(values)) for r in reduced]
    theirs = [v for g in _autograd(x, t, weights) for v in g.flatten().tolist()]
    error = max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / max(map(abs, theirs))
    return {"produced": True, "agrees": error < 1e-9, "characters": len(text), "placeholders": 0, "seconds": spent}


# --- tensorgrad -----------------------------------------------------------------------------------------------------------------
def tensorgrad(depth: int) -> dict[str, Any]:
    """One weight matrix, the first: grad, full_simplify, to_latex, and its own evaluation of the result."""
    import sympy
    import tensorgrad as tg
    import tensorgrad.functions as F
    from tensorgrad.extras.to_latex import to_latex

    names = sympy.symbols(" ".join(["b", *(f"e{k}" for k in range(depth + 1))]))
    b, edges = names[0], names[1:]
    x, t = tg.Variable("x", b, edges[0]), tg.Variable("t", b, edges[depth])
    weights = [tg.Variable(f"W{k + 1}", edges[k], edges[k + 1]) for k in range(depth)]
    start = time.process_time()
    z = x
    for w in weights:
        z = F.sigmoid(z @ w)
    gradient = F.sum(F.pow(z - t, 2)).grad(weights[0]).full_simplify()
    text = to_latex(gradient)
    spent = time.process_time() - start
    return {"produced": True, "agrees": _by_tensorgrad(gradient, x, t, weights, depth), "characters": len(text),
            "placeholders": text.count("Expr_"), "seconds": spent}  # fmt: skip


def _by_tensorgrad(gradient: Any, x: Any, t: Any, weights: list[Any], depth: int) -> bool | None:
    """Whether its own evaluation gives autograd's numbers; None where it cannot be evaluated on this torch."""
    from tensorgrad.extras.evaluate import evaluate

    numbers = _numbers(depth)
    try:
        given = {x: numbers[0].rename(*map(str, x.edges)), t: numbers[1].rename(*map(str, t.edges))}
        given |= {w: n.rename(*map(str, w.edges)) for w, n in zip(weights, numbers[2], strict=True)}
        found = evaluate(gradient, given).rename(None)
    except Exception:
        return None
    theirs = _autograd(*numbers)[0]
    return bool(float((found - theirs).abs().max() / theirs.abs().max()) < 1e-9)


TOOLS: dict[str, Callable[[int], dict[str, Any]]] = {
    "bp.derive": ours,
    "SymPy matrices": sympy_matrices,
    "SymPy scalars + cse": sympy_scalars,
    "tensorgrad": tensorgrad,
}


# --- larger networks, ours alone ------------------------------------------------------------------------------------------------
def _resnet18() -> tuple[Any, tuple[Any, ...], str, Any]:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=10
    )
    model = ResNetForImageClassification(config)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Any) -> Any:
            return self.net(x).logits

    return Logits(), (torch.randn(2, 3, 64, 64),), "cross_entropy", torch.tensor([1, 2])


def larger(name: str) -> dict[str, Any]:
    """A derivation of a larger network: captured before the clock starts."""
    import torch

    import backproof as bp

    torch.manual_seed(0)
    model, inputs, loss, targets = _resnet18()
    bp.derive(torch.nn.Linear(2, 2), torch.randn(3, 2), loss="mse", targets=torch.randn(3, 2))
    graph = bp.capture(model, *inputs, loss=loss, targets=targets)
    start = time.process_time()
    found = bp.derive(graph)
    folded = found.folded
    spent = time.process_time() - start
    worst = max((e.error or 0.0 for e in found.evidence), default=None)
    return {"name": name, "equations": len([e for e in found.equations if e.phase != "expanded"]), "folded": len(folded),
            "agrees": not found.finding, "error": worst, "seconds": spent}  # fmt: skip


# --- the table --------------------------------------------------------------------------------------------------------------------
def _run(python: str, *words: str, limit: float) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [python, __file__, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"produced": False, "said": f"stopped after {limit:g} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["failed"]
        return {"produced": False, "said": last[0][:80]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _row(tool: str, depth: int, r: dict[str, Any]) -> list[str]:
    agrees = {True: "yes", False: "no", None: "not evaluated"}[r.get("agrees")] if r["produced"] else "-"
    seconds = f"{r['seconds']:.2f}" if "seconds" in r else "-"
    if "without_evidence" in r:
        seconds += f" ({r['without_evidence']:.3f} without evidence)"
    text = f"{r['characters']:,}" + (f" ({r['folded']:,} folded)" if "folded" in r else "") if r["produced"] else "-"
    return [
        tool,
        str(depth),
        "yes" if r["produced"] else "no",
        agrees,
        text,
        str(r.get("placeholders", "-")),
        seconds,
        r.get("said", ""),
    ]


def main() -> None:
    """Run all of it, or one measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", nargs="*", help="TOOL DEPTH: one measurement, as JSON")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has tensorgrad")
    arguments = parser.parse_args()
    if arguments.one:
        tool, depth = arguments.one
        print(json.dumps(larger(depth) if tool == "larger" else TOOLS[tool](int(depth))))
        return
    record = []
    for tool, depths in DEPTHS.items():
        for depth in depths:
            python = arguments.python if tool == "tensorgrad" else sys.executable
            record.append({"tool": tool, "depth": depth, **_run(python, tool, str(depth), limit=arguments.limit)})
    big = _run(sys.executable, "larger", "ResNet-18", limit=300)
    heads = (
        "tool",
        "depth",
        "produced",
        "agrees with autograd",
        "characters of LaTeX",
        "placeholders",
        "CPU seconds",
        "",
    )
    rows = [_row(r["tool"], r["depth"], r) for r in record]
    rows.append(["bp.derive, ResNet-18", "18", "yes", "yes" if big.get("agrees") else "no",
                 f"{big.get('folded')} equations of {big.get('equations')}", "0", f"{big.get('seconds', 0):.2f}", ""])  # fmt: skip
    show("derive", heads, rows, {"mlp": record, "resnet18": big}, arguments.json)


if __name__ == "__main__":
    main()
