"""``problems``, ``ops`` and ``doctor``."""

import json
from pathlib import Path

import pytest

BUILT_IN = {
    "uva-dl-1/relu-tanh-net",
    "ctu-vir-3/sine-neuron",
    "epfl-ml-12/linear-regression",
    "epfl-ml-12/nn-package",
}


def test_problems_lists_ids_first_on_their_line(cli) -> None:
    ran = cli("problems")
    assert ran.status == 0 and ran.err == ""
    assert {line.split()[0] for line in ran.out.splitlines()} >= BUILT_IN
    listed = json.loads(cli("problems", "--json").out)["problems"]
    assert {entry["id"] for entry in listed} >= BUILT_IN
    assert all(entry["title"] for entry in listed)


def test_problems_is_quick(process) -> None:
    """Listing imports no torch: `make demo` and shell completion call it."""
    ran = process("problems", PYTHONPROFILEIMPORTTIME="1")
    assert ran.status == 0
    assert not [line for line in ran.err.splitlines() if line.split("|")[-1].strip() in ("torch", "sympy")]


def test_ops_is_a_table(cli) -> None:
    assert "relu" in cli("ops").out
    assert json.loads(cli("ops", "--json").out)


def test_doctor_names_versions_and_optional_parts(cli, in_tmp: Path) -> None:
    ran = cli("doctor", "--out", "doctor.md", "--out", "doctor.txt")
    assert ran.status == 0
    for part in ("python", "torch", "sympy", "latex", "chromium", "device"):
        assert part in ran.out
    assert (in_tmp / "doctor.md").read_text().startswith("# ")
    assert (in_tmp / "doctor.txt").read_text() == ran.out
    data = json.loads(cli("doctor", "--json").out)
    assert data["packages"]["torch"].startswith("2.")


def test_doctor_finds_what_is_missing(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import backproof.cli.doctor as doctor

    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "no-such-package"))
    monkeypatch.setattr(doctor, "LATEX", ())
    ran = cli("doctor")
    assert ran.status == 1
    assert "no-such-package  missing" in ran.out and "no .pdf" in ran.out
