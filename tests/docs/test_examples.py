"""The networks of docs/examples, and the blocks of the docs: each works, and all its evidence agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import backproof as bp

from .blocks import ROOT, blocks_of, execute

EXAMPLES = sorted((ROOT / "docs" / "examples").iterdir())


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.suffix in (".py", ".toml")], ids=lambda p: p.name)
def test_every_example_is_solved_and_confirmed(path: Path) -> None:
    solution = bp.solve(path)
    assert solution.evidence and [e for e in solution.evidence if e.agrees is not True] == []
    if isinstance(solution, (bp.Answered, bp.Derived)):  # a study of its own, with its own ways
        return
    ways = {e.oracle for e in solution.evidence}
    assert ways >= {"autograd", "torch.optim", "50 digits", "differences"}
    assert solution.loss_after is not None and solution.loss_after < solution.steps[0].loss


def test_the_toml_problem_of_the_docs(in_tmp: Path) -> None:
    for block in blocks_of(ROOT / "docs" / "problems.md"):
        execute(block, in_tmp, {})
    solution = bp.solve(in_tmp / "neuron.toml")
    assert not solution.finding
    assert solution.answers["dy/dw"] == [2.0, 1.0]


def test_the_blocks_of_the_page_on_derivations(in_tmp: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(ROOT / "docs" / "derivations.md"):
        execute(block, in_tmp, names)
    assert not names["derived"].finding and set(names["gradients"]) >= {"0.weight"}
    assert not bp.derive(in_tmp / "chain.toml").finding


def test_the_session_of_the_page_on_receptive_fields(in_tmp: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(ROOT / "docs" / "receptive.md"):
        execute(block, in_tmp, names)
    assert not names["found"].finding


def test_an_activation_is_one_line_and_its_witness_another() -> None:
    """The lines shown in docs/design.md give a function that can be used, differentiated and confirmed."""
    from backproof.formula import witness
    from backproof.ops import OPS
    from backproof.problems.problem import FormulaProblem

    names = dict[str, Any]()
    try:
        for block in [b for b in blocks_of(ROOT / "docs" / "design.md") if b.language == "python"]:
            exec(block.text, names)
        problem = FormulaProblem("one line", {"x": 0.5}, {"y": "gaussian(x)"}, gradients=("y/x",))
        solution = bp.solve(problem)
    finally:
        OPS.pop("gaussian", None)
        witness._SPECIAL.pop("gaussian", None)
    assert not solution.finding
    assert {e.oracle for e in solution.evidence} >= {"autograd", "50 digits", "differences"}
    assert solution.answers["dy/dx"] == pytest.approx(-0.778800783071404868, rel=1e-14)


def test_the_session_about_memory(in_tmp: Path) -> None:
    for block in blocks_of(ROOT / "docs" / "memory.md"):
        if block.language == "python":
            execute(block, in_tmp, {})


def test_the_sessions_about_capturing(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(in_tmp)
    names: dict[str, Any] = {}
    for block in blocks_of(ROOT / "docs" / "capturing.md"):
        execute(block, in_tmp, names)
    assert names["record"].finding
