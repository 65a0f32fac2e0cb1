"""The parts of the docs that are lists of what the code knows: written by ``python -m tests.docs.generated``."""

from __future__ import annotations

from pathlib import Path

import backproof as bp
from backproof.formula import read
from backproof.ops import OPS, Elementwise
from backproof.optimizers import RULES
from backproof.problems import problem, toml

__all__ = ["COVERAGE", "KEYS", "PARTS", "PROBLEMS", "coverage", "documented"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROBLEMS, COVERAGE = DOCS / "problems.md", DOCS / "coverage.md"

KEYS = {
    "": {
        "title": "the title; the file's name by default",
        "about": "the question, in a paragraph",
        "remarks": "a list of texts that a reader should know, such as a mistake of a printed sheet",
        "given": "the table of givens, below",
        "model": "the table of formulas, in order: name = \"formula\"",
        "repeat": "formulas that repeat up to a depth, a number or a symbol: [derivations](derivations.md)",
        "ask": "the table of what is asked, below",
        "step": "the table of the training step, below",
        "reduction": "`\"sum\"` (default) or `\"mean\"`: what `reduce(...)` means",
        "batch": "`\"full\"` (default), or `\"sample\"`: one update per sample; needs `samples`",
        "layout": "`\"own\"` (default), `\"rows\"`, `\"columns\"` or `\"torch\"`",
        "index_base": "1 (default) or 0",
        "symbols": "a table: names to write differently, `{s = \"a\"}`",
        "arithmetic": "`\"auto\"` (default), `\"exact\"` or `\"float64\"`",
        "evidence": "`\"full\"` (default) or `\"sampled\"`",
        "seed": "of the sampled evidence, 0 by default",
    },
    "given": {
        "NAME": "a number, an exact number in quotes (`\"pi/2\"`), a list, a list of rows, "
        "or `{npy = \"file.npy\", column = 0}` for a .npy file beside the problem (`column` may be left out); "
        "without a number, `\"symbol\"`, `{symbol = [3, 2]}` with a shape, "
        "or `\"function\"`, an arbitrary differentiable function (below)",
    },
    "ask": {
        "gradients": "derivatives at the start, `[\"y/w\", \"L/w\"]`; of a value with several entries, the Jacobian",
        "also": "analyses, below",
    },
    "step": {
        "parameters": "the givens that are trained",
        "samples": "the givens whose first axis counts samples",
        "loss": "which value is the loss; the last formula that is one number by default",
        "optimizer": "; ".join(
            f"`\"{name}\"` with {', '.join(f'`{k}`' for k in rule.hyper)}" for name, rule in sorted(RULES.items())
        )
        + "; `\"sgd\"` by default where `lr` is given",
        "steps": "passes over the data, 1 by default",
    },
}  # fmt: skip

ANALYSES = {
    "accumulated": "what the asked derivatives add up to when they are not cleared in between",
    "uncleared": "the same run when the gradients are not cleared before each update",
    "optimum": "the minimum of the loss for up to 60 parameters: solved where the loss is quadratic, else the lowest local "
    "minimum that Newton's method reaches from several starts",
    "curvature": "the eigenvalues of the loss's second derivatives, and the learning rates that they allow",
    "fit": "a plot of the points and the fitted curve, for one input and one target per sample",
    "kinks": "where the loss is not differentiable, and the slopes to both sides where the givens are on a kink",
    "softmax": '`"softmax:p"`: the Jacobian of the softmax `p` entry by entry, and the gradient through it in closed form',
    "elementwise": '`"elementwise:p"`: what comes of taking the softmax `p` for an elementwise function, entry by entry',
    "margin": '`"margin:p,y,margin"`: what the hinge loss sum over j != y of max(0, p_j - p_y + margin) is designed to do',
    "rates": "runs at many learning rates, and the interval of reasonable ones",
    "watch": "the fit after several updates, and the loss and the size of the gradient per update",
    "against": '`"against:FORMULA"`: another formula in the problem\'s names, drawn beside the prediction',
    "likelihood": '`"likelihood:DENSITY"`: from the density of an observation to the loss, with every assumption named',
    "compare": '`"compare:PROBLEM"`: why the result differs from another problem\'s',
}


def _keys() -> str:
    blocks = []
    for table, keys in KEYS.items():
        head = f"`[{table}]`" if table else "at the top"
        blocks.append(_table((head, ""), [(f"`{key}`" if key.islower() else key, text) for key, text in keys.items()]))
    return "\n\n".join(blocks)


def _functions() -> str:
    aliases: dict[str, list[str]] = {}
    for alias, name in read._ALIASES.items():
        aliases.setdefault(name, []).append(alias)
    rows = [(f.forms.replace(" or ", "`, `").join("``"), "") for f in read.FUNCTIONS.values()]
    built = ", ".join(form for form, _ in rows)
    callable_ops = sorted((op for op in OPS.values() if isinstance(op, Elementwise)), key=lambda op: op.name)
    entrywise = ", ".join(f"`{_call(op)}`" for op in callable_ops)
    also = ", ".join(f"`{a}` for `{name}`" for name, found in sorted(aliases.items()) for a in found)
    return (
        f"Reductions and products: {built}. `reduce` is the sum or the mean, by the setting `reduction`.\n\n"
        f"Entry by entry: {entrywise}.\n\nOther names: {also}."
    )


def _call(op: Elementwise) -> str:
    return f"{op.name}({', '.join([*op.operands, *(f'{key}=' for key in op.attrs)])})"


def _analyses() -> str:
    return _table(("name", ""), [(f"`{name}`", text) for name, text in ANALYSES.items()])


def _table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {a} | {b} |" for a, b in [heads, ("---", "---"), *rows])


PARTS = {"keys": _keys, "functions": _functions, "analyses": _analyses}


def documented(text: str) -> str:
    """The text of problems.md with its generated parts written anew."""
    for name, make in PARTS.items():
        opening, end = f"<!-- {name}: generated, see tests/docs/test_problems.py -->\n", f"<!-- {name} end -->"
        before, found, rest = text.partition(opening)
        _, closed, after = rest.partition(end)
        assert found and closed, f"problems.md has no place for the generated part '{name}'"
        text = f"{before}{opening}{make()}\n{end}{after}"
    return text


def coverage() -> str:
    """The coverage table as Markdown, as ``backproof ops --out docs/coverage.md`` writes it."""
    return bp.ops_table().markdown()


def known_keys() -> dict[str, set[str]]:
    """The keys that the reader of TOML problems accepts, by table."""
    step = {"parameters", "optimizer", "steps", "samples", "loss"}
    return {"": set(toml._TOP), "ask": {"gradients", "also"}, "step": step, "also": set(problem.ANALYSES)}


if __name__ == "__main__":
    PROBLEMS.write_text(documented(PROBLEMS.read_text(encoding="utf-8")), encoding="utf-8")
    COVERAGE.write_text(coverage(), encoding="utf-8")
