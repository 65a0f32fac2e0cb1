"""The package of docs/examples/capsules, installed as any other: an operation and a reading from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.structure.code import PACKAGE

from .blocks import ROOT, blocks_of, execute

EXAMPLE = ROOT / "docs" / "examples" / "capsules"
USE = """
import torch, backproof as bp
from backproof_capsules import flops, squash

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = torch.nn.Linear(3, 4)

    def forward(self, x):
        capsules = squash(self.lift(x))
        return capsules.square().sum()

torch.manual_seed(0)
net = Net().double()
record = bp.trace(net, torch.randn(2, 3, dtype=torch.float64), optimizer="sgd", evidence="full")
assert record.graph.by_name["capsules"].op.name == "squash"
assert not record.graph.facts["opaque_nodes"]
assert record.evidence and not record.finding, [e for e in record.evidence if e.agrees is False]
assert {"autograd", "50 digits", "differences"} <= {e.oracle for e in record.evidence}
counts = flops.run(record.graph, {n: 0 for n in record.graph.nodes if n.is_leaf})
row = next(r for r in bp.ops_table().to_dict()["operations"] if r["name"] == "squash")
assert [row[k] for k in ("gradient", "numbers", "exact", "flops", "balls")] == ["own", "own", "own", "family", "none"]
print({n.name: c for n, c in counts.items() if not n.is_leaf})
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder on sys.path in which the example is installed."""
    shutil.copy(EXAMPLE / "backproof_capsules.py", tmp_path)
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(tmp_path, project["name"], project["entry-points"])
    return tmp_path


def install(site: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    info = site / f"{name.replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(PACKAGE.parent)])}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, cwd=site)


def test_an_operation_and_a_reading_from_outside(site: Path) -> None:
    (site / "use.py").write_text(USE)
    done = run(site, "use.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'lift.linear': 48, 'capsules': 8, 'square': 8, 'sum': 8}"


def test_a_broken_plug_in_is_left_out_with_one_warning(site: Path) -> None:
    install(site, "broken-one", {"backproof.ops": {"broken": "backproof_broken"}})
    install(site, "no-domain", {"backproof.domains": {"wrong": "json:dumps"}})
    (site / "backproof_broken.py").write_text(
        "from backproof.ops import Op, register\nfrom backproof.ops.shapes import same\n"
        "register(Op('half_done', 'elementwise', ('x',), same))\nimport nowhere_to_be_found\n"
    )
    assert run(site, "-m", "backproof", "--help").stderr == ""

    doctor = run(site, "-m", "backproof", "doctor", "--json")
    assert doctor.returncode == 1
    found = {p["name"]: p for p in json.loads(doctor.stdout)["plugins"]}
    assert found["capsules"]["error"] == found["flops"]["error"] == ""
    assert "nowhere_to_be_found" in found["broken"]["error"]

    table = run(site, "-m", "backproof", "ops", "--json")
    assert table.returncode == 0
    broken, none = table.stderr.splitlines()
    assert "broken-one 0.1" in broken and "left out" in broken
    assert "no-domain 0.1" in none and "is a function and no Domain" in none
    names = {r["name"] for r in json.loads(table.stdout)["operations"]}
    assert "squash" in names and "half_done" not in names


def test_the_page_on_plug_ins(tmp_path: Path) -> None:
    for block in blocks_of(ROOT / "docs" / "plugins.md"):
        execute(block, tmp_path, {})
