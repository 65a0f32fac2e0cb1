"""What if: the page's own computation against a fresh solution, and the formulas that it prints."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof.studies.trace import Trace, run

from .conftest import UVA, Made

Open = Callable[..., Any]
Make = Callable[..., Made]

W = [[0.60, 0.70, 0.00], [0.01, 0.43, 0.88]]
X = [[0.75, 0.80], [0.20, 0.05], [-0.75, 0.80], [0.20, -0.05]]


def changed(nested: Any, place: tuple[int, ...], value: float) -> Any:
    if not place:
        return value
    return [changed(x, place[1:], value) if i == place[0] else x for i, x in enumerate(nested)]


def fill(page: Any, label: str, value: float) -> None:
    if page.locator("details.whatif[open]").count() == 0:
        page.click(".whatif summary")
    page.locator(".fields").get_by_label(label, exact=True).fill(str(value))


SHOWN = """() => [...document.querySelectorAll(
    '.panel [data-ref][data-full], .record [data-ref][data-full], main .instant [data-ref][data-full]')]
    .map(e => [e.dataset.ref, e.dataset.full])"""


def numbers(page: Any) -> dict[str, float]:
    """Every number on the page by its reference, after the solution below has followed."""
    page.wait_for_timeout(350)
    found: dict[str, float] = {}
    for ref, full in page.evaluate(SHOWN):
        assert ref not in found or found[ref] == float(full), f"{ref} is shown with two values"
        found[ref] = float(full)
    return found


def compare(shown: dict[str, float], record: dict[str, Any]) -> int:
    """Compare what is shown with a record of the same problem; returns how many numbers were compared."""
    count = 0
    for step in record["steps"]:
        tensors = {("value", n): v for n, v in step["values"].items()}
        tensors |= {("gradient", n): v for n, v in step["gradients"].items()}
        for name, entry in step["parameters"].items():
            tensors |= {(kind, name): entry[kind] for kind in ("before", "after")}
        for (kind, name), nested in tensors.items():
            flat = dict(entries(nested))
            scale = max(map(abs, flat.values()))
            for index, value in flat.items():
                ref = f"{kind}:{name}:{index}:{step['step']}"
                if ref in shown:
                    assert abs(shown[ref] - value) <= 1e-9 * scale, ref
                    count += 1
    return count


def entries(nested: Any, place: str = "") -> Any:
    if isinstance(nested, list):
        for i, x in enumerate(nested):
            yield from entries(x, f"{place}.{i}" if place else str(i))
    else:
        yield place, float(nested)


CHANGES: list[tuple[dict[str, float], dict[str, Any]]] = [
    ({"step size η (lr)": 0.5}, {"lr": 0.5}),
    ({"W 1, 1": -0.6}, {"W": changed(W, (0, 0), -0.6)}),
    ({"w 3": -2.5, "X 2, 1": 1.5}, {"w": [0.02, 0.03, -2.5], "X": changed(X, (1, 0), 1.5)}),
    ({"y 1": -1, "step size η (lr)": 3}, {"y": [-1, 1, -1, -1], "lr": 3}),
]


@pytest.mark.parametrize("batch", ["full", "sample"])
@pytest.mark.parametrize(("typed", "settings"), CHANGES)
def test_what_if_is_a_fresh_solution(open_page: Open, make: Make, batch: str, typed: Any, settings: Any) -> None:
    page = open_page(f"{make(batch=batch).uri}#update-2/forward/s")
    for label, value in typed.items():
        fill(page, label, value)
    fresh = make(batch=batch, **settings).record
    assert compare(numbers(page), fresh) > (200 if batch == "full" else 400)
    assert page.locator(".changed").is_visible()


@pytest.mark.parametrize(
    ("problem", "settings", "typed", "change"),
    [
        (UVA, {"optimizer": "adam"}, {"β₁": 0.5}, {"beta1": 0.5}),
        (UVA, {"momentum": 0.9, "reduction": "mean"}, {"momentum μ": 0.2}, {"momentum": 0.2}),
        ("ctu-vir-3/sine-neuron", {}, {"x 2": -1.5, "t": 0.25}, {"x": [2, -1.5], "t": 0.25}),
        ("epfl-ml-12/linear-regression", {"steps": 5}, {"w": 0.75}, {"w": 0.75}),
    ],
)
def test_other_problems(open_page: Open, make: Make, problem: str, settings: Any, typed: Any, change: Any) -> None:
    page = open_page(make(problem, **settings).uri)
    for label, value in typed.items():
        fill(page, label, value)
    assert compare(numbers(page), make(problem, **{**settings, **change}).record) > 8


def test_reset_brings_the_record_back(open_page: Open, make: Make) -> None:
    made = make()
    page = open_page(f"{made.uri}#update-1/forward/s")
    before, text = numbers(page), page.locator("main").text_content()
    fill(page, "W 1, 1", -0.25)
    assert numbers(page) != before
    assert "original numbers, not" in page.evaluate(
        "getComputedStyle(document.querySelector('.verdict'), '::after').content"
    )
    page.click(".changed button")
    assert numbers(page) == before
    assert page.locator("main").text_content() == text
    assert not page.locator(".changed").is_visible()


def test_what_was_changed_is_said(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    fill(page, "W 1, 2", 2)
    fill(page, "step size η (lr)", 0.5)
    assert page.locator(".changed span").inner_text() == "W 1, 2: 0.7 → 2 · lr: 0.1 → 0.5"
    fill(page, "W 1, 2", 0.7)
    fill(page, "step size η (lr)", 0.1)
    assert not page.locator(".changed").is_visible()


def test_half_typed_numbers_change_nothing(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    fill(page, "w 1", 0.5)
    page.locator(".fields").get_by_label("w 1", exact=True).fill("")
    assert page.locator(".fields").get_by_label("w 1", exact=True).get_attribute("aria-invalid") == "true"
    assert page.locator(".changed span").inner_text() == "w 1: 0.02 → 0.5"


def test_a_weight_in_the_drawing_opens_its_field(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.click(".view .grip[data-ref='before:W:1.2:0']", force=True)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "W 2, 3"


def test_divergence_is_shown_as_it_is(open_page: Open, make: Make) -> None:
    page = open_page(f"{make().uri}#update-3/loss/L")
    fill(page, "step size η (lr)", 1e300)
    assert re.search("nan|∞|[0-9]", page.locator(".panel").inner_text())


@pytest.mark.parametrize(
    "instant", ["forward/s", "forward/z", "forward/y_out", "loss/L", "backward/s_out", "backward/s", "backward/W"]
)
def test_the_page_prints_formulas_as_python_does(open_page: Open, make: Make, instant: str) -> None:
    """A change of lr leaves the first pass as it is, but has the page print it itself."""
    page = open_page(f"{make().uri}#update-1/{instant}")
    read = "[...document.querySelectorAll('.panel .put')].map(e => e.textContent.replace(/\\s/g, ''))"
    python = page.evaluate(read)
    structure = (
        "[...document.querySelectorAll('.panel .put')].map(e => e.querySelectorAll('mfrac, msup, msqrt').length)"
    )
    shape = page.evaluate(structure)
    fill(page, "step size η (lr)", 0.2)
    assert page.evaluate("document.querySelector('.stage').classList.contains('is-whatif')")
    assert page.evaluate(read) == python
    assert page.evaluate(structure) == shape


@pytest.mark.console_speaks
def test_a_wrong_formula_is_noticed(open_page: Open, make: Make, tmp_path: Any) -> None:
    """A record that the formulas do not give disables what-if, visibly."""
    made = make()
    wrong = made.html.replace('"loss":1.9666450569727654', '"loss":1.9666450569727654').replace(
        '"s_out":[0.09859,', '"s_out":[0.09869,', 1
    )
    assert wrong != made.html
    path = tmp_path / "wrong.html"
    path.write_text(wrong, encoding="utf-8")
    page = open_page(path.as_uri())
    assert "s_out differs from the record" in page.locator(".no-whatif").inner_text()
    assert page.locator(".whatif").count() == 0
    page.click("[data-go=next]")
    assert page.locator(".track input").input_value() == "1"


def classifier(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3)).to(dtype)


LABELS = torch.tensor([0, 2, 1, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_and_float32(open_page: Open, tmp_path: Path, dtype: torch.dtype) -> None:
    """With labels as targets, and for a record in float32: what is computed again is torch's own training."""
    inputs = torch.tensor(X, dtype=dtype)
    path = tmp_path / "labels.html"
    trace = bp.trace(
        classifier(dtype), inputs, LABELS, loss="cross_entropy", optimizer=(torch.optim.SGD, {"lr": 0.1}), steps=2
    )
    path.write_text(trace.html(), encoding="utf-8")
    page = open_page(path.as_uri())
    assert ("computed in float64" in page.locator(".whatif summary").inner_text()) == (dtype is torch.float32)
    assert page.get_by_label("target", exact=False).count() == 0
    fill(page, "step size η (lr)", 0.75)
    model = classifier(dtype).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.75)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs.double()), LABELS).backward()
        optimizer.step()
    shown = numbers(page)
    for i in range(3):
        ours = shown[f"after:2.weight:{i}.1:2"]
        assert ours == pytest.approx(float(model[2].weight.detach()[i, 1]), rel=1e-9)  # type: ignore[index]


def test_gradients_that_are_not_cleared(open_page: Open, tmp_path: Path) -> None:
    solution = bp.solve(UVA)
    program = replace(solution.prepared.program, accumulate=True, _joints={}, _single=None)  # type: ignore[union-attr]
    steps, _ = run(program, use_exact=False)
    path = tmp_path / "uncleared.html"
    path.write_text(Trace(program, steps, title="uncleared").html(), encoding="utf-8")
    page = open_page(path.as_uri())
    fill(page, "w 1", 0.02)
    assert page.locator(".whatif").count() == 1  # the page's own numbers are those of the record
