"""What a failing command says."""

import subprocess
import sys
from pathlib import Path

import pytest

from backproof.errors import CaptureError, EvidenceError, MissingRule


def test_an_error_for_the_user_is_one_paragraph(cli, stub) -> None:
    stub(
        "solve",
        MissingRule("the balls domain has no rule for 'conv'\n\n  needed by conv2d\x1b[31m in layer1\n"),
    )
    ran = cli("solve", "p")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == ("backproof: the balls domain has no rule for 'conv'\n  needed by conv2d [31m in layer1\n")


def test_an_error_without_a_message_still_says_its_name(cli, stub) -> None:
    stub("solve", CaptureError())
    assert cli("solve", "p").err == "backproof: CaptureError\n"


def test_an_endless_message_is_cut(cli, stub) -> None:
    stub("solve", CaptureError("x" * 100_000))
    assert len(cli("solve", "p").err) < 2_100


def test_evidence_that_disagrees_is_a_finding(cli, stub) -> None:
    stub("solve", EvidenceError("two ways, two numbers"))
    ran = cli("solve", "p")
    assert (ran.status, ran.err) == (1, "backproof: two ways, two numbers\n")


def test_a_bug_is_called_a_bug(cli, stub, monkeypatch) -> None:
    monkeypatch.delenv("BACKPROOF_DEBUG", raising=False)
    stub("solve", ZeroDivisionError("division by zero"))
    ran = cli("solve", "p")
    assert (ran.status, ran.out) == (2, "")
    assert "a bug in Backproof: ZeroDivisionError: division by zero (conftest.py, line" in ran.err
    assert "Traceback" not in ran.err and ran.err.count("\n") == 1


def test_debug_shows_the_traceback(cli, stub, monkeypatch) -> None:
    monkeypatch.setenv("BACKPROOF_DEBUG", "1")
    stub("solve", ZeroDivisionError("division by zero"))
    assert "Traceback" in cli("solve", "p").err


def test_an_interrupt_exits_with_130(cli, stub) -> None:
    stub("solve", KeyboardInterrupt())
    ran = cli("solve", "p")
    assert (ran.status, ran.out, ran.err) == (130, "", "backproof: interrupted\n")


PRINTS_A_LOT = """
import sys, backproof
from backproof.cli import main
class Result:
    def text(self): return "x" * 1_000_000
backproof.solve = lambda problem: Result()
sys.exit(main(["solve", "p"]))
"""


def test_a_reader_that_leaves_is_no_error() -> None:
    source = Path(__file__).resolve().parents[2] / "src"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(source)!r})\n{PRINTS_A_LOT}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        complaint = running.stderr.read()
    assert (running.returncode, complaint) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_said_once() -> None:
    source = Path(__file__).resolve().parents[2] / "src"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(source)!r})\n{PRINTS_A_LOT}"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("backproof: the output could not be written: ")
