r"""LaTeX formulas mean on paper what torch computes here, and anything else is refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import backproof as bp
from backproof.errors import BackproofError, FormulaError
from backproof.formula.latex import from_latex, is_latex


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape)))


V: dict[str, Tensor] = {
    "x": normal(2), "s_1": normal(3), "delta_1": normal(3, seed=1), "W1": normal(3, 2), "W2": normal(4, 3), "y": normal(4),
    "t": normal(4, seed=1), "N": torch.tensor(5.0, dtype=torch.float64), "X": normal(5, 2), "D": normal(5, 3),
    "y_hat": normal(4, seed=2), "lr": torch.tensor(0.1, dtype=torch.float64),
}  # fmt: skip
SIGMA = torch.sigmoid(V["s_1"]) * (1 - torch.sigmoid(V["s_1"]))
BACK = V["W2"].T @ (V["y"] - V["t"])

MEANS: list[tuple[str, Tensor]] = [
    (r"\delta_1 x^\top", torch.outer(V["delta_1"], V["x"])),
    (r"$\delta_{1} x^T$", torch.outer(V["delta_1"], V["x"])),
    (r"\delta_1 \otimes x", torch.outer(V["delta_1"], V["x"])),
    (r"\sigma'(s_1) \odot W_2^\top (y - t)", SIGMA * BACK),
    (r"W_2^\top (y - t) \odot \sigma'(s_1) x^\top", torch.outer(SIGMA * BACK, V["x"])),
    (r"\frac{1}{N} D^\top X", V["D"].T @ V["X"] / 5),
    (r"1/N \delta_1 x^\top", torch.outer(V["delta_1"], V["x"]) / 5),
    (r"\mathbf{1}^\top D", V["D"].sum(0)),
    (r"D \mathbf 1", V["D"].sum(1)),
    (r"\mathbb{1}[s_1 > 0] \odot \delta_1", (V["s_1"] > 0) * V["delta_1"]),
    (r"\mathbb{1}_{s_1 > 0}", (V["s_1"] > 0).double()),
    (r"2 (y - t)^\top y", 2 * (V["y"] - V["t"]) @ V["y"]),
    (r"\left(1 - \tanh^2(s_1)\right) \odot \delta_1", (1 - V["s_1"].tanh() ** 2) * V["delta_1"]),
    (r"-\cos(W^{(1)} x) x^\top", -torch.outer(torch.cos(V["W1"] @ V["x"]), V["x"])),
    (r"e^{-s_1} + \exp s_1", torch.exp(-V["s_1"]) + V["s_1"].exp()),
    (r"\operatorname{softmax}(y) - \hat{y}", torch.softmax(V["y"], 0) - V["y_hat"]),
    (r"\|x\| x - lr |x|", V["x"].norm() * V["x"] - 0.1 * V["x"].abs()),
    (r"sum(D, dim=0) \cdot \delta_1", V["D"].sum(0) @ V["delta_1"]),
    (r"\sqrt{\max(0, y)}", V["y"].clamp_min(0).sqrt()),
    (r"x^\top W_1^\top", V["x"] @ V["W1"].T),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), MEANS, ids=[m[0] for m in MEANS])
def test_a_formula_means_what_it_means_on_paper(text: str, value: Tensor) -> None:
    def product(z: Tensor) -> Tensor:
        return (z * value).sum()  # its gradient with respect to z is the value

    inputs = {"z": torch.ones_like(value).requires_grad_(), **V}
    found = bp.check(lambda z, **_: product(z), inputs, claim={"z": text}, elsewhere=False)
    assert found.ok is True, found.message()


REFUSED = {
    r"x x": "two columns", r"W_1 W_1": "cannot be multiplied", r"X^{-1}": "inverse", r"\frac{x": "missing",
    r"\sum_i x_i": "sum over an index", r"\frac{\partial L}{\partial x}": "derivative", r"\foo x": "neither a quantity",
    r"\input{/etc/passwd}": "neither a quantity", "{" * 300: "missing", "(" * 300 + ")" * 300: "deep", r"\mathbf 1": "ones",
    r"x + y": "do not go together", r"x^{y}": "exponent", "x^2" + " + x" * 900: "characters", r"x)": "not expected", r"\\": "no meaning",
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSED.items(), ids=[t[:20] for t in REFUSED])
def test_what_has_no_meaning_is_refused(text: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words) as raised:
        from_latex(text, {n: tuple(v.shape) for n, v in V.items()}, "the claim")
    assert "\n" not in str(raised.value)


def test_plain_formulas_are_not_latex() -> None:
    assert not is_latex("cos(x @ w) * x") and is_latex(r"\delta") and is_latex("x^2")


def test_claims_may_define_what_they_use() -> None:
    def loss(W1: Tensor, W2: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * ((W2 @ torch.sigmoid(W1 @ x) - t) ** 2).sum()

    inputs = {"W1": V["W1"].clone().requires_grad_(), "W2": V["W2"].clone().requires_grad_(), "x": V["x"], "t": V["t"]}
    claim = {r"\delta_1": r"W_2^\top (y - t) \odot \sigma'(s)", "y": r"W_2 \sigma(s)", "s": "W_1 x",
             "W1": r"\delta_1 x^\top", "W2": r"(y - t) \sigma(s)^\top"}  # fmt: skip
    assert bp.check(loss, inputs, claim=claim).ok is True
    wrong = bp.check(loss, inputs, claim={**claim, "W2": r"(y - t) s^\top"})
    assert wrong.ok is False and {e.input for e in wrong.wrong} == {"W2"}
    assert "pre-activation" in str(wrong.cause)
    with pytest.raises(BackproofError, match="need one another"):
        bp.check(loss, inputs, claim={"a": "b", "b": "a", "W1": "a"})
