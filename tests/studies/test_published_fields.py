"""The published table of receptive fields (google-research/receptive_field, RECEPTIVE_FIELD_TABLE.md): its networks, rebuilt."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

import backproof as bp
from tests.zoo.published import NETWORKS, marked

TABLE = Path(__file__).parents[1] / "zoo" / "published_fields.csv"
QUICK = ("alexnet_v2", "vgg_a", "vgg_16")
TWINS = {"mobilenet_v1_075": "mobilenet_v1", "inception_v2-no-separable-conv": "inception_v2",
         **{f"resnet_v2_{depth}": f"resnet_v1_{depth}" for depth in (50, 101, 152, 200)}}  # fmt: skip


def rows(name: str, resolution: str) -> list[dict[str, str]]:
    with TABLE.open() as file:
        return [row for row in csv.DictReader(file) if row["net"] == name and row["resolution"] == resolution]


@cache
def fields(name: str, resolution: int) -> dict[str, tuple[int, int, int]]:
    """Size, stride and padding at each endpoint; both axes are alike."""
    net, endpoints = marked(name)
    found = bp.receptive_field(net, (1, 1, resolution, resolution), evidence=False)
    answer = {}
    for endpoint, path in endpoints.items():
        row = found[path]
        (size, _), (stride, _), (padding, _) = row.size, row.stride, row.padding
        assert size is not None and stride is not None and padding is not None
        answer[endpoint] = (size, int(stride), padding)
    return answer


def mismatches(name: str, resolution: str) -> list[str]:
    """The rows of one network that differ; at an unknown size padding is compared where the table has one."""
    found = fields(TWINS.get(name, name), 224 if resolution == "None" else int(resolution))
    wrong = []
    for row in rows(name, resolution):
        size, stride, padding = found[row["endpoint"].removeprefix(f"{name}/")]
        same = (size, stride) == (int(row["rf"]), int(row["eff_stride"]))
        if not same or (row["eff_padding"] != "None" and padding != int(row["eff_padding"])):
            wrong.append(f"{row} but {size}, {stride}, {padding}")
    return wrong


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.nightly) for name in NETWORKS]
)
def test_every_row_of_the_published_table(name: str) -> None:
    for resolution in ("None", "224", "321"):
        assert rows(name, resolution) and mismatches(name, resolution) == []


def test_the_table_is_whole() -> None:
    counted = [len(rows(name, resolution)) for name in NETWORKS for resolution in ("None", "224", "321")]
    assert sum(counted) == 561
