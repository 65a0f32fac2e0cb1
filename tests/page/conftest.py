"""Pages of the built-in problems, written once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import backproof as bp

UVA = "uva-dl-1/relu-tanh-net"


@dataclass(frozen=True)
class Made:
    """A page on disk with the record that it was made from."""

    path: Path
    record: dict[str, Any]
    html: str

    @property
    def uri(self) -> str:
        return self.path.as_uri()


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Solve a problem and write its page; the same request is answered once."""
    folder, kept = tmp_path_factory.mktemp("pages"), dict[str, Made]()

    def made(problem: str = UVA, **settings: Any) -> Made:
        key = json.dumps([problem, settings], sort_keys=True)
        if key not in kept:
            solution = bp.solve(problem, **settings)
            path = folder / f"{len(kept)}.html"
            path.write_text(solution.html(), encoding="utf-8")
            kept[key] = Made(path, solution.to_dict(), path.read_text(encoding="utf-8"))
        return kept[key]

    return made


def until(page: Any, expression: str) -> None:
    """Wait until something holds in the page; asked from outside, since the page's policy lets nothing evaluate inside."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"still not so: {expression}")


@pytest.fixture
def open_page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Open a page; whatever it says on the console, or throws, fails the test at its end."""
    said: list[str] = []
    contexts: list[Any] = []

    def opened(uri: str, width: int = 1280, height: int = 860, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(uri)
        return page

    yield opened
    for context in contexts:
        context.close()
    if "console_speaks" not in request.keywords:
        assert said == []
