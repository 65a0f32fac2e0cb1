"""A page of several worked solutions: one open at a time, each with its own time axis and links of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import backproof as bp
from backproof.document.blocks import Document, Paragraph, Section
from backproof.render.html import render_html

from .conftest import UVA, until
from .test_reading import axe

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    sine = replace(bp.solve("ctu-vir-3/sine-neuron").document(), anchor="sine")
    net = replace(bp.solve(UVA).document(), anchor="net")
    words = Document("In words", (Section("Why", (Paragraph(("It is so.",)),)),), anchor="words")
    sheet = Document("A sheet", (Paragraph(("Three exercises.",)),), parts=(sine, net, words))
    path: Path = tmp_path_factory.mktemp("chapters") / "sheet.html"
    path.write_text(render_html(sheet), encoding="utf-8")
    return path.as_uri()


def title(page: Any) -> str:
    return str(page.locator(".part:not([hidden]) .now-title").inner_text())


def test_the_first_is_open_and_the_others_are_not_set_up(open_page: Open, uri: str) -> None:
    page = open_page(uri)
    assert page.locator(".part:not([hidden])").get_attribute("id") == "sine"
    assert page.locator(".stage").count() == 1
    assert page.locator(".chapters a[aria-current]").inner_text().endswith("by hand")


def test_each_has_its_own_time(open_page: Open, uri: str) -> None:
    page = open_page(uri)
    page.keyboard.press("ArrowRight")
    assert title(page).startswith("Update 1 · u")
    page.click(".chapters a >> nth=1")
    assert title(page) == "what is given"
    assert page.evaluate("location.hash") == "#net/given/numbers"
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert title(page) == "Update 1 · z: ReLU, entry by entry"
    page.click(".chapters a >> nth=0")
    assert title(page).startswith("Update 1 · u")
    page.go_back()
    until(page, "document.querySelector('.part:not([hidden])').id === 'net'")


def test_a_chapter_without_time(open_page: Open, uri: str) -> None:
    page = open_page(f"{uri}#words")
    assert page.locator("#words .solution").is_visible()
    assert page.locator(".stage").count() == 0
    page.keyboard.press("ArrowRight")
    page.click(".chapters a >> nth=1")
    assert title(page) == "what is given"


def test_links_mean_their_chapter(open_page: Open, uri: str) -> None:
    page = open_page(f"{uri}#net/update-2/backward/s")
    assert title(page) == "Update 2 · error signal of s"
    assert page.locator(".record td").count() > 10
    page.evaluate("location.hash = '#sine/update-1/backward/u'")
    until(page, "document.querySelector('.part:not([hidden])').id === 'sine'")
    assert title(page) == "Update 1 · error signal of u"
    page.evaluate("location.hash = '#net/update-3'")  # a heading of the solution
    until(page, "document.querySelector('.part:not([hidden])').id === 'net'")
    page.evaluate("location.hash = '#net/t=2'")
    until(page, "document.querySelector('#net .track input').value === '2'")


def test_ids_are_unique_and_axe_is_content(open_page: Open, uri: str) -> None:
    page = open_page(uri)
    for place in (1, 2, 0):
        page.click(f".chapters a >> nth={place}")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    page.evaluate(axe())
    assert [v["id"] for v in page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]] == []


def test_what_if_stays_in_its_chapter(open_page: Open, uri: str) -> None:
    page = open_page(uri)
    page.click(".whatif summary")
    page.get_by_label("b", exact=True).fill("1")
    assert page.locator("#sine.has-whatif").count() == 1
    page.click(".chapters a >> nth=1")
    assert page.locator("#net.has-whatif").count() == 0
    page.click(".chapters a >> nth=0")
    assert page.locator("#sine .changed").is_visible()


def test_without_javascript_and_on_paper_all_are_there(open_page: Open, uri: str) -> None:
    page = open_page(uri, java_script_enabled=False)
    assert all(part.is_visible() for part in page.locator(".part > .layout").all())
    page = open_page(uri)
    page.emulate_media(media="print")
    assert all(part.is_visible() for part in page.locator(".part > .layout .solution").all())
    assert not page.locator(".chapters").is_visible()
