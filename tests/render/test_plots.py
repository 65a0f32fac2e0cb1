"""Plots: what the axes say, lines that can be told apart without colour, and the numbers behind them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from backproof.document.blocks import Document, Plot, Series
from backproof.document.drawing import Ellipse, Label, Path, Rectangle
from backproof.render import render
from backproof.render.html_plot import numbers
from backproof.render.plot import plot_drawing, ticks

X = tuple(float(i) for i in range(1, 31))


def plot(*series: Series, **more: Any) -> Plot:
    return Plot(series, "layer", "size", ("A caption.",), "It falls.", **more)


def falling(label: str, rate: float) -> Series:
    return Series(label, X, tuple(rate**i for i in X))


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.7), (0.02, 0.9), (3.0, 4.0), (1e-9, 1e-7)])
def test_a_short_logarithmic_axis_has_marks_inside(low: float, high: float) -> None:
    import math

    found = [10**mark for mark in ticks(math.log10(low), math.log10(high), log=True)]
    assert found[0] <= low * 1.0001 and found[-1] >= high * 0.9999 and len(found) >= 2
    assert found[0] >= low / 5.01 and found[-1] <= high * 5.01


def test_lines_are_named_at_their_ends_where_there_is_room() -> None:
    def labels(*series: Series) -> dict[str, Label]:
        shapes = plot_drawing(plot(*series, log_y=True)).shapes
        return {s.content: s for s in shapes if isinstance(s, Label) and isinstance(s.content, str)}

    named = labels(falling("ReLU", 0.9), falling("tanh", 0.6))
    assert named["ReLU"].y < named["tanh"].y < 292 and named["ReLU"].x > 400
    crowded = labels(*(falling(f"line {k}", 0.9) for k in range(5)))
    assert all(crowded[f"line {k}"].y > 292 for k in range(5))


def test_marks_differ_by_shape() -> None:
    shapes = plot_drawing(plot(*(falling(str(k), 0.5 + k / 10) for k in range(4)))).shapes
    kinds = {
        (type(s), s.role)
        for s in shapes
        if isinstance(s, (Ellipse, Rectangle)) or (isinstance(s, Path) and "mark" in s.role)
    }
    assert {kind for kind, _ in kinds} == {Ellipse, Rectangle, Path} and len(kinds) == 4
    corners = {len(s.points) for s in shapes if isinstance(s, Path) and "mark" in s.role}
    assert corners == {4, 5}


def test_whole_places_have_whole_marks() -> None:
    shapes = plot_drawing(plot(Series("loss", (1.0, 2.0, 3.0), (3.0, 2.0, 1.0)))).shapes
    below = [s.content.value for s in shapes if isinstance(s, Label) and hasattr(s.content, "value") and s.y > 250]
    assert below == [1.0, 2.0, 3.0]


def test_the_numbers_are_a_table_and_under_the_pointer() -> None:
    page = str(render(Document("T", (plot(falling("a", 0.5), Series("b", (1.0, 2.5), (7.0, 8.0))),)), "html"))
    said = re.findall(r'class="hit"[^>]*><title>([^<]*)</title>', page)
    assert said[0] == "layer 1\na: 0.5\nb: 7" and "layer 2.5\nb: 8" in said
    table = numbers(plot(falling("a", 0.5)))
    assert [row[1].value for row in table.rows if row[1] is not None] == list(falling("a", 0.5).y)  # type: ignore[union-attr]


def test_long_and_scattered_data() -> None:
    long = Series("l", tuple(map(float, range(5000))), tuple(map(float, range(5000))))
    assert len(numbers(plot(long)).rows) == 100 and "5000" in numbers(plot(long)).caption
    scattered = plot(Series("s", (1.0, 1.0), (2.0, 3.0), "points"))
    assert [row[0] for row in numbers(scattered).rows] == ["s", "s"]
    assert str(render(Document("T", (scattered,)), "html")).count("<circle") == 2


def test_an_area_is_filled_between_its_two_ends() -> None:
    """Once in the legend, in the colour of the line before it, without marks; both ends among the numbers."""
    whole = plot(
        falling("told", 0.5), Series("band, upper end", X, tuple(2 * 0.5**i for i in X), "area"),
        Series("band, lower end", X, (math.nan, *(0.5 * 0.5**i for i in X[1:])), "area"),
        Series("seen", X, tuple(0.6**i for i in X), "points"), log_y=True,
    )  # fmt: skip
    shapes = plot_drawing(whole).shapes
    area, sample = (s for s in shapes if isinstance(s, Path) and "area" in s.role)
    assert len(area.points) == 2 * 29 + 1 and area.role == sample.role == "area series0"  # one end is missing at 1
    assert area.points[0] == area.points[-1] and area.points[28][0] == area.points[29][0]
    assert area.points[0][1] < area.points[-2][1]  # the upper end is above the lower
    texts = [s.content for s in shapes if isinstance(s, Label) and isinstance(s.content, str)]
    assert [t for t in texts if "band" in t] == ["band"]
    assert not [s for s in shapes if "series1" in s.role or "series2" in s.role]
    assert [h[0] for h in numbers(whole).columns][2:4] == ["band, upper end", "band, lower end"]
    page = render(Document("Bands", (whole,)), "html")
    assert "role-area role-series0" in page and ".role-area.role-series0{fill:var(--series0)" in page
    assert r"\fill[bp-series0,fill opacity=0.16]" in render(Document("Bands", (whole,)), "latex")
