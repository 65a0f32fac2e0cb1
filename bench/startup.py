"""How long whole processes take: --help, a bare ``import torch``, a solved TOML problem, a solved small module.

The runs are interleaved, so that a busy moment of the machine falls on all of them; medians are shown.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from _measure import ROOT, seconds, show

PROBLEMS = ROOT / "bench" / "problems"
SOLVE = [sys.executable, "-m", "backproof", "solve"]
BASELINE = "import torch"
COMMANDS = {
    "backproof --help": [sys.executable, "-m", "backproof", "--help"],
    BASELINE: [sys.executable, "-c", "import torch"],
    "solve ctu-vir-3/sine-neuron": [*SOLVE, "ctu-vir-3/sine-neuron"],
    "solve small_net.toml": [*SOLVE, str(PROBLEMS / "small_net.toml")],
    "solve small_net.py": [*SOLVE, str(PROBLEMS / "small_net.py")],
}
TARGETS = {
    "backproof --help": "< 0.3 s",
    "solve ctu-vir-3/sine-neuron": "<= 2x",
    "solve small_net.toml": "<= 2x",
    "solve small_net.py": "<= 4x",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "--runs", type=int, default=7, help="rounds of all commands (7); one more comes first, uncounted"
    )
    arguments = parser.parse_args()
    times = measured(max(arguments.runs, 5))
    base = statistics.median(times[BASELINE])
    record = {name: {"seconds": found, "median": statistics.median(found)} for name, found in times.items()}
    rows = [_row(name, found, base) for name, found in times.items()]
    show(
        "startup", ("command", "median", "fastest", "slowest", "x import torch", "target"), rows, record, arguments.json
    )


def measured(runs: int) -> dict[str, list[float]]:
    """The seconds of each command in each round."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round in range(runs + 1):
        for name, command in COMMANDS.items():
            spent = seconds(command)
            if round:
                times[name].append(spent)
    return times


def _row(name: str, found: list[float], base: float) -> tuple[str, ...]:
    middle = statistics.median(found)
    numbers = (f"{middle:.3f} s", f"{min(found):.3f} s", f"{max(found):.3f} s", f"{middle / base:.2f}")
    return (name, *numbers, TARGETS.get(name, ""))


if __name__ == "__main__":
    main()
