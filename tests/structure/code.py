"""The source files of Backproof and their syntax trees, for the tests of its structure."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "backproof"


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path
    name: str
    """Dotted, below the package: ``ops.elementwise``, ``capture``, ``""`` for the package itself."""
    lines: int
    tree: ast.Module

    @property
    def unit(self) -> str:
        """The part of the package that it belongs to: ``ops``, ``capture``; ``""`` for the package itself."""
        return self.name.partition(".")[0]


@cache
def modules() -> tuple[Module, ...]:
    return tuple(map(_read, sorted(PACKAGE.rglob("*.py"))))


def _read(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path, name, text.count("\n"), ast.parse(text, str(path)))


def shown(path: Path) -> str:
    return str(path.relative_to(PACKAGE))
