"""Write results.md: every table with the command that printed it; ``python bench/_results.py > bench/results.md``.

``--torchlens OTHER/bin/python`` runs trace_cost.py with a Python that has torchlens.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys

from _measure import ENVIRONMENT, ROOT, machine

COMMANDS = (
    ("startup.py", "--runs", "9"),
    ("demo.py",),
    ("random_networks.py", "--graphs", "2000", "--programs", "300"),
    ("capture.py",),
    ("trace_cost.py",),
    ("capturing.py",),
    ("check.py",),
    ("optimizers.py",),
    ("deviations.py",),
    ("propagate.py", "--seeds", "200"),
    ("certify.py", "--samples", "100000"),
    ("soundness.py",),
    ("watch.py",),
    ("derive.py", "--limit", "60"),
    ("page.py",),
    ("memory.py",),
    ("train.py", "--full"),
    ("receptive.py",),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torchlens", metavar="PYTHON", help="run trace_cost.py with this Python")
    arguments = parser.parse_args()
    today, load = datetime.date.today().isoformat(), os.getloadavg()[0]
    print(f"# Results of {today}\n\n{machine()}; load average at the start {load:.1f} (other programs were running).")
    print("What each table means: [README.md](README.md).")
    for script, *options in COMMANDS:
        python = arguments.torchlens if arguments.torchlens and script == "trace_cost.py" else sys.executable
        print(
            f"\n## `python {' '.join([f'bench/{script}', *options])}`\n\n```text\n{_table(python, script, options)}\n```"
        )


def _table(python: str, script: str, options: list[str]) -> str:
    command = [python, str(ROOT / "bench" / script), *options]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{script} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout.partition("\n")[2].rstrip()


if __name__ == "__main__":
    main()
