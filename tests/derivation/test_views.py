"""The views of a derivation: folded, for every depth, by entries, with an operation that has no form; and its page."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.document.math import Add, BigSum, Call, Cases, Div, Expr, Indicator, Mul, Neg, Num, Pow, Rel, Sym
from backproof.domains.definitions import DEFINITIONS, definition
from backproof.domains.numbers import kernel
from backproof.domains.whole import whole_value
from backproof.graph import Builder, Graph
from backproof.ops import OPS, Elementwise, Op, derivative
from backproof.render.math_text import text_of
from backproof.studies.derivation.backward import Backward
from backproof.studies.derivation.by_entries import EntryLine, entry_lines
from backproof.studies.derivation.folding import Entry, changed, fold
from backproof.studies.verdicts import Evidence, standing, summary
from tests.zoo.networks import NETWORKS, build


def derived(name: str, **more: Any) -> bp.Derived:
    net = build(name)
    return bp.derive(net.model, *net.inputs, loss=net.loss, targets=net.targets, **more)


def mlp(depth: int, width: int = 3) -> nn.Module:
    torch.manual_seed(1)
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.Sigmoid())]
    return nn.Sequential(*layers).double()


def data(width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(4, width, dtype=torch.float64), torch.randn(4, width, dtype=torch.float64)


# --- folding ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["mlp-sigmoid", "transformer", "recurrent"])
def test_unfolding_gives_the_equations_back(name: str) -> None:
    work = derived(name).work
    for lines in (work.forward, work.backward, work.gradients):
        back = [e for f in work.folds(lines) for e in f.unfolded()]
        said = [(text_of(e.left), text_of(e.right)) for e in back]
        assert said == [(text_of(changed(x.left, str)), text_of(changed(x.right, str))) for x in lines]


def test_what_repeats_is_written_once() -> None:
    x, t = data()
    short, long = (bp.derive(mlp(d), x, loss="mse", targets=t) for d in (4, 12))
    assert len(short.folded) == len(long.folded) <= 12
    assert "For l = 11, ..., 1" in long.text()
    assert len(derived("transformer").folded) < 0.7 * len(derived("transformer").work.lines)


def test_a_run_is_broken_where_an_equation_differs() -> None:
    z, w = (lambda k: Sym("z", (str(k),))), (lambda k: Sym("W", (str(k),)))
    alike = [Entry(z(k), w(k) * z(k - 1)) for k in range(1, 4)]
    other = [Entry(z(4), w(4) * z(1)), Entry(z(5), w(5) * z(4)), Entry(z(6), w(7) * z(5))]
    found = fold([*alike, *other])
    assert [f.values for f in found] == [(1, 2, 3), (), (), ()]


def test_size_and_depth() -> None:
    """About 1,400 characters of LaTeX for all weights at depth 8, and linear in the depth."""
    x, t = data()
    sizes = {}
    for depth in (8, 16, 64):
        found = bp.derive(mlp(depth), x, loss="mse", targets=t, wrt=[f"{2 * k}.weight" for k in range(depth)])
        lines = [e for e in found.equations if e.phase in ("backward", "gradient")]
        sizes[depth] = sum(len(e.formula) for e in lines)
        assert len(lines) == 2 * depth
    assert sizes[8] < 1500 and sizes[16] < 2.2 * sizes[8] and sizes[64] < 9 * sizes[8]


# --- any depth ----------------------------------------------------------------------------------------------------------------
def test_the_depth_as_a_symbol() -> None:
    x, t = data()
    found = bp.derive(mlp(3), x, loss="mse", targets=t, depth="L")
    assert not found.finding and {e.agrees for e in found.evidence} == {True}
    texts = [e.text for e in found.equations]
    assert "δₗ = (δₗ₊₁ Wₗ₊₁) ⊙ zₗ ⊙ (1 − zₗ)" in [t.replace("₊₁W", "₊₁ W") for t in texts]
    assert any(t.startswith("δ_L =") for t in texts) and any(e.of == "l = L-1..1" for e in found.equations)
    deep = found.at(9)
    assert not deep.finding and len(deep.work.signals) == 9
    with pytest.raises(bp.InputError, match="at least"):
        found.at(0)


def test_blocks_of_any_number() -> None:
    found = derived("transformer", depth="D")
    assert not found.finding and {e.agrees for e in found.evidence} == {True}
    assert any("D" in e.name for e in found.equations)


def test_the_generalisation_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong generic equation the depths that had no part in it disagree."""
    from backproof.studies.derivation import by_depth, depth

    def wrong(one: Any, two: Any, repeats: int, symbol: str) -> Any:
        made = depth.generalise(one, two, repeats, symbol)
        return depth.General(symbol, made.forward, made.backward[:-1], made.gradients, made.offset)

    monkeypatch.setattr(by_depth, "generalise", wrong)
    x, t = data()
    assert bp.derive(mlp(3), x, loss="mse", targets=t, depth="L").finding


DEEP = """
[given]
x = "symbol"
t = "symbol"
[repeat]
to = "L"
[repeat.given]
W_l = "symbol"
f_l = "function"
[repeat.model]
s_l = "W_l * z_(l-1)"
z_l = "f_l(s_l)"
[model]
z_0 = "x"
E = "(z_L - t)**2 / 2"
[step]
parameters = ["W_l"]
"""


def test_a_problem_of_any_depth(tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    file.write_text(DEEP)
    found = bp.derive(str(file))
    assert not found.finding
    assert "δₗ = δₗ₊₁Wₗ₊₁ fₗ′(sₗ)" in [e.text for e in found.equations]
    three = bp.solve(str(file), L=3)
    assert list(three.answers["in_deltas"]) == ["dE/dW_3", "dE/dW_2", "dE/dW_1"] and not three.finding


@pytest.mark.parametrize(
    ("change", "says"),
    [(('to = "L"', 'to = "LL"'), "letter"), (('to = "L"', 'to = "l"'), "other than the index"),
     (("s_l =", "s ="), "end in its index"), (('to = "L"', 'to = "L"\nmore = 1'), "unknown key"),
     (("E = ", "L = "), "is the depth")],
)  # fmt: skip
def test_what_is_wrong_with_a_repetition_is_said(change: tuple[str, str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    file.write_text(DEEP.replace(*change))
    with pytest.raises(bp.BackproofError, match=says):
        bp.derive(str(file))


def test_a_model_without_a_repeated_part_is_refused() -> None:
    with pytest.raises(bp.InputError, match="repeated"):
        bp.derive(nn.Linear(3, 3).double(), data()[0], loss="mse", targets=data()[1], depth="L")


# --- by entries -----------------------------------------------------------------------------------------------------------------
ENTRYWISE = ["mlp-tanh", "classifier", "convnet", "attention", "batch-norm", "embedding", "u-net", "hinge", "depthwise"]  # fmt: skip


@pytest.mark.parametrize("name", ENTRYWISE)
def test_entries_are_the_entries(name: str) -> None:
    """Each formula with indices, computed with loops, gives the entries of the formula of whole tensors."""
    net = build(name)
    found = bp.derive(net.model, *net.inputs, loss=net.loss, targets=net.targets)
    work = found.work
    values = {**work.evaluate({n: t.double() if t.is_floating_point() else t for n, t in found.start.items()})}
    forward = _forward(work, found)
    made = entry_lines(work)
    assert len(made) >= 0.8 * len(work.lines)
    checked = 0
    for entry in made:
        node = entry.line.node
        whole = values[node.of.name] if node.of is not None else forward[node.name]
        if _is_by_name(entry.right):
            continue
        for place in itertools.islice(
            itertools.product(*(range(n) for n in node.shape)), 0, None, max(node.size // 3, 1)
        ):
            ours = _Loops(entry, forward, values, work).value(place)
            assert ours == pytest.approx(float(whole[place]), rel=1e-9, abs=1e-9), (text_of(entry.right), place)
            checked += 1
    assert checked >= 15


def _forward(work: Backward, found: bp.Derived) -> dict[str, torch.Tensor]:
    values = {n.name: found._leaf(n.name, n.shape, {}) for n in work.graph.nodes if found._is_wanted(n)}
    values |= {n.name: t for n, t in work._leaves({})}
    for line in work.forward:
        values[line.node.name] = work._value(line, work.writer, work.writer, lambda ref: values.get(ref.name), None)
    return values


def _is_by_name(e: object) -> bool:
    """Whether a formula has a part that keeps its name, with indices below."""
    if isinstance(e, Call) and not isinstance(OPS.get(e.op.partition("'")[0]), Elementwise):
        return True
    if isinstance(e, Expr):
        return any(_is_by_name(getattr(e, f)) for f in e.__dataclass_fields__)  # type: ignore[attr-defined]
    return isinstance(e, tuple) and any(_is_by_name(x) for x in e)


class _Loops:
    """Computes an indexed formula with plain loops."""

    def __init__(self, entry: EntryLine, forward: Any, backward: Any, work: Backward) -> None:
        self.entry, self.forward, self.backward, self.work = entry, forward, backward, work

    def value(self, place: tuple[int, ...]) -> float:
        return self.at(self.entry.right, {k: i + 1 for k, i in zip(self.entry.labels, place, strict=True)})

    def at(self, e: Expr, env: dict[str, int]) -> float:
        if isinstance(e, Num):
            return float(e.value)
        if isinstance(e, Sym):
            return self.symbol(e, env)
        if isinstance(e, Add):
            return sum(self.at(x, env) for x in e.terms)
        if isinstance(e, Neg):
            return -self.at(e.arg, env)
        if isinstance(e, Mul):
            product = 1.0
            for factor in e.factors:
                product *= self.at(factor, env)
            return product
        if isinstance(e, Div):
            return self.at(e.top, env) / self.at(e.bottom, env)
        if isinstance(e, Pow):
            return float(self.at(e.base, env) ** self.at(e.exponent, env))
        return self.other(e, env)

    def other(self, e: Expr, env: dict[str, int]) -> float:
        if isinstance(e, BigSum):
            letters = e.index.split(",")
            places = itertools.product(*(range(1, n + 1) for n in e.shape))
            return sum(self.at(e.body, {**env, **dict(zip(letters, p, strict=True))}) for p in places)
        if isinstance(e, Indicator):
            return float(self.at(e.relation, env) != 0)
        if isinstance(e, Rel):
            a, b = self.at(e.left, env), self.at(e.right, env)
            return float({"=": a == b, ">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b}[e.sign])
        if isinstance(e, Cases):
            return next(self.at(v, env) for v, c in e.rows if c is None or self.at(c, env))
        assert isinstance(e, Call), e
        args = [torch.tensor(self.at(a, env), dtype=torch.float64) for a in e.args]
        base, _, prime = e.op.partition("'")
        op = OPS[base]
        assert isinstance(op, Elementwise)
        run = kernel(derivative(op, int(prime or 0)) if "'" in e.op else op)
        assert run is not None
        return float(run(*args, **dict(e.attrs)))

    def symbol(self, e: Sym, env: dict[str, int]) -> float:
        if e.ref is None:
            return float(env[e.name])
        table = self.backward if e.ref.kind == "gradient" else self.forward
        tensor = table[e.ref.name]
        rank = sum(n > 1 for n in tensor.shape)
        labels = list(e.sub[len(e.sub) - rank :]) if rank else []
        index = tuple(_affine(labels.pop(0), env) - 1 if n > 1 else 0 for n in tensor.shape)
        if any(not 0 <= i < n for i, n in zip(index, tensor.shape, strict=True)):
            return 0.0
        value = float(tensor[index])
        return value + 1 if not tensor.is_floating_point() and e.ref.name in self.labels else value

    @property
    def labels(self) -> set[str]:
        """Index tensors: classes count from 1 on the page as all indices do."""
        return {n.name for n in self.work.graph.nodes if n.is_leaf and not n.is_float}


def _affine(text: str, env: dict[str, int]) -> int:
    total = 0
    for sign, factor, letter in re.findall(r"([+-]?)(\d*)([a-z]?)", text):
        if factor or letter:
            size = int(factor or 1) * (env[letter] if letter else 1)
            total += -size if sign == "-" else size
    return total


# --- functions ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions_are_what_is_computed(name: str) -> None:
    op = OPS[name]
    assert isinstance(op, Elementwise)
    x = torch.linspace(-2.9, 2.9, 41, dtype=torch.float64)
    for example in op.examples:
        attrs = {**op.attrs, **example.attrs}
        value, slope, source = definition(op, Sym("x", ref=bp_ref()), attrs) or pytest.fail(name)
        assert source
        for formula, record in ((value, op), (slope, derivative(op, 0))):
            run = kernel(record)
            assert run is not None
            assert torch.allclose(whole_value(formula, lambda ref: x), run(x, **attrs), rtol=1e-9, atol=1e-9)


def bp_ref() -> Any:
    from backproof.document.math import Ref

    return Ref("x")


def test_kinks_and_sources_are_said() -> None:
    page = derived("mlp-relu").text()
    assert "at x = 0 0 is taken" in page and "Nair and Hinton" in page
    assert "Hendrycks" in derived("mlp-gelu").text() and "Ioffe and Szegedy" in derived("batch-norm").text()


# --- an operation without a form --------------------------------------------------------------------------------------------
def test_an_unknown_operation_is_named_and_the_rest_derived() -> None:
    builder = Builder()
    x, w, v = (
        builder.leaf(n, r, (2, 2), "float64") for n, r in (("x", "input"), ("w", "parameter"), ("v", "parameter"))
    )
    mystery = Op("mystery", "opaque", ("x",), lambda shapes, attrs: shapes[0])
    s = builder.emit("matmul", x, w, name="s", role="value")
    m = builder.emit(mystery, s, name="m", role="value")
    y = builder.emit("matmul", m, v, name="y", role="value")
    loss = builder.emit("sum", y, name="L", role="value")
    work = Backward(Graph(tuple(builder.nodes), (y,), loss), loss, ["w", "v"])
    (gap,) = work.gaps
    assert "mystery" in gap and "no textbook form" in gap
    texts = [f"{text_of(e.left)} = {text_of(e.right)}" for e in work.gradients]
    assert any("J" in t and "mystery" in t for t in texts) and any(t.startswith("∂L/∂v = mᵀ") for t in texts)
    found = work.evaluate({n: torch.ones(2, 2, dtype=torch.float64) for n in ("x", "w", "v")})
    assert "w" not in found


# --- pages ----------------------------------------------------------------------------------------------------------------------
PAGES = ["transformer", "resnet", "classifier"]


@pytest.mark.parametrize("name", PAGES)
def test_lines_fit_the_page(name: str, tmp_path: Path) -> None:
    """LaTeX compiles with no box wider than the page by more than 3 points; text keeps to 80 columns."""
    found = derived(name)
    assert max(map(len, found.text().splitlines())) <= 84  # combining accents count twice
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    (tmp_path / "page.tex").write_text(found.latex())
    run = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=tmp_path,
                         capture_output=True, timeout=120)  # fmt: skip
    log = (tmp_path / "page.log").read_text(errors="replace")
    assert run.returncode == 0, log[-2000:]
    assert [w for w in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(w) > 3] == []


def test_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\nnet = nn.Sequential(*[m for _ in range(3) for m in (nn.Linear(3, 3), nn.Tanh())])\n"
    )
    base = [
        sys.executable,
        "-m",
        "backproof",
        "derive",
        f"{file}:net",
        "--input",
        "4x3",
        "--targets",
        "4x3",
        "--loss",
        "mse",
    ]
    run = subprocess.run([*base, "--depth", "L", "--json"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    record = json.loads(run.stdout)
    assert any("l+1" in e["formula"].replace(" ", "") and e["for"] == "l = L-1..1" for e in record["folded"])
    run = subprocess.run([*base, "--depth", "depth"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and "one letter" in run.stderr


def test_the_zoo_has_many_kinds() -> None:
    assert len(NETWORKS) >= 25


# --- what was found by trying it ------------------------------------------------------------------------------------------
class Experts(nn.Module):
    """A mixture of experts whose matrices are picked from one table by the largest entries of a gate."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.gate = nn.Linear(3, 4)
        self.experts = nn.Parameter(torch.randn(4, 3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top, index = self.gate(x).topk(2, dim=-1)
        each = torch.einsum("bd,bkde->bke", x, self.experts[index])
        return (torch.softmax(top, dim=-1)[..., None] * each).sum(1)


def test_a_table_of_matrices_is_read_back() -> None:
    model = Experts().double()
    x, t = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    made = bp.derive(model, x, loss="mse", targets=t)
    assert made.evidence and all(e.agrees for e in made.evidence)
    nn.functional.mse_loss(model(x), t).backward()
    found = made.evaluate()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.allclose(found[name], p.grad, atol=1e-12)


def test_every_error_signal_of_several_says_whose_it_is() -> None:
    made = bp.derive(Experts().double(), torch.randn(5, 3).double(), loss="mse", targets=torch.randn(5, 2).double())
    names = [e.name for e in made.equations if e.phase == "backward"]
    assert len(names) > 1 and "δ" not in names and len(set(names)) == len(names)


def test_without_a_comparison_nothing_is_said_to_agree() -> None:
    none = [Evidence("printed formulas", "autograd", None, None, 0, 0, "no form")]
    assert standing(none) == "" and summary(none) == "not confirmed: no comparison applies (no form)"
    some = [*none, Evidence("dL/dw", "autograd", True, 0.0, 2, 2)]
    assert standing(some) == "agrees" and summary(some).startswith("the one comparison made agrees")
    assert standing([*some, Evidence("dL/db", "autograd", False, 1.0, 2, 2)]) == "finding"


def test_a_wide_formula_has_its_rule_below(browser: Any, tmp_path: Path) -> None:
    """A fraction cannot be broken: the words at its side would be written over it."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)).double()
    made = bp.derive(model, torch.randn(3, 1, 4, 4).double(), loss="mse", targets=torch.randn(3, 1).double())
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(made.save(tmp_path / "derivation.html").as_uri())
    covered = page.evaluate(
        """() => [...document.querySelectorAll('.equation')].filter(e => {
            const why = e.querySelector('.why')?.getBoundingClientRect();
            return why && [...e.querySelectorAll('.step > *')].map(x => x.getBoundingClientRect()).some(r =>
                r.right > why.left + 2 && r.bottom > why.top + 2 && r.top < why.bottom - 2);
        }).length"""
    )
    assert covered == 0 and page.locator(".equation.wide").count() >= 1
    page.close()
