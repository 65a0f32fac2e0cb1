"""The page in a real browser: nothing on the console, nothing scrolls sideways, data can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backproof.document.blocks import Document, Figure
from backproof.document.drawing import Drawing, Hint, Pixels, Rectangle
from backproof.render.html import render_html

from .samples import document
from .test_documents import wide_document


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    files = [folder / "hostile.html", folder / "wide.html"]
    for file, shown in zip(files, (document(4), wide_document()), strict=True):
        file.write_text(render_html(shown), encoding="utf-8")
    return files


@pytest.mark.parametrize("width", [390, 800, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_quiet_and_fits(browser: Any, pages: list[Path], width: int, scheme: str) -> None:
    for file in pages:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("dialog", lambda dialog, said=said: (said.append(dialog.message), dialog.dismiss()))
        page.goto(file.as_uri())
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


def test_style_applies_and_record_is_data(browser: Any, pages: list[Path]) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(pages[0].as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    record = page.evaluate("JSON.parse(document.getElementById('record').textContent)")
    assert record == {"</script><script>alert(1)</script>": [1, "inf", "]]>", "\u2028"]}
    assert page.evaluate("document.querySelectorAll('main math').length") > 10
    page.close()


def test_numbers_of_a_column_line_up_at_the_point(browser: Any, pages: list[Path]) -> None:
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.goto(pages[1].as_uri())
    edges = page.evaluate(
        "[...document.querySelectorAll('tbody tr')]"
        ".map(row => row.children[2].querySelector('.after').getBoundingClientRect().x)"
    )
    assert len(edges) == 60
    assert max(edges) - min(edges) < 0.1
    page.close()


def test_parts_of_a_drawing_answer_to_pointer_and_keyboard(browser: Any, tmp_path: Path) -> None:
    hint = Hint(0, 0, 50, 50, "a layer\nits numbers", (10, 80))
    picture = Pixels(60, 0, 40, 40, ((0, 128), (255, 64)))
    drawing = Drawing(120, 110, (Rectangle(0, 0, 50, 50), picture, hint))
    (tmp_path / "drawing.html").write_text(render_html(Document("T", (Figure(drawing, ("words",), "alt"),))))
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "drawing.html").as_uri())
    shown = "getComputedStyle(document.querySelector('.hint > .said')).visibility"
    assert page.evaluate(shown) == "hidden"
    page.hover(".hint > rect")
    assert page.evaluate(shown) == "visible"
    page.mouse.move(0, 0)
    assert page.evaluate(shown) == "hidden"
    page.focus(".hint")
    assert page.evaluate(shown) == "visible"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.hint')).display") == "none"
    assert said == []
    page.close()
