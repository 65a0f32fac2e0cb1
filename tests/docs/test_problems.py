"""docs/problems.md lists what the code knows: keys, functions, analyses."""

from __future__ import annotations

import pytest

import backproof as bp
from backproof.formula.read import FUNCTIONS
from backproof.ops import OPS, Elementwise

from .generated import ANALYSES, KEYS, PROBLEMS, documented, known_keys

ONCE = "write it anew: python -m tests.docs.generated"


def test_the_generated_parts_are_up_to_date() -> None:
    text = PROBLEMS.read_text(encoding="utf-8")
    assert text == documented(text), ONCE


def test_every_key_is_described() -> None:
    known = known_keys()
    assert set(ANALYSES) == known.pop("also")
    for table, keys in known.items():
        assert set(KEYS[table]) == keys


def test_every_function_of_formulas_is_listed() -> None:
    text = PROBLEMS.read_text(encoding="utf-8")
    names = [*FUNCTIONS, *(op.name for op in OPS.values() if isinstance(op, Elementwise))]
    assert [n for n in names if f"`{n}(" not in text] == []


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if isinstance(op, Elementwise) and not op.attrs])
def test_every_listed_function_can_be_used(name: str) -> None:
    op = OPS[name]
    given = {x: 0.5 + i / 4 for i, x in enumerate(op.operands)}
    formula = f"{name}({', '.join(op.operands)}) + 0"
    if name == "acosh":
        given = {"x": 1.5}
    from backproof.problems.problem import FormulaProblem

    problem = FormulaProblem(name, given, {"result": formula})
    assert not bp.solve(problem).finding
