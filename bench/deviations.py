"""Wrong optimizers of a file: what ``bp.check_optimizer`` says about each, beside what was done to it, and how long it took.

FILE holds ``CASES``, a list of (class or its name, rule that it is held against, settings, what is wrong with it in words). The program
does not see the words: whether what it says is the same is for a reader to judge, who writes it down with ``--judged``.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from pathlib import Path
from typing import Any

from _measure import show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a Python file with CASES; without it the sets of the tests", nargs="?")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = _cases(arguments.file) if arguments.file else _own()
    rows = [_row(*case) for case in cases]
    seconds = sorted(float(r[1]) for r in rows)
    seen, named = (sum(r[2] == x or r[2] == "named" for r in rows) for x in ("seen", "named"))
    middle = seconds[len(seconds) // 2]
    rows.append(("all", f"{sum(seconds):.2f}", f"{seen} seen, {named} named of {len(cases)}",
                 f"median {middle:.2f} s, largest {seconds[-1]:.2f} s", ""))  # fmt: skip
    heads = ("optimizer", "CPU s", "what", "said", "wrong")
    show("deviations", heads, rows, [dict(zip(heads, r, strict=True)) for r in rows], arguments.json)


def _cases(path: Path) -> list[Any]:
    spec = importlib.util.spec_from_file_location("cases", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [(getattr(module, kind) if isinstance(kind, str) else kind, *rest) for kind, *rest in module.CASES]


def _own() -> list[Any]:
    from tests.studies import deviants, deviants_around

    sets = (deviants.FIRST, deviants.HELD_OUT, deviants.THIRD, deviants_around.AROUND, deviants_around.TWICE)
    return [
        (kind, rule, {**kind.settings, **settings}, " / ".join(words))
        for entries in sets
        for kind, rule, settings, words in entries
    ]


def _row(kind: Any, base: Any, settings: dict[str, Any], wrong: str) -> tuple[str, ...]:
    import backproof as bp

    start = time.process_time()
    try:
        found = bp.check_optimizer((kind, dict(settings)), base)
        what = "ok" if found.ok else "named" if found.cause else "seen"
        said = found.cause or "; ".join(f"{m.question} {m.answer}" for d in found.deviations for m in d.measured)
    except bp.InputError as error:
        what, said = "refused", str(error)
    return kind.__name__, f"{time.process_time() - start:.2f}", what, said, wrong


if __name__ == "__main__":
    main()
