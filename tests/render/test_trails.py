"""A picture of runs: whole without scripts; with them its slider goes through the updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backproof.document.blocks import Document, Figure, Plot, Series
from backproof.pictures.trails import Trail, trails_drawing
from backproof.render.html import render_html


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    ways = [Trail("one", ((0.0, 0.0), (1.0, 1.0), (2.0, 0.0))), Trail("two", ((0.0, 0.0), (-1.0, 1.0)))]
    drawing = trails_drawing((-2, 3), (-1, 2), [[(0.0, 0.0), (1.0, 0.5)]], ways, ("x", "y"))
    file = tmp_path / "ways.html"
    file.write_text(
        render_html(Document("Ways", (Figure(drawing, ("two runs",), "two runs", "trails"),))), encoding="utf-8"
    )
    return file


LENGTHS = "[...document.querySelectorAll('path.role-trail')].map(p => p.getAttribute('d').split('L').length)"


def test_the_slider_goes_through_the_updates(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_file.as_uri())
    slider = page.locator(".trail-slider input")
    assert slider.is_visible() and page.evaluate(LENGTHS) == [3, 2]
    slider.evaluate("e => { e.value = 1; e.dispatchEvent(new Event('input')); }")
    assert page.evaluate(LENGTHS) == [2, 2] and page.locator(".trail-slider output").inner_text() == "1 of 2"
    slider.evaluate("e => { e.value = 0; e.dispatchEvent(new Event('input')); }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and said == []
    page.close()


def test_without_scripts_the_ways_are_whole(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert not page.locator(".trail-slider").is_visible()
    assert [
        d.count("L") for d in page.locator("path.role-trail").evaluate_all("ps => ps.map(p => p.getAttribute('d'))")
    ] == [2, 1]
    context.close()


def test_a_limit_is_dotted_and_has_no_marks() -> None:
    series = (Series("sharpness", (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), Series("limit", (1.0, 3.0), (2.0, 2.0), "dotted"))
    page = render_html(Document("Sharpness", (Plot(series, "updates", "", (), "a line and a limit"),)))
    assert "stroke-dasharray" in page and "limit" in page
