"""Every code block of the README does what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .blocks import ROOT, Block, blocks_of, commands, execute, matches

README = ROOT / "README.md"


def test_every_block_of_the_readme(in_tmp: Path) -> None:
    blocks, names = blocks_of(README), dict[str, Any]()
    assert {b.language for b in blocks} >= {"python", "console", "toml", "sh"}
    for block in blocks:
        execute(block, in_tmp, names)


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    import re

    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 230
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_a_wrong_output_is_found(in_tmp: Path) -> None:
    assert matches("a ... c\n", "a b\nc\n")
    assert not matches("a ... c\n", "a b\nd\n")
    assert commands("$ one\nx\n$ two\n") == [("one", "x\n"), ("two", "")]
    with pytest.raises(AssertionError):
        execute(Block("console", "$ backproof problems\nnothing\n", 1), in_tmp, {})
    with pytest.raises(AssertionError):
        execute(Block("python", ">>> 1 + 1\n3\n", 1), in_tmp, {})
    with pytest.raises(AssertionError):
        execute(Block("sh", "make coffee\n", 1), in_tmp, {})
