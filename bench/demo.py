"""How long ``make demo`` takes once everything is installed: the Makefile's own recipe, with this Python.

The recipe runs in a temporary folder with a stand-in for .venv/bin/backproof that notes the time of each call.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _measure import ENVIRONMENT, ROOT, show

SHIM = """#!/bin/sh
start=$(date +%s%N)
"{python}" -m backproof "$@"
status=$?
echo "$(( ($(date +%s%N) - start) / 1000000 )) $*" >> "{log}"
exit $status
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    total, calls = measured()
    rows = [(words, f"{spent:.2f} s") for words, spent in calls]
    rows.append(("make demo, all of it (target: < 90 s)", f"{total:.2f} s"))
    record = {"seconds": total, "calls": [{"words": words, "seconds": spent} for words, spent in calls]}
    show("demo", ("command", "seconds"), rows, record, arguments.json)


def measured() -> tuple[float, list[tuple[str, float]]]:
    """The seconds of the whole recipe, and of each call of backproof in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = _prepared(folder)
        start = time.perf_counter()
        done = subprocess.run(["make", "demo", *variables], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
        total = time.perf_counter() - start
        if done.returncode != 0:
            raise SystemExit(f"make demo ended with {done.returncode}:\n{done.stderr}")
        return total, [_call(line) for line in (folder / "log").read_text().splitlines()]


def _prepared(folder: Path) -> list[str]:
    """A folder of programs as .venv/bin would be, and the Makefile's variables that point there."""
    shim = folder / "backproof"
    shim.write_text(SHIM.format(python=sys.executable, log=folder / "log"))
    shim.chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    (folder / "installed").touch()  # newer than pyproject.toml: there is nothing to install
    return [f"BIN={folder}", f"RUN={folder / 'installed'}", f"DEMO={folder / 'demo'}"]


def _call(line: str) -> tuple[str, float]:
    """The seconds, and the words: of what is written, the format alone."""
    spent, *words = line.split()
    return " ".join(["backproof", *(Path(w).suffix if "/demo/" in w else w for w in words)]), int(spent) / 1000


if __name__ == "__main__":
    main()
