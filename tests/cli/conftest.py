"""A stand-in for what Backproof computes, so that the command line can be tested on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import backproof


@dataclass(frozen=True)
class FakeResult:
    """A result that shows itself as every result does."""

    data: dict[str, Any] = field(default_factory=lambda: {"steps": [{"loss": 4.0}]})
    shown: str = "δ = −8"
    finding: bool = False
    fails: str = ""

    def text(self) -> str:
        return self.shown

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        return {**self.data, "full": True} if full else self.data

    def save(self, path: Path) -> None:
        path.write_text(f"half of a {path.suffix}")
        if path.suffix == self.fails:
            raise OSError(28, "No space left on device")
        path.write_text(f"a whole {path.suffix}")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Replace a function of Backproof; the list that comes back collects its calls as (args, kwargs)."""

    def replace(name: str, result: object = None) -> list[Any]:
        calls: list[Any] = []

        def fake(*args: Any, **kwargs: Any) -> object:
            calls.append((args, kwargs))
            if isinstance(result, BaseException):
                raise result
            return result() if callable(result) else result or FakeResult()

        monkeypatch.setattr(backproof, name, fake, raising=False)
        if name == "capture":  # the command wraps the graph to show it
            monkeypatch.setattr("backproof.studies.writing.captured.Captured", lambda graph, *view: graph)
        return calls

    return replace


@pytest.fixture
def fake() -> type[FakeResult]:
    return FakeResult
