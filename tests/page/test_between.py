"""A long run is written out in part; the time axis reaches every update, with the numbers of the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import backproof as bp
from backproof.studies.writing import worked

from .conftest import UVA, until

Open = Callable[..., Any]
PARTS = 14
"""Instants of one update of the network."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same twelve updates, all written out and in part."""
    folder: Path = tmp_path_factory.mktemp("between")
    found: dict[str, Any] = {"record": bp.solve(UVA, steps=12).to_dict()}
    for name, room in (("whole", 10_000), ("part", 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worked, "MOST_EQUATIONS", room * 1000)
            patch.setattr(
                worked, "written_out", lambda n, _, room=room: list(range(n)) if room > 1 else [0, 1, 6, n - 1]
            )
            path = folder / f"{name}.html"
            path.write_text(bp.solve(UVA, steps=12).html(), encoding="utf-8")
            found[name] = path.as_uri()
    return found


def shown(page: Any) -> list[str]:
    return [page.locator(place).inner_text() for place in (".now-title", ".panel", ".record-tables", ".count")]


def test_the_axis_is_the_same_and_so_are_the_formulas(open_page: Open, pages: dict[str, Any]) -> None:
    whole, part = open_page(pages["whole"]), open_page(pages["part"])
    assert part.locator("main h2[id^=update-]").count() == 4
    for place in ("update-5/forward/s", "update-9/loss/L", "update-4/backward/z", "update-11/backward/W"):
        for page in (whole, part):
            page.evaluate(f"location.hash = '#{place}'")
            number = place.removeprefix("update-").partition("/")[0]
            until(page, f"document.querySelector('.now-title').textContent.startsWith('Update {number} ')")
        for ours, theirs in zip(shown(part), shown(whole), strict=True):
            assert ours.split() == theirs.split()


def test_an_update_in_between_shows_the_record(open_page: Open, pages: dict[str, Any]) -> None:
    page = open_page(f"{pages['part']}#update-5/update/W")
    step = pages["record"]["steps"][4]["parameters"]["W"]
    for kind, name in (("before", "before"), ("gradient", "gradient"), ("after", "after")):
        found = page.locator(f".panel .number[data-ref='{kind}:W:1.2:5']").get_attribute("data-full")
        assert float(found) == step[name][1][2]
    assert page.locator(".view-note").count() == 1
    page.keyboard.press("End")
    assert int(page.locator(".track input").get_attribute("max")) == 12 * PARTS + 1


def test_what_if_reaches_them(open_page: Open, pages: dict[str, Any]) -> None:
    page = open_page(f"{pages['part']}#update-5/forward/s")
    before = page.locator(".panel").inner_text()
    page.click(".whatif summary")
    field = page.get_by_label("w 1", exact=True)
    start = field.input_value()
    field.fill("0.9")
    assert page.locator(".panel").inner_text() != before
    field.fill(start)
    assert page.locator(".panel").inner_text() == before


def test_the_solution_says_what_it_left_out(open_page: Open, pages: dict[str, Any]) -> None:
    page = open_page(pages["part"], java_script_enabled=False)
    body = str(page.locator("main").text_content())
    assert "Updates 3 to 6 are computed in the same way" in body
    assert body.count("before update") == 12


def test_which_are_written_out() -> None:
    assert worked.written_out(12, 50) == list(range(12))
    for updates in (15, 50, 1000):
        found = worked.written_out(updates, 60)
        assert found[:2] == [0, 1] and found[-1] == updates - 1 and 4 <= len(found) <= 6
        assert found == sorted(set(found))
