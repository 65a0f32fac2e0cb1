"""The style sheets, the markup and the program of the page, as package data.

The program is a few files that share one scope, in this order; there is no build step.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["asset", "program"]

PROGRAM = (
    "numbers.js", "record.js", "formulas.js", "print.js", "light.js", "drawing.js", "inside.js", "tables.js", "curve.js",
    "whatif.js", "modules.js", "timeline.js", "between.js", "tools.js", "chapters.js", "start.js",
)  # fmt: skip


@cache
def asset(name: str) -> str:
    """Return the text of a file that lies beside this module."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


@cache
def program() -> str:
    """Return the page's program: its files one after the other, in a scope of their own."""
    return '(() => {\n"use strict";\n' + "\n".join(asset(name) for name in PROGRAM) + "\n})();\n"
