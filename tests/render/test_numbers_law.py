"""The law of the renderers: each prints every number of the document, at the precision that is shown."""

from __future__ import annotations

import html
import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.document.math import Num
from backproof.render import render
from backproof.render.html import render_fragment
from backproof.render.latex import render_latex_fragment
from backproof.render.notation import decimal

from .samples import document, numbers

_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?:·10\^−?\d+)?")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789−")


def from_text(text: str) -> str:
    return re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda run: "^" + run[0].translate(_RAISED), text)


def from_latex(text: str) -> str:
    text = re.sub(r"\\phantom\{[^{}$]*(\$[^$]*\$)?\}", "", text).replace(r"\rlap{", "").replace("${}", "")
    text = re.sub(r" ?\\cdot 10\^\{(- ?)?(\d+)\}", lambda power: f"·10^{'−' if power[1] else ''}{power[2]}", text)
    return text


_SPOKEN = re.compile(r"<span class=\"after f\d+\">|</?span[^>]*>")
_POWER = re.compile(
    r'<mo form="infix">·</mo><msup><mn>10</mn>'
    r'(?:<mrow>(<mo form="prefix">−</mo>)<mn>(\d+)</mn></mrow>|<mn>(\d+)</mn>)</msup>'
)


def from_html(text: str) -> str:
    text = _POWER.sub(lambda power: f"·10^{'−' if power[1] else ''}{power[2] or power[3]}", _SPOKEN.sub("", text))
    return from_text(html.unescape(re.sub(r"<mn>(?=\d)|</?mn[^>]*>(?=·)", "", re.sub(r"</mn>(?=·10)", "", text))))


def only_text(page: str) -> str:
    page = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.S)
    return re.sub(r"<[^>]*>", " ", from_html(page))


def from_notebook(text: str) -> str:
    return from_latex("\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]))


READERS = {
    "text": from_text,
    "latex": from_latex,
    "markdown": from_latex,
    "notebook": from_notebook,
    "html": only_text,
}


def expected(number: Num) -> str:
    digits, power = decimal(number.value)
    return f"{digits}·10^{str(power).replace('-', '−')}" if power else digits


def check(printed: str, seed: int) -> None:
    found = Counter(_NUMBER.findall(printed))
    wanted = Counter(expected(number) for number in numbers(document(seed)) if number.exact is None)
    assert not wanted - found


@pytest.mark.parametrize("format", READERS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_number_is_printed(format: str, seed: int) -> None:
    shown = render(document(seed), format)
    assert isinstance(shown, str)
    check(READERS[format](shown), seed)


@pytest.mark.parametrize("seed", range(5))
def test_fragments_print_every_number(seed: int) -> None:
    check(only_text(render_fragment(document(seed))), seed)
    check(from_latex(render_latex_fragment(document(seed))), seed)


def test_the_law_can_fail() -> None:
    shown = render(document(1), "text")
    assert isinstance(shown, str)
    wanted = next(expected(number) for number in numbers(document(1)) if number.exact is None)
    with pytest.raises(AssertionError):
        check(from_text(shown.replace(wanted.split("·")[0], "")), 1)
