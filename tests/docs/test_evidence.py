"""docs/evidence.md names the ways and the tolerances that the code has."""

from __future__ import annotations

import backproof as bp
from backproof.studies import verdicts
from backproof.studies.confirming import evidence, reach

from .blocks import ROOT

TEXT = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")


def test_every_way_is_described() -> None:
    ways = {e.oracle for e in bp.solve("ctu-vir-3/sine-neuron").evidence}
    assert len(ways) >= 5
    assert [way for way in (*ways, *verdicts.ALLOWED, verdicts.ONE_BY_ONE) if f"`{way}`" not in TEXT] == []


def test_the_tolerances_are_those_of_the_code() -> None:
    assert verdicts.TOLERANCE == 1e-9
    assert "autograd" not in verdicts.ALLOWED and verdicts.EAGER not in verdicts.ALLOWED
    assert verdicts.ALLOWED[verdicts.ALONG] == 1e-5
    assert verdicts.ALLOWED[verdicts.ROUNDING] == verdicts.ALLOWED[verdicts.OWN_DTYPE] == 5e-3
    assert (evidence._DIGITS_BUDGET, evidence._DIFFERENCES_BUDGET[True]) == (1_500_000, 600_000)
    assert (reach.ULPS, 2 * reach.PAIRS, reach.BEYOND) == (16, 8, 4)
    for shown in (
        "eight times",
        "16 units",
        "four times",
        "10⁻⁹",
        "10⁻⁵",
        "5·10⁻³",
        "1.5 million",
        "600,000",
        "a fifth",
    ):
        assert shown in TEXT
