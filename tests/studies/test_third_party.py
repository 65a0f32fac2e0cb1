"""An activation that torch has not: one registration, and every reading follows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import backproof as bp
from backproof.ops import OPS
from backproof.ops.elementwise import unary


@pytest.fixture
def bent() -> Iterator[str]:
    """The bent identity, (sqrt(x^2 + 1) - 1)/2 + x."""
    import sympy

    unary("bent_identity", lambda x: (sympy.sqrt(x**2 + 1) - 1) / 2 + x, text="bent")
    yield "bent_identity"
    del OPS["bent_identity"]


def test_one_line_is_enough(bent: str, tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "bent.toml"
    path.write_text(
        f'[given]\nx = [0.5, -1.5]\nw = [0.3, 0.7]\n[model]\ns = "w @ x"\ny = "{bent}(s)"\nL = "(y - 1)**2"\n'
        '[step]\nparameters = ["w"]\nlr = 0.1\nsteps = 2\n'
    )
    solution = bp.solve(path)
    assert not solution.finding
    s = 0.3 * 0.5 - 0.7 * 1.5
    assert solution.steps[0].values["y"].item() == pytest.approx(((s * s + 1) ** 0.5 - 1) / 2 + s)
    assert {e.oracle for e in solution.evidence} >= {"autograd", "50 digits", "differences"}
    assert "bent" in solution.text()
