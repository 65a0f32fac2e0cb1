"""What the scripts share: where the package is, a clock, a table, and the machine in one line."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

__all__ = ["ENVIRONMENT", "ROOT", "in_turn", "machine", "seconds", "show"]

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
sys.path[:0] = [str(SOURCE), str(ROOT)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


def machine() -> str:
    """What the figures depend on: cores, system, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    versions = f"Python {platform.python_version()}, torch {metadata.version('torch')}"
    return f"{cores} CPU cores, {system}, {versions}"


def seconds(command: Sequence[str], cwd: Path | None = None) -> float:
    """The wall-clock seconds of a whole process, which must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, env=ENVIRONMENT, cwd=cwd, capture_output=True)
    spent = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode()}")
    return spent


def in_turn(
    functions: Mapping[str, Callable[[], object]],
    least: float = 4.0,
    fewest: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds of each call, the functions taken in turn, for at least so long and so often; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    rounds = -1
    while rounds < fewest or sum(map(sum, times.values())) < least:
        for name, function in functions.items():
            start = clock()
            function()
            if rounds >= 0:
                times[name].append(clock() - start)
        rounds += 1
    return times


def show(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]], record: object, as_json: bool) -> None:
    """Print the table, or with ``--json`` one line of JSON."""
    if as_json:
        print(json.dumps({"bench": name, "machine": machine(), "result": record}))
        return
    print(machine())
    for row in _aligned([heads, *rows]):
        print(row)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]
