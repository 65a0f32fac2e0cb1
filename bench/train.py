"""What the sheet's training exercises cost: wall time and processor time of whole processes.

``--full`` runs epfl-ml-9/cnn-shift and epfl-ml-9/resnet as they stand (minutes); otherwise with one epoch of 256
pictures, beside the time that only the import and the first capture take.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

from _measure import ENVIRONMENT, ROOT, show

SOLVE = [sys.executable, "-m", "backproof", "solve"]
SHORT = ["--set", "epochs=1", "--set", "limit=256"]
EXERCISES = {"epfl-ml-9/cnn-shift": [], "epfl-ml-9/resnet": ["--set", "depths=[8, 20]"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--full", action="store_true", help="as the exercises stand")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (2)")
    arguments = parser.parse_args()
    record = [_measured(name, arguments.full, arguments.threads) for name in EXERCISES]
    rows = [(r["exercise"], f"{r['wall']:.1f} s", f"{r['processor']:.1f} s", r["answers"]) for r in record]
    heads = ("exercise", "wall time", "processor time", "answers")
    show("train", heads, rows, record, arguments.json)


def _measured(name: str, full: bool, threads: int) -> dict[str, Any]:
    """Solve one exercise in a process of its own."""
    words = [*SOLVE, name, "--json", *([] if full else [*EXERCISES[name], *SHORT])]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    before, start = _processor(), time.perf_counter()
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    wall, processor = time.perf_counter() - start, _processor() - before
    return {
        "exercise": name,
        "wall": wall,
        "processor": processor,
        "answers": _short(json.loads(done.stdout)["answers"]),
    }


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _short(answers: dict[str, Any]) -> str:
    if "depths" in answers:
        kinds = ("residual", "plain")
        rows = ["/".join(f"{d[k]['accuracy']:.1f}" for k in kinds) for d in answers["depths"]]
        return "accuracy residual/plain " + ", ".join(rows)
    nets = [k for k, v in answers.items() if isinstance(v, dict) and "centred" in v]
    return ", ".join(f"{n} {'/'.join(f'{v:.1f}' for v in answers[n].values())}" for n in nets)


if __name__ == "__main__":
    main()
