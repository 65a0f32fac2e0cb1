"""``backproof --help`` and ``import backproof`` are instant."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.structure.code import PACKAGE

HEAVY = {"torch", "sympy", "numpy", "rich", "mpmath", "networkx"}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
BOUND = 1.0
"""Seconds; alone on a machine it is 0.05, but the tests share theirs."""


def imported_by(*words: str) -> set[str]:
    """The top-level packages that ``python *words`` imports."""
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    names = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "backproof", "--help"),
        ("-m", "backproof", "solve", "--help"),
        ("-m", "backproof", "trace", "--help"),
        ("-c", "import backproof"),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(words: tuple[str, ...]) -> None:
    seen = imported_by(*words)
    assert "backproof" in seen
    assert seen & HEAVY == set()


def test_help_is_instant() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "backproof", "--help"],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < BOUND
