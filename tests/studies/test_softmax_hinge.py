"""The hinge loss on softmax probabilities, with other logits, classes and margins than the built-in ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import backproof as bp
from backproof.problems.problem import FormulaProblem
from backproof.studies.analyses import softmax as softmax_module

ID = "uva-dl-1/softmax-hinge"
MODEL = {"p": "softmax(o)", "h": "p - p[y] + m", "L": "sum((index(p) != y) * relu(h))"}


def by_torch(o: list[float], y: int, margin: float) -> tuple[float, list[float], torch.Tensor]:
    logits = torch.tensor(o, dtype=torch.float64, requires_grad=True)
    p = torch.softmax(logits, 0)
    others = [j for j in range(len(o)) if j != y]
    loss = torch.relu(p[others] - p[y] + margin).sum()
    jacobian = torch.autograd.functional.jacobian(lambda v: torch.softmax(v, 0), logits.detach())
    return loss.item(), torch.autograd.grad(loss, logits)[0].tolist(), jacobian


@pytest.mark.parametrize(
    ("o", "y", "margin"),
    [
        ([0.3, -1.2, 2.0, 0.1], 3, 0.15),
        ([1, 4], 1, 0.5),
        ([1.5, -0.5, 0.25, 3, 2], 0, 1.7),
        ([0.1, 0.2, 0.4], 2, -0.05),
    ],
)
def test_any_logits(o: list[float], y: int, margin: float) -> None:
    solved = bp.solve(ID, o=o, y=y, margin=margin)
    loss, gradient, jacobian = by_torch(o, y, margin)
    answers = solved.answers
    assert not solved.finding
    assert answers["loss"] == pytest.approx(loss, abs=1e-12)
    assert answers["gradient"] == pytest.approx(gradient, abs=1e-12)
    assert torch.allclose(torch.tensor(answers["jacobian"], dtype=torch.float64), jacobian, atol=1e-12)
    assert {"autograd", "50 digits", "differences", "SymPy's own derivative"} <= {e.oracle for e in solved.evidence}
    a, p = torch.tensor(answers["a"]), torch.tensor(answers["p"])
    assert a[y] == -(a.sum() - a[y]) and (p * (a - (a * p).sum())).tolist() == pytest.approx(gradient, abs=1e-6)
    assert answers["formula"].startswith("dL/do_j = p_j (a_j - sum_i a_i p_i)")


def test_every_term_is_active_from_margin_one_on() -> None:
    for margin in (1, 2.5):
        answers = bp.solve(ID, o=[3, -2, 0.5, 1], y=2, margin=margin).answers
        p = answers["p"]
        assert answers["a"] == [1, 1, -3, 1] and answers["active"] == [0, 1, 3]
        assert answers["loss"] == pytest.approx(3 * margin + 1 - 4 * p[2])
        assert answers["gradient"][2] == pytest.approx(-4 * p[2] * (1 - p[2]))
    assert "every term" in answers["words"] and "always active" in answers["words"]


ALONE = "as in an elementwise function"


@pytest.mark.parametrize(
    ("o", "y", "margin", "cause"),
    [
        ([2, 1, 0.5], 0, 1, ALONE),
        ([0.3, -1.2, 2.0, 0.1], 3, 0.15, ALONE),
        ([1.5, -0.5, 0.25, 3, 2], 0, 1.7, ALONE),
        ([1, 2], 1, 0.9, "factor 1/2"),  # of two classes the one forgotten half is as large as the other
    ],
)
def test_an_elementwise_softmax_is_refuted_entry_by_entry(o: list[float], y: int, margin: float, cause: str) -> None:
    solved = bp.solve(ID, o=o, y=y, margin=margin)
    said = solved.answers["elementwise"]
    _, right, jacobian = by_torch(o, y, margin)
    p = torch.softmax(torch.tensor(o, dtype=torch.float64), 0).requires_grad_()
    others = [j for j in range(len(o)) if j != y]
    (a,) = torch.autograd.grad(torch.relu(p[others] - p[y] + margin).sum(), p)
    claimed = a * jacobian.diagonal()
    assert said["gradient"] == pytest.approx(claimed.tolist(), abs=1e-9)
    assert said["wrong"] == [j for j in range(len(o)) if abs(claimed[j] - right[j]) > 1e-9] and said["wrong"]
    assert said["ok"] is False and cause in said["cause"]
    text = " ".join(solved.text().split())
    assert "If softmax were elementwise" in text and f"wrong in {len(said['wrong'])} of {len(o)} entries" in text
    mine = [e for e in solved.evidence if "custom backward" in e.oracle or "Gaussian" in e.oracle]
    assert [e.agrees for e in mine] == [True, True]


def test_with_one_class_or_no_loss_an_elementwise_softmax_does_no_harm() -> None:
    for settings in ({"o": [2], "y": 0}, {"o": [6, 0, 0], "y": 0, "margin": 0.5}):
        solved = bp.solve(ID, **settings)
        said = solved.answers["elementwise"]
        assert said["ok"] is True and said["wrong"] == [] and "happens to be right" in " ".join(solved.text().split())


def test_a_confident_sample_costs_nothing() -> None:
    answers = bp.solve(ID, o=[6, 0, 0], y=0, margin=0.5).answers
    assert answers["loss"] == 0 and answers["gradient"] == [0, 0, 0] and answers["active"] == []


def test_on_a_kink_both_slopes_are_shown() -> None:
    solved = bp.solve(ID, o=[0, 0], y=0, margin=0)
    assert not solved.finding
    assert solved.answers["kinks"] == [{"of": "h", "entry": [1]}]
    slopes = {(s["of"], *s["entry"]): (s["left"], s["right"]) for s in solved.answers["one_sided"]}
    assert slopes["o", 0] == pytest.approx((-0.5, 0)) and slopes["o", 1] == pytest.approx((0, 0.5))
    assert any(e.agrees is None and "closed form" in e.what for e in solved.evidence)
    assert any("kink" in r for r in solved.remarks)


@pytest.mark.parametrize(
    "settings",
    [{"y": 3}, {"y": -1}, {"y": 0.5}, {"y": "right"}, {"margin": "abc"}, {"margin": float("nan")}, {"margin": float("inf")},
     {"o": []}, {"o": 3}, {"o": [1, float("nan")]}, {"o": [[1, 2], [3, 4]]}, {"o": [0.5] * 10**6}, {"o": "many"}, {"classes": 3}],
)  # fmt: skip
def test_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError) as error:
        bp.solve(ID, **settings)
    assert "\n" not in str(error.value)


def test_one_class_has_nothing_to_compare() -> None:
    solved = bp.solve(ID, o=[2], y=0)
    assert solved.answers["loss"] == 0 and solved.answers["jacobian"] == [[0]] and not solved.finding


def test_a_network_of_ones_own_may_ask_the_same() -> None:
    problem = FormulaProblem(
        "net", {"x": [0.5, 1.5], "W": [[1, 0.5], [-1, 0.25], [0.3, 0.2]], "y": 1, "m": 0.3}, {"o": "W @ x", **MODEL},
        parameters=("W",), also=("softmax:p", "margin:p,y,m", "kinks"))  # fmt: skip
    solved = bp.solve(problem)
    assert not solved.finding and solved.answers["gradient"] == pytest.approx(by_torch([1.25, -0.125, 0.45], 1, 0.3)[1])
    other = FormulaProblem(
        "nll", {"o": [0.5, 1.5], "y": 1}, {"p": "softmax(o)", "L": "-log(p[y])"}, also=("softmax:p",)
    )
    assert bp.solve(other).answers["gradient"] == pytest.approx([0.2689414213699951, -0.2689414213699951])


@pytest.mark.parametrize(
    ("also", "says"),
    [
        ("elementwise:h", "softmax of a named list"),
        ("softmax:q", "softmax of a named list"),
        ("margin:p", "names the probabilities"),
        ("margin:p,y,o", "given numbers"),
    ],
)
def test_an_analysis_that_does_not_fit_says_why(also: str, says: str) -> None:
    with pytest.raises(bp.InputError, match=says):
        bp.solve(FormulaProblem("x", {"o": [1.0, 2], "y": 0, "m": 1}, MODEL, also=(also,)))


def test_another_loss_is_not_taken_for_a_hinge() -> None:
    other = {**MODEL, "L": "sum((index(p) != y) * relu(h)**2)"}
    with pytest.raises(bp.InputError, match="another function"):
        bp.solve(FormulaProblem("x", {"o": [1.0, 2], "y": 0, "m": 0.5}, other, also=("margin:p,y,m",)))


def test_a_wrong_closed_form_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax_module, "closed_form", lambda p, a: p * (a + (a * p).sum()))
    wrong = {e.oracle for e in bp.solve(ID).evidence if e.agrees is False}
    assert wrong == {"our joint graph", "autograd", "central differences in 50 digits"}


def test_kinks_of_any_loss() -> None:
    solved = bp.solve(FormulaProblem("k", {"w": 2, "t": 2}, {"L": "abs(w - t) + relu(w)"}, also=("kinks",)))
    assert solved.answers["kinks"] == [{"of": "sub", "entry": []}]
    assert {(s["of"], s["left"], s["right"]) for s in solved.answers["one_sided"]} == {
        ("w", 0.0, 2.0),
        ("t", -1.0, 1.0),
    }
    smooth = bp.solve(FormulaProblem("k", {"w": 2}, {"L": "tanh(w)"}, also=("kinks",)))
    assert smooth.answers["kinks"] == [] and "no kink" in " ".join(smooth.text().split())
