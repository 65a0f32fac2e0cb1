"""What docs/training.md shows runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .blocks import ROOT, blocks_of, execute

TEXT = ROOT / "docs" / "training.md"
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
"""


def test_the_program_and_the_command_run(in_tmp: Path, cli: Callable[..., Any]) -> None:
    for block in blocks_of(TEXT):
        execute(block, in_tmp, {})
    (in_tmp / "net.py").write_text(NET)
    command = next(line for line in TEXT.read_text(encoding="utf-8").splitlines() if line.startswith("    backproof"))
    ran = cli(*shlex.split(command)[1:])
    assert ran.status == 0, ran.err
    assert (in_tmp / "run.html").stat().st_size > 1000
