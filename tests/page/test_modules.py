"""Modules of a large network: folded at the top, opened on the time axis and in the solution, by mouse and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .test_reading import axe, large

Open = Callable[..., Any]

FOLDED = 2 * (14 + 1 + 15 + 14) + 1
"""For both updates 14 modules, the loss, 15 error signals, 14 updates; then the result."""
PARTS = 4 + 4 + 2
"""A block's parts: up, relu, down, add forward and backward, up and down in the update."""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("modules") / "large.html"
    path.write_text(large(), encoding="utf-8")
    return path.as_uri()


def count(page: Any) -> int:
    return int(page.locator(".track input").get_attribute("max")) + 1


def title(page: Any) -> str:
    return str(page.locator(".now-title").inner_text())


def test_folded_at_first(open_page: Open, uri: str) -> None:
    page = open_page(f"{uri}#update-1/forward/3")
    assert count(page) == FOLDED
    assert page.locator("main .instant details[open]").count() == 0
    page.click("[data-go=next]")
    assert title(page) == "Update 1 · 4"
    assert page.locator(".modules [data-module]").get_attribute("aria-expanded") == "false"


def test_an_open_module_is_its_parts(open_page: Open, uri: str) -> None:
    """Everywhere at once: in both passes, the updates and the solution; closed again it is one instant."""
    page = open_page(f"{uri}#update-1/forward/4")
    page.focus(".modules [data-module='4']")
    page.keyboard.press("Enter")
    assert count(page) == FOLDED + 2 * (PARTS - 3)
    assert page.evaluate("document.activeElement.dataset.module") == "4"
    assert page.locator(".modules [data-module]").get_attribute("aria-expanded") == "true"
    assert page.locator("main .instant[data-module='4'] > details[open]").count() == 2 * 3
    titles = [title(page)]
    for _ in range(4):
        page.click("[data-go=next]")
        titles.append(title(page).removeprefix("Update 1 · "))
    assert titles == ["Update 1 · 4.up", "4.relu", "4.down", "4.add", "5"]
    page.click("[data-go=back]")
    assert page.locator(".view .shape.is-lit").count() == 1
    page.click(".modules [data-module='4']")
    assert (title(page), count(page)) == ("Update 1 · 4", FOLDED)
    assert page.evaluate("document.activeElement.dataset.module") == "4"


def test_opened_in_the_solution(open_page: Open, uri: str) -> None:
    page = open_page(uri)
    page.focus("main .instant[data-module='2'] > details > summary >> nth=0")
    page.keyboard.press("Enter")
    page.locator(f".track input[max='{FOLDED + 2 * (PARTS - 3) - 1}']").wait_for(timeout=5000)
    assert title(page) == "Update 1 · 0"
    page.keyboard.press("Enter")
    page.locator(f".track input[max='{FOLDED - 1}']").wait_for(timeout=5000)


def test_all_at_once(open_page: Open, uri: str) -> None:
    page = open_page(f"{uri}#update-2/backward/7")
    page.click("[data-all=open]")
    assert count(page) == FOLDED + 12 * 2 * (PARTS - 3)
    assert title(page) == "Update 2 · error signals of 7.add"
    page.evaluate(axe())
    assert [v["id"] for v in page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]] == []
    page.click("[data-all=close]")
    assert (count(page), title(page)) == (FOLDED, "Update 2 · error signals of 7")


def test_what_is_far_below_is_laid_out_when_it_is_asked_for(open_page: Open, uri: str) -> None:
    """Until then it costs nothing; then the contents lead to its very beginning."""
    page = open_page(uri)
    seen = "document.getElementById('losses').checkVisibility({contentVisibilityAuto: true})"
    assert not page.evaluate(seen)
    for name in ("backward", "update-2", "losses", "forward"):
        page.click(f".contents a[href='#{name}']")
        page.wait_for_timeout(300)
        top = page.evaluate(f"document.getElementById('{name}').getBoundingClientRect().top")
        at_end = page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 2")
        assert abs(top) < 2 or (top > 0 and at_end), (name, top)
        assert name != "losses" or page.evaluate(seen)


def test_a_link_to_a_part_opens_its_module(open_page: Open, uri: str) -> None:
    page = open_page(f"{uri}#update-2/update/3.down")
    assert title(page) == "Update 2 · update of 3.down"
    assert count(page) == FOLDED + 2 * (PARTS - 3)


def test_without_javascript_modules_unfold_by_themselves(open_page: Open, uri: str) -> None:
    page = open_page(uri, java_script_enabled=False)
    fold = page.locator("main .instant[data-module='2'] > details >> nth=0")
    assert not fold.locator("table").first.is_visible()
    fold.locator("summary").press("Enter")
    assert fold.locator("table").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator("main .instant[data-module='5'] table >> nth=0").is_visible()


def test_small_networks_have_no_modules(open_page: Open, make: Callable[..., Any]) -> None:
    page = open_page(make().uri)
    assert not page.locator(".modules").is_visible()


def test_the_drawing_opens_with_its_module(open_page: Open, uri: str) -> None:
    """Inside an open module its own operations are drawn; a module that repeats another has that one's drawing."""
    page = open_page(f"{uri}#update-1/forward/4")
    whole = page.locator(".view svg").get_attribute("aria-label")
    assert not page.locator("[id$=tab-module]").count()
    page.click(".modules [data-module='4']")
    assert page.locator("[id$=tab-module][aria-selected=true]").inner_text() == "Inside 4"
    assert page.locator(".view svg").get_attribute("aria-label") == "The 4 operations of 4"
    refs = page.evaluate("[...document.querySelectorAll('.view .shape[data-ref]')].map(e => e.dataset.ref)")
    assert {ref.split(":")[1].split(".")[0] for ref in refs if "weight" in ref} == {"4"}
    lit = []
    for _ in range(4):
        lit.append(page.evaluate("[...document.querySelectorAll('.view .shape.is-lit')].map(e => e.dataset.ref)"))
        page.click("[data-go=next]")
    assert all(len(refs) == 1 and refs[0].startswith("value:4.") for refs in lit)
    assert len({refs[0] for refs in lit}) == 4
    assert page.locator(".view svg").get_attribute("aria-label") == whole


def test_the_whole_network_stays_when_it_is_chosen(open_page: Open, uri: str) -> None:
    page = open_page(f"{uri}#update-1/forward/4.up")
    page.click("#tab-operations")
    page.click("[data-go=next]")
    assert page.get_attribute("#tab-operations", "aria-selected") == "true"
    assert page.locator("[id$=tab-module]").count() == 1
