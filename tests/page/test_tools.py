"""The buttons of the header: print, and the LaTeX source that the page carries."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import backproof as bp
from backproof.render.html import render_fragment, render_html
from backproof.render.latex import render_latex

from .conftest import UVA, Made

Open = Callable[..., Any]
Make = Callable[..., Made]


def test_latex_is_downloaded(open_page: Open, make: Make) -> None:
    """From a file, within the page's own policy, under the title's name, letter for letter."""
    page = open_page(make().uri)
    with page.expect_download() as waiting:
        page.click(".banner [data-tool=latex]")
    assert waiting.value.suggested_filename == page.title().replace(": ", " - ") + ".tex"
    assert Path(waiting.value.path()).read_text(encoding="utf-8") == render_latex(bp.solve(UVA).document())


def test_print_opens_the_print_dialog(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.evaluate("window.print = () => { window.printed = true; }")
    assert page.locator("[data-tool=print]").inner_text() == "Print / PDF"
    page.click("[data-tool=print]")
    assert page.evaluate("window.printed") is True
    page.emulate_media(media="print")
    assert not page.locator(".tools").is_visible()


def test_no_buttons_without_javascript(open_page: Open, make: Make) -> None:
    page = open_page(make().uri, java_script_enabled=False)
    assert page.locator(".tools").count() == 0


def test_a_name_that_would_end_the_source(open_page: Open, tmp_path: Path) -> None:
    """The source is inert whatever the title holds, and a file name is one."""
    title = "a/b: </script><script>alert(1)</script><!-- %"
    document = replace(bp.solve("ctu-vir-3/sine-neuron").document(), title=title)
    path = tmp_path / "odd.html"
    path.write_text(render_html(document), encoding="utf-8")
    block = re.search(
        r'<script type="application/json" id="latex" [^<>]*>([^<]*)</script>', path.read_text(encoding="utf-8")
    )
    assert block is not None
    packed = base64.b64decode(json.loads(block[1])["deflated"])
    assert zlib.decompress(packed).decode() == render_latex(document)
    page = open_page(path.as_uri())
    with page.expect_download() as waiting:
        page.click("[data-tool=latex]")
    assert waiting.value.suggested_filename == "a - b - script - script - alert(1) - script - !-- %.tex"


def test_in_a_frame_the_source_can_be_copied(open_page: Open, tmp_path: Path) -> None:
    """A sandboxed frame can neither save nor print: the text stands in a dialog, print is not offered."""
    document = bp.solve("ctu-vir-3/sine-neuron").document()
    path = tmp_path / "cell.html"
    path.write_text(f"<!doctype html><title>cell</title>{render_fragment(document)}", encoding="utf-8")
    page = open_page(path.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator("[data-tool=latex]").click()
    assert inside.locator("dialog textarea").input_value() == render_latex(document)
    assert not inside.locator("[data-tool=print]").is_visible()
    inside.locator("dialog textarea").press("End")
    assert inside.locator(".track input").input_value() == "0"
    inside.locator("[data-tool=copy]").click()
    assert inside.locator("dialog output").inner_text() in ("Copied.", "Selected: copy it with Ctrl+C or ⌘C.")
    inside.locator("[data-tool=close]").click()
    assert not inside.locator("dialog").is_visible()


def test_the_source_says_whose_numbers_it_has(open_page: Open, make: Make) -> None:
    page = open_page(make().uri)
    page.click(".whatif summary")
    page.get_by_label("w 1", exact=True).fill("0.7")
    said = page.evaluate("getComputedStyle(document.querySelector('[data-tool=latex]'), '::after').content")
    assert "original numbers" in said


def test_a_notebook_holds_the_page_and_the_solution(open_page: Open, tmp_path: Path) -> None:
    """The frame in the notebook's output steps through time; the cells hold the whole solution without it."""
    solution = bp.solve("ctu-vir-3/sine-neuron")
    cells = json.loads(str(solution.save(tmp_path / "x.ipynb").read_text(encoding="utf-8")))["cells"]
    (shown,) = (cell for cell in cells if cell["cell_type"] == "code")
    path = tmp_path / "output.html"
    path.write_text(
        "<!doctype html><title>cell</title>" + "".join(shown["outputs"][0]["data"]["text/html"]), encoding="utf-8"
    )
    page = open_page(path.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator("[data-go=next]").click()
    assert inside.locator(".now-title").inner_text().startswith("Update 1")
    still = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert "## " in still and "cos" in still and "iframe" not in still
