"""The time axis: every control, every instant, the address, pointing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Made, until

Open = Callable[..., Any]
Make = Callable[..., Made]

COUNT = 44
"""Instants of three updates: 14 each (5 forward with the loss, 7 backward, 2 updates), the givens and the result."""


def place(page: Any) -> int:
    return int(page.locator(".track input").input_value())


def title(page: Any) -> str:
    return str(page.locator(".now-title").inner_text())


def test_buttons(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    assert (place(page), title(page)) == (0, "what is given")
    page.click("[data-go=next]")
    assert (place(page), title(page)) == (1, "Update 1 · s: weighted sum")
    page.click("[data-go=last]")
    assert (place(page), page.locator(".count").inner_text()) == (COUNT - 1, f"{COUNT} / {COUNT}")
    page.click("[data-go=next]")
    assert place(page) == COUNT - 1
    page.click("[data-go=back]")
    assert title(page) == "Update 3 · update of w"
    page.click("[data-go=first]")
    assert place(page) == 0


def test_keys(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    for key, wanted in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", COUNT - 1), ("Home", 0)]:
        page.keyboard.press(key)
        assert place(page) == wanted
    page.focus(".track input")
    page.keyboard.press("ArrowRight")
    assert place(page) == 1
    assert page.get_attribute(".track input", "aria-valuetext") == "Update 1, forward, s: weighted sum"


def test_keys_are_left_to_fields_and_modifiers(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.click(".whatif summary")
    page.focus(".fields input")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert place(page) == 0
    page.focus("[data-go=next]")
    page.keyboard.press("Control+End")
    assert place(page) == 0


def test_play_and_pause(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.clock.install()
    page.reload()
    page.keyboard.press("Space")
    assert page.locator(".play").inner_text() == "Pause"
    page.clock.run_for(3000)
    assert place(page) == 2
    page.click("[data-go=play]")
    page.clock.run_for(3000)
    assert (place(page), page.locator(".play").inner_text()) == (2, "Play")
    page.click("[data-go=last]")
    page.click("[data-go=play]")
    assert place(page) == 0
    page.clock.run_for(1400 * (COUNT + 2))
    assert (place(page), page.locator(".play").inner_text()) == (COUNT - 1, "Play")


def test_slider_and_updates(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.locator(".track input").fill("17")
    assert title(page) == "Update 2 · s_out: weighted sum"
    page.click(".updates button >> nth=2")
    assert title(page) == "Update 3 · s: weighted sum"
    assert page.locator(".updates button[aria-current=true]").inner_text() == "update 3"


def test_a_place_in_time_can_be_linked(open_page: Open, make: Make) -> None:
    page = open_page(f"{make().uri}#update-2/backward/s")
    assert title(page) == "Update 2 · error signal of s"
    page.evaluate("location.hash = '#t=3'")
    until(page, "document.querySelector('.track input').value === '3'")
    page.evaluate("location.hash = '#no-such-place'")
    assert place(page) == 3


def test_back_returns(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.click("[data-go=next]")
    page.wait_for_timeout(300)
    page.click("[data-go=last]")
    assert page.evaluate("location.hash") == "#result/loss"
    page.go_back()
    until(page, "document.querySelector('.track input').value === '1'")
    page.go_forward()
    until(page, f"document.querySelector('.track input').value === '{COUNT - 1}'")


def test_samples(open_page: Open, make: Make) -> None:
    page = open_page(f"{make().uri}#update-1/forward/s")
    shown = page.locator(".panel .equation[data-ref*=':s:']")
    assert shown.count() == 1 + 3
    page.click(".samples button >> text=3")
    refs = [shown.nth(i).get_attribute("data-ref") for i in range(shown.count())]
    assert refs == ["value:s::1", "value:s:2.0:1", "value:s:2.1:1", "value:s:2.2:1"]
    assert page.locator(".spot[data-ref='value:s:0.0:0']").text_content() == "−.442"
    page.click(".samples button >> text=all")
    assert shown.count() == 1 + 12


def test_tabs(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.focus("#tab-units")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-operations", "aria-selected") == "true"
    assert page.evaluate("document.activeElement.id") == "tab-operations"
    assert "Computational graph" in page.get_attribute(".view svg", "aria-label")
    assert place(page) == 0


def test_pointing_lights_the_same_quantity_everywhere(open_page: Open, make: Make) -> None:
    page = open_page(f"{make().uri}#update-1/backward/z")
    page.hover(".panel .equation[data-ref='gradient:z:0.1:1'] .put [data-ref='before:w:1:1']")
    lit = set(page.evaluate("[...document.querySelectorAll('.pointed')].map(e => e.tagName + ' ' + e.dataset.ref)"))
    assert {"path before:w:1:0", "mn before:w:1:1", "SPAN before:w:1:1", "text before:w:1:0"} <= lit
    assert page.locator(".readout").inner_text() == "w 2 = 0.03"
    page.mouse.move(0, 0)
    assert page.locator(".pointed").count() == 0


ON_THE_EDGE = """async (selector) => {
    const edge = document.querySelector(selector);
    for (let before = "";;) {  // a drawing that is still settling moves away from under the pointer
        await new Promise(requestAnimationFrame);
        for (let share = 0.1; share < 1; share += 0.02) {
            const point = edge.getPointAtLength(share * edge.getTotalLength()).matrixTransform(edge.getScreenCTM());
            if (document.elementFromPoint(point.x, point.y) !== edge) continue;
            if (before === `${point.x} ${point.y}`) return [point.x, point.y];
            before = `${point.x} ${point.y}`;
            break;
        }
    }
}"""


def test_pointing_at_an_edge(open_page: Open, make: Make) -> None:
    page = open_page(f"{make().uri}#update-2/forward/s")
    page.mouse.move(*page.evaluate(ON_THE_EDGE, ".view .grip[data-ref='before:W:0.0:0']"))
    until(page, "document.querySelector('.readout').textContent.startsWith('W 1, 1 = 0.60133263')")


def test_what_is_computed_is_lit_and_what_comes_later_waits(open_page: Open, make: Make) -> None:
    page = open_page(f"{make().uri}#update-1/forward/z")
    assert page.locator(".record td.is-lit").count() == 12
    assert page.locator(".record td.is-later [data-ref^='gradient:']").count() > 0
    assert page.locator(".record td:not(.is-later) [data-ref^='gradient:']").count() == 0
    assert page.locator(".view ellipse.is-lit").count() == 3
    assert page.locator(".view .label.is-later[data-ref^='value:y_out']").count() == 1


def test_copied_numbers_are_in_full(open_page: Open, make: Make) -> None:
    page = open_page(f"{make().uri}#update-1/backward/z")
    copied = page.evaluate(
        """() => {
            const range = document.createRange();
            range.selectNodeContents(document.querySelector('.panel .equation[data-ref="gradient:z:0.0:1"]'));
            getSelection().removeAllRanges(); getSelection().addRange(range);
            const event = new ClipboardEvent('copy', {clipboardData: new DataTransfer(), bubbles: true, cancelable: true});
            document.body.dispatchEvent(event);
            return event.clipboardData.getData('text/plain');
        }"""
    )
    assert "-0.017860397826216717" in copied


# --- the numbers --------------------------------------------------------------------------------------------------------
SHOWN = """() => [...document.querySelectorAll(
    '.panel [data-ref][data-full], .record td:not(.is-later) [data-ref][data-full]')]
    .map(e => [e.dataset.ref, e.dataset.full])"""


def recorded(record: dict[str, Any], ref: str) -> float:
    kind, name, index, step = ref.split(":")[:4]
    update = record["steps"][int(step) - 1] if int(step) else record["steps"][0]
    entry = update["parameters"].get(name)
    if kind in ("before", "after"):
        found = entry[kind]
    elif kind == "gradient":
        found = update["gradients"][name]
    else:
        found = update["values"].get(name, record["settings"].get(name))
    for i in index.split(".") if index else ():
        found = found[int(i)]
    return float(found)


def test_every_instant_shows_the_record(open_page: Open, make: Make) -> None:
    made = make()
    page = open_page(made.uri)
    page.click(".samples button >> text=all")
    seen = set()
    for _ in range(COUNT):
        for ref, full in page.evaluate(SHOWN):
            assert float(full) == recorded(made.record, ref), ref
            seen.add(ref)
        page.keyboard.press("ArrowRight")
    assert {ref.split(":")[0] for ref in seen} == {"value", "gradient", "before", "after"}
    assert len(seen) > 3 * (29 * 2 + 9 * 3)


def test_units_show_the_sample_s_numbers(open_page: Open, make: Make) -> None:
    made = make()
    page = open_page(f"{made.uri}#update-3/forward/y_out")
    for sample in range(4):
        page.click(f".samples button >> nth={sample}")
        shown = page.locator(".spot[data-ref='value:y_out:0:0']").text_content()
        wanted = made.record["steps"][2]["values"]["y_out"][sample]
        assert math.isclose(float(shown.replace("−", "-")), wanted, rel_tol=0.05)


EDGES = """() => [...document.querySelectorAll('.view path.stroke[data-ref^="before:W"]')]
    .map(e => [e.dataset.ref, Number(e.getAttribute('stroke-width')), e.classList.contains('role-negative')])"""


@pytest.mark.parametrize("batch", ["sample", "full"])
def test_edges_are_as_thick_as_their_weights(open_page: Open, make: Make, batch: str) -> None:
    made = make(batch=batch)
    last = len(made.record["steps"])
    page = open_page(f"{made.uri}#update-{last}/forward/s")
    widths = page.evaluate(EDGES)
    weights = made.record["steps"][-1]["parameters"]["W"]["before"]
    largest = max(abs(w) for row in weights for w in row)
    assert len(widths) == 6
    for ref, width, dashed in widths:
        i, j = map(int, ref.split(":")[2].split("."))
        assert width == pytest.approx(0.8 + 4 * abs(weights[i][j]) / largest, abs=0.006)
        assert dashed == (weights[i][j] < 0)


def test_all_samples_show_their_mean_and_say_so(open_page: Open, make: Make) -> None:
    """With all samples chosen a unit shows no single sample's number."""
    made = make()
    page = open_page(f"{made.uri}#update-3/forward/y_out")
    assert page.locator(".view-note").inner_text() == ""
    page.click(".samples button >> text=all")
    assert page.locator(".view-note").inner_text() == "numbers: mean of 4 samples"
    step = made.record["steps"][2]
    for name, kind, column in [("y_out", "values", ()), ("s", "values", (1,))]:
        ref = f"value:{name}:{'.'.join(map(str, (0, *column)))}:0"
        rows = [row[column[0]] if column else row for row in step[kind][name]]
        shown = page.locator(f".spot[data-ref='{ref}']").text_content().replace("−", "-")
        assert math.isclose(float(shown), sum(rows) / 4, rel_tol=0.05)
    page.hover(".view .label[data-ref='value:z:0.1:0']", force=True)
    wanted = sum(row[1] for row in step["values"]["z"]) / 4
    said = page.locator(".readout").inner_text()
    assert said.startswith("mean of 4 samples: z ·, 2 = ")
    assert math.isclose(float(said.rpartition(" ")[2]), wanted, rel_tol=1e-12)
    lit = page.evaluate("[...document.querySelectorAll('.record .pointed')].map(e => e.dataset.ref)")
    assert set(lit) == {f"value:z:{i}.1:3" for i in range(4)}
    page.click(".samples button >> nth=0")
    assert page.locator(".view-note").inner_text() == ""


def test_a_click_on_the_mean_opens_no_sample_s_field(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.click(".samples button >> text=all")
    page.locator(".view .label[data-ref='value:X:0.0:0']").first.dispatch_event("click")
    assert page.evaluate("document.querySelector('.whatif').open")
    assert page.evaluate("document.activeElement.tagName") != "INPUT"
