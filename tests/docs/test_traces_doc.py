"""What docs/traces.md shows runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .blocks import ROOT, blocks_of, execute


def test_every_block_does_what_it_shows(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(in_tmp))
    names: dict[str, Any] = {}
    for block in blocks_of(ROOT / "docs" / "traces.md"):
        execute(block, in_tmp, names)
