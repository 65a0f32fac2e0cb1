"""The code blocks of a Markdown file: files to write, Python sessions to run, command lines with their output.

- ```` ```python ```` with ``>>>`` is a session, compared as doctest does; with ``# name.py`` on top it is a file.
- ```` ```toml ```` with ``# name.toml`` on top is a file.
- ```` ```console ```` holds ``$ backproof ...`` lines, each with the output that follows; ``...`` stands for anything.
- ```` ```sh ```` holds ``make`` commands, which are looked up in the Makefile, not run.
- any other ```` ```python ```` block is run.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Block", "blocks_of", "commands", "execute", "matches"]

ROOT = Path(__file__).resolve().parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block: its language, its text and the line that it begins on."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if it is one."""
        found = re.match(r"# (\w+\.(?:py|toml))\n", self.text)
        return found[1] if found else None


def blocks_of(path: Path) -> list[Block]:
    """The code blocks of a Markdown file, in order."""
    text = path.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text[: m.start()].count("\n") + 1) for m in _FENCE.finditer(text)]


def matches(wanted: str, got: str) -> bool:
    """Whether an output is the one shown; ``...`` stands for anything, and white space is not compared."""
    return doctest.OutputChecker().check_output(wanted, got, FLAGS)


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown for it."""
    found = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in found)]


def execute(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Do what a block says, in a folder; an output that is not the one shown fails."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "console":
        for command, shown in commands(block.text):
            got = _run(command, folder)
            assert matches(shown, got), f"line {block.line}: {command}\nshown:\n{shown}\ngot:\n{got}"
    elif block.language == "python" and ">>>" in block.text:
        _session(block, names)
    elif block.language == "python":
        exec(compile(block.text, f"line {block.line}", "exec"), names)
    elif block.language == "sh":
        _look_up(block)
    else:
        raise AssertionError(f"line {block.line}: a {block.language} block that no test runs")


def _run(command: str, folder: Path) -> str:
    words = shlex.split(command)
    assert words[0] == "backproof", command
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=env, capture_output=True, timeout=300)
    return done.stdout.decode() + done.stderr.decode()


def _session(block: Block, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, f"line {block.line}", None, block.line)
    found: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=found.append, clear_globs=False)
    names.update(test.globs)
    assert not found, "".join(found)


def _look_up(block: Block) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in block.text.splitlines():
        program, *words = line.partition("#")[0].split()
        assert program == "make", f"line {block.line}: {line}"
        assert set(words) <= set(targets), f"line {block.line}: no such target: {line}"
