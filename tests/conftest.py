"""What all tests share: how hypothesis behaves, and two ways to run the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers share two cores; read when torch is imported

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("all")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line inside this process: quick, for all that is not about the process itself."""
    from backproof.cli import main

    def run(*words: object) -> Ran:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def process() -> Callable[..., Ran]:
    """Run ``python -m backproof`` as a person would; a command that computes costs the import of torch."""

    def run(*words: object, cwd: Path | None = None, timeout: float = 120, **environment: str) -> Ran:
        command = [sys.executable, "-m", "backproof", *(str(word) for word in words)]
        plain = {name: value for name, value in os.environ.items() if name != "BACKPROOF_DEBUG"}
        env = {**plain, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8", **environment}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=timeout)
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, started once: playwright allows one in a process."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()
